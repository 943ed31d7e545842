//! Lines of `train.jsonl`.

use serde::{Deserialize, Serialize};

use crate::eval::EvalReport;

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Record {
    /// A logged step.
    Train(StepRecord),
    /// Steps that were not made.
    Skipped(SkipRecord),
    /// An evaluation on the validation split.
    Validation(ValidationRecord),
}

impl Record {
    /// The step that it is about.
    #[must_use]
    pub fn step(&self) -> u64 {
        match self {
            Self::Train(r) => r.step,
            Self::Skipped(r) => r.step,
            Self::Validation(r) => r.step,
        }
    }
}

/// What is logged of a step. Losses are in nats, times in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct StepRecord {
    pub step: u64,
    pub epoch: u32,
    pub loss: f64,
    pub mlm_loss: f64,
    pub nsp_loss: Option<f64>,
    pub learning_rate: f64,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Tokens trained on so far, special tokens included.
    pub tokens: u64,
    pub tokens_per_second: f64,
    /// Share of the time since the last line that was spent waiting for data.
    pub data_wait_fraction: f64,
    pub step_seconds: f64,
    /// Seconds until the last step, at the speed of these steps; evaluations and checkpoints are not counted.
    #[serde(default)]
    pub seconds_left: f64,
}

/// Steps that were not made, because their gradient was not finite: parameters are as they were, the rows are passed over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SkipRecord {
    /// The step after which this was seen.
    pub step: u64,
    /// Steps that were not made since it was looked last.
    pub skipped: u64,
    /// Of the run.
    pub skipped_total: u64,
}

/// An evaluation in the course of training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationRecord {
    /// The step after which it was made.
    pub step: u64,
    /// What was seen.
    #[serde(flatten)]
    pub report: EvalReport,
}
