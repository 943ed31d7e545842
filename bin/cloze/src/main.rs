//! The `cloze` executable: prepares, inspects and verifies datasets, and hands training verbs to `cloze-train` beside it.

mod cli;
mod compare;
mod convert;
mod extend;
mod hand_over;
mod inputs;
mod inspect;
mod prepare;
mod verify;
mod vocab;
mod written;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use cli::{Cli, Verb, VocabVerb};

fn main() -> ExitCode {
    let matches = cloze_cli::negative_numbers(Cli::command()).get_matches();
    let verb = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli.verb,
        Err(error) => error.exit(),
    };
    cloze_cli::run(
        || match verb {
            Verb::Prepare(args) => prepare::run(&args),
            Verb::Inspect(args) => inspect::run(&args),
            Verb::Verify(args) => verify::run(&args),
            Verb::Convert(args) => convert::run(&args),
            Verb::Compare(args) => compare::run(&args),
            Verb::Vocab {
                verb: VocabVerb::Train(args),
            } => vocab::train(&args),
            Verb::Vocab {
                verb: VocabVerb::Extend(args),
            } => extend::run(&args),
            Verb::Pretrain { arguments } => hand_over::to_trainer("pretrain", &arguments),
            Verb::Eval { arguments } => hand_over::to_trainer("eval", &arguments),
            Verb::Finetune { arguments } => hand_over::to_trainer("finetune", &arguments),
            Verb::Embed { arguments } => hand_over::to_trainer("embed", &arguments),
        },
        hint,
    )
}

/// What the libraries say a person can do.
fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|e| {
        None.or_else(|| {
            e.downcast_ref::<cloze_prep::Error>()
                .and_then(cloze_prep::Error::hint)
        })
        .or_else(|| {
            e.downcast_ref::<cloze_convert::Error>()
                .and_then(cloze_convert::Error::hint)
        })
        .or_else(|| {
            e.downcast_ref::<cloze_shard::Error>()
                .and_then(cloze_shard::Error::hint)
        })
        .or_else(|| {
            e.downcast_ref::<cloze_text::Error>()
                .and_then(cloze_text::Error::hint)
        })
        .or_else(|| {
            e.downcast_ref::<cloze_prep::input::InputError>()
                .and_then(|e| e.hint())
        })
        .or_else(|| {
            e.downcast_ref::<hand_over::NoTrainer>()
                .map(hand_over::NoTrainer::hint)
        })
        .or_else(|| {
            e.downcast_ref::<compare::Refused>()
                .map(compare::Refused::hint)
        })
        .or_else(|| {
            e.downcast_ref::<compare::Failed>()
                .map(compare::Failed::hint)
        })
        .or_else(|| {
            e.downcast_ref::<inspect::Refused>()
                .map(inspect::Refused::hint)
        })
        .or_else(|| {
            e.downcast_ref::<extend::Refused>()
                .map(extend::Refused::hint)
        })
    })
}
