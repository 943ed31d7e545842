//! What preparation can be asked for. One definition an option: its doc comment is its help text.

use cloze_clean::{CleanOptions, Dedup, ParagraphKind};
use cloze_shard::manifest::{Masking, Objective};
use cloze_shard::masking::{MaskUnit, MaskingRule};
use serde::{Deserialize, Serialize};

use crate::input::{Encoding, Format, OnBadInput, TextForm};
use crate::{Error, Result};

/// Everything that decides what comes out. Recorded in the manifest, but for `jobs`, which changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct Config {
    /// What a row is, and what its label says
    #[cfg_attr(feature = "clap", arg(long, default_value = "nsp", value_enum))]
    pub objective: ObjectiveKind,
    /// Most tokens in a row, [CLS] and [SEP] included: 8 to 65,535; no more than the model has positions (512 in BERT)
    #[cfg_attr(
        feature = "clap",
        arg(long, default_value_t = 128, value_name = "TOKENS")
    )]
    pub seq_len: u16,
    /// Keys every random draw: the same seed gives the same bytes
    #[cfg_attr(feature = "clap", arg(long, default_value_t = 0))]
    pub seed: u64,
    /// Threads; any number gives the same bytes [default: all cores]
    #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
    #[serde(skip)]
    pub jobs: Option<usize>,
    /// Times that every document is paired anew, with other cuts and other random partners
    #[cfg_attr(feature = "clap", arg(long, default_value_t = 1, value_name = "N"))]
    pub dupe_factor: u32,
    /// Share of rows whose target length is drawn from 2 up to full, so that short inputs are seen too [default: 0.1; 0 for full-sentences and doc-sentences]
    #[cfg_attr(feature = "clap", arg(long, value_name = "P"))]
    pub short_seq_prob: Option<f64>,
    /// Share of pairs whose B is random text from another document (met by `--pairing cloze`, expected by `bert`)
    #[cfg_attr(feature = "clap", arg(long, default_value_t = 0.5, value_name = "P"))]
    pub random_next_ratio: f64,
    /// How pairs are cut and labelled
    #[cfg_attr(feature = "clap", arg(long, default_value = "cloze", value_enum))]
    pub pairing: Pairing,
    /// Share of documents held out for validation, chosen by what they say: equal texts stay together
    #[cfg_attr(feature = "clap", arg(long, default_value_t = 0.01, value_name = "P"))]
    pub validation_fraction: f64,
    /// When masks are drawn: by the trainer, anew each epoch, or here, once
    #[cfg_attr(feature = "clap", arg(long, default_value = "dynamic", value_enum))]
    pub masking: MaskingKind,
    /// Share of tokens that static masks predict (with `--masking static`; dynamic ones have the trainer's `--mask-rate`)
    #[cfg_attr(feature = "clap", arg(long, default_value_t = 0.15, value_name = "P"))]
    pub mask_rate: f64,
    /// Share of the predicted tokens that static masks replace by [MASK]
    #[cfg_attr(feature = "clap", arg(long, default_value_t = 0.8, value_name = "P"))]
    #[serde(default = "mask_share", skip_serializing_if = "is_mask_share")]
    pub mask_share: f64,
    /// Share of the predicted tokens that static masks replace by a random token; the rest stay as they are
    #[cfg_attr(feature = "clap", arg(long, default_value_t = 0.1, value_name = "P"))]
    #[serde(default = "random_share", skip_serializing_if = "is_random_share")]
    pub random_share: f64,
    /// What static masks choose at a time
    #[cfg_attr(feature = "clap", arg(long, default_value = "token", value_enum))]
    #[serde(default, skip_serializing_if = "MaskUnitKind::is_token")]
    pub mask_unit: MaskUnitKind,
    /// Bins for those who train with padding elsewhere: rows of up to so many tokens are in shards of their own, such as 32,64,96
    #[cfg_attr(
        feature = "clap",
        arg(long, value_name = "TOKENS", value_delimiter = ',')
    )]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bins: Vec<u16>,
    /// Most rows in a shard; shards are balanced to one row
    #[cfg_attr(
        feature = "clap",
        arg(long, default_value_t = 262_144, value_name = "ROWS")
    )]
    pub shard_rows: u64,
    /// What all inputs are, whatever their names say [default: by name; standard input: JSONL where its first line is an object, else text]
    #[cfg_attr(feature = "clap", arg(long, value_enum))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_format: Option<Format>,
    /// How bytes are text: utf-8, latin1, shift_jis, … (labels of the WHATWG standard), or detect, file by file; a byte order mark has the last word
    #[cfg_attr(
        feature = "clap",
        arg(long, default_value = "utf-8", value_name = "LABEL")
    )]
    #[serde(default = "utf8", skip_serializing_if = "is_utf8")]
    pub encoding: String,
    /// JSONL, CSV, TSV, Parquet: the field or column that holds a document's text
    #[cfg_attr(
        feature = "clap",
        arg(long, default_value = "text", value_name = "FIELD")
    )]
    pub text_field: String,
    /// JSONL, CSV, TSV, Parquet: a field that identifies the document; without it, documents are identified by their text
    #[cfg_attr(feature = "clap", arg(long, value_name = "FIELD"))]
    pub id_field: Option<String>,
    /// JSONL, CSV, TSV, Parquet: fields that are kept beside each document, for `inspect` to show, such as url,date
    #[cfg_attr(
        feature = "clap",
        arg(long, value_name = "FIELD", value_delimiter = ',')
    )]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub meta_field: Vec<String>,
    /// What a sentence looks like, and in plain text a document
    #[cfg_attr(feature = "clap", arg(long, default_value = "prose", value_enum))]
    pub text_form: TextForm,
    /// Language whose rules split sentences (ISO 639-1)
    #[cfg_attr(feature = "clap", arg(long, default_value = "en", value_name = "CODE"))]
    pub language: String,
    /// What to do with a line or document that cannot be read
    #[cfg_attr(feature = "clap", arg(long, default_value = "fail", value_enum))]
    pub on_bad_input: OnBadInput,
    // Last: its heading is that of all options after it.
    #[allow(
        missing_docs,
        reason = "a doc comment here would be the help text of the command"
    )]
    #[cfg_attr(feature = "clap", command(flatten))]
    #[serde(default, skip_serializing_if = "CleanOptions::is_off")]
    pub clean: CleanOptions,
}

/// What a row is, and what its label says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum ObjectiveKind {
    /// Next sentence prediction (BERT): A and B; does B follow A, or is it random? Also for the trainer's mlm+sop, which turns pairs around anew each epoch
    Nsp,
    /// Sentence order prediction (ALBERT): A and B follow one another; half of the pairs are turned around, once
    Sop,
    /// No pairs: whole sentences up to the length, on into the next document after a [SEP] (RoBERTa's FULL-SENTENCES)
    FullSentences,
    /// The same, but a row ends where its document does (RoBERTa's DOC-SENTENCES)
    DocSentences,
}

/// How pairs are cut and labelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Pairing {
    /// No text lost, the ratio of random pairs met, no false label
    Cloze,
    /// The rules of BERT's own instance creation, faults included
    Bert,
}

/// When masks are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum MaskingKind {
    /// By the trainer, anew each epoch
    Dynamic,
    /// Once, into the shards
    Static,
}

/// What masks choose at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum MaskUnitKind {
    /// A token
    #[default]
    Token,
    /// A whole word: a token and the ## pieces after it
    Word,
    /// A span of words, 1 to 10, as SpanBERT does
    Span,
}

impl ObjectiveKind {
    /// Whether rows are pairs with a label.
    #[must_use]
    pub fn has_pairs(self) -> bool {
        matches!(self, Self::Nsp | Self::Sop)
    }
}

impl MaskUnitKind {
    fn is_token(&self) -> bool {
        *self == Self::Token
    }
}

impl From<MaskUnitKind> for MaskUnit {
    fn from(kind: MaskUnitKind) -> Self {
        match kind {
            MaskUnitKind::Token => Self::Token,
            MaskUnitKind::Word => Self::Word,
            MaskUnitKind::Span => Self::SPAN,
        }
    }
}

// Manifests say nothing of what is as it was before it could be asked for.

fn mask_share() -> f64 {
    MaskingRule::default().mask_share
}

fn is_mask_share(p: &f64) -> bool {
    *p == mask_share()
}

fn utf8() -> String {
    "utf-8".into()
}

fn is_utf8(label: &String) -> bool {
    *label == utf8()
}

fn random_share() -> f64 {
    MaskingRule::default().random_share
}

fn is_random_share(p: &f64) -> bool {
    *p == random_share()
}

impl Default for Config {
    fn default() -> Self {
        Self {
            objective: ObjectiveKind::Nsp,
            seq_len: 128,
            seed: 0,
            jobs: None,
            dupe_factor: 1,
            short_seq_prob: None,
            random_next_ratio: 0.5,
            pairing: Pairing::Cloze,
            validation_fraction: 0.01,
            masking: MaskingKind::Dynamic,
            mask_rate: 0.15,
            mask_share: mask_share(),
            random_share: random_share(),
            mask_unit: MaskUnitKind::Token,
            bins: Vec::new(),
            shard_rows: 262_144,
            input_format: None,
            encoding: utf8(),
            text_field: "text".into(),
            id_field: None,
            meta_field: Vec::new(),
            text_form: TextForm::Prose,
            language: "en".into(),
            on_bad_input: OnBadInput::Fail,
            clean: CleanOptions::default(),
        }
    }
}

impl Config {
    /// The most threads that can be asked for: more than that is a slip of the finger, and would take minutes to start.
    pub const MOST_JOBS: usize = 1024;

    /// The shortest sequence length that holds two segments worth the name.
    pub const MIN_SEQ_LEN: u16 = 8;

    /// Tokens of text that a row holds at most: `[CLS]` and a `[SEP]` a segment are not text.
    #[must_use]
    pub fn max_tokens(&self) -> usize {
        let frame = if self.objective.has_pairs() { 3 } else { 2 };
        usize::from(self.seq_len) - frame
    }

    /// As it was asked for, or as the objective has it.
    #[must_use]
    pub fn short_seq_prob(&self) -> f64 {
        let usual = if self.objective.has_pairs() { 0.1 } else { 0.0 };
        self.short_seq_prob.unwrap_or(usual)
    }

    /// The configuration with everything decided that was left open, as manifests hold it.
    #[must_use]
    pub fn resolved(&self) -> Self {
        Self {
            short_seq_prob: Some(self.short_seq_prob()),
            ..self.clone()
        }
    }

    /// Most tokens of a row of each bin, ascending; the last is the sequence length.
    #[must_use]
    pub fn bins(&self) -> Vec<u16> {
        let under = self.bins.iter().copied().filter(|&b| b < self.seq_len);
        under.chain([self.seq_len]).collect()
    }

    /// What the manifest says of the masks.
    #[must_use]
    pub fn masking_record(&self) -> Masking {
        match self.masking {
            MaskingKind::Dynamic => Masking::Dynamic,
            MaskingKind::Static => Masking::Static {
                rule: MaskingRule {
                    rate: self.mask_rate,
                    mask_share: self.mask_share,
                    random_share: self.random_share,
                    unit: self.mask_unit.into(),
                },
            },
        }
    }

    /// What the manifest says of the objective.
    #[must_use]
    pub fn objective_record(&self) -> Objective {
        match self.objective {
            ObjectiveKind::Nsp => Objective::Nsp,
            ObjectiveKind::Sop => Objective::Sop,
            ObjectiveKind::FullSentences => Objective::FullSentences,
            ObjectiveKind::DocSentences => Objective::DocSentences,
        }
    }

    /// What was asked for and changes nothing, each a sentence.
    #[must_use]
    pub fn without_effect(&self) -> Vec<String> {
        let (usual, clean) = (Self::default(), &self.clean);
        let mut said = Vec::new();
        let asked_of_masks = |c: &Self| (c.mask_rate, c.mask_share, c.random_share, c.mask_unit);
        if self.masking == MaskingKind::Dynamic && asked_of_masks(self) != asked_of_masks(&usual) {
            said.push(
                "what is asked of masks has no effect: the trainer draws them; give the options to `cloze pretrain`, or \
                 --masking static here"
                    .into(),
            );
        }
        let is_prose = self.text_form == TextForm::Prose;
        let unused = [
            (
                self.objective != ObjectiveKind::Nsp
                    && self.random_next_ratio != usual.random_next_ratio,
                "--random-next-ratio",
                "only --objective nsp has random pairs",
            ),
            (
                clean.dedup != Dedup::Near && clean.dedup_threshold != usual.clean.dedup_threshold,
                "--dedup-threshold",
                "it is for --dedup near",
            ),
            (
                clean.dedup_paragraphs == ParagraphKind::None
                    && clean.dedup_min_words != usual.clean.dedup_min_words,
                "--dedup-min-words",
                "it is for --dedup-paragraphs",
            ),
            (
                clean.exclude.is_empty() && clean.exclude_ngram != usual.clean.exclude_ngram,
                "--exclude-ngram",
                "no evaluation set was given with --exclude",
            ),
            (
                clean.exclude.is_empty() && clean.exclude_field != usual.clean.exclude_field,
                "--exclude-field",
                "no evaluation set was given with --exclude",
            ),
            (
                !is_prose && self.language != usual.language,
                "--language",
                "sentences are not found by rules (--text-form)",
            ),
        ];
        let unused = unused.into_iter().filter(|(unused, ..)| *unused);
        said.extend(unused.map(|(_, option, why)| format!("{option} has no effect: {why}")));
        said
    }

    /// Refuses values out of range, before any work is done.
    pub fn check(&self) -> Result<()> {
        let fail = |option: &'static str, why: String| Err(Error::Config { option, why });
        let share = |option: &'static str, p: f64| {
            if (0.0..=1.0).contains(&p) {
                Ok(())
            } else {
                fail(option, format!("is {p}, must be from 0 to 1"))
            }
        };
        self.clean.check()?;
        if Encoding::of(&self.encoding).is_none() {
            return fail(
                "--encoding",
                format!(
                    "is {:?}, which is no encoding: give a label such as utf-8, latin1, shift_jis, gbk, or detect",
                    self.encoding
                ),
            );
        }
        share("--short-seq-prob", self.short_seq_prob())?;
        if self.pairing == Pairing::Bert && self.objective != ObjectiveKind::Nsp {
            return fail("--pairing", "bert is for --objective nsp".into());
        }
        let low = self.bins.first().is_some_and(|&b| b < Self::MIN_SEQ_LEN);
        let high = self.bins.last().is_some_and(|&b| b > self.seq_len);
        if low || high || self.bins.windows(2).any(|b| b[0] >= b[1]) {
            let (bins, low, high) = (&self.bins, Self::MIN_SEQ_LEN, self.seq_len);
            return fail(
                "--bins",
                format!(
                    "are {bins:?}, must ascend from at least {low} to at most {high} (--seq-len)"
                ),
            );
        }
        share("--random-next-ratio", self.random_next_ratio)?;
        if !(0.0..1.0).contains(&self.validation_fraction) {
            let p = self.validation_fraction;
            return fail(
                "--validation-fraction",
                format!("is {p}, must be at least 0 and under 1"),
            );
        }
        if !(self.mask_rate > 0.0 && self.mask_rate <= 1.0) {
            return fail(
                "--mask-rate",
                format!("is {}, must be over 0 and at most 1", self.mask_rate),
            );
        }
        share("--mask-share", self.mask_share)?;
        share("--random-share", self.random_share)?;
        let both = self.mask_share + self.random_share;
        if both > 1.0 + 1e-9 {
            return fail(
                "--mask-share",
                format!("and --random-share are {both} together, must be at most 1"),
            );
        }
        if self.seq_len < Self::MIN_SEQ_LEN {
            return fail(
                "--seq-len",
                format!(
                    "is {}, must be at least {}",
                    self.seq_len,
                    Self::MIN_SEQ_LEN
                ),
            );
        }
        if self.dupe_factor == 0 {
            return fail("--dupe-factor", "is 0, must be at least 1".into());
        }
        if self.shard_rows == 0 {
            return fail("--shard-rows", "is 0, must be at least 1".into());
        }
        if let Some(jobs) = self.jobs.filter(|j| !(1..=Self::MOST_JOBS).contains(j)) {
            return fail(
                "--jobs",
                format!("is {jobs}, must be 1 to {}", Self::MOST_JOBS),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        assert!(Config::default().check().is_ok());
        type Spoil = fn(&mut Config);
        let cases: [(Spoil, &str); 19] = [
            (|c| c.encoding = "klingon".into(), "--encoding"),
            (|c| c.clean.dedup_threshold = 0.1, "--dedup-threshold"),
            (|c| c.short_seq_prob = Some(1.5), "--short-seq-prob"),
            (|c| c.bins = vec![64, 64], "--bins"),
            (|c| c.bins = vec![7], "--bins"),
            (|c| c.bins = vec![129], "--bins"),
            (
                |c| (c.objective, c.pairing) = (ObjectiveKind::Sop, Pairing::Bert),
                "--pairing",
            ),
            (|c| c.random_next_ratio = -0.1, "--random-next-ratio"),
            (|c| c.random_next_ratio = f64::NAN, "--random-next-ratio"),
            (|c| c.validation_fraction = 1.0, "--validation-fraction"),
            (|c| c.mask_rate = 0.0, "--mask-rate"),
            (|c| c.seq_len = 7, "--seq-len"),
            (|c| c.dupe_factor = 0, "--dupe-factor"),
            (|c| c.shard_rows = 0, "--shard-rows"),
            (|c| c.jobs = Some(0), "--jobs"),
            (|c| c.mask_rate = 1.01, "--mask-rate"),
            (|c| c.mask_share = -0.1, "--mask-share"),
            (|c| c.random_share = f64::NAN, "--random-share"),
            (|c| c.random_share = 0.21, "--mask-share"),
        ];
        for (spoil, option) in cases {
            let mut config = Config::default();
            spoil(&mut config);
            let message = config.check().expect_err(option).to_string();
            assert!(message.starts_with(option), "{message}");
        }
    }

    #[test]
    fn what_changes_nothing_is_told() {
        assert!(Config::default().without_effect().is_empty());
        type Spoil = fn(&mut Config);
        let cases: [(Spoil, Spoil, &str); 7] = [
            (
                |c| c.mask_rate = 0.2,
                |c| c.masking = MaskingKind::Static,
                "what is asked of masks",
            ),
            (
                |c| (c.random_next_ratio, c.objective) = (0.3, ObjectiveKind::Sop),
                |c| c.objective = ObjectiveKind::Nsp,
                "--random-next-ratio",
            ),
            (
                |c| c.clean.dedup_threshold = 0.7,
                |c| c.clean.dedup = Dedup::Near,
                "--dedup-threshold",
            ),
            (
                |c| c.clean.dedup_min_words = 9,
                |c| c.clean.dedup_paragraphs = ParagraphKind::Line,
                "--dedup-min-words",
            ),
            (
                |c| c.clean.exclude_ngram = 8,
                |c| c.clean.exclude = vec!["a.jsonl".into()],
                "--exclude-ngram",
            ),
            (
                |c| c.clean.exclude_field = vec!["question".into()],
                |c| c.clean.exclude = vec!["a.jsonl".into()],
                "--exclude-field",
            ),
            (
                |c| (c.language, c.text_form) = ("de".into(), TextForm::Whole),
                |c| c.text_form = TextForm::Prose,
                "--language",
            ),
        ];
        for (ask, use_it, option) in cases {
            let mut config = Config::default();
            ask(&mut config);
            let said = config.without_effect();
            assert!(said.len() == 1 && said[0].starts_with(option), "{said:?}");
            use_it(&mut config);
            assert!(config.without_effect().is_empty(), "{option}");
        }
    }

    /// A manifest of before these options reads as their defaults, and defaults are written as before.
    #[test]
    fn options_of_masks_are_left_out_where_they_are_defaults() {
        let written = |config: &Config| serde_json::to_value(config).unwrap();
        let plain = written(&Config::default());
        for name in [
            "mask_share",
            "random_share",
            "mask_unit",
            "clean",
            "encoding",
            "input_format",
            "meta_field",
        ] {
            assert!(plain.get(name).is_none(), "{name}");
        }
        assert_eq!(
            serde_json::from_value::<Config>(plain).unwrap(),
            Config::default()
        );
        let other = Config {
            mask_share: 0.7,
            random_share: 0.2,
            mask_unit: MaskUnitKind::Span,
            ..Config::default()
        };
        let text = written(&other);
        assert_eq!(text["mask_unit"], "span");
        assert_eq!(serde_json::from_value::<Config>(text).unwrap(), other);
    }
}
