use std::path::{Path, PathBuf};

use crate::place::dataset_around;

/// What can go wrong with a dataset, always with where.
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
    /// The folder holds no finished dataset.
    #[error("{}: not a Cloze dataset: {why}", path.display())]
    NotADataset {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        why: String,
    },
    /// The dataset was written in a format version that this build does not read.
    #[error("{}: format version {found}, this build reads version 1 to {supported}", path.display())]
    Version {
        /// The manifest.
        path: PathBuf,
        /// The version in the manifest.
        found: u64,
        /// [`crate::METADATA_VERSION`], the newest.
        supported: u32,
    },
    /// The dataset's rows lie in files of another format, see `docs/format.md`, version 4.
    #[error("{}: its files are {files_format}, not Arrow", path.display())]
    OtherFiles {
        /// The dataset's folder.
        path: PathBuf,
        /// `files_format`, from the manifest.
        files_format: String,
    },
    /// The manifest cannot be understood.
    #[error("{}: {why}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Line and reason.
        why: String,
    },
    /// A file of a dataset is something else, or somewhere else.
    #[error("{}: {why}", path.display())]
    NoFile {
        /// Where it should be.
        path: PathBuf,
        /// What is there.
        why: String,
    },
    /// A file lies in the tokenizer's folder that the manifest does not name.
    #[error("{}: the manifest names no such file of the tokenizer", path.display())]
    Unnamed {
        /// The file.
        path: PathBuf,
    },
    /// A file's size is not the one that the manifest binds.
    #[error("{}: {found} bytes, the manifest says {expected}", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// Bytes, from the manifest.
        expected: u64,
        /// Bytes on disk.
        found: u64,
    },
    /// A file's digest is not the one that the manifest binds.
    #[error("{}: blake3 {found}, the manifest says {expected}", path.display())]
    Digest {
        /// The file.
        path: PathBuf,
        /// Hexadecimal, from the manifest.
        expected: String,
        /// Hexadecimal, of the bytes on disk.
        found: String,
    },
    /// A file is not the Arrow file it should be.
    #[error("{}: {why}", path.display())]
    Shard {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A row breaks a rule of the format.
    #[error("{}: row {row}: {why}", path.display())]
    Row {
        /// The shard.
        path: PathBuf,
        /// Row number in the shard, from 0.
        row: u64,
        /// The rule that it breaks.
        why: String,
    },
    /// A vocabulary or tokenizer file cannot serve.
    #[error("{}: {why}", path.display())]
    Vocabulary {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Masks are to go by words, and the vocabulary does not say where words begin.
    #[error(
        "--mask-unit {unit}: the vocabulary has no ## piece, so it does not say where words begin"
    )]
    NoPieces {
        /// What was to be chosen at a time.
        unit: &'static str,
    },
    /// A configuration value is out of its range.
    #[error("{name}: {why}")]
    Config {
        /// The option.
        name: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For `map_err`: an I/O error at `path`.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.into(),
            source,
        }
    }

    /// What is wrong, without `path`, where what is said of it names it already.
    #[must_use]
    pub fn why(&self, path: &Path) -> String {
        let text = self.to_string();
        let named = format!("{}: ", path.display());
        match text.strip_prefix(&named) {
            Some(why) => why.to_owned(),
            None => text,
        }
    }

    /// What a person can do about it, where there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                "the disk is full: free some space or write to another disk".into()
            }
            Self::Io { source, path } if source.kind() == std::io::ErrorKind::NotFound => {
                match dataset_around(path) {
                    Some(dataset) => format!(
                        "if it was a part of the dataset in {}, that is no longer whole: copy it again from where it came from, or prepare it again; `cloze verify` lists every problem",
                        dataset.display()
                    ),
                    None => "check the path".into(),
                }
            }
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                "check who owns it and its permissions".into()
            }
            Self::NotADataset { path, .. } if path.join("config.json").is_file() => {
                "it is a model's folder; a dataset is what `cloze prepare --out` makes of text".into()
            }
            Self::NotADataset { path, .. } if path.join(".work").is_dir() => {
                "it holds the remains of a preparation that was stopped, or of one that is still running: if none is running, the same command with --resume goes on".into()
            }
            Self::NotADataset { .. } => {
                "a dataset is a folder that `cloze prepare --out` finished; if this is text, prepare it first".into()
            }
            Self::OtherFiles { path, files_format } if files_format == "parquet" => format!(
                "`cloze convert {} OUT --to arrow` makes Arrow files of them, as they were before",
                path.display()
            ),
            Self::OtherFiles { .. } => "go back to the dataset that it was made from: this one is for other programs".into(),
            Self::Version { .. } => "prepare the dataset again with this version of cloze, or use the \
                                     version that `created_by` in its manifest names"
                .into(),
            Self::Size { .. }
            | Self::Digest { .. }
            | Self::Shard { .. }
            | Self::Row { .. }
            | Self::Manifest { .. } => {
                "the file was cut short, changed or replaced after it was written: copy it again from \
                 where it came from, or prepare the dataset again; `cloze verify` lists every problem"
                    .into()
            }
            Self::NoFile { .. } => "put the file itself there, as it was written; a link to the whole dataset is followed".into(),
            Self::Unnamed { .. } => "delete it: it is no part of the dataset".into(),
            Self::Vocabulary { .. } => "give a Hugging Face tokenizer folder, a tokenizer.json or a BERT \
                                        vocab.txt that holds [PAD] [UNK] [CLS] [SEP] [MASK]"
                .into(),
            Self::NoPieces { .. } => "give --mask-unit token, or take a WordPiece tokenizer: `cloze vocab train` makes one".into(),
            Self::Config { name, .. } => format!("give another {name}, or leave it out: see --help"),
            Self::Io { .. } => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;

    #[test]
    fn a_file_that_a_dataset_has_lost_is_no_wrong_path() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = std::fs::canonicalize(folder.path()).unwrap().join("data");
        std::fs::create_dir_all(dataset.join("train")).unwrap();
        let hint = |file: &str| {
            let source = std::io::ErrorKind::NotFound.into();
            let path = dataset.join(file);
            Error::Io { path, source }.hint().unwrap()
        };
        let lost = ["documents.arrow", "train/part-00000.arrow"];
        let write = |manifest: &str| {
            std::fs::write(dataset.join(manifest::FILE_NAME), manifest).unwrap();
        };
        assert_eq!(lost.map(hint), ["check the path"; 2]);
        write("{\"name\": \"of a browser\"}");
        assert_eq!(lost.map(hint), ["check the path"; 2]);
        write("{\"format\": \"cloze-dataset\", \"format_version\": 1}");
        for file in lost {
            let hint = hint(file);
            let whose = format!("the dataset in {}, that", dataset.display());
            assert!(hint.contains(&whose), "{hint}");
        }
        assert_eq!(hint("../part-00000.arrow"), "check the path");
    }
}
