//! Where there is no CUDA, opening a GPU is an error that says what is missing and what to do; nothing ends the process.

#![cfg(feature = "cuda")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use cloze_kernels::Error;
use cloze_kernels::cuda::driver::{Device, count};
use cloze_kernels::cuda::machine::Format;

#[test]
fn without_a_driver_an_error_says_so() {
    match count() {
        Err(Error::NoLibrary { name, looked }) => {
            assert!(
                name.starts_with("libcu") && looked.contains("loader"),
                "{name} {looked}"
            );
            let error = Device::open(Format::Bf16, 0).unwrap_err();
            assert!(error.to_string().contains("was not found"), "{error}");
            assert!(error.hint().is_some());
        }
        Err(Error::NoDevice(why)) => assert!(!why.is_empty()),
        // A machine with a GPU: one that is not there is refused.
        Ok(n) => assert!(
            Device::open(Format::Bf16, n)
                .unwrap_err()
                .to_string()
                .contains("no GPU")
        ),
        Err(other) => panic!("{other}"),
    }
}
