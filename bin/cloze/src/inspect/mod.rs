//! `cloze inspect`: looking at a dataset, in text, side by side with another, row by row, or as a page.

mod args;
mod diff;
mod document;
mod hashes;
mod html;
mod sample;
mod scan;
mod source;
mod statistics;
mod summary;
#[cfg(test)]
mod testing;
mod uses;
mod view;

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use cloze_cli::{Status, visible_json};
use cloze_shard::documents::Documents;
use cloze_shard::{Dataset, Split, Vocabulary};
use serde_json::Value;

pub use args::InspectArgs;

/// What was asked for cannot be shown, and what to ask for instead.
#[derive(Debug)]
pub struct Refused {
    what: String,
    hint: String,
}

impl Refused {
    fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            hint: hint.into(),
        }
    }

    pub fn hint(&self) -> String {
        self.hint.clone()
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Refused {}

/// A dataset, with what tells what its rows mean and where they come from.
pub struct Opened {
    pub dataset: Dataset,
    pub documents: Documents,
    pub vocabulary: Vocabulary,
}

impl Opened {
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let dataset = Dataset::open(path)?;
        let documents = dataset.documents()?;
        let vocabulary = dataset.vocabulary()?;
        Ok(Self {
            dataset,
            documents,
            vocabulary,
        })
    }

    /// A split by name.
    pub fn split(&self, name: &str) -> Result<&Split, Refused> {
        self.dataset.split(name).ok_or_else(|| {
            let names: Vec<&str> = self.dataset.splits().map(|(name, _)| name).collect();
            Refused::new(
                format!(
                    "{}: no split {name:?}; it has {}",
                    self.dataset.path().display(),
                    names.join(" and ")
                ),
                "give one of these to --split",
            )
        })
    }

    /// What a token is called.
    pub fn token(&self, id: u32) -> &str {
        self.vocabulary
            .token(id)
            .unwrap_or("<outside the vocabulary>")
    }
}

pub fn run(args: &InspectArgs) -> anyhow::Result<Status> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(args.jobs.unwrap_or(0))
        .build()
        .context("cannot start threads")?;
    pool.install(|| {
        let opened = Opened::open(&args.dataset)?;
        if let Some(other) = &args.diff {
            diff::run(args, &opened, other)
        } else if let Some(id) = &args.doc {
            document::run(args, &opened, id)
        } else if let Some(report) = &args.html {
            html::run(args, &opened, report)
        } else if args.view {
            view::run(args, &opened)
        } else {
            summary::run(args, &opened)
        }
    })?;
    Ok(Status::Done)
}

/// Prints a result for a program.
fn print_json(value: &Value) -> anyhow::Result<()> {
    let text = visible_json(&format!("{value:#}"));
    writeln!(std::io::stdout().lock(), "{text}")?;
    Ok(())
}
