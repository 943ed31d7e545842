//! Every kernel compiles for every architecture that is supported, and none that is on a training step's path spills registers.
//!
//! Needs NVRTC (a Python package has it), but no GPU and no driver. Where there is none the test says so, unless CLOZE_NVRTC names its folder.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::PathBuf;

use cloze_kernels::cuda::machine::Format;
use cloze_kernels::cuda::nvrtc::Nvrtc;

/// Kernels that may spill: rows of over 1,024 features, which no common model has.
const MAY_SPILL: [&str; 1] = ["norm_backward_2048"];

#[test]
fn every_kernel_compiles() {
    let folder = std::env::var_os("CLOZE_NVRTC").map(PathBuf::from);
    let nvrtc = match (Nvrtc::load(folder.as_deref()), &folder) {
        (Ok(nvrtc), _) => nvrtc,
        (Err(e), Some(_)) => panic!("{e}"),
        (Err(e), None) => {
            eprintln!("NOT TESTED: {e}");
            return;
        }
    };
    for architecture in ["sm_80", "sm_86", "sm_89", "sm_90"] {
        for format in [Format::F32, Format::Bf16] {
            let compiled = nvrtc
                .compile(architecture, format, &["--ptxas-options=-v"])
                .unwrap();
            assert!(compiled.cubin.starts_with(b"\x7fELF"), "{architecture}");
            let mut kernel = "";
            let mut seen = 0;
            for line in compiled.log.lines() {
                if let Some((_, rest)) = line.split_once("Compiling entry function '") {
                    kernel = rest.split('\'').next().unwrap();
                    seen += 1;
                }
                let spills =
                    line.contains("spill stores") && !line.contains(" 0 bytes spill stores");
                assert!(
                    !spills || MAY_SPILL.contains(&kernel),
                    "{architecture} {format:?} {kernel}: {line}"
                );
            }
            assert!(
                seen > 20,
                "the compiler named {seen} kernels:\n{}",
                compiled.log
            );
        }
    }
}

#[test]
fn what_does_not_compile_says_why() {
    let folder = std::env::var_os("CLOZE_NVRTC").map(PathBuf::from);
    let Ok(nvrtc) = Nvrtc::load(folder.as_deref()) else {
        return;
    };
    let error = nvrtc
        .compile("sm_90", Format::F32, &["-Dreturn=%"])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("sm_90") && error.contains("error"),
        "{error}"
    );
}
