//! Checking a whole dataset: files, digests, row rules, label audit, and the manifest's sums.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::documents::Documents;
use crate::manifest::{FileRecord, LabelCounts, Manifest, ShardRecord, SplitRecord};
use crate::reader::{check_file, vocabulary};
use crate::row::NextSentenceLabel;
use crate::rules::{RowRules, audit_label};
use crate::{Error, Result, Shard, atomic, manifest};

/// What is checked, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    /// Every file is there, has its size, and is an Arrow file of the right columns.
    Files,
    /// Every file has its digest.
    Digests,
    /// Every row keeps the rules of the format.
    Rows,
    /// Labels agree with where A and B come from.
    Labels,
    /// Rows, tokens, label counts and lengths add up to what the manifest says.
    Totals,
    /// The tokenizer's files give the vocabulary that the manifest names.
    Tokenizer,
    /// With the source: A and B are where the rows say.
    Source,
}

impl Check {
    /// A name for a person.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Files => "files and sizes",
            Self::Digests => "digests",
            Self::Rows => "row rules",
            Self::Labels => "label audit",
            Self::Totals => "totals",
            Self::Tokenizer => "tokenizer",
            Self::Source => "source",
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The check that found it.
    pub check: Check,
    /// The file.
    pub path: PathBuf,
    /// The row in the shard, where it is about one.
    pub row: Option<u64>,
    /// What.
    pub why: String,
}

/// How much a check looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// How many were looked at.
    pub done: u64,
    /// How many there are.
    pub of: u64,
    /// Of what: `files`, `rows`, `entries`.
    pub unit: &'static str,
}

impl Looked {
    /// All of them.
    #[must_use]
    pub fn all(of: u64, unit: &'static str) -> Self {
        Self { done: of, of, unit }
    }
}

/// What [`verify`] saw.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The first [`Report::KEPT`] problems of each check.
    pub problems: Vec<Problem>,
    /// The number of problems of each check that ran; 0 is clean.
    pub found: BTreeMap<Check, u64>,
    /// How much each check looked at.
    pub looked_at: BTreeMap<Check, Looked>,
}

impl Report {
    /// How many problems of a check are kept in full.
    pub const KEPT: u64 = 20;

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.found.values().all(|&n| n == 0)
    }

    /// Notes how much `check` looked at.
    pub fn ran(&mut self, check: Check, looked: Looked) {
        self.found.entry(check).or_default();
        self.looked_at.insert(check, looked);
    }

    /// Adds a problem.
    pub fn add(&mut self, check: Check, path: &Path, row: Option<u64>, why: String) {
        let count = self.found.entry(check).or_default();
        *count += 1;
        if *count <= Self::KEPT {
            self.problems.push(Problem {
                check,
                path: path.into(),
                row,
                why,
            });
        }
    }
}

/// Checks the dataset at `path`; `progress` is told bytes as they are done, out of [`total_bytes`].
///
/// An error means that checking could not begin: there is no dataset, or no manifest that can be read.
pub fn verify(path: &Path, progress: &mut dyn FnMut(u64)) -> Result<Report> {
    let manifest = Manifest::read(path)?;
    let mut report = Report::default();
    let (mut files, mut digested) = (0, 0);
    for record in manifest.tokenizer.files.iter().chain([&manifest.documents]) {
        files += 1;
        digested += u64::from(check_bytes(path, record, &mut report));
        progress(record.bytes);
    }
    // What is no file of the dataset was found above, and is not opened.
    if let Ok(table) = check_file(path, &manifest.documents)
        && let Err(error) = Documents::open(&table, !manifest.metadata.is_empty())
    {
        add_unless_known(&mut report, path, &manifest.documents, &error);
    }
    check_tokenizer(path, &manifest, &mut report);
    let rules = RowRules::of(&manifest);
    let (mut rows, mut rows_read) = (0, 0);
    for (name, split) in &manifest.splits {
        for record in &split.shards {
            files += 1;
            rows += record.rows;
            digested += u64::from(check_bytes(path, &record.file, &mut report));
            rows_read += check_shard(path, &manifest, record, &rules, &mut report);
            progress(record.file.bytes);
        }
        let sum = SplitRecord::new(split.shards.clone(), split.documents);
        if sum != *split {
            let why = format!("split {name}: its shards' rows, tokens or labels do not add up");
            report.add(Check::Totals, &path.join(manifest::FILE_NAME), None, why);
        }
    }
    report.ran(Check::Files, Looked::all(files, "files"));
    let looked = |done, of, unit| Looked { done, of, unit };
    report.ran(Check::Digests, looked(digested, files, "files"));
    for check in [Check::Rows, Check::Labels, Check::Totals] {
        report.ran(check, looked(rows_read, rows, "rows"));
    }
    Ok(report)
}

/// Opens a shard and checks its rows and sums; the number of rows that could be looked at.
pub fn check_shard(
    dataset: &Path,
    manifest: &Manifest,
    record: &ShardRecord,
    rules: &RowRules,
    report: &mut Report,
) -> u64 {
    match Shard::open(dataset, manifest, record) {
        Ok(shard) => {
            check_rows(&shard, record, manifest, rules, report);
            shard.rows()
        }
        Err(error) => {
            add_unless_known(report, dataset, &record.file, &error);
            0
        }
    }
}

/// Adds what opening a file found, unless its size or absence was found before.
fn add_unless_known(report: &mut Report, dataset: &Path, record: &FileRecord, error: &Error) {
    let known = match error {
        Error::Size { .. } => true,
        Error::Io { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    };
    if !known {
        let path = dataset.join(&record.path);
        report.add(Check::Files, &path, None, error_text(error));
    }
}

/// Bytes that [`verify`] will read.
#[must_use]
pub fn total_bytes(manifest: &Manifest) -> u64 {
    let shards = manifest
        .splits
        .values()
        .flat_map(|s| &s.shards)
        .map(|s| &s.file);
    shards
        .chain(&manifest.tokenizer.files)
        .chain([&manifest.documents])
        .map(|f| f.bytes)
        .sum()
}

fn error_text(error: &Error) -> String {
    match error {
        Error::Shard { why, .. } => why.clone(),
        Error::Row { row, why, .. } => format!("row {row}: {why}"),
        other => other.to_string(),
    }
}

/// Size and digest of a file; whether the digest was looked at.
pub fn check_bytes(dataset: &Path, record: &FileRecord, report: &mut Report) -> bool {
    let path = dataset.join(&record.path);
    let missing = match check_file(dataset, record) {
        Err(Error::Size {
            expected, found, ..
        }) => Some(format!("{found} bytes, the manifest says {expected}")),
        Err(Error::Io { source, .. }) => Some(source.to_string()),
        Err(other) => Some(other.to_string()),
        Ok(_) => None,
    };
    if let Some(why) = missing {
        report.add(Check::Files, &path, None, why);
        return false;
    }
    match atomic::digest(&path) {
        Ok(found) if found.blake3 == record.blake3 => true,
        Ok(found) => {
            let why = format!(
                "blake3 {}, the manifest says {}: its bytes were changed",
                found.blake3, record.blake3
            );
            report.add(Check::Digests, &path, None, why);
            true
        }
        Err(error) => {
            report.add(Check::Digests, &path, None, error.to_string());
            false
        }
    }
}

/// Whether the files in `tokenizer/` are what the manifest says.
pub fn check_tokenizer(dataset: &Path, manifest: &Manifest, report: &mut Report) {
    let folder = dataset.join(manifest::TOKENIZER_FOLDER);
    let record = &manifest.tokenizer;
    report.ran(
        Check::Tokenizer,
        Looked::all(record.vocab_size as u64, "entries"),
    );
    match vocabulary(dataset, manifest) {
        Err(error) => report.add(Check::Tokenizer, &folder, None, error.to_string()),
        Ok(vocabulary) => {
            if vocabulary.digest() != record.vocab_digest {
                let why = format!(
                    "its {} entries are not the {} that the manifest names",
                    vocabulary.len(),
                    record.vocab_size
                );
                report.add(Check::Tokenizer, &folder, None, why);
            } else if vocabulary.special() != record.special_tokens {
                report.add(
                    Check::Tokenizer,
                    &folder,
                    None,
                    "its special tokens are not the manifest's".into(),
                );
            }
        }
    }
}

fn check_rows(
    shard: &Shard,
    record: &ShardRecord,
    manifest: &Manifest,
    rules: &RowRules,
    report: &mut Report,
) {
    let mut labels = LabelCounts::default();
    let mut lengths: BTreeMap<u16, u64> = BTreeMap::new();
    let mut tokens = 0;
    for i in 0..shard.rows() {
        let row = shard.row(i);
        if let Err(why) = rules.check(&row) {
            report.add(Check::Rows, shard.path(), Some(i), why);
        }
        if let Err(why) = audit_label(manifest.objective, &row) {
            report.add(Check::Labels, shard.path(), Some(i), why);
        }
        match row.next_sentence_label {
            Some(NextSentenceLabel::IsNext) => labels.is_next += 1,
            Some(NextSentenceLabel::NotNext) => labels.not_next += 1,
            None => labels.none += 1,
        }
        tokens += row.len() as u64;
        // Opening the shard bounded the length by max_seq_length, a u16.
        *lengths.entry(row.len() as u16).or_default() += 1;
    }
    if (labels, tokens, &lengths) != (record.labels, record.tokens, &record.lengths) {
        let why = "its tokens, labels or lengths are not those in the manifest".into();
        report.add(Check::Totals, shard.path(), None, why);
    }
}
