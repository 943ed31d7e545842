//! How inputs are named: one definition for every verb that reads text. Doc comments are the help texts.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use cloze_prep::input::{InputError, listed};

/// A list of inputs.
#[derive(Debug, Args)]
pub struct List {
    /// Read the inputs' names from this file too, a line each, or as `find -print0` writes them; - for standard input. May be given several times
    #[arg(long, value_name = "FILE")]
    pub files_from: Vec<PathBuf>,
}

impl List {
    /// The inputs that were given, and those of the list.
    pub fn and(&self, given: &[PathBuf]) -> Result<Vec<PathBuf>, InputError> {
        let mut all = given.to_vec();
        for list in &self.files_from {
            all.extend(listed(list)?);
        }
        let is_stdin = |path: &&PathBuf| path.as_os_str() == "-";
        let lists = self.files_from.iter().filter(is_stdin).count();
        if lists > 0 && lists + all.iter().filter(is_stdin).count() > 1 {
            return Err(InputError::NoText {
                why: "standard input is read once: it is a text, or one list of inputs".into(),
            });
        }
        Ok(all)
    }
}

/// Inputs to read.
#[derive(Debug, Args)]
pub struct Inputs {
    /// Folders, patterns, files or addresses; - for standard input
    #[arg(required_unless_present = "files_from", value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    #[command(flatten)]
    list: List,
}

impl Inputs {
    /// All of them.
    pub fn all(&self) -> Result<Vec<PathBuf>, InputError> {
        self.list.and(&self.inputs)
    }
}

/// The inputs that a dataset was prepared from.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("sources").args(["source", "files_from"]).multiple(true))]
pub struct Sources {
    /// The inputs that the dataset was prepared from, as `cloze prepare` takes them
    #[arg(long, value_name = "INPUT", num_args = 1..)]
    source: Vec<PathBuf>,
    #[command(flatten)]
    list: List,
}

impl Sources {
    /// All of them; none where none were asked for.
    pub fn all(&self) -> Result<Vec<PathBuf>, InputError> {
        self.list.and(&self.source)
    }
}
