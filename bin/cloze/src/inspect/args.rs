//! What can be asked of `cloze inspect`. Doc comments are the help texts.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{ArgGroup, Args};
use cloze_prep::MaskUnitKind;
use cloze_shard::masking::MaskingRule;

use crate::inputs::Sources;

/// Show what is in a dataset
///
/// What made it, how much there is, how labels are balanced, how long rows are, and a few rows decoded with their segments,
/// label and origin. --view pages through the rows on the terminal, --html writes a report.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("sources_of_doc").args(["source", "files_from"]).multiple(true).requires("doc"))]
#[command(after_long_help = "\
Examples:
  cloze inspect data
  cloze inspect data --view                      # page, search, jump, see masks; ? shows the keys
  cloze inspect data --doc report-17             # every row that the document went into
  cloze inspect data --doc '#0' --source corpus/ # with its sentences, word for word
  cloze inspect data --diff older-data
  cloze inspect data --html report.html --rows 8")]
pub struct InspectArgs {
    /// The dataset's folder
    pub dataset: PathBuf,
    /// Show every row that a document went into, and which of its sentences are in rows
    ///
    /// ID is what the corpus calls it, or its 16-digit hash, or '#' and its place in the table of documents, from 0. With --source it is known where each segment ends.
    #[arg(long, value_name = "ID", group = "what")]
    pub doc: Option<String>,
    // With --doc: then it is known where each segment ends.
    #[command(flatten)]
    pub sources: Sources,
    /// Compare with another dataset: options, counts, lengths, vocabulary, documents and rows
    ///
    /// Takes 8 bytes of memory a row of both and a document of both, for at most 64 Mi rows at a time; of more, the rows are gone through several times.
    #[arg(long, value_name = "OTHER", group = "what")]
    pub diff: Option<PathBuf>,
    /// Page through the rows on the terminal (? shows the keys)
    #[arg(long, groups = ["what", "shows_masks"], conflicts_with = "json")]
    pub view: bool,
    /// Write a report as one HTML page: labels, lengths, sources, repetition, tokens, rows with their masks, provenance
    ///
    /// Takes 8 bytes of memory a row of the largest split, for at most 64 Mi rows at a time, and 16 a document.
    #[arg(long, value_name = "REPORT", groups = ["what", "shows_masks"], conflicts_with = "json")]
    pub html: Option<PathBuf>,
    /// Rows to show, drawn at random
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub rows: u64,
    /// Draws the rows; with --view and --html, keys the masks, as it does in `cloze pretrain`
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Split to show rows of
    #[arg(long, default_value = "train")]
    pub split: String,
    /// With --view and --html: share of the tokens that masks predict, as in `cloze pretrain`
    #[arg(long, default_value_t = MaskingRule::default().rate, value_name = "P", requires = "shows_masks")]
    pub mask_rate: f64,
    /// With --view and --html: what masks choose at a time, as in `cloze pretrain`
    #[arg(long, default_value = "token", value_enum, requires = "shows_masks")]
    pub mask_unit: MaskUnitKind,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    pub jobs: Option<usize>,
    /// Print one JSON object instead
    #[arg(long)]
    pub json: bool,
}
