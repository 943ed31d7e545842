//! Raw text to shards: read, segment, tokenize, pair, write.
//!
//! [`prepare`] runs the whole road; [`audit`](audit::audit) goes back from the rows of a dataset to its source; [`count_words`] only looks at words.

pub mod audit;
mod config;
mod error;
pub mod input;
pub mod pairing;
mod plan;
mod prepare;
mod progress;
mod shards;
mod split;
mod token_store;
mod tokenize;
mod words;

pub use config::{Config, MaskUnitKind, MaskingKind, Pairing};
pub use error::{Error, Result};
pub use prepare::{Report, prepare};
pub use progress::{Progress, Silent, Stage};
pub use token_store::{StoredDocument, TokenStore};
pub use words::{WordCount, count_words};
