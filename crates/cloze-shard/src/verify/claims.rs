//! What a manifest says that can be found by other means: each is compared, and what differs is named with both.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Check, Looked, Report};
use crate::documents::{Documents, Tally};
use crate::manifest::{self, LabelCounts, Manifest, ShardRecord, SplitRecord};
use crate::schema::IdType;
use crate::{Result, Vocabulary};

/// Compares fields of a manifest with what was found of them, under [`Check::Manifest`].
#[derive(Debug)]
pub struct Claims<'a> {
    report: &'a mut Report,
    path: PathBuf,
    compared: u64,
}

impl<'a> Claims<'a> {
    /// Of the manifest of `dataset`.
    pub fn of(dataset: &Path, report: &'a mut Report) -> Self {
        Self {
            report,
            path: dataset.join(manifest::FILE_NAME),
            compared: 0,
        }
    }

    /// Compares what the manifest says in `field` with what was found in `place`; whether they are the same.
    pub fn field<T: PartialEq + Serialize>(
        &mut self,
        field: &str,
        says: &T,
        found: &T,
        place: &str,
    ) -> bool {
        self.compared += 1;
        if says != found {
            let [says, found] =
                [says, found].map(|v| serde_json::to_string(v).unwrap_or_else(|e| e.to_string()));
            self.wrong(format!(
                "{field}: the manifest says {says}, found {found} {place}"
            ));
            return false;
        }
        true
    }

    /// Something about the manifest that is wrong.
    pub fn wrong(&mut self, why: String) {
        self.report.add(Check::Manifest, &self.path, None, why);
    }
}

impl Drop for Claims<'_> {
    fn drop(&mut self) {
        self.report.compared(self.compared);
    }
}

impl Report {
    /// Notes that so many fields more were compared.
    pub(super) fn compared(&mut self, fields: u64) {
        let before = self.looked_at.get(&Check::Manifest).map_or(0, |l| l.of);
        self.ran(Check::Manifest, Looked::all(before + fields, "fields"));
    }
}

/// What a manifest says of itself twice: the version, and sums over what it lists.
pub fn check_sums(dataset: &Path, manifest: &Manifest, report: &mut Report) {
    let mut claims = Claims::of(dataset, report);
    let needed = Manifest::version_of(manifest.objective, &manifest.masking, &manifest.metadata);
    claims.field(
        "format_version",
        &manifest.format_version,
        &needed,
        "to be needed by objective, masking and metadata",
    );
    for (name, split) in &manifest.splits {
        let sum = SplitRecord::new(split.shards.clone(), split.documents);
        let over = "in its shards together";
        let field = |field: &str| format!("splits.{name}.{field}");
        claims.field(&field("rows"), &split.rows, &sum.rows, over);
        claims.field(&field("tokens"), &split.tokens, &sum.tokens, over);
        claims.field(&field("labels"), &split.labels, &sum.labels, over);
    }
    let count = |name: &str| manifest.counts.get(name).copied();
    let sources = || manifest.sources.iter();
    if let Some(says) = count("skipped") {
        let skipped = sources().flat_map(|s| s.skipped.values()).sum();
        claims.field("counts.skipped", &says, &skipped, "in `sources` together");
    }
    // What was read, less what was left out, is what stayed.
    let taken: u64 = sources().map(|s| s.documents).sum();
    let without = count("documents_without_tokens").unwrap_or(0);
    let dropped = manifest.counts.iter();
    let dropped: u64 = dropped
        .filter_map(|(name, &n)| name.starts_with("dropped_").then_some(n))
        .sum();
    if let Some(says) = count("read_documents") {
        claims.field(
            "counts.read_documents",
            &says,
            &taken,
            "in `sources` together",
        );
    }
    if let Some(says) = count("documents") {
        let left = taken.checked_sub(without + dropped);
        let place = "to be left of those of `sources`, less documents_without_tokens and dropped_…";
        claims.field("counts.documents", &Some(says), &left, place);
    }
    if let (Some(unknown), Some(tokens)) = (count("unknown_tokens"), count("tokens"))
        && unknown > tokens
    {
        claims.wrong(format!(
            "counts.unknown_tokens: the manifest says {unknown}, of {tokens} tokens"
        ));
    }
}

/// Whether the table of documents is what the manifest says of documents.
pub fn check_table(
    dataset: &Path,
    manifest: &Manifest,
    table: &Path,
    report: &mut Report,
) -> Result<()> {
    let documents = Documents::open(table, !manifest.metadata.is_empty())?;
    let tally = documents.tally(manifest);
    let of_table = dataset.join(&manifest.documents.path);
    for (row, why) in &tally.wrong {
        report.add(Check::Rows, &of_table, Some(*row), why.clone());
    }
    let Tally {
        documents,
        sentences,
        tokens,
        by_source,
        ..
    } = tally;
    let mut claims = Claims::of(dataset, report);
    let place = "in the table of documents";
    for (name, found) in [
        ("documents", documents),
        ("sentences", sentences),
        ("tokens", tokens),
    ] {
        if let Some(says) = manifest.counts.get(name) {
            claims.field(&format!("counts.{name}"), says, &found, place);
        }
    }
    let of_splits = manifest.splits.values().map(|s| s.documents).sum();
    claims.field("documents of all `splits`", &of_splits, &documents, place);
    let as_many = manifest.counts.get("documents").copied() == Some(documents);
    let taken: u64 = manifest.sources.iter().map(|s| s.documents).sum();
    for (number, (source, &found)) in manifest.sources.iter().zip(&by_source).enumerate() {
        let field = format!("sources.{number}.documents");
        // Where none was left out, each is there.
        if as_many && taken == documents {
            claims.field(&field, &source.documents, &found, place);
        } else if found > source.documents {
            claims.wrong(format!(
                "{field}: the manifest says {}, found {found} {place}",
                source.documents
            ));
        }
    }
    Ok(())
}

/// Whether the tokenizer's files are what the manifest says of them.
pub(super) fn check_vocabulary(
    dataset: &Path,
    manifest: &Manifest,
    vocabulary: &Vocabulary,
    report: &mut Report,
) {
    let record = &manifest.tokenizer;
    let mut claims = Claims::of(dataset, report);
    let place = "in the tokenizer's files";
    let field = |name: &str| format!("tokenizer.{name}");
    let size = vocabulary.len();
    claims.field(&field("vocab_size"), &record.vocab_size, &size, place);
    let digest = vocabulary.digest();
    claims.field(&field("vocab_digest"), &record.vocab_digest, &digest, place);
    // The tokenizer that was given need not have said it.
    let lowercase = record.lowercase.and(vocabulary.lowercase());
    claims.field(&field("lowercase"), &record.lowercase, &lowercase, place);
    let special = vocabulary.special();
    let says = &record.special_tokens;
    claims.field(&field("special_tokens"), says, &special, place);
    let id_type = IdType::for_vocab_size(size);
    let place = "to be that of so many entries";
    claims.field(&field("id_type"), &record.id_type, &id_type, place);
}

/// What a shard holds that its record says, but for its rows and lengths, which opening compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Rows by label.
    pub labels: LabelCounts,
    /// Tokens.
    pub tokens: u64,
}

impl Held {
    /// What is another in `record`, each in words.
    #[must_use]
    pub fn differences(&self, record: &ShardRecord) -> Vec<String> {
        let labels = [
            ("is_next", record.labels.is_next, self.labels.is_next),
            ("not_next", record.labels.not_next, self.labels.not_next),
            ("none", record.labels.none, self.labels.none),
        ];
        let all = [("tokens", record.tokens, self.tokens)];
        all.into_iter()
            .chain(labels)
            .filter(|(_, says, found)| says != found)
            .map(|(name, says, found)| format!("{name}: the manifest says {says}, found {found}"))
            .collect()
    }
}
