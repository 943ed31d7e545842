//! `cloze vocab train`

use std::io::Write;

use anyhow::{Context, bail};
use cloze_cli::progress::{Unit, Work};
use cloze_cli::{Status, format};
use cloze_prep::input::{InputOptions, InputPlan, SourceReader};
use cloze_prep::{Config, Progress, Stage};
use cloze_text::Settings;
use cloze_text::vocabulary::{Trainer, Training};

use crate::cli::VocabTrainArgs;

/// A bar of bytes read.
pub struct Bar(pub Work);

impl Progress for Bar {
    fn begin(&self, _: Stage, _: u64) {}
    fn advance(&self, amount: u64) {
        self.0.advance(amount);
    }
    fn count(&self, documents: u64, tokens: u64) {
        self.0.count(documents, tokens);
    }
    fn end(&self) {}
}

pub fn train(args: &VocabTrainArgs) -> anyhow::Result<Status> {
    if args.out.exists() {
        bail!(
            "{}: exists already; give a folder that does not",
            args.out.display()
        );
    }
    // Known before the corpus is read.
    cloze_shard::place::writable(&args.out)?;
    let config = Config {
        input_format: args.input_format,
        encoding: args.encoding.clone(),
        text_field: args.text_field.clone(),
        on_bad_input: args.on_bad_input,
        ..Config::default()
    };
    config.check()?;
    let plan = InputPlan::resolve(&args.inputs.all()?, &InputOptions::of(&config))?;
    let settings = Settings {
        lowercase: !args.cased,
        ..Settings::default()
    };
    let training = Training {
        vocab_size: args.vocab_size,
        min_frequency: args.min_frequency,
        settings,
    };
    let mut trainer = Trainer::new(training);
    let bar = Bar(Work::begin("count", Unit::Bytes, plan.bytes()));
    let mut told = false;
    for (number, source) in plan.sources.iter().enumerate() {
        let mut reader = SourceReader::open(source, number as u32, &plan.options, &bar);
        while let Some(document) = reader.next_document()? {
            trainer.add(&document.text)?;
            bar.count(1, 0);
        }
        if let Some(misread) = reader.misread().filter(|_| !told) {
            told = true;
            writeln!(
                std::io::stderr(),
                "warning: {misread} (only the first is named)"
            )?;
        }
        for (reason, first) in reader.first_skipped() {
            writeln!(
                std::io::stderr(),
                "warning: passed over: {reason}; first {first}"
            )?;
        }
    }
    bar.0.end();
    let tokenizer = trainer.train()?;
    // A folder appears with all its files, or not at all.
    let parent = args
        .out
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(std::path::Path::new("."));
    std::fs::create_dir_all(parent).with_context(|| format!("{}", parent.display()))?;
    let folder = tempfile::tempdir_in(parent).with_context(|| format!("{}", parent.display()))?;
    tokenizer.write(folder.path())?;
    set_readable(folder.path())?;
    std::fs::rename(folder.keep(), &args.out).with_context(|| format!("{}", args.out.display()))?;
    let size = format::count(tokenizer.vocab_size() as u64);
    writeln!(std::io::stdout(), "{}: {size} entries", args.out.display())?;
    Ok(Status::Done)
}

/// Temporary folders are private to their owner; this one is to be shared.
fn set_readable(folder: &std::path::Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}
