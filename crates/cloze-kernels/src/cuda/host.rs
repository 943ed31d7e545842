//! The host in place of a GPU: the threads of a block are fibres, which take turns at barriers and at what warps do together.
//!
//! It is slow, exact in what it demands, and for tests: a barrier that not all threads reach, arguments of another size than the kernel's, or a
//! write past the end of a buffer end the process with a message.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::c_void;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use rayon::prelude::*;

use super::machine::{Address, Factor, Format, Grid, Machine, Product};
use crate::{Error, Result};

/// What a fibre knows; mirrored in host.h.
#[repr(C)]
#[derive(Debug)]
struct HostThread {
    thread: u32,
    threads: u32,
    block: [u32; 3],
    grid: [u32; 3],
    shared: *mut u8,
    slots: *mut [u32; 8],
    turn: u32,
    /// Where it is left: not for C.
    yielder: *const Yielder<(), Wait>,
}

/// What a fibre waits for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wait {
    Block,
    Warp,
}

type Run = unsafe extern "C" fn(*const c_void);

unsafe extern "C" {
    fn cloze_host_kernels_f32();
    fn cloze_host_kernels_bf16();
    fn cloze_host_set(thread: *mut HostThread);
    fn cloze_host_find(
        bf16: i32,
        name: *const u8,
        length: u32,
        size: *mut u32,
        most: *mut u32,
    ) -> Option<Run>;
}

thread_local! {
    static NOW: Cell<*mut HostThread> = const { Cell::new(std::ptr::null_mut()) };
    static STACKS: RefCell<Vec<DefaultStack>> = const { RefCell::new(Vec::new()) };
}

fn wait(what: Wait) {
    let now = NOW.with(Cell::get);
    // SAFETY: called by a kernel, so within a fibre, whose thread and yielder live until it ends.
    unsafe { (*(*now).yielder).suspend(what) };
}

#[unsafe(no_mangle)]
extern "C" fn cloze_host_sync() {
    wait(Wait::Block);
}

#[unsafe(no_mangle)]
extern "C" fn cloze_host_warp() {
    wait(Wait::Warp);
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

/// A buffer between two zones that nobody may write to.
#[derive(Debug)]
struct Buffer {
    bytes: Vec<Line>,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
#[repr(C, align(256))]
struct Line([u8; 256]);

/// What guards are made of: not a number, as a float.
const GUARD: u8 = 0xFD;

impl Buffer {
    fn new(len: usize) -> Self {
        let lines = len.div_ceil(256) + 2;
        let mut buffer = Self {
            bytes: vec![Line([GUARD; 256]); lines],
            len,
        };
        let at = buffer.at();
        // SAFETY: within the lines, which are plain bytes.
        unsafe { std::ptr::write_bytes(at as *mut u8, 0, len) };
        buffer
    }

    fn at(&mut self) -> Address {
        self.bytes.as_mut_ptr().wrapping_add(1) as Address
    }

    fn check(&self) {
        let end = 256 + self.len;
        let all = self.bytes.iter().flat_map(|line| line.0);
        let guards = all.enumerate().filter(|(i, _)| *i < 256 || *i >= end);
        for (i, byte) in guards {
            let (off, len) = (i as i64 - 256, self.len);
            assert!(byte == GUARD, "byte {off} of a buffer of {len} was written");
        }
    }
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

/// Runs the threads of one block, until all are done.
fn run_block(kernel: &str, run: Run, grid: Grid, block: [u32; 3], arguments: &[u8], order: Order) {
    let count = grid.threads as usize;
    let mut shared = vec![Line([GUARD; 256]); (grid.shared as usize).div_ceil(256) + 1];
    let mut slots = vec![[0u32; 8]; 2 * count];
    let mut words = vec![0u64; arguments.len().div_ceil(8)];
    for (word, bytes) in words.iter_mut().zip(arguments.chunks(8)) {
        let mut eight = [0; 8];
        eight[..bytes.len()].copy_from_slice(bytes);
        *word = u64::from_le_bytes(eight);
    }
    let arguments = words.as_ptr() as usize;
    let mut threads: Vec<HostThread> = (0..grid.threads)
        .map(|thread| HostThread {
            thread,
            threads: grid.threads,
            block,
            grid: grid.blocks,
            shared: shared.as_mut_ptr().cast(),
            slots: slots.as_mut_ptr(),
            turn: 0,
            yielder: std::ptr::null(),
        })
        .collect();
    let mut fibres: Vec<Option<Coroutine<(), Wait, (), DefaultStack>>> = (0..count)
        .map(|i| {
            let stack = STACKS.with(|s| s.borrow_mut().pop());
            let stack = stack.or_else(|| DefaultStack::new(1 << 16).ok());
            let stack = stack.unwrap_or_else(|| panic!("no memory for a stack"));
            let me = std::ptr::addr_of_mut!(threads[i]) as usize;
            Some(Coroutine::with_stack(stack, move |yielder, ()| {
                // SAFETY: threads and arguments outlive the fibres; the size of arguments is the kernel's.
                unsafe {
                    (*(me as *mut HostThread)).yielder = yielder;
                    run(arguments as *const c_void);
                }
            }))
        })
        .collect();
    let mut waits: Vec<Option<Wait>> = vec![None; count];
    let mut left = count;
    let turn = |i: usize| match order {
        Order::Forward => i,
        Order::Backward => count - 1 - i,
    };
    while left > 0 {
        for warp in 0..count / 32 {
            // A warp goes on for as long as it waits for nobody but itself.
            loop {
                for i in (warp * 32..warp * 32 + 32).map(turn) {
                    let Some(fibre) = fibres[i].as_mut().filter(|_| waits[i].is_none()) else {
                        continue;
                    };
                    let me = std::ptr::addr_of_mut!(threads[i]);
                    NOW.with(|now| now.set(me));
                    // SAFETY: the thread lives as long as its fibre.
                    unsafe { cloze_host_set(me) };
                    match fibre.resume(()) {
                        CoroutineResult::Yield(wait) => waits[i] = Some(wait),
                        CoroutineResult::Return(()) => {
                            left -= 1;
                            let stack = fibres[i].take().map(Coroutine::into_stack);
                            STACKS.with(|s| s.borrow_mut().extend(stack));
                        }
                    }
                }
                let lanes = turn(warp * 32).min(turn(warp * 32 + 31));
                let lanes = &mut waits[lanes..lanes + 32];
                if !lanes.iter().all(|w| *w == Some(Wait::Warp)) {
                    break;
                }
                lanes.fill(None);
            }
        }
        // All that is left waits: for the whole block, or for what does not come.
        if left > 0 {
            let all = waits.iter().all(|w| *w == Some(Wait::Block));
            let first = waits.iter().position(Option::is_some);
            assert!(
                all,
                "{kernel}, block {block:?}: thread {first:?} waits for threads that do not come: {waits:?}"
            );
            waits.fill(None);
        }
    }
    let beyond = shared
        .iter()
        .flat_map(|line| line.0)
        .skip(grid.shared as usize);
    assert!(
        beyond.into_iter().all(|b| b == GUARD),
        "{kernel}: shared memory was written past its end"
    );
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
