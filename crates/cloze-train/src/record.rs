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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sop_loss: Option<f64>,
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
    /// What was seen; over all datasets together, where there are several.
    #[serde(flatten)]
    pub report: EvalReport,
    /// What was seen of each dataset, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datasets: Vec<DatasetReport>,
}

/// An evaluation on one of several datasets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatasetReport {
    /// Its folder.
    pub dataset: String,
    /// What was seen of its rows.
    #[serde(flatten)]
    pub report: EvalReport,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::StepRecord;

    /// A record of a step, without anything in it.
    pub fn step(step: u64) -> StepRecord {
        StepRecord {
            step,
            epoch: 0,
            loss: 0.0,
            mlm_loss: 0.0,
            sop_loss: None,
            nsp_loss: None,
            learning_rate: 0.0,
            grad_norm: 0.0,
            tokens: 0,
            tokens_per_second: 0.0,
            data_wait_fraction: 0.0,
            step_seconds: 0.0,
            seconds_left: 0.0,
        }
    }
}
