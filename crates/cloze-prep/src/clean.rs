//! Cleaning on the way: documents are looked at before they are tokenized, and duplicates leave the token store when all are in it.

use std::ops::Range;
use std::path::{Path, PathBuf};

use cloze_clean::exclude::{Builder, Exclusion};
use cloze_clean::ledger::{Decisions, EXAMPLES, Piece, Repeated};
use cloze_clean::{
    CleanOptions, CleanReport, Cleaner, Decision, Example, Ledger, ParagraphKind, Place,
};
use cloze_shard::schema::IdType;

use crate::input::{InputError, InputOptions, InputPlan, SourceReader, TextForm};
use crate::memory::Memory;
use crate::token_store::{TokenFiles, TokenStoreWriter, TokenizedDocument};
use crate::{Config, Error, Progress, Result, Silent, StoredDocument};

/// Why a document goes of which no paragraph is left.
pub const REPEATED_ONLY: &str = "repeated_paragraphs_only";

/// What looks at documents, and what keeps their keys.
pub struct Cleaning {
    /// Looks at each.
    pub cleaner: Cleaner,
    /// Decides about duplicates, where that is asked for.
    pub ledger: Option<Ledger>,
}

impl Cleaning {
    /// What `config` asks for, with its files in `folder`, within `memory`; `None` where it asks for nothing.
    pub fn open(config: &Config, folder: &Path, memory: Memory) -> Result<Option<Self>> {
        let options = &config.clean;
        if options.is_off() {
            return Ok(None);
        }
        let exclusion = exclusion(config)?;
        Ok(Some(Self {
            cleaner: Cleaner::new(options, exclusion)?,
            ledger: Ledger::create(folder, options, memory.deduplication())?,
        }))
    }
}

/// Makes of a document's text what cleaning made of it, by itself: what depends on other documents is not done.
#[allow(missing_debug_implementations)]
pub struct CleanedText(Cleaner);

impl CleanedText {
    /// As `config` asks; `None` where paragraphs that other documents have are left out, which one text does not tell.
    pub fn of(config: &Config) -> Result<Option<Self>> {
        let options = &config.clean;
        if options.dedup_paragraphs != ParagraphKind::None {
            return Ok(None);
        }
        let only = CleanOptions {
            unicode: options.unicode,
            tidy_space: options.tidy_space,
            strip_control: options.strip_control,
            ..CleanOptions::default()
        };
        Ok(Some(Self(Cleaner::new(&only, None)?)))
    }

    /// The text as it was tokenized.
    #[must_use]
    pub fn apply(&self, text: &str) -> String {
        self.0.look(text).text.into_owned()
    }
}

/// Reads the evaluation sets. Where their digests are known, other files are refused.
fn exclusion(config: &Config) -> Result<Option<Exclusion>> {
    let options = &config.clean;
    if options.exclude.is_empty() {
        return Ok(None);
    }
    let mut builder = Builder::new(options.exclude_ngram);
    for (number, path) in options.exclude.iter().enumerate() {
        builder.set(&path.to_string_lossy());
        let mut digest = String::new();
        for field in &options.exclude_field {
            digest = add(&mut builder, path, field)?;
        }
        builder.end_set()?;
        let expected = options.exclude_blake3.get(number);
        if let Some(expected) = expected.filter(|&expected| *expected != digest) {
            return Err(Error::ExcludedChanged {
                path: path.clone(),
                found: digest,
                expected: expected.clone(),
            });
        }
    }
    Ok(Some(builder.finish()))
}

/// Adds the texts that `field` of each row holds; the file's digest.
fn add(builder: &mut Builder, path: &Path, field: &str) -> Result<String> {
    let options = InputOptions::of(&Config {
        text_field: field.into(),
        text_form: TextForm::SentencePerLine,
        ..Config::default()
    });
    let nothing = |why: String| {
        let path = path.to_string_lossy().into_owned();
        Error::Clean(cloze_clean::Error::NothingToExclude { path, why })
    };
    // What is said of an input, and what to do about it, is of an evaluation set here.
    let of_a_set = |error: InputError| match error {
        InputError::NoText { .. } => nothing("it is an empty file".into()),
        InputError::Field { line, why, .. } => nothing(format!("line {line}: {why}")),
        InputError::Header { why, .. } => nothing(why),
        other => other.into(),
    };
    let plan = InputPlan::resolve(&[PathBuf::from(path)], &options).map_err(of_a_set)?;
    let [source] = plan.sources.as_slice() else {
        let why = format!("{} is not a file", path.display());
        let option = "--exclude";
        return Err(Error::Config { option, why });
    };
    let mut reader = SourceReader::open(source, 0, &plan.options, &Silent);
    while let Some(row) = reader.next_document().map_err(of_a_set)? {
        builder.add(row.index, &row.text);
    }
    Ok(reader.finish()?.blake3)
}

/// What is left in a token store.
#[derive(Clone, Debug, Default)]
pub struct Left {
    pub documents: u64,
    pub sentences: u64,
    pub tokens: u64,
    pub unknown_tokens: u64,
    /// The paragraphs that occur most often: where they stay, their ids, how often.
    pub most: Vec<(Place, Vec<u32>, u64)>,
    /// The ids of the first documents of which no paragraph is left.
    pub emptied: Vec<Vec<u32>>,
    /// Of the bytes of what stays, hexadecimal.
    pub blake3: String,
}

/// Copies what stays of the token store at the first path to the second, as `decisions` say, and adds what goes to `report`.
pub fn keep_what_stays(
    [from, to]: [&Path; 2],
    decisions: &mut Decisions,
    id_type: IdType,
    unknown: Option<u32>,
    place: impl Fn(&StoredDocument<'_>) -> Place,
    report: &mut CleanReport,
    progress: &dyn Progress,
) -> Result<Left> {
    let files = TokenFiles::open([from.to_path_buf()])?;
    let mut store = files.cursor();
    for duplicate in &decisions.examples {
        let reason = reason(duplicate.exact);
        let [text, first] = duplicate.heads.clone();
        let place_of = place(&store.document(duplicate.of)?);
        let place = place(&store.document(duplicate.document)?);
        report.gone(reason, || Example {
            place,
            text,
            of: Some(Box::new(Example {
                place: place_of,
                text: first,
                ..Example::default()
            })),
            row: None,
        });
    }
    // Only the first are examples; the others are counted.
    for (count, exact) in decisions.duplicates.into_iter().zip([true, false]) {
        let shown = decisions
            .examples
            .iter()
            .filter(|e| e.exact == exact)
            .count();
        for _ in shown as u64..count {
            report.gone(reason(exact), Example::default);
        }
    }
    let mut out = TokenStoreWriter::create(to, id_type, None)?;
    let mut left = Left::default();
    let most: Vec<Repeated> = decisions.most.clone();
    let (mut input_ids, mut sentence_ends) = (Vec::new(), Vec::new());
    for number in 0..files.len() {
        let document = store.document(number)?;
        let emptied = decisions.emptied;
        let Some(decision) = decisions.next_decision()? else {
            break;
        };
        progress.advance(1);
        match decision {
            Decision::Drop => {
                if decisions.emptied > emptied {
                    if left.emptied.len() < EXAMPLES {
                        left.emptied.push(document.input_ids.iter().collect());
                    }
                    report.gone(REPEATED_ONLY, || Example {
                        place: place(&document),
                        ..Example::default()
                    });
                }
                continue;
            }
            Decision::Keep(pieces) => {
                left.sample(&document, pieces, &most, &place);
                cut(&document, pieces, &mut input_ids, &mut sentence_ends);
            }
        }
        left.documents += 1;
        left.sentences += sentence_ends.len() as u64;
        left.tokens += input_ids.len() as u64;
        let is_unknown = |&&id: &&u32| Some(id) == unknown;
        left.unknown_tokens += input_ids.iter().filter(is_unknown).count() as u64;
        let about = [document.id, document.meta];
        let tokens = TokenizedDocument {
            doc: document.doc,
            input_ids: &input_ids,
            sentence_ends: &sentence_ends,
        };
        out.push_of(document.source, document.index, about, tokens)?;
    }
    report.repeated_paragraphs = decisions.removed_paragraphs;
    left.blake3 = out.finish()?;
    Ok(left)
}

fn reason(exact: bool) -> &'static str {
    if exact { "duplicate" } else { "near_duplicate" }
}

/// A piece of a document: its sentences, and its tokens.
struct Part {
    piece: Piece,
    sentences: Range<usize>,
    tokens: Range<usize>,
}

/// The pieces of a document, where they are in it.
fn parts<'a>(
    document: &StoredDocument<'a>,
    pieces: &'a [Piece],
) -> impl Iterator<Item = Part> + use<'a> {
    let ends = document.sentence_ends;
    let start = move |sentence: usize| match sentence.checked_sub(1) {
        None => 0,
        Some(before) => ends[before] as usize,
    };
    let mut sentence = 0;
    pieces.iter().map(move |&piece| {
        let begin = sentence;
        sentence += piece.weight as usize;
        Part {
            piece,
            sentences: begin..sentence,
            tokens: start(begin)..start(sentence),
        }
    })
}

/// What stays of a document: its ids, and the ends of its sentences.
fn cut(
    document: &StoredDocument<'_>,
    pieces: &[Piece],
    input_ids: &mut Vec<u32>,
    sentence_ends: &mut Vec<u32>,
) {
    input_ids.clear();
    sentence_ends.clear();
    let (ids, ends) = (document.input_ids, document.sentence_ends);
    if pieces.iter().all(|piece| piece.keep) {
        input_ids.extend(ids.iter());
        sentence_ends.extend_from_slice(ends);
        return;
    }
    for part in parts(document, pieces).filter(|part| part.piece.keep) {
        let gone = (part.tokens.start - input_ids.len()) as u32;
        let ends = ends[part.sentences].iter();
        sentence_ends.extend(ends.map(|end| end - gone));
        let tokens = ids.slice(part.tokens.start, part.tokens.end);
        input_ids.extend(tokens.iter());
    }
}

impl Left {
    /// Keeps the ids of a paragraph that occurs often, where this document has its first occurrence.
    fn sample(
        &mut self,
        document: &StoredDocument<'_>,
        pieces: &[Piece],
        most: &[Repeated],
        place: impl Fn(&StoredDocument<'_>) -> Place,
    ) {
        if pieces.iter().all(|piece| piece.sample.is_none()) {
            return;
        }
        for part in parts(document, pieces) {
            if let Some(which) = part.piece.sample {
                let Range { start, end } = part.tokens;
                let ids = document.input_ids.slice(start, end);
                let times = most[which].times;
                self.most
                    .push((place(document), ids.iter().collect(), times));
            }
        }
    }
}
