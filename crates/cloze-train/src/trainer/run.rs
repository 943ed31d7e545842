//! The loop: feed, engine, schedule, log, evaluation, checkpoints.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{channel, sync_channel};
use std::time::Instant;

use cloze_shard::manifest::TOKENIZER_FOLDER;
use cloze_shard::{Dataset, Split, Vocabulary};

use super::split_rows;

use super::clock::Clock;
use super::skips::Skips;
use super::{Observer, Summary};
use crate::batch::MaskedBatch;
use crate::checkpoint::{Best, Checkpoint, TrainerState, write_checkpoint};
use crate::engine::{BatchLoss, Dropout, Engine, EvalSums, Objective, OptimizerStep, StepOutcome};
use crate::eval::{self, EvalReport};
use crate::feed::{Feed, Position, longest_row};
use crate::log::Log;
use crate::parallel::{Collective, Share};
use crate::plan::PretrainConfig;
use crate::record::{DatasetReport, Record, SkipRecord, StepRecord, ValidationRecord};
use crate::samples::{MaskedRow, rows_of};
use crate::{BertConfig, Error, Result};

/// Batches that are made ahead.
const AHEAD: usize = 2;

/// Rows that an error names.
const NAMED: usize = 5;

pub(super) struct Run<'a> {
    pub datasets: &'a [Dataset],
    pub run: &'a Path,
    pub config: &'a PretrainConfig,
    pub model: BertConfig,
    pub engine: Box<dyn Engine>,
    pub skips: Skips,
    /// Rank 0's.
    pub log: Option<Log>,
    pub trainer: TrainerState,
    pub peers: &'a mut dyn Collective,
    pub _lock: Option<File>,
}

impl<'a> Run<'a> {
    /// The feed of these rows.
    fn feed<'s>(&self, sources: &[(&Dataset, &'s Split)], mix: &[f64]) -> Result<Feed<'s>> {
        let config = self.config;
        let feed = Feed::mixed(
            sources,
            mix,
            config.rule(),
            config.seed,
            config.batch_tokens,
            self.model.vocab_size,
        )?;
        let feed = feed.sentence_order(config.objective == Objective::MlmSop);
        let longest = sources.iter().map(|(d, _)| longest_row(d.manifest())).max();
        // A GPU draws masks as it goes; masks by words or at rates that change are drawn here.
        Ok(
            match self.engine.on_gpu() && config.mask_rate_end.is_none() {
                true => feed.deferred(longest.unwrap_or(0)),
                false => feed,
            },
        )
    }

    /// The feed of all training rows.
    fn training_feed(&self) -> Result<Feed<'a>> {
        let datasets: &'a [Dataset] = self.datasets;
        let sources = split_rows(datasets, "train");
        let feed = self.feed(&sources, &self.config.mix)?;
        Ok(feed.group_lengths(self.config.group_lengths))
    }

    /// The first `most` rows of the next step, for a person.
    pub fn first_rows(&self, most: usize) -> Result<Vec<MaskedRow>> {
        let (config, step) = (self.config, self.trainer.step + 1);
        if step > config.steps || self.peers.rank() > 0 {
            return Ok(Vec::new());
        }
        let folder = self.datasets[0].path().join(TOKENIZER_FOLDER);
        let vocabulary = Vocabulary::read(&folder)?;
        let mut feed = self.training_feed()?;
        feed.seek(self.trainer.position);
        feed.set_rate(config.mask_rate_at(step));
        let mut rows = Vec::new();
        for number in feed.next_rows().into_iter().take(most) {
            let mut row = feed.row(number)?;
            row.settle();
            rows.extend(rows_of(&row, &vocabulary));
        }
        Ok(rows)
    }

    pub fn train(mut self, observer: &mut dyn Observer) -> Result<Summary> {
        let mut feed = self.training_feed()?;
        feed.seek(self.trainer.position);
        let (config, first) = (self.config, self.trainer.step + 1);
        let (rank, world_size) = (self.peers.rank(), self.peers.world_size());
        let validation = std::thread::scope(|scope| {
            let (send, receive) = sync_channel::<Result<(Share, Position)>>(AHEAD);
            // Batches that were used come back, so that no memory is asked for after the first few.
            let (give_back, spare) = channel::<MaskedBatch>();
            scope.spawn(move || {
                for step in first..=config.steps {
                    feed.set_rate(config.mask_rate_at(step));
                    let batch = spare.try_recv().unwrap_or_default();
                    let next = feed.next_share_in(batch, rank, world_size);
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
            // A feed that is done takes none back.
            let mut used = |share: Share| drop(give_back.send(share.batch));
            let done = self.steps(&mut next, &mut used, observer);
            // The feed may wait for somebody to take what it has.
            drop(receive);
            done
        })?;
        let model = self.run.join(crate::checkpoint::MODEL);
        Ok(Summary {
            model,
            steps: self.trainer.step,
            stopped: self.trainer.step < self.config.steps && !self.time_is_over(),
            skipped: self.trainer.skipped,
            validation,
        })
    }

    fn steps(
        &mut self,
        next: &mut dyn FnMut() -> Result<(Share, Position)>,
        used: &mut dyn FnMut(Share),
        observer: &mut dyn Observer,
    ) -> Result<Option<EvalReport>> {
        let config = self.config;
        let mut validation = None;
        let (begun, earlier) = (Instant::now(), self.trainer.seconds);
        if self.trainer.step == 0 && config.eval_every > 0 {
            self.validate(observer)?;
        }
        let mut clock = Clock::start();
        while self.trainer.step < config.steps && !self.time_is_over() {
            let (share, position) = clock.waiting(&mut *next)?;
            let before = self.trainer.position;
            let learning_rate = self.step(&share, position)?;
            clock.steps += 1;
            clock.tokens += share.tokens as u64;
            used(share);
            let step = self.trainer.step;
            let seconds = earlier + begun.elapsed().as_secs_f64();
            let asked = self.asked_to_stop(observer, seconds)?;
            let last = step == config.steps || self.time_is_over();
            let stop = asked && !last;
            let due = |every: u64| last || (every > 0 && step.is_multiple_of(every));
            let careful = self.skips.step();
            let logged = due(config.log_every) || step == 1 || stop;
            // What a checkpoint is written of is looked at before.
            if logged || careful || due(config.checkpoint_every) || due(config.eval_every) {
                let made = self.look(learning_rate, before, observer)?;
                if let Some(record) = made.filter(|_| logged) {
                    let record = clock.complete(record, config.steps, self.seconds_left());
                    observer.on_step(&record);
                    self.write(&Record::Train(record))?;
                }
                if logged {
                    clock = Clock::start();
                }
            }
            let mut improved = false;
            if due(config.eval_every) {
                validation = clock.outside(|| self.validate(observer))?;
                improved = self.improves(validation.as_ref());
            }
            if due(config.checkpoint_every) || improved || stop {
                clock.outside(|| self.checkpoint(observer))?;
            }
            if stop {
                break;
            }
        }
        Ok(validation)
    }

    /// Whether any process is asked to stop. All take the clock of the first, which says how many `seconds` the run has had.
    fn asked_to_stop(&mut self, observer: &mut dyn Observer, seconds: f64) -> Result<bool> {
        let stop = observer.should_stop();
        // Where nothing depends on it, nothing that is kept does.
        let seconds = self.config.hours.map_or(0.0, |_| seconds);
        if self.peers.world_size() == 1 {
            self.trainer.seconds = seconds;
            return Ok(stop);
        }
        let own = if self.peers.rank() == 0 { seconds } else { 0.0 };
        let mut told = [f64::from(u8::from(stop)), own];
        self.peers.all_reduce_f64(&mut told)?;
        self.trainer.seconds = told[1];
        Ok(told[0] > 0.0)
    }

    /// The share of the time that is over, where the run ends by the clock.
    fn spent(&self) -> Option<f64> {
        let seconds = self.config.hours? * 3_600.0;
        Some(self.trainer.seconds / seconds)
    }

    fn time_is_over(&self) -> bool {
        self.spent().is_some_and(|spent| spent >= 1.0)
    }

    fn seconds_left(&self) -> Option<f64> {
        Some((self.config.hours? * 3_600.0 - self.trainer.seconds).max(0.0))
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
        let weights = [config.mlm_weight, config.nsp_weight];
        let mut passes = share.passes(config.pass_tokens, weights);
        let last = passes.pop();
        for (batch, whole) in &passes {
            self.engine.accumulate(batch, whole, dropout.as_ref())?;
        }
        if let Some((batch, whole)) = &last {
            self.engine
                .accumulate_and_sum(batch, whole, dropout.as_ref(), self.peers)?;
        }
        let (peak, warmup) = (config.learning_rate, config.warmup_steps);
        let learning_rate = match self.spent() {
            Some(spent) => config.schedule.by_the_clock(peak, step, warmup, spent),
            None => (config.schedule).learning_rate(peak, step, warmup, config.steps),
        };
        self.engine.step(&OptimizerStep {
            step,
            learning_rate,
            weight_decay: config.weight_decay,
            betas: (config.beta1, config.beta2),
            eps: config.epsilon,
            clip: config.clip,
            layer_decay: config.layer_decay,
            optimizer: config.optimizer,
        })?;
        self.trainer.step = step;
        self.trainer.position = position;
        self.trainer.tokens += share.tokens as u64;
        Ok(learning_rate)
    }

    /// What became of the last step, once it is done; `None` where it was not made. `before` is where the feed was.
    fn look(
        &mut self,
        learning_rate: f64,
        before: Position,
        observer: &mut dyn Observer,
    ) -> Result<Option<StepRecord>> {
        let outcome = self.engine.outcome()?;
        let loss = self.summed(outcome.loss)?;
        let config = self.config;
        let total = config.mlm_weight * loss.mlm + config.nsp_weight * loss.nsp.unwrap_or(0.0);
        let made = outcome.grad_norm.is_finite();
        let new = self.skips.look(outcome.skipped, !made);
        let step = self.trainer.step;
        if new > 0 {
            self.trainer.skipped += new;
            let record = SkipRecord {
                step,
                skipped: new,
                skipped_total: self.trainer.skipped,
            };
            observer.on_skipped(&record);
            self.write(&Record::Skipped(record))?;
        }
        if self.skips.too_many() {
            return Err(self.diverged(before, &outcome));
        }
        Ok(made.then_some(StepRecord {
            step,
            epoch: self.trainer.position.epoch,
            loss: total,
            mlm_loss: loss.mlm,
            nsp_loss: loss.nsp.filter(|_| config.objective != Objective::MlmSop),
            sop_loss: loss.nsp.filter(|_| config.objective == Objective::MlmSop),
            learning_rate,
            grad_norm: outcome.grad_norm,
            tokens: self.trainer.tokens,
            tokens_per_second: 0.0,
            data_wait_fraction: 0.0,
            step_seconds: 0.0,
            seconds_left: 0.0,
        }))
    }

    /// The losses of all processes together.
    fn summed(&mut self, loss: BatchLoss) -> Result<BatchLoss> {
        if self.peers.world_size() == 1 {
            return Ok(loss);
        }
        let mut sums = [loss.mlm, loss.nsp.unwrap_or(0.0)];
        self.peers.all_reduce_f64(&mut sums)?;
        Ok(BatchLoss {
            mlm: sums[0],
            nsp: loss.nsp.map(|_| sums[1]),
        })
    }

    /// Why training cannot go on, with the rows of the last step that have no finite loss by themselves.
    fn diverged(&mut self, before: Position, outcome: &StepOutcome) -> Error {
        let named = self.broken_rows(before);
        let rows = match named {
            Ok((rows, all)) if rows.is_empty() => {
                format!("each of its {all} rows has a finite loss by itself")
            }
            Ok((rows, all)) => format!(
                "{} of its {all} rows have no finite loss: {}",
                rows.len(),
                {
                    let mut names: Vec<String> = rows.into_iter().take(NAMED + 1).collect();
                    if names.len() > NAMED {
                        names[NAMED] = "…".into();
                    }
                    names.join(", ")
                }
            ),
            Err(e) => format!("its rows could not be looked at: {e}"),
        };
        Error::NonFinite {
            step: self.trainer.step,
            in_a_row: self.config.max_skipped,
            norm: outcome.grad_norm,
            rows,
        }
    }

    /// The rows of the batch at `position` whose own loss is not finite, by name, and how many rows there are.
    fn broken_rows(&mut self, position: Position) -> Result<(Vec<String>, usize)> {
        let mut feed = self.training_feed()?;
        feed.seek(position);
        feed.set_rate(self.config.mask_rate_at(self.trainer.step));
        let numbers = feed.next_rows();
        let mut broken = Vec::new();
        for &number in &numbers {
            let sums = self.engine.evaluate(&feed.row(number)?)?;
            if !(sums.mlm_loss + sums.nsp_loss).is_finite() {
                let (path, row) = feed.locate(number);
                broken.push(format!("{} row {row}", path.display()));
            }
        }
        Ok((broken, numbers.len()))
    }

    fn write(&mut self, record: &Record) -> Result<()> {
        self.log.as_mut().map_or(Ok(()), |log| log.write(record))
    }

    /// Evaluates on the validation rows of each dataset, in turn. What is reported is over all of them, and over each beside it.
    fn validate(&mut self, observer: &mut dyn Observer) -> Result<Option<EvalReport>> {
        let datasets: &'a [Dataset] = self.datasets;
        let sources = split_rows(datasets, "validation");
        let order = self.config.objective == Objective::MlmSop;
        let (mut all, mut each) = (EvalSums::default(), Vec::new());
        for source in &sources {
            let feed = self.feed(&[*source], &[])?;
            let mut feed = feed.in_order().at_most(self.config.eval_rows);
            let most = self.config.pass_tokens;
            let sums = eval::run_shared(self.engine.as_mut(), &mut feed, most, self.peers)?;
            all += sums;
            each.push(DatasetReport {
                dataset: source.0.path().display().to_string(),
                report: EvalReport::of(sums, order),
            });
        }
        if each.is_empty() {
            return Ok(None);
        }
        if datasets.len() == 1 {
            each.clear();
        }
        let report = EvalReport::of(all, order);
        let record = ValidationRecord {
            step: self.trainer.step,
            report: report.clone(),
            datasets: each,
        };
        observer.on_validation(&record);
        self.write(&Record::Validation(record))?;
        Ok(Some(report))
    }

    /// Whether an evaluation is the best so far: by the weighted sum of its losses. It is remembered.
    fn improves(&mut self, report: Option<&EvalReport>) -> bool {
        let Some(mlm) = report.and_then(|r| r.mlm_loss) else {
            return false;
        };
        let nsp = match self.config.objective {
            Objective::MlmNsp | Objective::MlmSop => {
                report.and_then(EvalReport::pair_loss).unwrap_or(0.0)
            }
            Objective::Mlm => 0.0,
        };
        let loss = self.config.mlm_weight * mlm + self.config.nsp_weight * nsp;
        let better = self.trainer.best.is_none_or(|best| loss < best.loss);
        if better && loss.is_finite() {
            let step = self.trainer.step;
            self.trainer.best = Some(Best { step, loss });
        }
        better && loss.is_finite()
    }

    fn checkpoint(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let Some(log) = &mut self.log else {
            return Ok(());
        };
        log.sync()?;
        let engine = self.engine.state()?;
        let checkpoint = Checkpoint {
            config: &self.model,
            layout: self.engine.layout(),
            engine: &engine,
            trainer: &self.trainer,
            tokenizer: &self.datasets[0].path().join(TOKENIZER_FOLDER),
        };
        let path = write_checkpoint(self.run, &checkpoint, self.config.keep)?;
        observer.on_checkpoint(&path);
        Ok(())
    }
}
