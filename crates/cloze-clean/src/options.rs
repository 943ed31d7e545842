//! What cleaning can be asked for. One definition an option: its doc comment is its help text.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::minhash::Bands;
use crate::{Error, Result};

/// Everything that decides which text is kept and what it looks like. Nothing is on by default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[cfg_attr(feature = "clap", command(next_help_heading = "Cleaning"))]
pub struct CleanOptions {
    /// Bring characters into a Unicode form
    #[cfg_attr(feature = "clap", arg(long, default_value = "keep", value_enum))]
    pub unicode: UnicodeForm,
    /// Make runs of white space one space or line end, keep one blank line of many, and remove zero-width spaces and soft hyphens
    #[cfg_attr(feature = "clap", arg(long))]
    pub tidy_space: bool,
    /// Remove control characters
    #[cfg_attr(feature = "clap", arg(long))]
    pub strip_control: bool,
    /// Drop documents of fewer words (words: what stands between white space)
    #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
    pub min_words: Option<u64>,
    /// Drop documents of more words
    #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
    pub max_words: Option<u64>,
    /// Drop documents of fewer characters
    #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
    pub min_chars: Option<u64>,
    /// Drop documents of more characters
    #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
    pub max_chars: Option<u64>,
    /// Drop documents with more # or more ellipses for each word
    #[cfg_attr(feature = "clap", arg(long, value_name = "RATIO"))]
    pub max_symbol_ratio: Option<f64>,
    /// Drop documents in which a smaller share of the words has a letter
    #[cfg_attr(feature = "clap", arg(long, value_name = "P"))]
    pub min_alpha_words: Option<f64>,
    /// Drop documents in which a larger share of the lines stood before in the document
    #[cfg_attr(feature = "clap", arg(long, value_name = "P"))]
    pub max_repeated_lines: Option<f64>,
    /// Apply all rules of Gopher (Rae et al. 2021, table A1 and before) with its thresholds, which the options above replace
    #[cfg_attr(feature = "clap", arg(long))]
    pub gopher: bool,
    /// Drop documents that stood before: with the same text, or with nearly the same
    #[cfg_attr(feature = "clap", arg(long, default_value = "none", value_enum))]
    pub dedup: Dedup,
    /// Similarity (Jaccard, of runs of 5 words) from which documents are near duplicates: 0.3 to 0.99
    #[cfg_attr(feature = "clap", arg(long, default_value_t = 0.8, value_name = "J"))]
    pub dedup_threshold: f64,
    /// Drop paragraphs that stood before, in any document
    #[cfg_attr(feature = "clap", arg(long, default_value = "none", value_enum))]
    pub dedup_paragraphs: ParagraphKind,
    /// Paragraphs of fewer words stay, however often they occur
    #[cfg_attr(feature = "clap", arg(long, default_value_t = 5, value_name = "N"))]
    pub dedup_min_words: u64,
    /// Drop documents that share text with an evaluation set (JSONL; repeatable)
    #[cfg_attr(feature = "clap", arg(long, value_name = "FILE"))]
    pub exclude: Vec<PathBuf>,
    /// The fields of the evaluation sets that hold text (repeatable)
    #[cfg_attr(
        feature = "clap",
        arg(long, value_name = "FIELD", default_value = "text")
    )]
    pub exclude_field: Vec<String>,
    /// Words in a row that must be the same; shorter texts of an evaluation set must occur whole, and those of less than 5 words must be all of a document
    #[cfg_attr(feature = "clap", arg(long, default_value_t = 13, value_name = "N"))]
    pub exclude_ngram: usize,
    /// blake3 of each file in `exclude`, as it was read.
    #[cfg_attr(feature = "clap", arg(skip))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude_blake3: Vec<String>,
}

/// A form of Unicode text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum UnicodeForm {
    /// As it is
    #[default]
    Keep,
    /// Letters and their accents composed
    Nfc,
    /// Also ligatures, full-width letters and the like as plain ones
    Nfkc,
}

/// Which documents are duplicates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Dedup {
    /// None
    #[default]
    None,
    /// Those of equal text, white space aside
    Exact,
    /// Also those of similar text, by MinHash
    Near,
}

/// What a paragraph is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum ParagraphKind {
    /// Nothing: paragraphs are left alone
    #[default]
    None,
    /// What stands between blank lines
    BlankLine,
    /// A line; no sentence goes on in the next
    Line,
}

impl Default for CleanOptions {
    fn default() -> Self {
        Self {
            unicode: UnicodeForm::Keep,
            tidy_space: false,
            strip_control: false,
            min_words: None,
            max_words: None,
            min_chars: None,
            max_chars: None,
            max_symbol_ratio: None,
            min_alpha_words: None,
            max_repeated_lines: None,
            gopher: false,
            dedup: Dedup::None,
            dedup_threshold: 0.8,
            dedup_paragraphs: ParagraphKind::None,
            dedup_min_words: 5,
            exclude: Vec::new(),
            exclude_field: vec!["text".into()],
            exclude_ngram: 13,
            exclude_blake3: Vec::new(),
        }
    }
}

impl CleanOptions {
    /// Whether all documents stay, as they are.
    #[must_use]
    pub fn is_off(&self) -> bool {
        // What only says how, not that, and so changes nothing by itself.
        let how = Self {
            dedup_threshold: self.dedup_threshold,
            dedup_min_words: self.dedup_min_words,
            exclude_field: self.exclude_field.clone(),
            exclude_ngram: self.exclude_ngram,
            ..Self::default()
        };
        *self == how
    }

    /// Whether documents or paragraphs that stood before are to go.
    #[must_use]
    pub fn finds_duplicates(&self) -> bool {
        self.dedup != Dedup::None || self.dedup_paragraphs != ParagraphKind::None
    }

    /// Keys that deduplication of documents makes of one that has words.
    #[must_use]
    pub fn keys(&self) -> usize {
        match self.dedup {
            Dedup::None => 0,
            Dedup::Exact => 1,
            Dedup::Near => 1 + Bands::of(self.dedup_threshold).bands,
        }
    }

    /// Whether a document may be dropped for what it is by itself: then nobody knows beforehand how many stay to be tokenized.
    #[must_use]
    pub fn filters(&self) -> bool {
        let none = Self {
            unicode: self.unicode,
            tidy_space: self.tidy_space,
            strip_control: self.strip_control,
            dedup: self.dedup,
            dedup_threshold: self.dedup_threshold,
            dedup_paragraphs: self.dedup_paragraphs,
            dedup_min_words: self.dedup_min_words,
            exclude_field: self.exclude_field.clone(),
            exclude_ngram: self.exclude_ngram,
            ..Self::default()
        };
        *self != none
    }

    /// Refuses values out of range, before any work is done.
    pub fn check(&self) -> Result<()> {
        let fail = |option: &'static str, why: String| Err(Error::Option { option, why });
        for (option, p) in [
            ("--min-alpha-words", self.min_alpha_words),
            ("--max-repeated-lines", self.max_repeated_lines),
        ] {
            if let Some(p) = p.filter(|p| !(0.0..=1.0).contains(p)) {
                return fail(option, format!("is {p}, must be from 0 to 1"));
            }
        }
        if let Some(p) = self
            .max_symbol_ratio
            .filter(|p| !(0.0..=f64::MAX).contains(p))
        {
            return fail("--max-symbol-ratio", format!("is {p}, must be at least 0"));
        }
        for (options, least, most) in [
            (
                ["--min-words", "--max-words"],
                self.min_words,
                self.max_words,
            ),
            (
                ["--min-chars", "--max-chars"],
                self.min_chars,
                self.max_chars,
            ),
        ] {
            if let (Some(least), Some(most)) = (least, most)
                && least > most
            {
                let why = format!("is {least}, more than {} {most}", options[1]);
                return fail(options[0], why);
            }
        }
        let t = self.dedup_threshold;
        if !(0.3..=0.99).contains(&t) {
            return fail("--dedup-threshold", format!("is {t}, must be 0.3 to 0.99"));
        }
        let n = self.exclude_ngram;
        if !(2..=1000).contains(&n) {
            return fail("--exclude-ngram", format!("is {n}, must be 2 to 1000"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        assert!(CleanOptions::default().check().is_ok());
        type Spoil = fn(&mut CleanOptions);
        let cases: [(Spoil, &str); 8] = [
            (|o| o.min_alpha_words = Some(1.1), "--min-alpha-words"),
            (
                |o| o.max_repeated_lines = Some(f64::NAN),
                "--max-repeated-lines",
            ),
            (|o| o.max_symbol_ratio = Some(-0.1), "--max-symbol-ratio"),
            (
                |o| (o.min_words, o.max_words) = (Some(3), Some(2)),
                "--min-words",
            ),
            (
                |o| (o.min_chars, o.max_chars) = (Some(3), Some(2)),
                "--min-chars",
            ),
            (|o| o.dedup_threshold = 0.2, "--dedup-threshold"),
            (|o| o.dedup_threshold = f64::NAN, "--dedup-threshold"),
            (|o| o.exclude_ngram = 1, "--exclude-ngram"),
        ];
        for (spoil, option) in cases {
            let mut options = CleanOptions::default();
            spoil(&mut options);
            let message = options.check().expect_err(option).to_string();
            assert!(message.starts_with(option), "{message}");
        }
    }

    #[test]
    fn what_says_how_turns_nothing_on() {
        let mut options = CleanOptions {
            dedup_threshold: 0.7,
            exclude_ngram: 8,
            ..CleanOptions::default()
        };
        assert!(options.is_off());
        options.tidy_space = true;
        assert!(!options.is_off());
    }
}
