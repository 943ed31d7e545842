//! The Cloze dataset, and what both sides of it do with a row.
//!
//! A dataset is a folder of Arrow IPC files (*shards*) bound together by a `manifest.json`; one row
//! of a shard is one exact, unpadded model input. Preparation writes rows through [`ShardWriter`],
//! training reads them, memory-mapped and without a copy, through [`Dataset`]. Masking and keyed
//! randomness live here because preparation (static masks) and training (dynamic masks) must share
//! them bit for bit.
//!
//! The normative description of the format is `docs/format.md`.

pub mod atomic;
pub mod documents;
mod error;
pub mod ipc;
pub mod lists;
pub mod manifest;
pub mod masking;
pub mod parquet_footer;
pub mod place;
mod prefetch;
pub mod random;
mod reader;
pub mod room;
pub mod row;
pub mod rules;
pub mod schema;
pub mod verify;
pub mod vocabulary;
mod wide;
mod writer;

pub use error::{Error, Result};
pub use manifest::Manifest;
pub use prefetch::prefetch;
pub use reader::{Dataset, Shard, Split, check_file, read_small, regular_file};
pub use row::{Id, Ids, NextSentenceLabel, Row, RowRef};
pub use vocabulary::{SpecialTokens, Vocabulary};
pub use writer::{ROWS_PER_BATCH, RowBatch, ShardWriter};

/// The version of the on-disk format, see [`manifest::Masking::format_version`].
pub const FORMAT_VERSION: u32 = 1;
/// The version of datasets whose static masks are of words or spans: a reader of version 1 would take them for masks of tokens.
pub const UNITS_VERSION: u32 = 2;
/// The version of datasets whose objective is another than NSP.
pub const OBJECTIVES_VERSION: u32 = 3;
/// The version of datasets whose rows lie in files of another format than Arrow: `cloze convert` makes and reads them.
pub const FILES_VERSION: u32 = 4;
/// The version of datasets that keep metadata of documents.
pub const METADATA_VERSION: u32 = 5;
