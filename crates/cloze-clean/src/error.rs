use std::path::{Path, PathBuf};

/// What can go wrong in cleaning, always with where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option is out of range.
    #[error("{option} {why}")]
    Option {
        /// The option, as it is typed.
        option: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A file of unfinished work cannot be written or read again.
    #[error("{}: {source}", path.display())]
    Io {
        /// The folder of the file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// An evaluation set holds nothing to look for.
    #[error("{path}: no text to --exclude: {why}")]
    NothingToExclude {
        /// The file.
        path: String,
        /// What was seen.
        why: String,
    },
}

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Wraps an I/O error with its place.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.into(),
            source,
        }
    }

    /// What a person can do about it, where there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NothingToExclude { .. } => {
                Some("name the fields that hold its texts with --exclude-field (repeatable; all rows must have all of them), or leave the file out".into())
            }
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Some("deduplication sorts on the disk of --out; make room there".into())
            }
            Self::Option { .. } | Self::Io { .. } => None,
        }
    }
}
