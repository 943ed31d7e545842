//! Sums over several GPUs by NCCL, found at run time.

mod library;
mod member;

use std::sync::Arc;
use std::time::Duration;

use cudarc::driver::result::stream;
use cudarc::driver::sys;

use self::library::Functions;
use self::member::Member;
use super::driver::context::Context;
use super::driver::failed;
use super::driver::stream::Event;
use super::machine::Address;
use crate::Result;

/// What the processes of a run share to find one another.
pub type UniqueId = [u8; 128];

/// How long a rank that leaves waits for the others to leave.
const PATIENCE: Duration = Duration::from_secs(5);

/// The library.
#[derive(Debug)]
pub struct Nccl(Functions);

/// One rank of a group whose members each have a GPU.
///
/// Its sums are made on a stream of their own, so that they run beside other work.
#[derive(Debug)]
pub struct Group {
    member: Arc<Member<Functions>>,
    stream: sys::CUstream,
    /// After what is to be summed; after the sums.
    ready: Event,
    summed: Event,
    /// Of the stream, the events and the communicator. The last that is given up.
    context: Context,
}

/// What makes a group's sums fail: a rank that is lost keeps the others waiting on their GPUs for ever.
#[derive(Clone, Debug)]
pub struct Breaker(Arc<Member<Functions>>);

// SAFETY: streams and events may be used by any thread, one at a time: a group has one owner, which sees to that.
unsafe impl Send for Group {}

impl Nccl {
    /// Loads it: NCCL 2.14 or newer.
    pub fn load() -> Result<Self> {
        Functions::load().map(Self)
    }

    /// What one process makes and all are given.
    pub fn unique_id(&self) -> Result<UniqueId> {
        self.0.unique_id()
    }

    /// Joins the group of `id`, with the GPU whose context is this thread's. Returns when all have, or with an error once `go_on` says no.
    pub fn join(
        self,
        id: UniqueId,
        rank: usize,
        world_size: usize,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Group> {
        let context = Context::current()?;
        let (ready, summed) = (Event::new()?, Event::new()?);
        let member = Member::join(self.0, &id, rank, world_size, go_on)?;
        let member = Arc::new(member);
        match stream::create(stream::StreamKind::NonBlocking) {
            Ok(stream) => Ok(Group {
                member,
                stream,
                ready,
                summed,
                context,
            }),
            Err(e) => {
                member.abort();
                Err(failed("cuStreamCreate")(e))
            }
        }
    }
}

impl Breaker {
    /// Makes the sums that are under way end, whatever they hold then, and later ones fail.
    pub fn trip(&self) {
        self.0.abort();
    }
}

impl Group {
    /// What makes its sums fail, from any thread.
    #[must_use]
    pub fn breaker(&self) -> Breaker {
        Breaker(self.member.clone())
    }

    /// Puts the sums of `len` single-precision numbers over the group in their place, after all that is on `stream`, and beside what comes there later.
    ///
    /// # Safety
    /// They must lie in the GPU's memory, nobody else may use them until [`join`](Self::join), and the stream must be the GPU's.
    pub unsafe fn all_reduce(&mut self, at: Address, len: usize, stream: u64) -> Result<()> {
        self.ready.record(stream as sys::CUstream)?;
        self.ready.hold(self.stream)?;
        // SAFETY: the caller's.
        unsafe { self.member.sum(at, len, self.stream.cast()) }
    }

    /// Makes what is put on `stream` later wait for all sums that are under way.
    pub fn join(&mut self, stream: u64) -> Result<()> {
        self.summed.record(self.stream)?;
        self.summed.hold(stream as sys::CUstream)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Whoever drops it may be another thread than made it.
        let _ = self.context.bind();
        // What is on streams was waited for by whoever read it.
        self.member.leave(PATIENCE);
        // SAFETY: destroyed once.
        let _ = unsafe { stream::destroy(self.stream) };
    }
}
