//! Raw text to shards: read, segment, tokenize, pair, write.
//!
//! [`prepare`] runs the whole road; [`audit`](audit::audit) goes back from the rows of a dataset to its source; [`count_words`] only looks at words.

mod ahead;
mod amounts;
pub mod audit;
mod buckets;
pub mod claims;
mod clean;
mod config;
mod disk;
mod error;
mod fields;
mod gather;
pub mod input;
mod key;
mod mark;
mod memory;
mod output;
pub mod pairing;
mod plan;
mod prepare;
mod progress;
mod resolve;
mod rows;
mod shards;
mod sources;
mod spare;
mod split;
mod token_store;
mod tokenize;
mod tokens;
mod words;

pub use clean::CleanedText;
pub use cloze_clean::{CleanOptions, CleanReport};
pub use config::{Config, MaskUnitKind, MaskingKind, ObjectiveKind, Pairing};
pub use error::{Error, Result};
pub use memory::parse as parse_memory;
pub use output::left_in;
pub use prepare::{Report, Work, prepare};
pub use progress::{Progress, Silent, Stage};
pub use rows::rows;
pub use token_store::{StoredDocument, TokenStore};
pub use words::{WordCount, count_words};

/// What manifests say that they were made by.
pub(crate) const CREATED_BY: &str = concat!("cloze ", env!("CARGO_PKG_VERSION"));
