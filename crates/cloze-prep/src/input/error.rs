use std::path::PathBuf;

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
    /// A file was named twice.
    #[error("{} is given twice: its text would count double (also as {})", path.display(), other.display())]
    Twice {
        /// As it was found the second time.
        path: PathBuf,
        /// As it was found first.
        other: PathBuf,
    },
    /// No input holds anything.
    #[error("no text: {why}")]
    NoText {
        /// What was seen.
        why: String,
    },
    /// Bytes that are not UTF-8.
    #[error("{}: line {line}, byte {byte} of the line: not UTF-8 (byte 0x{value:02x})", path.display())]
    Utf8 {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// From 1.
        byte: usize,
        /// The first bad byte.
        value: u8,
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
            Self::Pattern { .. } => "check the pattern; ** crosses folders, * does not".into(),
            Self::EmptyFolder { .. } => {
                "files named .txt, .text, .md, .jsonl and .ndjson are read, also with .gz or .zst after it; name other \
                 files one by one to read them as plain text (.json: as JSONL)"
                    .into()
            }
            Self::Twice { .. } => "give every file once; a folder covers what is in it".into(),
            Self::NoText { .. } => "check that the inputs hold text, and --text-field and --text-form".into(),
            Self::Utf8 { looks: Some(looks), .. } => (*looks).into(),
            Self::Utf8 { .. } => {
                format!("convert the file to UTF-8 (`iconv -f latin1 -t utf-8 FILE`), {SKIP}")
            }
            Self::Compressed { .. } => {
                "copy or compress the file again; with --on-bad-input skip, what was read up to here is kept".into()
            }
            Self::Json { .. } => {
                format!("every line must hold one JSON object (`jq -c '.[]' FILE` turns an array into lines); repair the line, {SKIP}")
            }
            Self::Field { hint, .. } => format!("{hint}, {SKIP}"),
        })
    }

    /// A word for counting it where it is skipped; `None` if it cannot be skipped.
    pub(super) fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Utf8 { .. } => Some("invalid UTF-8"),
            Self::Compressed { .. } => Some("damaged archive, rest lost"),
            Self::Json { .. } => Some("broken JSON"),
            Self::Field { .. } => Some("field missing or not text"),
            _ => None,
        }
    }
}
