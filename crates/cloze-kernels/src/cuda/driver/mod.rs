//! A GPU through its driver: memory, kernels, products, recordings.
//!
//! Libraries are loaded at run time, so that an executable with this in it starts anywhere. Everything goes to one stream, in order.
//!
//! A driver for CUDA 12.0 (525.60, of 2022) or newer is needed: all functions that are called are older, in the versions that cudarc calls for CUDA
//! 12.9. NVRTC and cuBLASLt are those of CUDA 12, or of 13 where the driver is as new.

pub(super) mod context;
mod cublaslt;
mod pinned;
mod products;
mod profile;
mod start;
pub(super) mod stream;

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, c_void};

use cudarc::driver::{result, sys};

use self::context::Context;
pub use self::context::{Uuid, current_uuid};
use self::pinned::Pinned;
use self::products::Products;
use self::profile::Profile;
pub use self::start::count;
use self::start::version;
use self::stream::{Event, Graph};
use super::machine::{Address, Format, Grid, Machine, Product};
use super::nvrtc::Nvrtc;
use crate::{Error, Result};

/// Oldest compute capability that the kernels are written for: bf16 products and copies that do not wait.
const OLDEST: (i32, i32) = (8, 0);

/// What failed, as an error of ours.
pub(super) fn failed(call: &str) -> impl FnOnce(result::DriverError) -> Error + '_ {
    move |e| Error::Cuda {
        call: call.to_owned(),
        why: e.to_string(),
    }
}

/// What happens to operations between `begin` and `end`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Recording {
    Off,
    /// They run, so that all is loaded and chosen before they are recorded.
    First,
    /// They are recorded under a key.
    On(u64),
}

/// A GPU.
#[derive(Debug)]
pub struct Device {
    format: Format,
    name: String,
    stream: sys::CUstream,
    module: sys::CUmodule,
    functions: HashMap<&'static str, (sys::CUfunction, u32)>,
    pinned: Pinned,
    products: Products,
    graphs: BTreeMap<u64, Graph>,
    seen: BTreeMap<u64, ()>,
    recording: Recording,
    /// What takes how long, while somebody asks.
    profile: Option<Profile>,
    /// Bytes that are allocated, and the most that ever were.
    bytes: BTreeMap<Address, usize>,
    peak: usize,
    /// Of all the rest. The last that is given up.
    context: Context,
}

impl Device {
    /// Opens GPU `number`, whose kernels keep activations in `format`.
    pub fn open(format: Format, number: usize) -> Result<Self> {
        let (count, version) = (count()?, version()?);
        if number >= count {
            let why = match count {
                0 => "the driver shows no GPU".to_owned(),
                1 => format!("there is no GPU {number}, only GPU 0"),
                n => format!("there is no GPU {number}, only 0 to {}", n - 1),
            };
            return Err(Error::NoDevice(why));
        }
        let device = result::device::get(number as i32).map_err(failed("cuDeviceGet"))?;
        let attribute = |which| {
            // SAFETY: the device was given by the driver.
            unsafe { result::device::get_attribute(device, which) }
                .map_err(failed("cuDeviceGetAttribute"))
        };
        use sys::CUdevice_attribute_enum as Attribute;
        let capability = (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        );
        let units = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let (major, minor) = capability;
        let model = result::device::get_name(device).map_err(failed("cuDeviceGetName"))?;
        if capability < OLDEST {
            return Err(Error::NoDevice(format!(
                "{model} has compute capability {major}.{minor}, 8.0 is needed (Ampere, 2020, or newer)"
            )));
        }
        let driver_major = version.unsigned_abs() / 1000;
        let architecture = format!("sm_{major}{minor}");
        let cubin = Nvrtc::for_driver(driver_major)?
            .compile(&architecture, format, &[])?
            .cubin;
        let context = Context::of(device)?;
        // SAFETY: the image is whole, as the compiler gave it, and is copied by the driver.
        let module = unsafe { result::module::load_data(cubin.as_ptr().cast()) }
            .map_err(failed("cuModuleLoadData"))?;
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking)
            .map_err(failed("cuStreamCreate"))?;
        let kind = match format {
            Format::F32 => "f32",
            Format::Bf16 => "bf16",
        };
        let name = format!(
            "CUDA: {model} ({architecture}, {units} multiprocessors), driver for CUDA {}.{}, {kind}",
            version / 1000,
            version % 1000 / 10
        );
        Ok(Self {
            format,
            name,
            stream,
            module,
            functions: HashMap::new(),
            pinned: Pinned::new()?,
            products: Products::new(format, major, driver_major)?,
            graphs: BTreeMap::new(),
            seen: BTreeMap::new(),
            recording: Recording::Off,
            profile: None,
            bytes: BTreeMap::new(),
            peak: 0,
            context,
        })
    }

    /// Most bytes that were allocated at a time.
    #[must_use]
    pub fn peak(&self) -> usize {
        self.peak
    }

    /// Which algorithm was chosen for each shape of product, a line each.
    #[must_use]
    pub fn algorithms(&self) -> Vec<String> {
        self.products.algorithms()
    }

    /// From now on every kernel and product is timed by itself; nothing is recorded or run from a recording.
    pub fn profile_start(&mut self) {
        self.profile = Some(Profile::default());
    }

    /// Name, calls and milliseconds of what ran since [`Device::profile_start`]. What cannot be read is missing: the next call says what failed.
    pub fn profile_stop(&mut self) -> Vec<(String, u64, f64)> {
        let mut profile = self.profile.take().unwrap_or_default();
        let _ = self.bind().and_then(|()| profile.read());
        profile.sums()
    }

    fn timed(
        &mut self,
        name: impl FnOnce() -> String,
        work: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        if self.profile.is_none() {
            return work(self);
        }
        let moments = [Event::new()?, Event::new()?];
        moments[0].record(self.stream)?;
        work(self)?;
        moments[1].record(self.stream)?;
        let profile = self.profile.get_or_insert_default();
        profile.add(name(), moments)
    }

    fn bind(&self) -> Result<()> {
        self.context.bind()
    }

    fn forget(&mut self) {
        self.graphs.clear();
        self.seen.clear();
    }

    /// The kernel of a name, which may take `shared` bytes of dynamic shared memory.
    fn function(&mut self, kernel: &'static str, shared: u32) -> Result<sys::CUfunction> {
        use sys::CUfunction_attribute_enum as Attribute;
        /// What a kernel may take without asking, together with what it takes in any case.
        const FREE: u32 = 48 << 10;
        let (function, allowed) = match self.functions.get(kernel) {
            Some(found) => *found,
            None => {
                let name = CString::new(kernel).map_err(|e| Error::Cuda {
                    call: kernel.to_owned(),
                    why: e.to_string(),
                })?;
                // SAFETY: the module lives as long as this.
                let found = unsafe { result::module::get_function(self.module, name) };
                let call = format!("cuModuleGetFunction({kernel})");
                let function = found.map_err(failed(&call))?;
                let which = Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES;
                // SAFETY: the function is of a module that is loaded.
                let fixed = unsafe { result::function::get_function_attribute(function, which) }
                    .map_err(failed("cuFuncGetAttribute"))?;
                (function, FREE.saturating_sub(fixed.unsigned_abs()))
            }
        };
        if shared > allowed {
            let which = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function is of a module that is loaded.
            unsafe { result::function::set_function_attribute(function, which, shared as i32) }
                .map_err(failed("cuFuncSetAttribute"))?;
        }
        self.functions
            .insert(kernel, (function, allowed.max(shared)));
        Ok(function)
    }
}

impl Machine for Device {
    fn describe(&self) -> String {
        self.name.clone()
    }

    fn stream(&self) -> Option<u64> {
        Some(self.stream as u64)
    }

    fn format(&self) -> Format {
        self.format
    }

    fn allocate(&mut self, bytes: usize) -> Result<Address> {
        self.bind()?;
        self.forget();
        // SAFETY: the memory is set before anybody reads it.
        let at = unsafe { result::malloc_sync(bytes.max(1)) }.map_err(|_| {
            let (free, total) = result::mem_get_info().unwrap_or((0, 0));
            Error::NoDeviceMemory { bytes, free, total }
        })?;
        self.bytes.insert(at, bytes);
        self.peak = self.peak.max(self.bytes.values().sum());
        // SAFETY: all of it was just allocated.
        unsafe { result::memset_d8_async(at, 0, bytes, self.stream) }
            .map_err(failed("cuMemsetD8Async"))?;
        Ok(at)
    }

    fn release(&mut self, at: Address) -> Result<()> {
        self.forget();
        self.wait()?;
        self.bytes.remove(&at);
        // SAFETY: it was allocated here, and nothing runs that uses it.
        unsafe { result::free_sync(at) }.map_err(failed("cuMemFree"))
    }

    fn write(&mut self, to: Address, bytes: &[u8]) -> Result<()> {
        self.bind()?;
        self.pinned.write(self.stream, to, bytes)
    }

    fn read(&mut self, from: Address, bytes: &mut [u8]) -> Result<()> {
        self.bind()?;
        self.pinned.read(self.stream, from, bytes)
    }

    fn zero(&mut self, at: Address, bytes: usize) -> Result<()> {
        self.timed(
            || "zero".into(),
            |d| {
                // SAFETY: the caller's views lie in what was allocated.
                unsafe { result::memset_d8_async(at, 0, bytes, d.stream) }
                    .map_err(failed("cuMemsetD8Async"))
            },
        )
    }

    fn launch(&mut self, kernel: &'static str, grid: Grid, arguments: &[u8]) -> Result<()> {
        let function = self.function(kernel, grid.shared)?;
        // As aligned as any structure that a kernel takes.
        let mut words = vec![0u64; arguments.len().div_ceil(8)];
        for (word, bytes) in words.iter_mut().zip(arguments.chunks(8)) {
            let mut eight = [0; 8];
            eight[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_le_bytes(eight);
        }
        self.timed(
            || kernel.to_owned(),
            |d| {
                let mut parameters = [words.as_mut_ptr().cast::<c_void>()];
                let [x, y, z] = grid.blocks;
                // SAFETY: the one parameter is as long as the kernel's structure, which tests on the host compare; the driver copies it before it
                // returns. What the structure points to was allocated, and outlives the stream's work.
                unsafe {
                    result::launch_kernel(
                        function,
                        (x, y, z),
                        (grid.threads, 1, 1),
                        grid.shared,
                        d.stream,
                        &mut parameters,
                    )
                }
                .map_err(failed(kernel))
            },
        )
    }

    fn product(&mut self, product: &Product) -> Result<()> {
        if product.m == 0 || product.n == 0 {
            return Ok(());
        }
        // Trying algorithms out is no part of what is timed.
        let may_time = !matches!(self.recording, Recording::On(_));
        let shape = self.products.prepare(product, self.stream, may_time)?;
        self.timed(
            || {
                let kind = match (product.a.transposed, product.b.transposed) {
                    (false, true) => "product",
                    (false, false) => "product, input's gradient",
                    _ => "product, weight's gradient",
                };
                format!("{kind} {} × {} × {}", product.m, product.n, product.k)
            },
            |d| d.products.run(product, shape, d.stream),
        )
    }

    fn replay(&mut self, key: u64) -> Result<bool> {
        let graph = self.graphs.get(&key).filter(|_| self.profile.is_none());
        let Some(graph) = graph else {
            return Ok(false);
        };
        // SAFETY: the graph lives; what it uses was not released, or it would have been forgotten.
        unsafe { result::graph::launch(graph.executable, self.stream) }
            .map_err(failed("cuGraphLaunch"))?;
        Ok(true)
    }

    fn begin(&mut self, key: u64) -> Result<()> {
        self.bind()?;
        // What was begun and never ended, as whoever began it panicked.
        self.end(false)?;
        let again = self.seen.insert(key, ()).is_some() && self.profile.is_none();
        if !again {
            self.recording = Recording::First;
            return Ok(());
        }
        let mode = sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives, and is not the default one.
        unsafe { result::stream::begin_capture(self.stream, mode) }
            .map_err(failed("cuStreamBeginCapture"))?;
        self.recording = Recording::On(key);
        Ok(())
    }

    fn end(&mut self, whole: bool) -> Result<()> {
        let Recording::On(key) = std::mem::replace(&mut self.recording, Recording::Off) else {
            return Ok(());
        };
        // SAFETY: the stream is in capture mode since `begin`, and leaves it, whatever is returned.
        let graph = unsafe { result::stream::end_capture(self.stream) };
        let graph = match graph {
            // What was not whole may have broken the recording as well.
            Err(_) if !whole => return Ok(()),
            graph => graph.map_err(failed("cuStreamEndCapture"))?,
        };
        let graph = Graph {
            graph,
            executable: std::ptr::null_mut(),
        };
        if !whole {
            return Ok(());
        }
        // SAFETY: the graph is whole.
        let made =
            unsafe { result::graph::instantiate(graph.graph, sys::CUgraphInstantiate_flags(0)) };
        let executable = made.map_err(failed("cuGraphInstantiate"))?;
        let graph = graph.with(executable);
        self.graphs.insert(key, graph);
        self.replay(key).map(|_| ())
    }

    fn wait(&mut self) -> Result<()> {
        self.bind()?;
        // SAFETY: the stream lives.
        unsafe { result::stream::synchronize(self.stream) }.map_err(failed("cuStreamSynchronize"))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // A stream that still records, after a panic, cannot be waited for.
        let _ = self.bind().and_then(|()| self.end(false));
        let _ = self.wait();
        self.forget();
        self.profile = None;
        // SAFETY: nothing runs any more, and each is given back once. A process that ends may find the driver gone: errors are of no use to anybody.
        unsafe {
            for at in self.bytes.keys() {
                let _ = result::free_sync(*at);
            }
            self.products.free();
            self.pinned.free();
            let _ = result::module::unload(self.module);
            let _ = result::stream::destroy(self.stream);
        }
    }
}
