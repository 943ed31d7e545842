//! The `cloze-train` executable: trains from prepared datasets and measures what was trained.

mod allocator;
mod cli;
mod embed;
mod eval;
mod extend;
mod finetune;
mod hub;
mod masks;
mod pretrain;
mod report;
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
            Verb::Finetune(args) => finetune::run(&args),
            Verb::Embed(args) => embed::run(&args),
            Verb::Extend(args) => extend::run(&args),
        },
        hint,
    )
}

/// What the libraries say a person can do.
fn hint(error: &anyhow::Error) -> Option<String> {
    error
        .chain()
        .find_map(|e| {
            None.or_else(|| {
                e.downcast_ref::<cloze_train::Error>()
                    .and_then(cloze_train::Error::hint)
            })
            .or_else(|| {
                e.downcast_ref::<cloze_task::Error>()
                    .and_then(cloze_task::Error::hint)
            })
            .or_else(|| {
                e.downcast_ref::<cloze_shard::Error>()
                    .and_then(cloze_shard::Error::hint)
            })
            .or_else(|| {
                e.downcast_ref::<cloze_text::Error>()
                    .and_then(cloze_text::Error::hint)
            })
        })
        // Beside what it is the context of, which a chain does not show.
        .or_else(|| error.downcast_ref::<Hinted>().map(|h| h.hint.clone()))
}

/// An error of the executable's own, with what to do.
#[derive(Debug)]
struct Hinted {
    why: String,
    hint: String,
}

impl std::fmt::Display for Hinted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Hinted {}

/// What a person should know before training begins: options that have no effect, a vocabulary that cannot be compared.
fn warn(datasets: &[std::path::PathBuf], model: Option<&std::path::Path>, typed: &cli::Typed) {
    for dataset in datasets {
        // What cannot be read is an error soon after.
        let Ok(manifest) = cloze_shard::Manifest::read(dataset) else {
            return;
        };
        if let cloze_shard::manifest::Masking::Dynamic = manifest.masking {
            continue;
        }
        let options = [
            "mask_rate",
            "mask_rate_end",
            "mask_share",
            "random_share",
            "mask_unit",
        ];
        for option in options.iter().filter(|option| typed.has(option)) {
            let (option, path) = (option.replace('_', "-"), dataset.display());
            eprintln!("warning: --{option} has no effect: the masks of {path} are static");
        }
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
