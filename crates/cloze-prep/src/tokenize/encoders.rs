//! Encoders by turns: one that a thread is done with keeps its memory, and what it learned, for the next.

use std::sync::{Mutex, MutexGuard, PoisonError};

use cloze_text::{Encoder, Tokenizer};

/// A tokenizer, and those of its encoders that no thread has now.
pub struct Encoders<'a> {
    pub tokenizer: &'a Tokenizer,
    spare: Mutex<Vec<Encoder<'a>>>,
}

impl<'a> Encoders<'a> {
    /// None yet.
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        let spare = Mutex::default();
        Self { tokenizer, spare }
    }

    /// Works with one that nobody else has meanwhile.
    pub fn with<R>(&self, work: impl FnOnce(&mut Encoder<'a>) -> R) -> R {
        let spare = self.spare().pop();
        let mut encoder = spare.unwrap_or_else(|| self.tokenizer.encoder());
        let result = work(&mut encoder);
        self.spare().push(encoder);
        result
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Encoder<'a>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
