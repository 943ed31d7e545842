//! Training with one seed.

use std::path::Path;

use cloze_train::checkpoint::{CONFIG, initial_parameters};
use cloze_train::engine::{Dropout, Engine, EngineState, Optimizer, OptimizerStep, Whole};
use cloze_train::{BertConfig, Build};

use super::evaluate::{Prediction, gather, measure, outputs, predictions};
use super::results::{Cut, Evaluation, SeedResult};
use super::{FinetuneConfig, Observer, Set, Sets, Started, StepDone, batches};
use crate::data::{Data, Task};
use crate::heads::Head;
use crate::metrics::{Metrics, is_better, main_metric};
use crate::{Error, Model, Result, Row, batch};

/// How a seed ended.
pub struct Ended {
    /// What came out; `None` where it ended too early for that. Of a seed that was cut short, the best so far, not measured on the test examples.
    pub outcome: Option<Outcome>,
    /// Why it did not come to its end.
    pub cut: Option<(Cut, Error)>,
}

/// What came out of a seed.
pub struct Outcome {
    pub config: BertConfig,
    /// All parameters of the best model.
    pub parameters: Vec<f32>,
    /// What it says about the test examples.
    pub predictions: Vec<Prediction>,
    pub result: SeedResult,
    /// What the best was chosen by, where there was something, and its value.
    pub metric: Option<String>,
    pub value: Option<f64>,
}

/// The best model so far.
struct Best {
    parameters: Vec<f32>,
    evaluation: Evaluation,
    value: Option<f64>,
}

/// What is at work with a seed.
struct Run<'a> {
    engine: Box<dyn Engine>,
    head: Head,
    hidden: usize,
    task: &'a Task,
    sets: &'a Sets,
    options: &'a FinetuneConfig,
    seed: u64,
    dropout: Dropout,
    /// The sum of the losses since the last evaluation, and how many they are.
    losses: (f64, u64),
    /// Steps that were tried.
    steps: u64,
    skipped: u64,
    skipped_in_a_row: u64,
}

/// Trains with `seed`, and measures the best model on the test examples.
pub fn train(
    model: &Path,
    data: &Data,
    sets: &Sets,
    seed: u64,
    options: &FinetuneConfig,
    build: Build,
    observer: &mut dyn Observer,
) -> Result<Ended> {
    let shape = BertConfig::read(&model.join(CONFIG))?;
    let heads = Head::shapes(&data.task, shape.hidden_size);
    let mut model = Model::open(model, &heads, build, seed).map_err(foreign_head)?;
    let redrawn = redraw_foreign_head(&mut model, &data.task, seed)?;
    let config = model.config;
    let lengths = sets.train.lengths();
    let steps = options.steps(lengths.len());
    let steps_an_epoch = options.steps_an_epoch(lengths.len());
    let all = [&sets.train, &sets.dev, &sets.test];
    observer.on_start(&Started {
        seed,
        first: seed == options.seed,
        config: &config,
        device: format!("{}; {}", model.engine.describe(), model.device),
        report: &model.report,
        redrawn,
        steps_an_epoch,
        steps,
        cut: (
            all.iter().map(|s| s.cut()).sum(),
            all.iter().map(|s| s.rows.len()).sum(),
        ),
        cut_words: sets.dev.cut_words() + sets.test.cut_words(),
    });
    let head = Head::new(&data.task, &config, model.engine.layout(), options.dropout)?;
    let mut run = Run {
        engine: model.engine,
        head,
        hidden: config.hidden_size,
        task: &data.task,
        sets,
        options,
        seed,
        dropout: Dropout {
            seed,
            step: 0,
            hidden: options.dropout.unwrap_or(config.hidden_dropout_prob),
            attention: options
                .dropout
                .unwrap_or(config.attention_probs_dropout_prob),
        },
        losses: (0.0, 0),
        steps: 0,
        skipped: 0,
        skipped_in_a_row: 0,
    };
    let (mut best, mut history) = (None, Vec::new());
    let learned = run.learn(&lengths, &mut best, &mut history, observer);
    run.finish(learned, best, history, config, observer)
}

/// What became of a seed that failed in a way that leaves others alone, else the failure.
fn cut(seed: u64, error: Error) -> Result<(Cut, Error)> {
    let (step, why) = match &error {
        Error::NonFinite { step, .. } | Error::Diverged { step, .. } => (*step, "diverged"),
        Error::Stopped { step, .. } => (*step, "stopped"),
        _ => return Err(error),
    };
    Ok((Cut { seed, step, why }, error))
}

impl Run<'_> {
    /// All steps and evaluations.
    fn learn(
        &mut self,
        lengths: &[usize],
        best: &mut Option<Best>,
        history: &mut Vec<Evaluation>,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let options = self.options;
        let (steps, steps_an_epoch) = (
            options.steps(lengths.len()),
            options.steps_an_epoch(lengths.len()),
        );
        let mut without = 0;
        for epoch in 0..options.epochs {
            for rows in batches::epoch(self.seed, epoch, lengths, options.batch_size) {
                self.steps += 1;
                let step = self.steps;
                self.step(step, steps, &rows, observer)?;
                let due = match options.eval_every {
                    0 => step.is_multiple_of(steps_an_epoch),
                    every => step.is_multiple_of(every) || step == steps,
                };
                if !due || self.sets.dev.rows.is_empty() {
                    continue;
                }
                let epoch = step as f64 / steps_an_epoch as f64;
                let evaluation = self.evaluate(step, epoch, observer)?;
                let metric = self.metric(&evaluation.dev);
                let value = evaluation.value(&metric);
                let better = (best.as_ref()).is_none_or(|b| is_better(&metric, value, b.value));
                observer.on_evaluation(&evaluation, better);
                history.push(evaluation.clone());
                without = if better { 0 } else { without + 1 };
                if better {
                    *best = Some(Best {
                        parameters: self.engine.parameters()?,
                        evaluation,
                        value,
                    });
                }
                if options.patience.is_some_and(|p| without >= p) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// An error where the observer asks to stop.
    fn go_on(&self, observer: &mut dyn Observer) -> Result<()> {
        match observer.should_stop() {
            false => Ok(()),
            true => Err(Error::Stopped {
                seed: self.seed,
                step: self.steps,
            }),
        }
    }

    /// One step, on these rows of the training examples.
    fn step(
        &mut self,
        step: u64,
        steps: u64,
        rows: &[usize],
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let set = &self.sets.train;
        let options = self.options;
        self.dropout.step = step;
        let drops = self.dropout.hidden > 0.0 || self.dropout.attention > 0.0;
        let chosen: Vec<&Row> = rows.iter().map(|&i| &set.rows[i]).collect();
        let batch = batch(chosen.iter().copied());
        let (dropout, h) = (self.dropout, self.hidden);
        let inside = drops.then_some(&dropout);
        let places = self.head.places(&chosen);
        let mut loss = 0.0;
        // Where no word has a place nothing is learned.
        if !places.is_empty() {
            let encoded = self.engine.encode(&batch, &Whole::of(&batch), inside)?;
            let goals = self
                .head
                .goals(rows.iter().map(|&i| (&set.rows[i], &set.targets[i])));
            let values = self.head.values(self.engine.as_mut())?;
            let x = gather(&encoded, &places, h);
            let pass = self.head.train(&values, &x, &goals, Some(&dropout))?;
            let mut gradient = vec![0.0; encoded.len()];
            for (&place, d) in places.iter().zip(pass.input.chunks(h)) {
                gradient[place * h..(place + 1) * h].copy_from_slice(d);
            }
            // What there is no loss of, no step is made of.
            if !pass.loss.is_finite() {
                gradient[0] = f32::NAN;
            }
            self.engine.encode_backward(&batch, inside, &gradient)?;
            for (parameter, gradient) in &pass.parameters {
                self.engine.add_gradient(parameter, gradient)?;
            }
            loss = pass.loss;
        }
        let warmup = options.warmup_steps.unwrap_or(steps / 10);
        let learning_rate =
            options
                .schedule
                .learning_rate(options.learning_rate, step, warmup, steps);
        self.engine.step(&OptimizerStep {
            optimizer: Optimizer::AdamW,
            step,
            learning_rate,
            weight_decay: options.weight_decay,
            betas: (0.9, 0.999),
            eps: 1e-8,
            clip: options.clip,
            layer_decay: options.layer_decay,
        })?;
        let outcome = self.engine.outcome()?;
        if outcome.skipped > self.skipped {
            self.skipped = outcome.skipped;
            self.skipped_in_a_row += 1;
            observer.on_skipped(step, self.skipped);
            if self.skipped_in_a_row >= options.max_skipped {
                return Err(Error::NonFinite {
                    seed: self.seed,
                    step,
                    in_a_row: self.skipped_in_a_row,
                    norm: outcome.grad_norm,
                });
            }
            return self.go_on(observer);
        }
        self.skipped_in_a_row = 0;
        self.losses.0 += loss;
        self.losses.1 += 1;
        observer.on_step(&StepDone {
            step,
            steps,
            loss,
            learning_rate,
            grad_norm: outcome.grad_norm,
            tokens: batch.tokens(),
        });
        self.go_on(observer)
    }

    /// Measures the model as it is on the dev examples.
    fn evaluate(
        &mut self,
        step: u64,
        epoch: f64,
        observer: &mut dyn Observer,
    ) -> Result<Evaluation> {
        let (sum, n) = std::mem::take(&mut self.losses);
        Ok(Evaluation {
            step,
            epoch,
            train_loss: (n > 0).then(|| sum / n as f64),
            dev: self.measured(&self.sets.dev, observer)?.0,
        })
    }

    fn measured(
        &mut self,
        set: &Set,
        observer: &mut dyn Observer,
    ) -> Result<(Metrics, Vec<Vec<f32>>)> {
        let (size, seed, step) = (self.options.batch_size, self.seed, self.steps);
        let mut go_on = || match observer.should_stop() {
            false => Ok(()),
            true => Err(Error::Stopped { seed, step }),
        };
        let (engine, head) = (self.engine.as_mut(), &self.head);
        let outputs = outputs(engine, head, self.hidden, size, set, &mut go_on)?;
        // Nothing is worse than any other there, so nothing could be chosen by it.
        if outputs.iter().flatten().any(|o| !o.is_finite()) {
            return Err(Error::Diverged { seed, step });
        }
        Ok((measure(&self.head, self.task, set, &outputs), outputs))
    }

    /// What the best is chosen by.
    fn metric(&self, metrics: &Metrics) -> String {
        let asked = self.options.metric.clone();
        asked.unwrap_or_else(|| main_metric(metrics).into())
    }

    /// Puts the best model back, and measures it on the test examples, if all was learned.
    fn finish(
        mut self,
        learned: Result<()>,
        best: Option<Best>,
        history: Vec<Evaluation>,
        config: BertConfig,
        observer: &mut dyn Observer,
    ) -> Result<Ended> {
        let seed = self.seed;
        let mut cut_short = learned.err().map(|e| cut(seed, e)).transpose()?;
        if cut_short.is_some() && best.is_none() {
            return Ok(Ended {
                outcome: None,
                cut: cut_short,
            });
        }
        let (parameters, evaluation, value) = match best {
            Some(best) => {
                let state = EngineState::initial(best.parameters.clone());
                self.engine.load_state(state)?;
                (best.parameters, Some(best.evaluation), best.value)
            }
            None => {
                // Without dev examples nothing else has looked at what it says.
                let some = self.sets.train.first(PROBE);
                if let Err(error) = self.measured(&some, observer) {
                    return Ok(Ended {
                        outcome: None,
                        cut: Some(cut(seed, error)?),
                    });
                }
                (self.engine.parameters()?, None, None)
            }
        };
        let sets = self.sets;
        let (mut test, mut said) = (None, Vec::new());
        if cut_short.is_none() && !sets.test.rows.is_empty() {
            match self.measured(&sets.test, observer) {
                Ok((metrics, outputs)) => {
                    said = predictions(self.task, &sets.test, &outputs);
                    test = Some(metrics);
                }
                Err(error) => cut_short = Some(cut(seed, error)?),
            }
        }
        let steps = self.steps;
        let outcome = Outcome {
            metric: evaluation.as_ref().map(|e| self.metric(&e.dev)),
            result: SeedResult {
                seed: self.seed,
                steps,
                skipped: self.skipped,
                best_step: evaluation.as_ref().map_or(steps, |e| e.step),
                dev: evaluation.map(|e| e.dev),
                test,
                history,
            },
            config,
            parameters,
            predictions: said,
            value,
        };
        Ok(Ended {
            outcome: Some(outcome),
            cut: cut_short,
        })
    }
}

/// Training rows that a model must have something to say of, where there are no others.
const PROBE: usize = 64;

/// A folder may hold the output layer of another task, of another shape: that is said.
fn foreign_head(error: Error) -> Error {
    match error {
        Error::Train(cloze_train::Error::Checkpoint { path, why })
            if why.starts_with("classifier.") =>
        {
            Error::Model {
                path,
                why: why.replace("config.json asks", "the task asks"),
                hint: "it was trained for other labels: start from the model that it was made of, or take its classifier.* out".into(),
            }
        }
        other => other,
    }
}

/// A folder may hold the output layer of another task, with as many labels as this one: then it is drawn anew. Whether it was.
fn redraw_foreign_head(model: &mut Model, task: &Task, seed: u64) -> Result<bool> {
    let loaded = |name: &String| name.starts_with("classifier.");
    if !model.report.loaded.iter().any(loaded) {
        return Ok(false);
    }
    let labels = model.config.raw.get("id2label").and_then(|v| v.as_object());
    let name = |i: usize| {
        labels
            .and_then(|l| l.get(&i.to_string()))
            .and_then(|v| v.as_str())
    };
    let same = (0..)
        .zip(&task.labels)
        .all(|(i, label)| name(i) == Some(label));
    if same {
        return Ok(false);
    }
    let fresh = initial_parameters(&model.config, seed);
    let mut parameters = model.engine.parameters()?;
    for p in model.engine.layout().parameters() {
        if loaded(&p.name) {
            parameters[p.range()].copy_from_slice(&fresh[p.range()]);
        }
    }
    model.engine.load_state(EngineState::initial(parameters))?;
    Ok(true)
}
