use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;

/// What can go wrong when a dataset changes its format, always with where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something about the dataset.
    #[error(transparent)]
    Shard(#[from] cloze_shard::Error),
    /// The tokenizer cannot be used.
    #[error(transparent)]
    Text(#[from] cloze_text::Error),
    /// The output folder is taken.
    #[error("{}: {why}", path.display())]
    OutputExists {
        /// The folder.
        path: PathBuf,
        /// What is in the way.
        why: &'static str,
        /// What to do.
        hint: String,
    },
    /// The dataset is in the format that was asked for, or cannot be brought into it.
    #[error("{}: {why}", path.display())]
    Format {
        /// The dataset.
        path: PathBuf,
        /// Why.
        why: String,
        /// What to do.
        hint: String,
    },
    /// A file that rows are read from is not what it should be.
    #[error("{}: {place}{why}", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// Where in it, with `: ` after it.
        place: String,
        /// What is wrong.
        why: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The threads could not be started.
    #[error("cannot start the threads: {0}")]
    Threads(String),
}

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What a person can do about it, where there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Shard(e) => e.hint(),
            Self::Text(e) => e.hint(),
            Self::OutputExists { hint, .. } | Self::Format { hint, .. } => Some(hint.clone()),
            Self::Input { hint, .. } => hint.clone(),
            Self::Threads(_) => None,
        }
    }

    /// A file that is wrong at `place` (empty, or with `: ` after it).
    pub(crate) fn input(path: &Path, place: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Input {
            path: path.into(),
            place: place.into(),
            why: why.into(),
            hint: None,
        }
    }
}

/// For `map_err`: what Parquet's library said of `path`, with errors of the system kept as such.
pub(crate) fn parquet(path: &Path) -> impl Fn(ParquetError) -> Error + '_ {
    /// What is shown of a message, which may hold the bytes that it is about.
    const MESSAGE: usize = 160;
    move |error| {
        if let ParquetError::External(source) = &error
            && let Some(io) = source.downcast_ref::<std::io::Error>()
        {
            let again = match io.raw_os_error() {
                Some(code) => std::io::Error::from_raw_os_error(code),
                None => std::io::Error::new(io.kind(), io.to_string()),
            };
            return cloze_shard::Error::io(path)(again).into();
        }
        let why: String = error.to_string().chars().take(MESSAGE).collect();
        Error::input(path, "", why)
    }
}
