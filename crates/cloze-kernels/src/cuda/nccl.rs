//! Sums over several GPUs by NCCL, found at run time.

use std::ffi::{c_char, c_int, c_void};

use libloading::Library;

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
#[derive(Debug)]
pub struct Group {
    nccl: Nccl,
    comm: Comm,
}

// SAFETY: a communicator may be used by any thread, one at a time, as its owner does.
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
        Ok(Group { nccl: self, comm })
    }
}

impl Group {
    /// Puts the sums of `len` single-precision numbers over the group in their place, after all that is on `stream`.
    ///
    /// # Safety
    /// They must lie in the GPU's memory, nobody else may use them until the stream is through, and the stream must be the GPU's.
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
        let reduce: Reduce = self.nccl.call("ncclAllReduce")?;
        let place = at as *mut c_void;
        // SAFETY: the caller's.
        let code = unsafe {
            reduce(
                place.cast_const(),
                place,
                len,
                FLOAT32,
                SUM,
                self.comm,
                stream as *mut c_void,
            )
        };
        self.nccl.check("ncclAllReduce", code)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        type Destroy = unsafe extern "C" fn(Comm) -> c_int;
        if let Ok(destroy) = self.nccl.call::<Destroy>("ncclCommDestroy") {
            // SAFETY: destroyed once; what is on streams was waited for by whoever read it.
            unsafe { destroy(self.comm) };
        }
    }
}
