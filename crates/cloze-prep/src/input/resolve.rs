//! Which files, in which order.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::datasets;
use super::remote::{Address, Found, Object, Stores, only_a_file};
use super::{InputError, InputOptions};
use crate::{Progress, Silent};

/// The name of standard input.
const STDIN: &str = "-";

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Format {
    /// Plain text: .txt, .text, .md
    Text,
    /// One JSON object a line: .jsonl, .ndjson
    #[cfg_attr(feature = "clap", value(name = "jsonl"))]
    JsonLines,
    /// Cells between commas, with quotation marks, the first line names the columns: .csv
    Csv,
    /// Cells between tabs, without quotation, the first line names the columns: .tsv
    Tsv,
    /// Columns of a Parquet file: .parquet
    Parquet,
    /// A page, of which the text is read: .html, .htm
    Html,
}

/// How a file is compressed, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// `.gz`, of any number of members.
    Gzip,
    /// `.zst`, of any number of frames.
    Zstd,
    /// `.xz`, of any number of streams.
    Xz,
    /// `.bz2`, of any number of streams.
    Bzip2,
}

impl Compression {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "raw",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        }
    }
}

/// A file or an object to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// As it was given or found; the address of an object, without what may be secret.
    pub path: PathBuf,
    /// What it holds.
    pub format: Format,
    /// How it is compressed.
    pub compression: Compression,
    /// Its size on disk; 0 for standard input.
    pub bytes: u64,
    /// What it is, where it is no file.
    pub object: Option<Object>,
}

impl Source {
    /// Whether it is standard input.
    #[must_use]
    pub fn is_stdin(&self) -> bool {
        self.path == Path::new(STDIN)
    }

    /// Whether it can be read once only, from beginning to end, and has no size: standard input, a named pipe, what a shell's `<(…)` gives.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.is_stdin() || (self.bytes == 0 && self.object.is_none() && is_pipe(&self.path))
    }

    /// Whether neither its name nor an option says what it holds: it came through a pipe, or from where standard input has a name.
    pub(crate) fn has_no_kind(&self, options: &InputOptions) -> bool {
        let is_named = options.format.is_some() || kind(&self.path).is_some();
        !is_named && (self.is_stream() || self.path.starts_with("/dev"))
    }
}

/// The files to read, in reading order.
#[derive(Clone, Debug)]
pub struct InputPlan {
    /// In order: arguments as given, what a folder or a pattern holds by path.
    pub sources: Vec<Source>,
    /// Files in folders that are passed over because of their names.
    pub ignored: Vec<PathBuf>,
    /// How to read them.
    pub options: InputOptions,
}

/// The inputs that a file names, a line each, or with a NUL after each as `find -print0` writes them; `-` is standard input. Blank lines are passed over.
pub fn listed(list: &Path) -> Result<Vec<PathBuf>, InputError> {
    only_a_file(list, "a list of inputs")?;
    let io = |source| InputError::Io {
        path: list.into(),
        source,
    };
    let mut bytes = Vec::new();
    match list == Path::new(STDIN) {
        true => std::io::stdin().read_to_end(&mut bytes).map_err(io)?,
        false => fs::File::open(list)
            .and_then(|mut file| file.read_to_end(&mut bytes))
            .map_err(io)?,
    };
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
    let end = if bytes.contains(&0) { 0 } else { b'\n' };
    let mut named: Vec<PathBuf> = Vec::new();
    for (name, number) in bytes.split(|&b| b == end).zip(1..) {
        let name = name.strip_suffix(b"\r").unwrap_or(name);
        if name.trim_ascii().is_empty() {
            continue;
        }
        let path = PathBuf::from(OsStr::from_bytes(name));
        // A name may be any bytes; what is no list has lines that are none.
        if std::str::from_utf8(name).is_err() && !path.exists() {
            return Err(InputError::Header {
                path: list.into(),
                why: format!("no list of names: line {number} is not UTF-8, and no file has that name"),
                hint: "--files-from takes a file that names inputs, a line each (or with a NUL after each); inputs themselves are given without it".into(),
            });
        }
        named.push(path);
    }
    if named.is_empty() {
        let why = format!("{} names no file", list.display());
        return Err(InputError::NoText { why });
    }
    Ok(named)
}

impl InputPlan {
    /// Finds the files and objects that `inputs` (files, folders, patterns, addresses) name.
    pub fn resolve(inputs: &[PathBuf], options: &InputOptions) -> Result<Self, InputError> {
        Self::resolve_and_say(inputs, options, &Silent)
    }

    /// As [`InputPlan::resolve`]; `progress` is told where a server lets one wait.
    pub fn resolve_and_say(
        inputs: &[PathBuf],
        options: &InputOptions,
        progress: &dyn Progress,
    ) -> Result<Self, InputError> {
        let mut plan = Self {
            sources: Vec::new(),
            ignored: Vec::new(),
            options: options.clone(),
        };
        let addresses = inputs.iter().map(|input| Address::of(input));
        let addresses: Vec<Option<Address>> = addresses.collect::<Result<_, _>>()?;
        let remote: Vec<Address> = addresses.iter().flatten().cloned().collect();
        let mut found = Stores::new().look_up(&remote, progress)?.into_iter();
        for (input, address) in inputs.iter().zip(addresses) {
            if address.is_some() {
                found.next().map_or(Ok(()), |found| plan.add_found(found))?;
            } else if input == Path::new(STDIN) {
                plan.add_stdin()?;
            } else if input.is_dir() {
                plan.add_folder(input)?;
            } else if input.exists() {
                plan.add_file(input)?;
            } else if is_pattern(input) {
                plan.add_pattern(input)?;
            } else {
                return Err(why_absent(input));
            }
        }
        plan.refuse_twice()?;
        if plan.sources.iter().all(|s| s.bytes == 0 && !s.is_stream()) {
            let why = match plan.sources.as_slice() {
                [] => "no input was given".into(),
                [one] => format!("{} is an empty file", one.path.display()),
                many => format!(
                    "all {} files are empty, the first is {}",
                    many.len(),
                    many[0].path.display()
                ),
            };
            return Err(InputError::NoText { why });
        }
        Ok(plan)
    }

    /// The sizes of all files together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.sources.iter().map(|s| s.bytes).sum()
    }

    fn add_stdin(&mut self) -> Result<(), InputError> {
        let format = self.options.format.unwrap_or(Format::Text);
        refuse_parquet(format, Path::new(STDIN), "standard input")?;
        self.sources.push(Source {
            path: STDIN.into(),
            format,
            compression: Compression::None,
            bytes: 0,
            object: None,
        });
        Ok(())
    }

    fn add_folder(&mut self, folder: &Path) -> Result<(), InputError> {
        let Below {
            files: all,
            others,
            dangling,
        } = files_below(folder, usize::MAX)?;
        let is_read = |file: &PathBuf| kind(file).is_some() && !is_hidden_below(folder, file);
        if let Some(link) = dangling.iter().find(|link| is_read(link)) {
            return Err(why_absent(link));
        }
        let (read, mut ignored): (Vec<_>, Vec<_>) = all.iter().cloned().partition(is_read);
        ignored.extend(others);
        ignored.extend(dangling);
        datasets::refuse(folder, &all, &read)?;
        if read.is_empty() {
            return Err(empty(folder, &ignored));
        }
        self.ignored.extend(ignored);
        read.iter().try_for_each(|file| self.add_file(file))
    }

    fn add_found(&mut self, found: Found) -> Result<(), InputError> {
        let read = match found {
            Found::Named(objects) => objects,
            Found::Below(prefix, objects) => {
                let all: Vec<&Path> = objects.iter().map(Object::path).collect();
                let texts = all.iter().filter(|key| kind(key).is_some());
                let texts: Vec<PathBuf> = texts.map(|key| key.to_path_buf()).collect();
                datasets::refuse_objects(&prefix, &all, &texts)?;
                let (read, ignored): (Vec<_>, Vec<_>) = objects
                    .into_iter()
                    .partition(|object| kind(object.path()).is_some());
                let ignored = ignored.iter().map(|object| object.path().to_path_buf());
                let ignored: Vec<PathBuf> = ignored.collect();
                if read.is_empty() {
                    return Err(empty(&prefix, &ignored));
                }
                self.ignored.extend(ignored);
                read
            }
        };
        for object in read {
            let (path, bytes) = (object.path().to_path_buf(), object.bytes());
            self.refuse_page(&object)?;
            self.add(path, bytes, Some(object));
        }
        Ok(())
    }

    /// Refuses what a web server shows to people where text is expected: a list of files, a form that asks who one is.
    fn refuse_page(&self, object: &Object) -> Result<(), InputError> {
        let path = object.path();
        let is_text = kind(path).is_none_or(|(format, _)| format == Format::Text);
        if !object.is_page() || !is_text || self.options.format.is_some() {
            return Ok(());
        }
        Err(InputError::Remote {
            path: path.into(),
            byte: None,
            why: "the server says that it is a page (text/html), not plain text".into(),
            hint: "name objects one by one (--files-from LIST), not the page that lists them; --input-format html reads the text of pages, --input-format text takes them as they are".into(),
        })
    }

    fn add_pattern(&mut self, pattern: &Path) -> Result<(), InputError> {
        let text = pattern.to_string_lossy().into_owned();
        let fail = |why: String| InputError::Pattern {
            pattern: text.clone(),
            why,
        };
        let glob = globset::GlobBuilder::new(&text)
            .literal_separator(true)
            .build();
        let glob = glob.map_err(|e| fail(e.to_string()))?.compile_matcher();
        let base: PathBuf = pattern
            .components()
            .take_while(|c| !is_pattern(Path::new(c.as_os_str())))
            .collect();
        // As deep as the pattern is.
        let parts = pattern.components().skip(base.components().count());
        let depth = match parts
            .clone()
            .any(|c| c.as_os_str().to_string_lossy().contains("**"))
        {
            true => usize::MAX,
            false => parts.count(),
        };
        let here = base.as_os_str().is_empty();
        let base = if here { PathBuf::from(".") } else { base };
        if !base.is_dir() {
            return Err(fail(format!("{} is not a folder", base.display())));
        }
        let mut found = Vec::new();
        let Below {
            files: mut all,
            mut dangling,
            ..
        } = files_below(&base, depth)?;
        if here {
            for file in all.iter_mut().chain(&mut dangling) {
                if let Ok(inside) = file.strip_prefix(".") {
                    *file = inside.into();
                }
            }
        }
        // Some programs leave links for locks, with hidden names.
        let mut meant = dangling.iter().filter(|l| !is_hidden_below(&base, l));
        if let Some(link) = meant.find(|link| glob.is_match(link)) {
            return Err(why_absent(link));
        }
        for file in &all {
            if glob.is_match(file) {
                found.push(file.clone());
            }
        }
        // A dataset in which nothing matches may lie there.
        datasets::refuse(Path::new(""), &all, &found)?;
        if found.is_empty() {
            return Err(fail("matches no file".into()));
        }
        found.iter().try_for_each(|file| self.add_file(file))
    }

    fn add_file(&mut self, file: &Path) -> Result<(), InputError> {
        let metadata = fs::metadata(file).map_err(|source| InputError::Io {
            path: file.into(),
            source,
        })?;
        if metadata.is_file() {
            self.add(file.into(), metadata.len(), None);
            return Ok(());
        }
        let format = self.options.format.or_else(|| Some(kind(file)?.0));
        refuse_parquet(format.unwrap_or(Format::Text), file, "a pipe")?;
        // What the system calls the length of a pipe is what waits in it.
        self.add(file.into(), 0, None);
        Ok(())
    }

    fn add(&mut self, path: PathBuf, bytes: u64, object: Option<Object>) {
        let file = path.as_path();
        // A `.json` that is named is taken at its name: one object a line, as most dumps are.
        let by_name = || {
            let compression = compression(file);
            let format = if extension(&inner_name(file)) == "json" {
                Format::JsonLines
            } else {
                Format::Text
            };
            (format, compression)
        };
        let (format, compression) = kind(file).unwrap_or_else(by_name);
        let format = self.options.format.unwrap_or(format);
        let compression = match format {
            Format::Parquet => Compression::None,
            _ => compression,
        };
        self.sources.push(Source {
            path,
            format,
            compression,
            bytes,
            object,
        });
    }

    fn refuse_twice(&self) -> Result<(), InputError> {
        let mut seen: HashMap<PathBuf, &Path> = HashMap::new();
        for Source { path, object, .. } in &self.sources {
            if let Some(object) = object {
                if let Some(other) = seen.insert(object.given().into(), path) {
                    let (path, other) = (path.clone(), other.into());
                    return Err(InputError::Twice { path, other });
                }
                continue;
            }
            let real = match path == Path::new(STDIN) {
                true => real(Path::new("/dev/stdin")).unwrap_or_else(|_| path.clone()),
                false => real(path).map_err(|source| InputError::Io {
                    path: path.clone(),
                    source,
                })?,
            };
            if let Some(other) = seen.insert(real, path) {
                return Err(InputError::Twice {
                    path: path.clone(),
                    other: other.into(),
                });
            }
        }
        Ok(())
    }
}

fn refuse_parquet(format: Format, path: &Path, what: &str) -> Result<(), InputError> {
    if format != Format::Parquet {
        return Ok(());
    }
    Err(InputError::Header {
        path: path.into(),
        why: format!("Parquet is read from its end, which {what} does not allow"),
        hint: "write it to a file first".into(),
    })
}

/// What a path leads to, alike for all its names. A pipe may have a name that leads nowhere.
fn real(path: &Path) -> std::io::Result<PathBuf> {
    let metadata = fs::metadata(path)?;
    match metadata.is_file() {
        true => fs::canonicalize(path),
        false => Ok(format!("pipe {} {}", metadata.dev(), metadata.ino()).into()),
    }
}

/// Whether something else than a file or a folder is there: what can be read once only.
#[must_use]
pub fn is_pipe(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir())
}

/// A folder of which no file is read.
fn empty(folder: &Path, ignored: &[PathBuf]) -> InputError {
    let seen = match ignored {
        [] => "it is empty".into(),
        [first, ..] => format!(
            "{} files of other kinds, such as {}",
            ignored.len(),
            first.display()
        ),
    };
    InputError::EmptyFolder {
        path: folder.into(),
        seen,
    }
}

/// Why a path does not exist, or cannot be looked at.
fn why_absent(path: &Path) -> InputError {
    let path = path.to_path_buf();
    match fs::read_link(&path) {
        Ok(target) if is_dangling(&path) => InputError::Dangling { path, target },
        _ => InputError::Io {
            source: fs::metadata(&path)
                .err()
                .unwrap_or_else(|| std::io::ErrorKind::NotFound.into()),
            path,
        },
    }
}

/// Whether a path is a link to what is not there.
fn is_dangling(path: &Path) -> bool {
    let absent = |e: std::io::Error| e.kind() == std::io::ErrorKind::NotFound;
    path.is_symlink() && fs::metadata(path).is_err_and(absent)
}

pub(super) fn is_pattern(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '[', '{'])
}

/// Whether a folder between them has a hidden name: what programs keep there, such as `.git` and `.ipynb_checkpoints`, is no text that somebody means.
fn is_hidden_below(folder: &Path, file: &Path) -> bool {
    let inside = file.strip_prefix(folder).unwrap_or(file);
    let hidden = |part: std::path::Component<'_>| {
        let name = part.as_os_str().as_encoded_bytes();
        name.starts_with(b".") && name != b"." && name != b".."
    };
    inside.components().any(hidden)
}

/// What is below a folder.
#[derive(Default)]
struct Below {
    /// By path.
    files: Vec<PathBuf>,
    /// Neither file nor folder: a pipe that is meant is named.
    others: Vec<PathBuf>,
    /// Links that lead nowhere, as some programs leave them for locks; by path.
    dangling: Vec<PathBuf>,
}

fn files_below(folder: &Path, depth: usize) -> Result<Below, InputError> {
    let Below {
        mut files,
        mut others,
        mut dangling,
    } = Below::default();
    for entry in walkdir::WalkDir::new(folder)
        .follow_links(true)
        .max_depth(depth)
    {
        let entry = match entry {
            Ok(entry) => entry,
            Err(e) if e.path().is_some_and(is_dangling) => {
                dangling.extend(e.path().map(Path::to_path_buf));
                continue;
            }
            Err(e) => {
                return Err(InputError::Io {
                    path: e.path().unwrap_or(folder).into(),
                    source: e
                        .into_io_error()
                        .unwrap_or_else(|| std::io::Error::other("a link leads back into itself")),
                });
            }
        };
        if entry.file_type().is_file() {
            files.push(entry.into_path());
        } else if !entry.file_type().is_dir() {
            others.push(entry.into_path());
        }
    }
    for all in [&mut files, &mut dangling] {
        all.sort_unstable_by(|a, b| {
            a.as_os_str()
                .as_encoded_bytes()
                .cmp(b.as_os_str().as_encoded_bytes())
        });
    }
    Ok(Below {
        files,
        others,
        dangling,
    })
}

fn extension(path: &Path) -> String {
    path.extension()
        .map(|e| e.to_string_lossy().to_lowercase())
        .unwrap_or_default()
}

fn compression(path: &Path) -> Compression {
    match extension(path).as_str() {
        "gz" => Compression::Gzip,
        "zst" => Compression::Zstd,
        "xz" => Compression::Xz,
        "bz2" => Compression::Bzip2,
        _ => Compression::None,
    }
}

/// The name without the extension of its compression.
fn inner_name(path: &Path) -> PathBuf {
    if compression(path) == Compression::None {
        path.into()
    } else {
        path.with_extension("")
    }
}

/// What a file's name says; `None` for names that a folder scan passes over.
fn kind(path: &Path) -> Option<(Format, Compression)> {
    let (compression, inner) = (compression(path), inner_name(path));
    let hidden = path
        .file_name()
        .is_some_and(|n| n.to_string_lossy().starts_with('.'));
    let format = match extension(&inner).as_str() {
        _ if hidden => return None,
        "txt" | "text" | "md" => Format::Text,
        "jsonl" | "ndjson" => Format::JsonLines,
        "csv" => Format::Csv,
        "tsv" => Format::Tsv,
        "html" | "htm" => Format::Html,
        "parquet" if compression == Compression::None => Format::Parquet,
        _ => return None,
    };
    Some((format, compression))
}
