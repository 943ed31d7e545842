//! `manifest.json`: what binds a dataset together, and to what made it.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::masking::MaskingRule;
use crate::reader::regular_file;
use crate::schema::IdType;
use crate::vocabulary::{SpecialTokens, Vocabulary};
use crate::{
    Error, FILES_VERSION, FORMAT_VERSION, METADATA_VERSION, OBJECTIVES_VERSION, Result,
    UNITS_VERSION, atomic,
};

/// The manifest's file name.
pub const FILE_NAME: &str = "manifest.json";
/// The folder of the tokenizer's own files.
pub const TOKENIZER_FOLDER: &str = "tokenizer";
const FORMAT: &str = "cloze-dataset";
/// Bytes of a manifest that are read: one of a million shards is shorter.
const LONGEST: u64 = 1 << 30;

/// The whole manifest. Field order is the order in the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always `cloze-dataset`.
    pub format: String,
    /// [`Manifest::version_of`].
    pub format_version: u32,
    /// Program and version that wrote the dataset.
    pub created_by: String,
    /// How instances were made.
    pub objective: Objective,
    /// Most tokens in a row, special tokens included.
    pub max_seq_length: u16,
    /// When masks are drawn.
    pub masking: Masking,
    /// Keys every random draw.
    pub seed: u64,
    /// What the ids mean.
    pub tokenizer: TokenizerRecord,
    /// The resolved configuration of the preparation.
    pub config: serde_json::Value,
    /// Every source file, in reading order.
    pub sources: Vec<SourceRecord>,
    /// What preparation counted.
    pub counts: BTreeMap<String, u64>,
    /// Names of what is kept of each document beside its id, in the column `meta` of the table of documents; there is none where nothing is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<String>,
    /// The table of documents, see [`crate::documents`].
    pub documents: FileRecord,
    /// `train`, `validation`.
    pub splits: BTreeMap<String, SplitRecord>,
}

/// What the second segment, if any, is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// Next sentence prediction (BERT).
    Nsp,
    /// Sentence order prediction (ALBERT): label 1 says that B stood before A.
    Sop,
    /// No pairs: whole sentences, on into the next document after a `[SEP]` (RoBERTa's FULL-SENTENCES).
    FullSentences,
    /// No pairs: whole sentences of one document (RoBERTa's DOC-SENTENCES).
    DocSentences,
}

impl Objective {
    /// As it stands in a manifest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nsp => "nsp",
            Self::Sop => "sop",
            Self::FullSentences => "full-sentences",
            Self::DocSentences => "doc-sentences",
        }
    }

    /// The oldest format version that knows it.
    fn format_version(self) -> u32 {
        match self {
            Self::Nsp => FORMAT_VERSION,
            _ => OBJECTIVES_VERSION,
        }
    }
}

/// When masks are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Masking {
    /// By the trainer, anew each epoch.
    Dynamic,
    /// Once, in the shards.
    Static {
        /// How.
        rule: MaskingRule,
    },
}

impl Masking {
    /// The oldest format version that knows such masks.
    #[must_use]
    pub fn format_version(&self) -> u32 {
        match self {
            Self::Static { rule } if !rule.unit.is_token() => UNITS_VERSION,
            Self::Static { .. } | Self::Dynamic => FORMAT_VERSION,
        }
    }
}

/// What the ids mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerRecord {
    /// Number of ids.
    pub vocab_size: usize,
    /// [`Vocabulary::digest`].
    pub vocab_digest: String,
    /// Whether text was lowercased, where the tokenizer says.
    pub lowercase: Option<bool>,
    /// How ids are stored.
    pub id_type: IdType,
    /// Ids of the special tokens.
    pub special_tokens: SpecialTokens,
    /// The files in `tokenizer/`.
    pub files: Vec<FileRecord>,
}

impl TokenizerRecord {
    /// The record of `vocabulary`, whose files are `files`.
    #[must_use]
    pub fn new(vocabulary: &Vocabulary, files: Vec<FileRecord>) -> Self {
        Self {
            vocab_size: vocabulary.len(),
            vocab_digest: vocabulary.digest(),
            lowercase: vocabulary.lowercase(),
            id_type: IdType::for_vocab_size(vocabulary.len()),
            special_tokens: vocabulary.special(),
            files,
        }
    }
}

/// A file of the dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// Path in the dataset's folder, with `/`.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// blake3, hexadecimal.
    pub blake3: String,
}

/// A source file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceRecord {
    /// Path as it was found, from the folder that preparation ran in.
    pub path: String,
    /// Size on disk (compressed, if it is).
    pub bytes: u64,
    /// blake3 of the bytes on disk, hexadecimal.
    pub blake3: String,
    /// Documents taken from it.
    pub documents: u64,
    /// Documents or lines passed over, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub skipped: BTreeMap<String, u64>,
}

/// A split of the dataset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitRecord {
    /// Rows in all shards.
    pub rows: u64,
    /// Tokens in all shards, special tokens included.
    pub tokens: u64,
    /// Documents that its rows were made from.
    pub documents: u64,
    /// Sum over the shards.
    pub labels: LabelCounts,
    /// In order.
    pub shards: Vec<ShardRecord>,
}

/// A shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "ShardFields", into = "ShardFields")]
pub struct ShardRecord {
    /// Path, size, digest.
    pub file: FileRecord,
    /// Rows.
    pub rows: u64,
    /// Tokens, special tokens included.
    pub tokens: u64,
    /// Rows by label.
    pub labels: LabelCounts,
    /// Rows by number of tokens; only lengths that occur.
    pub lengths: BTreeMap<u16, u64>,
}

/// A shard as it is written: what its file is beside what is in it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShardFields {
    path: String,
    bytes: u64,
    blake3: String,
    rows: u64,
    tokens: u64,
    labels: LabelCounts,
    lengths: BTreeMap<u16, u64>,
}

impl From<ShardFields> for ShardRecord {
    fn from(fields: ShardFields) -> Self {
        let ShardFields {
            path,
            bytes,
            blake3,
            ..
        } = fields;
        Self {
            file: FileRecord {
                path,
                bytes,
                blake3,
            },
            rows: fields.rows,
            tokens: fields.tokens,
            labels: fields.labels,
            lengths: fields.lengths,
        }
    }
}

impl From<ShardRecord> for ShardFields {
    fn from(shard: ShardRecord) -> Self {
        let FileRecord {
            path,
            bytes,
            blake3,
        } = shard.file;
        Self {
            path,
            bytes,
            blake3,
            rows: shard.rows,
            tokens: shard.tokens,
            labels: shard.labels,
            lengths: shard.lengths,
        }
    }
}

/// Rows by `next_sentence_label`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelCounts {
    /// 0
    pub is_next: u64,
    /// 1
    pub not_next: u64,
    /// null
    pub none: u64,
}

impl LabelCounts {
    /// Share of labelled rows whose label is 1; `None` where no row has a label.
    #[must_use]
    pub fn not_next_ratio(&self) -> Option<f64> {
        let labelled = self.is_next + self.not_next;
        (labelled > 0).then(|| self.not_next as f64 / labelled as f64)
    }
}

impl LabelCounts {
    /// What all labelled rows are, in words; `None` where they differ, or there are none.
    #[must_use]
    pub fn only(&self) -> Option<&'static str> {
        match (self.is_next, self.not_next) {
            (1.., 0) => Some("follow one another"),
            (0, 1..) => Some("are random"),
            _ => None,
        }
    }
}

impl std::ops::AddAssign for LabelCounts {
    fn add_assign(&mut self, other: Self) {
        self.is_next += other.is_next;
        self.not_next += other.not_next;
        self.none += other.none;
    }
}

impl SplitRecord {
    /// The split of `shards`, in order, made from `documents` documents.
    #[must_use]
    pub fn new(shards: Vec<ShardRecord>, documents: u64) -> Self {
        let mut split = Self {
            documents,
            ..Self::default()
        };
        for shard in &shards {
            split.rows += shard.rows;
            split.tokens += shard.tokens;
            split.labels += shard.labels;
        }
        split.shards = shards;
        split
    }

    /// Rows by number of tokens, over all shards.
    #[must_use]
    pub fn lengths(&self) -> BTreeMap<u16, u64> {
        let mut all = BTreeMap::new();
        for (&length, &rows) in self.shards.iter().flat_map(|s| &s.lengths) {
            *all.entry(length).or_default() += rows;
        }
        all
    }
}

/// The text of `DATASET/manifest.json`, if it is Cloze's, and the format version that it names, which is one that this build knows.
pub fn read_text(dataset: &Path) -> Result<(u32, String)> {
    let path = dataset.join(FILE_NAME);
    let absent = |why: &str| Error::NotADataset {
        path: dataset.into(),
        why: why.into(),
    };
    if path.exists() && regular_file(&path)? > LONGEST {
        return Err(absent("its manifest.json is longer than 1 GiB"));
    }
    let text = fs::read_to_string(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound if !dataset.exists() => absent("there is no such folder"),
        std::io::ErrorKind::NotFound => absent("it has no manifest.json"),
        std::io::ErrorKind::NotADirectory => absent("it is a file, not a folder"),
        std::io::ErrorKind::InvalidData => absent("its manifest.json is not UTF-8 text"),
        _ => Error::io(&path)(e),
    })?;
    // The version first: a manifest of another version need not parse as this one.
    let head: serde_json::Value = serde_json::from_str(&text).map_err(|e| Error::Manifest {
        path: path.clone(),
        why: format!("not a manifest: {e}"),
    })?;
    if head.get("format").and_then(|f| f.as_str()) != Some(FORMAT) {
        return Err(absent("its manifest.json was not written by Cloze"));
    }
    let found = head.get("format_version").and_then(|v| v.as_u64());
    let found = found.unwrap_or(0);
    match u32::try_from(found) {
        Ok(version) if (FORMAT_VERSION..=METADATA_VERSION).contains(&version) => {
            Ok((version, text))
        }
        _ => Err(Error::Version {
            path,
            found,
            supported: METADATA_VERSION,
        }),
    }
}

impl Manifest {
    /// The value of [`Manifest::format`].
    #[must_use]
    pub fn format_name() -> String {
        FORMAT.into()
    }

    /// The oldest format version that knows such rows, and such metadata.
    #[must_use]
    pub fn version_of(objective: Objective, masking: &Masking, metadata: &[String]) -> u32 {
        match metadata {
            [] => objective.format_version().max(masking.format_version()),
            _ => METADATA_VERSION,
        }
    }

    /// Reads `DATASET/manifest.json`. A folder without one is not a dataset.
    pub fn read(dataset: &Path) -> Result<Self> {
        let (found, text) = read_text(dataset)?;
        if found == FILES_VERSION {
            let head: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            let files_format = head.get("files_format").and_then(|f| f.as_str());
            return Err(Error::OtherFiles {
                path: dataset.into(),
                files_format: files_format.unwrap_or("unknown").into(),
            });
        }
        let path = dataset.join(FILE_NAME);
        let manifest: Self = serde_json::from_str(&text).map_err(|e| Error::Manifest {
            path: path.clone(),
            why: format!("not a manifest: {e}"),
        })?;
        manifest
            .check()
            .map_err(|why| Error::Manifest { path, why })?;
        Ok(manifest)
    }

    /// Whether what it says can be of any dataset: its version, counts that can be added up, files that are named once, special tokens; what is wrong, if not.
    pub fn check(&self) -> std::result::Result<(), String> {
        self.check_version()?;
        self.counts_can_be_added()?;
        let shards = self.splits.values().flat_map(|s| &s.shards);
        let mut seen = HashSet::new();
        for record in shards.map(|s| &s.file).chain([&self.documents]) {
            // Names that differ may be of one file.
            let parts: Vec<_> = Path::new(&record.path).components().collect();
            if !seen.insert(parts) {
                return Err(format!("names the file {:?} twice", record.path));
            }
        }
        let record = &self.tokenizer;
        for file in &record.files {
            // They are written beside the files of a model, under their own names.
            let name = file.path.strip_prefix(TOKENIZER_FOLDER);
            let name = name.and_then(|n| n.strip_prefix('/')).unwrap_or_default();
            let is_a_models = name == "config.json"
                || name.starts_with("model.")
                || name.starts_with("pytorch_model");
            if name.is_empty() || name.contains(['/', '\\']) || is_a_models {
                return Err(format!(
                    "names {:?}, which is no file of a tokenizer",
                    file.path
                ));
            }
        }
        let special = record.special_tokens.sorted();
        let most = special.last().map_or(0, |&id| id as usize);
        if special.len() < 5 || most >= record.vocab_size {
            return Err(format!(
                "its special tokens are {special:?}, not five of {} entries",
                record.vocab_size
            ));
        }
        Ok(())
    }

    /// Whatever is added up of them stays in 64 bits.
    fn counts_can_be_added(&self) -> std::result::Result<(), String> {
        let files = self.tokenizer.files.iter().chain([&self.documents]);
        let shards = || self.splits.values().flat_map(|s| &s.shards);
        let of_labels = |labels: &LabelCounts| [labels.is_next, labels.not_next, labels.none];
        let bytes = files.chain(shards().map(|s| &s.file)).map(|f| f.bytes);
        let bytes = bytes.chain(self.sources.iter().map(|s| s.bytes));
        let of_splits = self.splits.values().flat_map(|s| {
            let counts = [s.rows, s.tokens, s.documents];
            counts.into_iter().chain(of_labels(&s.labels))
        });
        let of_shards = shards().flat_map(|s| {
            let counts = [s.rows, s.tokens];
            let lengths = s
                .lengths
                .iter()
                .flat_map(|(&n, &rows)| [rows, rows.saturating_mul(n.into())]);
            counts
                .into_iter()
                .chain(of_labels(&s.labels))
                .chain(lengths)
        });
        let of_sources = self
            .sources
            .iter()
            .flat_map(|s| s.skipped.values().copied().chain([s.documents]));
        let mut all = bytes
            .chain(of_splits)
            .chain(of_shards)
            .chain(of_sources)
            .chain(self.counts.values().copied());
        match all.try_fold(0u64, u64::checked_add) {
            Some(_) => Ok(()),
            None => Err("its counts add up to more than any dataset holds".into()),
        }
    }

    /// Whether its version is one that its masks may have; what is wrong, if not.
    pub fn check_version(&self) -> std::result::Result<(), String> {
        let needed = Self::version_of(self.objective, &self.masking, &self.metadata);
        if self.format_version < needed {
            return Err(format!(
                "format version {}, but its objective, its masks or its metadata need version {needed}",
                self.format_version
            ));
        }
        Ok(())
    }

    /// Writes `DATASET/manifest.json`, atomically. This makes the folder a dataset: write it last.
    pub fn write(&self, dataset: &Path) -> Result<()> {
        let path = dataset.join(FILE_NAME);
        let mut text = serde_json::to_string_pretty(self).map_err(|e| Error::Manifest {
            path: path.clone(),
            why: e.to_string(),
        })?;
        text.push('\n');
        atomic::write(&path, text.as_bytes()).map(|_| ())
    }

    /// blake3, hexadecimal, of the manifest: it binds every byte of the dataset.
    #[must_use]
    pub fn digest(&self) -> String {
        // A manifest of plain maps, strings and numbers always serializes.
        let text = serde_json::to_vec(self).unwrap_or_default();
        blake3::hash(&text).to_hex().to_string()
    }
}
