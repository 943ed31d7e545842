//! Text to sentences and to token ids.
//!
//! [`Tokenizer`] gives exactly the ids that Hugging Face's `tokenizers` gives for the same files,
//! [`Segmenter`] cuts a document into sentences that cover it, [`vocabulary`] trains a WordPiece vocabulary, [`extension`] finds words for one.

mod error;
pub mod extension;
mod sentences;
mod tokenizer;
pub mod vocabulary;

pub use error::{Error, Result};
pub use sentences::Segmenter;
pub use tokenizer::{Settings, Tokenizer};
