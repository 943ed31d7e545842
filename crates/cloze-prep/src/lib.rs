//! Raw text to shards: read, segment, tokenize, pair, write.
//!
//! [`prepare`] runs the whole road; [`audit`](audit::audit) goes back from the rows of a dataset to its source.

pub mod audit;
mod clean;
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

pub use cloze_clean::{CleanOptions, CleanReport};
pub use config::{Config, MaskUnitKind, MaskingKind, Pairing};
pub use error::{Error, Result};
pub use prepare::{Report, prepare};
pub use progress::{Progress, Silent, Stage};
pub use token_store::{StoredDocument, TokenStore};
