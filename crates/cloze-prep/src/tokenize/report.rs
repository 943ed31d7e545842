//! What the first stage counted, and what a person should know of it.

use std::collections::BTreeMap;
use std::path::Path;

use cloze_clean::{CleanReport, Place as FoundAt};
use cloze_shard::manifest::SourceRecord;
use serde::{Deserialize, Serialize};

use super::Looked;

/// What stage 1 counted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TokenizeReport {
    /// The sources as they were read.
    pub sources: Vec<SourceRecord>,
    #[serde(skip)]
    pub(super) ignored: Vec<String>,
    pub(super) documents: u64,
    pub(super) sentences: u64,
    pub(super) tokens: u64,
    pub(super) text_bytes: u64,
    pub(super) unknown_tokens: u64,
    pub(super) documents_without_tokens: u64,
    pub(super) sentences_without_tokens: u64,
    /// Documents that were cut because they are too long.
    #[serde(default)]
    pub(super) cut_documents: u64,
    /// Documents that hold a NUL, and where the first is.
    #[serde(default)]
    pub(super) with_nul: (u64, String),
    /// Files in each encoding that is not UTF-8.
    #[serde(default)]
    pub(super) encodings: BTreeMap<String, u64>,
    /// The first of each kind that was passed over.
    pub(super) first_skipped: BTreeMap<String, String>,
    pub(super) clean: CleanReport,
    pub(super) cleaned: bool,
    pub(super) most_repeated: Vec<(FoundAt, Vec<u32>, u64)>,
    pub(super) emptied: Vec<Vec<u32>>,
}

impl TokenizeReport {
    /// The counts by name, as the manifest holds them.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        let skipped = self.sources.iter().flat_map(|s| s.skipped.values()).sum();
        let mut counts: BTreeMap<String, u64> = [
            ("documents", self.documents),
            ("sentences", self.sentences),
            ("tokens", self.tokens),
            ("text_bytes", self.text_bytes),
            ("unknown_tokens", self.unknown_tokens),
            ("documents_without_tokens", self.documents_without_tokens),
            ("sentences_without_tokens", self.sentences_without_tokens),
            ("skipped", skipped),
            ("ignored_files", self.ignored.len() as u64),
        ]
        .map(|(name, count)| (name.to_owned(), count))
        .into();
        if self.cleaned {
            counts.extend(self.clean.counts());
        }
        counts
    }

    /// Bytes of text, tokens, sentences and documents.
    pub fn amounts(&self) -> [u64; 4] {
        [self.text_bytes, self.tokens, self.sentences, self.documents]
    }

    /// Source `number`, which was read to its end or was begun, has another name now.
    pub fn renamed(&mut self, number: usize, then: &str, now: &str) {
        if let Some(source) = self.sources.get_mut(number) {
            source.path = now.into();
        }
        let begins = format!("{then}: ");
        let firsts = self.first_skipped.values_mut();
        for first in firsts.chain([&mut self.with_nul.1]) {
            if let Some(rest) = first.strip_prefix(&begins) {
                *first = format!("{now}: {rest}");
            }
        }
        let found = self.most_repeated.iter_mut().map(|(found, ..)| found);
        let examples = self.clean.examples.values_mut().flatten();
        let examples = examples.flat_map(|e| {
            let of = e.of.as_deref_mut().map(|of| &mut of.place);
            [Some(&mut e.place), of].into_iter().flatten()
        });
        for found in found.chain(examples).filter(|found| found.source == then) {
            found.source = now.into();
        }
    }

    /// Documents with tokens.
    pub fn documents(&self) -> u64 {
        self.documents
    }

    /// What a person should know.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut by_reason: BTreeMap<&str, u64> = BTreeMap::new();
        for (reason, count) in self.sources.iter().flat_map(|s| &s.skipped) {
            *by_reason.entry(reason).or_default() += count;
        }
        for (reason, count) in by_reason {
            let first = self.first_skipped.get(reason).map_or("", String::as_str);
            let s = if count == 1 { "" } else { "s" };
            warnings.push(format!(
                "passed over {count} time{s}: {reason}; first {first}"
            ));
        }
        if self.cut_documents > 0 {
            let cut = self.cut_documents;
            warnings.push(format!(
                "documents of plain text of over 64 MiB were cut, {cut} time{}: a form feed between documents keeps them apart",
                if cut == 1 { "" } else { "s" }
            ));
        }
        if let (count @ 1.., first) = &self.with_nul {
            let s = if *count == 1 { "" } else { "s" };
            warnings.push(format!(
                "{count} document{s} with NUL characters, which no text has: UTF-16 without a mark of its byte order \
                 (--encoding utf-16le), or no text at all; first {first}"
            ));
        }
        for (encoding, files) in &self.encodings {
            let s = if *files == 1 { "" } else { "s" };
            warnings.push(format!("{files} file{s} read as {encoding}"));
        }
        if let Some(first) = self.ignored.first() {
            let count = self.ignored.len();
            warnings.push(format!(
                "{count} file{} in the folders not read because of hidden or unknown names, or being pipes ({}), such as {first}",
                if count == 1 { "" } else { "s" },
                by_ending(&self.ignored)
            ));
        }
        let unknown = self.unknown_tokens as f64 / self.tokens.max(1) as f64;
        if unknown > 0.01 {
            warnings.push(format!(
                "{:.1} % of the tokens are [UNK]: the vocabulary does not fit the text (cased text and an uncased \
                 vocabulary, or another language?)",
                100.0 * unknown
            ));
        }
        warnings
    }
}

/// How many of `paths` end how, the most frequent first.
fn by_ending(paths: &[String]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for path in paths {
        let name = Path::new(path)
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let ending = match name.rsplit_once('.') {
            Some(("", _)) => "hidden".to_owned(),
            Some((_, ending)) if ending.len() <= 12 => format!(".{ending}"),
            _ => "no ending".to_owned(),
        };
        *counts.entry(ending).or_default() += 1;
    }
    let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
    counts.sort_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
    let more = counts.len().saturating_sub(6);
    let shown = counts
        .iter()
        .take(6)
        .map(|(ending, n)| format!("{ending} {n}"));
    let mut shown: Vec<String> = shown.collect();
    if more > 0 {
        shown.push(format!("{more} others"));
    }
    shown.join(", ")
}

impl TokenizeReport {
    /// Counts a document that stays.
    pub(super) fn add(&mut self, looked: &Looked) {
        self.sentences_without_tokens += looked.sentences_without_tokens;
        if looked.input_ids.is_empty() {
            self.documents_without_tokens += 1;
            return;
        }
        self.documents += 1;
        self.sentences += looked.sentence_ends.len() as u64;
        self.tokens += looked.input_ids.len() as u64;
        self.unknown_tokens += looked.unknown_tokens;
    }
}
