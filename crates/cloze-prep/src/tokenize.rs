//! Stage 1: documents of all sources, segmented and tokenized by all threads, into the token store, in order.

use std::collections::BTreeMap;
use std::sync::Mutex;

use cloze_shard::manifest::SourceRecord;
use cloze_shard::schema::IdType;
use cloze_text::{Encoder, Segmenter, Tokenizer};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::input::{Document, InputPlan, Source, SourceReader, TextForm};
use crate::key::Mark;
use crate::token_store::{TokenStoreWriter, TokenizedDocument};
use crate::tokens::{Place, TokenFolder};
use crate::{Config, Error, Progress, Result};

/// Text that is read ahead while the block before it is tokenized: bounds memory.
pub const BLOCK_BYTES: usize = 4 << 20;

/// What stage 1 counted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TokenizeReport {
    /// The sources as they were read.
    pub sources: Vec<SourceRecord>,
    #[serde(skip)]
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

/// Reads, segments and tokenizes every source of `plan` into `folder`, or what is not there yet. A part of the folder ends after `part_bytes` of text.
pub fn tokenize(
    plan: &InputPlan,
    tokenizer: &Tokenizer,
    config: &Config,
    folder: &mut TokenFolder,
    part_bytes: u64,
    progress: &dyn Progress,
) -> Result<TokenizeReport> {
    let ignored = plan.ignored.iter();
    let ignored = ignored.map(|p| p.to_string_lossy().into_owned()).collect();
    if !folder.whole {
        let worker = Worker {
            tokenizer,
            encoders: Mutex::new(Vec::new()),
            segmenter: match config.text_form {
                TextForm::Prose => {
                    Segmenter::rules(&config.language).map_err(cloze_text::Error::from)?
                }
                TextForm::SentencePerLine => Segmenter::Line,
                TextForm::Whole => Segmenter::Whole,
            },
            unknown: tokenizer.id("[UNK]"),
        };
        let parts = Parts {
            id_type: IdType::for_vocab_size(tokenizer.vocab_size()),
            part_bytes,
            place: folder.place.clone(),
            folder,
            writer: None,
            held: 0,
        };
        parts.fill(plan, &worker, progress)?;
    }
    let mut report = folder.place.report.clone();
    report.ignored = ignored;
    Ok(report)
}

/// The parts of a folder, as they are filled.
struct Parts<'a> {
    folder: &'a mut TokenFolder,
    id_type: IdType,
    part_bytes: u64,
    place: Place,
    writer: Option<TokenStoreWriter>,
    /// Bytes of text in `writer`.
    held: u64,
}

impl Parts<'_> {
    fn fill(
        mut self,
        plan: &InputPlan,
        worker: &Worker<'_>,
        progress: &dyn Progress,
    ) -> Result<()> {
        // The source that was being read is read again up to where it was.
        let done = self.place.report.sources.len();
        let mut again = self.place.documents;
        for source in &plan.sources[..done] {
            progress.advance(source.bytes);
        }
        self.place.sources.truncate(done);
        for (number, source) in plan.sources.iter().enumerate().skip(done) {
            let reader = SourceReader::open(source, number as u32, &plan.options, progress)?;
            let mut blocks = Blocks {
                reader,
                size: BLOCK_BYTES,
            };
            self.place.sources.push(Mark::of(source));
            self.place.documents = again;
            for _ in 0..std::mem::take(&mut again) {
                blocks.reader.next_document()?;
            }
            let mut block = blocks.next()?;
            while !block.is_empty() {
                // The next block is read on this thread while the others tokenize.
                let mut tokenized = Ok(Vec::new());
                let next = rayon::in_place_scope(|scope| {
                    scope.spawn(|_| tokenized = worker.block(&block));
                    blocks.next()
                });
                for (document, tokens) in block.iter().zip(tokenized?) {
                    self.push(source, document, &tokens)?;
                    progress.count(1, tokens.input_ids.len() as u64);
                }
                self.place.documents += block.len() as u64;
                if self.held >= self.part_bytes {
                    self.end_part()?;
                }
                block = next?;
            }
            for (reason, place) in blocks.reader.first_skipped() {
                let first = self.place.report.first_skipped.entry(reason.clone());
                first.or_insert_with(|| place.clone());
            }
            self.place.report.sources.push(blocks.reader.finish()?);
            self.place.documents = 0;
        }
        self.end_part()?;
        self.folder.finish(self.place)
    }

    fn push(
        &mut self,
        source: &Source,
        document: &Document,
        tokens: &TokenizedDocument,
    ) -> Result<()> {
        self.place.report.add(document, tokens);
        self.held += document.text.len() as u64;
        if tokens.input_ids.is_empty() {
            return Ok(());
        }
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let path = self.folder.part(self.place.parts);
                none.insert(TokenStoreWriter::create(&path, self.id_type)?)
            }
        };
        writer.push(document, tokens).map_err(|e| match e {
            Error::DocumentTooLong {
                index,
                tokens,
                limit,
                ..
            } => Error::DocumentTooLong {
                source_path: source.path.display().to_string(),
                index,
                tokens,
                limit,
            },
            other => other,
        })
    }

    /// Ends the part that is being filled, if there is one.
    fn end_part(&mut self) -> Result<()> {
        self.held = 0;
        let Some(writer) = self.writer.take() else {
            return Ok(());
        };
        writer.finish()?;
        self.place.parts += 1;
        self.folder.full(self.place.clone())
    }
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
    /// Encoders that no thread has now: what they learned is kept.
    encoders: Mutex<Vec<Encoder<'a>>>,
    segmenter: Segmenter,
    unknown: Option<u32>,
}

/// An encoder, given back when it is done with.
struct Borrowed<'w, 'a> {
    worker: &'w Worker<'a>,
    encoder: Option<Encoder<'a>>,
}

impl Drop for Borrowed<'_, '_> {
    fn drop(&mut self) {
        if let (Ok(mut encoders), Some(encoder)) =
            (self.worker.encoders.lock(), self.encoder.take())
        {
            encoders.push(encoder);
        }
    }
}

impl Worker<'_> {
    fn block(&self, block: &[Document]) -> Result<Vec<TokenizedDocument>> {
        block
            .par_iter()
            .map_init(
                || Borrowed {
                    worker: self,
                    encoder: self.encoders.lock().ok().and_then(|mut all| all.pop()),
                },
                |own, document| {
                    let encoder = own.encoder.get_or_insert_with(|| self.tokenizer.encoder());
                    self.document(encoder, document)
                },
            )
            .collect()
    }

    fn document(
        &self,
        encoder: &mut Encoder<'_>,
        document: &Document,
    ) -> Result<TokenizedDocument> {
        let mut tokens = TokenizedDocument {
            doc: document.doc(),
            ..TokenizedDocument::default()
        };
        let mut sentences = Vec::new();
        self.segmenter.sentences(&document.text, &mut sentences);
        for sentence in sentences {
            let before = tokens.input_ids.len();
            encoder.encode_into(&document.text[sentence], &mut tokens.input_ids)?;
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
