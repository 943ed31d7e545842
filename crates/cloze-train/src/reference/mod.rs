//! The first engine, and the oracle of those to come: a plain autograd model on candle.
//!
//! It is built of the operations whose gradients candle has right. `candle_nn::LayerNorm` and `softmax_last_dim` are not
//! among them: they have no backward pass, and everything before them would silently stay as it is.

mod dropout;
mod model;

use candle_core::{Device, Tensor, Var};

use crate::batch::MaskedBatch;
use crate::engine::{
    BatchLoss, Dropout, Engine, EngineState, EvalSums, Objective, Optimizer, OptimizerStep,
    StepOutcome, Whole,
};
use crate::optimizer::{adamw, lamb};
use crate::parallel::Collective;
use crate::parameters::{Layout, Parameter};
use crate::{BertConfig, Error, Result};

pub use dropout::head_mask;
use model::{Heads, Model};

/// A BERT in double-checked plainness; parameters and moments in memory, products by candle.
pub struct ReferenceEngine {
    config: BertConfig,
    layout: Layout,
    objective: Objective,
    variables: Vec<Var>,
    state: EngineState,
    gradients: Vec<f32>,
    outcome: StepOutcome,
    stepped: bool,
    /// What the encoder gave, with its way back.
    encoded: Option<Tensor>,
}

impl ReferenceEngine {
    /// An engine that continues from `state`.
    pub fn new(config: &BertConfig, objective: Objective, state: EngineState) -> Result<Self> {
        let layout = Layout::new(config);
        let variables = layout
            .parameters()
            .iter()
            .map(|p| {
                let values = &state.parameters[p.range()];
                Var::from_tensor(&Tensor::from_slice(values, p.shape.clone(), &Device::Cpu)?)
            })
            .collect::<candle_core::Result<_>>()?;
        let gradients = vec![0.0; layout.len()];
        Ok(Self {
            config: config.clone(),
            layout,
            objective,
            variables,
            state,
            gradients,
            outcome: StepOutcome::default(),
            stepped: false,
            encoded: None,
        })
    }

    fn model(&self) -> Model<'_> {
        Model::new(&self.config, &self.layout, &self.variables)
    }

    /// Goes back from `loss`, and adds what it finds.
    fn add_gradients_of(&mut self, loss: &Tensor) -> Result<()> {
        let found = loss.backward()?;
        for (parameter, variable) in self.layout.parameters().iter().zip(&self.variables) {
            if let Some(gradient) = found.get(variable) {
                let gradient = gradient.flatten_all()?.to_vec1::<f32>()?;
                let sum = &mut self.gradients[parameter.range()];
                sum.iter_mut().zip(gradient).for_each(|(s, g)| *s += g);
            }
        }
        Ok(())
    }

    fn refresh(&mut self) -> Result<()> {
        for (parameter, variable) in self.layout.parameters().iter().zip(&self.variables) {
            let values = &self.state.parameters[parameter.range()];
            variable.set(&Tensor::from_slice(
                values,
                parameter.shape.clone(),
                &Device::Cpu,
            )?)?;
        }
        Ok(())
    }
}

impl Engine for ReferenceEngine {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn describe(&self) -> String {
        "reference, on the CPU".into()
    }

    fn accumulate(
        &mut self,
        batch: &MaskedBatch,
        whole: &Whole,
        dropout: Option<&Dropout>,
    ) -> Result<()> {
        if std::mem::take(&mut self.stepped) {
            self.outcome.loss = BatchLoss::default();
        }
        if batch.rows() == 0 {
            return Ok(());
        }
        let settled = settled(batch);
        let batch = settled.as_ref().unwrap_or(batch);
        let heads = self
            .model()
            .forward(batch, whole.first_token, dropout, self.objective)?;
        let share = |part: usize, whole: u64| part as f64 / whole.max(1) as f64;
        let shares = [
            share(batch.masked_positions.len(), whole.masked),
            share(batch.labelled_rows(), whole.labelled),
        ];
        let scaled = |loss: Option<Tensor>, share: f64| loss.map(|l| l * share).transpose();
        let mlm = scaled(heads.mlm_loss()?, shares[0])?;
        let nsp = scaled(heads.nsp_loss()?, shares[1])?;
        if let Some(mlm) = &mlm {
            self.outcome.loss.mlm += f64::from(mlm.to_scalar::<f32>()?);
        }
        if let Some(nsp) = &nsp {
            let nsp = f64::from(nsp.to_scalar::<f32>()?);
            *self.outcome.loss.nsp.get_or_insert(0.0) += nsp;
        }
        let losses = [self.outcome.loss.mlm, self.outcome.loss.nsp.unwrap_or(0.0)];
        let [mlm_weight, nsp_weight] = whole.weights;
        let weighted = |loss: Option<Tensor>, w: f64| loss.map(|l| l * w).transpose();
        let total = match (weighted(mlm, mlm_weight)?, weighted(nsp, nsp_weight)?) {
            (Some(a), Some(b)) => (a + b)?,
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => return Ok(()),
        };
        self.add_gradients_of(&total)?;
        // What there is no loss of, no step is made of, whatever its gradient is.
        if !losses.iter().all(|loss| loss.is_finite()) {
            self.gradients[0] = f32::NAN;
        }
        Ok(())
    }

    fn accumulate_and_sum(
        &mut self,
        batch: &MaskedBatch,
        whole: &Whole,
        dropout: Option<&Dropout>,
        peers: &mut dyn Collective,
    ) -> Result<()> {
        self.accumulate(batch, whole, dropout)?;
        peers.all_reduce(&mut self.gradients)
    }

    fn step(&mut self, step: &OptimizerStep) -> Result<()> {
        let make = match step.optimizer {
            Optimizer::AdamW => adamw,
            Optimizer::Lamb => lamb,
        };
        self.outcome.grad_norm = make(
            &self.layout,
            self.objective,
            &mut self.state,
            &self.gradients,
            step,
        );
        if !self.outcome.grad_norm.is_finite() {
            self.outcome.skipped += 1;
        }
        self.stepped = true;
        self.gradients.fill(0.0);
        self.refresh()
    }

    fn outcome(&mut self) -> Result<StepOutcome> {
        Ok(self.outcome)
    }

    fn evaluate(&mut self, batch: &MaskedBatch) -> Result<EvalSums> {
        if batch.rows() == 0 {
            return Ok(EvalSums::default());
        }
        let settled = settled(batch);
        let batch = settled.as_ref().unwrap_or(batch);
        let heads: Heads = self.model().forward(batch, 0, None, self.objective)?;
        let mut sums = EvalSums {
            rows: batch.rows() as u64,
            tokens: batch.tokens() as u64,
            ..EvalSums::default()
        };
        if let Some((loss, correct, count)) = heads.mlm_sums()? {
            (sums.mlm_loss, sums.mlm_correct, sums.masked_tokens) = (loss, correct, count);
        }
        if let Some((loss, correct, count)) = heads.nsp_sums()? {
            (sums.nsp_loss, sums.nsp_correct, sums.labelled_rows) = (loss, correct, count);
        }
        Ok(sums)
    }

    fn log_probabilities(&mut self, batch: &MaskedBatch) -> Result<Vec<f32>> {
        let settled = settled(batch);
        let batch = settled.as_ref().unwrap_or(batch);
        if batch.masked_positions.is_empty() {
            return Ok(Vec::new());
        }
        let heads = self.model().forward(batch, 0, None, Objective::Mlm)?;
        Ok(heads.log_probabilities()?)
    }

    fn encode(
        &mut self,
        batch: &MaskedBatch,
        whole: &Whole,
        dropout: Option<&Dropout>,
    ) -> Result<Vec<f32>> {
        let encoded = self.model().encode(batch, whole.first_token, dropout)?;
        let values = encoded.flatten_all()?.to_vec1()?;
        self.encoded = Some(encoded);
        Ok(values)
    }

    fn encode_backward(
        &mut self,
        _: &MaskedBatch,
        _: Option<&Dropout>,
        gradient: &[f32],
    ) -> Result<()> {
        let encoded = self.encoded.take().ok_or(Error::NotEncoded)?;
        let gradient = Tensor::from_slice(gradient, encoded.shape(), &Device::Cpu)?;
        self.add_gradients_of(&(encoded * gradient)?.sum_all()?)
    }

    fn parameter(&mut self, parameter: &Parameter) -> Result<Vec<f32>> {
        Ok(self.state.parameters[parameter.range()].to_vec())
    }

    fn add_gradient(&mut self, parameter: &Parameter, gradient: &[f32]) -> Result<()> {
        let sum = &mut self.gradients[parameter.range()];
        sum.iter_mut().zip(gradient).for_each(|(s, g)| *s += g);
        Ok(())
    }

    fn parameters(&mut self) -> Result<Vec<f32>> {
        Ok(self.state.parameters.clone())
    }

    fn gradients(&mut self) -> Result<Vec<f32>> {
        Ok(self.gradients.clone())
    }

    fn state(&mut self) -> Result<EngineState> {
        Ok(self.state.clone())
    }

    fn load_state(&mut self, state: EngineState) -> Result<()> {
        self.state = state;
        self.gradients.fill(0.0);
        self.refresh()
    }
}

/// The batch with its masks drawn, where they were not.
fn settled(batch: &MaskedBatch) -> Option<MaskedBatch> {
    batch.pending.as_ref()?;
    let mut settled = batch.clone();
    settled.settle();
    Some(settled)
}
