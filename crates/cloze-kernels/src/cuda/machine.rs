//! What runs kernels and products: a GPU, or the host in its place.

use crate::Result;

/// A place in the machine's memory, in bytes; 0 is no place.
pub type Address = u64;

/// What activations, and the copies of weights that products read, are kept in: kernels are compiled for one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Single precision.
    F32,
    /// bfloat16; sums are in single precision.
    Bf16,
}

impl Format {
    /// Bytes of a number.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// How many blocks of how many threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Blocks, at most 2³¹ − 1, 65,535 and 65,535.
    pub blocks: [u32; 3],
    /// Threads of a block: a multiple of 32, at most 1,024.
    pub threads: u32,
    /// Bytes of dynamic shared memory.
    pub shared: u32,
}

/// One factor of a product: a row-major matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor {
    /// Of its first element, in the machine's [`Format`].
    pub at: Address,
    /// Elements from one row to the next.
    pub stride: usize,
    /// Whether its transpose is meant.
    pub transposed: bool,
}

/// `C[m, n] = A[m, k] B[k, n]`, sums in single precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// Rows of the result.
    pub m: usize,
    /// Columns of the result.
    pub n: usize,
    /// What is summed over.
    pub k: usize,
    /// `[m, k]`, or `[k, m]` transposed.
    pub a: Factor,
    /// `[k, n]`, or `[n, k]` transposed.
    pub b: Factor,
    /// Where the result goes: row-major, `n` elements a row.
    pub c: Address,
    /// Whether the result is in single precision whatever the machine's format: gradients of weights.
    pub single: bool,
    /// Whether it is added to what is there.
    pub accumulate: bool,
    /// `[n]`, in the machine's format: added to every row. Not with `accumulate`.
    pub bias: Option<Address>,
}

/// Memory, kernels and products, in one order: whatever is asked for comes after all that was asked for before.
pub trait Machine {
    /// What it is, for a person.
    fn describe(&self) -> String;
    /// What all goes to, where libraries of a GPU could use it.
    fn stream(&self) -> Option<u64> {
        None
    }
    /// What its kernels keep activations in.
    fn format(&self) -> Format;
    /// New memory of zeros, aligned to 256 bytes. Forgets recordings.
    fn allocate(&mut self, bytes: usize) -> Result<Address>;
    /// Gives back what `allocate` gave. Forgets recordings.
    fn release(&mut self, at: Address) -> Result<()>;
    /// Copies to the machine. The bytes may change as soon as this returns. Never part of a recording.
    fn write(&mut self, to: Address, bytes: &[u8]) -> Result<()>;
    /// Copies from the machine, when all is done that was asked for. Never part of a recording.
    fn read(&mut self, from: Address, bytes: &mut [u8]) -> Result<()>;
    /// Sets bytes to zero.
    fn zero(&mut self, at: Address, bytes: usize) -> Result<()>;
    /// Runs the kernel of that name. `arguments` is the one structure that it takes, as it lies in memory.
    fn launch(&mut self, kernel: &'static str, grid: Grid, arguments: &[u8]) -> Result<()>;
    /// Multiplies.
    fn product(&mut self, product: &Product) -> Result<()>;
    /// Runs what is recorded under `key` once more, all at once; false where nothing is.
    fn replay(&mut self, key: u64) -> Result<bool>;
    /// Until [`Machine::end`], what is asked for is done, and may be recorded under `key`.
    fn begin(&mut self, key: u64) -> Result<()>;
    /// See [`Machine::begin`]; `whole` where nothing failed in between, or nothing is kept.
    fn end(&mut self, whole: bool) -> Result<()>;
    /// Waits until all is done, and says what failed.
    fn wait(&mut self) -> Result<()>;
}
