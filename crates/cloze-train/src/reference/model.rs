//! The forward pass, unpadded: `[T, H]` throughout, `T` tokens of all rows; only attention looks at row boundaries.

use candle_core::{D, DType, Device, Result, Tensor, Var};

use super::dropout::Dropper;
use crate::batch::MaskedBatch;
use crate::engine::{Dropout, Objective};
use crate::parameters::Layout;
use crate::{Activation, BertConfig};

/// The parameters by name, for one pass.
pub struct Model<'a> {
    config: &'a BertConfig,
    layout: &'a Layout,
    variables: &'a [Var],
}

/// What the heads give: log-probabilities of what is predicted, and what is right.
pub struct Heads {
    /// `[M, V]`, and `[M]`.
    mlm: Option<(Tensor, Tensor)>,
    /// `[labelled rows, 2]`, and `[labelled rows]`.
    nsp: Option<(Tensor, Tensor)>,
}

/// Where a row's tokens lie in the padded block that attention works on, and back.
struct Padding {
    spans: Vec<(usize, usize)>,
    longest: usize,
    /// `[B · L]`: the token at each place; any token where there is none.
    gather: Tensor,
    /// `[T]`: the place of each token.
    scatter: Tensor,
    /// `[B, 1, 1, L]`: 0 at keys, −∞ (the smallest finite number) beyond the row.
    bias: Tensor,
}

impl Padding {
    fn new(batch: &MaskedBatch) -> Result<Self> {
        let spans: Vec<(usize, usize)> = batch.spans().collect();
        let longest = spans.iter().map(|&(_, n)| n).max().unwrap_or(0);
        let places = spans.len() * longest;
        let (mut gather, mut bias) = (vec![0u32; places], vec![f32::MIN; places]);
        let mut scatter = Vec::with_capacity(batch.tokens());
        for (row, &(start, n)) in spans.iter().enumerate() {
            for i in 0..n {
                let place = row * longest + i;
                gather[place] = (start + i) as u32;
                bias[place] = 0.0;
                scatter.push(place as u32);
            }
        }
        let rows = spans.len();
        Ok(Self {
            spans,
            longest,
            gather: Tensor::from_vec(gather, places, &Device::Cpu)?,
            scatter: Tensor::from_vec(scatter, batch.tokens(), &Device::Cpu)?,
            bias: Tensor::from_vec(bias, (rows, 1, 1, longest), &Device::Cpu)?,
        })
    }
}

impl Heads {
    /// Of the MLM head, `[M, V]`, flat.
    pub fn log_probabilities(&self) -> Result<Vec<f32>> {
        match &self.mlm {
            Some((values, _)) => values.flatten_all()?.to_vec1(),
            None => Ok(Vec::new()),
        }
    }
}

impl<'a> Model<'a> {
    pub fn new(config: &'a BertConfig, layout: &'a Layout, variables: &'a [Var]) -> Self {
        Self {
            config,
            layout,
            variables,
        }
    }

    fn get(&self, name: &str) -> &'a Tensor {
        let position = self.layout.parameters().iter().position(|p| p.name == name);
        // Names come from this file and the layout of the same configuration.
        self.variables[position.unwrap_or_else(|| unreachable!("no parameter {name}"))].as_tensor()
    }

    /// Encoder and heads; the NSP head only where the objective trains it.
    pub fn forward(
        &self,
        batch: &MaskedBatch,
        first_token: u32,
        dropout: Option<&Dropout>,
        objective: Objective,
    ) -> Result<Heads> {
        let x = self.encode(batch, first_token, dropout)?;
        let mlm = (!batch.masked_positions.is_empty())
            .then(|| self.predictions(&x, batch))
            .transpose()?;
        let labelled = batch.labelled_rows() > 0 && objective.has_pairs();
        let nsp = labelled.then(|| self.relationship(&x, batch)).transpose()?;
        Ok(Heads { mlm, nsp })
    }

    /// The encoder: `[T, H]`.
    pub fn encode(
        &self,
        batch: &MaskedBatch,
        first_token: u32,
        dropout: Option<&Dropout>,
    ) -> Result<Tensor> {
        let mut dropper = dropout.map(|d| Dropper::new(d, first_token));
        let padding = Padding::new(batch)?;
        let mut x = self.embed(batch, &mut dropper)?;
        for i in 0..self.config.num_hidden_layers {
            x = self.layer(
                &x,
                &format!("bert.encoder.layer.{i}"),
                &padding,
                &mut dropper,
            )?;
        }
        Ok(x)
    }

    /// Word + position + segment embeddings, LayerNorm, dropout.
    fn embed(&self, batch: &MaskedBatch, dropper: &mut Option<Dropper>) -> Result<Tensor> {
        let look_up = |name: &str, ids: Vec<u32>| {
            let n = ids.len();
            let table = self.get(&format!("bert.embeddings.{name}_embeddings.weight"));
            table.index_select(&Tensor::from_vec(ids, n, &Device::Cpu)?, 0)
        };
        let positions = batch.spans().flat_map(|(_, n)| 0..n as u32).collect();
        let words = look_up("word", batch.input_ids.clone())?;
        let sum = (words + look_up("position", positions)?)?;
        let sum = (sum + look_up("token_type", batch.token_type_ids.clone())?)?;
        let x = self.layer_norm(&sum, "bert.embeddings.LayerNorm")?;
        drop_hidden(&x, dropper)
    }

    /// One post-LayerNorm encoder layer.
    fn layer(
        &self,
        x: &Tensor,
        at: &str,
        padding: &Padding,
        dropper: &mut Option<Dropper>,
    ) -> Result<Tensor> {
        let context = self.attention(x, at, padding, dropper)?;
        let dense = self.linear(&context, &format!("{at}.attention.output.dense"))?;
        let dense = drop_hidden(&dense, dropper)?;
        let x = self.layer_norm(&(dense + x)?, &format!("{at}.attention.output.LayerNorm"))?;
        let inner = self.activate(&self.linear(&x, &format!("{at}.intermediate.dense"))?)?;
        let dense = self.linear(&inner, &format!("{at}.output.dense"))?;
        let dense = drop_hidden(&dense, dropper)?;
        self.layer_norm(&(dense + x)?, &format!("{at}.output.LayerNorm"))
    }

    /// softmax(QKᵀ/√d) V by head, within rows; `[T, H]`.
    fn attention(
        &self,
        x: &Tensor,
        at: &str,
        padding: &Padding,
        dropper: &mut Option<Dropper>,
    ) -> Result<Tensor> {
        let (rows, longest) = (padding.spans.len(), padding.longest);
        let heads = self.config.num_attention_heads;
        let size = self.config.hidden_size / heads;
        let project = |name: &str| {
            let x = self.linear(x, &format!("{at}.attention.self.{name}"))?;
            let x = x
                .index_select(&padding.gather, 0)?
                .reshape((rows, longest, heads, size))?;
            x.transpose(1, 2)?.contiguous()
        };
        let (q, k, v) = (project("query")?, project("key")?, project("value")?);
        let scores = (q.matmul(&k.transpose(2, 3)?.contiguous()?)? / (size as f64).sqrt())?;
        let weights = candle_nn::ops::softmax(&scores.broadcast_add(&padding.bias)?, D::Minus1)?;
        let weights = match dropper {
            Some(dropper) => dropper.attention(&weights, &padding.spans)?,
            None => weights,
        };
        let context = weights.matmul(&v)?.transpose(1, 2)?.contiguous()?;
        context
            .reshape((rows * longest, heads * size))?
            .index_select(&padding.scatter, 0)
    }

    /// The MLM head on the masked positions only: dense, activation, LayerNorm, tied decoder.
    fn predictions(&self, x: &Tensor, batch: &MaskedBatch) -> Result<(Tensor, Tensor)> {
        let m = batch.masked_positions.len();
        let x = x.index_select(
            &Tensor::from_vec(batch.masked_positions.clone(), m, &Device::Cpu)?,
            0,
        )?;
        let x = self.activate(&self.linear(&x, "cls.predictions.transform.dense")?)?;
        let x = self.layer_norm(&x, "cls.predictions.transform.LayerNorm")?;
        let words = self.get(crate::parameters::WORD_EMBEDDINGS);
        let logits = x
            .matmul(&words.t()?)?
            .broadcast_add(self.get(crate::parameters::PREDICTION_BIAS))?;
        let labels = Tensor::from_vec(batch.masked_labels.clone(), m, &Device::Cpu)?;
        Ok((candle_nn::ops::log_softmax(&logits, D::Minus1)?, labels))
    }

    /// The pooler on `[CLS]` and the NSP head, for the rows that have a label.
    fn relationship(&self, x: &Tensor, batch: &MaskedBatch) -> Result<(Tensor, Tensor)> {
        let labelled = || {
            batch
                .next_sentence_labels
                .iter()
                .enumerate()
                .filter_map(|(i, l)| Some((i, (*l)?)))
        };
        let first: Vec<u32> = labelled().map(|(row, _)| batch.cu_seqlens[row]).collect();
        let labels: Vec<u32> = labelled().map(|(_, label)| label as u32).collect();
        let n = labels.len();
        let first = x.index_select(&Tensor::from_vec(first, n, &Device::Cpu)?, 0)?;
        let pooled = self.linear(&first, "bert.pooler.dense")?.tanh()?;
        let logits = self.linear(&pooled, "cls.seq_relationship")?;
        Ok((
            candle_nn::ops::log_softmax(&logits, D::Minus1)?,
            Tensor::from_vec(labels, n, &Device::Cpu)?,
        ))
    }

    /// x Wᵀ + b
    fn linear(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let weight = self.get(&format!("{name}.weight"));
        x.matmul(&weight.t()?)?
            .broadcast_add(self.get(&format!("{name}.bias")))
    }

    /// (x − mean) / √(variance + ε) · w + b (Ba, Kiros, Hinton 2016), from operations that have a backward pass.
    fn layer_norm(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let normal = centred.broadcast_div(&(variance + self.config.layer_norm_eps)?.sqrt()?)?;
        let weight = self.get(&format!("{name}.weight"));
        normal
            .broadcast_mul(weight)?
            .broadcast_add(self.get(&format!("{name}.bias")))
    }

    fn activate(&self, x: &Tensor) -> Result<Tensor> {
        match self.config.hidden_act {
            Activation::GeluErf => x.gelu_erf(),
            Activation::GeluTanh => x.gelu(),
        }
    }
}

fn drop_hidden(x: &Tensor, dropper: &mut Option<Dropper>) -> Result<Tensor> {
    dropper
        .as_mut()
        .map_or_else(|| Ok(x.clone()), |d| d.hidden(x))
}

/// Mean cross-entropy.
fn mean_loss(head: &Option<(Tensor, Tensor)>) -> Result<Option<Tensor>> {
    head.as_ref()
        .map(|(log_probabilities, labels)| {
            log_probabilities
                .gather(&labels.unsqueeze(1)?, 1)?
                .mean_all()?
                .neg()
        })
        .transpose()
}

/// Summed cross-entropy, right answers, answers.
fn sums(head: &Option<(Tensor, Tensor)>) -> Result<Option<(f64, u64, u64)>> {
    let Some((log_probabilities, labels)) = head else {
        return Ok(None);
    };
    let right = log_probabilities.gather(&labels.unsqueeze(1)?, 1)?;
    let loss = -right.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?;
    let hits = log_probabilities.argmax(D::Minus1)?.eq(labels)?;
    let correct = hits.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?;
    Ok(Some((loss, correct as u64, labels.elem_count() as u64)))
}

impl Heads {
    pub fn mlm_loss(&self) -> Result<Option<Tensor>> {
        mean_loss(&self.mlm)
    }

    pub fn nsp_loss(&self) -> Result<Option<Tensor>> {
        mean_loss(&self.nsp)
    }

    pub fn mlm_sums(&self) -> Result<Option<(f64, u64, u64)>> {
        sums(&self.mlm)
    }

    pub fn nsp_sums(&self) -> Result<Option<(f64, u64, u64)>> {
        sums(&self.nsp)
    }
}
