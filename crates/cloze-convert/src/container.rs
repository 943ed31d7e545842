//! The manifest of a dataset whose rows lie in other files: format version 4.

use std::collections::BTreeSet;
use std::path::Path;

use cloze_shard::manifest::{FILE_NAME, FileRecord, Manifest, read_text};
use cloze_shard::{FILES_VERSION, atomic};
use serde::{Deserialize, Serialize};

use crate::output::is_inside;
use crate::{Error, Result};

/// What the files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FilesFormat {
    /// The same tables in Parquet: nothing is lost.
    Parquet,
    /// What `transformers` takes, in Parquet.
    Transformers,
}

/// `manifest.json` of such a dataset. Field order is the order in the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// Always `cloze-dataset`.
    pub format: String,
    /// [`FILES_VERSION`].
    pub format_version: u32,
    /// Program and version that wrote the files.
    pub created_by: String,
    /// What the files are.
    pub files_format: FilesFormat,
    /// Tokens that every row is filled up to, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub padded_to: Option<u16>,
    /// The files, each with what it was made from.
    pub files: Vec<ContainerFile>,
    /// The manifest of the dataset in Arrow files.
    pub dataset: Manifest,
}

/// A file, and the Arrow file that it was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerFile {
    /// Path of the Arrow file, as in the dataset's manifest.
    pub of: String,
    /// Path, size, digest.
    #[serde(flatten)]
    pub file: FileRecord,
}

impl Container {
    /// A manifest of `files`, made from the files of `dataset`.
    pub fn new(
        files_format: FilesFormat,
        padded_to: Option<u16>,
        files: Vec<ContainerFile>,
        dataset: Manifest,
    ) -> Self {
        Self {
            format: Manifest::format_name(),
            format_version: FILES_VERSION,
            created_by: crate::CREATED_BY.into(),
            files_format,
            padded_to,
            files,
            dataset,
        }
    }

    /// Reads `DATASET/manifest.json` where it is of this version; `None` where it is of one that Arrow files have.
    pub fn read(dataset: &Path) -> Result<Option<Self>> {
        let (version, text) = read_text(dataset)?;
        if version != FILES_VERSION {
            return Ok(None);
        }
        let broken = |why: String| cloze_shard::Error::Manifest {
            path: dataset.join(FILE_NAME),
            why,
        };
        let container: Self =
            serde_json::from_str(&text).map_err(|e| broken(format!("not a manifest: {e}")))?;
        container.check().map_err(broken)?;
        Ok(Some(container))
    }

    /// Every file that there must be is there, once, and all paths stay inside.
    fn check(&self) -> std::result::Result<(), String> {
        self.dataset.check()?;
        if self.dataset.format_version == FILES_VERSION {
            let version = self.dataset.format_version;
            return Err(format!("the dataset in it has format version {version}"));
        }
        let of: BTreeSet<&str> = self.files.iter().map(|f| f.of.as_str()).collect();
        let names: BTreeSet<&str> = self.files.iter().map(|f| f.file.path.as_str()).collect();
        let shards = self.dataset.splits.values().flat_map(|s| &s.shards);
        let mut expected: BTreeSet<&str> = shards.map(|s| s.file.path.as_str()).collect();
        if self.files_format == FilesFormat::Parquet {
            expected.insert(&self.dataset.documents.path);
        }
        let once = of.len() == self.files.len() && names.len() == self.files.len();
        if of != expected || !once {
            return Err("`files` and the files of `dataset` are not the same".into());
        }
        match of.iter().chain(&names).find(|name| !is_inside(name)) {
            Some(name) => Err(format!(
                "names the file {name:?}, which is not inside the dataset"
            )),
            None => Ok(()),
        }
    }

    /// The file that was made from the Arrow file `of`. [`Container::read`] saw that there is one.
    pub fn file(&self, dataset: &Path, of: &str) -> Result<&FileRecord> {
        let found = self.files.iter().find(|f| f.of == of);
        found.map(|f| &f.file).ok_or_else(|| {
            Error::input(
                &dataset.join(FILE_NAME),
                "",
                format!("no file was made from {of}"),
            )
        })
    }

    /// Bytes of all its files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let tokenizer = self.dataset.tokenizer.files.iter().map(|f| f.bytes);
        self.files
            .iter()
            .map(|f| f.file.bytes)
            .chain(tokenizer)
            .sum()
    }

    /// Writes `FOLDER/manifest.json`.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FILE_NAME);
        let mut text =
            serde_json::to_string_pretty(self).map_err(|e| cloze_shard::Error::Manifest {
                path: path.clone(),
                why: e.to_string(),
            })?;
        text.push('\n');
        atomic::write(&path, text.as_bytes())?;
        Ok(())
    }
}
