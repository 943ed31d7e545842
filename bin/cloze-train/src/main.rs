//! The `cloze-train` executable: trains from prepared datasets and measures what was trained.

mod allocator;
mod cli;
mod eval;
mod pretrain;
mod stop;
mod view;

use std::process::ExitCode;

use cli::{Cli, Verb};

fn main() -> ExitCode {
    allocator::keep_memory();
    let (Cli { verb }, typed) = Cli::read();
    cloze_cli::run(
        || match verb {
            Verb::Pretrain(args) => pretrain::run(&args, &typed),
            Verb::Eval(args) => eval::run(&args, &typed),
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

/// What a person should know before masks are drawn, or are not.
fn warn(dataset: &std::path::Path, model: Option<&std::path::Path>, typed: &cli::Typed) {
    // What cannot be read is an error soon after.
    let Ok(manifest) = cloze_shard::Manifest::read(dataset) else {
        return;
    };
    if typed.has("mask_rate")
        && matches!(
            manifest.masking,
            cloze_shard::manifest::Masking::Static { .. }
        )
    {
        eprintln!("warning: --mask-rate has no effect: the masks of this dataset are static");
    }
    if let Some(model) = model.filter(|m| m.is_dir() && cloze_shard::Vocabulary::find(m).is_err()) {
        eprintln!(
            "warning: {} holds no tokenizer: its vocabulary was not compared with the dataset's",
            model.display()
        );
    }
}

/// Starts as many threads as asked for.
fn start_threads(jobs: Option<usize>) -> anyhow::Result<()> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(jobs.unwrap_or(0))
        .build_global()?;
    Ok(())
}
