//! The loop: feed, engine, schedule, log, evaluation, checkpoints.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use cloze_shard::manifest::TOKENIZER_FOLDER;
use cloze_shard::{Dataset, Split};

use crate::batch::MaskedBatch;
use crate::checkpoint::{
    Checkpoint, LoadReport, TrainerState, initial_parameters, latest, read_model, read_state,
    read_trainer, write_checkpoint,
};
use crate::device;
use crate::engine::{Dropout, Engine, EngineState, OptimizerStep, Whole};
use crate::eval::{self, EvalReport};
use crate::feed::{Feed, Position};
use crate::log::{LOG, Log};
use crate::matching;
use crate::plan::PretrainConfig;
use crate::record::{Record, StepRecord, ValidationRecord};
use crate::schedule::learning_rate;
use crate::{BertConfig, Error, Result};

/// A file that the process that trains holds locked.
const LOCK: &str = ".lock";
/// Batches that are made ahead.
const AHEAD: usize = 2;

/// Where parameters come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// A Hugging Face folder.
    Init(PathBuf),
    /// From scratch, in the shape of a `config.json`.
    Config(PathBuf),
    /// The newest checkpoint of the run.
    Resume,
}

/// How training begins.
#[allow(missing_debug_implementations)]
pub struct Begun<'a> {
    /// What is trained on.
    pub dataset: &'a Dataset,
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
}

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

/// Trains.
pub fn pretrain(
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
    let (model, engine, trainer, _lock) = begin(&dataset, start, run, config, observer)?;
    let log = Log::open(run, trainer.step)?;
    Run {
        dataset: &dataset,
        train,
        run,
        config,
        model,
        engine,
        log,
        trainer,
    }
    .train(observer)
}

/// The model, the engine's state, and where training goes on.
fn begin(
    dataset: &Dataset,
    start: &Start,
    run: &Path,
    config: &PretrainConfig,
    observer: &mut dyn Observer,
) -> Result<(BertConfig, Box<dyn Engine>, TrainerState, File)> {
    let taken = |why: &str, hint: &str| Error::Run {
        path: run.into(),
        why: why.into(),
        hint: hint.into(),
    };
    let checkpoint = latest(run)?;
    let fresh = TrainerState {
        step: 0,
        position: Position::default(),
        tokens: 0,
        dataset: dataset.manifest().digest(),
        config: config.clone(),
    };
    let (model, state, mut trainer, report) = match start {
        Start::Resume => {
            let checkpoint = checkpoint.ok_or_else(|| {
                taken(
                    "there is no checkpoint to resume from",
                    "leave --resume out to begin a run",
                )
            })?;
            let model = BertConfig::read(&checkpoint.join(crate::checkpoint::CONFIG))?;
            matching::check_model(dataset, &checkpoint, &model)?;
            let (mut trainer, state) = read_state(&checkpoint)?;
            let asked = PretrainConfig {
                precision: config.precision.or(trainer.config.precision),
                ..config.clone()
            };
            let mut differences = asked.differences(&trainer.config);
            if trainer.dataset != fresh.dataset {
                differences.push("the dataset is another one".into());
            }
            if !differences.is_empty() {
                return Err(taken(
                    &format!(
                        "the run was started differently: {}",
                        differences.join("; ")
                    ),
                    "resume with what it was started with, or begin another run",
                ));
            }
            trainer.config = asked;
            (model, state, trainer, None)
        }
        _ if checkpoint.is_some() => {
            return Err(taken(
                "holds a run already",
                "give another --out, or --resume to continue it",
            ));
        }
        _ if run.join(LOG).exists() => {
            return Err(taken(
                "holds the log of a run that was stopped before its first checkpoint",
                "delete the folder, or give another --out",
            ));
        }
        _ if holds_other_files(run) => {
            return Err(taken(
                "holds other files already",
                "give an --out that does not exist yet",
            ));
        }
        Start::Init(folder) => {
            let (model, parameters, report) = read_model(folder, config.seed)?;
            matching::check_model(dataset, folder, &model)?;
            (model, EngineState::initial(parameters), fresh, Some(report))
        }
        Start::Config(path) => {
            let model = BertConfig::read(path)?;
            matching::check_shape(dataset, path, &model)?;
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
    if let Some(split) = dataset.split("train") {
        Feed::new(
            dataset,
            split,
            config.rule(),
            config.seed,
            config.batch_tokens,
            model.vocab_size,
        )?;
    }
    // So does a device that is not there.
    let asked = trainer.config.build();
    let built = device::build(asked, &model, config.objective, state)?;
    trainer.config.precision = Some(built.precision);
    fs::create_dir_all(run).map_err(cloze_shard::Error::io(run))?;
    let lock = lock(run)?;
    observer.on_start(&Begun {
        dataset,
        config: &model,
        engine: built.engine.as_ref(),
        device: &built.why,
        report: report.as_ref(),
        step: trainer.step,
    });
    Ok((model, built.engine, trainer, lock))
}

/// Whether there is anything in the folder, but for the lock of a run that never began.
fn holds_other_files(run: &Path) -> bool {
    let other = |e: std::io::Result<fs::DirEntry>| e.is_ok_and(|e| e.file_name() != LOCK);
    fs::read_dir(run).is_ok_and(|mut files| files.any(other))
}

/// Keeps other processes out of the run, for as long as the file is open; the system gives it back when a process dies.
fn lock(run: &Path) -> Result<File> {
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
    log: Log,
    trainer: TrainerState,
}

impl Run<'_> {
    fn feed<'s>(&self, split: &'s Split) -> Result<Feed<'s>> {
        let config = self.config;
        Feed::new(
            self.dataset,
            split,
            config.rule(),
            config.seed,
            config.batch_tokens,
            self.model.vocab_size,
        )
    }

    fn train(mut self, observer: &mut dyn Observer) -> Result<Summary> {
        let mut feed = self.feed(self.train)?;
        feed.seek(self.trainer.position);
        let remaining = self.config.steps.saturating_sub(self.trainer.step);
        let validation = std::thread::scope(|scope| {
            let (send, receive) = sync_channel::<Result<(MaskedBatch, Position)>>(AHEAD);
            scope.spawn(move || {
                for _ in 0..remaining {
                    let next = feed.next_batch().and_then(|b| b.ok_or(Error::FeedStopped));
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
        next: &mut dyn FnMut() -> Result<(MaskedBatch, Position)>,
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
            let (batch, position) = next()?;
            clock.waited += waiting.elapsed().as_secs_f64();
            let learning_rate = self.step(&batch, position)?;
            clock.steps += 1;
            clock.tokens += batch.tokens() as u64;
            let step = self.trainer.step;
            let last = step == config.steps;
            let due = |every: u64| last || (every > 0 && step.is_multiple_of(every));
            if due(config.log_every) || step == 1 {
                let record = clock.complete(self.record(learning_rate)?, config.steps);
                observer.on_step(&record);
                self.log.write(&Record::Train(record))?;
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
    fn step(&mut self, batch: &MaskedBatch, position: Position) -> Result<f64> {
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
        self.engine
            .accumulate(batch, &Whole::of(batch), dropout.as_ref())?;
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
        self.trainer.tokens += batch.tokens() as u64;
        Ok(learning_rate)
    }

    /// What became of the steps up to the last, once it is done. A step that could not be made is an error.
    fn record(&mut self, learning_rate: f64) -> Result<StepRecord> {
        let outcome = self.engine.outcome()?;
        let step = self.trainer.step;
        let (loss, norm) = (outcome.loss, outcome.grad_norm);
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

    fn validate(&mut self, observer: &mut dyn Observer) -> Result<Option<EvalReport>> {
        let Some(split) = self.dataset.split("validation").filter(|s| s.rows() > 0) else {
            return Ok(None);
        };
        let mut feed = self.feed(split)?.in_order().at_most(self.config.eval_rows);
        let report = eval::run(self.engine.as_mut(), &mut feed, &mut |_| ())?;
        let record = ValidationRecord {
            step: self.trainer.step,
            report: report.clone(),
        };
        observer.on_validation(&record);
        self.log.write(&Record::Validation(record))?;
        Ok(Some(report))
    }

    fn checkpoint(&mut self, observer: &mut dyn Observer) -> Result<()> {
        self.log.sync()?;
        // Parameters are those of the step before where a step could not be made, which is not what a checkpoint says.
        self.record(0.0)?;
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
