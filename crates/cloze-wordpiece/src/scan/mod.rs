//! Where words begin and end, 64 bytes at a time.

#[cfg(target_arch = "aarch64")]
mod neon;
mod plain;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
pub(crate) use neon::neon;
pub(crate) use plain::scalar;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{avx2, avx512};

/// Sets of instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// Those that every processor has.
    Scalar,
    /// AVX2 (x86-64).
    Avx2,
    /// AVX-512 with byte instructions (x86-64).
    Avx512,
    /// NEON (AArch64).
    Neon,
}

impl Isa {
    /// All of them, the widest first.
    pub const ALL: [Self; 4] = [Self::Avx512, Self::Avx2, Self::Neon, Self::Scalar];

    /// Whether this processor has it.
    #[must_use]
    pub fn is_there(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi1"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("bmi1")
            }
            #[cfg(target_arch = "aarch64")]
            Self::Neon => true,
            #[allow(unreachable_patterns, reason = "of other processors")]
            _ => false,
        }
    }

    /// The widest that this processor has.
    #[must_use]
    pub fn best() -> Self {
        let there = Self::ALL.into_iter().find(|isa| isa.is_there());
        there.unwrap_or(Self::Scalar)
    }
}

/// Bytes that are looked at before their words are looked up.
pub(crate) const CHUNK: usize = 2_048;
const BLOCKS: usize = CHUNK / 64;

/// What was seen of a chunk.
#[derive(Clone, Debug)]
pub(crate) struct Marks {
    /// Bits of bytes that are in words.
    pub words: [u64; BLOCKS],
    /// Bits of bytes that are words of their own.
    pub alone: [u64; BLOCKS],
    /// First and last bytes of words.
    pub starts: [u16; CHUNK],
    pub lasts: [u16; CHUNK],
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            words: [0; BLOCKS],
            alone: [0; BLOCKS],
            starts: [0; CHUNK],
            lasts: [0; CHUNK],
        }
    }
}

/// Whether a byte of ASCII ends words: white space that is kept.
#[inline(always)]
pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

impl Marks {
    /// Takes the words out of `blocks` blocks, of which bytes from `stop` on are left out; how many there are.
    #[inline(always)]
    pub fn flatten(&mut self, blocks: usize, stop: usize) -> usize {
        if !stop.is_multiple_of(64) {
            self.words[stop / 64] &= (1 << (stop % 64)) - 1;
        }
        for block in stop.div_ceil(64)..blocks {
            self.words[block] = 0;
        }
        let (mut count, mut ended, mut before) = (0, 0, 0u64);
        for block in 0..blocks {
            let (words, alone) = (self.words[block], self.alone[block]);
            let after = if block + 1 < blocks {
                self.words[block + 1]
            } else {
                0
            };
            let mut starts = words & !(words << 1 | before >> 63) | alone;
            let mut lasts = words & !(words >> 1 | after << 63) | alone;
            before = words;
            let base = (64 * block) as u16;
            while starts != 0 {
                // There are no more words than bytes.
                self.starts[count & (CHUNK - 1)] = base + starts.trailing_zeros() as u16;
                starts &= starts - 1;
                count += 1;
            }
            while lasts != 0 {
                self.lasts[ended & (CHUNK - 1)] = base + lasts.trailing_zeros() as u16;
                lasts &= lasts - 1;
                ended += 1;
            }
        }
        debug_assert_eq!(count, ended);
        count
    }

    /// The end of the last byte of the first `end` bytes that is in no word; `None` where all are in one.
    #[inline(always)]
    pub fn last_gap(&self, end: usize) -> Option<usize> {
        let blocks = end.div_ceil(64);
        (0..blocks).rev().find_map(|block| {
            let here = if end - 64 * block < 64 {
                (1u64 << (end - 64 * block)) - 1
            } else {
                !0
            };
            let gaps = !self.words[block] & here;
            (gaps != 0).then(|| 64 * block + 64 - gaps.leading_zeros() as usize)
        })
    }
}

/// Defines how text is taken apart with one set of instructions. `$masks` gives the bits of 64 bytes, `$key` the key of a word of at most 16 bytes, and whether it is of
/// ASCII that needs no more than lowercasing.
macro_rules! engine {
    ($(#[$attribute:meta])* { $($head:tt)* }, $masks:expr, $key:expr) => {
        $(#[$attribute])*
        $($head)*<T: $crate::Id>(
            tokenizer: &$crate::WordPiece,
            scratch: &mut $crate::Scratch,
            text: &str,
            out: &mut Vec<T>,
        ) {
            use $crate::scan::CHUNK;
            use $crate::words::Words;
            let bytes = text.as_bytes();
            let lowercase = tokenizer.settings().lowercase;
            let mut begin = 0;
            while begin < bytes.len() {
                let end = (begin + CHUNK).min(bytes.len());
                let blocks = (end - begin).div_ceil(64);
                for block in 0..blocks {
                    let at = begin + 64 * block;
                    let (words, alone) = match bytes[at..].first_chunk::<64>() {
                        Some(whole) => $masks(whole),
                        None => {
                            let mut padded = [b' '; 64];
                            padded[..bytes.len() - at].copy_from_slice(&bytes[at..]);
                            $masks(&padded)
                        }
                    };
                    scratch.marks.words[block] = words;
                    scratch.marks.alone[block] = alone;
                }
                let mut stop = end - begin;
                if end < bytes.len() {
                    match scratch.marks.last_gap(stop) {
                        Some(gap) => stop = gap,
                        None => {
                            // A run that is longer than a chunk.
                            let rest = bytes[end..].iter().position(|b| $crate::scan::plain::ends_run(*b));
                            let run_end = rest.map_or(bytes.len(), |n| end + n);
                            tokenizer.run(scratch, &text[begin..run_end], out);
                            begin = run_end;
                            continue;
                        }
                    }
                }
                let count = scratch.marks.flatten(blocks, stop);
                // A word has no more tokens than bytes.
                out.reserve(stop);
                for i in 0..count {
                    let start = begin + usize::from(scratch.marks.starts[i & (CHUNK - 1)]);
                    let last = begin + usize::from(scratch.marks.lasts[i & (CHUNK - 1)]);
                    if last - start < 16 {
                        let (key, plain) = $key(bytes, start, last - start + 1, lowercase);
                        if plain {
                            let value = match scratch.words.get(key) {
                                Some(value) => value,
                                None => tokenizer.learn(&mut scratch.words, key),
                            };
                            if Words::is_one(value) {
                                out.push(T::of(value));
                            } else {
                                out.extend(scratch.words.several(value).iter().map(|id| T::of(*id)));
                            }
                            continue;
                        }
                    }
                    tokenizer.run(scratch, &text[start..=last], out);
                }
                begin += stop;
            }
        }
    };
}
pub(crate) use engine;
