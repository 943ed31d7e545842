//! Where runs begin and end, 64 bytes at a time, and what each of them is.

#[cfg(target_arch = "aarch64")]
mod neon;
mod plain;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
pub(crate) use neon::neon;
pub(crate) use plain::{ends_run, scalar};
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{avx2, avx512};

/// Sets of instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// Those that every processor has.
    Scalar,
    /// AVX2 (x86-64).
    Avx2,
    /// AVX-512 as Ice Lake and Zen 4 have it (x86-64).
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
        #[cfg(target_arch = "x86_64")]
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt");
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                avx2 && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vbmi2")
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

/// Bytes that are looked at before their runs are looked up.
pub(crate) const CHUNK: usize = 2_048;
const BLOCKS: usize = CHUNK / 64;
/// Runs that are looked up together, so that memory answers for many at a time.
pub(crate) const BATCH: usize = 64;

/// Places in a chunk, of which there are no more than bytes, and room for what is written beyond.
pub(crate) type Places = [u16; CHUNK + 64];

/// What is seen of a chunk.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(crate) struct Marks {
    /// The text, lowercased where that is asked for.
    /// There is room for what is read beyond.
    pub text: [u8; CHUNK + 64],
    /// First and last bytes of runs.
    pub starts: Places,
    pub lasts: Places,
    /// Bits of bytes that are in runs, of one block more.
    pub runs: [u64; BLOCKS + 1],
    /// Bits of bytes that are words of their own.
    pub alone: [u64; BLOCKS],
    /// Bits of the first bytes of runs, and how many runs begin in the blocks before.
    pub first: [(u64, usize); BLOCKS],
    /// Keys of runs that are looked up, as two halves, and their slots.
    pub keys: [[u64; 2]; BATCH],
    pub slots: [u32; BATCH],
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            text: [0; CHUNK + 64],
            starts: [0; CHUNK + 64],
            lasts: [0; CHUNK + 64],
            runs: [0; BLOCKS + 1],
            alone: [0; BLOCKS],
            first: [(0, 0); BLOCKS],
            keys: [[0; 2]; BATCH],
            slots: [0; BATCH],
        }
    }
}

/// Whether a byte of ASCII ends words: white space that is kept.
pub(crate) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

impl Marks {
    /// Leaves out the bytes from `stop` on, which are in one run; so many blocks are left.
    #[inline(always)]
    pub fn cut(&mut self, stop: usize) -> usize {
        let blocks = stop.div_ceil(64);
        if !stop.is_multiple_of(64) {
            self.runs[stop / 64] &= (1 << (stop % 64)) - 1;
        }
        self.runs[blocks] = 0;
        blocks
    }

    /// How many runs begin before place `at` of what is left of the chunk, which ends at `stop`; no number of runs where that is not before it.
    #[inline(always)]
    pub fn runs_before(&self, at: usize, stop: usize) -> usize {
        if at >= stop {
            return usize::MAX;
        }
        let (bits, before) = self.first[at / 64 % BLOCKS];
        before + (bits & ((1 << (at % 64)) - 1)).count_ones() as usize
    }

    /// The end of the last byte of the first `end` that is in no run; `None` where all are in one.
    #[inline(always)]
    pub fn last_gap(&self, end: usize) -> Option<usize> {
        let blocks = end.div_ceil(64);
        (0..blocks).rev().find_map(|block| {
            let here = if end - 64 * block < 64 {
                (1u64 << (end - 64 * block)) - 1
            } else {
                !0
            };
            let gaps = !self.runs[block] & here;
            (gaps != 0).then(|| 64 * block + 64 - gaps.leading_zeros() as usize)
        })
    }
}

/// Puts the places of `bits`, counted from `base`, after the first `count` places; how many there are then.
#[inline(always)]
pub(crate) fn append(places: &mut Places, count: usize, mut bits: u64, base: u16) -> usize {
    let end = count + bits.count_ones() as usize;
    let mut at = count;
    // Eight at a time: what is too many is written over.
    while at < end {
        for place in &mut places[at & (CHUNK - 1)..][..8] {
            *place = base.wrapping_add(bits.trailing_zeros() as u16);
            bits &= bits.wrapping_sub(1);
        }
        at += 8;
    }
    end
}

/// A value for each length of a run, less one, and one for all runs of more than 16 bytes.
#[repr(align(16))]
pub(crate) struct ByLength(pub [[u64; 2]; 17]);

/// What of 16 bytes is a key: nothing of a run that is too long, for which nothing is remembered.
pub(crate) static KEPT: ByLength = {
    let mut keys = [[0; 2]; 17];
    let mut bytes = 1;
    while bytes <= 16 {
        let mask = u128::MAX >> (8 * (16 - bytes));
        keys[bytes - 1] = [mask as u64, (mask >> 64) as u64];
        bytes += 1;
    }
    ByLength(keys)
};

/// Defines how text is taken apart with one set of instructions. `$masks` copies up to 64 bytes, lowercased if asked, and gives the bits of those that are in runs and those that are words of
/// their own; `$append` is [`append`]; `$ask` is [`plain::ask`]; `$find` finds the ids of a key in its set. At each of `ends`, ascending places of the text that lie in no run, how many ids `out` holds
/// is put into `counts`.
macro_rules! engine {
    ($(#[$attribute:meta])* { $($head:tt)* }, $masks:expr, $append:expr, $ask:expr, $find:expr) => {
        $(#[$attribute])*
        $($head)*<T: $crate::Id>(
            tokenizer: &$crate::WordPiece,
            scratch: &mut $crate::Scratch,
            text: &str,
            ends: &[usize],
            out: &mut Vec<T>,
            counts: &mut Vec<u32>,
        ) {
            use $crate::scan::{BATCH, CHUNK};
            use $crate::words::{COUNT, MOST_IDS};
            let bytes = text.as_bytes();
            let lowercase = tokenizer.settings().lowercase;
            let mut begin = 0;
            // Ends that are not reached, the next first.
            let mut ends = ends.iter();
            let mut next = ends.next();
            while begin < bytes.len() {
                let end = (begin + CHUNK).min(bytes.len());
                let marks = &mut *scratch.marks;
                for (block, bytes) in bytes[begin..end].chunks(64).enumerate() {
                    let Some(copy) = marks.text[64 * block..].first_chunk_mut() else { break };
                    (marks.runs[block], marks.alone[block]) = $masks(bytes, copy, lowercase);
                }
                let mut stop = end - begin;
                if end < bytes.len() {
                    match marks.last_gap(stop) {
                        Some(gap) => stop = gap,
                        None => {
                            while let Some(&end) = next && end <= begin {
                                counts.push(out.len() as u32);
                                next = ends.next();
                            }
                            // A run that is longer than a chunk.
                            let rest = bytes[end..].iter().position(|b| $crate::scan::plain::ends_run(*b));
                            let run_end = rest.map_or(bytes.len(), |n| end + n);
                            tokenizer.run(scratch, &text[begin..run_end], out);
                            begin = run_end;
                            continue;
                        }
                    }
                }
                let (mut count, mut ended, mut before) = (0, 0, 0);
                for block in 0..marks.cut(stop) {
                    let (runs, alone, after) = (marks.runs[block], marks.alone[block], marks.runs[block + 1]);
                    let base = (64 * block) as u16;
                    let first = runs & !(runs << 1 | before >> 63) | alone;
                    marks.first[block] = (first, count);
                    count = $append(&mut marks.starts, count, first, base);
                    ended = $append(&mut marks.lasts, ended, runs & !(runs >> 1 | after << 63) | alone, base);
                    before = runs;
                }
                debug_assert_eq!(count, ended);
                out.reserve(MOST_IDS * count);
                let mut len = out.len();
                let reach = |marks: &$crate::scan::Marks, next: Option<&usize>| {
                    next.map_or(usize::MAX, |next| marks.runs_before(next.saturating_sub(begin), stop))
                };
                let mut until = reach(&scratch.marks, next);
                // How many ids there are before each run of a batch.
                let mut lens = [0; BATCH];
                for first in (0..count).step_by(BATCH) {
                    let end = (first + BATCH).min(count);
                    $ask(&mut scratch.marks, &scratch.words, first, end);
                    let asked = (end - first).min(BATCH);
                    let mut at = 0;
                    while at < asked {
                        let (marks, words) = (&*scratch.marks, &scratch.words);
                        let ids = out.as_mut_ptr();
                        while at < asked {
                            lens[at] = len as u32;
                            let Some(found) = $find(words.set(marks.slots[at]), &marks.keys[at]) else { break };
                            let four = T::all_of(found);
                            // SAFETY: beyond `len` there is room for four ids for this run and each after it.
                            unsafe { ids.add(len).cast::<[T; MOST_IDS]>().write_unaligned(four) };
                            len += (found[0] >> COUNT) as usize;
                            at += 1;
                        }
                        if at == asked {
                            break;
                        }
                        let i = first + at;
                        let start = usize::from(scratch.marks.starts[i & (CHUNK - 1)]);
                        let last = usize::from(scratch.marks.lasts[i & (CHUNK - 1)]);
                        // SAFETY: so many were written.
                        unsafe { out.set_len(len) };
                        tokenizer.meet(scratch, &text[begin + start..=begin + last], start, out);
                        out.reserve(MOST_IDS * (count - i));
                        len = out.len();
                        at += 1;
                    }
                    while until < first + asked {
                        counts.push(lens[until - first]);
                        next = ends.next();
                        until = reach(&scratch.marks, next);
                    }
                }
                // SAFETY: so many were written.
                unsafe { out.set_len(len) };
                // Those behind the last run.
                while until < usize::MAX {
                    counts.push(len as u32);
                    next = ends.next();
                    until = reach(&scratch.marks, next);
                }
                begin += stop;
            }
            counts.extend(next.into_iter().chain(ends).map(|_| out.len() as u32));
        }
    };
}
pub(crate) use engine;
