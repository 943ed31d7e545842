//! Reading a dataset: memory-mapped, validated when it opens, without a copy afterwards.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::{Int8Type, Int64Type, UInt16Type, UInt32Type};
use arrow_array::{Array, ListArray, RecordBatch};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::SchemaRef;

use crate::documents::Documents;
use crate::manifest::{FileRecord, Manifest, Masking, ShardRecord, TOKENIZER_FOLDER};
use crate::prefetch::prefetch;
use crate::row::{Ids, MasksRef, NextSentenceLabel, RowRef};
use crate::schema::{IdType, shard_schema};
use crate::writer::ROWS_PER_BATCH;
use crate::{Error, Result, Vocabulary, atomic, ipc};

/// An open dataset.
#[derive(Debug)]
pub struct Dataset {
    path: PathBuf,
    manifest: Manifest,
    splits: BTreeMap<String, Split>,
}

impl Dataset {
    /// Opens the dataset in the folder `path`.
    ///
    /// Every shard's presence, size, columns, offsets, alignment, lengths and labels are checked, so
    /// that reading a row cannot fail later. Digests are not: that reads every byte, and is
    /// [`crate::verify`]'s.
    pub fn open(path: &Path) -> Result<Self> {
        let manifest = Manifest::read(path)?;
        let mut splits = BTreeMap::new();
        for (name, record) in &manifest.splits {
            let shards = record
                .shards
                .iter()
                .map(|s| Shard::open(path, &manifest, s))
                .collect::<Result<Vec<_>>>()?;
            splits.insert(name.clone(), Split::new(shards));
        }
        Ok(Self {
            path: path.into(),
            manifest,
            splits,
        })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What binds the dataset.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// A split by name: `train` or `validation`.
    #[must_use]
    pub fn split(&self, name: &str) -> Option<&Split> {
        self.splits.get(name)
    }

    /// All splits, by name.
    pub fn splits(&self) -> impl Iterator<Item = (&str, &Split)> {
        self.splits
            .iter()
            .map(|(name, split)| (name.as_str(), split))
    }

    /// Checks that the tokenizer's files are those that the manifest binds, digests too: they are small.
    pub fn check_tokenizer(&self) -> Result<()> {
        self.tokenizer()?;
        for record in &self.manifest.tokenizer.files {
            let path = check_file(&self.path, record)?;
            let found = atomic::digest(&path)?.blake3;
            if found != record.blake3 {
                return Err(Error::Digest {
                    path,
                    expected: record.blake3.clone(),
                    found,
                });
            }
        }
        Ok(())
    }

    /// The entries of the tokenizer in the dataset's folder.
    pub fn vocabulary(&self) -> Result<Vocabulary> {
        vocabulary(&self.path, &self.manifest)
    }

    /// The folder of the dataset's tokenizer, none of whose files leads elsewhere, and which has none but those that the manifest names.
    pub fn tokenizer(&self) -> Result<PathBuf> {
        tokenizer(&self.path, &self.manifest)
    }

    /// Maps the table of documents.
    pub fn documents(&self) -> Result<Documents> {
        let path = check_file(&self.path, &self.manifest.documents)?;
        Documents::open(&path, !self.manifest.metadata.is_empty())
    }
}

/// A file of the dataset, if its path stays inside and it has the size that the manifest binds.
pub fn check_file(dataset: &Path, record: &FileRecord) -> Result<PathBuf> {
    let path = dataset.join(&record.path);
    let escapes = Path::new(&record.path)
        .components()
        .any(|c| !matches!(c, std::path::Component::Normal(_)));
    if escapes {
        let why = format!(
            "names the file {:?}, which is not inside the dataset",
            record.path
        );
        return Err(Error::Manifest {
            path: dataset.join(crate::manifest::FILE_NAME),
            why,
        });
    }
    let found = regular_file(&path)?;
    check_inside(dataset, &path)?;
    if found != record.bytes {
        return Err(Error::Size {
            path,
            expected: record.bytes,
            found,
        });
    }
    Ok(path)
}

/// Refuses a path that leads out of the dataset. A link may lead to another file of it, and the dataset may be behind one.
fn check_inside(dataset: &Path, path: &Path) -> Result<()> {
    let real = |path: &Path| std::fs::canonicalize(path).map_err(Error::io(path));
    if real(path)?.starts_with(real(dataset)?) {
        return Ok(());
    }
    Err(Error::NoFile {
        path: path.into(),
        why: "leads out of the dataset by a symbolic link".into(),
    })
}

/// The folder of a dataset's tokenizer, none of whose files leads elsewhere, or is none, or is unknown to the manifest: models are written with all of them beside their own.
fn tokenizer(dataset: &Path, manifest: &Manifest) -> Result<PathBuf> {
    let folder = dataset.join(TOKENIZER_FOLDER);
    let mut unnamed = None;
    for entry in std::fs::read_dir(&folder).map_err(Error::io(&folder))? {
        let entry = entry.map_err(Error::io(&folder))?;
        let path = entry.path();
        regular_file(&path)?;
        check_inside(dataset, &path)?;
        let name = Path::new(TOKENIZER_FOLDER).join(entry.file_name());
        let mut named = manifest.tokenizer.files.iter();
        if !named.any(|record| Path::new(&record.path) == name) {
            unnamed = Some(path);
        }
    }
    if let Some(path) = unnamed {
        return Err(Error::Unnamed { path });
    }
    Ok(folder)
}

/// The entries of a dataset's tokenizer.
pub(crate) fn vocabulary(dataset: &Path, manifest: &Manifest) -> Result<Vocabulary> {
    Vocabulary::read(&tokenizer(dataset, manifest)?)
}

/// The size of a regular file. What may be read without end, or may never answer, is refused.
pub fn regular_file(path: &Path) -> Result<u64> {
    let found = std::fs::metadata(path).map_err(Error::io(path))?;
    match found.is_file() {
        true => Ok(found.len()),
        false => Err(Error::NoFile {
            path: path.into(),
            why: "is no regular file".into(),
        }),
    }
}

/// The text of a small file that may be a stranger's: a regular one, of at most `most` bytes.
pub fn read_small(path: &Path, most: u64) -> Result<String> {
    let found = regular_file(path)?;
    if found > most {
        return Err(Error::NoFile {
            path: path.into(),
            why: format!("has {found} bytes, at most {most} are read"),
        });
    }
    std::fs::read_to_string(path).map_err(Error::io(path))
}

/// A split: its shards' rows, numbered through.
#[derive(Debug)]
pub struct Split {
    shards: Vec<Shard>,
    /// Number of the first row of each shard, then the number of rows.
    starts: Vec<u64>,
}

impl Split {
    fn new(shards: Vec<Shard>) -> Self {
        let mut starts = vec![0];
        let mut total = 0;
        for shard in &shards {
            total += shard.rows();
            starts.push(total);
        }
        Self { shards, starts }
    }

    /// The number of rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Row `i`.
    ///
    /// # Panics
    /// If `i` is not below [`Split::rows`].
    #[must_use]
    pub fn row(&self, i: u64) -> RowRef<'_> {
        let (shard, row) = self.locate(i);
        self.shards[shard].row(row)
    }

    /// Tokens of row `i`.
    ///
    /// # Panics
    /// If `i` is not below [`Split::rows`].
    #[must_use]
    pub fn row_len(&self, i: u64) -> usize {
        let (shard, row) = self.locate(i);
        let (batch, row) = self.shards[shard].place(row);
        batch.input_ids.range(row).len()
    }

    /// Has the processor fetch what row `i` is made of, which is to be read soon. Changes nothing else.
    ///
    /// # Panics
    /// If `i` is not below [`Split::rows`].
    #[inline]
    pub fn prefetch(&self, i: u64) {
        let (shard, row) = self.locate(i);
        let (batch, row) = self.shards[shard].place(row);
        batch.prefetch(row);
    }

    /// Which shard, and which row of it, row `i` is.
    ///
    /// # Panics
    /// If `i` is not below [`Split::rows`].
    #[must_use]
    pub fn locate(&self, i: u64) -> (usize, u64) {
        assert!(i < self.rows(), "row {i} of {}", self.rows());
        let shard = self.starts.partition_point(|&start| start <= i) - 1;
        (shard, i - self.starts[shard])
    }

    /// All rows, in order.
    pub fn iter(&self) -> impl Iterator<Item = RowRef<'_>> {
        self.shards
            .iter()
            .flat_map(|s| (0..s.rows()).map(|i| s.row(i)))
    }

    /// The shards, in order.
    #[must_use]
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }
}

/// What is another in two histograms of lengths, in words; `None` where nothing is.
#[must_use]
pub fn other_lengths(says: &BTreeMap<u16, u64>, found: &BTreeMap<u16, u64>) -> Option<String> {
    let of = |all: &BTreeMap<u16, u64>, n: u16| all.get(&n).copied().unwrap_or(0);
    let mut all = found.keys().chain(says.keys());
    let n = *all.find(|&&n| {
        of(says, n) != of(found, n) || !says.contains_key(&n) || !found.contains_key(&n)
    })?;
    Some(format!(
        "lengths: the manifest says {} rows of {n} tokens, found {}",
        of(says, n),
        of(found, n)
    ))
}

/// One mapped shard.
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    rows: u64,
    batches: Vec<BatchView>,
}

impl Shard {
    /// Opens the shard that `record` describes.
    pub fn open(dataset: &Path, manifest: &Manifest, record: &ShardRecord) -> Result<Self> {
        let path = check_file(dataset, &record.file)?;
        let static_masks = matches!(manifest.masking, Masking::Static { .. });
        let shard = Self::map(
            &path,
            &shard_schema(manifest.tokenizer.id_type, static_masks),
            manifest.tokenizer.id_type,
        )?;
        if shard.rows != record.rows {
            let why = format!("{} rows, the manifest says {}", shard.rows, record.rows);
            return Err(Error::Shard { path, why });
        }
        let lengths = shard.check_lengths(manifest.max_seq_length)?;
        if let Some(why) = other_lengths(&record.lengths, &lengths) {
            return Err(Error::Shard { path, why });
        }
        Ok(shard)
    }

    fn map(path: &Path, schema: &SchemaRef, id_type: IdType) -> Result<Self> {
        let bad = |why: String| Error::Shard {
            path: path.into(),
            why,
        };
        let batches = ipc::map_batches(path, schema)?;
        let mut views = Vec::with_capacity(batches.len());
        for (number, batch) in batches.iter().enumerate() {
            let (rows, last) = (batch.num_rows(), number + 1 == batches.len());
            if rows > ROWS_PER_BATCH || (rows < ROWS_PER_BATCH && !last) {
                return Err(bad(format!(
                    "record batch {number} has {rows} rows, not {ROWS_PER_BATCH}{}",
                    if last { " or fewer" } else { "" }
                )));
            }
            views.push(
                BatchView::new(batch, id_type)
                    .map_err(|why| bad(format!("record batch {number}: {why}")))?,
            );
        }
        let rows = batches.iter().map(|b| b.num_rows() as u64).sum();
        Ok(Self {
            path: path.into(),
            rows,
            batches: views,
        })
    }

    /// What a reader relies on without looking: lengths, segment starts and labels in their ranges.
    /// The histogram of lengths.
    fn check_lengths(&self, max_seq_length: u16) -> Result<BTreeMap<u16, u64>> {
        let mut lengths = vec![0u64; usize::from(max_seq_length) + 1];
        for i in 0..self.rows {
            let fail = |why: String| {
                Err(Error::Row {
                    path: self.path.clone(),
                    row: i,
                    why,
                })
            };
            let batch = &self.batches[(i / ROWS_PER_BATCH as u64) as usize];
            let label = batch.label((i % ROWS_PER_BATCH as u64) as usize);
            if label.is_some_and(|l| NextSentenceLabel::from_i8(l).is_none()) {
                return fail(format!(
                    "next_sentence_label is {label:?}, must be 0, 1 or null"
                ));
            }
            let row = self.row(i);
            if row.is_empty() || row.len() > usize::from(max_seq_length) {
                return fail(format!(
                    "{} tokens, must be 1 to {max_seq_length}",
                    row.len()
                ));
            }
            lengths[row.len()] += 1;
            if usize::from(row.b_start) > row.len() {
                return fail(format!(
                    "b_start {} in a row of {} tokens",
                    row.b_start,
                    row.len()
                ));
            }
            if let Some(masks) = row.masks {
                let inside = masks.positions.iter().all(|&p| usize::from(p) < row.len());
                if masks.positions.len() != masks.labels.len() || !inside {
                    return fail("its static masks do not fit it".into());
                }
            }
        }
        let seen = (0u16..).zip(lengths).filter(|&(_, n)| n > 0);
        Ok(seen.collect())
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Row `i` of the shard.
    ///
    /// # Panics
    /// If `i` is not below [`Shard::rows`].
    #[must_use]
    pub fn row(&self, i: u64) -> RowRef<'_> {
        let (batch, row) = self.place(i);
        batch.row(row)
    }

    fn place(&self, i: u64) -> (&BatchView, usize) {
        let rows = ROWS_PER_BATCH as u64;
        (&self.batches[(i / rows) as usize], (i % rows) as usize)
    }
}

#[derive(Debug)]
enum IdValues {
    U16(ScalarBuffer<u16>),
    U32(ScalarBuffer<u32>),
}

#[derive(Debug)]
struct IdColumn {
    offsets: OffsetBuffer<i32>,
    values: IdValues,
}

impl IdColumn {
    fn new(list: &ListArray, id_type: IdType) -> Self {
        let values = match id_type {
            IdType::UInt16 => {
                IdValues::U16(list.values().as_primitive::<UInt16Type>().values().clone())
            }
            IdType::UInt32 => {
                IdValues::U32(list.values().as_primitive::<UInt32Type>().values().clone())
            }
        };
        Self {
            offsets: list.offsets().clone(),
            values,
        }
    }

    #[inline]
    fn range(&self, i: usize) -> std::ops::Range<usize> {
        self.offsets[i] as usize..self.offsets[i + 1] as usize
    }

    #[inline]
    fn get(&self, i: usize) -> Ids<'_> {
        let range = self.range(i);
        match &self.values {
            IdValues::U16(values) => Ids::U16(&values[range]),
            IdValues::U32(values) => Ids::U32(&values[range]),
        }
    }
}

#[derive(Debug)]
struct BatchView {
    input_ids: IdColumn,
    b_start: ScalarBuffer<u16>,
    labels: ScalarBuffer<i8>,
    label_nulls: Option<NullBuffer>,
    docs: [ScalarBuffer<i64>; 2],
    sentences: [ScalarBuffer<u32>; 2],
    masks: Option<(OffsetBuffer<i32>, ScalarBuffer<u16>, IdColumn)>,
}

impl BatchView {
    /// `batch` has the shard schema: `ipc::map_batches` compared them.
    fn new(batch: &RecordBatch, id_type: IdType) -> std::result::Result<Self, String> {
        for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            let inner = column
                .as_list_opt::<i32>()
                .map_or(0, |l| l.values().null_count());
            if (!field.is_nullable() && column.null_count() > 0) || inner > 0 {
                return Err(format!("column {} holds nulls", field.name()));
            }
        }
        let docs = |i: usize| batch.column(i).as_primitive::<Int64Type>().values().clone();
        let sentences = |i: usize| {
            batch
                .column(i)
                .as_primitive::<UInt32Type>()
                .values()
                .clone()
        };
        let labels = batch.column(2).as_primitive::<Int8Type>();
        let masks = (batch.num_columns() > 7).then(|| {
            let positions = batch.column(7).as_list::<i32>();
            let values = positions
                .values()
                .as_primitive::<UInt16Type>()
                .values()
                .clone();
            (
                positions.offsets().clone(),
                values,
                IdColumn::new(batch.column(8).as_list(), id_type),
            )
        });
        Ok(Self {
            input_ids: IdColumn::new(batch.column(0).as_list(), id_type),
            b_start: batch
                .column(1)
                .as_primitive::<UInt16Type>()
                .values()
                .clone(),
            labels: labels.values().clone(),
            label_nulls: labels.nulls().cloned(),
            docs: [docs(3), docs(4)],
            sentences: [sentences(5), sentences(6)],
            masks,
        })
    }

    fn prefetch(&self, i: usize) {
        let range = self.input_ids.range(i);
        match &self.input_ids.values {
            IdValues::U16(values) => prefetch(&values[range]),
            IdValues::U32(values) => prefetch(&values[range]),
        }
        prefetch(&self.b_start[i..=i]);
        prefetch(&self.labels[i..=i]);
        for (docs, sentences) in self.docs.iter().zip(&self.sentences) {
            prefetch(&docs[i..=i]);
            prefetch(&sentences[i..=i]);
        }
    }

    fn label(&self, i: usize) -> Option<i8> {
        self.label_nulls
            .as_ref()
            .is_none_or(|n| n.is_valid(i))
            .then(|| self.labels[i])
    }

    fn row(&self, i: usize) -> RowRef<'_> {
        RowRef {
            input_ids: self.input_ids.get(i),
            b_start: self.b_start[i],
            next_sentence_label: self.label(i).and_then(NextSentenceLabel::from_i8),
            doc_a: self.docs[0][i],
            doc_b: self.docs[1][i],
            sentence_a: self.sentences[0][i],
            sentence_b: self.sentences[1][i],
            masks: self
                .masks
                .as_ref()
                .map(|(offsets, positions, labels)| MasksRef {
                    positions: &positions[offsets[i] as usize..offsets[i + 1] as usize],
                    labels: labels.get(i),
                }),
        }
    }
}
