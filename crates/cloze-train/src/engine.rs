//! What does the arithmetic of a step.

use crate::Result;
use crate::batch::MaskedBatch;
use crate::parallel::Collective;
use crate::parameters::{Layout, Parameter};

/// Which losses are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Objective {
    /// Masked language model and next sentence prediction: the sum of both mean cross-entropies (Devlin et al. 2019).
    #[serde(rename = "mlm+nsp")]
    MlmNsp,
    /// Masked language model alone; the pooler and the NSP head stay as they are.
    #[serde(rename = "mlm")]
    Mlm,
    /// Masked language model and sentence order prediction (Lan et al., ICLR 2020, section 3.1): of two segments that follow one another, which is
    /// the first. Segments change places by a coin that is thrown anew each epoch; a row of segments that do not follow one another has no label.
    #[serde(rename = "mlm+sop")]
    MlmSop,
}

impl Objective {
    /// Whether the pooler and the head on it are trained.
    #[must_use]
    pub fn has_pairs(self) -> bool {
        self != Self::Mlm
    }
}

/// How gradients become a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// AdamW (Loshchilov and Hutter, ICLR 2019).
    #[default]
    AdamW,
    /// LAMB (You et al., ICLR 2020): the step of each matrix is as long as its rate times its own norm. For very large batches.
    Lamb,
}

/// Which engine does the arithmetic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// Forward and backward by hand: the fast one.
    #[default]
    Native,
    /// A plain autograd model on candle: the oracle of the other.
    Reference,
}

/// How products of matrices are computed; on the CPU, all else is in single precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// In single precision.
    #[default]
    F32,
    /// With factors rounded to bfloat16, and sums in single precision.
    Bf16,
}

/// Owns parameters, gradients and moments, and does the arithmetic of a step.
///
/// Every engine computes the same function: losses and gradients equal the reference engine's within rounding.
pub trait Engine {
    /// Where each parameter lies in the arenas.
    fn layout(&self) -> &Layout;

    /// Runs forward and backward on `batch`, which is part of the `whole` that a step is made of, and adds the gradient of its share of the
    /// loss to the gradients. May return before it is done.
    ///
    /// `dropout` is `None` for none.
    fn accumulate(
        &mut self,
        batch: &MaskedBatch,
        whole: &Whole,
        dropout: Option<&Dropout>,
    ) -> Result<()>;

    /// As [`accumulate`](Self::accumulate), for the last batch that this process has of a step: after it, the gradients are sums over all processes.
    /// A part of them is summed while the parts before it in the network are still computed. To be called by all, with an empty batch too.
    fn accumulate_and_sum(
        &mut self,
        batch: &MaskedBatch,
        whole: &Whole,
        dropout: Option<&Dropout>,
        peers: &mut dyn Collective,
    ) -> Result<()>;

    /// Whether the gradients lie in a GPU's memory.
    fn on_gpu(&self) -> bool {
        false
    }

    /// Clips the gradients by their global norm, makes one step of the optimizer, and sets the gradients to zero. Where the norm is not finite, neither
    /// parameters nor moments change. May return before it is done.
    fn step(&mut self, step: &OptimizerStep) -> Result<()>;

    /// Waits for what was asked for: the losses of all batches since the last step but one, and that step's norm. Between `accumulate` and
    /// `step`, the losses so far.
    fn outcome(&mut self) -> Result<StepOutcome>;

    /// Forward only, without dropout: sums that add up over batches. Only what the objective trains is measured.
    fn evaluate(&mut self, batch: &MaskedBatch) -> Result<EvalSums>;

    /// Forward only, without dropout: natural logarithms of the probabilities of every entry of the vocabulary at each predicted token, `[M, V]`.
    fn log_probabilities(&mut self, batch: &MaskedBatch) -> Result<Vec<f32>>;

    /// The encoder alone, forward: what its last layer gives, `[T, H]`. For heads that others compute. The batch's masks and labels play no part; of
    /// `whole`, only where its first token is.
    fn encode(
        &mut self,
        batch: &MaskedBatch,
        whole: &Whole,
        dropout: Option<&Dropout>,
    ) -> Result<Vec<f32>>;

    /// The way back of the last [`encode`](Self::encode), of the same batch with the same dropout: adds the encoder's gradients, given that of a loss by
    /// what `encode` gave, `[T, H]`.
    fn encode_backward(
        &mut self,
        batch: &MaskedBatch,
        dropout: Option<&Dropout>,
        gradient: &[f32],
    ) -> Result<()>;

    /// One parameter, flat.
    fn parameter(&mut self, parameter: &Parameter) -> Result<Vec<f32>>;

    /// Adds the gradient of one parameter that others have computed.
    fn add_gradient(&mut self, parameter: &Parameter, gradient: &[f32]) -> Result<()>;

    /// What it is and runs on, for a person.
    fn describe(&self) -> String;

    /// The parameters, flat, in the order of the layout.
    fn parameters(&mut self) -> Result<Vec<f32>>;

    /// The accumulated gradients, flat.
    fn gradients(&mut self) -> Result<Vec<f32>>;

    /// Everything that the next step depends on.
    fn state(&mut self) -> Result<EngineState>;

    /// Puts a state back.
    fn load_state(&mut self, state: EngineState) -> Result<()>;
}

/// What a step is made of, all its parts together: losses are means over it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Whole {
    /// Predicted tokens.
    pub masked: u64,
    /// Rows that have a label.
    pub labelled: u64,
    /// Tokens of the whole that come before the part's first: dropout is keyed by a token's place in the whole.
    pub first_token: u32,
    /// What multiplies the losses of the MLM and of the NSP head in what is minimised; over 0.
    pub weights: [f64; 2],
}

impl Whole {
    /// A step of one batch.
    #[must_use]
    pub fn of(batch: &MaskedBatch) -> Self {
        Self {
            masked: batch.masked() as u64,
            labelled: batch.labelled_rows() as u64,
            first_token: 0,
            weights: [1.0, 1.0],
        }
    }

    /// What the sums of both heads' losses are multiplied by: the weight over the number of predicted tokens, or of labelled rows; 0 for none.
    #[must_use]
    pub fn scales(&self) -> [f32; 2] {
        let [mlm, nsp] = self.weights;
        [(mlm, self.masked), (nsp, self.labelled)].map(|(weight, n)| match n {
            0 => 0.0,
            n => (weight / n as f64) as f32,
        })
    }
}

/// Keys dropout: every zero is a function of (seed, step, place), so a resumed step drops what it would have dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The run's seed.
    pub seed: u64,
    /// The step, from 1.
    pub step: u64,
    /// Probability for embeddings and the outputs of attention and feed-forward layers.
    pub hidden: f64,
    /// Probability for attention weights.
    pub attention: f64,
}

/// Mean losses, in nats, before they are weighted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BatchLoss {
    /// Mean cross-entropy over the predicted tokens; 0 where there is none.
    pub mlm: f64,
    /// Mean cross-entropy over the labelled rows; `None` where there was none, or NSP is not trained.
    pub nsp: Option<f64>,
}

impl BatchLoss {
    /// The sum: what is minimised, where nothing is weighted.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.mlm + self.nsp.unwrap_or(0.0)
    }
}

/// One AdamW step (Loshchilov and Hutter, ICLR 2019), as PyTorch computes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimizerStep {
    /// Which optimizer.
    pub optimizer: Optimizer,
    /// The step, from 1, for bias correction.
    pub step: u64,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decoupled weight decay, for parameters that decay.
    pub weight_decay: f64,
    /// Decay of the first and second moment.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Largest global norm of the gradient; 0 for no clipping.
    pub clip: f64,
    /// What the rate of a layer is of that of the layer above it; 1 for the same everywhere.
    pub layer_decay: f64,
}

/// What a step did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepOutcome {
    /// The losses it was made for.
    pub loss: BatchLoss,
    /// Global L2 norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Steps that were not made, since the engine is there, because the norm was not finite.
    pub skipped: u64,
}

/// Sums over the rows of one or more batches.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub struct EvalSums {
    pub mlm_loss: f64,
    pub mlm_correct: u64,
    pub masked_tokens: u64,
    pub nsp_loss: f64,
    pub nsp_correct: u64,
    pub labelled_rows: u64,
    pub rows: u64,
    pub tokens: u64,
}

impl std::ops::AddAssign for EvalSums {
    fn add_assign(&mut self, other: Self) {
        self.mlm_loss += other.mlm_loss;
        self.mlm_correct += other.mlm_correct;
        self.masked_tokens += other.masked_tokens;
        self.nsp_loss += other.nsp_loss;
        self.nsp_correct += other.nsp_correct;
        self.labelled_rows += other.labelled_rows;
        self.rows += other.rows;
        self.tokens += other.tokens;
    }
}

/// Parameters and moments, flat, in the order of the layout.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct EngineState {
    pub parameters: Vec<f32>,
    pub first_moment: Vec<f32>,
    pub second_moment: Vec<f32>,
}

impl EngineState {
    /// `parameters` before any step.
    #[must_use]
    pub fn initial(parameters: Vec<f32>) -> Self {
        let zeros = vec![0.0; parameters.len()];
        Self {
            parameters,
            first_moment: zeros.clone(),
            second_moment: zeros,
        }
    }
}
