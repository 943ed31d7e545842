//! Training: who takes part, from what it begins, and who is told how it goes. The loop is in `run`.

mod clock;
mod keep;
mod run;
mod skips;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cloze_shard::{Dataset, Split};

use crate::checkpoint::{all, latest, read_trainer};
use crate::eval::EvalReport;
use crate::feed::{check_mixture, joined_digest};
use crate::log::Log;
use crate::parallel::{Collective, Terms, Timeouts, World, agree, fingerprint, join, leave, same};
use crate::plan::PretrainConfig;
use crate::record::{SkipRecord, StepRecord, ValidationRecord};
use crate::start::{Begun, Start, begin};
use crate::{Error, Result};

use run::Run;
use skips::Skips;

/// For other processes to hear that this one has failed.
const TELLING: Duration = Duration::from_secs(10);

/// Rows that an observer is shown before the first step.
const FIRST: usize = 3;

/// Is told how training goes.
pub trait Observer {
    /// Before the processes of `world` come together, for which there is so much time. In every process.
    fn on_meeting(&mut self, _world: &World, _time: Duration) {}
    /// When they have; at once, where there is one. In every process.
    fn on_met(&mut self) {}
    /// Before the first step: what is trained, and what became of the checkpoint it starts from.
    fn on_start(&mut self, begun: &Begun<'_>);
    /// After a logged step.
    fn on_step(&mut self, record: &StepRecord);
    /// After an evaluation.
    fn on_validation(&mut self, record: &ValidationRecord);
    /// After steps that were not made, because their gradient was not finite.
    fn on_skipped(&mut self, _record: &SkipRecord) {}
    /// After a checkpoint was written.
    fn on_checkpoint(&mut self, path: &Path);
    /// Whether to write a checkpoint now, and stop. Asked after each step and in evaluations, with the number of steps made, in every process.
    fn should_stop(&mut self, _step: u64) -> bool {
        false
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The newest model, a Hugging Face folder.
    pub model: PathBuf,
    /// Steps made, in this and earlier processes.
    pub steps: u64,
    /// Whether it stopped before its last step or evaluation, because its observer asked for that.
    pub stopped: bool,
    /// Steps that were not made, because their gradient was not finite.
    pub skipped: u64,
    /// The last evaluation, where there is a validation split.
    pub validation: Option<EvalReport>,
}

/// Trains, by one process.
pub fn pretrain(
    dataset: &Path,
    start: &Start,
    run: &Path,
    config: &PretrainConfig,
    observer: &mut dyn Observer,
) -> Result<Summary> {
    pretrain_in(&World::alone(), dataset, start, run, config, observer)
}

/// Trains on one dataset, as one process of `world`: see [`pretrain_on`].
pub fn pretrain_in(
    world: &World,
    dataset: &Path,
    start: &Start,
    run: &Path,
    config: &PretrainConfig,
    observer: &mut dyn Observer,
) -> Result<Summary> {
    pretrain_on(world, &[dataset], start, run, config, observer)
}

/// Trains on `datasets`, mixed as `config` says, as one process of `world`. All of its processes call this alike; rank 0 alone writes, and tells its observer.
pub fn pretrain_on(
    world: &World,
    datasets: &[&Path],
    start: &Start,
    run: &Path,
    config: &PretrainConfig,
    observer: &mut dyn Observer,
) -> Result<Summary> {
    let opened = open(datasets, start, run, config);
    let mut timeouts = Timeouts::default();
    let terms = match &opened {
        Ok((opened, begins)) => {
            let digest = joined_digest(opened);
            let paths: Vec<String> = datasets.iter().map(|p| p.display().to_string()).collect();
            let paths = paths.join(", ");
            Terms::of(config, (Path::new(&paths), &digest), (begins, run))
        }
        Err(e) => {
            timeouts.meet = TELLING;
            Terms::failed(e.to_string())
        }
    };
    if world.world_size > 1 {
        observer.on_meeting(world, timeouts.meet);
    }
    let joined = join(world, &terms, &timeouts);
    let (datasets, _) = opened?;
    let mut peers = joined?;
    observer.on_met();
    let trained = (|| {
        let begun = begin(&datasets, start, run, config, world);
        let mut begun = agree(peers.as_mut(), begun)?;
        let parameters = fingerprint(&begun.engine.parameters()?);
        same(peers.as_mut(), "parameters", parameters)?;
        let processes = meet_on_device(&mut peers, begun.engine.on_gpu())?;
        let rank = world.rank;
        let observer = &mut OfRank { rank, observer };
        let log = match world.rank {
            0 => Some(Log::open(
                run,
                begun.trainer.step,
                begun.trainer.evaluation_due,
            )?),
            _ => None,
        };
        let made = Run {
            datasets: &datasets,
            run,
            config,
            model: begun.model,
            engine: begun.engine,
            skips: Skips::new(config.max_skipped, begun.trainer.skipped_in_a_row),
            log,
            rates: VecDeque::new(),
            made_of: (begun.trainer.position, config.mask_rate),
            trainer: begun.trainer,
            peers: peers.as_mut(),
            _lock: begun.lock,
        };
        observer.on_start(&Begun {
            datasets: &datasets,
            config: &made.model,
            engine: made.engine.as_ref(),
            device: &begun.device,
            report: begun.report.as_ref(),
            step: made.trainer.step,
            first: &made.first_rows(FIRST)?,
            processes,
            room: begun.room,
            checkpoints: all(run)?.len() as u64,
        });
        made.train(observer)
    })();
    leave(peers, trained)
}

/// The datasets, and how the run begins.
fn open(
    paths: &[&Path],
    start: &Start,
    run: &Path,
    config: &PretrainConfig,
) -> Result<(Vec<Dataset>, String)> {
    config.check()?;
    let mut datasets = Vec::with_capacity(paths.len());
    for path in paths {
        let dataset = Dataset::open(path)?;
        dataset.check_tokenizer()?;
        if split_rows(std::slice::from_ref(&dataset), "train").is_empty() {
            return Err(Error::Run {
                path: dataset.path().into(),
                why: "the dataset has no training rows".into(),
                hint: "prepare it from more text, or with a smaller --validation-fraction".into(),
            });
        }
        datasets.push(dataset);
    }
    check_mixture(&datasets, &config.mix, config.objective)?;
    let begins = match (start, latest(run)?) {
        (Start::Resume | Start::ResumeOr(_), Some(checkpoint)) => {
            format!("goes on after step {}", read_trainer(&checkpoint)?.step)
        }
        (Start::Resume, None) => "would go on, but has no checkpoint".into(),
        _ => "begins anew".into(),
    };
    Ok((datasets, begins))
}

/// The rows of split `name` of each dataset that has some.
pub(crate) fn split_rows<'d>(datasets: &'d [Dataset], name: &str) -> Vec<(&'d Dataset, &'d Split)> {
    let split = |d: &'d Dataset| Some((d, d.split(name).filter(|s| s.rows() > 0)?));
    datasets.iter().filter_map(split).collect()
}

/// Lets gradients be summed where they lie, if they lie on GPUs; who takes part and how, for a person.
#[cfg_attr(not(feature = "cuda"), allow(clippy::unnecessary_wraps))]
fn meet_on_device(peers: &mut Box<dyn Collective>, on_gpu: bool) -> Result<String> {
    if peers.world_size() == 1 {
        return Ok(String::new());
    }
    #[cfg(feature = "cuda")]
    if on_gpu {
        let host = std::mem::replace(peers, Box::new(crate::parallel::Alone));
        let (with, why) = crate::parallel::with_nccl(host)?;
        *peers = with;
        if let Some(why) = why {
            let how = peers.describe();
            return Ok(format!("{how}; gradients through the host, because {why}"));
        }
    }
    let _ = on_gpu;
    Ok(peers.describe())
}

/// Tells nothing but on rank 0; every rank may be asked to stop.
struct OfRank<'a> {
    rank: usize,
    observer: &'a mut dyn Observer,
}

impl OfRank<'_> {
    fn told(&mut self) -> Option<&mut dyn Observer> {
        match self.rank {
            0 => Some(&mut *self.observer),
            _ => None,
        }
    }
}

impl Observer for OfRank<'_> {
    fn on_start(&mut self, begun: &Begun<'_>) {
        self.told().into_iter().for_each(|o| o.on_start(begun));
    }

    fn on_step(&mut self, record: &StepRecord) {
        self.told().into_iter().for_each(|o| o.on_step(record));
    }

    fn on_validation(&mut self, record: &ValidationRecord) {
        self.told()
            .into_iter()
            .for_each(|o| o.on_validation(record));
    }

    fn on_skipped(&mut self, record: &SkipRecord) {
        self.told().into_iter().for_each(|o| o.on_skipped(record));
    }

    fn on_checkpoint(&mut self, path: &Path) {
        self.told().into_iter().for_each(|o| o.on_checkpoint(path));
    }

    fn should_stop(&mut self, step: u64) -> bool {
        self.observer.should_stop(step)
    }
}

/// What the run in `run` was asked for, as its newest checkpoint says; `None` where there is none.
pub fn stored_config(run: &Path) -> Result<Option<PretrainConfig>> {
    latest(run)?
        .map(|checkpoint| Ok(read_trainer(&checkpoint)?.config))
        .transpose()
}
