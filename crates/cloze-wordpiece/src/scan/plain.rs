//! Byte by byte.

use super::{BATCH, CHUNK, KEPT, Marks, append, engine, is_space};
use crate::words::{Ids, Set, Words};

/// Whether a byte ends a run: white space or punctuation of ASCII.
pub(crate) const fn ends_run(byte: u8) -> bool {
    is_space(byte) || byte.is_ascii_punctuation()
}

/// What each byte is: 1 in a run, 2 a word of its own.
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match (byte as u8).is_ascii_punctuation() {
            true => 2,
            false => !is_space(byte as u8) as u8,
        };
        byte += 1;
    }
    classes
};

pub(crate) fn masks(bytes: &[u8], copy: &mut [u8; 64], lowercase: bool) -> (u64, u64) {
    let copy = &mut copy[..bytes.len()];
    copy.copy_from_slice(bytes);
    if lowercase {
        copy.make_ascii_lowercase();
    }
    let (mut runs, mut alone) = (0, 0);
    for (i, &byte) in bytes.iter().enumerate() {
        let class = u64::from(CLASSES[usize::from(byte)]);
        runs |= (class & 1) << i;
        alone |= (class >> 1) << i;
    }
    (runs, alone)
}

#[inline(always)]
pub(crate) fn find<'a>(set: &'a Set, [low, high]: &[u64; 2]) -> Option<&'a Ids> {
    let key = u128::from(*low) | u128::from(*high) << 64;
    let way = usize::from(set.keys[1] == key);
    (set.keys[way] == key).then_some(&set.ids[way])
}

/// Makes the keys of the runs from `first` to before `end`, at most [`BATCH`] of them, and sends for their sets.
#[inline(always)]
pub(crate) fn ask(marks: &mut Marks, words: &Words, first: usize, end: usize) {
    for i in first..end {
        let start = usize::from(marks.starts[i & (CHUNK - 1)]) & (CHUNK - 1);
        let last = usize::from(marks.lasts[i & (CHUNK - 1)]);
        let length = last.wrapping_sub(start).min(16);
        let half = |at: usize| {
            let bytes = marks.text[start + at..].first_chunk();
            u64::from_le_bytes(*bytes.unwrap_or(&[0; 8]))
        };
        let kept = &KEPT.0[length];
        let key = [half(0) & kept[0], half(8) & kept[1]];
        let slot = Words::slot(key);
        words.prefetch(slot);
        marks.keys[i & (BATCH - 1)] = key;
        marks.slots[i & (BATCH - 1)] = slot;
    }
}

engine!({ pub(crate) fn scalar }, masks, append, ask, find);
