//! What a run is asked for.

use cloze_shard::masking::{MaskUnit, MaskingRule};
use serde::{Deserialize, Serialize};

use crate::device::{Build, DeviceChoice};
use crate::engine::{EngineKind, Objective, Optimizer, Precision};
use crate::eval::EvalReport;
use crate::schedule::Schedule;
use crate::{Error, Result};

/// What a run is asked for. Everything that decides what comes out is compared when it is resumed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PretrainConfig {
    /// Which losses are trained.
    pub objective: Objective,
    /// Which engine does the arithmetic.
    pub engine: EngineKind,
    /// Where it is done.
    pub device: DeviceChoice,
    /// How products are computed; `None` for the device's own way, or on resuming what the run was started with.
    pub precision: Option<Precision>,
    /// Optimizer steps, at most; with 0 the model is written as it begins.
    pub steps: u64,
    /// Hours, at most, of the clock: over all processes that the run goes on in. Where it is given the rate falls by the clock, and another run differs.
    pub hours: Option<f64>,
    /// Most tokens in a step's batch.
    pub batch_tokens: usize,
    /// Most tokens that are computed at a time, in each process; 0 for all of a step. Gradients are accumulated over a step's passes.
    pub pass_tokens: usize,
    /// Whether layers keep their input alone, and compute the rest again on the way back: slower, in less memory, the same to the bit.
    pub recompute: bool,
    /// What multiplies the loss of the MLM head.
    pub mlm_weight: f64,
    /// What multiplies the loss of the NSP head.
    pub nsp_weight: f64,
    /// How gradients become a step.
    pub optimizer: Optimizer,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Steps of linear warmup.
    pub warmup_steps: u64,
    /// What becomes of the rate after it.
    pub schedule: Schedule,
    /// What the rate of a layer is of that of the layer above it.
    pub layer_decay: f64,
    /// Decoupled weight decay of matrices and embeddings.
    pub weight_decay: f64,
    /// Decay of Adam's first moment.
    pub beta1: f64,
    /// Decay of Adam's second moment.
    pub beta2: f64,
    /// Added to the root of Adam's second moment.
    pub epsilon: f64,
    /// Largest global norm of the gradient; 0 for no clipping.
    pub clip: f64,
    /// Dropout everywhere; the model's own where it is `None`.
    pub dropout: Option<f64>,
    /// Share of tokens that dynamic masks predict; in evaluations always, and in the first step.
    pub mask_rate: f64,
    /// The share in the last step, or at the end of the time, reached linearly; `None` where it stays.
    pub mask_rate_end: Option<f64>,
    /// Share of the predicted tokens that become `[MASK]`.
    pub mask_share: f64,
    /// Share of the predicted tokens that become a random token.
    pub random_share: f64,
    /// What dynamic masks choose at a time.
    pub mask_unit: MaskUnit,
    /// What share of the tokens each dataset is to have, in their order; empty for as many as it holds.
    pub mix: Vec<f64>,
    /// Batches of a window in which rows of similar length are put together; 0 for none.
    pub group_lengths: usize,
    /// Keys every random draw.
    pub seed: u64,
    /// Steps between evaluations on the validation split; 0 for none but the last.
    pub eval_every: u64,
    /// Rows an evaluation looks at, at most; 0 for all.
    pub eval_rows: u64,
    /// Steps between checkpoints; 0 for none but the last.
    pub checkpoint_every: u64,
    /// Steps between lines of the log.
    pub log_every: u64,
    /// Checkpoints that are kept, beside the best.
    pub keep: usize,
    /// Steps in a row without a finite gradient, after which training stops.
    pub max_skipped: u64,
}

impl Default for PretrainConfig {
    fn default() -> Self {
        Self {
            objective: Objective::MlmNsp,
            engine: EngineKind::default(),
            device: DeviceChoice::default(),
            precision: None,
            steps: 10_000,
            hours: None,
            batch_tokens: 4_096,
            pass_tokens: 0,
            recompute: false,
            mlm_weight: 1.0,
            nsp_weight: 1.0,
            optimizer: Optimizer::AdamW,
            learning_rate: 1e-4,
            warmup_steps: 100,
            schedule: Schedule::Linear,
            layer_decay: 1.0,
            weight_decay: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            clip: 1.0,
            dropout: None,
            mask_rate: 0.15,
            mask_rate_end: None,
            mask_share: 0.8,
            random_share: 0.1,
            mask_unit: MaskUnit::Token,
            mix: Vec::new(),
            group_lengths: 0,
            seed: 0,
            eval_every: 1_000,
            eval_rows: 2_000,
            checkpoint_every: 1_000,
            log_every: 10,
            keep: 3,
            max_skipped: 10,
        }
    }
}

impl PretrainConfig {
    /// The weighted sum of an evaluation's losses, by which the best model is chosen; `None` where there is none that is a number.
    #[must_use]
    pub fn weighted(&self, report: &EvalReport) -> Option<f64> {
        let pair = match self.objective.has_pairs() {
            true => report.pair_loss().unwrap_or(0.0),
            false => 0.0,
        };
        let sum = self.mlm_weight * report.mlm_loss? + self.nsp_weight * pair;
        sum.is_finite().then_some(sum)
    }

    pub(crate) fn check(&self) -> Result<()> {
        let fail = |option, why: String| Err(Error::Config { option, why });
        let positive = |option, value: f64| {
            if value > 0.0 && value.is_finite() {
                Ok(())
            } else {
                fail(option, format!("is {value}, must be over 0"))
            }
        };
        positive("--learning-rate", self.learning_rate)?;
        positive("--log-every", self.log_every as f64)?;
        if let Some(hours) = self.hours {
            positive("--hours", hours)?;
        }
        positive("--mlm-weight", self.mlm_weight)?;
        positive("--nsp-weight", self.nsp_weight)?;
        positive("--max-skipped", self.max_skipped as f64)?;
        positive("--epsilon", self.epsilon)?;
        for (option, beta) in [("--beta1", self.beta1), ("--beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return fail(option, format!("is {beta}, must be from 0 to under 1"));
            }
        }
        if !(self.layer_decay > 0.0 && self.layer_decay <= 1.0) {
            let why = format!("is {}, must be over 0 and at most 1", self.layer_decay);
            return fail("--layer-decay", why);
        }
        for (option, value) in [("--weight-decay", self.weight_decay), ("--clip", self.clip)] {
            if !(value >= 0.0 && value.is_finite()) {
                return fail(option, format!("is {value}, must be a number from 0"));
            }
        }
        if let Some(p) = self.dropout.filter(|p| !(0.0..1.0).contains(p)) {
            return fail("--dropout", format!("is {p}, must be from 0 to under 1"));
        }
        let rates = [
            ("--mask-rate", Some(self.mask_rate)),
            ("--mask-rate-end", self.mask_rate_end),
        ];
        for (option, rate) in rates {
            if let Some(rate) = rate.filter(|r| !(*r > 0.0 && *r <= 1.0)) {
                return fail(option, format!("is {rate}, must be over 0 and at most 1"));
            }
        }
        let shares = [
            ("--mask-share", self.mask_share),
            ("--random-share", self.random_share),
        ];
        for (option, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                return fail(option, format!("is {share}, must be from 0 to 1"));
            }
        }
        let both = self.mask_share + self.random_share;
        if both > 1.0 + 1e-9 {
            let why = format!("and --random-share are {both} together, must be at most 1");
            return fail("--mask-share", why);
        }
        Ok(())
    }

    /// What the engine is built of.
    pub(crate) fn build(&self) -> Build {
        Build {
            engine: self.engine,
            device: self.device,
            local_rank: 0,
            precision: self.precision,
            recompute: self.recompute,
        }
    }

    /// How masks are drawn in evaluations, and in steps but for the rate.
    pub(crate) fn rule(&self) -> MaskingRule {
        MaskingRule {
            rate: self.mask_rate,
            mask_share: self.mask_share,
            random_share: self.random_share,
            unit: self.mask_unit,
        }
    }

    /// Names of the options that differ and change what comes out.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let as_map = |c: &Self| serde_json::to_value(c).unwrap_or_default();
        let (ours, theirs) = (as_map(self), as_map(other));
        let harmless = [
            "device",
            "pass_tokens",
            "recompute",
            "max_skipped",
            "eval_every",
            "eval_rows",
            "checkpoint_every",
            "log_every",
            "keep",
        ];
        let Some(fields) = ours.as_object() else {
            return Vec::new();
        };
        let differs = |name: &&String| {
            !harmless.contains(&name.as_str()) && ours[name.as_str()] != theirs[name.as_str()]
        };
        let show = |name: &String| {
            format!(
                "--{} was {}, is {}",
                name.replace('_', "-"),
                theirs[name.as_str()],
                ours[name.as_str()]
            )
        };
        fields.keys().filter(differs).map(show).collect()
    }
}
