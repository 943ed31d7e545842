//! Memory that views name.

use crate::ops::{Kind, View};
use crate::{Error, Result};

/// One cache line of 32-bit elements.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
struct Line([u32; 16]);

/// Buffers that live as long as the device.
#[derive(Debug, Default)]
pub struct Memory {
    buffers: Vec<Vec<Line>>,
}

/// What one operation looks at: integers, numbers that it reads, numbers that it writes.
pub type Opened<'a, const N: usize, const R: usize, const W: usize> =
    ([&'a [u32]; N], [&'a [f32]; R], [&'a mut [f32]; W]);

impl Memory {
    pub fn allocate(&mut self, kind: Kind, len: usize) -> Result<View> {
        let mut lines = Vec::new();
        let count = len.div_ceil(16);
        lines
            .try_reserve_exact(count)
            .map_err(|_| Error::NoMemory { len })?;
        lines.resize(count, Line::default());
        self.buffers.push(lines);
        Ok(View {
            buffer: self.buffers.len() as u32 - 1,
            start: 0,
            len,
            kind,
        })
    }

    pub fn release(&mut self, view: View) {
        self.buffers[view.buffer as usize] = Vec::new();
    }

    /// The elements behind some views. What is written overlaps nothing else.
    ///
    /// # Panics
    /// Where it would, or where a view is of another device or kind: a mistake in the program, never in data.
    pub fn open<const N: usize, const R: usize, const W: usize>(
        &mut self,
        words: [View; N],
        reads: [View; R],
        writes: [View; W],
    ) -> Opened<'_, N, R, W> {
        let overlap = |a: &View, b: &View| {
            a.buffer == b.buffer
                && a.len > 0
                && b.len > 0
                && a.start < b.start + b.len
                && b.start < a.start + a.len
        };
        for (i, w) in writes.iter().enumerate() {
            let others = words.iter().chain(&reads).chain(&writes[..i]);
            assert!(
                !others.into_iter().any(|o| overlap(w, o)),
                "{w:?} is written, and looked at otherwise"
            );
        }
        assert!(
            words.iter().all(|v| v.kind == Kind::Word),
            "integers are asked for"
        );
        let floats = |v: &&View| v.kind == Kind::Word;
        assert!(
            !reads.iter().chain(&writes).any(|v| floats(&v)),
            "numbers are asked for"
        );
        let mut at = |v: View| -> *mut u32 {
            let buffer = &mut self.buffers[v.buffer as usize];
            assert!(
                v.start + v.len <= buffer.len() * 16,
                "{v:?} is of another device"
            );
            buffer.as_mut_ptr().cast::<u32>().wrapping_add(v.start)
        };
        // SAFETY: every place lies in a buffer that lives as long as `self` is borrowed, any bits are a number of either type,
        // and what is written is apart from everything else, as was checked.
        unsafe {
            (
                words.map(|v| std::slice::from_raw_parts(at(v), v.len)),
                reads.map(|v| std::slice::from_raw_parts(at(v).cast::<f32>(), v.len)),
                writes.map(|v| std::slice::from_raw_parts_mut(at(v).cast::<f32>(), v.len)),
            )
        }
    }

    /// As [`Memory::open`], of integers alone.
    pub fn open_words<const R: usize, const W: usize>(
        &mut self,
        reads: [View; R],
        writes: [View; W],
    ) -> ([&[u32]; R], [&mut [u32]; W]) {
        // The same bits, looked at as numbers: what `open` checks is what must hold here.
        assert!(
            writes.iter().all(|v| v.kind == Kind::Word),
            "integers are asked for"
        );
        let floats = writes.map(|v| View {
            kind: Kind::Float,
            ..v
        });
        let (words, _, floats) = self.open(reads, [], floats);
        // SAFETY: a number of 32 bits is an integer of 32 bits, of the same size and alignment, and stays borrowed as it was.
        let turned = |f: &mut [f32]| unsafe {
            std::slice::from_raw_parts_mut(f.as_mut_ptr().cast::<u32>(), f.len())
        };
        (words, floats.map(turned))
    }

    /// Integers, to be written.
    pub fn words_mut(&mut self, view: View) -> &mut [u32] {
        assert!(view.kind == Kind::Word, "integers are asked for");
        let buffer = &mut self.buffers[view.buffer as usize];
        assert!(
            view.start + view.len <= buffer.len() * 16,
            "{view:?} is of another device"
        );
        // SAFETY: as in `open`.
        unsafe {
            std::slice::from_raw_parts_mut(
                buffer.as_mut_ptr().cast::<u32>().add(view.start),
                view.len,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "looked at otherwise")]
    fn what_is_written_overlaps_nothing() {
        let mut memory = Memory::default();
        let all = memory.allocate(Kind::Float, 10).unwrap();
        let _ = memory.open([], [all.part(0, 5)], [all.part(4, 5)]);
    }

    #[test]
    fn neighbours_are_apart() {
        let mut memory = Memory::default();
        let all = memory.allocate(Kind::Float, 10).unwrap();
        let (_, [a], [b]) = memory.open([], [all.part(0, 5)], [all.part(5, 5)]);
        assert_eq!((a.len(), b.len()), (5, 5));
        b.fill(1.0);
        assert_eq!(a, [0.0; 5]);
    }
}
