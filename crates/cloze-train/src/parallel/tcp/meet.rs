//! How the processes of a run find each other: everybody calls rank 0, which checks that they belong together and tells where each one listens.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::Timeouts;
use super::wire::{
    Hello, Link, Reply, VERSION, read_message, read_preamble, write_message, write_preamble,
};
use crate::parallel::Terms;
use crate::parallel::launch::{Address, World};
use crate::{Error, Result};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);
/// In which a process that called has to say who it is.
const HELLO: Duration = Duration::from_secs(5);
/// In which one who is turned away has to take note.
const REFUSAL: Duration = Duration::from_secs(1);
/// In which others hear why a run cannot be, where they come too late.
const LATE: Duration = Duration::from_secs(2);
/// For a port that the process before has just given up.
const PORT: Duration = Duration::from_secs(2);

/// A process that wants to meet the others.
pub(super) struct Meeting<'a> {
    pub world: &'a World,
    pub address: &'a Address,
    pub terms: &'a Terms,
    pub timeouts: &'a Timeouts,
    pub until: Instant,
}

/// Connections to rank 0, or from everybody to it, and what is needed to link up with the neighbours.
pub(super) struct Met {
    pub controls: Vec<(usize, TcpStream)>,
    /// Where this rank listens for the one before it.
    listener: Option<TcpListener>,
    nonce: u64,
    /// Where the next rank listens.
    next: Option<(String, u16)>,
}

/// The two neighbours on the line of ranks.
pub(super) struct Links {
    pub left: Option<TcpStream>,
    pub right: Option<TcpStream>,
}

impl Meeting<'_> {
    pub fn error(&self, why: impl Into<String>) -> Error {
        Error::Rendezvous {
            rank: self.world.rank,
            world_size: self.world.world_size,
            address: self.address.to_string(),
            why: why.into(),
        }
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Meets the others.
    pub fn meet(&self) -> Result<Met> {
        if self.world.rank == 0 {
            self.host()
        } else {
            self.call()
        }
    }

    /// Rank 0: waits for everybody.
    fn host(&self) -> Result<Met> {
        let listener = self.listen()?;
        let size = self.world.world_size;
        let mut callers: Vec<Option<(Hello, TcpStream)>> = (1..size).map(|_| None).collect();
        let mut strangers = 0;
        while callers.iter().any(Option::is_none) {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(_) if self.left().is_zero() => {
                    let missing: Vec<usize> =
                        (1..size).filter(|r| callers[r - 1].is_none()).collect();
                    let mut why = format!(
                        "{} of {size} did not come within {:?}",
                        ranks(&missing),
                        self.timeouts.meet
                    );
                    if strangers > 0 {
                        why +=
                            &format!("; {strangers} calls came from other jobs or other programs");
                    }
                    return Err(self.refuse_all(&listener, callers, why));
                }
                // Nobody yet, or one who gave up: either way, the next.
                Err(_) => {
                    std::thread::sleep(PAUSE);
                    continue;
                }
            };
            match self.admit(&mut stream, &callers) {
                Ok(hello) => {
                    let place = hello.rank - 1;
                    callers[place] = Some((hello, stream));
                }
                Err(Turned::Stranger(why)) => {
                    let _ = refuse(&mut stream, &why);
                    strangers += 1;
                }
                Err(Turned::Wrong(why)) => {
                    callers.push(Some((Hello::default(), stream)));
                    return Err(self.refuse_all(&listener, callers, why));
                }
            }
        }
        self.welcome(callers)
    }

    /// Tells those that are there why it cannot be, and those that come a little later.
    fn refuse_all(
        &self,
        listener: &TcpListener,
        callers: Vec<Option<(Hello, TcpStream)>>,
        why: String,
    ) -> Error {
        let mut told = 0;
        // One that is gone need not be told.
        for (_, mut stream) in callers.into_iter().flatten() {
            let _ = refuse(&mut stream, &why);
            told += 1;
        }
        let until = Instant::now() + LATE;
        while told + 1 < self.world.world_size && Instant::now() < until {
            match listener.accept() {
                Ok((mut stream, _)) => {
                    let _ = stream.set_nonblocking(false);
                    let _ = refuse(&mut stream, &why);
                    told += 1;
                }
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
        self.error(why)
    }

    fn welcome(&self, callers: Vec<Option<(Hello, TcpStream)>>) -> Result<Met> {
        let nonce = nonce();
        let mut listeners = vec![(None, 0)];
        let mut controls = Vec::new();
        for (hello, stream) in callers.into_iter().flatten() {
            let peer = stream.peer_addr().map_err(|e| self.error(e.to_string()))?;
            // From another host, it is where rank 0 is.
            let host = Some(peer.ip().to_canonical()).filter(|ip| !ip.is_loopback());
            listeners.push((host.map(|ip| ip.to_string()), hello.port));
            controls.push((hello.rank, stream));
        }
        let next = listeners.get(1).map(|(host, port)| {
            let here = || self.address.host.clone();
            (host.clone().unwrap_or_else(here), *port)
        });
        for (_, stream) in &mut controls {
            let listeners = listeners.clone();
            // That one is lost is found out, and told to the others, by who watches from now on.
            let _ = write_message(stream, &Reply::Welcome { nonce, listeners });
        }
        Ok(Met {
            controls,
            listener: None,
            nonce,
            next,
        })
    }

    /// Opens the port at which the run meets.
    fn listen(&self) -> Result<TcpListener> {
        let Address { host, port } = self.address;
        let literal: Option<IpAddr> = match host.as_str() {
            "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
            host => host.parse().ok(),
        };
        let until = Instant::now() + PORT;
        loop {
            let opened = match literal {
                Some(ip) => TcpListener::bind((ip, *port)),
                // A name may stand for another address on this host than on the others.
                None => everywhere(*port),
            };
            let error = match opened {
                Ok(listener) => {
                    nonblocking(&listener).map_err(|e| self.error(e.to_string()))?;
                    return Ok(listener);
                }
                Err(error) => error,
            };
            let taken = error.kind() == io::ErrorKind::AddrInUse;
            if !taken || Instant::now() > until {
                return Err(self.error(if taken {
                    "another process listens at this port: another job, or another rank 0".into()
                } else {
                    format!("cannot listen there: {error}")
                }));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Reads who calls, and whether it belongs here.
    fn admit(
        &self,
        stream: &mut TcpStream,
        callers: &[Option<(Hello, TcpStream)>],
    ) -> Result<Hello, Turned> {
        let from = stream
            .peer_addr()
            .map_or_else(|e| e.to_string(), |a| a.to_string());
        let unknown = |e: io::Error| Turned::Stranger(format!("the process at {from}: {e}"));
        stream.set_nonblocking(false).map_err(unknown)?;
        stream.set_read_timeout(Some(HELLO)).map_err(unknown)?;
        let version = read_preamble(stream).map_err(unknown)?;
        if version != VERSION {
            return Err(Turned::Wrong(format!(
                "the process at {from} speaks version {version} of the protocol, rank 0 version {VERSION}: the executables differ"
            )));
        }
        let hello: Hello = read_message(stream).map_err(unknown)?;
        let (rank, size) = (hello.rank, self.world.world_size);
        if hello.job != self.world.job {
            return Err(Turned::Stranger(format!(
                "rank {rank} at {from} belongs to the job {:?}, rank 0 to {:?}: two jobs at one port",
                hello.job, self.world.job
            )));
        }
        let wrong = |why: String| Err(Turned::Wrong(why));
        if hello.world_size != size {
            return wrong(format!(
                "rank {rank} at {from} is one of {} processes, rank 0 one of {size}",
                hello.world_size
            ));
        }
        if rank == 0 || rank >= size {
            return wrong(format!(
                "the process at {from} says it is rank {rank} of {size}: another one is"
            ));
        }
        if let Some((_, there)) = &callers[rank - 1] {
            let there = there.peer_addr();
            let there = there.map_or_else(|e| e.to_string(), |a| a.to_string());
            return wrong(format!(
                "two processes say that they are rank {rank}: at {there} and at {from}"
            ));
        }
        if let Some(difference) = self.terms.difference(rank, &hello.terms) {
            return wrong(difference);
        }
        Ok(hello)
    }

    /// Any other rank: calls rank 0 and waits for its answer.
    fn call(&self) -> Result<Met> {
        let lost = |e: io::Error| self.error(format!("rank 0 did not answer: {e}"));
        let mut stream =
            self.connect(&self.address.host, self.address.port, "rank 0", &|| Ok(()))?;
        let own = stream.local_addr().map_err(lost)?.ip();
        let literal =
            self.address.host == "localhost" || self.address.host.parse::<IpAddr>().is_ok();
        let listener = if own.to_canonical().is_loopback() && !literal {
            everywhere(0)
        } else {
            TcpListener::bind((own, 0))
        }
        .map_err(|e| self.error(format!("cannot listen at {own}: {e}")))?;
        nonblocking(&listener).map_err(|e| self.error(e.to_string()))?;
        let port = listener.local_addr().map_err(lost)?.port();
        let hello = Hello {
            rank: self.world.rank,
            world_size: self.world.world_size,
            job: self.world.job.clone(),
            terms: self.terms.clone(),
            port,
        };
        // Rank 0 may have begun to wait later, and knows better who is missing.
        stream
            .set_read_timeout(Some(self.timeouts.meet + HELLO))
            .map_err(lost)?;
        write_preamble(&mut stream).map_err(lost)?;
        write_message(&mut stream, &hello).map_err(lost)?;
        match read_message(&mut stream).map_err(lost)? {
            Reply::Refused { why } => Err(self.error(why)),
            Reply::Welcome { nonce, listeners } => {
                let next = listeners.into_iter().nth(self.world.rank + 1);
                let next = next
                    .map(|(host, port)| (host.unwrap_or_else(|| self.address.host.clone()), port));
                Ok(Met {
                    controls: vec![(0, stream)],
                    listener: Some(listener),
                    nonce,
                    next,
                })
            }
        }
    }

    /// Connects to the neighbours; `check` says whether somebody is lost meanwhile.
    pub fn link(&self, met: &Met, check: &dyn Fn() -> Result<()>) -> Result<Links> {
        let lost = |e: io::Error| self.error(format!("a neighbour was lost: {e}"));
        let mut links = Links {
            left: None,
            right: None,
        };
        if let Some((host, port)) = &met.next {
            let who = format!("rank {}", self.world.rank + 1);
            let mut stream = self.connect(host, *port, &who, check)?;
            write_preamble(&mut stream).map_err(lost)?;
            let (nonce, rank) = (met.nonce, self.world.rank);
            write_message(&mut stream, &Link { nonce, rank }).map_err(lost)?;
            links.right = Some(stream);
        }
        let Some(listener) = &met.listener else {
            return Ok(links);
        };
        loop {
            check()?;
            match listener.accept() {
                Ok((mut stream, _)) => {
                    let link = stream
                        .set_nonblocking(false)
                        .and_then(|()| stream.set_read_timeout(Some(HELLO)))
                        .and_then(|()| read_preamble(&mut stream))
                        .and_then(|_| read_message::<Link>(&mut stream));
                    // Anybody else called a wrong number.
                    if link.is_ok_and(|l| l.nonce == met.nonce && l.rank + 1 == self.world.rank) {
                        links.left = Some(stream);
                        return Ok(links);
                    }
                }
                Err(_) if self.left().is_zero() => {
                    let before = self.world.rank - 1;
                    return Err(self.error(format!("rank {before} did not link up in time")));
                }
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Connects to a process that may not be there yet.
    fn connect(
        &self,
        host: &str,
        port: u16,
        who: &str,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<TcpStream> {
        let mut pause = PAUSE;
        loop {
            check()?;
            let attempt = (host, port).to_socket_addrs().and_then(|addresses| {
                let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                for address in addresses {
                    // An address that does not answer must not take the time of the next attempt.
                    let most = self.left().clamp(PAUSE, HELLO);
                    match TcpStream::connect_timeout(&address, most) {
                        Ok(stream) => return Ok(stream),
                        Err(e) => last = e,
                    }
                }
                Err(last)
            });
            match attempt {
                Ok(stream) => return Ok(stream),
                Err(e) if self.left().is_zero() => {
                    return Err(self.error(format!(
                        "{who} cannot be reached at {host}:{port} within {:?}: {e}",
                        self.timeouts.meet
                    )));
                }
                Err(_) => {
                    std::thread::sleep(pause.min(self.left()));
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
            }
        }
    }
}

/// Why a caller was turned away.
enum Turned {
    /// It has nothing to do with this run, which goes on without it.
    Stranger(String),
    /// It belongs to the run, which cannot be.
    Wrong(String),
}

fn refuse(stream: &mut TcpStream, why: &str) -> io::Result<()> {
    stream.set_write_timeout(Some(REFUSAL))?;
    write_message(stream, &Reply::Refused { why: why.into() })?;
    stream.shutdown(std::net::Shutdown::Write)?;
    // A connection that is closed on unread data loses what was said.
    stream.set_read_timeout(Some(REFUSAL))?;
    let mut rest = io::Read::take(stream, 1 << 16);
    io::copy(&mut rest, &mut io::sink()).map(|_| ())
}

fn ranks(numbers: &[usize]) -> String {
    let few: Vec<String> = numbers.iter().take(8).map(ToString::to_string).collect();
    let more = if numbers.len() > 8 { ", …" } else { "" };
    let word = if numbers.len() == 1 { "rank" } else { "ranks" };
    format!("{word} {}{more}", few.join(", "))
}

/// Listens at all addresses of this host.
fn everywhere(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)) {
        Err(e) if e.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
        }
        other => other,
    }
}

fn nonblocking(listener: &TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)
}

/// A number that another run does not have.
fn nonce() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}
