//! A document as it is in the source, sentence by sentence: tells where each of its segments ends.

use std::path::PathBuf;

use anyhow::Context;
use cloze_prep::input::{Document, InputOptions, InputPlan, SourceReader, TextForm};
use cloze_prep::{CleanedText, Config, Silent};
use cloze_text::{Segmenter, Tokenizer};

use super::document::Coverage;
use super::uses::Use;
use super::{Opened, Refused};

/// A document, segmented and tokenized as preparation did.
#[derive(Clone, Debug, Default)]
pub struct SourceDocument {
    pub doc: i64,
    pub ids: Vec<u32>,
    /// After the last token of each sentence that has tokens.
    pub ends: Vec<usize>,
    pub texts: Vec<String>,
}

/// A sentence's tokens, and how many of them are in rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub tokens: usize,
    pub covered: usize,
}

impl State {
    pub fn is_whole(self) -> bool {
        self.covered == self.tokens
    }
}

/// The first `most` documents of `inputs` whose hash is one of `docs`, in reading order.
pub fn find(
    opened: &Opened,
    inputs: &[PathBuf],
    docs: &[i64],
    most: usize,
) -> anyhow::Result<Vec<SourceDocument>> {
    let manifest = opened.dataset.manifest();
    let config: Config = serde_json::from_value(manifest.config.clone())
        .context("the manifest's configuration is not understood")?;
    config.check()?;
    let tokenizer = Tokenizer::open(&opened.dataset.tokenizer()?)?;
    let segmenter = match config.text_form {
        TextForm::Prose => Segmenter::rules(&config.language).map_err(cloze_text::Error::from)?,
        TextForm::SentencePerLine => Segmenter::Line,
        TextForm::Whole => Segmenter::Whole,
    };
    let Some(cleaned) = CleanedText::of(&config)? else {
        return Err(Refused::new(
            "the dataset was made with --dedup-paragraphs: what was left of a document is not told by its source alone",
            "leave --source out; `cloze verify --source` compares all of the dataset with all of its source",
        )
        .into());
    };
    let plan = InputPlan::resolve(inputs, &InputOptions::of(&config))?;
    let mut found = Vec::new();
    for (number, source) in (0..).zip(&plan.sources) {
        let mut reader = SourceReader::open(source, number, &plan.options, &Silent);
        while found.len() < most {
            let Some(mut document) = reader.next_document()? else {
                break;
            };
            if docs.contains(&document.doc()) {
                let doc = document.doc();
                document.text = cleaned.apply(&document.text);
                let read = SourceDocument::of(doc, &document, &segmenter, &tokenizer)?;
                if !read.ids.is_empty() {
                    found.push(read);
                }
            }
        }
    }
    if found.is_empty() {
        return Err(Refused::new(
            "the document is not in the inputs that --source names",
            "give the inputs that the dataset was prepared from",
        )
        .into());
    }
    Ok(found)
}

/// Says of every segment where it ends. An error where the source is not what the rows were made from.
pub fn settle(sources: &[SourceDocument], uses: &mut [Use]) -> Result<(), Refused> {
    for found in uses {
        let same = sources.iter().filter(|s| s.doc == found.doc);
        let last = same.filter_map(|s| {
            let at = s.place(found)?;
            Some(s.sentence_of(at + found.ids.len().saturating_sub(1)))
        });
        let Some(last) = last.min() else {
            return Err(Refused::new(
                format!(
                    "segment {} of row {} in {} is not in the source where the row says",
                    found.segment, found.row, found.split
                ),
                "the source has changed since, or the dataset was made by another version; `cloze verify --source` checks every row",
            ));
        };
        found.sentences = *found.sentences.start()..=last as u32;
        found.open = false;
    }
    Ok(())
}

impl SourceDocument {
    fn of(
        doc: i64,
        document: &Document,
        segmenter: &Segmenter,
        tokenizer: &Tokenizer,
    ) -> anyhow::Result<Self> {
        let mut read = Self {
            doc,
            ..Self::default()
        };
        let mut sentences = Vec::new();
        segmenter.sentences(&document.text, &mut sentences);
        for range in sentences {
            let text = &document.text[range];
            let before = read.ids.len();
            tokenizer.encode_into(text, &mut read.ids)?;
            if read.ids.len() > before {
                read.ends.push(read.ids.len());
                read.texts.push(text.to_owned());
            }
        }
        Ok(read)
    }

    fn start(&self, sentence: usize) -> usize {
        sentence
            .checked_sub(1)
            .map_or(0, |before| self.ends[before])
    }

    fn sentence_of(&self, token: usize) -> usize {
        self.ends.partition_point(|&end| end <= token)
    }

    /// Where a segment stands: at the first place in its first sentence that reads the same.
    fn place(&self, found: &Use) -> Option<usize> {
        let sentence = *found.sentences.start() as usize;
        let end = *self.ends.get(sentence)?;
        (self.start(sentence)..end)
            .find(|&at| self.ids.get(at..at + found.ids.len()) == Some(&found.ids[..]))
    }

    /// Of each sentence, what is in rows.
    pub fn states(&self, uses: &[Use]) -> Vec<State> {
        let mut covered = vec![false; self.ids.len()];
        for found in uses.iter().filter(|u| u.doc == self.doc) {
            if let Some(at) = self.place(found) {
                covered[at..at + found.ids.len()].fill(true);
            }
        }
        let sentence = |i: usize| {
            let tokens = &covered[self.start(i)..self.ends[i]];
            State {
                tokens: tokens.len(),
                covered: tokens.iter().filter(|&&c| c).count(),
            }
        };
        (0..self.ends.len()).map(sentence).collect()
    }

    pub fn coverage(&self, uses: &[Use]) -> Coverage {
        let states = self.states(uses);
        let whole = states.iter().filter(|s| s.is_whole()).count();
        let some = states.iter().filter(|s| s.covered > 0).count();
        Coverage {
            sentences: states.len() as u32,
            covered: whole as u32,
            in_part: Some((some - whole) as u32),
        }
    }
}
