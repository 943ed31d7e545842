//! Where a sentence may end: a bit for each byte of a text, found in vectors.
//!
//! A bit says that rules must look at that place. Most stops are inside of numbers, names of files and addresses: they are
//! followed by a letter or digit and have no bit, so that rules cost nothing there.

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::OnceLock;

/// Bytes of a block: one word of bits.
pub(crate) const BLOCK: usize = 64;

/// Bytes after a block that decide about its last ones.
pub(crate) const BEYOND: usize = 2;

/// A byte that no text holds: given for a stop that a language does not have.
pub(crate) const NO_STOP: u8 = 0xff;

/// The sets of instructions that the search is written for. All find the same places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Anything: byte by byte.
    Scalar,
    /// 64-bit ARM.
    Neon,
    /// x86-64 with AVX2.
    Avx2,
    /// x86-64 with AVX-512 F and BW.
    Avx512,
}

impl Isa {
    /// Every set, the plainest first.
    pub const ALL: [Self; 4] = [Self::Scalar, Self::Neon, Self::Avx2, Self::Avx512];

    /// Whether this processor has the set.
    #[must_use]
    pub fn available(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
            }
            #[allow(unreachable_patterns, reason = "sets of other architectures")]
            _ => false,
        }
    }

    /// The best set that this processor has.
    #[must_use]
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| {
            let mut sets = Self::ALL.into_iter().rev();
            sets.find(|isa| isa.available()).unwrap_or(Self::Scalar)
        })
    }
}

impl std::fmt::Display for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Scalar => "scalar",
            Self::Neon => "NEON",
            Self::Avx2 => "AVX2",
            Self::Avx512 => "AVX-512",
        })
    }
}

/// Whether rules must look at a byte that is followed by `next` and `then`; zeros follow a text.
///
/// This is the definition; the vectors are tested against it.
#[inline]
pub(crate) fn wanted(byte: u8, next: u8, then: u8, stop: u8) -> bool {
    match byte {
        b'.' | b'!' | b'?' => !matches!(next, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'!' | b'?'),
        b'\n' => true,
        // "1) first": rules look for the items of a list here.
        b'0'..=b'9' => next == b')',
        // Bullets, ellipsis, double stops, paragraph separator; no quotation mark or dash.
        0xe2 => (next == 0x80 && then >= 0xa2) || matches!(next, 0x81 | 0x96 | 0x97),
        // "。"
        0xe3 => next == 0x80 && then == 0x82,
        // "！", "．", "？", "｡"
        0xef => matches!(next, 0xbc | 0xbd) && matches!(then, 0x81 | 0x8e | 0x9f | 0xa1),
        _ => byte == stop && next <= b' ',
    }
}

/// Sets `out` to the bits of the text from `from`, a word for each block. Returns how many words there are.
///
/// Besides the stops that all languages share, `stop` is one where white space follows.
pub(crate) fn find(isa: Isa, text: &[u8], from: usize, stop: u8, out: &mut [u64]) -> usize {
    let rest = &text[from..];
    let blocks = rest.len().div_ceil(BLOCK).min(out.len());
    // Whole blocks with what follows them; the rest goes through a buffer with zeros behind.
    let whole = blocks.min(rest.len().saturating_sub(BEYOND) / BLOCK);
    search(isa, rest, stop, &mut out[..whole]);
    for (block, word) in out[..blocks].iter_mut().enumerate().skip(whole) {
        let mut padded = [0; BLOCK + BEYOND];
        let tail = &rest[block * BLOCK..rest.len().min((block + 1) * BLOCK + BEYOND)];
        padded[..tail.len()].copy_from_slice(tail);
        search(isa, &padded, stop, std::slice::from_mut(word));
    }
    blocks
}

fn search(isa: Isa, bytes: &[u8], stop: u8, out: &mut [u64]) {
    assert!(out.is_empty() || bytes.len() >= out.len() * BLOCK + BEYOND);
    debug_assert!(isa.available());
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has AVX-512 F and BW (`available`), and there are enough bytes (above).
        Isa::Avx512 => unsafe { x86::avx512(bytes, stop, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has AVX2 (`available`), and there are enough bytes (above).
        Isa::Avx2 => unsafe { x86::avx2(bytes, stop, out) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: 64-bit ARM has NEON, and there are enough bytes (above).
        Isa::Neon => unsafe { neon::neon(bytes, stop, out) },
        _ => scalar(bytes, stop, out),
    }
}

fn scalar(bytes: &[u8], stop: u8, out: &mut [u64]) {
    for (block, word) in out.iter_mut().enumerate() {
        let bytes = &bytes[block * BLOCK..][..BLOCK + BEYOND];
        *word = 0;
        for (bit, b) in bytes.windows(1 + BEYOND).enumerate() {
            *word |= u64::from(wanted(b[0], b[1], b[2], stop)) << bit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(text: &[u8], stop: u8) -> Vec<usize> {
        let at = |i: usize| text.get(i).copied().unwrap_or(0);
        (0..text.len())
            .filter(|&i| wanted(at(i), at(i + 1), at(i + 2), stop))
            .collect()
    }

    fn found(isa: Isa, text: &[u8], stop: u8, words: usize) -> Vec<usize> {
        let (mut places, mut from, mut out) = (vec![], 0, vec![!0; words]);
        while from < text.len() {
            let n = find(isa, text, from, stop, &mut out);
            for (block, word) in out[..n].iter().enumerate() {
                let bits = (0..BLOCK).filter(|bit| word >> bit & 1 == 1);
                places.extend(bits.map(|bit| from + block * BLOCK + bit));
            }
            from += n * BLOCK;
        }
        places
    }

    fn check(text: &[u8]) {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            for stop in [NO_STOP, b';'] {
                for words in [1, 3] {
                    assert_eq!(
                        found(isa, text, stop, words),
                        naive(text, stop),
                        "{isa} {words}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_pair_and_triple_is_judged_alike() {
        for first in 0..=255u8 {
            let mut text = vec![];
            for next in 0..=255u8 {
                text.extend([first, next]);
            }
            check(&text);
        }
        for first in [0xe2, 0xe3, 0xef] {
            for next in [
                0x7f, 0x80, 0x81, 0x82, 0x95, 0x96, 0x97, 0x98, 0xbb, 0xbc, 0xbd, 0xbe,
            ] {
                let triples = (0..=255).flat_map(|then| [first, next, then]);
                check(&triples.collect::<Vec<_>>());
            }
        }
    }

    proptest! {
        #[test]
        fn vectors_find_what_the_definition_says(
            text in prop::collection::vec(prop::sample::select(b".!?\n19)a zA;\x00\xe2\x80\xa2\xa6\x96\xe3\x82\xef\xbc\xbd\x8e\xa1".to_vec()), 0..400)
        ) {
            check(&text);
        }
    }
}
