//! Stage 1: documents of all sources, cleaned, segmented and tokenized by all threads, into the token store, in order.

mod cleaned;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use cloze_clean::{Changes, CleanReport, Cleaner, Dropped, Keys, Place};

use cloze_shard::manifest::SourceRecord;
use cloze_shard::schema::IdType;
use cloze_text::{Segmenter, Tokenizer};
use rayon::prelude::*;

use self::cleaned::place;
use crate::clean::Cleaning;
use crate::input::{Document, InputPlan, SourceReader, TextForm};
use crate::progress::Stage;
use crate::token_store::{TokenStoreWriter, TokenizedDocument};
use crate::{Config, Error, Progress, Result};

/// Text that is read ahead while the block before it is tokenized: bounds memory.
const BLOCK_BYTES: usize = 4 << 20;

/// What stage 1 counted.
#[derive(Clone, Debug, Default)]
pub struct TokenizeReport {
    /// The sources as they were read.
    pub sources: Vec<SourceRecord>,
    ignored: Vec<String>,
    documents: u64,
    sentences: u64,
    tokens: u64,
    text_bytes: u64,
    unknown_tokens: u64,
    documents_without_tokens: u64,
    sentences_without_tokens: u64,
    /// The first of each kind that was passed over.
    first_skipped: BTreeMap<String, String>,
    /// The digests of the evaluation sets that were kept out.
    pub exclude_blake3: Vec<String>,
    clean: CleanReport,
    cleaned: bool,
    most_repeated: Vec<(Place, Vec<u32>, u64)>,
    emptied: Vec<Vec<u32>>,
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
        if let Some(first) = self.ignored.first() {
            let count = self.ignored.len();
            warnings.push(format!(
                "{count} file{} in the folders not read because of hidden or unknown names, such as {first}",
                if count == 1 { "" } else { "s" }
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

/// Reads, cleans, segments and tokenizes every source of `plan` into the token store `path`.
pub fn tokenize(
    plan: &InputPlan,
    tokenizer: &Tokenizer,
    config: &Config,
    path: &Path,
    progress: &dyn Progress,
) -> Result<TokenizeReport> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let cleaning = Cleaning::open(config, folder)?;
    let (cleaner, mut ledger, exclude_blake3) = match cleaning {
        None => (None, None, Vec::new()),
        Some(c) => (Some(c.cleaner), c.ledger, c.exclude_blake3),
    };
    let worker = Worker {
        cleaner,
        tokenizer,
        segmenter: match config.text_form {
            TextForm::Prose => Segmenter::rules(&config.language)?,
            TextForm::SentencePerLine => Segmenter::Line,
        },
        unknown: tokenizer.id("[UNK]"),
    };
    let id_type = IdType::for_vocab_size(tokenizer.vocab_size());
    // What is in it may have to leave again.
    let all = path.with_extension("all");
    let first = if ledger.is_some() { &all } else { path };
    let mut store = TokenStoreWriter::create(first, id_type)?;
    let mut report = TokenizeReport {
        ignored: plan
            .ignored
            .iter()
            .map(|p| p.to_string_lossy().into_owned())
            .collect(),
        cleaned: worker.cleaner.is_some(),
        exclude_blake3,
        ..TokenizeReport::default()
    };
    progress.begin(Stage::Tokenize, plan.bytes());
    for (number, source) in plan.sources.iter().enumerate() {
        let number = number as u32;
        let mut blocks = Blocks {
            reader: SourceReader::open(source, number, &plan.options, progress)?,
        };
        let mut block = blocks.next()?;
        while !block.is_empty() {
            // The next block is read on this thread while the others tokenize.
            let mut looked = Ok(Vec::new());
            let next = rayon::in_place_scope(|scope| {
                scope.spawn(|_| looked = worker.block(&mut block));
                blocks.next()
            });
            for (document, looked) in block.iter().zip(looked?) {
                report.look(document, &looked, worker.cleaner.as_ref(), plan);
                if looked.dropped.is_some() {
                    progress.count(1, 0);
                    continue;
                }
                let Looked { tokens, .. } = &looked;
                progress.count(1, tokens.input_ids.len() as u64);
                if tokens.input_ids.is_empty() {
                    continue;
                }
                if let Some(ledger) = &mut ledger {
                    let paragraphs = looked.paragraphs.iter().copied();
                    ledger.push(&looked.keys, paragraphs, &document.text)?;
                }
                store.push(document, tokens).map_err(|e| match e {
                    Error::DocumentTooLong {
                        index,
                        tokens,
                        limit,
                        ..
                    } => {
                        let source_path = source.path.display().to_string();
                        Error::DocumentTooLong {
                            source_path,
                            index,
                            tokens,
                            limit,
                        }
                    }
                    other => other,
                })?;
            }
            block = next?;
        }
        for (reason, place) in blocks.reader.first_skipped() {
            let first = report.first_skipped.entry(reason.clone());
            first.or_insert_with(|| place.clone());
        }
        report.sources.push(blocks.reader.finish()?);
    }
    store.finish()?;
    progress.end();
    report
        .clean
        .name_rows(worker.cleaner.as_ref().and_then(Cleaner::exclusion));
    if let Some(ledger) = ledger {
        let place = |source: u32, index: u64, id: Option<&str>| place(plan, source, index, id);
        report.deduplicate(
            ledger,
            [&all, path],
            id_type,
            worker.unknown,
            place,
            progress,
        )?;
    }
    Ok(report)
}

impl TokenizeReport {
    fn add(&mut self, tokens: &TokenizedDocument) {
        self.sentences_without_tokens += tokens.sentences_without_tokens;
        if tokens.input_ids.is_empty() {
            self.documents_without_tokens += 1;
            return;
        }
        self.documents += 1;
        self.sentences += tokens.sentence_ends.len() as u64;
        self.tokens += tokens.input_ids.len() as u64;
        self.unknown_tokens += tokens.unknown_tokens;
    }
}

struct Blocks<'a> {
    reader: SourceReader<'a>,
}

impl Blocks<'_> {
    fn next(&mut self) -> Result<Vec<Document>> {
        let (mut block, mut bytes) = (Vec::new(), 0);
        while bytes < BLOCK_BYTES {
            let Some(document) = self.reader.next_document()? else {
                break;
            };
            bytes += document.text.len();
            block.push(document);
        }
        Ok(block)
    }
}

/// A document that was looked at, and tokenized if it stays.
#[derive(Default)]
struct Looked {
    tokens: TokenizedDocument,
    /// Of its text as it was read.
    bytes: u64,
    changes: Changes,
    dropped: Option<Dropped>,
    keys: Keys,
    /// Key and sentences of each paragraph.
    paragraphs: Vec<(u128, u32)>,
}

struct Worker<'a> {
    cleaner: Option<Cleaner>,
    tokenizer: &'a Tokenizer,
    segmenter: Segmenter,
    unknown: Option<u32>,
}

impl Worker<'_> {
    /// Cleans the texts of the block, and tokenizes them.
    fn block(&self, block: &mut [Document]) -> Result<Vec<Looked>> {
        block
            .par_iter_mut()
            .map(|document| self.document(document))
            .collect()
    }

    fn document(&self, document: &mut Document) -> Result<Looked> {
        let mut looked = Looked {
            bytes: document.text.len() as u64,
            ..Looked::default()
        };
        let mut ranges = Vec::new();
        if let Some(cleaner) = &self.cleaner {
            let look = cleaner.look(&document.text);
            (looked.changes, looked.dropped) = (look.changes, look.dropped);
            (looked.keys, ranges) = (look.keys, look.paragraphs);
            if let Cow::Owned(text) = look.text {
                document.text = text;
            }
            if looked.dropped.is_some() {
                return Ok(looked);
            }
        }
        let tokens = &mut looked.tokens;
        tokens.doc = document.doc();
        if ranges.is_empty() {
            self.text(&document.text, tokens)?;
        }
        // No sentence crosses the end of a paragraph that may have to go.
        for paragraph in ranges {
            let before = tokens.sentence_ends.len();
            self.text(&document.text[paragraph.range], tokens)?;
            let sentences = tokens.sentence_ends.len() - before;
            looked.paragraphs.push((paragraph.key, sentences as u32));
        }
        let is_unknown = |&&id: &&u32| Some(id) == self.unknown;
        tokens.unknown_tokens = tokens.input_ids.iter().filter(is_unknown).count() as u64;
        Ok(looked)
    }

    /// Appends the sentences of `text`.
    fn text(&self, text: &str, tokens: &mut TokenizedDocument) -> Result<()> {
        let mut sentences = Vec::new();
        self.segmenter.sentences(text, &mut sentences);
        for sentence in sentences {
            let before = tokens.input_ids.len();
            self.tokenizer
                .encode_into(&text[sentence], &mut tokens.input_ids)?;
            if tokens.input_ids.len() == before {
                tokens.sentences_without_tokens += 1;
            } else {
                tokens.sentence_ends.push(tokens.input_ids.len() as u32);
            }
        }
        Ok(())
    }
}
