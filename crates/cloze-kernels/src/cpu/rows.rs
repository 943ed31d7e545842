//! Work on rows, in parallel, with sums over rows that do not depend on the number of threads.

use rayon::prelude::*;

/// Rows that one task takes: sums over rows are made within a block, then over blocks in order.
pub const BLOCK: usize = 32;

/// A pointer that tasks share; each writes to its own rows.
#[derive(Clone, Copy)]
pub struct Shared<T>(pub *mut T);
// SAFETY: whoever uses it writes to disjoint places.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// A place in it.
    pub fn at(self, offset: usize) -> *mut T {
        self.0.wrapping_add(offset)
    }

    /// `len` elements from `start` on.
    ///
    /// # Safety
    /// They must exist, live as long as `'a`, and be looked at by nobody else.
    #[allow(clippy::mut_from_ref, reason = "the contract")]
    pub unsafe fn part<'a>(self, start: usize, len: usize) -> &'a mut [T] {
        // SAFETY: the caller's.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }
}

/// Runs `work(first row, rows, sums)` on blocks of rows, in parallel, and adds the blocks' `sums` (each `width` wide, zero at first) up in order.
pub fn sum_blocks(
    rows: usize,
    width: usize,
    work: impl Fn(usize, usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    let blocks = rows.div_ceil(BLOCK);
    let mut partial = vec![0f32; blocks * width];
    partial
        .par_chunks_mut(width.max(1))
        .enumerate()
        .for_each(|(block, sums)| {
            let first = block * BLOCK;
            work(first, BLOCK.min(rows - first), sums);
        });
    // Neighbours first, so that errors grow with the logarithm of their number.
    let mut count = blocks;
    while count > 1 {
        let half = count.div_ceil(2);
        let (low, high) = partial.split_at_mut(half * width);
        let pairs = low
            .par_chunks_mut(width)
            .zip(high.par_chunks(width))
            .take(count - half);
        pairs.for_each(|(a, b)| a.iter_mut().zip(b).for_each(|(a, b)| *a += b));
        count = half;
    }
    partial.truncate(width);
    partial.resize(width, 0.0);
    partial
}
