//! Several processes over TCP.
//!
//! Ranks stand in a line, each linked to its two neighbours. A sum goes up the line, each rank adding its values to what comes from the left, and the
//! result comes back down; both at once, piece by piece. So a link carries the values once in each direction, however many ranks there are. A ring
//! that scatters and gathers sends `2 (n - 1) / n` of them per rank where this sends at most 2, but its order of additions would depend on where in
//! the values an element lies: see [`Collective`] for the order that this has.
//!
//! Nothing is encrypted and nobody proves who they are: this is for the network within a cluster.

mod meet;
mod watch;
mod wire;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use self::meet::{Links, Meeting};
use self::watch::Watch;
use self::wire::{Call, Element, Kind};
use super::collective::{Collective, Health};
use super::launch::{Address, World};
use super::terms::Terms;
use crate::{Error, Result};

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For all processes to come.
    pub meet: Duration,
    /// Without a sign of life before a process is lost. The sign does not come from the thread that computes.
    pub silence: Duration,
    /// In a call for others that live: they may be evaluating, or writing a checkpoint.
    pub call: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            meet: Duration::from_secs(300),
            silence: Duration::from_secs(30),
            call: Duration::from_secs(1_800),
        }
    }
}

/// Bytes that go up or down the line at once.
const PIECE: usize = 256 << 10;

/// A process of several.
pub struct Tcp {
    rank: usize,
    world_size: usize,
    links: Links,
    calls: u64,
    watch: Watch,
    address: Address,
}

impl Tcp {
    /// Meets the other processes of `world` at `address`; `terms` is what all must have alike.
    pub fn join(
        world: &World,
        address: &Address,
        terms: &Terms,
        timeouts: &Timeouts,
    ) -> Result<Self> {
        let meeting = Meeting {
            world,
            address,
            terms,
            timeouts,
            until: Instant::now() + timeouts.meet,
        };
        let io = |e: io::Error| meeting.error(e.to_string());
        let mut met = meeting.meet()?;
        let controls = std::mem::take(&mut met.controls);
        let watch = Watch::start(world.rank, controls, timeouts.silence).map_err(io)?;
        let links = match meeting.link(&met, &|| watch.check()) {
            Ok(links) => links,
            Err(e) => {
                watch.fail(world.rank, &format!("failed: {e}"));
                return Err(e);
            }
        };
        for stream in [&links.left, &links.right].into_iter().flatten() {
            stream.set_nodelay(true).map_err(io)?;
            stream.set_read_timeout(Some(timeouts.call)).map_err(io)?;
            stream.set_write_timeout(Some(timeouts.call)).map_err(io)?;
            watch.guard(stream).map_err(io)?;
        }
        let mut tcp = Self {
            rank: world.rank,
            world_size: world.world_size,
            links,
            calls: 0,
            watch,
            address: address.clone(),
        };
        tcp.barrier()?;
        Ok(tcp)
    }

    fn call(&mut self, kind: Kind, len: usize) -> Result<Call> {
        self.watch.check()?;
        self.calls += 1;
        Ok(Call {
            kind,
            number: self.calls,
            len: len as u64,
        })
    }

    fn left(&self) -> Option<Link<'_>> {
        let stream = self.links.left.as_ref()?;
        Some(self.link(self.rank - 1, stream))
    }

    fn right(&self) -> Option<Link<'_>> {
        let stream = self.links.right.as_ref()?;
        Some(self.link(self.rank + 1, stream))
    }

    fn link<'a>(&'a self, peer: usize, stream: &'a TcpStream) -> Link<'a> {
        Link {
            rank: self.rank,
            peer,
            stream,
            watch: &self.watch,
        }
    }

    fn sum<T: Element>(&mut self, kind: Kind, values: &mut [T]) -> Result<()> {
        let call = self.call(kind, values.len())?;
        let pieces = values.chunks_mut(PIECE / T::BYTES);
        if pieces.len() <= 1 {
            let mut pieces: Vec<&mut [T]> = pieces.collect();
            let done = self.up(call, pieces.iter_mut().map(|p| &mut **p), |_| ());
            if done.is_ok() {
                // What is wrong is known to the watch.
                let _ = self.down(call, pieces.into_iter());
            }
        } else {
            std::thread::scope(|scope| {
                let (send, receive) = mpsc::channel();
                let this = &*self;
                scope.spawn(move || this.down(call, receive.into_iter()));
                let _ = this.up(call, pieces, |piece| {
                    // One who does not listen has failed, which the watch knows.
                    let _ = send.send(piece);
                });
            });
        }
        self.watch.check()
    }

    /// Adds this rank's pieces to what comes from the left, and sends that to the right.
    fn up<'v, T: Element + 'v>(
        &self,
        call: Call,
        pieces: impl Iterator<Item = &'v mut [T]>,
        mut then: impl FnMut(&'v mut [T]),
    ) -> Result<(), Known> {
        let (left, right) = (self.left(), self.right());
        if let Some(left) = &left {
            left.expect(call)?;
        }
        if let Some(right) = &right {
            right.announce(call)?;
        }
        let mut bytes = vec![0; PIECE.min(call.len as usize * T::BYTES)];
        for piece in pieces {
            if let Some(left) = &left {
                left.receive(piece, &mut bytes, T::plus)?;
            }
            if let Some(right) = &right {
                right.send(piece, &mut bytes)?;
            }
            then(piece);
        }
        Ok(())
    }

    /// Takes the pieces of the sum from the right, and sends them to the left.
    fn down<'v, T: Element + 'v>(
        &self,
        call: Call,
        pieces: impl Iterator<Item = &'v mut [T]>,
    ) -> Result<(), Known> {
        let (left, right) = (self.left(), self.right());
        // Only now it is known that all have come.
        if let Some(right) = &right {
            right.expect(call)?;
        }
        if let Some(left) = &left {
            left.announce(call)?;
        }
        let mut bytes = vec![0; PIECE.min(call.len as usize * T::BYTES)];
        for piece in pieces {
            if let Some(right) = &right {
                right.receive(piece, &mut bytes, |sum, _| sum)?;
            }
            if let Some(left) = &left {
                left.send(piece, &mut bytes)?;
            }
        }
        Ok(())
    }

    fn spread(&self, call: Call, bytes: &mut [u8], root: usize) -> Result<(), Known> {
        let (left, right) = (self.left(), self.right());
        let (from, to) = match root.cmp(&self.rank) {
            std::cmp::Ordering::Less => (left, [right, None]),
            std::cmp::Ordering::Greater => (right, [left, None]),
            std::cmp::Ordering::Equal => (None, [left, right]),
        };
        if let Some(from) = &from {
            from.expect(call)?;
        }
        for to in to.iter().flatten() {
            to.announce(call)?;
        }
        for piece in bytes.chunks_mut(PIECE) {
            if let Some(from) = &from {
                from.read(piece)?;
            }
            for to in to.iter().flatten() {
                to.write(piece)?;
            }
        }
        Ok(())
    }
}

impl Collective for Tcp {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.world_size
    }

    fn all_reduce(&mut self, values: &mut [f32]) -> Result<()> {
        self.sum(Kind::Sum, values)
    }

    fn all_reduce_f64(&mut self, values: &mut [f64]) -> Result<()> {
        self.sum(Kind::SumF64, values)
    }

    fn broadcast(&mut self, bytes: &mut [u8], root: usize) -> Result<()> {
        assert!(root < self.world_size, "there is no such rank");
        let kind = Kind::Broadcast { root: root as u32 };
        let call = self.call(kind, bytes.len())?;
        // What is wrong is known to the watch.
        let _ = self.spread(call, bytes, root);
        self.watch.check()
    }

    fn barrier(&mut self) -> Result<()> {
        self.sum::<f32>(Kind::Barrier, &mut [])
    }

    fn health(&self) -> Health {
        self.watch.health()
    }

    fn abort(&mut self, error: &Error) {
        match error {
            // Bad news is passed on as it came.
            Error::Rank { rank, why } => self.watch.fail(*rank, why),
            _ => self.watch.fail(self.rank, &format!("failed: {error}")),
        }
    }

    fn describe(&self) -> String {
        format!("{} processes over TCP, {}", self.world_size, self.address)
    }
}

/// The link to a neighbour.
struct Link<'a> {
    rank: usize,
    peer: usize,
    stream: &'a TcpStream,
    watch: &'a Watch,
}

/// Something is wrong, and the watch knows what.
struct Known;

impl Link<'_> {
    fn broken(&self, error: &io::Error) -> Known {
        self.watch.broken(self.peer, error);
        Known
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Known> {
        let mut stream = self.stream;
        stream.write_all(bytes).map_err(|e| self.broken(&e))
    }

    fn read(&self, bytes: &mut [u8]) -> Result<(), Known> {
        let mut stream = self.stream;
        stream.read_exact(bytes).map_err(|e| self.broken(&e))
    }

    fn announce(&self, call: Call) -> Result<(), Known> {
        let mut stream = self.stream;
        call.write(&mut stream).map_err(|e| self.broken(&e))
    }

    /// Refuses a neighbour that does something else.
    fn expect(&self, call: Call) -> Result<(), Known> {
        let mut stream = self.stream;
        let theirs = Call::read(&mut stream).map_err(|e| self.broken(&e))?;
        if theirs == call {
            return Ok(());
        }
        let why = format!("makes {theirs}, rank {} {call}", self.rank);
        self.watch.fail(self.peer, &why);
        Err(Known)
    }

    fn send<T: Element>(&self, values: &[T], bytes: &mut [u8]) -> Result<(), Known> {
        let bytes = &mut bytes[..size_of_val(values)];
        for (bytes, value) in bytes.chunks_exact_mut(T::BYTES).zip(values) {
            value.put(bytes);
        }
        self.write(bytes)
    }

    /// Makes each value a function of what comes and what it was.
    fn receive<T: Element>(
        &self,
        values: &mut [T],
        bytes: &mut [u8],
        merge: impl Fn(T, T) -> T,
    ) -> Result<(), Known> {
        let bytes = &mut bytes[..size_of_val(values)];
        self.read(bytes)?;
        for (bytes, value) in bytes.chunks_exact(T::BYTES).zip(values) {
            *value = merge(T::take(bytes), *value);
        }
        Ok(())
    }
}
