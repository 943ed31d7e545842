//! Sums over several GPUs by NCCL, found at run time.

use std::ffi::{c_char, c_int, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::result::stream;
use cudarc::driver::sys;
use libloading::Library;

use super::driver::failed;
use super::driver::stream::Event;
use super::libraries;
use super::machine::Address;
use crate::{Error, Result};

/// What the processes of a run share to find one another.
pub type UniqueId = [u8; 128];

#[repr(C)]
#[derive(Clone, Copy)]
struct Id(UniqueId);

type Comm = *mut c_void;

/// The library.
#[derive(Debug)]
pub struct Nccl(Library);

/// One rank of a group whose members each have a GPU.
///
/// Its sums are made on a stream of their own, so that they run beside other work.
#[derive(Debug)]
pub struct Group {
    member: Arc<Mutex<Member>>,
    stream: sys::CUstream,
    /// After what is to be summed; after the sums.
    ready: Event,
    summed: Event,
}

/// What makes a group's sums fail: a rank that is lost keeps the others waiting on their GPUs for ever.
#[derive(Clone, Debug)]
pub struct Breaker(Arc<Mutex<Member>>);

#[derive(Debug)]
struct Member {
    nccl: Nccl,
    /// `None` once it is broken.
    comm: Option<Comm>,
}

// SAFETY: a communicator and a stream may be used by any thread, one at a time: the lock, and that a group has one owner, see to that.
unsafe impl Send for Member {}
// SAFETY: as above.
unsafe impl Send for Group {}

/// `ncclDataType_t` and `ncclRedOp_t` of NCCL 2.
const FLOAT32: c_int = 7;
const SUM: c_int = 0;

impl Nccl {
    /// Loads it.
    pub fn load() -> Result<Self> {
        libraries::load("nccl", None).map(Self)
    }

    fn call<T: Copy>(&self, name: &str) -> Result<T> {
        // SAFETY: each caller names a function of NCCL's interface with its type.
        let symbol = unsafe { self.0.get::<T>(name.as_bytes()) };
        symbol.map(|s| *s).map_err(|e| Error::Cuda {
            call: name.to_owned(),
            why: e.to_string(),
        })
    }

    fn check(&self, call: &str, code: c_int) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        type Name = unsafe extern "C" fn(c_int) -> *const c_char;
        let name: Name = self.call("ncclGetErrorString")?;
        // SAFETY: it gives a text that lasts, for any code.
        let why = unsafe { std::ffi::CStr::from_ptr(name(code)) };
        Err(Error::Cuda {
            call: call.to_owned(),
            why: why.to_string_lossy().into_owned(),
        })
    }

    /// What one process makes and all are given.
    pub fn unique_id(&self) -> Result<UniqueId> {
        type Make = unsafe extern "C" fn(*mut Id) -> c_int;
        let make: Make = self.call("ncclGetUniqueId")?;
        let mut id = Id([0; 128]);
        // SAFETY: a place for one.
        self.check("ncclGetUniqueId", unsafe { make(&mut id) })?;
        Ok(id.0)
    }

    /// Joins the group of `id`, with the GPU whose context is this thread's. Returns when all have.
    pub fn join(self, id: UniqueId, rank: usize, world_size: usize) -> Result<Group> {
        type Init = unsafe extern "C" fn(*mut Comm, c_int, Id, c_int) -> c_int;
        let init: Init = self.call("ncclCommInitRank")?;
        let mut comm = std::ptr::null_mut();
        // SAFETY: the id is as NCCL made it, and a place for one communicator.
        let code = unsafe { init(&mut comm, world_size as c_int, Id(id), rank as c_int) };
        self.check("ncclCommInitRank", code)?;
        let member = Member {
            nccl: self,
            comm: Some(comm),
        };
        let (ready, summed) = (Event::new()?, Event::new()?);
        let stream = stream::create(stream::StreamKind::NonBlocking);
        Ok(Group {
            member: Arc::new(Mutex::new(member)),
            stream: stream.map_err(failed("cuStreamCreate"))?,
            ready,
            summed,
        })
    }
}

impl Member {
    /// Ends the membership by `name`, `ncclCommDestroy` or `ncclCommAbort`, where it has not ended.
    fn end(&mut self, name: &str) {
        type End = unsafe extern "C" fn(Comm) -> c_int;
        if let (Ok(end), Some(comm)) = (self.nccl.call::<End>(name), self.comm.take()) {
            // SAFETY: ended once, as it was taken.
            unsafe { end(comm) };
        }
    }
}

impl Breaker {
    /// Makes the sums that are under way end, whatever they hold then, and later ones fail.
    pub fn trip(&self) {
        lock(&self.0).end("ncclCommAbort");
    }
}

fn lock(member: &Mutex<Member>) -> MutexGuard<'_, Member> {
    member.lock().unwrap_or_else(PoisonError::into_inner)
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
        type Reduce = unsafe extern "C" fn(
            *const c_void,
            *mut c_void,
            usize,
            c_int,
            c_int,
            Comm,
            *mut c_void,
        ) -> c_int;
        self.ready.record(stream as sys::CUstream)?;
        self.ready.hold(self.stream)?;
        let member = lock(&self.member);
        let reduce: Reduce = member.nccl.call("ncclAllReduce")?;
        let comm = member.comm.ok_or_else(|| Error::Cuda {
            call: "ncclAllReduce".into(),
            why: "the group is broken".into(),
        })?;
        let place = at as *mut c_void;
        // SAFETY: the caller's.
        let code = unsafe {
            reduce(
                place.cast_const(),
                place,
                len,
                FLOAT32,
                SUM,
                comm,
                self.stream.cast(),
            )
        };
        member.nccl.check("ncclAllReduce", code)
    }

    /// Makes what is put on `stream` later wait for all sums that are under way.
    pub fn join(&mut self, stream: u64) -> Result<()> {
        self.summed.record(self.stream)?;
        self.summed.hold(stream as sys::CUstream)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What is on streams was waited for by whoever read it.
        lock(&self.member).end("ncclCommDestroy");
        // SAFETY: destroyed once.
        let _ = unsafe { stream::destroy(self.stream) };
    }
}
