use std::path::PathBuf;

use super::MOST;

/// Why an input cannot be read, always with where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A link that leads nowhere.
    #[error("{}: a link to {}, which is not there", path.display(), target.display())]
    Dangling {
        /// The link.
        path: PathBuf,
        /// What it names.
        target: PathBuf,
    },
    /// A pattern matches no file, or cannot be understood.
    #[error("{pattern}: {why}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why not.
        why: String,
    },
    /// A folder holds no file that is read.
    #[error("{}: the folder holds no text: {seen}", path.display())]
    EmptyFolder {
        /// The folder.
        path: PathBuf,
        /// What it holds.
        seen: String,
    },
    /// A dataset, or a folder with one in it.
    #[error("{}: a dataset that cloze made, which is no text", path.display())]
    Dataset {
        /// The folder of the dataset.
        path: PathBuf,
    },
    /// A file was named twice.
    #[error("{} is given twice: its text would count double (also as {})", path.display(), other.display())]
    Twice {
        /// As it was found the second time.
        path: PathBuf,
        /// As it was found first.
        other: PathBuf,
    },
    /// A file was written to while it was read.
    #[error("{}: changed while it was read: it had {was} bytes, has {is}", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// Its size when it was begun.
        was: u64,
        /// Its size when it was read.
        is: u64,
    },
    /// No input holds anything.
    #[error("no text: {why}")]
    NoText {
        /// What was seen.
        why: String,
    },
    /// Bytes that are not text in the encoding that they should be in.
    #[error("{}: line {line}, {why}", path.display())]
    Utf8 {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// What is wrong, and where in the line.
        why: String,
        /// What the first bytes of the file say that it is, where they do.
        looks: Option<&'static str>,
    },
    /// A compressed file that cannot be decompressed to its end.
    #[error("{}: after line {line}: {why}", path.display())]
    Compressed {
        /// The file.
        path: PathBuf,
        /// Lines read before.
        line: u64,
        /// What is wrong.
        why: String,
        /// What to do about it.
        hint: String,
    },
    /// A line that is not a JSON object.
    #[error("{}: line {line}: {why}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// What is wrong.
        why: String,
    },
    /// A row of a table that cannot be read.
    #[error("{}: {unit} {number}: {why}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// What is counted: lines, rows.
        unit: &'static str,
        /// From 1.
        number: u64,
        /// What is wrong.
        why: String,
        /// What to do about it.
        hint: &'static str,
        /// What it is counted as, where such rows are passed over.
        reason: &'static str,
    },
    /// A table without a column that was asked for.
    #[error("{}: {why}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
        /// What to do about it.
        hint: String,
    },
    /// A Parquet file that cannot be read to its end.
    #[error("{}: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// More than is held of a line, a row or a page.
    #[error("{}: line {line}: longer than {} MiB", path.display(), MOST >> 20)]
    TooLong {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// Whether nothing after it can be read either.
        rest: bool,
    },
    /// An object elsewhere that cannot be read.
    #[error("{}{}: {why}", path.display(), byte.map_or_else(String::new, |n| format!(": after byte {n}")))]
    Remote {
        /// Its address, without what may be secret.
        path: PathBuf,
        /// Bytes of it that had arrived, where reading had begun.
        byte: Option<u64>,
        /// What is wrong.
        why: String,
        /// What to do about it.
        hint: String,
    },
    /// A JSON object without the field that was asked for.
    #[error("{}: line {line}: {why}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// What is wrong.
        why: String,
        /// What to do about it.
        hint: String,
    },
}

impl InputError {
    /// What a person can do about it, where there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        const SKIP: &str = "or pass --on-bad-input skip to leave out what cannot be read (a line, or the rest of an archive) and have it counted";
        Some(match self {
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                "check the path; a pattern with * must be quoted so that the shell leaves it alone".into()
            }
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                "the file may not be read by you; change its permissions, or leave it out of the inputs".into()
            }
            Self::Io { .. } => return None,
            Self::Dangling { .. } => {
                "bring back what the link names (a disk that is not mounted?), or remove the link".into()
            }
            Self::Pattern { .. } => "check the pattern; ** crosses folders, * does not".into(),
            Self::EmptyFolder { .. } => {
                "files named .txt, .text, .md, .jsonl, .ndjson, .csv, .tsv, .html and .htm are read, also with .gz, .zst, .xz or .bz2 after it, and .parquet; name other \
                 files one by one to read them as plain text (.json: as JSONL), or say what they are with --input-format"
                    .into()
            }
            Self::Dataset { path } => format!(
                "give the text that it was made from, which `cloze inspect {}` names; where the dataset lies among texts, move it elsewhere, or name the texts by a pattern",
                path.display()
            ),
            Self::Twice { .. } => "give every file once; a folder covers what is in it".into(),
            Self::NoText { .. } => "check that the inputs hold text, and --text-field and --text-form".into(),
            Self::Utf8 { looks: Some(looks), .. } => (*looks).into(),
            Self::Utf8 { .. } => {
                format!("say which encoding it is with --encoding (latin1, shift_jis, detect, …), {SKIP}")
            }
            Self::Compressed { hint, why, .. } => {
                let scrambled = match why.contains("too early") {
                    true => "",
                    false => ", some of which may be scrambled",
                };
                format!("{hint}; with --on-bad-input skip, what was read up to here is kept{scrambled}")
            }
            Self::Json { .. } => {
                format!("every line must hold one JSON object (`jq -c '.[]' FILE` turns an array into lines, `jq -c . FILE` an object that is written over several); repair the line, {SKIP}")
            }
            Self::Field { hint, .. } => format!("{hint}, {SKIP}"),
            Self::Row { hint, .. } => format!("{hint}, {SKIP}"),
            Self::Changed { .. } => {
                "let nothing write to it while it is read: give a copy of it, or a part that is not written to any more".into()
            }
            Self::Header { hint, .. } | Self::Remote { hint, .. } => hint.clone(),
            Self::Damaged { .. } => {
                "write the file again; with --on-bad-input skip, what was read up to here is kept".into()
            }
            Self::TooLong { .. } => format!("cut it into documents; a quotation mark that is not closed makes a row of CSV as long; {SKIP}"),
        })
    }

    /// Whether nothing after it can be read.
    pub(super) fn ends_source(&self) -> bool {
        matches!(
            self,
            Self::Compressed { .. } | Self::Damaged { .. } | Self::TooLong { rest: true, .. }
        )
    }

    /// A word for counting it where it is skipped; `None` if it cannot be skipped.
    pub(super) fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Utf8 { why, .. } if why.contains("not UTF-8") => Some("invalid UTF-8"),
            Self::Utf8 { .. } => Some("invalid in its encoding"),
            Self::Row { reason, .. } => Some(reason),
            Self::Damaged { .. } => Some("damaged file, rest lost"),
            Self::TooLong { .. } => Some("too long"),
            Self::Compressed { why, .. } if why.contains("too early") => {
                Some("damaged archive, rest lost")
            }
            Self::Compressed { .. } => {
                Some("damaged archive, rest lost, and what was read of it may be scrambled")
            }
            Self::Json { .. } => Some("broken JSON"),
            Self::Field { .. } => Some("field missing or not text"),
            _ => None,
        }
    }
}
