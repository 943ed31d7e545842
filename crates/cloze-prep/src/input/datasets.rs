//! Datasets among the inputs: their files are no text, though names such as `vocab.txt` say so.

use std::path::{Path, PathBuf};

use cloze_shard::manifest::{FILE_NAME, read_text};

use super::InputError;

/// Refuses what was found in `folder`, where the files that would be read are part of a dataset, or where it is one.
pub fn refuse(folder: &Path, all: &[PathBuf], read: &[PathBuf]) -> Result<(), InputError> {
    let manifests = all.iter().filter(|file| file.ends_with(FILE_NAME));
    let datasets = manifests.filter_map(|file| file.parent().filter(|d| is_dataset(d)));
    refuse_any(folder, datasets, read)
}

/// As [`refuse`], of objects below a prefix, which are known by their names alone.
#[cfg_attr(
    not(feature = "remote"),
    allow(dead_code, reason = "nothing is found where nothing is reached")
)]
pub fn refuse_objects(prefix: &Path, all: &[&Path], read: &[PathBuf]) -> Result<(), InputError> {
    let documents = Path::new(cloze_shard::documents::FILE_NAME);
    let folders = all.iter().filter(|key| key.ends_with(documents));
    let folders = folders.filter_map(|key| key.parent());
    let datasets = folders.filter(|folder| all.contains(&folder.join(FILE_NAME).as_path()));
    refuse_any(prefix, datasets, read)
}

fn refuse_any<'a>(
    folder: &Path,
    mut datasets: impl Iterator<Item = &'a Path>,
    read: &[PathBuf],
) -> Result<(), InputError> {
    let is_part =
        |dataset: &&Path| *dataset == folder || read.iter().any(|file| file.starts_with(dataset));
    match datasets.find(is_part) {
        None => Ok(()),
        Some(dataset) => Err(InputError::Dataset {
            path: dataset.into(),
        }),
    }
}

/// Whether Cloze made it, in this version or another.
fn is_dataset(folder: &Path) -> bool {
    matches!(
        read_text(folder),
        Ok(_) | Err(cloze_shard::Error::Version { .. })
    )
}
