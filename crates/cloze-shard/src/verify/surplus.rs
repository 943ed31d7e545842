//! What lies in a dataset's folder and is no part of the dataset.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::{Check, Report};
use crate::manifest::{FILE_NAME, TOKENIZER_FOLDER};

/// Folders below one another that are looked into.
const DEEPEST: usize = 16;

/// Looks for files in `dataset` that are none of `named` (paths in it). One that a program would take for a part of a dataset, or of its tokenizer, is a problem;
/// any other is noted.
pub fn check_surplus<'a>(
    dataset: &Path,
    named: impl IntoIterator<Item = &'a str>,
    report: &mut Report,
) {
    let mut known: HashSet<PathBuf> = named.into_iter().map(plain).collect();
    known.insert(FILE_NAME.into());
    // What a link of the dataset leads to, inside it, is part of it under another name.
    if let Ok(real) = fs::canonicalize(dataset) {
        let links: Vec<PathBuf> = known
            .iter()
            .filter_map(|name| fs::canonicalize(dataset.join(name)).ok())
            .filter_map(|path| Some(path.strip_prefix(&real).ok()?.to_path_buf()))
            .collect();
        known.extend(links);
    }
    let mut looking = Looking {
        dataset,
        known,
        others: Vec::new(),
        count: 0,
        report,
    };
    looking.folder(Path::new(""), 0);
    let Looking {
        mut others,
        count,
        report,
        ..
    } = looking;
    others.sort();
    match others.as_slice() {
        [] => {}
        [one] if count == 1 => report.notes.push(format!("no part of the dataset: {one}")),
        several => {
            let shown = several.join(", ");
            let more = match count - several.len() as u64 {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            report
                .notes
                .push(format!("no parts of the dataset: {shown}{more}"));
        }
    }
}

/// Alike for all ways to write it.
fn plain(path: &str) -> PathBuf {
    Path::new(path)
        .components()
        .filter(|c| !matches!(c, Component::CurDir))
        .collect()
}

struct Looking<'a> {
    dataset: &'a Path,
    known: HashSet<PathBuf>,
    /// The first that are only noted.
    others: Vec<String>,
    count: u64,
    report: &'a mut Report,
}

impl Looking<'_> {
    fn folder(&mut self, inside: &Path, depth: usize) {
        // What cannot be read is told of where a file of the dataset is in it.
        let Ok(entries) = fs::read_dir(self.dataset.join(inside)) else {
            return;
        };
        for entry in entries.flatten() {
            let path = inside.join(entry.file_name());
            let is_folder = entry.file_type().is_ok_and(|t| t.is_dir());
            let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if is_folder && !is_hidden && depth < DEEPEST {
                self.folder(&path, depth + 1);
            } else if !self.known.contains(&path) {
                self.surplus(&path, is_hidden, is_folder);
            }
        }
    }

    fn surplus(&mut self, path: &Path, is_hidden: bool, is_folder: bool) {
        let extension = path.extension().and_then(OsStr::to_str);
        let is_data = matches!(extension, Some("arrow" | "parquet"));
        if is_data && !is_hidden && !is_folder {
            let why = "the manifest names no such file: a program that reads whole folders would take it for a part of the dataset";
            self.report
                .add(Check::Files, &self.dataset.join(path), None, why.into());
        } else if path.starts_with(TOKENIZER_FOLDER) {
            // Refused when the tokenizer is read.
        } else {
            self.count += 1;
            if self.count <= Report::KEPT {
                let folder = if is_folder { "/" } else { "" };
                self.others.push(format!("{}{folder}", path.display()));
            }
        }
    }
}
