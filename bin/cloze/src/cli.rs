//! What can be typed. Doc comments are the help texts.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use cloze_prep::input::{Format, OnBadInput};

use crate::compare::CompareArgs;
use crate::inputs::{Inputs, List, Sources};
use crate::inspect::InspectArgs;

/// Prepare corpora for BERT pre-training, look at them, and train from them
///
/// Raw text becomes a dataset of sentence-paired, tokenized rows (prepare), which can be looked at
/// (inspect), checked (verify) and brought into other formats (convert), and which a BERT is trained from (pretrain) and measured on (eval), and that BERT learns a task (finetune) or turns texts into vectors (embed).
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
  cloze embed texts.jsonl --model run/model --out vectors.npy
And whether it is worth it:
  cloze compare corpus/ --init bert-base-uncased/ --task task/ --out comparison

Exit status: 0 done, 1 a check found problems, 2 could not run.";

#[derive(Debug, Subcommand)]
pub enum Verb {
    Prepare(Box<PrepareArgs>),
    Inspect(InspectArgs),
    Verify(VerifyArgs),
    Convert(ConvertArgs),
    Compare(Box<CompareArgs>),
    /// Make a vocabulary, or add your words to that of a model
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
    /// Turn texts into vectors (`cloze embed --help` shows the trainer's options)
    #[command(disable_help_flag = true)]
    Embed {
        /// Handed to `cloze-train embed`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// Turn raw text into a dataset
///
/// INPUT is a folder (every .txt, .md, .jsonl, .ndjson, .csv, .tsv, .html and .parquet below it; all but the last also with .gz, .zst, .xz or .bz2 after
/// it), a pattern such as 'logs/**/*.jsonl.zst', a file, - for standard input, or the address of an object elsewhere (below). In plain text a form feed or the end of the file ends a document; a line of
/// JSONL, a row of a table and a page are one each. The same inputs, options and seed give the same bytes, with any number of threads.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  cloze prepare corpus/ --tokenizer bert-base-uncased/ --out data
  cloze prepare 'dump/*.jsonl.zst' --text-field body --id-field id --tokenizer vocab.txt --seq-len 512 --out data
  cloze prepare 'web/*.jsonl.gz' --tidy-space --gopher --dedup near --dedup-paragraphs line --exclude task/test.jsonl \\
      --report cleaning.json --tokenizer bert-base-uncased/ --out data
  cloze prepare notes.csv papers.parquet --text-field body --tokenizer vocab.txt --out data
  zcat dump.tsv.gz | cloze prepare - --input-format tsv --text-field body --tokenizer vocab.txt --out data
  cloze prepare sentences.txt --text-form sentence-per-line --pairing bert --dupe-factor 10 --masking static \\
      --tokenizer bert-base-uncased/ --out data
  cloze prepare 's3://corpora/web/*.jsonl.zst' https://example.org/notes.txt --tokenizer vocab.txt --out data

Objects elsewhere, where cloze was built with `cargo build --release -p cloze --features remote`:
  s3://BUCKET/KEY, gs://BUCKET/KEY        an object; with a / at the end, all below it as in a folder; or a pattern
  http://HOST/PATH, https://HOST/PATH     an object; user, password and query are used, and shown and kept nowhere
  They are read as they arrive, a few parts of 8 MiB ahead. Only Parquet is copied first, to an unnamed file where TMPDIR says. A connection that breaks is
  gone on with where the server names its objects by an ETag; what cannot be read to its end is an error, and never skipped.
  S3:      AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION; AWS_SKIP_SIGNATURE=true for public buckets;
           AWS_ENDPOINT for other stores that speak S3, with AWS_ALLOW_HTTP=true where it is http://; on AWS's own machines their roles
  Google:  GOOGLE_SERVICE_ACCOUNT or GOOGLE_APPLICATION_CREDENTIALS (files); GOOGLE_SKIP_SIGNATURE=true for public buckets
  All:     HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE")]
pub struct PrepareArgs {
    #[command(flatten)]
    pub inputs: Inputs,
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
    pub work: cloze_prep::Work,
    #[command(flatten)]
    pub config: cloze_prep::Config,
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
    #[command(flatten)]
    pub sources: Sources,
    /// With --source: the evaluation sets that the preparation excluded, in its order [default: where they were]
    #[arg(long, value_name = "FILE", requires = "sources")]
    pub exclude: Vec<PathBuf>,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    pub jobs: Option<usize>,
    /// With --source: memory that is kept to, as for `cloze prepare`; with less, the rows are gone through more often
    #[arg(long, value_name = "SIZE", value_parser = cloze_prep::parse_memory, requires = "sources")]
    pub memory: Option<u64>,
    /// Print one JSON object instead
    #[arg(long)]
    pub json: bool,
}

/// Bring a dataset into another format
///
/// To Parquet and back: nothing is lost, and the Arrow files that come back are the same, byte for byte. For transformers:
/// Parquet files with the columns that BertForPreTraining takes. And, with --from, what LDDL or BERT's own script prepared
/// becomes a dataset.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  cloze convert data data-parquet --to parquet
  cloze convert data-parquet data --to arrow
  cloze convert data data-hf --to transformers --pad
  cloze convert --from lddl balanced/ data --tokenizer bert-base-uncased/
  cloze convert --from tfrecord examples.tfrecord more.tfrecord.gz data --tokenizer vocab.txt

With `--to transformers` and static masks, `--pad` makes rows that transformers' default collator takes;
without it, rows are as long as they are, and DataCollatorForTokenClassification fills batches up. Without static masks,
DataCollatorForLanguageModeling fills up and masks.")]
pub struct ConvertArgs {
    /// The dataset's folder; with --from, folders or files
    #[arg(required = true, num_args = 1.., value_name = "DATASET")]
    pub inputs: Vec<PathBuf>,
    /// The folder to make; must not exist yet, or be empty
    #[arg(required = true)]
    pub out: PathBuf,
    /// What the files shall be
    #[arg(
        long,
        value_enum,
        required_unless_present = "from",
        conflicts_with = "from"
    )]
    pub to: Option<To>,
    /// With --to transformers: fill every row up to the longest length that the dataset allows
    #[arg(long, conflicts_with = "from")]
    pub pad: bool,
    /// Read what another program prepared, and make a dataset of it
    #[arg(long, value_enum, requires = "tokenizer")]
    pub from: Option<From>,
    #[command(flatten)]
    pub import: ImportArgs,
    /// Threads; any number gives the same bytes [default: all cores]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    pub jobs: Option<usize>,
}

/// What is asked of an import.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// With --from: the tokenizer that the rows were made with; a Hugging Face folder, a tokenizer.json or a vocab.txt
    #[arg(long, value_name = "DIR_OR_FILE", requires = "from")]
    pub tokenizer: Option<PathBuf>,
    /// With --from: rows for the validation split
    #[arg(long, value_name = "INPUT", requires = "from", action = clap::ArgAction::Append)]
    pub validation: Vec<PathBuf>,
    /// With --from: most rows in a shard
    #[arg(long, default_value_t = 262_144, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..))]
    pub shard_rows: u64,
    /// With --from: what to do with a row that breaks a rule of the format
    #[arg(long, default_value = "fail", value_enum)]
    pub on_bad_row: OnBadRow,
}

/// What files of a dataset can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum To {
    /// Arrow files, which Cloze trains from
    Arrow,
    /// Parquet files, from which the Arrow files can be made again
    Parquet,
    /// Parquet files of the columns that transformers' BertForPreTraining takes
    Transformers,
}

/// What other programs prepare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum From {
    /// Parquet files of NVIDIA's LDDL, balanced or not, binned or not, with static masks or without
    Lddl,
    /// TFRecord files of BERT's create_pretraining_data.py, plain or gzip
    Tfrecord,
}

/// What to do with a row that breaks a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnBadRow {
    /// Stop, and say which
    Fail,
    /// Pass over it, and count it
    Skip,
}

#[derive(Debug, Subcommand)]
pub enum VocabVerb {
    Train(VocabTrainArgs),
    Extend(VocabExtendArgs),
}

/// Train a WordPiece vocabulary from text
///
/// Writes a Hugging Face tokenizer folder: tokenizer.json, vocab.txt, tokenizer_config.json. The same text gives the same
/// vocabulary.
#[derive(Debug, Args)]
pub struct VocabTrainArgs {
    #[command(flatten)]
    pub inputs: Inputs,
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
    /// What all inputs are, whatever their names say [default: by name; standard input: JSONL where its first line is an object, else text]
    #[arg(long, value_enum)]
    pub input_format: Option<Format>,
    /// How bytes are text: utf-8, latin1, shift_jis, …, or detect, file by file
    #[arg(long, default_value = "utf-8", value_name = "LABEL")]
    pub encoding: String,
    /// JSONL, CSV, TSV, Parquet: the field or column that holds a document's text
    #[arg(long, default_value = "text", value_name = "FIELD")]
    pub text_field: String,
    /// What to do with a line or document that cannot be read
    #[arg(long, default_value = "fail", value_enum)]
    pub on_bad_input: OnBadInput,
}

/// Add the words of your field to the vocabulary of a model
///
/// Counts the words of a corpus, finds those that the vocabulary cuts into many pieces ("kubernetes" into "ku ##ber ##net ##es"), and writes the model with
/// entries for them: tokenizer, embeddings, output biases and config.json in one step. Texts become fewer tokens, so rows hold more, and a word is learned as
/// one thing. Pre-train the new model further, or the new words stay means of their pieces: both `cloze` and transformers load it.
///
/// Which words: always the one that saves most tokens, occurrences × (pieces − 1), with those chosen before; an [UNK] counts as one token. Words are cut from
/// text as the tokenizer does (lower case where it has that); words of digits alone are left alone. Whole words only: no ## pieces are added, so the new
/// words also begin longer ones. How many other words are cut otherwise by that is reported.
///
/// New entries come last, and ids of old tokens never change. A new word's embedding and output bias are the means of those of its pieces by the old
/// tokenizer; all other numbers stay as they are, to the bit. Rows that a padded model has for no token are taken first. Memory grows with the number of
/// different words, not with the corpus.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  cloze vocab extend corpus/ --model bert-base-uncased/ --dry-run --words 200         what would be added, and what it saves
  cloze vocab extend corpus/ --model bert-base-uncased/ --words 2000 --out my-bert
  cloze vocab extend --list genes.txt --model bert-base-uncased/ --out my-bert       words of your own; with a corpus also what they save
and then
  cloze prepare corpus/ --tokenizer my-bert --out data
  cloze pretrain data --init my-bert --out run")]
pub struct VocabExtendArgs {
    /// Folders, patterns, files or addresses, as for `cloze prepare`
    #[arg(required_unless_present_any = ["list", "files_from"], value_name = "CORPUS")]
    pub inputs: Vec<PathBuf>,
    #[command(flatten)]
    pub inputs_from: List,
    /// Hugging Face folder of a BERT with its tokenizer
    #[arg(long, value_name = "HF_DIR")]
    pub model: PathBuf,
    /// The folder of the new model; must not exist yet
    #[arg(long, value_name = "HF_DIR", required_unless_present = "dry_run")]
    pub out: Option<PathBuf>,
    /// Most words to add
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    pub words: usize,
    /// Words that occur less often are left out: they would not be learned
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub min_count: u64,
    /// Words of more pieces are left out, such as keys and sequences [default: no limit]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(2..))]
    pub max_pieces: Option<usize>,
    /// Add the words of this file, a line each, and no others
    #[arg(long, value_name = "FILE", conflicts_with_all = ["words", "min_count", "max_pieces"])]
    pub list: Option<PathBuf>,
    /// Show all words that would be added and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Length of the rows that are reported
    #[arg(long, default_value_t = 128, value_name = "TOKENS", value_parser = clap::value_parser!(u16).range(8..))]
    pub seq_len: u16,
    /// What all inputs are, whatever their names say [default: by name; standard input: JSONL where its first line is an object, else text]
    #[arg(long, value_enum)]
    pub input_format: Option<Format>,
    /// How bytes are text: utf-8, latin1, shift_jis, …, or detect, file by file
    #[arg(long, default_value = "utf-8", value_name = "LABEL")]
    pub encoding: String,
    /// JSONL, CSV, TSV, Parquet: the field or column that holds a document's text
    #[arg(long, default_value = "text", value_name = "FIELD")]
    pub text_field: String,
    /// What to do with a line or document that cannot be read
    #[arg(long, default_value = "fail", value_enum)]
    pub on_bad_input: OnBadInput,
    /// Threads; any number gives the same bytes [default: all cores]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    pub jobs: Option<usize>,
}
