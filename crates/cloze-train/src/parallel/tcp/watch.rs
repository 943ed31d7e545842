//! Who is still there: a connection of each rank to rank 0, over which signs of life and bad news go.
//!
//! A thread a connection listens, one thread sends signs of life. Rank 0 passes bad news on to everybody. Whoever hears of it shuts the links
//! down over which values go, so that a call that waits there returns at once.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::super::Health;
use super::wire::Control;
use crate::{Error, Result};

/// How long a broken link waits to be told why.
const GRACE: Duration = Duration::from_secs(2);

/// Watches over the other ranks.
pub(super) struct Watch {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    rank: usize,
    silence: Duration,
    /// Held from before a failure is known here until the others have been told: nobody takes leave in between.
    telling: Mutex<()>,
    news: Mutex<News>,
    changed: Condvar,
    /// Those at the other end, and where to write to them.
    peers: Vec<(usize, Mutex<TcpStream>)>,
    leaving: AtomicBool,
}

#[derive(Default)]
struct News {
    /// The first rank that is gone or has failed, and how.
    failure: Option<(usize, String)>,
    /// A rank that has left in peace; if a link breaks after that, it left too early.
    left: Option<usize>,
    /// Shut down when that is known.
    links: Vec<TcpStream>,
}

impl Watch {
    /// Begins to watch over `peers`: rank 0 for all others, all others for rank 0.
    pub fn start(
        rank: usize,
        peers: Vec<(usize, TcpStream)>,
        silence: Duration,
    ) -> io::Result<Self> {
        let mut readers = Vec::with_capacity(peers.len());
        for (peer, stream) in &peers {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(silence))?;
            stream.set_write_timeout(Some(silence))?;
            readers.push((*peer, stream.try_clone()?));
        }
        let shared = Arc::new(Shared {
            rank,
            silence,
            telling: Mutex::default(),
            news: Mutex::default(),
            changed: Condvar::new(),
            peers: peers
                .into_iter()
                .map(|(peer, stream)| (peer, Mutex::new(stream)))
                .collect(),
            leaving: AtomicBool::new(false),
        });
        let mut threads = Vec::with_capacity(readers.len() + 1);
        let spawn = |work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name("cloze-watch".into())
                .stack_size(256 << 10)
                .spawn(work)
        };
        for (peer, stream) in readers {
            let shared = shared.clone();
            threads.push(spawn(Box::new(move || shared.listen(peer, stream)))?);
        }
        let sender = shared.clone();
        threads.push(spawn(Box::new(move || sender.send_signs_of_life()))?);
        Ok(Self { shared, threads })
    }

    /// Shuts `stream` down when a rank has failed.
    pub fn guard(&self, stream: &TcpStream) -> io::Result<()> {
        let mut news = self.shared.news();
        let stream = stream.try_clone()?;
        if news.failure.is_some() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        news.links.push(stream);
        Ok(())
    }

    /// Whether all are well, as far as is known.
    pub fn check(&self) -> Result<()> {
        self.shared.check()
    }

    /// What says so on any thread.
    pub fn health(&self) -> Health {
        let shared = self.shared.clone();
        Box::new(move || shared.check())
    }

    /// Tells everybody that `rank` has failed.
    pub fn fail(&self, rank: usize, why: &str) {
        self.shared.fail(rank, why);
    }

    /// The link to `peer` broke. Whoever knows why, and of whom, is given time to say so.
    pub fn broken(&self, peer: usize, error: &io::Error) {
        use io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof, WouldBlock,
        };
        let kind = error.kind();
        let closed = matches!(
            kind,
            UnexpectedEof | BrokenPipe | ConnectionAborted | ConnectionReset
        );
        let why = match kind {
            TimedOut | WouldBlock => {
                "lives, but did not take part in time: it waits for something else".to_owned()
            }
            // It is not dead, or that would be known.
            _ if closed => "left while others went on".to_owned(),
            _ => format!("was lost: {error}"),
        };
        let wait = if closed { GRACE } else { Duration::ZERO };
        let until = Instant::now() + wait;
        let mut news = self.shared.news();
        while news.failure.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let early = news.left.filter(|_| closed);
                drop(news);
                self.shared.fail(early.unwrap_or(peer), &why);
                return;
            }
            news = match self.shared.changed.wait_timeout(news, left) {
                Ok((news, _)) => news,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let shared = &self.shared;
        if std::thread::panicking() {
            shared.fail(shared.rank, "panicked");
        }
        let telling = lock(&shared.telling);
        {
            let _news = shared.news();
            shared.leaving.store(true, Ordering::SeqCst);
        }
        shared.changed.notify_all();
        for (_, stream) in &shared.peers {
            let mut stream = lock(stream);
            // A peer that is gone need not be told.
            let _ = Control::Bye.write(&mut *stream);
            let _ = stream.shutdown(Shutdown::Write);
        }
        drop(telling);
        // Each ends when the peer has heard it: a connection that is closed on unread data would lose what was said.
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn check(&self) -> Result<()> {
        match &self.news().failure {
            Some((rank, why)) => Err(Error::Rank {
                rank: *rank,
                why: why.clone(),
            }),
            None => Ok(()),
        }
    }

    fn news(&self) -> MutexGuard<'_, News> {
        lock(&self.news)
    }

    fn leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }

    fn fail(&self, rank: usize, why: &str) {
        let _telling = lock(&self.telling);
        {
            let mut news = self.news();
            if news.failure.is_some() {
                return;
            }
            news.failure = Some((rank, why.to_owned()));
            for link in &news.links {
                let _ = link.shutdown(Shutdown::Both);
            }
        }
        self.changed.notify_all();
        for (_, stream) in &self.peers {
            let why = why.to_owned();
            // A peer that is gone need not be told.
            let _ = Control::Failed { rank, why }.write(&mut *lock(stream));
        }
    }

    fn listen(&self, peer: usize, mut stream: TcpStream) {
        use io::ErrorKind::{TimedOut, WouldBlock};
        loop {
            match Control::read(&mut stream) {
                Ok(Control::Alive) => {}
                Ok(Control::Bye) => {
                    self.news().left.get_or_insert(peer);
                    // Nothing unread is left here; the peer waits for this.
                    let _ = stream.shutdown(Shutdown::Write);
                    return;
                }
                Ok(Control::Failed { rank, why }) => self.fail(rank, &why),
                Err(_) if self.leaving() => return,
                Err(e) if matches!(e.kind(), TimedOut | WouldBlock) => {
                    let silence = self.silence;
                    self.fail(peer, &format!("was lost: no sign of life for {silence:?}"));
                    return;
                }
                Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                    self.fail(peer, &format!("was lost: {e}"));
                    return;
                }
                Err(_) => {
                    self.fail(peer, "was lost: it was killed, or its host went away");
                    return;
                }
            }
        }
    }

    fn send_signs_of_life(&self) {
        let mut news = self.news();
        while !self.leaving() {
            news = match self.changed.wait_timeout(news, self.silence / 4) {
                Ok((news, _)) => news,
                Err(poisoned) => poisoned.into_inner().0,
            };
            if self.leaving() {
                return;
            }
            drop(news);
            for (_, stream) in &self.peers {
                // Who listens to the peer will notice that it is gone.
                let _ = Control::Alive.write(&mut *lock(stream));
            }
            news = self.news();
        }
    }
}

/// A thread that panicked has left nothing half done here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
