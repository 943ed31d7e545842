//! What fine-tuning is asked for.

use cloze_train::schedule::Schedule;
use serde::{Deserialize, Serialize};

use crate::data::{Data, TaskKind};
use crate::{Error, Result};

/// What fine-tuning is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FinetuneConfig {
    /// Times that each example is learned from.
    pub epochs: u64,
    /// Rows of a step.
    pub batch_size: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Steps of linear warmup; a tenth of all where it is `None`.
    pub warmup_steps: Option<u64>,
    /// What becomes of the rate after it.
    pub schedule: Schedule,
    /// What the rate of a layer is of that of the layer above it.
    pub layer_decay: f64,
    /// Decoupled weight decay of matrices and embeddings.
    pub weight_decay: f64,
    /// Largest global norm of the gradient; 0 for no clipping.
    pub clip: f64,
    /// Dropout everywhere, the head too; the model's own where it is `None`.
    pub dropout: Option<f64>,
    /// Most tokens of a row; 128, or what the model has positions for, where it is `None`.
    pub max_length: Option<usize>,
    /// Steps between evaluations; 0 for one after each epoch.
    pub eval_every: u64,
    /// Evaluations without a better one, after which training stops.
    pub patience: Option<u64>,
    /// What the best model is chosen by; the task's own where it is `None`.
    pub metric: Option<String>,
    /// The first seed: it keys order, dropout, and what is drawn.
    pub seed: u64,
    /// Seeds.
    pub seeds: u64,
    /// Steps in a row without a finite gradient, after which training stops.
    pub max_skipped: u64,
}

impl Default for FinetuneConfig {
    fn default() -> Self {
        Self {
            epochs: 3,
            batch_size: 32,
            learning_rate: 5e-5,
            warmup_steps: None,
            schedule: Schedule::Linear,
            layer_decay: 1.0,
            weight_decay: 0.01,
            clip: 1.0,
            dropout: None,
            max_length: None,
            eval_every: 0,
            patience: None,
            metric: None,
            seed: 0,
            seeds: 1,
            max_skipped: 10,
        }
    }
}

const LENGTH: usize = 128;
const MOST_EPOCHS: u64 = 1_000_000;

impl FinetuneConfig {
    /// Refuses what is out of range, or does not go with `data`.
    pub(crate) fn check(&self, data: &Data) -> Result<()> {
        let fail = |option, why: String| Err(Error::Option { option, why });
        let positive = [
            ("--epochs", self.epochs as f64),
            ("--batch-size", self.batch_size as f64),
            ("--learning-rate", self.learning_rate),
            ("--seeds", self.seeds as f64),
            ("--max-skipped", self.max_skipped as f64),
        ];
        for (option, value) in positive {
            if !(value > 0.0 && value.is_finite()) {
                return fail(option, format!("is {value}, must be over 0"));
            }
        }
        if self.epochs > MOST_EPOCHS {
            let why = format!("is {}, at most {MOST_EPOCHS} are possible", self.epochs);
            return fail("--epochs", why);
        }
        for (option, value) in [("--weight-decay", self.weight_decay), ("--clip", self.clip)] {
            if !(value >= 0.0 && value.is_finite()) {
                return fail(option, format!("is {value}, must be a number from 0"));
            }
        }
        if !(self.layer_decay > 0.0 && self.layer_decay <= 1.0) {
            let why = format!("is {}, must be over 0 and at most 1", self.layer_decay);
            return fail("--layer-decay", why);
        }
        if let Some(p) = self.dropout.filter(|p| !(0.0..1.0).contains(p)) {
            return fail("--dropout", format!("is {p}, must be from 0 to under 1"));
        }
        let steps = self.steps(data.train.len());
        if let Some(warmup) = self.warmup_steps.filter(|&w| w > steps) {
            let why = format!("is {warmup}, but there are {steps} steps in all");
            return fail("--warmup-steps", why);
        }
        if data.dev.is_empty() {
            for (option, given) in [
                ("--patience", self.patience.is_some()),
                ("--eval-every", self.eval_every > 0),
                ("--metric", self.metric.is_some()),
            ] {
                if given {
                    let why = "needs examples to measure on: give them with --dev".into();
                    return fail(option, why);
                }
            }
        }
        if self.patience == Some(0) {
            return fail("--patience", "is 0, must be at least 1".into());
        }
        let known = metrics_of(data);
        match &self.metric {
            Some(name) if !known.contains(&name.as_str()) => {
                let kind = data.task.kind;
                let why = format!("is {name:?}; {kind} has: {}", known.join(", "));
                fail("--metric", why)
            }
            _ => Ok(()),
        }
    }

    /// Steps of an epoch of `rows`.
    pub(crate) fn steps_an_epoch(&self, rows: usize) -> u64 {
        rows.div_ceil(self.batch_size) as u64
    }

    /// Steps in all.
    pub(crate) fn steps(&self, rows: usize) -> u64 {
        self.epochs * self.steps_an_epoch(rows)
    }

    /// Most tokens of a row of a model with so many positions.
    pub(crate) fn length(&self, positions: usize) -> Result<usize> {
        let length = self.max_length.unwrap_or(LENGTH.min(positions));
        let fail = |why: String| {
            Err(Error::Option {
                option: "--max-length",
                why,
            })
        };
        match length {
            n if n > positions => fail(format!("is {n}, but the model has {positions} positions")),
            n if n < 4 => fail(format!("is {n}, must be at least 4")),
            n => Ok(n),
        }
    }
}

/// The names of a task's metrics.
fn metrics_of(data: &Data) -> Vec<&'static str> {
    use crate::metrics;

    let metrics = match data.task.kind {
        TaskKind::Classification => metrics::classes(&[], 0),
        TaskKind::Regression => metrics::numbers(&[]),
        TaskKind::MultiLabel => metrics::sets(&[], 0),
        TaskKind::TokenClassification => metrics::tags(&[], &data.task.labels),
    };
    metrics.into_iter().map(|m| m.0).chain(["loss"]).collect()
}
