//! Going back from rows to the source: are A and B where the row says, word for word?

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use cloze_shard::row::RowRef;
use cloze_shard::verify::{Check, Looked, Report};
use cloze_shard::{Dataset, NextSentenceLabel, manifest::TOKENIZER_FOLDER};
use cloze_text::Tokenizer;

use crate::input::{InputOptions, InputPlan};
use crate::pairing::sentence_start;
use crate::progress::Progress;
use crate::tokenize::tokenize;
use crate::{Config, Error, Result, StoredDocument, TokenStore};

/// Reads and tokenizes `inputs` again, as the manifest's configuration says, and looks every row of the dataset up in them.
///
/// `exclude` are the evaluation sets that the preparation kept out, where they are not where they were. Problems are added to `report` under [`Check::Source`]. `work` is an empty folder for the token store.
pub fn audit(
    dataset: &Path,
    inputs: &[PathBuf],
    exclude: &[PathBuf],
    work: &Path,
    jobs: Option<usize>,
    progress: &dyn Progress,
    report: &mut Report,
) -> Result<()> {
    let dataset = Dataset::open(dataset)?;
    let mut config: Config =
        serde_json::from_value(dataset.manifest().config.clone()).map_err(|e| {
            cloze_shard::Error::Manifest {
                path: dataset.path().join(cloze_shard::manifest::FILE_NAME),
                why: format!("its configuration is not understood: {e}"),
            }
        })?;
    if !exclude.is_empty() {
        config.clean.exclude = exclude.to_vec();
    }
    let tokenizer = Tokenizer::open(&dataset.path().join(TOKENIZER_FOLDER))?;
    let sources = InputPlan::resolve(inputs, &InputOptions::of(&config))?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(jobs.unwrap_or(0))
        .build()
        .map_err(|e| Error::Threads(e.to_string()))?;
    let path = work.join("tokens.arrow");
    pool.install(|| tokenize(&sources, &tokenizer, &config, &path, progress))?;
    let store = TokenStore::open(&path)?;
    let source = Source::new(&store);
    let mut rows = 0;
    for (_, split) in dataset.splits() {
        for shard in split.shards() {
            for i in 0..shard.rows() {
                if let Err(why) = source.check(&shard.row(i), usize::from(config.seq_len)) {
                    report.add(Check::Source, shard.path(), Some(i), why);
                }
            }
            rows += shard.rows();
        }
    }
    report.ran(Check::Source, Looked::all(rows, "rows"));
    Ok(())
}

/// The documents of the source by hash id.
struct Source<'a> {
    store: &'a TokenStore,
    by_doc: HashMap<i64, Vec<u64>>,
}

impl<'a> Source<'a> {
    fn new(store: &'a TokenStore) -> Self {
        let mut by_doc: HashMap<i64, Vec<u64>> = HashMap::new();
        for i in 0..store.len() {
            by_doc.entry(store.document(i).doc).or_default().push(i);
        }
        Self { store, by_doc }
    }

    fn documents(&self, doc: i64) -> impl Iterator<Item = StoredDocument<'a>> {
        let numbers = self.by_doc.get(&doc).cloned().unwrap_or_default();
        numbers.into_iter().map(|i| self.store.document(i))
    }

    fn check(&self, row: &RowRef<'_>, seq_len: usize) -> Result<(), String> {
        let ids = row.original_ids();
        let n = ids.len();
        let b_start = usize::from(row.b_start);
        let is_next = row.next_sentence_label == Some(NextSentenceLabel::IsNext);
        if n < 3 || !(2..=n).contains(&b_start) || (is_next && b_start == n) {
            return Err("its segments cannot be told apart".into());
        }
        let a = &ids[1..b_start - 1];
        let mut a_found = false;
        for document in self.documents(row.doc_a) {
            for at in occurrences(&document, row.sentence_a, a) {
                a_found = true;
                if !is_next {
                    break;
                }
                // B follows A; with a gap only where BERT's truncation cut a pair down to the full length.
                let b = &ids[b_start..n - 1];
                let follows =
                    |&b_at: &usize| b_at == at + a.len() || (b_at > at + a.len() && n == seq_len);
                if occurrences(&document, row.sentence_b, b).any(|b_at| follows(&b_at)) {
                    return Ok(());
                }
            }
        }
        if !a_found {
            return Err(self.not_found("A", row.doc_a, row.sentence_a));
        }
        if row.has_b() {
            let b = &ids[b_start..n - 1];
            let found = self
                .documents(row.doc_b)
                .any(|d| occurrences(&d, row.sentence_b, b).next().is_some());
            if !found {
                return Err(self.not_found("B", row.doc_b, row.sentence_b));
            }
        }
        if is_next {
            return Err("B does not follow A in the source, though the label says it does".into());
        }
        Ok(())
    }

    fn not_found(&self, segment: &str, doc: i64, sentence: u32) -> String {
        if self.by_doc.contains_key(&doc) {
            format!("{segment} does not begin in sentence {sentence} of document {doc:016x}")
        } else {
            format!("{segment}'s document {doc:016x} is not in the source")
        }
    }
}

/// Where `segment` stands in `document`, beginning within `sentence`.
fn occurrences<'a>(
    document: &StoredDocument<'a>,
    sentence: u32,
    segment: &'a [u32],
) -> impl Iterator<Item = usize> + use<'a> {
    let document = *document;
    let ends = document.sentence_ends;
    let sentence = sentence as usize;
    let range = match ends.get(sentence) {
        Some(&end) => sentence_start(ends, sentence) as usize..end as usize,
        None => 0..0,
    };
    range.filter(move |&at| {
        let here = document.input_ids.slice(at, at + segment.len());
        here.len() == segment.len() && here.iter().eq(segment.iter().copied())
    })
}
