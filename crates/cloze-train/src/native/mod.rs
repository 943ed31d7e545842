//! The engine that people train with: forward and backward by hand, over memory that is allocated once, on any device that has the operations.

mod room;
mod step;
mod weights;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use cloze_kernels::{AdamW, Kind, Lamb, Ops, View};
use rayon::prelude::*;

use crate::batch::MaskedBatch;
use crate::engine::{
    BatchLoss, Dropout, Engine, EngineState, EvalSums, Objective, Optimizer, OptimizerStep,
    StepOutcome, Whole,
};
use crate::optimizer;
use crate::parallel::{Collective, summed_beside};
use crate::parameters::{ALIGN, Bucket, Layout, Parameter, Stage};
use crate::{BertConfig, Error, Result};

pub(crate) use room::bytes as room_bytes;
use room::{Room, Sent, Size};
use step::Pass;
use weights::Weights;

/// What a step's optimizer reads, on the device.
#[derive(Clone, Copy, Debug)]
struct Rates {
    /// Which parameter each block of the arenas belongs to.
    groups: View,
    /// `[parameters, 2]`.
    rates: View,
    /// `[1]`.
    root2: View,
    /// `[parameters + 1]`, `[parameters, 3]` and `[2]`: what LAMB reads.
    starts: View,
    lamb: View,
    corrections: View,
}

/// The hand-written step on one device.
pub struct NativeEngine<O: Ops> {
    ops: O,
    config: BertConfig,
    layout: Layout,
    objective: Objective,
    /// Whether each batch is filled up to what the room holds, so that all look alike.
    alike: bool,
    /// Whether layers compute again, on the way back, what they did not keep.
    recompute: bool,
    parameters: View,
    gradients: View,
    moments: [View; 2],
    rates: Rates,
    /// `[6]`: the sums of a pass, the norm of the gradient, and how many steps were not made.
    sums: View,
    weights: Weights,
    weight_gradients: Weights,
    room: Option<Room>,
    /// Gradients that are summed over processes at once, in bytes.
    bucket: usize,
    /// Whether the step is made, and sums begin anew.
    stepped: bool,
    labelled: u64,
    /// What the losses of a step are multiplied by.
    loss_weights: [f64; 2],
}

/// The size of the buckets of PyTorch's DistributedDataParallel (Li et al., VLDB 2020).
const BUCKET: usize = 25 << 20;

/// Sums of a pass.
const SUMS: usize = 4;

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
        let (owners, _) = layout.blocks();
        let rates = Rates {
            groups: ops.allocate(Kind::Word, owners.len())?,
            rates: ops.allocate(Kind::Float, layout.parameters().len() * 2)?,
            root2: ops.allocate(Kind::Float, 1)?,
            starts: ops.allocate(Kind::Word, layout.parameters().len() + 1)?,
            lamb: ops.allocate(Kind::Float, layout.parameters().len() * 3)?,
            corrections: ops.allocate(Kind::Float, 2)?,
        };
        ops.upload_words(rates.groups, &owners)?;
        // Blocks are in the order of their owners.
        let starts = (0..=layout.parameters().len() as u32)
            .map(|number| owners.partition_point(|&owner| owner < number) as u32)
            .collect::<Vec<_>>();
        ops.upload_words(rates.starts, &starts)?;
        let mut engine = Self {
            weights: Weights::new(config, &layout, parameters),
            weight_gradients: Weights::new(config, &layout, gradients),
            sums: ops.allocate(Kind::Float, SUMS + 2)?,
            alike: ops.records(),
            recompute: false,
            ops,
            config: config.clone(),
            layout,
            objective,
            parameters,
            gradients,
            moments,
            rates,
            room: None,
            bucket: BUCKET,
            stepped: false,
            labelled: 0,
            loss_weights: [1.0, 1.0],
        };
        engine.load_state(state)?;
        Ok(engine)
    }

    /// Fills each batch up, whether or not the device gains by it.
    #[must_use]
    pub fn alike(mut self) -> Self {
        self.alike = true;
        self
    }

    /// Whether layers keep their results alone, and compute the rest again on the way back.
    #[must_use]
    pub fn recomputing(mut self, recompute: bool) -> Self {
        self.recompute = recompute;
        self
    }

    /// Sums gradients over processes by buckets of some `bytes`.
    #[must_use]
    pub fn buckets_of(mut self, bytes: usize) -> Self {
        self.bucket = bytes;
        self
    }

    /// What it runs on, for a person.
    #[must_use]
    pub fn describe(&self) -> String {
        self.ops.describe()
    }

    /// The device.
    pub fn ops(&mut self) -> &mut O {
        &mut self.ops
    }

    /// Runs a batch forward, then backward by `buckets`, which are all or none, and tells which of them is complete.
    fn run(
        &mut self,
        batch: &MaskedBatch,
        whole: &Whole,
        dropout: Option<&Dropout>,
        buckets: &[Bucket],
        mut complete: impl FnMut(&mut O, &Bucket) -> Result<()>,
    ) -> Result<()> {
        if batch.rows() == 0 {
            return buckets.iter().try_for_each(|b| complete(&mut self.ops, b));
        }
        let size = Size::of(batch, self.objective);
        let room = Room::fitting(
            &mut self.ops,
            &self.config,
            self.room.take(),
            size,
            self.recompute,
        )?;
        let (ops, config) = (&mut self.ops, &self.config);
        room.fill(ops, batch, whole, dropout, self.objective)?;
        let size = match self.alike {
            true if size.labelled == 0 => Size {
                labelled: 0,
                ..room.size
            },
            true => room.size,
            false => size,
        };
        let pass = Pass {
            config,
            weights: &self.weights,
            room: &room,
            size,
            sums: self.sums.first(SUMS),
            dropout,
            backward: !buckets.is_empty(),
        };
        let sent = Sent::of(batch);
        let rates = dropout.map(|d| (d.seed, d.hidden.to_bits(), d.attention.to_bits()));
        // What is forward goes with the first bucket, into one recording.
        let parts = buckets.iter().map(Some);
        let forward_only = buckets.is_empty().then_some(None);
        for (i, bucket) in parts.chain(forward_only).enumerate() {
            let key = key(&("pass", size, sent, bucket.map(|b| &b.stages), rates));
            recorded(ops, key, |ops| {
                if i == 0 {
                    room.unpack(ops, size, &sent)?;
                    pass.forward(ops)?;
                }
                for &stage in bucket.iter().flat_map(|b| &b.stages) {
                    pass.backward(ops, &self.weight_gradients, stage)?;
                }
                Ok(())
            })?;
            if let Some(bucket) = bucket {
                complete(ops, bucket)?;
            }
        }
        self.room = Some(room);
        Ok(())
    }

    /// Before a part of a step.
    fn begin(&mut self, whole: &Whole) -> Result<()> {
        if std::mem::take(&mut self.stepped) {
            self.ops.zero(self.sums.first(SUMS))?;
        }
        self.labelled = match self.objective {
            Objective::MlmNsp | Objective::MlmSop => whole.labelled,
            Objective::Mlm => 0,
        };
        self.loss_weights = whole.weights;
        Ok(())
    }

    fn download(&mut self, view: View) -> Result<Vec<f32>> {
        let mut values = vec![0.0; view.len()];
        self.ops.download(view, &mut values)?;
        Ok(values)
    }

    /// Whether a parameter stays as it is.
    fn still(&self, parameter: &Parameter) -> bool {
        parameter.nsp_only && self.objective == Objective::Mlm
    }

    /// Uploads what this step multiplies and adds, by parameter.
    fn set_rates(&mut self, step: &OptimizerStep) -> Result<()> {
        let mut rates = Vec::with_capacity(self.rates.rates.len());
        let mut root2 = 1.0;
        for parameter in self.layout.parameters() {
            let constants = optimizer::constants(step, parameter);
            rates.extend(match self.still(parameter) {
                true => [1.0, 0.0],
                false => [constants.keep, constants.rate],
            });
            root2 = constants.root2;
        }
        self.ops.upload(self.rates.rates, &rates)?;
        Ok(self.ops.upload(self.rates.root2, &[root2])?)
    }

    fn set_lamb_rates(&mut self, step: &OptimizerStep) -> Result<()> {
        let each = |parameter: &Parameter| {
            let c = optimizer::lamb_constants(step, parameter);
            match self.still(parameter) {
                true => [0.0; 3],
                false => [c.rate, c.decay, f32::from(u8::from(c.adapts))],
            }
        };
        let parameters = self.layout.parameters().iter();
        let rates: Vec<f32> = parameters.flat_map(each).collect();
        self.ops.upload(self.rates.lamb, &rates)?;
        let corrections = optimizer::corrections(step);
        Ok(self.ops.upload(self.rates.corrections, &corrections)?)
    }

    fn lamb(&self, step: &OptimizerStep) -> Lamb {
        Lamb {
            parameters: self.parameters,
            m: self.moments[0],
            v: self.moments[1],
            gradients: self.gradients,
            groups: self.rates.groups,
            starts: self.rates.starts,
            rates: self.rates.lamb,
            corrections: self.rates.corrections,
            norm: self.sums.part(SUMS, 1),
            skipped: self.sums.part(SUMS + 1, 1),
            beta1: step.betas.0 as f32,
            beta2: step.betas.1 as f32,
            eps: step.eps as f32,
            clip: step.clip as f32,
        }
    }

    fn adamw(&self, step: &OptimizerStep) -> AdamW {
        AdamW {
            parameters: self.parameters,
            m: self.moments[0],
            v: self.moments[1],
            gradients: self.gradients,
            groups: self.rates.groups,
            rates: self.rates.rates,
            root2: self.rates.root2,
            norm: self.sums.part(SUMS, 1),
            skipped: self.sums.part(SUMS + 1, 1),
            beta1: step.betas.0 as f32,
            beta2: step.betas.1 as f32,
            eps: step.eps as f32,
            clip: step.clip as f32,
        }
    }
}

/// A pass of the encoder alone.
fn encoding<'a>(
    config: &'a BertConfig,
    weights: &'a Weights,
    room: &'a Room,
    size: Size,
    alike: bool,
    dropout: Option<&'a Dropout>,
) -> Pass<'a> {
    let size = match alike {
        true => Size {
            masked: 0,
            labelled: 0,
            ..room.size
        },
        false => size,
    };
    Pass {
        config,
        weights,
        room,
        size,
        // There are no losses to add.
        sums: room.scales,
        dropout,
        backward: true,
    }
}

fn encoding_key(what: &str, pass: &Pass<'_>, batch: &MaskedBatch) -> u64 {
    let rates = (pass.dropout).map(|d| (d.seed, d.hidden.to_bits(), d.attention.to_bits()));
    key(&(what, pass.size, Sent::of(batch), rates))
}

/// x − ln Σ exp x, the sum in double precision.
fn log_softmax(logits: &[f32]) -> impl Iterator<Item = f32> + '_ {
    let most = logits.iter().fold(f32::NEG_INFINITY, |m, &x| m.max(x));
    let sum: f64 = logits.iter().map(|&x| f64::from(x - most).exp()).sum();
    let normal = f64::from(most) + sum.ln();
    logits.iter().map(move |&x| (f64::from(x) - normal) as f32)
}

/// What a recording goes by: what is not looked up in memory.
fn key(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// Does `work`, from its recording where there is one.
fn recorded<O: Ops>(
    ops: &mut O,
    key: u64,
    work: impl FnOnce(&mut O) -> cloze_kernels::Result<()>,
) -> cloze_kernels::Result<()> {
    if ops.replay(key)? {
        return Ok(());
    }
    ops.begin(key)?;
    let done = work(ops);
    // What was begun must end, whatever happened.
    let ended = ops.end(done.is_ok());
    done.and(ended)
}

impl<O: Ops> Engine for NativeEngine<O> {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn describe(&self) -> String {
        self.ops.describe()
    }

    fn accumulate(
        &mut self,
        batch: &MaskedBatch,
        whole: &Whole,
        dropout: Option<&Dropout>,
    ) -> Result<()> {
        self.begin(whole)?;
        let all = self.layout.buckets(usize::MAX);
        self.run(batch, whole, dropout, &all, |_, _| Ok(()))
    }

    fn accumulate_and_sum(
        &mut self,
        batch: &MaskedBatch,
        whole: &Whole,
        dropout: Option<&Dropout>,
        peers: &mut dyn Collective,
    ) -> Result<()> {
        if peers.world_size() == 1 {
            return self.accumulate(batch, whole, dropout);
        }
        self.begin(whole)?;
        let (gradients, buckets) = (self.gradients, self.layout.buckets(self.bucket));
        if let (Some(device), Some((at, stream))) = (peers.on_device(), self.ops.place(gradients)) {
            self.run(batch, whole, dropout, &buckets, |_, bucket| {
                let first = at + (size_of::<f32>() * bucket.range.start) as u64;
                // SAFETY: the bucket lies in this engine's arena; nothing that is put on its stream before `join` touches it again.
                unsafe { device.all_reduce_at(first, bucket.range.len(), stream) }
            })?;
            return device.join(stream);
        }
        let part = |range: &Range<usize>| gradients.part(range.start, range.len());
        let sums = summed_beside(peers, |send| {
            self.run(batch, whole, dropout, &buckets, |ops, bucket| {
                let mut values = vec![0.0; bucket.range.len()];
                ops.download(part(&bucket.range), &mut values)?;
                send(bucket.range.clone(), values);
                Ok(())
            })
        })?;
        for (range, values) in sums {
            self.ops.upload(part(&range), &values)?;
        }
        Ok(())
    }

    fn on_gpu(&self) -> bool {
        self.ops.place(self.gradients).is_some()
    }

    fn step(&mut self, step: &OptimizerStep) -> Result<()> {
        match step.optimizer {
            Optimizer::AdamW => self.set_rates(step)?,
            Optimizer::Lamb => self.set_lamb_rates(step)?,
        }
        let (adamw, lamb) = (self.adamw(step), self.lamb(step));
        let constants = [adamw.beta1, adamw.beta2, adamw.eps, adamw.clip].map(f32::to_bits);
        let key = key(&("step", step.optimizer as u8, constants));
        recorded(&mut self.ops, key, |ops| {
            ops.norm_of(adamw.gradients, adamw.norm)?;
            match step.optimizer {
                Optimizer::AdamW => ops.adamw(&adamw)?,
                Optimizer::Lamb => ops.lamb(&lamb)?,
            }
            ops.zero(adamw.gradients)?;
            ops.parameters_changed(adamw.parameters)
        })?;
        self.stepped = true;
        Ok(())
    }

    fn outcome(&mut self) -> Result<StepOutcome> {
        let sums = self.download(self.sums)?;
        let [mlm, nsp] = self.loss_weights;
        Ok(StepOutcome {
            loss: BatchLoss {
                mlm: f64::from(sums[0]) / mlm,
                nsp: (self.labelled > 0).then(|| f64::from(sums[2]) / nsp),
            },
            grad_norm: f64::from(sums[SUMS]),
            skipped: sums[SUMS + 1] as u64,
        })
    }

    fn evaluate(&mut self, batch: &MaskedBatch) -> Result<EvalSums> {
        let whole = Whole::of(batch);
        // The sums of a step that is under way are none of an evaluation's business.
        let before = self.download(self.sums)?;
        self.ops.zero(self.sums)?;
        self.run(batch, &whole, None, &[], |_, _| Ok(()))?;
        let sums = self.download(self.sums)?;
        self.ops.upload(self.sums, &before)?;
        let labelled = match self.objective {
            Objective::MlmNsp | Objective::MlmSop => whole.labelled,
            Objective::Mlm => 0,
        };
        Ok(EvalSums {
            mlm_loss: f64::from(sums[0]),
            mlm_correct: sums[1] as u64,
            masked_tokens: whole.masked,
            nsp_loss: f64::from(sums[2]),
            nsp_correct: sums[3] as u64,
            labelled_rows: labelled,
            rows: batch.rows() as u64,
            tokens: batch.tokens() as u64,
        })
    }

    fn log_probabilities(&mut self, batch: &MaskedBatch) -> Result<Vec<f32>> {
        if batch.masked() == 0 {
            return Ok(Vec::new());
        }
        // It leaves the logits.
        self.evaluate(batch)?;
        let (vocabulary, width) = (
            self.config.vocab_size,
            self.config.vocab_size.next_multiple_of(ALIGN),
        );
        let room = self.room.as_ref().ok_or(Error::NotEncoded)?;
        let logits = self.download(room.logits.first(batch.masked() * width))?;
        Ok(logits
            .par_chunks(width)
            .flat_map_iter(|row| log_softmax(&row[..vocabulary]))
            .collect())
    }

    fn encode(
        &mut self,
        batch: &MaskedBatch,
        whole: &Whole,
        dropout: Option<&Dropout>,
    ) -> Result<Vec<f32>> {
        if batch.rows() == 0 {
            return Ok(Vec::new());
        }
        let bare = batch.bare();
        let size = Size::of(&bare, Objective::Mlm);
        let room = Room::fitting(
            &mut self.ops,
            &self.config,
            self.room.take(),
            size,
            self.recompute,
        )?;
        room.fill(&mut self.ops, &bare, whole, dropout, Objective::Mlm)?;
        let room = self.room.insert(room);
        let pass = encoding(&self.config, &self.weights, room, size, self.alike, dropout);
        let (sent, key) = (Sent::of(&bare), encoding_key("encode", &pass, &bare));
        recorded(&mut self.ops, key, |ops| {
            room.unpack(ops, pass.size, &sent)?;
            pass.forward(ops)
        })?;
        let last = pass.last().first(size.tokens * self.config.hidden_size);
        self.download(last)
    }

    fn encode_backward(
        &mut self,
        batch: &MaskedBatch,
        dropout: Option<&Dropout>,
        gradient: &[f32],
    ) -> Result<()> {
        if batch.rows() == 0 {
            return Ok(());
        }
        let bare = batch.bare();
        let size = Size::of(&bare, Objective::Mlm);
        let room = self.room.as_ref().ok_or(Error::NotEncoded)?;
        let pass = encoding(&self.config, &self.weights, room, size, self.alike, dropout);
        let h = self.config.hidden_size;
        let mut padded = gradient.to_vec();
        padded.resize(pass.size.tokens * h, 0.0);
        self.ops.upload(room.d.first(padded.len()), &padded)?;
        let key = encoding_key("encode backward", &pass, &bare);
        recorded(&mut self.ops, key, |ops| {
            let layers = (0..self.config.num_hidden_layers).rev().map(Stage::Layer);
            layers
                .chain([Stage::Embeddings])
                .try_for_each(|stage| pass.backward(ops, &self.weight_gradients, stage))
        })?;
        Ok(())
    }

    fn parameter(&mut self, parameter: &Parameter) -> Result<Vec<f32>> {
        self.download(self.parameters.part(parameter.offset, parameter.len()))
    }

    fn add_gradient(&mut self, parameter: &Parameter, gradient: &[f32]) -> Result<()> {
        let place = self.gradients.part(parameter.offset, parameter.len());
        let mut sum = self.download(place)?;
        sum.iter_mut().zip(gradient).for_each(|(s, g)| *s += g);
        Ok(self.ops.upload(place, &sum)?)
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
