//! Memory for packed factors, kept between products.

use std::sync::Mutex;

/// Buffers that were used before, aligned to 64 bytes; a product takes one and gives it back.
#[derive(Debug, Default)]
pub struct Scratch {
    free: Mutex<Vec<Vec<Line>>>,
}

/// One cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
struct Line([u32; 16]);

/// Types of which any bits are a value.
///
/// # Safety
/// The type has no invalid bit pattern, and its alignment is at most 64.
pub unsafe trait Plain: Copy + Send + Sync {}
// SAFETY: plain numbers.
unsafe impl Plain for f32 {}
// SAFETY: as above.
unsafe impl Plain for u16 {}

/// A buffer on loan.
pub struct Space<'a, T> {
    scratch: &'a Scratch,
    lines: Vec<Line>,
    len: usize,
    kind: std::marker::PhantomData<T>,
}

impl Scratch {
    /// Room for `len` elements, of any content.
    pub(crate) fn take<T: Plain>(&self, len: usize) -> Space<'_, T> {
        let lines = (len * size_of::<T>()).div_ceil(size_of::<Line>());
        let mut free = self.free.lock().unwrap_or_else(|e| e.into_inner());
        // The smallest that suffices; otherwise the largest grows.
        let fits = |v: &&(usize, usize)| v.1 >= lines;
        let sizes: Vec<(usize, usize)> = free.iter().map(Vec::len).enumerate().collect();
        let best = sizes.iter().filter(fits).min_by_key(|v| v.1);
        let pick = best
            .or_else(|| sizes.iter().max_by_key(|v| v.1))
            .map(|v| v.0);
        let mut buffer = pick.map(|i| free.swap_remove(i)).unwrap_or_default();
        drop(free);
        if buffer.len() < lines {
            buffer.resize(lines, Line::default());
        }
        Space {
            scratch: self,
            lines: buffer,
            len,
            kind: std::marker::PhantomData,
        }
    }
}

impl<T: Plain> Space<'_, T> {
    /// The elements.
    pub(crate) fn slice(&mut self) -> &mut [T] {
        // SAFETY: the lines hold at least `len` elements of a plain type, suitably aligned, and are borrowed for as long.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl<T> Drop for Space<'_, T> {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        let mut free = self.scratch.free.lock().unwrap_or_else(|e| e.into_inner());
        free.push(lines);
    }
}
