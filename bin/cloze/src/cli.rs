//! What can be typed. Doc comments are the help texts.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand};
use cloze_prep::input::OnBadInput;

/// Prepare corpora for BERT pre-training, look at them, and train from them
///
/// Raw text becomes a dataset of sentence-paired, tokenized rows (prepare), which can be looked at
/// (inspect) and checked (verify), and which a BERT is trained from (pretrain) and measured on (eval), and that BERT learns a task (finetune).
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, args_override_self = true, allow_negative_numbers = true, after_long_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

const EXAMPLES: &str = "\
A whole road:
  cloze prepare corpus/ --tokenizer bert-base-uncased/ --out data
  cloze inspect data
  cloze pretrain data --init bert-base-uncased/ --out run --steps 10000
  cloze eval data --model run/model
  cloze finetune --model run/model --train train.jsonl --dev dev.jsonl --out task

Exit status: 0 done, 1 a check found problems, 2 could not run.";

#[derive(Debug, Subcommand)]
pub enum Verb {
    Prepare(Box<PrepareArgs>),
    Inspect(InspectArgs),
    Verify(VerifyArgs),
    /// Make a vocabulary
    Vocab {
        #[command(subcommand)]
        verb: VocabVerb,
    },
    /// Train a BERT from a dataset (`cloze pretrain --help` shows the trainer's options)
    #[command(disable_help_flag = true)]
    Pretrain {
        /// Handed to `cloze-train pretrain`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Measure a model on a dataset (`cloze eval --help` shows the trainer's options)
    #[command(disable_help_flag = true)]
    Eval {
        /// Handed to `cloze-train eval`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Train a BERT for a task, from labelled examples (`cloze finetune --help` shows the trainer's options)
    #[command(disable_help_flag = true)]
    Finetune {
        /// Handed to `cloze-train finetune`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// Turn raw text into a dataset
///
/// INPUT is a folder (every .txt, .text, .md, .jsonl and .ndjson below it, also .gz and .zst), a pattern such as
/// 'logs/**/*.jsonl.zst', or a file. In plain text a form feed or the end of the file ends a document; in JSONL every line
/// is one. The same inputs, options and seed give the same bytes, with any number of threads.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  cloze prepare corpus/ --tokenizer bert-base-uncased/ --out data
  cloze prepare 'dump/*.jsonl.zst' --text-field body --id-field id --tokenizer vocab.txt --seq-len 512 --out data
  cloze prepare 'web/*.jsonl.gz' --tidy-space --gopher --dedup near --dedup-paragraphs line --exclude task/test.jsonl \\
      --report cleaning.json --tokenizer bert-base-uncased/ --out data
  cloze prepare sentences.txt --text-form sentence-per-line --pairing bert --dupe-factor 10 --masking static \\
      --tokenizer bert-base-uncased/ --out data")]
pub struct PrepareArgs {
    /// Folders, patterns or files
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    /// A Hugging Face tokenizer folder, a tokenizer.json or a vocab.txt
    #[arg(long, value_name = "DIR_OR_FILE")]
    pub tokenizer: PathBuf,
    /// The dataset's folder; must not exist yet, or be empty
    #[arg(long, value_name = "DATASET")]
    pub out: PathBuf,
    /// Write what was dropped and why to this file (JSON), with examples
    #[arg(long, value_name = "FILE", help_heading = "Cleaning")]
    pub report: Option<PathBuf>,
    #[command(flatten)]
    pub config: cloze_prep::Config,
}

/// Show what is in a dataset
///
/// What made it, how much there is, how labels are balanced, how long rows are, and a few rows decoded with their segments,
/// label and origin.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The dataset's folder
    pub dataset: PathBuf,
    /// Rows to show, drawn at random
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub rows: u64,
    /// Draws the rows
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Split to show rows of
    #[arg(long, default_value = "train")]
    pub split: String,
    /// Print one JSON object instead
    #[arg(long)]
    pub json: bool,
}

/// Check a dataset
///
/// Sizes, digests, the rules of every row, and whether labels agree with where segments come from. With --source also,
/// whether the segments are where the rows say, word for word. Exit status 0: clean, 1: problems found, 2: could not run.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  cloze verify data
  cloze verify data --source corpus/")]
pub struct VerifyArgs {
    /// The dataset's folder
    pub dataset: PathBuf,
    /// The inputs that the dataset was prepared from
    #[arg(long, value_name = "INPUT", num_args = 1..)]
    pub source: Vec<PathBuf>,
    /// With --source: the evaluation sets that the preparation excluded, in its order [default: where they were]
    #[arg(long, value_name = "FILE", requires = "source")]
    pub exclude: Vec<PathBuf>,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    pub jobs: Option<usize>,
    /// Print one JSON object instead
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum VocabVerb {
    Train(VocabTrainArgs),
}

/// Train a WordPiece vocabulary from text
///
/// Writes a Hugging Face tokenizer folder: tokenizer.json, vocab.txt, tokenizer_config.json. The same text gives the same
/// vocabulary.
#[derive(Debug, Args)]
pub struct VocabTrainArgs {
    /// Folders, patterns or files, as for `cloze prepare`
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    /// The tokenizer's folder; must not exist yet
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Entries, special tokens included
    #[arg(long, default_value_t = 30_522, value_name = "N")]
    pub vocab_size: usize,
    /// Pieces that occur less often are left out
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub min_frequency: u64,
    /// Keep upper case and accents
    #[arg(long)]
    pub cased: bool,
    /// JSONL: the field that holds a document's text
    #[arg(long, default_value = "text", value_name = "FIELD")]
    pub text_field: String,
    /// What to do with a line or document that cannot be read
    #[arg(long, default_value = "fail", value_enum)]
    pub on_bad_input: OnBadInput,
}
