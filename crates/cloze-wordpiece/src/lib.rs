//! BERT tokenization in one pass over bytes: exactly the ids of Hugging Face's `tokenizers`.
//!
//! What `tokenizers` does in six passes (clean-up, ideographs, accents, case, words, WordPiece) is one here:
//!
//! 1. 64 bytes at a time are classified by vector instructions ([`Isa`]): part of a word, punctuation, white space. Where words begin and end falls out of the
//!    bits.
//! 2. A word of up to 16 bytes of ASCII is one masked, lowercased 128-bit key into a table: the vocabulary's words, and those that were met before.
//! 3. Words that are not there are matched in linear time ([`trie`]) and learned.
//! 4. Runs with other characters go through a table of what the normaliser makes of each ([`normal`]).
//!
//! What this does not cover (another model, added tokens, unusual normalisers) is said when a [`WordPiece`] is made, with the reason, never found out later.

mod covered;
mod encode;
pub mod normal;
mod scan;
pub mod trie;
mod words;

pub use covered::NotCovered;
pub use encode::{Id, Room, Scratch};
pub use scan::Isa;

use normal::Table;
use trie::Trie;

/// What BERT's normaliser does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Lowercase.
    pub lowercase: bool,
    /// Strip accents; `None` strips them exactly when lowercasing.
    pub strip_accents: Option<bool>,
    /// Make every ideograph a word of its own.
    pub tokenize_chinese_chars: bool,
}

impl Default for Settings {
    /// Those of `bert-base-uncased`.
    fn default() -> Self {
        Self {
            lowercase: true,
            strip_accents: None,
            tokenize_chinese_chars: true,
        }
    }
}

impl Settings {
    /// Whether accents are stripped.
    #[must_use]
    pub fn strips_accents(&self) -> bool {
        self.strip_accents.unwrap_or(self.lowercase)
    }
}

/// The words that a tokenizer's vocabulary is made of.
#[derive(Clone, Copy, Debug)]
pub struct Vocabulary<'a> {
    /// Entries with their ids.
    pub tokens: &'a [(&'a str, u32)],
    /// The entry of words that cannot be spelt.
    pub unknown: &'a str,
    /// What entries that continue a word begin with.
    pub prefix: &'a str,
    /// Words of more characters are unknown.
    pub most_chars: usize,
}

/// A tokenizer. Threads share it, each with a [`Scratch`] of its own.
#[derive(Debug)]
pub struct WordPiece {
    settings: Settings,
    /// Keys and ids of words that every scratch knows.
    known: Vec<(u128, u32)>,
    trie: Trie,
    unknown: u32,
    most_chars: usize,
    most_id: u32,
    table: Table,
    isa: Isa,
}

impl WordPiece {
    /// The tokenizer of a vocabulary, with the widest instructions that there are.
    pub fn new(vocabulary: &Vocabulary<'_>, settings: Settings) -> Result<Self, NotCovered> {
        let reason = |why: &str| Err(NotCovered(why.into()));
        let tokens = vocabulary.tokens;
        let Some((_, unknown)) = tokens.iter().find(|(t, _)| *t == vocabulary.unknown) else {
            return reason("the vocabulary has no entry for unknown words");
        };
        if vocabulary.prefix.is_empty() {
            return reason("nothing marks entries that continue a word");
        }
        if vocabulary.most_chars < 16 {
            return reason("words of less than 16 characters are unknown for their length");
        }
        if tokens.iter().any(|(_, id)| *id > words::ID) {
            return reason("an id is over 268,435,455");
        }
        let sorted = sorted(tokens);
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return reason(&format!("the vocabulary has {:?} twice", twice[0].0));
        }
        let prefix = vocabulary.prefix;
        // Longer ones are in no word that is spelt.
        let short = |token: &str| {
            let rest = token.strip_prefix(prefix).unwrap_or(token);
            rest.len() <= vocabulary.most_chars.saturating_mul(4)
        };
        let mut spelt = sorted;
        spelt.retain(|(token, _)| short(token));
        let Some(trie) = Trie::new(&spelt, prefix) else {
            return reason("the vocabulary is too large");
        };
        Ok(Self {
            settings,
            known: Self::known(tokens, &settings),
            trie,
            unknown: *unknown,
            most_chars: vocabulary.most_chars,
            most_id: tokens.iter().map(|(_, id)| *id).max().unwrap_or(0),
            table: Table::new(settings),
            isa: Isa::best(),
        })
    }

    /// The same tokenizer with other instructions; those that this processor does not have are refused.
    #[must_use]
    pub fn with(mut self, isa: Isa) -> Option<Self> {
        self.isa = isa;
        isa.is_there().then_some(self)
    }

    /// The instructions that it runs on.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// What a thread needs beside it.
    #[must_use]
    pub fn scratch(&self) -> Scratch {
        self.scratch_in(Room::new())
    }

    /// As [`WordPiece::scratch`], in memory that was taken before.
    #[must_use]
    pub fn scratch_in(&self, Room(words): Room) -> Scratch {
        Scratch::new(words.with(&self.known))
    }
}

/// Has what lies there brought near.
#[inline(always)]
fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 processor has the instruction, which only hints: it reads nothing for the program, and faults nowhere.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Entries in order of their text.
fn sorted<'a>(tokens: &[(&'a str, u32)]) -> Vec<(&'a str, u32)> {
    // Most are told apart by what fits into a register, and those that begin with it as another does are few.
    let head = |text: &str| {
        let mut head = [0; 8];
        let n = text.len().min(8);
        head[..n].copy_from_slice(&text.as_bytes()[..n]);
        u64::from_be_bytes(head)
    };
    let mut order: Vec<(u64, usize)> = tokens.iter().map(|(t, _)| head(t)).zip(0..).collect();
    order.sort_unstable_by_key(|(head, _)| *head);
    for alike in order.chunk_by_mut(|a, b| a.0 == b.0) {
        alike.sort_unstable_by_key(|&(_, number)| tokens[number]);
    }
    order
        .into_iter()
        .map(|(_, number)| tokens[number])
        .collect()
}
