//! Which rules cut a text.

use std::ops::Range;

use crate::language::Language;
use crate::rules::Walk;
use crate::scan::{self, BLOCK, Isa, NO_STOP};
use crate::sight::Keen;
use crate::{Error, Result, general};

/// Words of bits that are found at once.
const WORDS: usize = 32;

/// Cuts text into sentences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segmenter {
    /// The rules of a language.
    Rules {
        /// ISO 639-1, as [`Segmenter::rules`] checked it.
        language: String,
    },
    /// Every line is a sentence.
    Line,
    /// The whole text is one.
    Whole,
}

impl Segmenter {
    /// The rules of `language`, or of the language whose rules it shares. An unknown code is refused: English rules would
    /// otherwise be taken silently.
    pub fn rules(language: &str) -> Result<Self> {
        if Self::own(language) || general::known(language) {
            Ok(Self::Rules {
                language: language.into(),
            })
        } else {
            Err(Error::Language {
                code: language.into(),
            })
        }
    }

    /// Whether a language has rules of our own. Others that [`Segmenter::rules`] takes have those of `sentencex`.
    #[must_use]
    pub fn own(language: &str) -> bool {
        Language::find(language).is_some()
    }

    /// Appends the byte ranges of the sentences of `text`, in order.
    ///
    /// Ranges begin and end at characters that are not white space, none is empty, and together they hold every character
    /// of `text` that is not white space exactly once. A blank line always ends a sentence.
    pub fn sentences(&self, text: &str, out: &mut Vec<Range<usize>>) {
        self.sentences_with(Isa::best(), text, out);
    }

    /// As [`Segmenter::sentences`], with a set of instructions that the processor has ([`Isa::available`]); one that it does not
    /// have is not used. The result is the same.
    pub fn sentences_with(&self, isa: Isa, text: &str, out: &mut Vec<Range<usize>>) {
        match self {
            Self::Whole => push_trimmed(text, 0..text.len(), out),
            Self::Line => {
                let mut start = 0;
                for line in text.split_inclusive('\n') {
                    push_trimmed(text, start..start + line.len(), out);
                    start += line.len();
                }
            }
            Self::Rules { language } => match Language::find(language) {
                Some(language) => {
                    let isa = if isa.available() { isa } else { Isa::Scalar };
                    own(isa, language, text, out);
                }
                None => general::sentences(language, text, out),
            },
        }
    }
}

fn own(isa: Isa, language: &'static Language, text: &str, out: &mut Vec<Range<usize>>) {
    let stop = if language.traits.greek { b';' } else { NO_STOP };
    let mut walk = Walk::new(text, Keen::new(text, language), language.traits, out);
    let mut words = [0; WORDS];
    let mut from = 0;
    while from < text.len() {
        let count = scan::find(isa, text.as_bytes(), from, stop, &mut words);
        for (block, &word) in words[..count].iter().enumerate() {
            let mut bits = word;
            while bits != 0 {
                let at = from + block * BLOCK + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                if at >= walk.resume {
                    walk.look(at);
                }
            }
        }
        from += count * BLOCK;
    }
    walk.finish();
}

/// Appends a range without the white space at its ends, if anything else is in it.
pub(crate) fn push_trimmed(text: &str, range: Range<usize>, out: &mut Vec<Range<usize>>) {
    let slice = &text[range.clone()];
    let start = range.start + (slice.len() - slice.trim_start().len());
    let trimmed = slice.trim();
    if !trimmed.is_empty() {
        out.push(start..start + trimmed.len());
    }
}
