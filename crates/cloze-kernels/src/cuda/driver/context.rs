//! A GPU's context, which stays for as long as anybody uses what was made in it.

use cudarc::driver::{result, sys};

use super::failed;
use crate::Result;

/// What tells a GPU from every other, on this machine or another.
pub type Uuid = [u8; 16];

/// The primary context of a GPU, kept: the driver counts who keeps it, and ends it after the last.
#[derive(Debug)]
pub struct Context {
    number: sys::CUdevice,
    handle: sys::CUcontext,
}

// SAFETY: a context may be used by any thread that makes it its own, which the driver keeps track of.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// Keeps that of a device, and makes it this thread's.
    pub fn of(number: sys::CUdevice) -> Result<Self> {
        // SAFETY: the device was given by the driver; what is kept is released once, when this is dropped.
        let handle = unsafe { result::primary_ctx::retain(number) }
            .map_err(failed("cuDevicePrimaryCtxRetain"))?;
        let context = Self { number, handle };
        context.bind()?;
        Ok(context)
    }

    /// Keeps that of the GPU that this thread uses.
    pub fn current() -> Result<Self> {
        Self::of(device()?)
    }

    /// Makes it this thread's.
    pub fn bind(&self) -> Result<()> {
        // SAFETY: the context lives as long as this.
        unsafe { result::ctx::set_current(self.handle) }.map_err(failed("cuCtxSetCurrent"))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: it was kept once, and is released once.
        let _ = unsafe { result::primary_ctx::release(self.number) };
    }
}

/// Of the GPU that this thread uses. Parts of one GPU have that of the whole, as NCCL takes them for one.
pub fn current_uuid() -> Result<Uuid> {
    let uuid = result::device::get_uuid(device()?).map_err(failed("cuDeviceGetUuid"))?;
    Ok(uuid.bytes.map(|b| b as u8))
}

/// The device whose context is this thread's.
fn device() -> Result<sys::CUdevice> {
    // Without a driver it would end the process to ask it.
    super::count()?;
    let mut number = 0;
    // SAFETY: a place for one number.
    let asked = unsafe { sys::cuCtxGetDevice(&mut number) };
    asked.result().map_err(failed("cuCtxGetDevice"))?;
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without a driver, or before a GPU is opened, it is an error, and no panic.
    #[test]
    fn a_thread_without_a_gpu_has_no_uuid() {
        assert!(!current_uuid().unwrap_err().to_string().is_empty());
        assert!(Context::current().is_err());
    }
}
