//! Going back from rows to the source: are A and B where the row says, word for word?

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use cloze_shard::row::RowRef;
use cloze_shard::verify::{Check, Looked, Report};
use cloze_shard::{Dataset, NextSentenceLabel, regular_file};
use cloze_text::Tokenizer;

use crate::input::{InputOptions, InputPlan};
use crate::key::Key;
use crate::pairing::sentence_start;
use crate::progress::Progress;
use crate::split::Assignment;
use crate::tokenize::tokenize;
use crate::tokens::TokenFolder;
use crate::{Config, Error, ObjectiveKind, Result, StoredDocument, TokenStore};

/// Reads and tokenizes `inputs` again, as the manifest's configuration says, and looks every row of the dataset up in them.
///
/// `exclude` are the evaluation sets that the preparation kept out, where they are not where they were. Problems are added to `report` under
/// [`Check::Source`]. `work` is an empty folder for the token store.
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
    // The manifest may be a stranger's.
    config.check()?;
    for path in &config.clean.exclude {
        regular_file(path)?;
    }
    let tokenizer = Tokenizer::open(&dataset.tokenizer()?)?;
    let sources = InputPlan::resolve(inputs, &InputOptions::of(&config))?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(jobs.unwrap_or(0))
        .build()
        .map_err(|e| Error::Threads(e.to_string()))?;
    let vocabulary = dataset.vocabulary()?;
    let key = Key::of_dataset(&config, &tokenizer, &vocabulary)?.of_tokens();
    let mut folder = TokenFolder::open(&work.join("tokens"), &key, &sources.sources)?;
    pool.install(|| {
        tokenize(
            &sources,
            &tokenizer,
            &config,
            &mut folder,
            u64::MAX,
            progress,
        )
    })?;
    let store = folder.store()?;
    let source = Source::new(&store, &config, vocabulary.special().sep);
    let mut rows = 0;
    for (_, split) in dataset.splits() {
        for shard in split.shards() {
            for i in 0..shard.rows() {
                if let Err(why) = source.check(&shard.row(i)) {
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
    assignment: Assignment,
    seq_len: usize,
    sep: u32,
    objective: ObjectiveKind,
}

impl<'a> Source<'a> {
    fn new(store: &'a TokenStore, config: &Config, sep: u32) -> Self {
        let mut by_doc: HashMap<i64, Vec<u64>> = HashMap::new();
        for i in 0..store.len() {
            by_doc.entry(store.document(i).doc).or_default().push(i);
        }
        let docs = (0..store.len()).map(|i| store.document(i).doc);
        Self {
            store,
            by_doc,
            assignment: Assignment::new(docs, config.seed, config.validation_fraction),
            seq_len: usize::from(config.seq_len),
            sep,
            objective: config.objective,
        }
    }

    fn documents(&self, doc: i64) -> impl Iterator<Item = StoredDocument<'a>> {
        let numbers = self.by_doc.get(&doc).cloned().unwrap_or_default();
        numbers.into_iter().map(|i| self.store.document(i))
    }

    fn check(&self, row: &RowRef<'_>) -> Result<(), String> {
        let ids = row.original_ids();
        let n = ids.len();
        let b_start = usize::from(row.b_start);
        if n < 3 || !(2..=n).contains(&b_start) {
            return Err("its segments cannot be told apart".into());
        }
        let a = (row.doc_a, row.sentence_a, &ids[1..b_start - 1]);
        if !row.has_b() {
            return self.check_one(row, a);
        }
        let b = (
            row.doc_b,
            row.sentence_b,
            &ids[b_start..n.max(b_start + 1) - 1],
        );
        let other = row.next_sentence_label == Some(NextSentenceLabel::NotNext);
        match (other, self.objective) {
            (true, ObjectiveKind::Sop) => self.follows(n, ("B", b), ("A", a)),
            (true, _) => {
                self.find("A", a)?;
                self.find("B", b)
            }
            (false, _) => self.follows(n, ("A", a), ("B", b)),
        }
    }

    /// A segment stands where its row says.
    fn find(&self, name: &str, (doc, sentence, ids): Segment<'_>) -> Result<(), String> {
        let found = self
            .documents(doc)
            .any(|d| occurrences(&d, sentence, ids).next().is_some());
        match found {
            true => Ok(()),
            false => Err(self.not_found(name, doc, sentence)),
        }
    }

    /// The second segment stands where the first ends; with a gap only where BERT's truncation cut a pair down to the full length.
    fn follows(
        &self,
        n: usize,
        (name, first): (&str, Segment<'_>),
        (other, second): (&str, Segment<'_>),
    ) -> Result<(), String> {
        let len = first.2.len();
        for document in self.documents(first.0) {
            for at in occurrences(&document, first.1, first.2) {
                let follows =
                    |&then: &usize| then == at + len || (then > at + len && n == self.seq_len);
                if occurrences(&document, second.1, second.2).any(|then| follows(&then)) {
                    return Ok(());
                }
            }
        }
        self.find(name, first)?;
        self.find(other, second)?;
        Err(format!(
            "{other} does not follow {name} in the source, though the label says it does"
        ))
    }

    /// A row of one segment: text of one document, or what is left of one, whole documents after it, and the beginning of the last.
    fn check_one(&self, row: &RowRef<'_>, a: Segment<'_>) -> Result<(), String> {
        let parts: Vec<&[u32]> = a.2.split(|&id| id == self.sep).collect();
        let ([first, middle @ .., last], true) = (parts.as_slice(), parts.len() > 1) else {
            return self.find("A", a);
        };
        self.find("A", (a.0, a.1, first))?;
        let side = self.assignment.is_validation(a.0);
        let of_split = |i: &u64| self.assignment.is_validation(self.store.document(*i).doc) == side;
        let begins = |i: &u64| {
            let document = self.store.document(*i);
            let end = document.input_ids.len();
            let ends_there = |at: usize| at + first.len() == end;
            let mut after = (*i + 1..self.store.len()).filter(of_split);
            occurrences(&document, a.1, first).any(ends_there)
                && middle.iter().all(|part| {
                    let whole = after.next().map(|i| self.store.document(i).input_ids);
                    whole.is_some_and(|ids| ids.iter().eq(part.iter().copied()))
                })
                && after.next().is_some_and(|i| {
                    let document = self.store.document(i);
                    let there = document.input_ids.slice(0, last.len());
                    document.doc == row.doc_b && there.iter().eq(last.iter().copied())
                })
        };
        let numbers = self.by_doc.get(&a.0);
        match numbers.is_some_and(|numbers| numbers.iter().any(begins)) {
            true => Ok(()),
            false => Err("it does not go on into the documents that follow in the source".into()),
        }
    }

    fn not_found(&self, segment: &str, doc: i64, sentence: u32) -> String {
        if self.by_doc.contains_key(&doc) {
            format!("{segment} does not begin in sentence {sentence} of document {doc:016x}")
        } else {
            format!("{segment}'s document {doc:016x} is not in the source")
        }
    }
}

/// Document, sentence, and token ids.
type Segment<'a> = (i64, u32, &'a [u32]);

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
