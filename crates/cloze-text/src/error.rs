use std::path::PathBuf;

/// What can go wrong with a tokenizer or a segmenter.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The files make no BERT tokenizer.
    #[error("{}: {why}", path.display())]
    Tokenizer {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The segmenter cannot be used.
    #[error(transparent)]
    Sentences(#[from] cloze_sentences::Error),
    /// The tokenizer failed on a text.
    #[error("the tokenizer failed on {text:?}…: {why}")]
    Encode {
        /// How the text begins.
        text: String,
        /// What the tokenizer said.
        why: String,
    },
    /// A vocabulary cannot be extended.
    #[error("vocabulary: {why}")]
    Extend {
        /// Why not.
        why: String,
    },
    /// A list of words holds what is none.
    #[error("{}: line {line}: {why}", path.display())]
    List {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// A vocabulary cannot be trained.
    #[error("vocabulary: {why}")]
    Train {
        /// Why not.
        why: String,
    },
}

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What a person can do about it, where there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                "check the path".into()
            }
            Self::Tokenizer { .. } => {
                "give a Hugging Face folder of a BERT model, its tokenizer.json or its \
                                       vocab.txt; `cloze vocab train` makes one from your own text"
                    .into()
            }
            Self::Sentences(e) => e.hint().into(),
            Self::Train { .. } => "the vocabulary needs a place for every character and special token: give a larger --vocab-size, or text with words".into(),
            Self::List { .. } => "give a word a line, without spaces or punctuation inside: only whole words become entries".into(),
            Self::Extend { .. } => "give words that are not in the vocabulary, each once, and a tokenizer whose ids have no gaps".into(),
            Self::Io { .. } | Self::Encode { .. } => return None,
        })
    }
}
