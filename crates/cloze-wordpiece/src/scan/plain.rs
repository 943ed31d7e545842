//! Byte by byte.

use super::{engine, is_space};
use crate::words;

/// Whether a byte ends a run, which is what may be one word: white space or punctuation of ASCII.
pub(crate) fn ends_run(byte: u8) -> bool {
    is_space(byte) || byte.is_ascii_punctuation()
}

fn masks(block: &[u8; 64]) -> (u64, u64) {
    let (mut words, mut alone) = (0, 0);
    for (i, &byte) in block.iter().enumerate() {
        let punctuation = byte.is_ascii_punctuation();
        alone |= u64::from(punctuation) << i;
        words |= u64::from(!punctuation && !is_space(byte)) << i;
    }
    (words, alone)
}

/// The key of the word of `len` bytes, at most 16, from `start`; and whether it is of printable ASCII.
#[inline(always)]
pub(crate) fn key(bytes: &[u8], start: usize, len: usize, lowercase: bool) -> (u128, bool) {
    let word = &bytes[start..start + len];
    let plain = word.iter().all(|b| (0x21..0x7F).contains(b));
    if !lowercase {
        return (words::key(word), plain);
    }
    let mut lower = [0; 16];
    for (to, from) in lower.iter_mut().zip(word) {
        *to = from.to_ascii_lowercase();
    }
    (u128::from_le_bytes(lower), plain)
}

engine!({ pub(crate) fn scalar }, masks, key);
