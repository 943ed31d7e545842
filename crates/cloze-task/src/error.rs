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
    /// Examples cannot be used as they are.
    #[error("{}: {place}{why}", path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// The line or row, with a colon; empty for the file as a whole.
        place: String,
        /// What is wrong.
        why: String,
        /// What to do.
        hint: String,
    },
    /// An option is out of range, or does not go with others.
    #[error("{option} {why}")]
    Option {
        /// The option, as it is typed.
        option: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A folder that is to be written is there already.
    #[error("{}: {why}", path.display())]
    Taken {
        /// The folder.
        path: PathBuf,
        /// What is there.
        why: String,
        /// What named it.
        option: &'static str,
    },
    /// The gradient is not a number any more.
    #[error(
        "seed {seed}, step {step}: the norm of the gradient is {norm}, and no step could be made {in_a_row} times in a row"
    )]
    NonFinite {
        /// The seed.
        seed: u64,
        /// The last step that was tried.
        step: u64,
        /// How many are borne.
        in_a_row: u64,
        /// The norm.
        norm: f64,
    },
    /// What a model says are no numbers any more.
    #[error("seed {seed}, step {step}: what the model says of an example is no finite number")]
    Diverged {
        /// The seed.
        seed: u64,
        /// The step after which it was measured.
        step: u64,
    },
    /// Somebody asked to stop, and there was nothing to keep.
    #[error("seed {seed} was stopped at step {step}")]
    Stopped {
        /// The seed.
        seed: u64,
        /// The last step.
        step: u64,
    },
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

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Train(error.into())
    }
}

impl Error {
    /// What a person can do about it, where there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Train(e) => e.hint(),
            Self::Shard(e) => e.hint(),
            Self::Text(_) => Some("give a Hugging Face folder with its tokenizer".into()),
            Self::Model { hint, .. } | Self::Data { hint, .. } => Some(hint.clone()),
            Self::Option { option, .. } => Some(format!(
                "give another {option}, or leave it out: see --help"
            )),
            Self::Stopped { .. } => None,
            Self::Taken { option, .. } => {
                Some(format!("give {option} a path where there is nothing yet"))
            }
            Self::NonFinite { .. } | Self::Diverged { .. } => {
                Some("train with a smaller --learning-rate or more --warmup-steps".into())
            }
        }
    }
}
