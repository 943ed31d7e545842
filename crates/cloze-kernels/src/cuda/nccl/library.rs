//! The functions of NCCL, looked up once.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::UniqueId;
use super::member::{Calls, Comm, SUCCESS};
use crate::cuda::libraries;
use crate::cuda::machine::Address;
use crate::{Error, Result};

/// `ncclUniqueId`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Id(UniqueId);

/// `ncclConfig_t` as NCCL 2.14 has it. Newer ones take it for what it says it is, and everything that they added for not given.
#[repr(C)]
struct Config {
    size: usize,
    magic: c_uint,
    version: c_uint,
    blocking: c_int,
}

/// `NCCL_API_MAGIC`.
const MAGIC: c_uint = 0xCAFE_BEEF;
/// `NCCL_VERSION(2, 14, 0)`.
const VERSION: c_uint = 21_400;
/// Of `ncclDataType_t` and `ncclRedOp_t`.
const FLOAT32: c_int = 7;
const SUM: c_int = 0;

type OfComm = unsafe extern "C" fn(Comm) -> c_int;
type Reduce = unsafe extern "C" fn(
    *const c_void,
    *mut c_void,
    usize,
    c_int,
    c_int,
    Comm,
    *mut c_void,
) -> c_int;

/// NCCL.
#[derive(Clone, Copy, Debug)]
pub struct Functions {
    unique_id: unsafe extern "C" fn(*mut Id) -> c_int,
    join: unsafe extern "C" fn(*mut Comm, c_int, Id, c_int, *mut Config) -> c_int,
    state: unsafe extern "C" fn(Comm, *mut c_int) -> c_int,
    reduce: Reduce,
    finalize: OfComm,
    destroy: OfComm,
    abort: OfComm,
    text: unsafe extern "C" fn(c_int) -> *const c_char,
}

impl Functions {
    /// Loads the library, and finds them.
    pub fn load() -> Result<Self> {
        let library = libraries::load("nccl", None, None)?;
        macro_rules! function {
            ($name:literal) => {
                // SAFETY: NCCL has declared the function so since 2.14, and the library stays loaded.
                *unsafe { library.get(concat!($name, "\0").as_bytes()) }.map_err(|e| {
                    Error::Cuda {
                        call: $name.into(),
                        why: format!("{e}; NCCL 2.14 or newer is needed"),
                    }
                })?
            };
        }
        Ok(Self {
            unique_id: function!("ncclGetUniqueId"),
            join: function!("ncclCommInitRankConfig"),
            state: function!("ncclCommGetAsyncError"),
            reduce: function!("ncclAllReduce"),
            finalize: function!("ncclCommFinalize"),
            destroy: function!("ncclCommDestroy"),
            abort: function!("ncclCommAbort"),
            text: function!("ncclGetErrorString"),
        })
    }

    /// What one process makes and all are given.
    pub fn unique_id(&self) -> Result<UniqueId> {
        let mut id = Id([0; 128]);
        // SAFETY: a place for one.
        match unsafe { (self.unique_id)(&mut id) } {
            SUCCESS => Ok(id.0),
            failed => Err(Error::Cuda {
                call: "ncclGetUniqueId".into(),
                why: self.text(failed),
            }),
        }
    }
}

impl Calls for Functions {
    fn join(&self, comm: &mut Comm, id: &UniqueId, rank: usize, world_size: usize) -> c_int {
        let mut config = Config {
            size: size_of::<Config>(),
            magic: MAGIC,
            version: VERSION,
            blocking: 0,
        };
        let (rank, world_size) = (rank as c_int, world_size as c_int);
        // NCCL writes the communicator here before it returns, and again, from a thread of its own, when it has joined: never given back.
        let place: &'static AtomicPtr<c_void> = Box::leak(Box::new(AtomicPtr::new(null_mut())));
        // SAFETY: the id is as NCCL made it, the configuration as it wants it, which it copies, and the place lasts.
        let code = unsafe { (self.join)(place.as_ptr(), world_size, Id(*id), rank, &mut config) };
        *comm = place.load(Ordering::Acquire);
        code
    }

    fn state(&self, comm: Comm, state: &mut c_int) -> c_int {
        // SAFETY: the communicator lives, see `Calls`, and a place for one code.
        unsafe { (self.state)(comm, state) }
    }

    unsafe fn sum(&self, comm: Comm, at: Address, len: usize, stream: *mut c_void) -> c_int {
        let place = at as *mut c_void;
        // SAFETY: the caller's; the communicator lives.
        unsafe { (self.reduce)(place.cast_const(), place, len, FLOAT32, SUM, comm, stream) }
    }

    fn finalize(&self, comm: Comm) -> c_int {
        // SAFETY: the communicator lives.
        unsafe { (self.finalize)(comm) }
    }

    fn destroy(&self, comm: Comm) -> c_int {
        // SAFETY: the communicator lives, and nobody uses it later.
        unsafe { (self.destroy)(comm) }
    }

    fn abort(&self, comm: Comm) -> c_int {
        // SAFETY: as above; NCCL lets a thread abort what another is inside of.
        unsafe { (self.abort)(comm) }
    }

    fn text(&self, code: c_int) -> String {
        // SAFETY: it gives a text that lasts, for any code.
        let text = unsafe { CStr::from_ptr((self.text)(code)) };
        text.to_string_lossy().into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::driver::count;
    use crate::cuda::nccl::member::Member;

    /// Where there is NCCL (CLOZE_CUDA_PATH may name its folder) and no GPU: it has every function, and who joins is told what is missing.
    #[test]
    fn without_a_gpu_nobody_joins() {
        let functions = match (Functions::load(), count()) {
            (Ok(functions), Err(_)) => functions,
            (Ok(_), Ok(_)) => return,
            (Err(e), _) => return eprintln!("NOT TESTED: {e}"),
        };
        let id = functions.unique_id().unwrap();
        assert_ne!(id, [0; 128]);
        let error = Member::join(functions, &id, 0, 2, &|| true).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("ncclCommInitRankConfig failed: ") && !text.contains("broken"),
            "{text}"
        );
    }
}
