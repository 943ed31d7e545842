//! A folder that appears under its name when all of it is there.

use std::fs;
use std::path::{Path, PathBuf};

use cloze_shard::manifest::{FILE_NAME, FileRecord};
use cloze_shard::{atomic, check_file};

use crate::{Error, Result};

/// What is written lies in `NAME.partial` beside the folder until [`Output::commit`]; dropping it removes that.
pub struct Output {
    path: PathBuf,
    partial: PathBuf,
    committed: bool,
}

/// Where the folder `path` is written until it is whole.
#[must_use]
pub fn partial(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    path.with_file_name(name)
}

impl Output {
    /// Begins the folder `path`, which must not exist, or be empty.
    pub fn begin(path: &Path) -> Result<Self> {
        let taken = |path: &Path, why, hint: &str| {
            Err(Error::OutputExists {
                path: path.into(),
                why,
                hint: hint.into(),
            })
        };
        if path.join(FILE_NAME).exists() {
            let hint = "give another folder, or delete this dataset first";
            return taken(path, "holds a dataset already", hint);
        }
        if cloze_shard::place::dataset_around(path).is_some() {
            let hint = "give a folder elsewhere";
            return taken(
                path,
                "lies in another dataset, which holds nothing but its own files",
                hint,
            );
        }
        if path.exists() {
            let hint = "give a folder that does not exist yet, or an empty one";
            if !path.is_dir() {
                return taken(path, "is a file", hint);
            }
            let mut entries = fs::read_dir(path).map_err(cloze_shard::Error::io(path))?;
            if entries.next().is_some() {
                return taken(path, "is not empty", hint);
            }
        }
        let partial = partial(path);
        if let Some(parent) = partial.parent() {
            fs::create_dir_all(parent).map_err(cloze_shard::Error::io(parent))?;
        }
        match fs::create_dir(&partial) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                return taken(
                    &partial,
                    "the remains of a conversion that was stopped, or one that is still running",
                    "if none is running, delete the folder and convert again",
                );
            }
            made => made.map_err(cloze_shard::Error::io(&partial))?,
        }
        Ok(Self {
            path: path.into(),
            partial,
            committed: false,
        })
    }

    /// The folder to write into.
    pub fn folder(&self) -> &Path {
        &self.partial
    }

    /// Where the file `name`, a path with `/` of which every part is a name, is to be written; folders above it are made.
    pub fn place(&self, name: &str) -> Result<PathBuf> {
        if !is_inside(name) {
            return Err(Error::input(
                &self.path,
                "",
                format!("the manifest names the file {name:?}, which is not inside the dataset"),
            ));
        }
        let path = self.partial.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(cloze_shard::Error::io(folder))?;
        }
        Ok(path)
    }

    /// Copies a file of `dataset`, which must be as its record says.
    pub fn copy(&self, dataset: &Path, record: &FileRecord) -> Result<()> {
        let path = check_file(dataset, record)?;
        let bytes = fs::read(&path).map_err(cloze_shard::Error::io(&path))?;
        let written = atomic::write(&self.place(&record.path)?, &bytes)?;
        same_digest(path, &record.blake3, written.blake3)
    }

    /// Gives the folder its name.
    pub fn commit(mut self) -> Result<()> {
        let io = cloze_shard::Error::io;
        for entry in fs::read_dir(&self.partial)
            .map_err(io(&self.partial))?
            .flatten()
        {
            if entry.path().is_dir() {
                atomic::sync_folder(&entry.path())?;
            }
        }
        atomic::sync_folder(&self.partial)?;
        fs::rename(&self.partial, &self.path).map_err(io(&self.path))?;
        self.committed = true;
        Ok(atomic::sync_folder(
            self.path.parent().unwrap_or(Path::new("")),
        )?)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.committed {
            // What cannot be removed has not the name; the error that led here is the one to show.
            let _ = fs::remove_dir_all(&self.partial);
        }
    }
}

/// Whether `name` is a path that stays in its folder.
pub fn is_inside(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    !name.is_empty() && parts.all(|c| matches!(c, std::path::Component::Normal(_)))
}

/// Refuses a file whose digest is not the one that the manifest binds.
pub fn same_digest(path: PathBuf, expected: &str, found: String) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Shard(cloze_shard::Error::Digest {
        path,
        expected: expected.into(),
        found,
    }))
}
