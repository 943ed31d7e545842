//! Text to ids.

use std::cmp::Ordering;
use std::ops::Range;

use crate::normal::{self, Class};
use crate::scan::{self, Isa};
use crate::words::{ID, Ids, MOST_IDS, Words, key};
use crate::{Settings, WordPiece};

/// A token id as it is stored.
pub trait Id: Copy {
    /// The largest id.
    const MOST: u32;
    /// The id, which is not over [`Id::MOST`].
    fn of(id: u32) -> Self;
    /// The id that it is.
    fn id(self) -> u32;
    /// The ids of a run, with what stands above the first of them left out.
    fn all_of(ids: &Ids) -> [Self; MOST_IDS];
}

impl Id for u16 {
    const MOST: u32 = 0xFFFF;

    #[inline(always)]
    fn of(id: u32) -> Self {
        id as Self
    }

    #[inline(always)]
    fn id(self) -> u32 {
        self.into()
    }

    #[inline(always)]
    fn all_of(ids: &Ids) -> [Self; MOST_IDS] {
        #[cfg(target_arch = "x86_64")]
        {
            use core::arch::x86_64::*;
            // SAFETY: four ids are 16 bytes, and every x86-64 processor has these instructions.
            let halves = unsafe {
                let ids = _mm_loadu_si128(ids.as_ptr().cast());
                // The lower halves of the first two to the front, and those of the last two behind them.
                let low = _mm_shufflelo_epi16::<0b10_00>(ids);
                let both = _mm_shufflehi_epi16::<0b10_00>(low);
                _mm_cvtsi128_si64(_mm_shuffle_epi32::<0b10_00>(both)).cast_unsigned()
            };
            [0, 16, 32, 48].map(|bits| (halves >> bits) as Self)
        }
        #[cfg(not(target_arch = "x86_64"))]
        ids.map(|id| id as Self)
    }
}

impl Id for u32 {
    const MOST: u32 = Self::MAX;

    #[inline(always)]
    fn of(id: u32) -> Self {
        id
    }

    #[inline(always)]
    fn id(self) -> u32 {
        self
    }

    #[inline(always)]
    fn all_of(ids: &Ids) -> [Self; MOST_IDS] {
        ids.map(|id| id & ID)
    }
}

/// What a thread works with: runs that it met, what it sees of the text, and a word that is being put together.
#[derive(Debug)]
pub struct Scratch {
    pub(crate) words: Words,
    pub(crate) marks: Box<scan::Marks>,
    word: Vec<u8>,
    chars: usize,
    /// Where parts of a text end.
    ends: Vec<usize>,
}

/// Memory for a [`Scratch`], which the system has to find: where it is asked for large pages, that may take as long as opening a tokenizer.
#[derive(Debug)]
pub struct Room(pub(crate) Words);

impl Room {
    /// Takes it.
    #[must_use]
    pub fn new() -> Self {
        Self(Words::new())
    }
}

impl Default for Room {
    fn default() -> Self {
        Self::new()
    }
}

impl Scratch {
    pub(crate) fn new(words: Words) -> Self {
        Self {
            words,
            marks: Box::default(),
            word: Vec::new(),
            chars: 0,
            ends: Vec::new(),
        }
    }
}

impl WordPiece {
    /// Appends the ids of `text`, without special tokens, to `out`.
    ///
    /// # Panics
    /// Where the vocabulary has ids that `T` cannot hold, or `scratch` is another tokenizer's.
    pub fn encode_into<T: Id>(&self, scratch: &mut Scratch, text: &str, out: &mut Vec<T>) {
        self.scan(scratch, text, &[], out, &mut Vec::new());
    }

    /// As [`WordPiece::encode_into`] for each of `parts` of a text, which come in order, one after another; how many ids `out` holds after each is appended to
    /// `counts`. It costs what one text does, where there is white space between parts or a stop of ASCII ends them.
    ///
    /// # Panics
    /// As [`WordPiece::encode_into`], and where parts overlap or lie in no text.
    pub fn encode_parts_into<T: Id>(
        &self,
        scratch: &mut Scratch,
        text: &str,
        parts: &[Range<usize>],
        out: &mut Vec<T>,
        counts: &mut Vec<u32>,
    ) {
        let mut ends = std::mem::take(&mut scratch.ends);
        let mut rest = parts;
        while let Some(first) = rest.first() {
            // Those that are the same whether what is between is there or not.
            let apart = |pair: &[Range<usize>]| is_apart(text, pair[0].end, pair[1].start);
            let together = 1 + rest.windows(2).take_while(|pair| apart(pair)).count();
            let (group, others) = rest.split_at(together);
            ends.clear();
            ends.extend(group.iter().map(|part| part.end - first.start));
            let end = group[together - 1].end;
            self.scan(scratch, &text[first.start..end], &ends, out, counts);
            rest = others;
        }
        scratch.ends = ends;
    }

    fn scan<T: Id>(
        &self,
        scratch: &mut Scratch,
        text: &str,
        ends: &[usize],
        out: &mut Vec<T>,
        counts: &mut Vec<u32>,
    ) {
        assert!(
            self.most_id <= T::MOST,
            "ids up to {} in {} bytes",
            self.most_id,
            size_of::<T>()
        );
        match self.isa {
            Isa::Scalar => scan::scalar(self, scratch, text, ends, out, counts),
            // SAFETY: an `Isa` is only taken where the processor has it.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { scan::avx2(self, scratch, text, ends, out, counts) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { scan::avx512(self, scratch, text, ends, out, counts) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => unsafe { scan::neon(self, scratch, text, ends, out, counts) },
            #[allow(unreachable_patterns, reason = "of other processors")]
            _ => scan::scalar(self, scratch, text, ends, out, counts),
        }
    }

    /// Appends the ids of a run that is not in the cache, and remembers them if they fit there. `at` is where the scan has it, as it is remembered: the normaliser
    /// makes the same of the run either way.
    #[cold]
    #[inline(never)]
    pub(crate) fn meet<T: Id>(
        &self,
        scratch: &mut Scratch,
        run: &str,
        at: usize,
        out: &mut Vec<T>,
    ) {
        let before = out.len();
        let seen = &scratch.marks.text[at..at + run.len()];
        if is_printable(seen) {
            if run.len() > self.most_chars || !self.trie.matches(seen, out) {
                out.push(T::of(self.unknown));
            }
        } else {
            self.run(scratch, run, out);
        }
        let new = &out[before..];
        if run.len() <= 16 && new.len() <= MOST_IDS {
            let mut ids = [0; MOST_IDS];
            for (to, from) in ids.iter_mut().zip(new) {
                *to = from.id();
            }
            let key = key(&scratch.marks.text[at..at + run.len()]);
            // A run of nothing but zeros has the key that runs have which are too long.
            if key != 0 {
                scratch.words.put(key, &ids[..new.len()]);
            }
        }
    }

    /// Appends the ids of a run: text that ends where a word surely does, at white space or punctuation of ASCII or where all ends.
    pub(crate) fn run<T: Id>(&self, scratch: &mut Scratch, run: &str, out: &mut Vec<T>) {
        let before = out.len();
        scratch.word.clear();
        scratch.chars = 0;
        if is_printable(run.as_bytes()) {
            scratch.chars = run.len();
            if run.len() <= self.most_chars {
                scratch.word.extend_from_slice(run.as_bytes());
                if self.settings.lowercase {
                    scratch.word.make_ascii_lowercase();
                }
            }
            return self.end_word(scratch, out);
        }
        let table = &self.table;
        for c in run.chars() {
            match table.class(c) {
                Class::Same => self.push(scratch, c),
                Class::Gone => {}
                Class::Space => self.end_word(scratch, out),
                Class::Alone => self.alone(scratch, c, out),
                Class::Other(begin, count) => {
                    for piece in table.pieces(c, begin, count) {
                        self.normal(scratch, piece.c, piece.class, out);
                    }
                }
                Class::Ordered => {
                    out.truncate(before);
                    scratch.word.clear();
                    scratch.chars = 0;
                    for c in normal::normalize(run, &self.settings).chars() {
                        self.normal(scratch, c, normal::of_normal(c), out);
                    }
                    break;
                }
            }
        }
        self.end_word(scratch, out);
    }

    /// A normalised character.
    fn normal<T: Id>(&self, scratch: &mut Scratch, c: char, class: Class, out: &mut Vec<T>) {
        match class {
            Class::Space => self.end_word(scratch, out),
            Class::Alone => self.alone(scratch, c, out),
            _ => self.push(scratch, c),
        }
    }

    fn push(&self, scratch: &mut Scratch, c: char) {
        scratch.chars += 1;
        // A longer word is unknown, whatever it is.
        if scratch.chars <= self.most_chars {
            let mut buffer = [0; 4];
            let bytes = c.encode_utf8(&mut buffer).as_bytes();
            scratch.word.extend_from_slice(bytes);
        }
    }

    fn alone<T: Id>(&self, scratch: &mut Scratch, c: char, out: &mut Vec<T>) {
        self.end_word(scratch, out);
        self.push(scratch, c);
        self.end_word(scratch, out);
    }

    fn end_word<T: Id>(&self, scratch: &mut Scratch, out: &mut Vec<T>) {
        if scratch.chars > self.most_chars || !self.trie.matches(&scratch.word, out) {
            out.push(T::of(self.unknown));
        }
        scratch.word.clear();
        scratch.chars = 0;
    }

    /// Keys and ids of the vocabulary's own words, those of low ids first.
    pub(crate) fn known(tokens: &[(&str, u32)], settings: &Settings) -> Vec<(u128, u32)> {
        let runs = tokens.iter().filter(|(t, _)| Self::is_run(t, settings));
        let mut known: Vec<_> = runs.map(|&(t, id)| (key(t.as_bytes()), id)).collect();
        // They mostly are in order.
        known.sort_by_key(|&(_, id)| id);
        known
    }

    /// Whether a token, where text has it, is a run that stays as it is.
    fn is_run(token: &str, settings: &Settings) -> bool {
        let stays =
            |b: &u8| b.is_ascii_alphanumeric() && !(settings.lowercase && b.is_ascii_uppercase());
        match token.as_bytes() {
            [one] if one.is_ascii_punctuation() => true,
            bytes => (1..=16).contains(&bytes.len()) && bytes.iter().all(stays),
        }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }
}

/// Whether no run goes on from `end` to `start`, nor lies between, and what is between means nothing.
fn is_apart(text: &str, end: usize, start: usize) -> bool {
    let bytes = text.as_bytes();
    match end.cmp(&start) {
        Ordering::Less => bytes[end..start].iter().all(|byte| scan::is_space(*byte)),
        Ordering::Equal => [end.wrapping_sub(1), end]
            .iter()
            .any(|&at| bytes.get(at).is_some_and(|b| scan::ends_run(*b))),
        Ordering::Greater => false,
    }
}

/// Whether all bytes are ASCII that the normaliser does no more to than lowercase it.
fn is_printable(bytes: &[u8]) -> bool {
    let strange = |strange, b: &u8| strange | !(0x21..0x7F).contains(b);
    !bytes.iter().fold(false, strange)
}
