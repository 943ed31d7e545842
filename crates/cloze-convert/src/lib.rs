//! Datasets in other formats: Arrow to Parquet and back, for `transformers`, and from what other programs prepared.
//!
//! Shards are converted by all threads, each from its first batch to its last, so memory is a group of rows a thread and
//! the bytes are the same for any number of threads. The output folder appears by rename.

mod arrow;
mod container;
mod error;
pub mod import;
mod output;
mod parquet_files;
mod rows;
mod source;
mod table;
mod transformers;
pub mod verify;

use std::path::Path;

pub use container::{Container, ContainerFile, FilesFormat};
pub use error::{Error, Result};
use output::Output;
pub use output::partial;
use rayon::prelude::*;
use source::Source;

pub(crate) const CREATED_BY: &str = concat!("cloze ", env!("CARGO_PKG_VERSION"));

/// What a dataset is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Arrow files, which Cloze trains from.
    Arrow,
    /// Parquet files, from which the Arrow files can be made again.
    Parquet,
    /// Parquet files of the columns that `transformers` names.
    Transformers {
        /// Rows are filled up to the longest that there may be.
        pad: bool,
    },
}

/// What a conversion came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Rows of all splits.
    pub rows: u64,
    /// Tokens in them.
    pub tokens: u64,
    /// Bytes of the files that rows were read from.
    pub bytes_before: u64,
    /// Bytes of the files that rows were written to.
    pub bytes_after: u64,
    /// Things a person should know, each a sentence.
    pub warnings: Vec<String>,
}

/// Rows of all splits of the dataset, in whatever format it is: what a conversion will advance by.
pub fn rows(dataset: &Path) -> Result<u64> {
    Ok(Source::open(dataset)?.rows())
}

/// Makes the folder `out` of `dataset`; `progress` is told rows as they are done.
///
/// `out` must not exist, or be an empty folder. It appears when all of it is there.
pub fn convert(
    dataset: &Path,
    out: &Path,
    target: Target,
    jobs: Option<usize>,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Report> {
    let source = Source::open(dataset)?;
    source.check_target(target)?;
    let output = Output::begin(out)?;
    for record in &source.manifest.tokenizer.files {
        output.copy(dataset, record)?;
    }
    let bytes_before = source.bytes();
    let mut report = pool(jobs)?.install(|| match target {
        Target::Arrow => arrow::write(&source, &output, progress),
        Target::Parquet => parquet_files::write(&source, &output, progress),
        Target::Transformers { pad } => transformers::write(&source, &output, pad, progress),
    })?;
    output.commit()?;
    let splits = source.manifest.splits.values();
    report.rows = splits.clone().map(|s| s.rows).sum();
    report.tokens = splits.map(|s| s.tokens).sum();
    report.bytes_before = bytes_before;
    Ok(report)
}

pub(crate) fn pool(jobs: Option<usize>) -> Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(jobs.unwrap_or(0))
        .build()
        .map_err(|e| Error::Threads(e.to_string()))
}

/// `work` on every shard of `source`, by all threads; what it returns, in order.
pub(crate) fn by_shard<T: Send>(
    source: &Source<'_>,
    work: impl Fn(&cloze_shard::manifest::ShardRecord) -> Result<T> + Send + Sync,
) -> Result<Vec<T>> {
    let splits = source.manifest.splits.values();
    let shards: Vec<_> = splits.flat_map(|s| &s.shards).collect();
    shards.into_par_iter().map(work).collect()
}
