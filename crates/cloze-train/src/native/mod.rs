//! The engine that people train with: forward and backward by hand, over memory that is allocated once, on any device that has the operations.

mod room;
mod step;
mod weights;

use cloze_kernels::{Kind, Ops, View};

use crate::batch::MaskedBatch;
use crate::engine::{
    BatchLoss, Dropout, Engine, EngineState, EvalSums, Objective, OptimizerStep, StepOutcome,
};
use crate::optimizer;
use crate::parameters::Layout;
use crate::{BertConfig, Result};

use room::{Room, Size};
use step::Pass;
use weights::Weights;

/// The hand-written step on one device.
pub struct NativeEngine<O: Ops> {
    ops: O,
    config: BertConfig,
    layout: Layout,
    objective: Objective,
    parameters: View,
    gradients: View,
    moments: [View; 2],
    weights: Weights,
    weight_gradients: Weights,
    room: Option<Room>,
}

impl<O: Ops> NativeEngine<O> {
    /// An engine that continues from `state`.
    pub fn new(
        mut ops: O,
        config: &BertConfig,
        objective: Objective,
        state: EngineState,
    ) -> Result<Self> {
        let layout = Layout::new(config);
        let mut arena = || ops.allocate(Kind::Float, layout.len());
        let (parameters, gradients, moments) = (arena()?, arena()?, [arena()?, arena()?]);
        let mut engine = Self {
            weights: Weights::new(config, &layout, parameters),
            weight_gradients: Weights::new(config, &layout, gradients),
            ops,
            config: config.clone(),
            layout,
            objective,
            parameters,
            gradients,
            moments,
            room: None,
        };
        engine.load_state(state)?;
        Ok(engine)
    }

    /// What it runs on, for a person.
    #[must_use]
    pub fn describe(&self) -> String {
        self.ops.describe()
    }

    /// Brings a batch to the device and runs it forward; what the pass needs for the rest.
    fn run<T>(
        &mut self,
        batch: &MaskedBatch,
        dropout: Option<&Dropout>,
        backward: bool,
        then: impl FnOnce(&mut O, &Pass<'_>, &Weights) -> cloze_kernels::Result<T>,
    ) -> Result<T> {
        let size = Size {
            tokens: batch.tokens(),
            rows: batch.rows(),
            masked: batch.masked_positions.len(),
        };
        let room = Room::fitting(&mut self.ops, &self.config, self.room.take(), size)?;
        let ops = &mut self.ops;
        ops.upload_words(room.input_ids.first(size.tokens), &batch.input_ids)?;
        ops.upload_words(
            room.token_type_ids.first(size.tokens),
            &batch.token_type_ids,
        )?;
        let positions: Vec<u32> = batch.spans().flat_map(|(_, n)| 0..n as u32).collect();
        ops.upload_words(room.position_ids.first(size.tokens), &positions)?;
        ops.upload_words(room.cu_seqlens.first(size.rows + 1), &batch.cu_seqlens)?;
        ops.upload_words(
            room.masked_positions.first(size.masked),
            &batch.masked_positions,
        )?;
        ops.upload_words(room.masked_labels.first(size.masked), &batch.masked_labels)?;
        let mut labelled: Vec<(u32, u32)> = Vec::new();
        if self.objective == Objective::MlmNsp {
            let rows = batch.next_sentence_labels.iter().zip(&batch.cu_seqlens);
            labelled.extend(rows.filter_map(|(label, &first)| Some((first, (*label)? as u32))));
        }
        let (first, labels): (Vec<u32>, Vec<u32>) = labelled.into_iter().unzip();
        ops.upload_words(room.first.first(first.len()), &first)?;
        ops.upload_words(room.next_labels.first(labels.len()), &labels)?;
        let pass = Pass {
            config: &self.config,
            weights: &self.weights,
            room: &room,
            size,
            labelled: first.len(),
            longest: batch.spans().map(|(_, n)| n).max().unwrap_or(0),
            dropout,
            backward,
        };
        pass.forward(ops)?;
        let result = then(ops, &pass, &self.weight_gradients);
        self.room = Some(room);
        Ok(result?)
    }

    fn download(&mut self, view: View) -> Result<Vec<f32>> {
        let mut values = vec![0.0; view.len()];
        self.ops.download(view, &mut values)?;
        Ok(values)
    }
}

fn total(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v)).sum()
}

impl<O: Ops> Engine for NativeEngine<O> {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn describe(&self) -> String {
        self.ops.describe()
    }

    fn accumulate(&mut self, batch: &MaskedBatch, dropout: Option<&Dropout>) -> Result<BatchLoss> {
        self.run(batch, dropout, true, |ops, pass, gradients| {
            let mut loss = BatchLoss {
                mlm: 0.0,
                nsp: None,
            };
            if pass.size.masked > 0 {
                loss.mlm = total(&pass.mlm_losses(ops)?.0) / pass.size.masked as f64;
            }
            if pass.labelled > 0 {
                loss.nsp = Some(total(&pass.nsp_losses(ops)?.0) / pass.labelled as f64);
            }
            pass.backward(ops, gradients)?;
            Ok(loss)
        })
    }

    fn step(&mut self, step: &OptimizerStep) -> Result<StepOutcome> {
        let grad_norm = self.ops.sum_of_squares(self.gradients)?.sqrt();
        for parameter in self.layout.parameters() {
            if parameter.nsp_only && self.objective == Objective::Mlm {
                continue;
            }
            let part = |arena: View| arena.part(parameter.offset, parameter.len());
            let constants = optimizer::constants(step, grad_norm, parameter.decay);
            let [m, v] = self.moments.map(part);
            self.ops.adamw(
                &constants,
                part(self.parameters),
                m,
                v,
                part(self.gradients),
            )?;
        }
        self.ops.zero(self.gradients)?;
        self.ops.parameters_changed(self.parameters)?;
        Ok(StepOutcome { grad_norm })
    }

    fn evaluate(&mut self, batch: &MaskedBatch) -> Result<EvalSums> {
        self.run(batch, None, false, |ops, pass, _| {
            let mut sums = EvalSums {
                rows: batch.rows() as u64,
                tokens: batch.tokens() as u64,
                ..EvalSums::default()
            };
            if pass.size.masked > 0 {
                let (losses, hits) = pass.mlm_losses(ops)?;
                (sums.mlm_loss, sums.mlm_correct) = (total(&losses), total(&hits) as u64);
                sums.masked_tokens = pass.size.masked as u64;
            }
            if pass.labelled > 0 {
                let (losses, hits) = pass.nsp_losses(ops)?;
                (sums.nsp_loss, sums.nsp_correct) = (total(&losses), total(&hits) as u64);
                sums.labelled_rows = pass.labelled as u64;
            }
            Ok(sums)
        })
    }

    fn parameters(&mut self) -> Result<Vec<f32>> {
        self.download(self.parameters)
    }

    fn gradients(&mut self) -> Result<Vec<f32>> {
        self.download(self.gradients)
    }

    fn state(&mut self) -> Result<EngineState> {
        let [m, v] = self.moments;
        Ok(EngineState {
            parameters: self.download(self.parameters)?,
            first_moment: self.download(m)?,
            second_moment: self.download(v)?,
        })
    }

    fn load_state(&mut self, state: EngineState) -> Result<()> {
        let [m, v] = self.moments;
        self.ops.upload(self.parameters, &state.parameters)?;
        self.ops.upload(m, &state.first_moment)?;
        self.ops.upload(v, &state.second_moment)?;
        self.ops.zero(self.gradients)?;
        Ok(self.ops.parameters_changed(self.parameters)?)
    }
}
