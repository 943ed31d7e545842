//! Text to sentences and to token ids.
//!
//! [`Tokenizer`] gives exactly the ids that Hugging Face's `tokenizers` gives for the same files,
//! [`Segmenter`] cuts a document into sentences that cover it, [`vocabulary`] trains a WordPiece vocabulary, [`extension`] finds words for one.

mod error;
pub mod extension;
pub mod quotes;
mod tokenizer;
pub mod vocabulary;

pub use cloze_sentences::Segmenter;
pub use cloze_wordpiece::{Id, NotCovered, Room};
pub use error::{Error, Result};
pub use tokenizer::{Encoder, Settings, Tokenizer};
