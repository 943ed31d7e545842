use std::path::PathBuf;

/// What can go wrong, always with where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model, a device, or a step.
    #[error(transparent)]
    Train(#[from] cloze_train::Error),
    /// A file.
    #[error(transparent)]
    Shard(#[from] cloze_shard::Error),
    /// A tokenizer.
    #[error(transparent)]
    Text(#[from] cloze_text::Error),
    /// A model cannot be used as it is.
    #[error("{}: {why}", path.display())]
    Model {
        /// Its folder.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What to do.
        hint: String,
    },
}

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What a person can do about it, where there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Train(e) => e.hint(),
            Self::Shard(e) => e.hint(),
            Self::Text(_) => Some("give a Hugging Face folder with its tokenizer".into()),
            Self::Model { hint, .. } => Some(hint.clone()),
        }
    }
}
