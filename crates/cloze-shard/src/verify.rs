//! Checking a whole dataset: files, digests, row rules, label audit, and what the manifest says of all that.

mod claims;
mod surplus;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::manifest::{FileRecord, Manifest, ShardRecord};
use crate::reader::{check_file, vocabulary};
use crate::row::NextSentenceLabel;
use crate::rules::{RowRules, audit_label};
use crate::{Error, Result, Shard, atomic, manifest};

pub use crate::reader::other_lengths;
pub use claims::{Claims, Held, check_sums, check_table};
pub use surplus::check_surplus;

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
    /// What else the manifest says is what was found: in the tokenizer's files, the table of documents, the configuration, and the sums of what it lists.
    Manifest,
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
            Self::Manifest => "manifest",
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
    /// What is no problem, and yet worth knowing.
    pub notes: Vec<String>,
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

    /// Adds what another report found; how much that looked at is noted by who knows it all.
    pub fn merge(&mut self, other: Self) {
        for problem in other.problems {
            let kept = self.problems.iter().filter(|p| p.check == problem.check);
            if (kept.count() as u64) < Self::KEPT {
                self.problems.push(problem);
            }
        }
        for (check, number) in other.found {
            *self.found.entry(check).or_default() += number;
        }
        if let Some(looked) = other.looked_at.get(&Check::Manifest) {
            self.compared(looked.of);
        }
        self.notes.extend(other.notes);
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
    verify_each(path, progress, &mut |_, _, _, _| ())
}

/// As [`verify`], and hands each shard that could be opened to `look`: the name of its split, its number there, and where problems go.
pub fn verify_each(
    path: &Path,
    progress: &mut dyn FnMut(u64),
    look: &mut dyn FnMut(&str, usize, &Shard, &mut Report),
) -> Result<Report> {
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
        && let Err(error) = check_table(path, &manifest, &table, &mut report)
    {
        add_unless_known(&mut report, path, &manifest.documents, &error);
    }
    check_tokenizer(path, &manifest, &mut report);
    check_sums(path, &manifest, &mut report);
    let rules = RowRules::of(&manifest);
    let (mut rows, mut rows_read) = (0, 0);
    for (name, split) in &manifest.splits {
        for (number, record) in split.shards.iter().enumerate() {
            files += 1;
            rows += record.rows;
            digested += u64::from(check_bytes(path, &record.file, &mut report));
            if let Some(shard) = open_shard(path, &manifest, record, &mut report) {
                check_rows(&shard, record, &manifest, &rules, &mut report);
                look(name, number, &shard, &mut report);
                rows_read += shard.rows();
            }
            progress(record.file.bytes);
        }
    }
    let shards = manifest.splits.values().flat_map(|s| &s.shards);
    let named = shards.map(|s| &s.file).chain(&manifest.tokenizer.files);
    let named = named.chain([&manifest.documents]);
    check_surplus(path, named.map(|f| f.path.as_str()), &mut report);
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
    open_shard(dataset, manifest, record, report).map_or(0, |shard| {
        check_rows(&shard, record, manifest, rules, report);
        shard.rows()
    })
}

fn open_shard(
    dataset: &Path,
    manifest: &Manifest,
    record: &ShardRecord,
    report: &mut Report,
) -> Option<Shard> {
    Shard::open(dataset, manifest, record)
        .inspect_err(|error| add_unless_known(report, dataset, &record.file, error))
        .ok()
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
        report.add(Check::Files, &path, None, error.why(&path));
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

/// Size and digest of a file; whether the digest was looked at.
pub fn check_bytes(dataset: &Path, record: &FileRecord, report: &mut Report) -> bool {
    let path = dataset.join(&record.path);
    let missing = match check_file(dataset, record) {
        Err(error) => Some(error.why(&path)),
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
            report.add(Check::Digests, &path, None, error.why(&path));
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
        Err(error) => report.add(Check::Tokenizer, &folder, None, error.why(&folder)),
        Ok(vocabulary) => {
            if vocabulary.digest() != record.vocab_digest {
                let why = format!(
                    "its {} entries are not the {} that the manifest names",
                    vocabulary.len(),
                    record.vocab_size
                );
                report.add(Check::Tokenizer, &folder, None, why);
            }
            claims::check_vocabulary(dataset, manifest, &vocabulary, report);
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
    let mut held = Held::default();
    let Held { labels, tokens } = &mut held;
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
        *tokens += row.len() as u64;
    }
    // Lengths were compared when the shard was opened.
    for why in held.differences(record) {
        report.add(Check::Totals, shard.path(), None, why);
    }
}
