//! The `cloze-train` executable: trains from prepared datasets and measures what was trained.

mod allocator;
mod cli;
mod eval;
mod pretrain;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Verb};

fn main() -> ExitCode {
    allocator::keep_memory();
    let verb = Cli::parse().verb;
    cloze_cli::run(
        || match verb {
            Verb::Pretrain(args) => pretrain::run(&args),
            Verb::Eval(args) => eval::run(&args),
        },
        hint,
    )
}

/// What the libraries say a person can do.
fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|e| {
        None.or_else(|| {
            e.downcast_ref::<cloze_train::Error>()
                .and_then(cloze_train::Error::hint)
        })
        .or_else(|| {
            e.downcast_ref::<cloze_shard::Error>()
                .and_then(cloze_shard::Error::hint)
        })
    })
}

/// Starts as many threads as asked for.
fn start_threads(jobs: Option<usize>) -> anyhow::Result<()> {
    if jobs == Some(0) {
        anyhow::bail!("--jobs is 0, must be at least 1");
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(jobs.unwrap_or(0))
        .build_global()?;
    Ok(())
}
