//! The driver, found and started.

use cudarc::driver::{result, sys};

use super::failed;
use crate::cuda::libraries;
use crate::{Error, Result};

/// Oldest driver, by the version of CUDA that it is for, as it says it itself.
const OLDEST_DRIVER: i32 = 12_000;

/// How many GPUs the driver shows; an error says what is missing.
pub fn count() -> Result<usize> {
    version()?;
    let count = result::device::get_count().map_err(failed("cuDeviceGetCount"))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// The version of CUDA that the driver is for, such as 12,040, once it is started.
pub fn version() -> Result<i32> {
    // cudarc ends the process where a library is missing: what it will look for is loaded here first.
    libraries::load("cuda", None, None)?;
    // SAFETY: asks the loader only.
    if !unsafe { sys::is_culib_present() } {
        return Err(Error::NoDevice(
            "the driver's library was found, but not under a name that can be loaded".into(),
        ));
    }
    let mut version = 0;
    // SAFETY: a place for one number; it needs no driver that is started.
    let asked = unsafe { sys::cuDriverGetVersion(&mut version) };
    asked.result().map_err(failed("cuDriverGetVersion"))?;
    new_enough(version)?;
    result::init().map_err(|e| Error::NoDevice(format!("the driver does not start: {e}")))?;
    Ok(version)
}

fn new_enough(version: i32) -> Result<()> {
    if version >= OLDEST_DRIVER {
        return Ok(());
    }
    let why = format!(
        "the driver is for CUDA {}.{}, one for 12.0 is needed (525.60 or newer)",
        version / 1000,
        version % 1000 / 10
    );
    Err(Error::NoDevice(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_driver_is_refused() {
        for version in [12_000, 12_040, 13_010] {
            assert!(new_enough(version).is_ok());
        }
        let text = new_enough(11_080).unwrap_err().to_string();
        assert!(
            text.contains("CUDA 11.8,") && text.contains("525.60"),
            "{text}"
        );
    }
}
