/// What can go wrong with a segmenter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No rules for this language.
    #[error("no sentence rules for the language {code:?}")]
    Language {
        /// The code that was asked for.
        code: String,
    },
}

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Language { .. } => {
                "give an ISO 639-1 code such as en, de, fr, es, it, nl, pl, ru, ja, zh, hi or ar"
            }
        }
    }
}
