//! Encoders by turns: one that a thread is done with keeps its memory, and what it learned, for the next.

use cloze_text::{Encoder, Tokenizer};

use crate::spare::Spare;

/// A tokenizer, and those of its encoders that no thread has now.
pub struct Encoders<'a> {
    pub tokenizer: &'a Tokenizer,
    spare: Spare<Encoder<'a>>,
}

impl<'a> Encoders<'a> {
    /// None yet.
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        let spare = Spare::default();
        Self { tokenizer, spare }
    }

    /// Works with one that nobody else has meanwhile.
    pub fn with<R>(&self, work: impl FnOnce(&mut Encoder<'a>) -> R) -> R {
        let spare = self.spare.take();
        let mut encoder = spare.unwrap_or_else(|| self.tokenizer.encoder());
        let result = work(&mut encoder);
        self.spare.give(encoder);
        result
    }
}
