//! The loop: feed, engine, schedule, log, evaluation, checkpoints.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use cloze_shard::manifest::TOKENIZER_FOLDER;
use cloze_shard::{Dataset, Split};

use crate::checkpoint::{Checkpoint, TrainerState, latest, read_trainer, write_checkpoint};
use crate::engine::{Dropout, Engine, OptimizerStep, Whole};
use crate::eval::{self, EvalReport};
use crate::feed::{Feed, Position, longest_row};
use crate::log::Log;
use crate::parallel::{
    Collective, Share, Timeouts, World, agree, fingerprint, join, leave, same, terms,
};
use crate::plan::PretrainConfig;
use crate::record::{Record, StepRecord, ValidationRecord};
use crate::schedule::learning_rate;
use crate::start::{Begun, Start, begin};
use crate::{BertConfig, Error, Result};

/// Batches that are made ahead.
const AHEAD: usize = 2;

/// Is told how training goes.
pub trait Observer {
    /// Before the first step: what is trained, and what became of the checkpoint it starts from.
    fn on_start(&mut self, begun: &Begun<'_>);
    /// After a logged step.
    fn on_step(&mut self, record: &StepRecord);
    /// After an evaluation.
    fn on_validation(&mut self, record: &ValidationRecord);
    /// After a checkpoint was written.
    fn on_checkpoint(&mut self, path: &Path);
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The newest model, a Hugging Face folder.
    pub model: PathBuf,
    /// Steps made, in this and earlier processes.
    pub steps: u64,
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

/// Trains, as one process of `world`. All of its processes call this alike; rank 0 alone writes, and tells its observer.
pub fn pretrain_in(
    world: &World,
    dataset: &Path,
    start: &Start,
    run: &Path,
    config: &PretrainConfig,
    observer: &mut dyn Observer,
) -> Result<Summary> {
    config.check()?;
    let dataset = Dataset::open(dataset)?;
    let train = dataset
        .split("train")
        .filter(|s| s.rows() > 0)
        .ok_or_else(|| Error::Run {
            path: dataset.path().into(),
            why: "the dataset has no training rows".into(),
            hint: "prepare it from more text, or with a smaller --validation-fraction".into(),
        })?;
    let first_step = match (start, latest(run)?) {
        (Start::Resume, Some(checkpoint)) => read_trainer(&checkpoint)?.step,
        _ => 0,
    };
    let terms = terms(config, &dataset.manifest().digest(), first_step);
    let mut peers = join(world, &terms, &Timeouts::default())?;
    let trained = (|| {
        let begun = begin(&dataset, start, run, config, world);
        let mut begun = agree(peers.as_mut(), begun)?;
        let parameters = fingerprint(&begun.engine.parameters()?);
        same(peers.as_mut(), "parameters", parameters)?;
        let processes = meet_on_device(&mut peers, begun.engine.on_gpu())?;
        let mut silent = Silent;
        let observer = if world.rank == 0 {
            observer
        } else {
            &mut silent as &mut dyn Observer
        };
        observer.on_start(&Begun {
            dataset: &dataset,
            config: &begun.model,
            engine: begun.engine.as_ref(),
            device: &begun.device,
            report: begun.report.as_ref(),
            step: begun.trainer.step,
            processes,
        });
        let log = match world.rank {
            0 => Some(Log::open(run, begun.trainer.step)?),
            _ => None,
        };
        Run {
            dataset: &dataset,
            train,
            run,
            config,
            model: begun.model,
            engine: begun.engine,
            log,
            trainer: begun.trainer,
            peers: peers.as_mut(),
            _lock: begun.lock,
        }
        .train(observer)
    })();
    leave(peers, trained)
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

/// What the processes that do not write tell.
struct Silent;

impl Observer for Silent {
    fn on_start(&mut self, _: &Begun<'_>) {}
    fn on_step(&mut self, _: &StepRecord) {}
    fn on_validation(&mut self, _: &ValidationRecord) {}
    fn on_checkpoint(&mut self, _: &Path) {}
}

/// What the run in `run` was asked for, as its newest checkpoint says; `None` where there is none.
pub fn stored_config(run: &Path) -> Result<Option<PretrainConfig>> {
    latest(run)?
        .map(|checkpoint| Ok(read_trainer(&checkpoint)?.config))
        .transpose()
}

struct Run<'a> {
    dataset: &'a Dataset,
    train: &'a Split,
    run: &'a Path,
    config: &'a PretrainConfig,
    model: BertConfig,
    engine: Box<dyn Engine>,
    /// Rank 0's.
    log: Option<Log>,
    trainer: TrainerState,
    peers: &'a mut dyn Collective,
    _lock: Option<File>,
}

impl Run<'_> {
    fn feed<'s>(&self, split: &'s Split) -> Result<Feed<'s>> {
        let config = self.config;
        let feed = Feed::new(
            self.dataset,
            split,
            config.rule(),
            config.seed,
            config.batch_tokens,
            self.model.vocab_size,
        )?;
        // A GPU draws masks as it goes.
        Ok(match self.engine.on_gpu() {
            true => feed.deferred(longest_row(self.dataset.manifest())),
            false => feed,
        })
    }

    fn train(mut self, observer: &mut dyn Observer) -> Result<Summary> {
        let mut feed = self.feed(self.train)?;
        feed.seek(self.trainer.position);
        let remaining = self.config.steps.saturating_sub(self.trainer.step);
        let (rank, world_size) = (self.peers.rank(), self.peers.world_size());
        let validation = std::thread::scope(|scope| {
            let (send, receive) = sync_channel::<Result<(Share, Position)>>(AHEAD);
            scope.spawn(move || {
                for _ in 0..remaining {
                    let next = feed.next_share(rank, world_size);
                    let next = next.and_then(|b| b.ok_or(Error::FeedStopped));
                    // A receiver that is gone has stopped for its own reason.
                    if send
                        .send(next.map(|batch| (batch, feed.position())))
                        .is_err()
                    {
                        return;
                    }
                }
            });
            let mut next = || receive.recv().unwrap_or(Err(Error::FeedStopped));
            self.steps(&mut next, observer)
        })?;
        let model = self.run.join(crate::checkpoint::MODEL);
        Ok(Summary {
            model,
            steps: self.trainer.step,
            validation,
        })
    }

    fn steps(
        &mut self,
        next: &mut dyn FnMut() -> Result<(Share, Position)>,
        observer: &mut dyn Observer,
    ) -> Result<Option<EvalReport>> {
        let config = self.config;
        let mut validation = None;
        if self.trainer.step == 0 && config.eval_every > 0 {
            self.validate(observer)?;
        }
        let mut clock = Clock::start();
        while self.trainer.step < config.steps {
            let waiting = Instant::now();
            let (share, position) = next()?;
            clock.waited += waiting.elapsed().as_secs_f64();
            let learning_rate = self.step(&share, position)?;
            clock.steps += 1;
            clock.tokens += share.tokens as u64;
            let step = self.trainer.step;
            let last = step == config.steps;
            let due = |every: u64| last || (every > 0 && step.is_multiple_of(every));
            if due(config.log_every) || step == 1 {
                let record = clock.complete(self.record(learning_rate)?, config.steps);
                observer.on_step(&record);
                self.write(&Record::Train(record))?;
                clock = Clock::start();
            }
            if due(config.eval_every) {
                validation = clock.outside(|| self.validate(observer))?;
            }
            if due(config.checkpoint_every) {
                clock.outside(|| self.checkpoint(observer))?;
            }
        }
        Ok(validation)
    }

    /// Makes a step, and says at which rate. The engine may still be at work on it.
    fn step(&mut self, share: &Share, position: Position) -> Result<f64> {
        let config = self.config;
        let step = self.trainer.step + 1;
        let (hidden, attention) = match config.dropout {
            Some(p) => (p, p),
            None => (
                self.model.hidden_dropout_prob,
                self.model.attention_probs_dropout_prob,
            ),
        };
        let dropout = Dropout {
            seed: config.seed,
            step,
            hidden,
            attention,
        };
        let dropout = (hidden > 0.0 || attention > 0.0).then_some(dropout);
        let whole = Whole {
            masked: share.counts.masked,
            labelled: share.counts.labelled,
            first_token: share.first_token as u32,
        };
        self.engine
            .accumulate_and_sum(&share.batch, &whole, dropout.as_ref(), self.peers)?;
        let learning_rate = learning_rate(
            config.learning_rate,
            step,
            config.warmup_steps,
            config.steps,
        );
        self.engine.step(&OptimizerStep {
            step,
            learning_rate,
            weight_decay: config.weight_decay,
            betas: (config.beta1, config.beta2),
            eps: config.epsilon,
            clip: config.clip,
        })?;
        self.trainer.step = step;
        self.trainer.position = position;
        self.trainer.tokens += share.tokens as u64;
        Ok(learning_rate)
    }

    /// What became of the steps up to the last, once it is done. A step that could not be made is an error.
    fn record(&mut self, learning_rate: f64) -> Result<StepRecord> {
        let outcome = self.engine.outcome()?;
        let step = self.trainer.step;
        let (mut loss, norm) = (outcome.loss, outcome.grad_norm);
        if self.peers.world_size() > 1 {
            let mut sums = [loss.mlm, loss.nsp.unwrap_or(0.0)];
            self.peers.all_reduce_f64(&mut sums)?;
            (loss.mlm, loss.nsp) = (sums[0], loss.nsp.map(|_| sums[1]));
        }
        for (what, value) in [
            ("the loss", loss.total()),
            ("the norm of the gradient", norm),
        ] {
            if !value.is_finite() {
                return Err(Error::NonFinite { step, what, value });
            }
        }
        if outcome.skipped > 0 {
            let what = "the norm of the gradient, since the last line of the log,";
            let value = f64::NAN;
            return Err(Error::NonFinite { step, what, value });
        }
        Ok(StepRecord {
            step,
            epoch: self.trainer.position.epoch,
            loss: loss.total(),
            mlm_loss: loss.mlm,
            nsp_loss: loss.nsp,
            learning_rate,
            grad_norm: norm,
            tokens: self.trainer.tokens,
            tokens_per_second: 0.0,
            data_wait_fraction: 0.0,
            step_seconds: 0.0,
            seconds_left: 0.0,
        })
    }

    fn write(&mut self, record: &Record) -> Result<()> {
        self.log.as_mut().map_or(Ok(()), |log| log.write(record))
    }

    fn validate(&mut self, observer: &mut dyn Observer) -> Result<Option<EvalReport>> {
        let Some(split) = self.dataset.split("validation").filter(|s| s.rows() > 0) else {
            return Ok(None);
        };
        let mut feed = self.feed(split)?.in_order().at_most(self.config.eval_rows);
        let report = eval::run_shared(self.engine.as_mut(), &mut feed, self.peers)?;
        let record = ValidationRecord {
            step: self.trainer.step,
            report: report.clone(),
        };
        observer.on_validation(&record);
        self.write(&Record::Validation(record))?;
        Ok(Some(report))
    }

    fn checkpoint(&mut self, observer: &mut dyn Observer) -> Result<()> {
        if let Some(log) = &mut self.log {
            log.sync()?;
        }
        // Parameters are those of the step before where a step could not be made, which is not what a checkpoint says.
        self.record(0.0)?;
        if self.log.is_none() {
            return Ok(());
        }
        let engine = self.engine.state()?;
        let checkpoint = Checkpoint {
            config: &self.model,
            layout: self.engine.layout(),
            engine: &engine,
            trainer: &self.trainer,
            tokenizer: &self.dataset.path().join(TOKENIZER_FOLDER),
        };
        let path = write_checkpoint(self.run, &checkpoint, self.config.keep)?;
        observer.on_checkpoint(&path);
        Ok(())
    }
}

/// Time and tokens since the last line of the log; evaluations and checkpoints are left out.
struct Clock {
    started: Instant,
    waited: f64,
    steps: u64,
    tokens: u64,
}

impl Clock {
    fn start() -> Self {
        Self {
            started: Instant::now(),
            waited: 0.0,
            steps: 0,
            tokens: 0,
        }
    }

    /// Runs `work` off the clock.
    fn outside<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let before = Instant::now();
        let result = work();
        self.started += before.elapsed();
        result
    }

    /// `record` with what the clock says; `steps` is how many there will be.
    fn complete(&self, record: StepRecord, steps: u64) -> StepRecord {
        let spent = self.started.elapsed().as_secs_f64().max(1e-9);
        let each = spent / self.steps.max(1) as f64;
        StepRecord {
            tokens_per_second: self.tokens as f64 / spent,
            data_wait_fraction: self.waited / spent,
            step_seconds: each,
            seconds_left: each * steps.saturating_sub(record.step) as f64,
            ..record
        }
    }
}
