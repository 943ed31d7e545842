use std::path::PathBuf;

use crate::input::InputError;

/// What can go wrong in preparation, always with where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A source file cannot be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// Something about the dataset or the token store.
    #[error(transparent)]
    Shard(#[from] cloze_shard::Error),
    /// The tokenizer cannot be used.
    #[error(transparent)]
    Text(#[from] cloze_text::Error),
    /// Something about the cleaning of text.
    #[error(transparent)]
    Clean(#[from] cloze_clean::Error),
    /// An evaluation set is not the one that the dataset was prepared with.
    #[error("{}: not the evaluation set that the dataset was prepared with: blake3 {found}, expected {expected}", path.display())]
    ExcludedChanged {
        /// The file.
        path: PathBuf,
        /// Its digest.
        found: String,
        /// The digest in the manifest.
        expected: String,
    },
    /// An option is out of range.
    #[error("{option} {why}")]
    Config {
        /// The option, as it is typed.
        option: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The output folder is taken.
    #[error("{}: {why}", path.display())]
    OutputExists {
        /// The folder.
        path: PathBuf,
        /// What is in the way.
        why: String,
        /// What to do.
        hint: &'static str,
    },
    /// Work that was begun with other options.
    #[error("{} was begun with other options: {}", path.display(), differences.join("; "))]
    OtherConfig {
        /// The folder.
        path: PathBuf,
        /// What is another.
        differences: Vec<String>,
        /// What to do.
        hint: &'static str,
    },
    /// Tokens that were made of other inputs.
    #[error("{} holds tokens of other inputs: {}", path.display(), differences.join("; "))]
    OtherInputs {
        /// The folder of the tokens.
        path: PathBuf,
        /// What is another.
        differences: Vec<String>,
    },
    /// A file of unfinished work that cannot be read.
    #[error("{}: not as it was written: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// There is nothing where a tokenizer is to be.
    #[error("--tokenizer {}: no such file or folder", .0.display())]
    NoTokenizer(PathBuf),
    /// What stopped preparation, when it can go on from there.
    #[error("{source}")]
    Stopped {
        /// What stopped it.
        source: Box<Error>,
        /// The folder that holds what was done.
        out: PathBuf,
    },
    /// The disk is too small.
    #[error("{}: about {needed} are needed, {free} are free", path.display())]
    Disk {
        /// The folder.
        path: PathBuf,
        /// What is needed, for a person.
        needed: String,
        /// What there is.
        free: String,
    },
    /// Nothing can be made of the input.
    #[error("{why}")]
    NothingToWrite {
        /// What was seen.
        why: String,
        /// What to look at.
        hint: &'static str,
    },
    /// A document holds more tokens than a batch of the token store can.
    #[error("{source_path}: document {index} has {tokens} tokens, at most {limit} are possible")]
    DocumentTooLong {
        /// The source file.
        source_path: String,
        /// The document's number in it, from 0.
        index: u64,
        /// Its tokens.
        tokens: usize,
        /// The limit.
        limit: usize,
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
            Self::Input(e) => e.hint(),
            Self::Shard(e) => e.hint(),
            Self::Text(e) => e.hint(),
            Self::Clean(e) => e.hint(),
            Self::ExcludedChanged { .. } => Some(
                "say with --exclude where the evaluation sets of the preparation are, in its order"
                    .into(),
            ),
            Self::OutputExists { hint, .. } | Self::OtherConfig { hint, .. } => {
                Some((*hint).into())
            }
            Self::OtherInputs { path, .. } => Some(format!(
                "give the inputs that they were made of, or other folders; --replace-tokens goes on here all the same: it keeps what was made of the inputs before \
                 the first that is another, and makes anew all that comes after it (deleting {} makes everything anew)",
                path.display()
            )),
            Self::Damaged { path, .. } => {
                let folder = path.parent().unwrap_or(path);
                // What stands beside a folder of unfinished work was made with it.
                let is_work = folder.ends_with(crate::output::WORK_FOLDER);
                let folder = folder.parent().filter(|_| is_work).unwrap_or(folder);
                Some(format!(
                    "delete {}, and run the command again: what it holds is made anew",
                    folder.display()
                ))
            }
            // It does not go on by itself.
            Self::Stopped { source, .. }
                if matches!(**source, Self::Damaged { .. } | Self::OtherInputs { .. }) =>
            {
                source.hint()
            }
            Self::Stopped { source, out } => Some(format!(
                "{}{}",
                source
                    .hint()
                    .map_or_else(String::new, |hint| format!("{hint}; ")),
                crate::left_in(out, None)
            )),
            Self::Disk { .. } => Some("free some, or give another --out (and --tokens)".into()),
            Self::NothingToWrite { hint, .. } => Some((*hint).into()),
            Self::DocumentTooLong { .. } => Some(
                "split the document: a form feed or a JSONL line of its own begins another".into(),
            ),
            Self::NoTokenizer(_) => Some(
                "give the folder of a checkpoint; nothing is downloaded here: `hf download bert-base-uncased --local-dir bert-base-uncased`, as an example, fetches that \
                 of a model on the Hugging Face Hub"
                    .into(),
            ),
            Self::Config { .. } | Self::Threads(_) => None,
        }
    }
}
