//! Products of matrices: `C = A B + βC`, blocked, on all threads, in f32 or with factors rounded to bf16.
//!
//! The method is that of Goto and van de Geijn (*Anatomy of High-Performance Matrix Multiplication*, ACM TOMS 2008): B is packed
//! into panels of `NR` columns, A into panels of `MR` rows, and a small kernel keeps one `MR × NR` tile of C in
//! registers. Work is split over tiles of C only, never over the inner dimension: results do not depend on the number of threads.

mod micro;
#[cfg(target_arch = "x86_64")]
mod micro_x86;
#[cfg(target_arch = "x86_64")]
mod pack_x86;
mod scratch;

use rayon::prelude::*;

use super::isa::{Isa, Precision};
use super::rows::Shared;
use micro::{Micro, Place, Tile};
pub use scratch::Scratch;

/// A matrix where it lies: element `(i, j)` is `data[i · row + j · col]`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// From its first element on.
    pub data: &'a [f32],
    /// Elements from a row to the next.
    pub row: usize,
    /// Elements from a column to the next.
    pub col: usize,
}

impl<'a> Matrix<'a> {
    /// Row after row, `width` elements apart.
    #[must_use]
    pub fn rows(data: &'a [f32], width: usize) -> Self {
        Self {
            data,
            row: width,
            col: 1,
        }
    }

    /// Its transpose.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            data: self.data,
            row: self.col,
            col: self.row,
        }
    }

    /// Whether `rows × cols` elements of it exist.
    fn holds(&self, rows: usize, cols: usize) -> bool {
        let far = |count: usize, step: usize| (count - 1).checked_mul(step);
        let last = || far(rows, self.row)?.checked_add(far(cols, self.col)?);
        rows == 0 || cols == 0 || last().is_some_and(|at| at < self.data.len())
    }
}

/// What happens to a product on its way to C.
#[derive(Clone, Copy, Debug, Default)]
pub struct Finish<'a> {
    /// Adds to what C holds, instead of replacing it.
    pub accumulate: bool,
    /// Multiplies the product; 0 stands for 1.
    pub scale: f32,
    /// Added to each row: `[n]`.
    pub bias: Option<&'a [f32]>,
}

/// Inner dimension of a block: a panel of B of this depth lies in the first cache.
const DEPTH: usize = 400;
/// Elements that a task packs, about.
const PACKED_AT_ONCE: usize = 1 << 14;
/// Rows and columns of C that one task makes, at most: its blocks of A and B lie in the second cache.
const TASK: (usize, usize) = (336, 512);

/// `C[m, n] = A[m, k] B[k, n]`, finished as asked; C's rows lie `ldc` apart.
///
/// # Panics
/// Where a matrix is smaller than it is said to be: that is a mistake of the caller, never of data.
#[allow(clippy::too_many_arguments)]
pub fn product(
    isa: Isa,
    precision: Precision,
    scratch: &Scratch,
    (m, n, k): (usize, usize, usize),
    a: Matrix<'_>,
    b: Matrix<'_>,
    c: &mut [f32],
    ldc: usize,
    finish: Finish<'_>,
) {
    let sizes = (m, n, k);
    assert!(
        m == 0 || n == 0 || (ldc >= n && Matrix::rows(c, ldc).holds(m, n)),
        "C is too small"
    );
    // SAFETY: C holds the rows, and is borrowed by nobody else.
    unsafe {
        choose(
            isa,
            precision,
            Threads::All,
            scratch,
            sizes,
            a,
            b,
            c.as_mut_ptr(),
            ldc,
            finish,
        );
    };
}

/// The kernel for the processor and the precision.
///
/// # Safety
/// `c` must be valid for `m` rows of `n` elements, `ldc` apart, that nobody else looks at.
#[allow(clippy::too_many_arguments)]
unsafe fn choose(
    isa: Isa,
    precision: Precision,
    threads: Threads,
    scratch: &Scratch,
    (m, n, k): (usize, usize, usize),
    a: Matrix<'_>,
    b: Matrix<'_>,
    c: *mut f32,
    ldc: usize,
    finish: Finish<'_>,
) {
    assert!(isa <= Isa::best(), "this processor has no {isa}");
    assert!(a.holds(m, k) && b.holds(k, n), "a factor is too small");
    assert!(
        finish.bias.is_none_or(|b| b.len() >= n),
        "the bias is too short"
    );
    let task = Task {
        threads,
        scratch,
        sizes: (m, n, k),
        a,
        b,
        ldc,
        finish,
    };
    // SAFETY: the caller's; the kernel is one that the processor has, as was checked.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        match (precision, isa) {
            (Precision::Bf16, Isa::Amx) => return run(micro_x86::Amx, task, c),
            (Precision::Bf16, Isa::Avx512Bf16) => return run(micro_x86::Avx512Bf16, task, c),
            (Precision::F32, Isa::Avx2) => return run(micro_x86::Avx2, task, c),
            (Precision::F32, Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx) => {
                return run(micro_x86::Avx512, task, c);
            }
            _ => {}
        }
        match precision {
            Precision::F32 => run(micro::Scalar, task, c),
            Precision::Bf16 => run(micro::ScalarBf16, task, c),
        }
    }
}

/// All of a product but where it goes.
#[derive(Clone, Copy)]
struct Task<'a> {
    threads: Threads,
    scratch: &'a Scratch,
    sizes: (usize, usize, usize),
    a: Matrix<'a>,
    b: Matrix<'a>,
    ldc: usize,
    finish: Finish<'a>,
}

/// As [`product`], on the calling thread alone: for many small products at once, whose rows of C may lie between one another's.
///
/// # Safety
/// `c` must be valid for `m` rows of `n` elements, `ldc` apart, that nobody else looks at.
#[allow(clippy::too_many_arguments)]
pub unsafe fn product_alone(
    isa: Isa,
    precision: Precision,
    scratch: &Scratch,
    sizes: (usize, usize, usize),
    a: Matrix<'_>,
    b: Matrix<'_>,
    c: *mut f32,
    ldc: usize,
    finish: Finish<'_>,
) {
    // SAFETY: the caller's.
    unsafe {
        choose(
            isa,
            precision,
            Threads::One,
            scratch,
            sizes,
            a,
            b,
            c,
            ldc,
            finish,
        );
    };
}

/// Who does the work.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Threads {
    One,
    All,
}

impl Threads {
    fn each(self, count: usize, work: impl Fn(usize) + Sync) {
        match self {
            Self::One => (0..count).for_each(work),
            // A reference, so that what is shared need not be sent.
            Self::All => (0..count).into_par_iter().for_each(&work),
        }
    }
}

/// How a product is cut into blocks.
struct Plan {
    /// Inner dimension of each block but the last, a multiple of the kernel's unit.
    depth: usize,
    /// Blocks of the inner dimension, and its length rounded up to whole units.
    depths: usize,
    k: usize,
    /// Rows and columns of a task.
    rows: usize,
    cols: usize,
}

impl Plan {
    fn new<K: Micro>((m, n, k): (usize, usize, usize), threads: Threads) -> Self {
        let padded = k.next_multiple_of(K::KU);
        let depths = padded.div_ceil(DEPTH * K::DEPTH_FACTOR).max(1);
        let depth = padded.div_ceil(depths).next_multiple_of(K::KU).max(K::KU);
        let enough = match threads {
            Threads::One => 1,
            Threads::All => 3 * rayon::current_num_threads(),
        };
        let (mut rows, mut cols) = TASK;
        // Blocks of about the same size, the last one too.
        rows = m.div_ceil(m.div_ceil(rows)).next_multiple_of(K::MR);
        cols = n.div_ceil(n.div_ceil(cols)).next_multiple_of(K::NR);
        while m.div_ceil(rows) * n.div_ceil(cols) < enough && (rows > 4 * K::MR || cols > 4 * K::NR)
        {
            if rows * K::NR >= cols * K::MR {
                rows = (rows / 2).next_multiple_of(K::MR);
            } else {
                cols = (cols / 2).next_multiple_of(K::NR);
            }
        }
        Self {
            depth,
            depths: padded.div_ceil(depth).max(1),
            k,
            rows,
            cols,
        }
    }

    /// The block `d` of the inner dimension: its first index, how many real ones, and how many with padding to whole units.
    fn block<K: Micro>(&self, d: usize) -> (usize, usize, usize) {
        let first = d * self.depth;
        let real = self.depth.min(self.k.saturating_sub(first));
        (first, real, real.next_multiple_of(K::KU))
    }
}

/// Packs both factors, then makes C tile by tile.
///
/// # Safety
/// As for [`choose`].
unsafe fn run<K: Micro>(kernel: K, task: Task<'_>, c: *mut f32) {
    let Task {
        threads,
        scratch,
        sizes: (m, n, k),
        a,
        b,
        ldc,
        finish,
    } = task;
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        // An empty sum is zero.
        for row in 0..m {
            // SAFETY: the caller's.
            let row = unsafe { std::slice::from_raw_parts_mut(c.add(row * ldc), n) };
            for (j, x) in row.iter_mut().enumerate() {
                let base = if finish.accumulate { *x } else { 0.0 };
                *x = base + finish.bias.map_or(0.0, |b| b[j]);
            }
        }
        return;
    }
    let plan = Plan::new::<K>((m, n, k), threads);
    let depth_all: usize = (0..plan.depths).map(|d| plan.block::<K>(d).2).sum();
    let (a_panels, b_panels) = (m.div_ceil(K::MR), n.div_ceil(K::NR));
    // Panels of B begin on a cache line.
    let a_len = (a_panels * K::MR * depth_all).next_multiple_of(32);
    let b_len = b_panels * K::NR * depth_all;
    let mut space = scratch.take::<K::Packed>(a_len + b_len);
    let (packed_a, packed_b) = space.slice().split_at_mut(a_len);
    // Panels of a block of the inner dimension lie together: [block][panel][depth][MR or NR].
    let pack = |panels: usize, wide: usize, one: &(dyn Fn(usize, usize, usize, usize) + Sync)| {
        let group = (PACKED_AT_ONCE / (wide * plan.depth)).max(1);
        let groups = panels.div_ceil(group);
        threads.each(plan.depths * groups, |task| {
            let (d, g) = (task / groups, task % groups);
            let (first, real, padded) = plan.block::<K>(d);
            let base = first * panels * wide;
            for panel in g * group..((g + 1) * group).min(panels) {
                one(panel, first, real, base + panel * wide * padded);
            }
        });
    };
    let to_a = Shared(packed_a.as_mut_ptr());
    pack(a_panels, K::MR, &|panel, first, real, at| {
        let rows = K::MR.min(m - panel * K::MR);
        let from = &a.data[panel * K::MR * a.row + first * a.col..];
        // SAFETY: `holds` has checked the source; every panel is written by one task, within `a_len`.
        unsafe { kernel.pack_a(from.as_ptr(), a.row, a.col, rows, real, to_a.at(at)) };
    });
    let to_b = Shared(packed_b.as_mut_ptr());
    pack(b_panels, K::NR, &|panel, first, real, at| {
        let cols = K::NR.min(n - panel * K::NR);
        let from = &b.data[panel * K::NR * b.col + first * b.row..];
        // SAFETY: as above.
        unsafe { kernel.pack_b(from.as_ptr(), b.row, b.col, real, cols, to_b.at(at)) };
    });
    let (packed_a, packed_b) = (&*packed_a, &*packed_b);
    let to_c = Shared(c);
    let (across, down) = (n.div_ceil(plan.cols), m.div_ceil(plan.rows));
    threads.each(across * down, |task| {
        let (row0, col0) = ((task / across) * plan.rows, (task % across) * plan.cols);
        let (row1, col1) = ((row0 + plan.rows).min(m), (col0 + plan.cols).min(n));
        let mut tile = Tile::zero();
        kernel.begin();
        for d in 0..plan.depths {
            let (first, _, padded) = plan.block::<K>(d);
            let last = d + 1 == plan.depths;
            for col in (col0..col1).step_by(K::NR) {
                let panel = &packed_b[first * b_panels * K::NR + col / K::NR * K::NR * padded..]
                    [..K::NR * padded];
                for row in (row0..row1).step_by(K::MR) {
                    let rows = K::MR.min(m - row);
                    let from = &packed_a[first * a_panels * K::MR + row / K::MR * K::MR * padded..]
                        [..K::MR * padded];
                    // C is on its way while the tile is made.
                    for i in 0..rows {
                        fetch(to_c.at((row + i) * ldc + col), K::NR);
                    }
                    // SAFETY: both panels were packed above, to this depth.
                    unsafe { kernel.run(padded, from.as_ptr(), panel.as_ptr(), &mut tile) };
                    let cols = K::NR.min(n - col);
                    let place = Place {
                        to: to_c.at(row * ldc + col),
                        ldc,
                        rows,
                        cols,
                        add: d > 0 || finish.accumulate,
                        scale: if finish.scale == 0.0 {
                            1.0
                        } else {
                            finish.scale
                        },
                        bias: finish.bias.filter(|_| last).map(|b| &b[col..col + cols]),
                    };
                    // SAFETY: this task alone writes rows `row0..row1` of columns `col0..col1`, which lie within C.
                    unsafe { kernel.store(&tile, place) };
                }
            }
        }
        kernel.end();
    });
}

/// Asks for `len` numbers before they are needed.
#[inline(always)]
fn fetch(at: *const f32, len: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..len).step_by(16) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(line).cast()) };
    }
    let _ = (at, len);
}

#[cfg(test)]
mod tests;
