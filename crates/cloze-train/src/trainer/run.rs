//! The loop: feed, engine, schedule, log, evaluation. What is kept of it is in `keep`.

use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{channel, sync_channel};
use std::time::Instant;

use cloze_shard::{Dataset, Split};

use super::split_rows;

use super::clock::Clock;
use super::skips::Skips;
use super::{Observer, Summary};
use crate::batch::MaskedBatch;
use crate::checkpoint::{Best, TrainerState};
use crate::engine::{BatchLoss, Dropout, Engine, EvalSums, Objective, OptimizerStep};
use crate::eval::{self, EvalReport};
use crate::feed::{Feed, Position, longest_row};
use crate::log::Log;
use crate::parallel::{Collective, Share};
use crate::plan::PretrainConfig;
use crate::record::{DatasetReport, Record, SkipRecord, StepRecord, ValidationRecord};
use crate::samples::{MaskedRow, rows_of};
use crate::schedule::{mask_rate, mask_rate_by_the_clock};
use crate::{BertConfig, Error, Result};

/// Batches that are made ahead.
const AHEAD: usize = 2;

/// How the loop talks to the feed, which is on a thread of its own: asks for a batch with masks at a rate, waits for the next, gives one back.
type FeedThread<'f> = (
    &'f mut dyn FnMut(f64),
    &'f mut dyn FnMut() -> Result<(Share, Position)>,
    &'f mut dyn FnMut(Share),
);

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
    /// The rate of the masks of each step that the feed was asked for and that is not made yet.
    pub rates: VecDeque<f64>,
    /// What the last step was made of: where the feed was before it, and the rate of its masks.
    pub made_of: (Position, f64),
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
    pub fn training_feed(&self) -> Result<Feed<'a>> {
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
        let vocabulary = self.datasets[0].vocabulary()?;
        let mut feed = self.training_feed()?;
        feed.seek(self.trainer.position);
        feed.set_rate(self.mask_rate_at(step));
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
        let (rank, world_size) = (self.peers.rank(), self.peers.world_size());
        let validation = std::thread::scope(|scope| {
            let (send, receive) = sync_channel::<Result<(Share, Position)>>(AHEAD);
            // Batches that were used come back, so that no memory is asked for after the first few.
            let (give_back, spare) = channel::<MaskedBatch>();
            // One for each batch that is wanted.
            let (ask, rates) = channel::<f64>();
            scope.spawn(move || {
                for rate in rates {
                    feed.set_rate(rate);
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
            // A feed that has failed takes nothing, and says why where it is waited for.
            let mut ask_for = |rate: f64| {
                let _ = ask.send(rate);
            };
            let mut next = || receive.recv().unwrap_or(Err(Error::FeedStopped));
            let mut used = |share: Share| drop(give_back.send(share.batch));
            let feed: FeedThread<'_> = (&mut ask_for, &mut next, &mut used);
            let done = self.steps(feed, observer);
            // The feed may wait to be asked, or for somebody to take what it has.
            drop((ask, receive));
            done
        })?;
        let model = self.run.join(crate::checkpoint::MODEL);
        Ok(Summary {
            model,
            steps: self.trainer.step,
            stopped: self.trainer.evaluation_due || !self.is_last(),
            skipped: self.trainer.skipped,
            validation,
        })
    }

    /// Whether nothing is left to do but to evaluate.
    fn is_last(&self) -> bool {
        self.trainer.step >= self.config.steps || self.time_is_over()
    }

    /// Asks the feed for batches, so that it can make some ahead; at which rate they are masked is settled here.
    fn ask_ahead(&mut self, ask: &mut dyn FnMut(f64)) {
        while self.rates.len() < AHEAD + 2 {
            let step = self.trainer.step + 1 + self.rates.len() as u64;
            if step > self.config.steps {
                return;
            }
            let rate = self.mask_rate_at(step);
            self.rates.push_back(rate);
            ask(rate);
        }
    }

    /// The rate of the masks of `step`: of a run by the clock by what of its time is over now.
    fn mask_rate_at(&self, step: u64) -> f64 {
        let config = self.config;
        let (first, last) = (config.mask_rate, config.mask_rate_end);
        match self.spent() {
            Some(spent) => mask_rate_by_the_clock(first, last, spent),
            None => mask_rate(first, last, step, config.steps),
        }
    }

    fn steps(
        &mut self,
        (ask, next, used): FeedThread<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Option<EvalReport>> {
        let config = self.config;
        let mut validation = None;
        let (begun, earlier) = (Instant::now(), self.trainer.seconds);
        if self.trainer.evaluation_due {
            validation = self.validate(observer)?;
            let (step, left) = (self.trainer.step, self.trainer.evaluation_due);
            if step > 0 && !left {
                self.improves(validation.as_ref());
            }
            if step > 0 || left {
                self.checkpoint(observer)?;
            }
            if left {
                return Ok(None);
            }
        }
        if config.steps == 0 && self.trainer.step == 0 {
            // The model as it begins is what was asked for.
            if self.has_validation() && validation.is_none() {
                validation = self.validate(observer)?;
            }
            self.checkpoint(observer)?;
        }
        let mut clock = Clock::start();
        while !self.is_last() {
            self.ask_ahead(ask);
            let (share, position) = clock.waiting(&mut *next)?;
            let rate = self.rates.pop_front().unwrap_or(config.mask_rate);
            self.made_of = (self.trainer.position, rate);
            let learning_rate = self.step(&share, position)?;
            clock.steps += 1;
            clock.tokens += share.tokens as u64;
            used(share);
            let step = self.trainer.step;
            let seconds = earlier + begun.elapsed().as_secs_f64();
            let asked = self.asked_to_stop(observer, seconds)?;
            let last = self.is_last();
            let due = |every: u64| last || (every > 0 && step.is_multiple_of(every));
            self.trainer.evaluation_due = due(config.eval_every) && self.has_validation();
            // At the end there may be nothing left that could be stopped.
            let mut stop = asked && (!last || self.trainer.evaluation_due);
            let careful = self.skips.step();
            let logged = due(config.log_every) || step == 1 || stop;
            // What a checkpoint is written of is looked at before.
            if logged || careful || due(config.checkpoint_every) || due(config.eval_every) {
                let made = self.look(learning_rate, observer)?;
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
            if self.trainer.evaluation_due && !stop {
                validation = clock.outside(|| self.validate(observer))?;
                improved = self.improves(validation.as_ref());
                stop = self.trainer.evaluation_due;
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
        let stop = observer.should_stop(self.trainer.step);
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

    /// What became of the last step, once it is done; `None` where it was not made.
    fn look(
        &mut self,
        learning_rate: f64,
        observer: &mut dyn Observer,
    ) -> Result<Option<StepRecord>> {
        let outcome = self.engine.outcome()?;
        let loss = self.summed(outcome.loss)?;
        let config = self.config;
        let total = config.mlm_weight * loss.mlm + config.nsp_weight * loss.nsp.unwrap_or(0.0);
        let made = outcome.grad_norm.is_finite();
        let new = self.skips.look(outcome.skipped, !made);
        self.trainer.skipped_in_a_row = self.skips.in_a_row();
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
            return Err(self.diverged(&outcome, observer));
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

    pub fn write(&mut self, record: &Record) -> Result<()> {
        self.log.as_mut().map_or(Ok(()), |log| log.write(record))
    }

    fn has_validation(&self) -> bool {
        !split_rows(self.datasets, "validation").is_empty()
    }

    /// Evaluates on the validation rows of each dataset, in turn. What is reported is over all of them, and over each beside it. An evaluation that any
    /// process is asked to stop in stays due, and there is no report.
    fn validate(&mut self, observer: &mut dyn Observer) -> Result<Option<EvalReport>> {
        let datasets: &'a [Dataset] = self.datasets;
        let sources = split_rows(datasets, "validation");
        let order = self.config.objective == Objective::MlmSop;
        let (mut all, mut each) = (EvalSums::default(), Vec::new());
        for source in &sources {
            let feed = self.feed(&[*source], &[])?;
            let mut feed = feed.in_order().at_most(self.config.eval_rows);
            let most = self.config.pass_tokens;
            let step = self.trainer.step;
            let mut left = || observer.should_stop(step);
            let engine = self.engine.as_mut();
            let sums = eval::run_shared(engine, &mut feed, most, self.peers, &mut left)?;
            let Some(sums) = sums else {
                return Ok(None);
            };
            all += sums;
            each.push(DatasetReport {
                dataset: source.0.path().display().to_string(),
                report: EvalReport::of(sums, order),
            });
        }
        self.trainer.evaluation_due = false;
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
        let Some(loss) = report.and_then(|r| self.config.weighted(r)) else {
            return false;
        };
        let better = self.trainer.best.is_none_or(|best| loss < best.loss);
        if better {
            let step = self.trainer.step;
            self.trainer.best = Some(Best { step, loss });
        }
        better
    }
}
