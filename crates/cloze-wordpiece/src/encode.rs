//! Text to ids.

use crate::normal::{self, Class};
use crate::scan::{self, Isa};
use crate::words::{Words, key};
use crate::{Settings, WordPiece};

/// A token id as it is stored.
pub trait Id: Copy {
    /// The largest id.
    const MOST: u32;
    /// The id, which is not over [`Id::MOST`].
    fn of(id: u32) -> Self;
}

impl Id for u16 {
    const MOST: u32 = 0xFFFF;

    #[inline(always)]
    fn of(id: u32) -> Self {
        id as Self
    }
}

impl Id for u32 {
    const MOST: u32 = Self::MAX;

    #[inline(always)]
    fn of(id: u32) -> Self {
        id
    }
}

/// What a thread works with: words that it met, and a word that is being put together.
#[derive(Clone, Debug)]
pub struct Scratch {
    pub(crate) words: Words,
    word: Vec<u8>,
    chars: usize,
    ids: Vec<u32>,
    pub(crate) marks: Box<scan::Marks>,
}

impl Scratch {
    pub(crate) fn new(words: Words) -> Self {
        Self {
            words,
            word: Vec::new(),
            chars: 0,
            ids: Vec::new(),
            marks: Box::default(),
        }
    }
}

impl WordPiece {
    /// Appends the ids of `text`, without special tokens, to `out`.
    ///
    /// # Panics
    /// Where the vocabulary has ids that `T` cannot hold, or `scratch` is another tokenizer's.
    pub fn encode_into<T: Id>(&self, scratch: &mut Scratch, text: &str, out: &mut Vec<T>) {
        assert!(
            self.most_id <= T::MOST,
            "ids up to {} in {} bytes",
            self.most_id,
            size_of::<T>()
        );
        match self.isa {
            Isa::Scalar => scan::scalar(self, scratch, text, out),
            // SAFETY: an `Isa` is only taken where the processor has it.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { scan::avx2(self, scratch, text, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { scan::avx512(self, scratch, text, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => unsafe { scan::neon(self, scratch, text, out) },
            #[allow(unreachable_patterns, reason = "of other processors")]
            _ => scan::scalar(self, scratch, text, out),
        }
    }

    /// Appends the ids of a run of text that ends where a word surely does: at white space or punctuation of ASCII, or where the text ends.
    #[cold]
    #[inline(never)]
    pub(crate) fn run<T: Id>(&self, scratch: &mut Scratch, run: &str, out: &mut Vec<T>) {
        let before = out.len();
        scratch.word.clear();
        scratch.chars = 0;
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
            scratch
                .word
                .extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
        }
    }

    fn alone<T: Id>(&self, scratch: &mut Scratch, c: char, out: &mut Vec<T>) {
        self.end_word(scratch, out);
        self.push(scratch, c);
        self.end_word(scratch, out);
    }

    fn end_word<T: Id>(&self, scratch: &mut Scratch, out: &mut Vec<T>) {
        if scratch.chars > self.most_chars {
            out.push(T::of(self.unknown));
        } else if (1..=16).contains(&scratch.word.len()) {
            let key = key(&scratch.word);
            let value = match scratch.words.get(key) {
                Some(value) => value,
                None => self.learn(&mut scratch.words, key),
            };
            if Words::is_one(value) {
                out.push(T::of(value));
            } else {
                out.extend(scratch.words.several(value).iter().map(|id| T::of(*id)));
            }
        } else if !scratch.word.is_empty() {
            scratch.ids.clear();
            if self.trie.matches(&scratch.word, &mut scratch.ids) {
                out.extend(scratch.ids.iter().map(|id| T::of(*id)));
            } else {
                out.push(T::of(self.unknown));
            }
        }
        scratch.word.clear();
        scratch.chars = 0;
    }

    /// Learns a word that is not in the table.
    #[cold]
    #[inline(never)]
    pub(crate) fn learn(&self, words: &mut Words, key: u128) -> u32 {
        words.learn(key, &self.words, &self.trie, self.unknown)
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }
}
