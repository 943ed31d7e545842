//! What can be typed after `cloze compare`.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

/// Find out on your own data whether further pre-training helps, and which
///
/// Trains the same model in several ways, for the same number of tokens: masked language model alone (mlm), with next sentence prediction (mlm+nsp), with
/// sentence order prediction (mlm+sop), on whole sentences without pairs (full-sentences), and not at all (none); from your checkpoint, and from scratch. Each
/// is then measured on text that was held out, and fine-tuned on your task with several amounts of labels. The report says first what to do and how sure that is.
///
/// Everything is done by the other verbs, a process each, with its log beside its results. What is done stays: the same command goes on after any stop. So that
/// machines can share the work, --arm makes one arm alone; the folder may lie on a shared disk. The report is of what is there.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  cloze compare corpus/ --init bert-base-uncased/ --task task/ --out comparison --dry-run    what it would cost
  cloze compare corpus/ --init bert-base-uncased/ --task task/ --out comparison --hours 10
  cloze compare data --init bert-base-uncased/ --out comparison                              a prepared dataset; no task: losses alone
  cloze compare corpus/ --init bert-base-uncased/ --task task/ --out comparison --arm checkpoint-mlm+nsp    one arm, on this machine

TASK holds train.jsonl, dev.jsonl and test.jsonl, as `cloze finetune` reads them. RETRIEVAL holds docs.jsonl and queries.jsonl, as `cloze embed --retrieval` does.
Exit status: 0 done, 1 done but for arms that failed, 2 could not run, 130 stopped by Ctrl-C.")]
pub struct CompareArgs {
    /// Text, as `cloze prepare` takes it, or one dataset that `cloze prepare` made
    #[arg(required = true, value_name = "CORPUS_OR_DATASET")]
    pub inputs: Vec<PathBuf>,
    /// The checkpoint: a Hugging Face folder with its tokenizer. Models from scratch have its shape
    #[arg(long, value_name = "HF_DIR")]
    pub init: PathBuf,
    /// Folder of the task that the models are for: train.jsonl, dev.jsonl, test.jsonl
    #[arg(long, value_name = "TASK")]
    pub task: Option<PathBuf>,
    /// Folder of texts and queries that should find them: docs.jsonl, queries.jsonl
    #[arg(long, value_name = "RETRIEVAL")]
    pub retrieval: Option<PathBuf>,
    /// The folder that everything is written to
    #[arg(long, value_name = "REPORT")]
    pub out: PathBuf,
    /// Prepare the data, try some steps, say what the comparison would cost, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Make this arm alone, such as checkpoint-mlm+nsp; may be given several times
    #[arg(long, value_name = "ARM")]
    pub arm: Vec<String>,
    #[command(flatten)]
    pub asked: Asked,
    /// Where training is done: auto, cpu, cuda, or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// How products are computed: f32 or bf16 [default: bf16 on a GPU, f32 on the CPU]
    #[arg(long, value_name = "PRECISION")]
    pub precision: Option<String>,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    pub jobs: Option<usize>,
}

/// What decides the results.
#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize)]
pub struct Asked {
    /// What models are trained for, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["none", "mlm", "mlm+nsp", "mlm+sop", "full-sentences"], help_heading = "The grid")]
    pub objectives: Vec<Objective>,
    /// What they start from, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["checkpoint", "scratch"], help_heading = "The grid")]
    pub starts: Vec<Start>,
    /// Seeds of the main arms: none, mlm and mlm+nsp from the checkpoint
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(1..=100), help_heading = "The grid")]
    pub seeds: u32,
    /// Seeds of the other arms [default: as many]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(1..=100), help_heading = "The grid")]
    pub other_seeds: Option<u32>,
    /// Tokens that each model is trained on [default: those of the corpus, once; with --hours, what time allows]
    #[arg(long, value_name = "TOKENS", conflicts_with = "hours", value_parser = RangedU64ValueParser::<u64>::new().range(1..), help_heading = "The grid")]
    pub tokens: Option<u64>,
    /// Hours that all of it may take on this machine: the number of tokens follows from a trial
    #[arg(long, value_name = "H", help_heading = "The grid")]
    pub hours: Option<f64>,
    /// Most tokens in a row
    #[arg(
        long,
        default_value_t = 128,
        value_name = "TOKENS",
        help_heading = "Pre-training"
    )]
    pub seq_len: u16,
    /// Most tokens in a step
    #[arg(
        long,
        default_value_t = 4_096,
        value_name = "TOKENS",
        help_heading = "Pre-training"
    )]
    pub batch_tokens: usize,
    /// Peak learning rate from the checkpoint
    #[arg(
        long,
        default_value_t = 1e-4,
        value_name = "RATE",
        help_heading = "Pre-training"
    )]
    pub learning_rate: f64,
    /// Peak learning rate from scratch
    #[arg(
        long,
        default_value_t = 5e-4,
        value_name = "RATE",
        help_heading = "Pre-training"
    )]
    pub scratch_learning_rate: f64,
    /// Share of tokens that are predicted
    #[arg(
        long,
        default_value_t = 0.15,
        value_name = "P",
        help_heading = "Pre-training"
    )]
    pub mask_rate: f64,
    /// Share of the documents that are held out to measure losses on
    #[arg(
        long,
        default_value_t = 0.02,
        value_name = "P",
        help_heading = "Pre-training"
    )]
    pub validation_fraction: f64,
    /// Most rows of them that are looked at
    #[arg(
        long,
        default_value_t = 4_000,
        value_name = "ROWS",
        help_heading = "Pre-training"
    )]
    pub eval_rows: u64,
    /// JSONL, CSV, TSV, Parquet: the field or column of the corpus that holds a document's text
    #[arg(
        long,
        default_value = "text",
        value_name = "FIELD",
        help_heading = "Pre-training"
    )]
    pub text_field: String,
    /// Keep documents that share text with the task's dev and test examples; without it they are left out of pre-training
    #[arg(long, help_heading = "Pre-training")]
    pub keep_overlap: bool,
    /// Numbers of labelled examples to learn the task from, separated by commas; all for all of them
    #[arg(long, value_delimiter = ',', default_values = ["100", "1000", "all"], value_name = "N", help_heading = "The task")]
    pub budgets: Vec<Budget>,
    /// Times that each example is learned from; more where that would be under 150 steps, up to 30
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = RangedU64ValueParser::<u64>::new().range(1..=1000), help_heading = "The task")]
    pub epochs: u64,
    /// Rows of a step of fine-tuning
    #[arg(long, default_value_t = 32, value_name = "ROWS", value_parser = RangedU64ValueParser::<u64>::new().range(1..=65_536), help_heading = "The task")]
    pub batch_size: u64,
    /// Peak learning rate of fine-tuning
    #[arg(
        long,
        default_value_t = 5e-5,
        value_name = "RATE",
        help_heading = "The task"
    )]
    pub finetune_learning_rate: f64,
    /// Most tokens of a labelled example
    #[arg(
        long,
        default_value_t = 128,
        value_name = "TOKENS",
        help_heading = "The task"
    )]
    pub max_length: u64,
    /// Most dev examples, to choose models by; 0 for all
    #[arg(
        long,
        default_value_t = 1_000,
        value_name = "ROWS",
        help_heading = "The task"
    )]
    pub dev_rows: usize,
    /// Most test examples, to measure on; 0 for all
    #[arg(
        long,
        default_value_t = 0,
        value_name = "ROWS",
        help_heading = "The task"
    )]
    pub test_rows: usize,
    /// What answers are judged by [default: what `cloze finetune` chooses for the task]
    #[arg(long, value_name = "METRIC", help_heading = "The task")]
    pub metric: Option<String>,
}

/// What a model is trained for before it learns the task.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize,
)]
pub enum Objective {
    /// No training
    #[value(name = "none")]
    #[serde(rename = "none")]
    None,
    /// Masked language model, on pairs of segments
    #[value(name = "mlm")]
    #[serde(rename = "mlm")]
    Mlm,
    /// Masked language model on whole sentences without pairs
    #[value(name = "full-sentences")]
    #[serde(rename = "full-sentences")]
    FullSentences,
    /// Masked language model and next sentence prediction
    #[value(name = "mlm+nsp")]
    #[serde(rename = "mlm+nsp")]
    MlmNsp,
    /// Masked language model and sentence order prediction
    #[value(name = "mlm+sop")]
    #[serde(rename = "mlm+sop")]
    MlmSop,
}

/// What a model starts from.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// The checkpoint
    Checkpoint,
    /// Nothing: parameters are drawn at random
    Scratch,
}

/// How many labelled examples there are to learn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Budget {
    /// So many.
    Some(u64),
    /// All that there are.
    All,
}

impl std::str::FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            _ => match text.parse() {
                Ok(n) if n > 0 => Ok(Self::Some(n)),
                _ => Err("must be a number of examples, or all".into()),
            },
        }
    }
}

impl TryFrom<String> for Budget {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Budget> for String {
    fn from(budget: Budget) -> Self {
        budget.to_string()
    }
}

impl std::fmt::Display for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Some(n) => write!(f, "{n}"),
            Self::All => f.write_str("all"),
        }
    }
}

impl Objective {
    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Mlm => "mlm",
            Self::FullSentences => "full-sentences",
            Self::MlmNsp => "mlm+nsp",
            Self::MlmSop => "mlm+sop",
        }
    }

    /// As people say it.
    pub fn words(self) -> &'static str {
        match self {
            Self::None => "no further pre-training",
            Self::Mlm => "MLM",
            Self::FullSentences => "MLM on full sentences",
            Self::MlmNsp => "MLM + NSP",
            Self::MlmSop => "MLM + SOP",
        }
    }
}

impl Start {
    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint",
            Self::Scratch => "scratch",
        }
    }

    /// As it is said.
    pub fn words(self) -> &'static str {
        match self {
            Self::Checkpoint => "the checkpoint",
            Self::Scratch => "scratch",
        }
    }
}
