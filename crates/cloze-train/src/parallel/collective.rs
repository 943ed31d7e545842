//! What the processes of a run do together.
//!
//! Every process makes the same calls in the same order. A call that fails has failed for good: the run is over on every rank, and each later call
//! says the same at once.
//!
//! # Order of sums
//!
//! `((x₀ + x₁) + x₂) + …` in order of ranks, in the precision of the elements: a function of the world size alone. How long the values are, how
//! they are cut into buckets and who came first change no bit, and every rank has the same bits. It is also what one process gets that adds up the
//! gradients of the spans one after another.
//!
//! # How NCCL fits
//!
//! Its implementation owns a [`Tcp`](super::tcp::Tcp), through which it does everything that is small and on the host (counts, agreement, barriers,
//! the unique id that `ncclCommInitRank` wants, by [`broadcast`](Collective::broadcast)), and returns itself from [`on_device`](Collective::on_device).
//! An engine whose gradients lie on the device asks for that and hands over addresses; without it, it downloads, sums on the host and uploads. A
//! thread asks [`health`](Collective::health) and calls `ncclCommAbort` where a rank is lost: NCCL itself waits for a dead peer for ever.
//! NCCL's order of sums depends on the algorithm that it picks, so runs that must be bit-equal have to fix `NCCL_ALGO` and `NCCL_PROTO`.

use super::launch::World;
use crate::{Error, Result};

/// What the processes of a run do together. All calls are made by all, in one order.
pub trait Collective: Send {
    /// Which process this is.
    fn rank(&self) -> usize;

    /// Processes.
    fn world_size(&self) -> usize;

    /// Replaces each value by its sum over the ranks.
    fn all_reduce(&mut self, values: &mut [f32]) -> Result<()>;

    /// Replaces each value by its sum over the ranks.
    fn all_reduce_f64(&mut self, values: &mut [f64]) -> Result<()>;

    /// Gives everybody the bytes of `root`.
    fn broadcast(&mut self, bytes: &mut [u8], root: usize) -> Result<()>;

    /// Returns when all have called it.
    fn barrier(&mut self) -> Result<()>;

    /// What says, on any thread, whether all are still there, as far as is known; it talks to nobody.
    fn health(&self) -> Health;

    /// Whether all are still there, as far as is known.
    fn check(&self) -> Result<()> {
        self.health()()
    }

    /// Makes every other rank stop because of `error`; this one is to stop by itself.
    fn abort(&mut self, error: &Error);

    /// What sums values where they lie on the device; `None` where they must come to the host.
    fn on_device(&mut self) -> Option<&mut dyn DeviceCollective> {
        None
    }

    /// What it runs over, for a person.
    fn describe(&self) -> String;
}

/// Says whether all processes are still there.
pub type Health = Box<dyn Fn() -> Result<()> + Send>;

/// Sums in the memory of this rank's device.
pub trait DeviceCollective {
    /// Puts the sum of `len` single-precision numbers at `address` over the ranks in their place, after all that is on `stream` already, and beside
    /// what is put there later. Returns when this is under way, not when it is done.
    ///
    /// # Safety
    /// `address` must be device memory of at least `len` numbers that nobody else uses until [`join`](Self::join), and `stream` a stream of the device.
    unsafe fn all_reduce_at(&mut self, address: u64, len: usize, stream: u64) -> Result<()>;

    /// Makes what is put on `stream` later wait for all sums that are under way.
    fn join(&mut self, stream: u64) -> Result<()>;
}

/// A process on its own: every sum is what it was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Collective for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn world_size(&self) -> usize {
        1
    }

    fn all_reduce(&mut self, _: &mut [f32]) -> Result<()> {
        Ok(())
    }

    fn all_reduce_f64(&mut self, _: &mut [f64]) -> Result<()> {
        Ok(())
    }

    fn broadcast(&mut self, _: &mut [u8], root: usize) -> Result<()> {
        assert_eq!(root, 0, "there is no such rank");
        Ok(())
    }

    fn barrier(&mut self) -> Result<()> {
        Ok(())
    }

    fn health(&self) -> Health {
        Box::new(|| Ok(()))
    }

    fn abort(&mut self, _: &Error) {}

    fn describe(&self) -> String {
        "one process".into()
    }
}

/// The collective of `world`; `terms` is what all must have alike.
pub fn join(
    world: &World,
    terms: &super::Terms,
    timeouts: &super::Timeouts,
) -> Result<Box<dyn Collective>> {
    if world.world_size == 1 {
        return Ok(Box::new(Alone));
    }
    let address = world.address.as_ref().ok_or_else(|| Error::Launch {
        variable: "MASTER_ADDR".into(),
        why: format!("is not set, but there are {} processes", world.world_size),
    })?;
    let tcp = super::tcp::Tcp::join(world, address, terms, timeouts)?;
    Ok(Box::new(tcp))
}
