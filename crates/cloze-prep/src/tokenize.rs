//! Stage 1: documents of all sources, cleaned, segmented and tokenized by all threads, into the token store, in order.

mod cleaned;
pub mod encoders;
pub mod reading;
mod report;

use std::borrow::Cow;
use std::fs;
use std::ops::Range;

use cloze_clean::exclude::FEW_WORDS;
use cloze_clean::{Changes, Cleaner, Dropped, Keys, Ledger};
use cloze_shard::schema::IdType;
use cloze_text::{Encoder, Segmenter};

use self::cleaned::place;
pub use self::encoders::Encoders;
use self::reading::{Block, Event, Reading};
pub use self::report::TokenizeReport;
use crate::ahead::Ahead;
use crate::clean::Cleaning;
use crate::input::{Document, InputPlan, Source, TextForm};
use crate::memory::Memory;
use crate::progress::Stage;
use crate::spare::Spare;
use crate::token_store::{TokenStoreWriter, TokenizedDocument};
use crate::tokens::{Place, TokenFolder};
use crate::{Config, Error, Progress, Result};

/// Text that a thread is given at a time.
const BLOCK_BYTES: usize = 128 << 10;
/// Text for each thread that is read ahead of what is stored, and with many threads in all, where that is not less than [`SOME`] for each: bounds memory.
const AHEAD: usize = 1 << 20;
const AHEAD_IN_ALL: usize = 16 << 20;
const SOME: usize = 2 * BLOCK_BYTES;
/// Text for each thread that waits to be worked on, so that the others have some while the one that reads does not run: it is one among many on a busy machine.
const QUEUED: usize = 4 * BLOCK_BYTES;
/// Bytes of text at the end whose ids are written in groups, of which some is written over.
const LAST_BYTES: usize = 2 << 10;

/// Reads, segments and tokenizes every source of `plan` into `folder`, or what is not there yet. A part of the folder ends after `part_bytes` of text.
pub fn tokenize(
    plan: &InputPlan,
    encoders: Encoders<'_>,
    config: &Config,
    folder: &mut TokenFolder,
    part_bytes: u64,
    memory: Memory,
    progress: &dyn Progress,
) -> Result<TokenizeReport> {
    let ignored = plan.ignored.iter();
    let ignored = ignored.map(|p| p.to_string_lossy().into_owned()).collect();
    if !folder.whole {
        let (mut cleaner, mut ledger) = (None, None);
        if let Some(cleaning) = Cleaning::open(config, folder.path(), memory)? {
            (cleaner, ledger) = (Some(cleaning.cleaner), cleaning.ledger);
        }
        // What is in a part may have to leave again, which is known when all is there: then there is one part, and nothing is safe before it is whole.
        let part_bytes = match ledger {
            Some(_) => {
                folder.forget()?;
                u64::MAX
            }
            None => part_bytes,
        };
        let worker = Worker::new(cleaner, &encoders, config)?;
        if let Some(exclusion) = worker.cleaner.as_ref().and_then(Cleaner::exclusion)
            && exclusion.short() > 0
        {
            progress.say(&format!(
                "warning: {} of the {} texts of --exclude have less than {FEW_WORDS} words: a document goes only where it is nothing else",
                exclusion.short(),
                exclusion.texts()
            ));
        }
        let parts = Parts {
            id_type: IdType::for_vocab_size(encoders.tokenizer.vocab_size()),
            part_bytes,
            place: folder.place.clone(),
            folder,
            plan,
            writer: None,
            ledger,
            held: 0,
        };
        match parts.id_type {
            IdType::UInt16 => parts.fill::<u16>(&worker, progress)?,
            IdType::UInt32 => parts.fill::<u32>(&worker, progress)?,
        }
    }
    let mut report = folder.place.report.clone();
    report.ignored = ignored;
    Ok(report)
}

/// A width of ids, in which they are found and stored.
trait Width: cloze_shard::Id + cloze_text::Id {}

impl<T: cloze_shard::Id + cloze_text::Id> Width for T {}

/// The parts of a folder, as they are filled.
struct Parts<'a> {
    folder: &'a mut TokenFolder,
    plan: &'a InputPlan,
    id_type: IdType,
    part_bytes: u64,
    place: Place,
    writer: Option<TokenStoreWriter>,
    /// What decides about duplicates, where that is asked for.
    ledger: Option<Ledger>,
    /// Bytes of text in `writer`.
    held: u64,
}

impl Parts<'_> {
    fn fill<T: Width>(mut self, worker: &Worker<'_, '_>, progress: &dyn Progress) -> Result<()> {
        let plan = self.plan;
        let is_endless = plan.sources.iter().any(Source::is_stream);
        progress.begin(Stage::Tokenize, if is_endless { 0 } else { plan.bytes() });
        self.place.report.cleaned = worker.cleaner.is_some();
        // The source that was being read is read again up to where it was.
        let done = self.place.report.sources.len();
        for source in &plan.sources[..done] {
            progress.was_done(source.bytes);
        }
        self.place.sources.truncate(done);
        self.place.read = None;
        let from = (done, self.place.documents);
        let mut reading = Reading::new(plan, from, BLOCK_BYTES, progress);
        let threads = rayon::current_num_threads();
        let most = (threads * AHEAD).min(AHEAD_IN_ALL.max(threads * SOME));
        let used = Spare::<Tokens<T>>::default();
        rayon::in_place_scope_fifo(|scope| {
            let mut ahead = Ahead::new();
            // What was read before something failed is stored.
            let read = loop {
                // While one thread has a long document, the others go on.
                let held = ahead.weight() - ahead.heaviest();
                let is_wanted = ahead.queued() < threads * QUEUED && held < 2 * most;
                let mut tokenized = match is_wanted {
                    true => None,
                    false => ahead.done(),
                };
                if tokenized.is_none() && !is_wanted && held >= most {
                    tokenized = ahead.wait_lightly();
                }
                if let Some(tokenized) = tokenized {
                    self.store(tokenized?, &used, worker, progress)?;
                    continue;
                }
                match reading.next() {
                    Ok(Some(block)) => {
                        let (size, used) = (block.size(), &used);
                        let work = move || worker.block(block, used.take().unwrap_or_default());
                        ahead.begin(scope, size, work);
                    }
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            while let Some(tokenized) = ahead.wait() {
                self.store(tokenized?, &used, worker, progress)?;
            }
            read
        })?;
        progress.end();
        let exclusion = worker.cleaner.as_ref().and_then(Cleaner::exclusion);
        self.place.report.clean.name_rows(exclusion);
        if let Some(ledger) = self.ledger.take() {
            self.deduplicate(ledger, worker.unknown, progress)?;
        }
        self.end_part()?;
        self.folder.finish(self.place)
    }

    /// Leaves duplicates out of the one part that there is.
    fn deduplicate(
        &mut self,
        ledger: Ledger,
        unknown: Option<u32>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let Some(writer) = self.writer.take() else {
            return Ok(());
        };
        let blake3 = writer.finish()?;
        let (part, plan) = (self.folder.part(0), self.plan);
        let all = part.with_extension("all");
        fs::rename(&part, &all).map_err(cloze_shard::Error::io(&part))?;
        let place = |source: u32, index: u64, id: Option<&str>| place(plan, source, index, id);
        let paths = [all.as_path(), part.as_path()];
        let report = &mut self.place.report;
        let other = report.deduplicate(ledger, paths, self.id_type, unknown, place, progress)?;
        self.place.blake3 = vec![other.unwrap_or(blake3)];
        self.place.parts = 1;
        self.folder.full(self.place.clone())
    }

    /// Stores a block, and notes what happened to sources.
    fn store<T: Width>(
        &mut self,
        (block, tokens): Tokenized<T>,
        used: &Spare<Tokens<T>>,
        worker: &Worker<'_, '_>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let mut events = block.events.into_iter().peekable();
        for (i, (document, looked)) in block.documents.iter().zip(&tokens.looked).enumerate() {
            while let Some((_, event)) = events.next_if(|(before, _)| *before <= i) {
                self.note(event);
            }
            self.push(document, looked, &tokens, worker.cleaner.as_ref())?;
            self.place.documents += 1;
        }
        events.for_each(|(_, event)| self.note(event));
        progress.count(tokens.looked.len() as u64, tokens.input_ids.len() as u64);
        // That of a long document is too much to keep.
        if tokens.input_ids.capacity() <= BLOCK_BYTES {
            used.give(tokens);
        }
        if self.held >= self.part_bytes {
            self.end_part()?;
        }
        Ok(())
    }

    fn note(&mut self, event: Event) {
        let place = &mut self.place;
        match event {
            Event::Begins(mark, documents) => {
                place.sources.push(mark);
                place.documents = documents;
                place.read = None;
            }
            Event::Read(read) => place.read = Some(read),
            Event::Ends(ended) => {
                for (reason, first) in ended.first_skipped {
                    place.report.first_skipped.entry(reason).or_insert(first);
                }
                place.report.cut_documents += ended.cut;
                if let Some(name) = ended.encoding {
                    *place.report.encodings.entry(name.into()).or_default() += 1;
                }
                place.report.sources.push(ended.record);
                place.documents = 0;
                place.read = None;
            }
        }
    }

    fn push<T: Width>(
        &mut self,
        document: &Document,
        looked: &Looked,
        tokens: &Tokens<T>,
        cleaner: Option<&Cleaner>,
    ) -> Result<()> {
        self.place.report.look(document, looked, cleaner, self.plan);
        self.held += looked.bytes;
        if looked.dropped.is_some() || looked.input_ids.is_empty() {
            return Ok(());
        }
        if let Some(ledger) = &mut self.ledger {
            let paragraphs = looked.paragraphs.iter().copied();
            ledger.push(&looked.keys, paragraphs, &document.text)?;
        }
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let path = self.folder.part(self.place.parts);
                let postponed = self.folder.postponed.as_ref();
                none.insert(TokenStoreWriter::create(&path, self.id_type, postponed)?)
            }
        };
        let tokenized = tokens.of(document, looked);
        writer.push(document, tokenized).map_err(|e| match e {
            Error::DocumentTooLong {
                index,
                tokens,
                limit,
                ..
            } => Error::DocumentTooLong {
                source_path: self.plan.sources[document.source as usize]
                    .path
                    .display()
                    .to_string(),
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
        self.place.blake3.push(writer.finish()?);
        self.place.parts += 1;
        self.folder.full(self.place.clone())
    }
}

/// A document that was looked at, and tokenized if it stays.
#[derive(Default)]
struct Looked {
    /// Which of the ids of [`Tokens`] are its, and which ends of sentences.
    input_ids: Range<usize>,
    sentence_ends: Range<usize>,
    /// Of its ids, `[UNK]`.
    unknown_tokens: u64,
    /// Left out.
    sentences_without_tokens: u64,
    /// Of its text as it was read.
    bytes: u64,
    /// Whether there is a NUL in it.
    has_nul: bool,
    changes: Changes,
    dropped: Option<Dropped>,
    keys: Keys,
    /// Key and sentences of each paragraph.
    paragraphs: Vec<(u128, u32)>,
}

/// What came of documents.
struct Tokens<T> {
    looked: Vec<Looked>,
    input_ids: Vec<T>,
    /// From the beginning of its document on, the exclusive end of each sentence.
    sentence_ends: Vec<u32>,
    /// Memory for the sentences of a text.
    sentences: Vec<Range<usize>>,
}

impl<T> Default for Tokens<T> {
    fn default() -> Self {
        Self {
            looked: Vec::new(),
            input_ids: Vec::new(),
            sentence_ends: Vec::new(),
            sentences: Vec::new(),
        }
    }
}

impl<T> Tokens<T> {
    fn of(&self, document: &Document, looked: &Looked) -> TokenizedDocument<'_, T> {
        TokenizedDocument {
            doc: document.doc(),
            input_ids: &self.input_ids[looked.input_ids.clone()],
            sentence_ends: &self.sentence_ends[looked.sentence_ends.clone()],
        }
    }
}

/// A block, and what came of its documents.
type Tokenized<T> = (Block, Tokens<T>);

struct Worker<'w, 'a> {
    cleaner: Option<Cleaner>,
    encoders: &'w Encoders<'a>,
    segmenter: Segmenter,
    unknown: Option<u32>,
}

/// Bytes of text, tokens and sentences of documents, before anything is cleaned out of them.
pub fn measure(
    documents: &mut [Document],
    encoders: &Encoders<'_>,
    config: &Config,
) -> Result<[u64; 3]> {
    let worker = Worker::new(None, encoders, config)?;
    let tokens = worker.documents(documents, Tokens::<u32>::default())?;
    Ok([
        tokens.looked.iter().map(|looked| looked.bytes).sum(),
        tokens.input_ids.len() as u64,
        tokens.sentence_ends.len() as u64,
    ])
}

impl<'w, 'a> Worker<'w, 'a> {
    fn new(cleaner: Option<Cleaner>, encoders: &'w Encoders<'a>, config: &Config) -> Result<Self> {
        Ok(Self {
            cleaner,
            encoders,
            segmenter: match config.text_form {
                TextForm::Prose => {
                    Segmenter::rules(&config.language).map_err(cloze_text::Error::from)?
                }
                TextForm::SentencePerLine => Segmenter::Line,
                TextForm::Whole => Segmenter::Whole,
            },
            unknown: encoders.tokenizer.id("[UNK]"),
        })
    }

    /// Cleans the texts of `block`, and tokenizes them, in the memory of `tokens`.
    fn block<T: Width>(&self, mut block: Block, tokens: Tokens<T>) -> Result<Tokenized<T>> {
        let tokens = self.documents(&mut block.documents, tokens)?;
        Ok((block, tokens))
    }

    fn documents<T: Width>(
        &self,
        documents: &mut [Document],
        mut tokens: Tokens<T>,
    ) -> Result<Tokens<T>> {
        tokens.looked.clear();
        tokens.input_ids.clear();
        tokens.sentence_ends.clear();
        let bytes: usize = documents.iter().map(|d| d.text.len()).sum();
        tokens.input_ids.reserve(bytes / 3 + LAST_BYTES);
        let mut sentences = std::mem::take(&mut tokens.sentences);
        self.encoders.with(|encoder| {
            for document in documents {
                let looked = self.document(encoder, document, &mut tokens, &mut sentences)?;
                tokens.looked.push(looked);
            }
            tokens.sentences = sentences;
            Ok(tokens)
        })
    }

    fn document<T: Width>(
        &self,
        encoder: &mut Encoder<'_>,
        document: &mut Document,
        tokens: &mut Tokens<T>,
        sentences: &mut Vec<Range<usize>>,
    ) -> Result<Looked> {
        let mut looked = Looked {
            bytes: document.text.len() as u64,
            has_nul: memchr::memchr(0, document.text.as_bytes()).is_some(),
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
        let (first, first_end) = (tokens.input_ids.len(), tokens.sentence_ends.len());
        let mut text = |text: &str| -> Result<usize> {
            sentences.clear();
            self.segmenter.sentences(text, sentences);
            let (ids, ends) = (&mut tokens.input_ids, &mut tokens.sentence_ends);
            let (mut before, begin) = (ids.len() as u32, ends.len());
            encoder.encode_parts_into(text, sentences, ids, ends)?;
            // Those that are left, put where they belong.
            let mut kept = begin;
            for i in begin..ends.len() {
                let end = ends[i];
                if end > std::mem::replace(&mut before, end) {
                    ends[kept] = end - first as u32;
                    kept += 1;
                }
            }
            looked.sentences_without_tokens += (ends.len() - kept) as u64;
            ends.truncate(kept);
            Ok(kept - begin)
        };
        if ranges.is_empty() {
            text(&document.text)?;
        }
        // No sentence crosses the end of a paragraph that may have to go.
        for paragraph in ranges {
            let sentences = text(&document.text[paragraph.range])?;
            looked.paragraphs.push((paragraph.key, sentences as u32));
        }
        looked.input_ids = first..tokens.input_ids.len();
        looked.sentence_ends = first_end..tokens.sentence_ends.len();
        let unknown = self.unknown.map(<T as cloze_shard::Id>::of);
        if let Some(unknown) = unknown {
            // By so few that their number has 16 bits, as ids mostly have: it is in vectors, then.
            let few = tokens.input_ids[first..].chunks(1 << 15);
            let counts = few.map(|ids| ids.iter().map(|&id| u16::from(id == unknown)).sum::<u16>());
            looked.unknown_tokens = counts.map(u64::from).sum();
        }
        Ok(looked)
    }
}
