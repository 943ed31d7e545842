//! How a run begins: from what, where, and in a folder that is nobody else's.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use cloze_shard::Dataset;
use cloze_shard::place::dataset_around;

use crate::checkpoint::{
    LoadReport, TrainerState, initial_parameters, latest, publish_again, read_model, read_state,
    sweep,
};
use crate::device::{self, Build};
use crate::disk::Room;
use crate::engine::{Engine, EngineKind, EngineState, Objective};
use crate::feed::{Feed, Position, joined_digest};
use crate::log::LOG;
use crate::matching;
use crate::memory;
use crate::parallel::World;
use crate::plan::PretrainConfig;
use crate::samples::MaskedRow;
use crate::trainer::split_rows;
use crate::{BertConfig, Error, Result};

/// A file that the process that trains holds locked.
const LOCK: &str = ".lock";
/// Where parameters come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// A Hugging Face folder.
    Init(PathBuf),
    /// From scratch, in the shape of a `config.json`.
    Config(PathBuf),
    /// The newest checkpoint of the run.
    Resume,
    /// The newest checkpoint of the run, or this where there is none.
    ResumeOr(Box<Start>),
}

/// How training begins.
#[allow(missing_debug_implementations)]
pub struct Begun<'a> {
    /// What is trained on: at least one.
    pub datasets: &'a [Dataset],
    /// The model's shape.
    pub config: &'a BertConfig,
    /// What computes.
    pub engine: &'a dyn Engine,
    /// Why it runs where it does.
    pub device: &'a str,
    /// What became of the checkpoint it starts from.
    pub report: Option<&'a LoadReport>,
    /// Steps that were made before.
    pub step: u64,
    /// The first rows that it is fed, with their masks.
    pub first: &'a [MaskedRow],
    /// Who takes part, where more than one process does.
    pub processes: String,
    /// What its checkpoints take of the disk.
    pub room: Room,
    /// Checkpoints that there are.
    pub checkpoints: u64,
}

/// What training goes on from.
pub struct Beginning {
    pub model: BertConfig,
    pub engine: Box<dyn Engine>,
    pub trainer: TrainerState,
    /// Why it runs where it does.
    pub device: String,
    pub report: Option<LoadReport>,
    pub room: Room,
    /// Rank 0's, which alone writes.
    pub lock: Option<File>,
}

/// Reads what training goes on from, builds the engine, and on rank 0 takes the run's folder.
pub fn begin(
    datasets: &[Dataset],
    start: &Start,
    run: &Path,
    config: &PretrainConfig,
    world: &World,
) -> Result<Beginning> {
    let taken = |why: &str, hint: &str| Error::Run {
        path: run.into(),
        why: why.into(),
        hint: hint.into(),
    };
    check_each(datasets, |d| matching::check_objective(d, config.objective))?;
    if let Some(dataset) = dataset_around(run) {
        return Err(taken(
            &format!(
                "lies in the dataset {}, which holds nothing but its own files",
                dataset.display()
            ),
            "give an --out elsewhere",
        ));
    }
    let lock = match world.rank {
        0 => existing_lock(run)?,
        _ => None,
    };
    let checkpoint = latest(run)?;
    let fresh = TrainerState {
        step: 0,
        position: Position::default(),
        tokens: 0,
        dataset: joined_digest(datasets),
        config: config.clone(),
        skipped: 0,
        skipped_in_a_row: 0,
        best: None,
        evaluation_due: config.eval_every > 0,
        seconds: 0.0,
    };
    if let (0, None, Some(model)) = (world.rank, &checkpoint, finished_model(run)) {
        return Err(taken(
            &format!(
                "holds a model ({}) and no checkpoint to go on from",
                model.display()
            ),
            &format!(
                "give another --out; to train that model further, also --init {}",
                model.display()
            ),
        ));
    }
    // A run that was stopped before its first checkpoint is begun anew, where that was asked for.
    let (start, again) = match start {
        Start::ResumeOr(_) if checkpoint.is_some() => (&Start::Resume, false),
        Start::ResumeOr(other) => (other.as_ref(), run.join(LOG).exists()),
        start => (start, false),
    };
    let newest = checkpoint.clone();
    let (model, state, mut trainer, report) = match start {
        Start::Resume | Start::ResumeOr(_) => {
            let checkpoint = checkpoint.ok_or_else(|| {
                taken(
                    "there is no checkpoint to resume from",
                    "leave --resume out to begin a run",
                )
            })?;
            // First: what is read here is checked against its digests.
            let (mut trainer, state) = read_state(&checkpoint)?;
            let model = BertConfig::read(&checkpoint.join(crate::checkpoint::CONFIG))?;
            check_each(datasets, |d| matching::check_model(d, &checkpoint, &model))?;
            let asked = PretrainConfig {
                precision: config.precision.or(trainer.config.precision),
                ..config.clone()
            };
            let mut differences = asked.differences(&trainer.config);
            if trainer.dataset != fresh.dataset {
                let what = match datasets {
                    [_] => "the dataset is another one",
                    _ => "the datasets are others, or in another order",
                };
                differences.push(what.into());
            }
            if !differences.is_empty() {
                return Err(taken(
                    &format!(
                        "the run was started differently: {}",
                        differences.join("; ")
                    ),
                    &format!(
                        "resume with what it was started with; to train its model in another way or for longer, begin another run with --init {}",
                        run.join(crate::checkpoint::MODEL).display()
                    ),
                ));
            }
            trainer.config = asked;
            (model, state, trainer, None)
        }
        _ if world.rank == 0 && checkpoint.is_some() => {
            return Err(taken(
                "holds a run already",
                "give another --out, or --resume to continue it",
            ));
        }
        _ if world.rank == 0 && run.join(LOG).exists() && !again => {
            return Err(taken(
                "holds the log of a run that was stopped before its first checkpoint",
                "begin it anew with --resume auto, or give another --out",
            ));
        }
        _ if world.rank == 0 && holds_other_files(run) && !again => {
            return Err(taken(
                "holds other files already",
                "give an --out that does not exist yet",
            ));
        }
        Start::Init(folder) => {
            let (mut model, parameters, report) = read_model(folder, config.seed)?;
            if config.objective == Objective::Mlm && !report.has_nsp_head() {
                model.without_pairs();
            }
            check_each(datasets, |d| matching::check_model(d, folder, &model))?;
            (model, EngineState::initial(parameters), fresh, Some(report))
        }
        Start::Config(path) => {
            let mut model = BertConfig::read(path)?;
            if config.objective == Objective::Mlm {
                model.without_pairs();
            }
            check_each(datasets, |d| matching::check_shape(d, path, &model))?;
            let parameters = initial_parameters(&model, config.seed);
            (model, EngineState::initial(parameters), fresh, None)
        }
    };
    if config.warmup_steps > config.steps {
        let why = format!(
            "is {}, more than --steps {}",
            config.warmup_steps, config.steps
        );
        return Err(Error::Config {
            option: "--warmup-steps",
            why,
        });
    }
    // Refuses a batch that is too small before the run folder exists.
    Feed::mixed(
        &split_rows(datasets, "train"),
        &config.mix,
        config.rule(),
        config.seed,
        config.batch_tokens,
        model.vocab_size,
    )?;
    // So does a device that is not there.
    let asked = Build {
        local_rank: world.local_rank,
        ..trainer.config.build()
    };
    let built = device::build(asked, &model, config.objective, state)?;
    // So does a step that is too large.
    if trainer.config.engine == EngineKind::Native && !built.engine.on_gpu() {
        let splits = split_rows(datasets, "train");
        let sum = |of: &dyn Fn(&cloze_shard::manifest::SplitRecord) -> u64| {
            let record = |d: &Dataset| d.manifest().splits.get("train").map_or(0, of);
            splits.iter().map(|(d, _)| record(d)).sum::<u64>()
        };
        memory::check(
            &trainer.config,
            &model,
            sum(&|s| s.tokens),
            sum(&|s| s.rows),
        )?;
    }
    // And one whose checkpoints have no room.
    let room = Room::of(
        run,
        built.engine.layout().count(),
        built.engine.layout().len(),
        config.keep,
    );
    if world.rank == 0 && trainer.step < trainer.config.steps {
        room.check(run)?;
    }
    trainer.config.precision = Some(built.precision);
    let lock = match (world.rank, lock) {
        (0, None) => {
            fs::create_dir_all(run).map_err(cloze_shard::Error::io(run))?;
            Some(lock_run(run)?)
        }
        (_, lock) => lock,
    };
    if world.rank == 0 {
        sweep(run)?;
        if let Some(newest) = &newest {
            publish_again(run, newest, &trainer)?;
        }
    }
    Ok(Beginning {
        model,
        engine: built.engine,
        trainer,
        device: built.why,
        report,
        room,
        lock,
    })
}

/// Whether every dataset passes.
fn check_each(datasets: &[Dataset], check: impl FnMut(&Dataset) -> Result<()>) -> Result<()> {
    datasets.iter().try_for_each(check)
}

/// The model of a run whose checkpoints are gone.
fn finished_model(run: &Path) -> Option<PathBuf> {
    let names = [crate::checkpoint::MODEL, crate::checkpoint::BEST];
    names.map(|n| run.join(n)).into_iter().find(|m| m.is_dir())
}

/// Whether there is anything in the folder, but for the lock of a run that never began.
fn holds_other_files(run: &Path) -> bool {
    let other = |e: std::io::Result<fs::DirEntry>| e.is_ok_and(|e| e.file_name() != LOCK);
    fs::read_dir(run).is_ok_and(|mut files| files.any(other))
}

/// The lock of a run whose folder is there already: so that one that is being trained is told from one that was stopped.
fn existing_lock(run: &Path) -> Result<Option<File>> {
    match run.join(LOCK).exists() {
        true => lock_run(run).map(Some),
        false => Ok(None),
    }
}

/// Keeps other processes out of the run, for as long as the file is open; the system gives it back when a process dies.
fn lock_run(run: &Path) -> Result<File> {
    let path = run.join(LOCK);
    let io = |e| Error::from(cloze_shard::Error::io(&path)(e));
    let file = File::create(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::Run {
            path: run.into(),
            why: "another process is training in it".into(),
            hint: "wait until it is done, or stop it first".into(),
        }),
        // A file system without locks cannot keep anybody out.
        Err(std::fs::TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => {
            Ok(file)
        }
        Err(std::fs::TryLockError::Error(e)) => Err(io(e)),
    }
}
