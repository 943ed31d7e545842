//! The output folder: begun, gone on with, kept or removed again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use cloze_shard::manifest;
use cloze_shard::place::writable;
use rayon::prelude::*;

use crate::key::{self, Key};
use crate::{Error, Result, tokens};

/// The folder of unfinished work in the output folder; gone when the dataset is whole.
pub const WORK_FOLDER: &str = ".work";
const KEY: &str = "key.json";

/// The output folder. When preparation fails before there is anything to go on from, what it wrote is removed again.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    created: bool,
    done: bool,
    _lock: File,
}

impl Output {
    /// Takes `path`, which must not exist, or be empty; with `resume` it may hold what an earlier run with the same `key` left. `None`: it holds the whole
    /// dataset already.
    pub fn begin(path: &Path, key: &Key, resume: bool) -> Result<Option<Self>> {
        let exists = |why: &str, hint| {
            Err(Error::OutputExists {
                path: path.into(),
                why: why.into(),
                hint,
            })
        };
        let work = path.join(WORK_FOLDER);
        let created = !path.exists();
        if !created {
            if !path.is_dir() {
                return exists("is a file", "give a folder that does not exist yet");
            }
            if path.join(manifest::FILE_NAME).exists() {
                if resume {
                    // Stopped between the last two steps: what is left is of no use.
                    remove(&work)?;
                    return Ok(None);
                }
                return exists(
                    "holds a dataset already",
                    "give another --out, or delete this dataset first",
                );
            }
            let unfinished = work.exists();
            if unfinished && !resume {
                return exists(
                    "holds the remains of a preparation that was stopped, or of one that is still running",
                    "if none is running, go on with --resume, or delete the folder and prepare again",
                );
            }
            let mut entries = fs::read_dir(path).map_err(cloze_shard::Error::io(path))?;
            if !unfinished && entries.next().is_some() {
                return exists(
                    "is not empty",
                    "give a folder that does not exist yet, or an empty one",
                );
            }
        }
        // Of those that are there; what stands in the way is said before anything is read.
        for folder in [path, &work, &work.join("tokens")] {
            writable(folder)?;
        }
        fs::create_dir_all(&work).map_err(cloze_shard::Error::io(&work))?;
        let output = Self {
            path: path.into(),
            created,
            done: false,
            _lock: tokens::lock(&work).inspect_err(|_| {
                if created {
                    let _ = fs::remove_dir_all(path);
                }
            })?,
        };
        let of_key = work.join(KEY);
        let then = match key::read::<Key>(&of_key) {
            Ok(then) => then,
            // What can be told of the rest is for who looks at it.
            Err(error) => {
                output.leave();
                return Err(error);
            }
        };
        if let Some(then) = then {
            let differences = then.differences(key);
            if !differences.is_empty() {
                output.leave();
                return Err(Error::OtherConfig {
                    path: path.into(),
                    differences,
                    hint: "give the same options, or delete the folder and prepare again",
                });
            }
        } else {
            key::write(&of_key, key, None)?;
        }
        Ok(Some(output))
    }

    /// Everything is there.
    pub fn finish(mut self) -> Result<()> {
        self.done = true;
        remove(&self.path.join(WORK_FOLDER))
    }

    /// Stays as it is.
    pub fn leave(mut self) {
        self.done = true;
    }
}

/// What a preparation that is killed leaves in `out`, and in the folder of tokens if it has one of its own, in words.
#[must_use]
pub fn left_in(out: &Path, tokens: Option<&Path>) -> String {
    let work = out.join(WORK_FOLDER);
    if !work.exists() {
        return "nothing was begun".into();
    }
    let own = work.join("tokens");
    // Of tokens elsewhere nothing is known where they are not named.
    let is_elsewhere = tokens.is_none() && !own.exists();
    let folder = tokens.unwrap_or(&own);
    let is_safe = ["part-00000.json", "whole.json"]
        .iter()
        .any(|name| folder.join(name).exists());
    match is_safe || is_elsewhere {
        true => format!(
            "what was done is kept in {}: the same command with --resume goes on from there",
            out.display()
        ),
        false => format!(
            "no tokens are safe in {} yet: the same command with --resume begins anew (--save-every says after how much text they are; with deduplication, when \
             all of it was read)",
            out.display()
        ),
    }
}

/// Removes a folder with all that is in it, if it is there.
fn remove(folder: &Path) -> Result<()> {
    // Freeing what large files hold takes a while. What cannot be removed is told of below.
    let is_folder = fs::symlink_metadata(folder).is_ok_and(|m| m.is_dir());
    let files = match is_folder {
        true => files_in(folder),
        false => Vec::new(),
    };
    files.par_iter().with_max_len(1).for_each(|file| {
        let _ = fs::remove_file(file);
    });
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(cloze_shard::Error::io(folder)(e).into())
        }
        _ => Ok(()),
    }
}

/// The files in a folder and those in it, as far as they can be listed.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files.extend(files_in(&entry.path())),
            _ => files.push(entry.path()),
        }
    }
    files
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        // What cannot be removed has no manifest, so it is no dataset; the error that led here is the one to show.
        if self.created {
            let _ = fs::remove_dir_all(&self.path);
        } else if let Ok(entries) = fs::read_dir(&self.path) {
            for entry in entries.flatten() {
                let path = entry.path();
                let _ = if path.is_dir() {
                    fs::remove_dir_all(&path)
                } else {
                    fs::remove_file(&path)
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_said_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (out, kept) = (at("out"), at("kept"));
        let says = |tokens: Option<&Path>, what: &str| {
            let said = left_in(&out, tokens);
            assert!(said.contains(what), "{said}");
        };
        says(None, "nothing was begun");
        fs::create_dir_all(out.join(WORK_FOLDER)).unwrap();
        fs::create_dir(&kept).unwrap();
        // Of tokens elsewhere, which nobody names, nothing is known.
        says(None, "goes on from there");
        says(Some(&kept), "begins anew");
        fs::write(kept.join("part-00000.json"), "").unwrap();
        says(Some(&kept), "goes on from there");
        let own = out.join(WORK_FOLDER).join("tokens");
        fs::create_dir(&own).unwrap();
        fs::write(own.join("part-00000.arrow.partial"), "").unwrap();
        says(None, "begins anew");
        fs::write(own.join("whole.json"), "").unwrap();
        says(None, "goes on from there");
    }
}
