//! The host in place of a GPU: the threads of a block are fibres, which take turns at barriers and at what warps do together.
//!
//! It is slow, exact in what it demands, and for tests: a barrier that not all threads reach, arguments of another size than the kernel's, or a
//! write past the end of a buffer end the process with a message.

mod buffer;
mod fibres;

use std::collections::BTreeMap;

use rayon::prelude::*;

use self::buffer::Buffer;
use self::fibres::{Run, run_block};
use super::machine::{Address, Factor, Format, Grid, Machine, Product};
use crate::{Error, Result};

unsafe extern "C" {
    fn cloze_host_kernels_f32();
    fn cloze_host_kernels_bf16();
    fn cloze_host_find(
        bf16: i32,
        name: *const u8,
        length: u32,
        size: *mut u32,
        most: *mut u32,
    ) -> Option<Run>;
}

/// In which order blocks, and threads between barriers, take turns. Results must not depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Threads from the first on, blocks side by side.
    #[default]
    Forward,
    /// Threads and blocks from the last on.
    Backward,
}

/// What is recorded.
#[derive(Clone, Debug)]
enum Deed {
    Launch(&'static str, Grid, Vec<u8>),
    Product(Product),
    Zero(Address, usize),
}

/// The host as a GPU.
#[derive(Debug)]
pub struct Host {
    format: Format,
    order: Order,
    buffers: BTreeMap<Address, Buffer>,
    recordings: BTreeMap<u64, Vec<Deed>>,
    seen: BTreeMap<u64, u64>,
    recording: Option<(u64, Vec<Deed>)>,
    replayed: u64,
}

impl Host {
    /// A host whose kernels keep activations in `format`.
    #[must_use]
    pub fn new(format: Format, order: Order) -> Self {
        // So that the linker keeps them.
        // SAFETY: they do nothing.
        unsafe {
            cloze_host_kernels_f32();
            cloze_host_kernels_bf16();
        }
        Self {
            format,
            order,
            buffers: BTreeMap::new(),
            recordings: BTreeMap::new(),
            seen: BTreeMap::new(),
            recording: None,
            replayed: 0,
        }
    }

    /// How often something was run from a recording.
    #[must_use]
    pub fn replayed(&self) -> u64 {
        self.replayed
    }

    fn forget(&mut self) {
        assert!(
            self.recording.is_none(),
            "memory changes within a recording"
        );
        self.recordings.clear();
        self.seen.clear();
    }

    fn note(&mut self, deed: impl FnOnce() -> Deed) {
        if let Some((_, deeds)) = &mut self.recording {
            deeds.push(deed());
        }
    }

    /// `len` bytes, which must lie in one buffer.
    fn bytes(&self, at: Address, len: usize) -> *mut u8 {
        let (start, buffer) = self
            .buffers
            .range(..=at)
            .next_back()
            .unwrap_or_else(|| panic!("{at:#x} is no place"));
        let offset = (at - start) as usize;
        assert!(
            offset + len <= buffer.len,
            "{len} bytes at {offset} of {}",
            buffer.len
        );
        at as *mut u8
    }

    fn do_launch(&self, kernel: &str, grid: Grid, arguments: &[u8]) {
        let (mut size, mut most) = (0, 0);
        let bf16 = i32::from(self.format == Format::Bf16);
        // SAFETY: name and length belong together, and the others are places for one number.
        let run = unsafe {
            cloze_host_find(
                bf16,
                kernel.as_ptr(),
                kernel.len() as u32,
                &mut size,
                &mut most,
            )
        };
        let run = run.unwrap_or_else(|| panic!("there is no kernel {kernel}"));
        assert_eq!(arguments.len(), size as usize, "arguments of {kernel}");
        let threads = grid.threads;
        assert!(
            threads.is_multiple_of(32) && threads <= most && threads > 0,
            "{kernel}: {threads} threads, at most {most}"
        );
        assert!(
            grid.shared <= 227 << 10,
            "{kernel}: {} bytes of shared memory",
            grid.shared
        );
        let [x, y, z] = grid.blocks;
        assert!(
            x > 0 && y > 0 && z > 0 && y <= 65_535 && z <= 65_535,
            "{kernel}: {grid:?}"
        );
        let blocks = u64::from(x) * u64::from(y) * u64::from(z);
        let one = |block: u64| {
            let place = [
                (block % u64::from(x)) as u32,
                (block / u64::from(x) % u64::from(y)) as u32,
                (block / (u64::from(x) * u64::from(y))) as u32,
            ];
            run_block(kernel, run, grid, place, arguments, self.order);
        };
        match self.order {
            Order::Forward => (0..blocks).into_par_iter().for_each(one),
            Order::Backward => (0..blocks)
                .into_par_iter()
                .for_each(|b| one(blocks - 1 - b)),
        }
    }

    fn do_product(&self, p: &Product) {
        let each = self.format.bytes();
        let number = |base: *mut u8, i: usize| -> f64 {
            // SAFETY: the factor's extent was checked.
            f64::from(unsafe {
                match self.format {
                    Format::F32 => base.cast::<f32>().add(i).read(),
                    Format::Bf16 => {
                        f32::from_bits(u32::from(base.cast::<u16>().add(i).read()) << 16)
                    }
                }
            })
        };
        // Rows of `k` numbers each.
        let gather = |f: Factor, rows: usize, turned: bool| -> Vec<f64> {
            let (high, wide) = if turned { (p.k, rows) } else { (rows, p.k) };
            assert!(f.stride >= wide, "{p:?}");
            let base = self.bytes(f.at, ((high - 1) * f.stride + wide) * each);
            let at = |r: usize, k: usize| {
                if turned {
                    k * f.stride + r
                } else {
                    r * f.stride + k
                }
            };
            (0..rows * p.k)
                .map(|i| number(base, at(i / p.k, i % p.k)))
                .collect()
        };
        let a = gather(p.a, p.m, p.a.transposed);
        let b = gather(p.b, p.n, !p.b.transposed);
        let single = p.single || self.format == Format::F32;
        let width = if single { 4 } else { each };
        let c = self.bytes(p.c, p.m * p.n * width) as usize;
        let bias = p.bias.map(|at| self.bytes(at, p.n * each) as usize);
        assert!(bias.is_none() || !p.accumulate, "{p:?}");
        (0..p.m).into_par_iter().for_each(|i| {
            for j in 0..p.n {
                let (left, right) = (&a[i * p.k..][..p.k], &b[j * p.k..][..p.k]);
                let mut sum: f64 = left.iter().zip(right).map(|(a, b)| a * b).sum();
                if let Some(bias) = bias {
                    sum += number(bias as *mut u8, j);
                }
                let at = i * p.n + j;
                // SAFETY: the result's extent was checked, and each row is one task's.
                unsafe {
                    if single {
                        let to = (c as *mut f32).add(at);
                        let old = if p.accumulate {
                            f64::from(to.read())
                        } else {
                            0.0
                        };
                        to.write((sum + old) as f32);
                    } else {
                        let to = (c as *mut u16).add(at);
                        let old = if p.accumulate {
                            f32::from_bits(u32::from(to.read()) << 16)
                        } else {
                            0.0
                        };
                        to.write(super::memory::to_bf16((sum + f64::from(old)) as f32));
                    }
                }
            }
        });
    }

    fn redo(&mut self, deed: &Deed) -> Result<()> {
        match deed {
            Deed::Launch(kernel, grid, arguments) => self.do_launch(kernel, *grid, arguments),
            Deed::Product(product) => self.do_product(product),
            Deed::Zero(at, bytes) => return self.zero(*at, *bytes),
        }
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.buffers.values().for_each(Buffer::check);
        }
    }
}

impl Machine for Host {
    fn describe(&self) -> String {
        format!("CUDA kernels on the host, {:?}", self.format)
    }

    /// Its memory is the host's own, and all is done when a call returns: any number will do.
    fn stream(&self) -> Option<u64> {
        Some(0)
    }

    fn format(&self) -> Format {
        self.format
    }

    fn allocate(&mut self, bytes: usize) -> Result<Address> {
        self.forget();
        let mut buffer = Buffer::new(bytes);
        let at = buffer.at();
        self.buffers.insert(at, buffer);
        Ok(at)
    }

    fn release(&mut self, at: Address) -> Result<()> {
        self.forget();
        let buffer = self.buffers.remove(&at);
        buffer.ok_or(Error::NoMemory { len: 0 }).map(|b| b.check())
    }

    fn write(&mut self, to: Address, bytes: &[u8]) -> Result<()> {
        assert!(self.recording.is_none(), "a copy within a recording");
        let to = self.bytes(to, bytes.len());
        // SAFETY: the extent was checked.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        Ok(())
    }

    fn read(&mut self, from: Address, bytes: &mut [u8]) -> Result<()> {
        assert!(self.recording.is_none(), "a copy within a recording");
        let from = self.bytes(from, bytes.len());
        // SAFETY: the extent was checked.
        unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    fn zero(&mut self, at: Address, bytes: usize) -> Result<()> {
        self.note(|| Deed::Zero(at, bytes));
        let to = self.bytes(at, bytes);
        // SAFETY: the extent was checked.
        unsafe { std::ptr::write_bytes(to, 0, bytes) };
        Ok(())
    }

    fn launch(&mut self, kernel: &'static str, grid: Grid, arguments: &[u8]) -> Result<()> {
        self.note(|| Deed::Launch(kernel, grid, arguments.to_vec()));
        self.do_launch(kernel, grid, arguments);
        Ok(())
    }

    fn product(&mut self, product: &Product) -> Result<()> {
        self.note(|| Deed::Product(*product));
        self.do_product(product);
        Ok(())
    }

    fn replay(&mut self, key: u64) -> Result<bool> {
        let Some(deeds) = self.recordings.remove(&key) else {
            return Ok(false);
        };
        deeds.iter().try_for_each(|deed| self.redo(deed))?;
        self.recordings.insert(key, deeds);
        self.replayed += 1;
        Ok(true)
    }

    fn begin(&mut self, key: u64) -> Result<()> {
        let seen = self.seen.entry(key).or_insert(0);
        *seen += 1;
        let again = *seen > 1;
        self.recording = again.then(|| (key, Vec::new()));
        Ok(())
    }

    fn end(&mut self, whole: bool) -> Result<()> {
        if let Some((key, deeds)) = self.recording.take()
            && whole
        {
            self.recordings.insert(key, deeds);
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<()> {
        Ok(())
    }
}
