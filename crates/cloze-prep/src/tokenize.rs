//! Stage 1: documents of all sources, segmented and tokenized by all threads, into the token store, in order.

use std::collections::BTreeMap;
use std::path::Path;

use cloze_shard::manifest::SourceRecord;
use cloze_shard::schema::IdType;
use cloze_text::{Segmenter, Tokenizer};
use rayon::prelude::*;

use crate::input::{Document, InputPlan, SourceReader, TextForm};
use crate::token_store::{TokenStoreWriter, TokenizedDocument};
use crate::{Config, Error, Progress, Result};

/// Text that is read ahead while the block before it is tokenized: bounds memory.
pub const BLOCK_BYTES: usize = 4 << 20;

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
}

impl TokenizeReport {
    /// The counts by name, as the manifest holds them.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        let skipped = self.sources.iter().flat_map(|s| s.skipped.values()).sum();
        [
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
        .into()
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

/// Reads, segments and tokenizes every source of `plan` into the token store `path`.
pub fn tokenize(
    plan: &InputPlan,
    tokenizer: &Tokenizer,
    config: &Config,
    path: &Path,
    progress: &dyn Progress,
) -> Result<TokenizeReport> {
    let worker = Worker {
        tokenizer,
        segmenter: match config.text_form {
            TextForm::Prose => Segmenter::rules(&config.language)?,
            TextForm::SentencePerLine => Segmenter::Line,
        },
        unknown: tokenizer.id("[UNK]"),
    };
    let mut store = TokenStoreWriter::create(path, IdType::for_vocab_size(tokenizer.vocab_size()))?;
    let mut report = TokenizeReport {
        ignored: plan
            .ignored
            .iter()
            .map(|p| p.to_string_lossy().into_owned())
            .collect(),
        ..TokenizeReport::default()
    };
    for (number, source) in plan.sources.iter().enumerate() {
        let number = number as u32;
        let mut blocks = Blocks {
            reader: SourceReader::open(source, number, &plan.options, progress)?,
            size: BLOCK_BYTES,
        };
        let mut block = blocks.next()?;
        while !block.is_empty() {
            // The next block is read on this thread while the others tokenize.
            let mut tokenized = Ok(Vec::new());
            let next = rayon::in_place_scope(|scope| {
                scope.spawn(|_| tokenized = worker.block(&block));
                blocks.next()
            });
            let tokenized = tokenized?;
            for (document, tokens) in block.iter().zip(tokenized) {
                report.add(document, &tokens);
                progress.count(1, tokens.input_ids.len() as u64);
                if tokens.input_ids.is_empty() {
                    continue;
                }
                store.push(document, &tokens).map_err(|e| match e {
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
    Ok(report)
}

impl TokenizeReport {
    fn add(&mut self, document: &Document, tokens: &TokenizedDocument) {
        self.text_bytes += document.text.len() as u64;
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

/// Documents by blocks of about the same size.
pub struct Blocks<'a> {
    pub reader: SourceReader<'a>,
    /// About how much text a block holds.
    pub size: usize,
}

impl Blocks<'_> {
    /// The next block; an empty one at the end.
    pub fn next(&mut self) -> Result<Vec<Document>> {
        let (mut block, mut bytes) = (Vec::new(), 0);
        while bytes < self.size {
            let Some(document) = self.reader.next_document()? else {
                break;
            };
            bytes += document.text.len();
            block.push(document);
        }
        Ok(block)
    }
}

struct Worker<'a> {
    tokenizer: &'a Tokenizer,
    segmenter: Segmenter,
    unknown: Option<u32>,
}

impl Worker<'_> {
    fn block(&self, block: &[Document]) -> Result<Vec<TokenizedDocument>> {
        block
            .par_iter()
            .map(|document| self.document(document))
            .collect()
    }

    fn document(&self, document: &Document) -> Result<TokenizedDocument> {
        let mut tokens = TokenizedDocument {
            doc: document.doc(),
            ..TokenizedDocument::default()
        };
        let mut sentences = Vec::new();
        self.segmenter.sentences(&document.text, &mut sentences);
        for sentence in sentences {
            let before = tokens.input_ids.len();
            self.tokenizer
                .encode_into(&document.text[sentence], &mut tokens.input_ids)?;
            if tokens.input_ids.len() == before {
                tokens.sentences_without_tokens += 1;
            } else {
                tokens.sentence_ends.push(tokens.input_ids.len() as u32);
            }
        }
        tokens.unknown_tokens = tokens
            .input_ids
            .iter()
            .filter(|&&id| Some(id) == self.unknown)
            .count() as u64;
        Ok(tokens)
    }
}
