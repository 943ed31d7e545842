//! Going back from rows to the source: are A and B where the row says, word for word?

use std::ops::Range;
use std::path::{Path, PathBuf};

use cloze_shard::random::mix64;
use cloze_shard::row::RowRef;
use cloze_shard::verify::{Check, Claims, Looked, Report};
use cloze_shard::{Dataset, Ids, Manifest, NextSentenceLabel, regular_file};
use cloze_text::Tokenizer;

use crate::input::{InputOptions, InputPlan};
use crate::key::Key;
use crate::memory::Memory;
use crate::pairing::sentence_start;
use crate::progress::Progress;
use crate::split::Assignment;
use crate::token_store::TokenFiles;
use crate::tokenize::{Encoders, TokenizeReport, tokenize};
use crate::tokens::{Reuse, TokenFolder};
use crate::{Config, Error, ObjectiveKind, Result, StoredDocument};

/// Reads and tokenizes `inputs` again, as the manifest's configuration says, and looks every row of the dataset up in them.
///
/// `exclude` are the evaluation sets that the preparation kept out, where they are not where they were. Problems are added to `report` under
/// [`Check::Source`]. `work` is an empty folder for the token store. The tokens are held a portion at a time, so that `memory` bytes (or half of what there
/// is) suffice; the rows are gone through once for each.
pub fn audit(
    dataset: &Path,
    inputs: &[PathBuf],
    exclude: &[PathBuf],
    work: &Path,
    (jobs, memory): (Option<usize>, Option<u64>),
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
    let mut folder = TokenFolder::open(
        &work.join("tokens"),
        &key,
        &sources.sources,
        Reuse::default(),
    )?;
    let memory = Memory::new(memory);
    let found = pool.install(|| {
        tokenize(
            &sources,
            Encoders::new(&tokenizer),
            &config,
            &mut folder,
            u64::MAX,
            memory,
            progress,
        )
    })?;
    let files = folder.files()?;
    let portions = memory.portions(files.bytes());
    let mut rows = 0;
    for portion in 0..portions {
        let which = Portion { portion, portions };
        let source = Source::read(&files, &config, vocabulary.special().sep, which)?;
        rows = 0;
        for (_, split) in dataset.splits() {
            for shard in split.shards() {
                for i in 0..shard.rows() {
                    for why in source.check(&shard.row(i)) {
                        report.add(Check::Source, shard.path(), Some(i), why);
                    }
                }
                rows += shard.rows();
            }
        }
    }
    compare_sources(dataset.path(), dataset.manifest(), &found, report);
    report.ran(Check::Source, Looked::all(rows, "rows"));
    Ok(())
}

/// What the manifest says of its sources, and what was counted of them, where these are the same.
fn compare_sources(
    dataset: &Path,
    manifest: &Manifest,
    found: &TokenizeReport,
    report: &mut Report,
) {
    let (then, now) = (&manifest.sources, &found.sources);
    for source in then {
        let here = now.iter().find(|n| n.path == source.path);
        if let Some(here) = here.filter(|here| here.blake3 != source.blake3) {
            let (is, was) = (&here.blake3, &source.blake3);
            let why = format!("blake3 {is}, the dataset was made of {was}: it holds other bytes");
            report.add(Check::Source, Path::new(&source.path), None, why);
        } else if here.is_none() && !now.iter().any(|n| n.blake3 == source.blake3) {
            report.notes.push(format!(
                "none of the sources given holds the bytes of {}, which the dataset was made of",
                source.path
            ));
        }
    }
    let counts = found.counts();
    let same = then.len() == now.len() && then.iter().zip(now).all(|(a, b)| a.blake3 == b.blake3);
    if same {
        let mut claims = Claims::of(dataset, report);
        for (i, (then, now)) in then.iter().zip(now).enumerate() {
            let field = |name: &str| format!("sources.{i}.{name}");
            let place = "in it";
            claims.field(&field("bytes"), &then.bytes, &now.bytes, place);
            claims.field(&field("documents"), &then.documents, &now.documents, place);
            claims.field(&field("skipped"), &then.skipped, &now.skipped, place);
        }
        // What else lay in a folder may lie there no more.
        let of_text = |name: &&String| *name != "ignored_files";
        for name in counts.keys().filter(of_text) {
            let says = manifest.counts.get(name);
            let place = "in the sources";
            claims.field(&format!("counts.{name}"), &says, &counts.get(name), place);
        }
    }
    // Every row may be there and more beside it, of which there is no row.
    for what in ["documents", "sentences", "tokens"] {
        let (Some(then), Some(now)) = (manifest.counts.get(what), counts.get(what)) else {
            continue;
        };
        if then != now && !same {
            let why = format!("the sources hold {now} {what}, the dataset was made of {then}");
            report.add(Check::Source, dataset, None, why);
            break;
        }
    }
}

/// Documents by hash id: of one id, all are in one portion.
#[derive(Clone, Copy)]
struct Portion {
    portion: u64,
    portions: u64,
}

impl Portion {
    fn has(self, doc: i64) -> bool {
        mix64(doc as u64) % self.portions == self.portion
    }
}

/// The documents of a portion of the source.
struct Source {
    which: Portion,
    /// Hash id and number in `documents`, ascending.
    by_doc: Vec<(i64, usize)>,
    documents: Vec<Held>,
    ids: Vec<u16>,
    wide: Vec<u32>,
    ends: Vec<u32>,
    seq_len: usize,
    sep: u32,
    objective: ObjectiveKind,
}

/// A document, by what it has of the source's vectors.
struct Held {
    ids: Range<usize>,
    ends: Range<usize>,
    /// Where rows go on into the next documents of the split: what comes after this one, with a `[SEP]` before each, and their hash ids.
    after: Vec<u32>,
    followers: Vec<i64>,
}

/// A document as it is held.
#[derive(Clone, Copy)]
struct View<'a> {
    ids: Ids<'a>,
    ends: &'a [u32],
    held: &'a Held,
}

impl Source {
    fn read(files: &TokenFiles, config: &Config, sep: u32, which: Portion) -> Result<Self> {
        let mut source = Self {
            which,
            by_doc: Vec::new(),
            documents: Vec::new(),
            ids: Vec::new(),
            wide: Vec::new(),
            ends: Vec::new(),
            seq_len: usize::from(config.seq_len),
            sep,
            objective: config.objective,
        };
        let mut cursor = files.cursor();
        let docs = (0..files.len()).map(|i| Ok(cursor.document(i)?.doc));
        let assignment = Assignment::new(docs, config.seed, config.validation_fraction)?;
        // Documents after which not enough is known, by split.
        let mut open: [Vec<usize>; 2] = Default::default();
        for i in 0..files.len() {
            let document = cursor.document(i)?;
            if config.objective == ObjectiveKind::FullSentences {
                let open = &mut open[usize::from(assignment.is_validation(document.doc))];
                open.retain(|&number| source.goes_on(number, &document));
                if which.has(document.doc) {
                    open.push(source.documents.len());
                }
            }
            if which.has(document.doc) {
                source.add(&document);
            }
        }
        source.by_doc.sort_unstable();
        Ok(source)
    }

    fn add(&mut self, document: &StoredDocument<'_>) {
        self.by_doc.push((document.doc, self.documents.len()));
        let begin = match document.input_ids {
            Ids::U16(ids) => {
                self.ids.extend_from_slice(ids);
                self.ids.len() - ids.len()
            }
            Ids::U32(ids) => {
                self.wide.extend_from_slice(ids);
                self.wide.len() - ids.len()
            }
        };
        let ends = self.ends.len();
        self.ends.extend_from_slice(document.sentence_ends);
        self.documents.push(Held {
            ids: begin..begin + document.input_ids.len(),
            ends: ends..self.ends.len(),
            after: Vec::new(),
            followers: Vec::new(),
        });
    }

    /// Notes what follows a document; whether a row may go on beyond that.
    fn goes_on(&mut self, number: usize, next: &StoredDocument<'_>) -> bool {
        let held = &mut self.documents[number];
        held.after.push(self.sep);
        let ids = next.input_ids.slice(0, self.seq_len);
        ids.extend_into(&mut held.after);
        held.followers.push(next.doc);
        held.after.len() < self.seq_len
    }

    fn documents(&self, doc: i64) -> impl Iterator<Item = View<'_>> {
        let first = self.by_doc.partition_point(|&(there, _)| there < doc);
        let same = self.by_doc[first..]
            .iter()
            .take_while(move |(there, _)| *there == doc);
        same.map(|&(_, number)| {
            let held = &self.documents[number];
            View {
                ids: match self.wide.is_empty() {
                    true => Ids::U16(&self.ids[held.ids.clone()]),
                    false => Ids::U32(&self.wide[held.ids.clone()]),
                },
                ends: &self.ends[held.ends.clone()],
                held,
            }
        })
    }

    /// What is wrong with a row, as far as documents of this portion can tell.
    fn check(&self, row: &RowRef<'_>) -> Vec<String> {
        if !self.which.has(row.doc_a) && !self.which.has(row.doc_b) {
            return Vec::new();
        }
        let ids = row.original_ids();
        let n = ids.len();
        let b_start = usize::from(row.b_start);
        if n < 3 || !(2..=n).contains(&b_start) {
            let why = "its segments cannot be told apart".to_owned();
            return self
                .which
                .has(row.doc_a)
                .then_some(why)
                .into_iter()
                .collect();
        }
        let a = (row.doc_a, row.sentence_a, &ids[1..b_start - 1]);
        let b = (row.doc_b, row.sentence_b, &ids[b_start.min(n - 1)..n - 1]);
        let other = row.next_sentence_label == Some(NextSentenceLabel::NotNext);
        let random = row.has_b() && other && self.objective != ObjectiveKind::Sop;
        let first = self.which.has(row.doc_a).then(|| match other {
            _ if !row.has_b() => self.check_one(row, a),
            true if random => self.find("A", a),
            true => self.follows(n, ("B", b), ("A", a)),
            false => self.follows(n, ("A", a), ("B", b)),
        });
        let second = (random && self.which.has(row.doc_b)).then(|| self.find("B", b));
        let both = first.into_iter().chain(second);
        both.filter_map(Result::err).collect()
    }

    /// A segment stands where its row says.
    fn find(&self, name: &str, (doc, sentence, ids): Place<'_>) -> Result<(), String> {
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
        (name, first): (&str, Place<'_>),
        (other, second): (&str, Place<'_>),
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
        if first.0 == second.0 {
            self.find(other, second)?;
        }
        Err(format!(
            "{other} does not follow {name} in the source, though the label says it does"
        ))
    }

    /// A row of one segment: text of one document, or what is left of one, whole documents after it, and the beginning of the last.
    fn check_one(&self, row: &RowRef<'_>, a: Place<'_>) -> Result<(), String> {
        let Some(first) = a.2.iter().position(|&id| id == self.sep) else {
            return self.find("A", a);
        };
        let (first, rest) = a.2.split_at(first);
        self.find("A", (a.0, a.1, first))?;
        let documents = rest.iter().filter(|&&id| id == self.sep).count();
        let goes_on = self.documents(a.0).any(|document| {
            let ends_there = |at: usize| at + first.len() == document.ids.len();
            document.held.after.starts_with(rest)
                && document.held.followers.get(documents - 1) == Some(&row.doc_b)
                && occurrences(&document, a.1, first).any(ends_there)
        });
        match goes_on {
            true => Ok(()),
            false => Err("it does not go on into the documents that follow in the source".into()),
        }
    }

    fn not_found(&self, segment: &str, doc: i64, sentence: u32) -> String {
        if self.documents(doc).next().is_some() {
            format!("{segment} does not begin in sentence {sentence} of document {doc:016x}")
        } else {
            format!("{segment}'s document {doc:016x} is not in the source")
        }
    }
}

/// Document, sentence, and token ids of a segment.
type Place<'a> = (i64, u32, &'a [u32]);

/// Where `segment` stands in `document`, beginning within `sentence`.
fn occurrences<'a>(
    document: &View<'a>,
    sentence: u32,
    segment: &'a [u32],
) -> impl Iterator<Item = usize> + use<'a> {
    let View { ids, ends, .. } = *document;
    let sentence = sentence as usize;
    let range = match ends.get(sentence) {
        Some(&end) => sentence_start(ends, sentence) as usize..end as usize,
        None => 0..0,
    };
    range.filter(move |&at| {
        let here = ids.slice(at, at + segment.len());
        here.len() == segment.len() && here.iter().eq(segment.iter().copied())
    })
}
