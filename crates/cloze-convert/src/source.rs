//! A dataset to convert, in whatever files.

use std::path::Path;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use cloze_shard::manifest::{FILE_NAME, FileRecord, Manifest, Masking, ShardRecord};
use cloze_shard::schema::shard_schema;
use cloze_shard::{Error as ShardError, atomic, check_file, documents, ipc};

use crate::output::same_digest;
use crate::table::read_table;
use crate::{Container, Error, FilesFormat, Result, Target};

/// An open dataset.
pub struct Source<'a> {
    pub path: &'a Path,
    /// The manifest of the Arrow files, whether they are here or not.
    pub manifest: Manifest,
    /// The manifest of other files, where it is these that are here.
    pub container: Option<Container>,
}

impl<'a> Source<'a> {
    /// Reads the manifest of `path`.
    pub fn open(path: &'a Path) -> Result<Self> {
        let container = Container::read(path)?;
        let manifest = match &container {
            Some(container) => container.dataset.clone(),
            None => Manifest::read(path)?,
        };
        Ok(Self {
            path,
            manifest,
            container,
        })
    }

    /// Refuses what cannot be, or is already.
    pub fn check_target(&self, target: Target) -> Result<()> {
        let format = |why: &str, hint: &str| {
            Err(Error::Format {
                path: self.path.into(),
                why: why.into(),
                hint: hint.into(),
            })
        };
        match (self.container.as_ref().map(|c| c.files_format), target) {
            (Some(FilesFormat::Transformers), _) => format(
                "made for transformers: it does not hold all that the dataset held",
                "convert the dataset that it was made from",
            ),
            (None, Target::Arrow) => format(
                "its files are Arrow already",
                "give --to parquet, or --to transformers",
            ),
            (Some(FilesFormat::Parquet), Target::Parquet) => format(
                "its files are Parquet already",
                "give --to arrow, or --to transformers",
            ),
            _ => Ok(()),
        }
    }

    pub fn rows(&self) -> u64 {
        self.manifest.splits.values().map(|s| s.rows).sum()
    }

    /// Bytes of the files that rows are read from.
    pub fn bytes(&self) -> u64 {
        match &self.container {
            Some(container) => container.files.iter().map(|f| f.file.bytes).sum(),
            None => {
                let shards = self.manifest.splits.values().flat_map(|s| &s.shards);
                shards.map(|s| s.file.bytes).sum::<u64>() + self.manifest.documents.bytes
            }
        }
    }

    pub fn static_masks(&self) -> bool {
        matches!(self.manifest.masking, Masking::Static { .. })
    }

    /// The schema of the shards.
    pub fn schema(&self) -> SchemaRef {
        shard_schema(self.manifest.tokenizer.id_type, self.static_masks())
    }

    /// Hands the batches of a shard to `each`, in order, after its bytes were compared with the manifest's digest. They have as many rows as the manifest says.
    pub fn batches(
        &self,
        shard: &ShardRecord,
        each: &mut dyn FnMut(RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let mut rows = 0;
        self.read(&shard.file, &self.schema(), &mut |batch| {
            rows += batch.num_rows() as u64;
            each(batch)
        })?;
        if rows != shard.rows {
            return Err(Error::Format {
                path: self.path.join(&shard.file.path),
                why: format!(
                    "its {rows} rows are not those in the manifest, which are {}",
                    shard.rows
                ),
                hint:
                    "`cloze verify` lists what is wrong; copy the dataset again, or prepare it anew"
                        .into(),
            });
        }
        Ok(())
    }

    /// The schema of the table of documents.
    pub fn documents_schema(&self) -> SchemaRef {
        documents::schema(!self.manifest.metadata.is_empty())
    }

    /// Hands the batches of the table of documents to `each`, as above.
    pub fn documents(&self, each: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        self.read(&self.manifest.documents, &self.documents_schema(), each)
    }

    fn read(
        &self,
        record: &FileRecord,
        schema: &SchemaRef,
        each: &mut dyn FnMut(RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let here = match &self.container {
            Some(container) => container.file(self.path, &record.path)?,
            None => record,
        };
        let path = check_file(self.path, here)?;
        same_digest(path.clone(), &here.blake3, atomic::digest(&path)?.blake3)?;
        if self.container.is_some() {
            return read_table(&path, schema, each);
        }
        let batches = ipc::map_batches(&path, schema)?;
        batches.into_iter().try_for_each(each)
    }

    /// The error of a file of ours that holds something else than the manifest says.
    pub fn other_than_manifest(&self, record: &FileRecord, why: &str) -> Error {
        let path = match &self.container {
            Some(container) => container.file(self.path, &record.path).map(|f| &f.path),
            None => Ok(&record.path),
        };
        let path = path.map_or(self.path.join(FILE_NAME), |name| self.path.join(name));
        let why = why.into();
        Error::Shard(ShardError::Shard { path, why })
    }
}
