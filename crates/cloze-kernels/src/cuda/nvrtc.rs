//! Compiling the kernels for a GPU by NVRTC, which needs neither a GPU nor a driver. The library is found at run time.

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;

use super::libraries::{self, Loaded};
use super::machine::Format;
use super::sources::{INCLUDED, UNIT};
use crate::{Error, Result};

type Program = *mut c_void;

/// NVRTC, loaded.
#[derive(Debug)]
pub struct Nvrtc(Loaded);

/// What a compilation gave.
#[derive(Debug)]
pub struct Compiled {
    /// Machine code for one architecture.
    pub cubin: Vec<u8>,
    /// What the compiler said: with `--ptxas-options=-v`, registers and spills of each kernel.
    pub log: String,
}

impl Nvrtc {
    /// Loads the library from `folder`, or where libraries of CUDA usually are.
    pub fn load(folder: Option<&Path>) -> Result<Self> {
        libraries::load("nvrtc", folder, None).map(Self)
    }

    /// Loads one whose machine code a driver for CUDA `major` runs.
    pub fn for_driver(major: u32) -> Result<Self> {
        libraries::load("nvrtc", None, Some(major)).map(Self)
    }

    fn call<T: Copy>(&self, name: &str) -> Result<T> {
        // SAFETY: each caller names a function of NVRTC's interface with its type.
        let symbol = unsafe { self.0.get::<T>(name.as_bytes()) };
        symbol.map(|s| *s).map_err(|e| Error::Cuda {
            call: name.to_owned(),
            why: e.to_string(),
        })
    }

    /// Compiles all kernels for `architecture`, such as `sm_90`.
    pub fn compile(
        &self,
        architecture: &str,
        format: Format,
        options: &[&str],
    ) -> Result<Compiled> {
        let text = |s: &str| {
            CString::new(s).map_err(|e| Error::Cuda {
                call: "nvrtcCreateProgram".into(),
                why: e.to_string(),
            })
        };
        let (unit, unit_name) = (text(UNIT)?, text("all.cu")?);
        let names = INCLUDED
            .iter()
            .map(|(name, _)| text(name))
            .collect::<Result<Vec<_>>>()?;
        let texts = INCLUDED
            .iter()
            .map(|(_, t)| text(t))
            .collect::<Result<Vec<_>>>()?;
        let (names, texts) = (pointers(&names), pointers(&texts));
        let mut own = vec![
            format!("--gpu-architecture={architecture}"),
            format!("-DACT_BF16={}", u8::from(format == Format::Bf16)),
            "--std=c++17".to_owned(),
        ];
        own.extend(options.iter().map(ToString::to_string));
        let own = own.iter().map(|o| text(o)).collect::<Result<Vec<_>>>()?;
        let own_pointers = pointers(&own);

        type Text = *const c_char;
        type Create = unsafe extern "C" fn(
            *mut Program,
            Text,
            Text,
            c_int,
            *const Text,
            *const Text,
        ) -> c_int;
        type Compile = unsafe extern "C" fn(Program, c_int, *const Text) -> c_int;
        type Destroy = unsafe extern "C" fn(*mut Program) -> c_int;
        let create: Create = self.call("nvrtcCreateProgram")?;
        let compile: Compile = self.call("nvrtcCompileProgram")?;
        let destroy: Destroy = self.call("nvrtcDestroyProgram")?;
        let mut program: Program = std::ptr::null_mut();
        let count = INCLUDED.len() as c_int;
        // SAFETY: all strings end in zero and outlive the program, as NVRTC asks.
        let made = unsafe {
            create(
                &mut program,
                unit.as_ptr(),
                unit_name.as_ptr(),
                count,
                texts.as_ptr(),
                names.as_ptr(),
            )
        };
        check("nvrtcCreateProgram", made)?;
        // SAFETY: the program was created, and is destroyed once, below.
        let code = unsafe { compile(program, own_pointers.len() as c_int, own_pointers.as_ptr()) };
        let log = self.bytes(program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog");
        let cubin = if code == 0 {
            self.bytes(program, "nvrtcGetCUBINSize", "nvrtcGetCUBIN")
        } else {
            Ok(Vec::new())
        };
        // SAFETY: as above.
        unsafe { destroy(&mut program) };
        let log = String::from_utf8_lossy(&log?)
            .trim_end_matches('\0')
            .to_owned();
        if code != 0 {
            return Err(Error::Compile {
                architecture: architecture.to_owned(),
                log,
            });
        }
        Ok(Compiled { cubin: cubin?, log })
    }

    /// What two functions of NVRTC give: how long something is, then the thing.
    fn bytes(&self, program: Program, size: &str, get: &str) -> Result<Vec<u8>> {
        type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
        type Get = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
        let (size_of, get_of): (Size, Get) = (self.call(size)?, self.call(get)?);
        let mut length = 0;
        // SAFETY: the program lives.
        check(size, unsafe { size_of(program, &mut length) })?;
        let mut bytes = vec![0u8; length];
        // SAFETY: the bytes are as many as were asked for.
        check(get, unsafe { get_of(program, bytes.as_mut_ptr().cast()) })?;
        Ok(bytes)
    }
}

fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|t| t.as_ptr()).collect()
}

fn check(call: &str, code: c_int) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    Err(Error::Cuda {
        call: call.to_owned(),
        why: format!("error {code}"),
    })
}
