//! `cloze pretrain`

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::bail;
use cloze_cli::{Status, format};
use cloze_train::engine::{EngineKind, Objective};
use cloze_train::parallel::World;
use cloze_train::{Error, Start, pretrain_on, stored_config};

use crate::cli::{PretrainArgs, ResumeArg, Typed};
use crate::{report, view};

pub fn run(args: &PretrainArgs, typed: &Typed) -> anyhow::Result<Status> {
    let Some(start) = args.start() else {
        bail!("nothing to start from: give --init HF_DIR, --config config.json, or --resume");
    };
    if args.resume == Some(ResumeArg::Always) && (args.init.is_some() || args.config.is_some()) {
        bail!(
            "--resume goes on from a checkpoint of the run, not from --init or --config: leave one out, or give --resume auto"
        );
    }
    // What a run goes on from is its checkpoint: what it once began from may be gone.
    let goes_on = args.resume.is_some() && cloze_train::checkpoint::latest(&args.out)?.is_some();
    let start = match args.datasets.first() {
        Some(dataset) if !goes_on => downloaded(start, dataset)?,
        _ => start,
    };
    let stop = crate::stop::on_signals()?;
    crate::start_threads(args.jobs)?;
    let world = World::from_environment()?;
    if world.rank == 0 {
        crate::warn(&args.datasets, args.init.as_deref(), typed);
    }
    if args.resume == Some(ResumeArg::Auto) && world.world_size == 1 {
        for (aside, why) in cloze_train::checkpoint::set_damaged_aside(&args.out)? {
            eprintln!(
                "warning: the newest checkpoint is damaged, and is {} now; the run goes on from the one before it: {why}",
                aside.display()
            );
        }
    }
    let stored = if args.resume.is_some() {
        stored_config(&args.out)?
    } else {
        None
    };
    let config = match stored {
        Some(stored) => args.resumed(stored, typed)?,
        None => args.config(),
    };
    if world.rank == 0 {
        let idle = |option: &str, why: &str| eprintln!("warning: --{option} has no effect: {why}");
        if typed.has("nsp_weight") && !config.objective.has_pairs() {
            idle("nsp-weight", "--objective mlm trains no head on pairs");
        }
        if typed.has("mix") && args.datasets.len() == 1 {
            idle("mix", "there is one dataset");
        }
        if typed.has("recompute") && config.engine == EngineKind::Reference {
            idle("recompute", "the reference engine keeps what it computes");
        }
    }
    if world.rank == 0 {
        warn_of_one_label(&args.datasets, config.objective);
    }
    let mut view = view::choose(
        args.view,
        world.rank,
        (config.steps, config.hours),
        &args.out,
        &stop,
    )?;
    let datasets: Vec<&Path> = args.datasets.iter().map(AsRef::as_ref).collect();
    let trained = pretrain_on(&world, &datasets, &start, &args.out, &config, view.as_mut());
    let time = view.elapsed();
    drop(view);
    if world.rank > 0 {
        return trained.map(|_| stop.status()).map_err(Into::into);
    }
    let told = |end| report::Run {
        folder: &args.out,
        datasets: &args.datasets,
        config: &config,
        end,
    };
    let summary = match trained {
        Ok(summary) => summary,
        Err(error) => {
            // What came before is worth a look. An error of another kind may be one of a folder that is somebody else's.
            if matches!(error, Error::NonFinite { .. } | Error::Broken { .. }) {
                said(told(Err(&error)).write(), args)?;
            }
            return Err(error.into());
        }
    };
    // A report that cannot be written is no reason to call the run a failure.
    let run = told(Ok(&summary));
    let written = run.write();
    let mut out = std::io::stdout();
    let time = format::duration(time);
    writeln!(
        out,
        "{}: {}, {time}",
        summary.model.display(),
        format::counted(summary.steps, "step")
    )?;
    said(written, args)?;
    if summary.skipped > 0 {
        let skipped = format::counted(summary.skipped, "step");
        writeln!(out, "not made, as the gradient was not finite: {skipped}")?;
    }
    if summary.stopped {
        let before = report::stopped_before(&config, &summary);
        writeln!(out, "stopped before {before}; --resume goes on")?;
        return Ok(stop.status());
    }
    if let Some(report) = &summary.validation {
        writeln!(out, "{}", view::validation(report))?;
    }
    let worse = run.records().ok();
    if let Some(worse) = worse.and_then(|(records, _)| report::became_worse(&config, &records)) {
        eprintln!("warning: {worse}");
    }
    Ok(Status::Done)
}

/// Says where a head would learn nothing but to say always the same.
fn warn_of_one_label(datasets: &[PathBuf], objective: Objective) {
    for path in datasets {
        // What is wrong with a dataset is said when it is opened.
        let Ok(manifest) = cloze_shard::Manifest::read(path) else {
            continue;
        };
        let labels = manifest.splits.get("train").map(|s| s.labels);
        let labels = labels.unwrap_or_default();
        let Some(only) = labels.only() else {
            continue;
        };
        let path = path.display();
        // Segments that follow one another can be turned around; random ones have no order.
        match (objective, labels.is_next > 0) {
            (Objective::MlmNsp, true) => eprintln!(
                "warning: all pairs of {path} {only}: next sentence prediction has nothing to learn there; --objective mlm+sop or mlm is meant, perhaps"
            ),
            (Objective::MlmNsp, false) => eprintln!(
                "warning: all pairs of {path} {only}: next sentence prediction has nothing to learn there; --objective mlm is meant, perhaps"
            ),
            (Objective::MlmSop, false) => eprintln!(
                "warning: all pairs of {path} {only}: they have no order to learn; --objective mlm is meant, perhaps"
            ),
            _ => {}
        }
    }
}

/// Says where the report is, or why there is none.
fn said(report: anyhow::Result<PathBuf>, args: &PretrainArgs) -> std::io::Result<()> {
    match report {
        Ok(path) => writeln!(
            std::io::stdout(),
            "{}: curves, samples, where the data comes from",
            path.display()
        ),
        Err(error) => writeln!(
            std::io::stderr(),
            "warning: {} could not be written: {error}",
            args.out.join(report::FILE).display()
        ),
    }
}

/// `start`, with a folder in place of the name of a model.
fn downloaded(start: Start, dataset: &Path) -> anyhow::Result<Start> {
    Ok(match start {
        Start::Init(named) => Start::Init(crate::hub::folder(&named, dataset)?),
        Start::ResumeOr(fresh) => Start::ResumeOr(Box::new(downloaded(*fresh, dataset)?)),
        other => other,
    })
}
