//! Forward and backward of BERT with both heads, written once for every device.
//!
//! `[T, H]` throughout; attention alone looks at row boundaries, the MLM head at the predicted tokens only.

use cloze_kernels::{
    Attention, CrossEntropy, Embedding, Gelu, Norm, NormBackward, Ops, Result, Site, View,
};
use cloze_shard::random::{Key, Stage as Draws};

use super::room::{LayerRoom, Room, Size};
use super::weights::{Pair, Weights};
use crate::engine::Dropout;
use crate::parameters::{ALIGN, Stage};
use crate::{Activation, BertConfig};

/// What is the same for the whole pass.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    pub config: &'a BertConfig,
    pub weights: &'a Weights,
    pub room: &'a Room,
    /// What the batch fills, or all that the room holds.
    pub size: Size,
    /// `[4]`, added to: loss and hits of the MLM head, then of the NSP head.
    pub sums: View,
    pub dropout: Option<&'a Dropout>,
    /// Whether the way back follows.
    pub backward: bool,
}

impl Pass<'_> {
    fn h(&self) -> usize {
        self.config.hidden_size
    }

    /// Columns of the MLM head's logits.
    fn v(&self) -> usize {
        self.config.vocab_size.next_multiple_of(ALIGN)
    }

    /// A place where something is dropped. The numbers are those of the reference engine: in the order of the forward pass.
    fn site(&self, number: u32, attention: bool) -> Option<Site> {
        let dropout = self.dropout?;
        let p = if attention {
            dropout.attention
        } else {
            dropout.hidden
        };
        let key = Key::new(dropout.seed, Draws::Dropout).words();
        (p > 0.0).then(|| Site::new(key, number, p, self.room.draw))
    }

    /// `[T, n]` of a view that holds more.
    fn t(&self, view: View, n: usize) -> View {
        view.first(self.size.tokens * n)
    }

    /// `[M, n]`.
    fn m(&self, view: View, n: usize) -> View {
        view.first(self.size.masked * n)
    }

    /// `[labelled rows, n]`.
    fn b(&self, view: View, n: usize) -> View {
        view.first(self.size.labelled * n)
    }

    fn gelu(&self) -> Gelu {
        match self.config.hidden_act {
            Activation::GeluErf => Gelu::Erf,
            Activation::GeluTanh => Gelu::Tanh,
        }
    }

    fn embedding(&self, tables: &Weights) -> Embedding {
        let room = self.room;
        Embedding {
            input_ids: self.t(room.input_ids, 1),
            token_type_ids: self.t(room.token_type_ids, 1),
            position_ids: self.t(room.position_ids, 1),
            words: tables.words,
            positions: tables.positions,
            types: tables.types,
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn norm(
        &self,
        rows: usize,
        x: View,
        residual: Option<View>,
        at: Pair,
        stats: View,
        y: View,
    ) -> Norm {
        let n = rows * self.h();
        Norm {
            x: x.first(n),
            residual: residual.map(|r| r.first(n)),
            weight: at.weight,
            bias: at.bias,
            stats: stats.first(rows * 2),
            y: y.first(n),
            eps: self.config.layer_norm_eps as f32,
            before: None,
            after: None,
        }
    }

    fn norm0(&self) -> Norm {
        let room = self.room;
        let norm = self.norm(
            self.size.tokens,
            room.sum0,
            None,
            self.weights.norm0,
            room.stats0,
            room.y0,
        );
        Norm {
            after: self.site(1, false),
            ..norm
        }
    }

    /// The norms of layer `i` after attention and after the feed-forward part.
    fn norms(&self, i: usize) -> [Norm; 2] {
        let (room, weights, number) = (&self.room.layers[i], &self.weights.layers[i], 3 * i as u32);
        let tokens = self.size.tokens;
        let first = self.norm(
            tokens,
            room.sum1,
            Some(self.input(i)),
            weights.norm1,
            room.stats1,
            room.y1,
        );
        let second = self.norm(
            tokens,
            room.sum2,
            Some(room.y1),
            weights.norm2,
            room.stats2,
            room.y2,
        );
        [
            Norm {
                before: self.site(number + 3, false),
                ..first
            },
            Norm {
                before: self.site(number + 4, false),
                ..second
            },
        ]
    }

    fn head_norm(&self) -> Norm {
        let room = self.room;
        self.norm(
            self.size.masked,
            room.active,
            None,
            self.weights.transform_norm,
            room.stats,
            room.normal,
        )
    }

    fn attention(&self, i: usize, room: &LayerRoom) -> Attention {
        Attention {
            qkv: self.t(room.qkv, 3 * self.h()),
            cu_seqlens: self.room.cu_seqlens.first(self.size.rows + 1),
            longest: self.size.longest,
            heads: self.config.num_attention_heads,
            context: self.t(room.context, self.h()),
            log_sums: self.t(room.log_sums, self.config.num_attention_heads),
            dropout: self.site(3 * i as u32 + 2, true),
        }
    }

    /// What layer `i` is given.
    fn input(&self, i: usize) -> View {
        let view = if i == 0 {
            self.room.y0
        } else {
            self.room.layers[i - 1].y2
        };
        self.t(view, self.h())
    }

    /// What the encoder gives.
    pub fn last(&self) -> View {
        self.input(self.config.num_hidden_layers)
    }

    /// Encoder and heads, up to the logits.
    pub fn forward(&self, ops: &mut impl Ops) -> Result<()> {
        let (h, room, w) = (self.h(), self.room, self.weights);
        ops.embed(&self.embedding(w), self.t(room.sum0, h))?;
        ops.norm(&self.norm0())?;
        for i in 0..self.config.num_hidden_layers {
            self.layer(ops, i)?;
        }
        if self.size.masked > 0 {
            let (picked, inner, norm) = (
                self.m(room.picked, h),
                self.m(room.inner, h),
                self.head_norm(),
            );
            ops.gather(self.last(), self.m(room.masked_positions, 1), picked, h)?;
            ops.linear(picked, w.transform.weight, w.transform.bias, inner, h)?;
            ops.gelu(self.gelu(), inner, norm.x, self.backward)?;
            ops.norm(&norm)?;
            let v = self.v();
            ops.linear(
                norm.y,
                w.words,
                w.prediction_bias,
                self.m(room.logits, v),
                v,
            )?;
        }
        if self.size.labelled > 0 {
            let (firsts, pooled) = (self.b(room.firsts, h), self.b(room.pooled, h));
            ops.gather(self.last(), self.b(room.first, 1), firsts, h)?;
            ops.linear(firsts, w.pooler.weight, w.pooler.bias, pooled, h)?;
            ops.tanh(pooled)?;
            ops.linear(
                pooled,
                w.relationship.weight,
                w.relationship.bias,
                self.b(room.next_logits, ALIGN),
                ALIGN,
            )?;
        }
        self.losses(ops)
    }

    /// Layer `i` forward.
    fn layer(&self, ops: &mut impl Ops, i: usize) -> Result<()> {
        let (h, f) = (self.h(), self.config.intermediate_size);
        let (at, w) = (&self.room.layers[i], &self.weights.layers[i]);
        let [norm1, norm2] = self.norms(i);
        ops.linear(
            self.input(i),
            w.qkv.weight,
            w.qkv.bias,
            self.t(at.qkv, 3 * h),
            3 * h,
        )?;
        let attention = self.attention(i, at);
        ops.attention(&attention)?;
        ops.linear(
            attention.context,
            w.attention_output.weight,
            w.attention_output.bias,
            norm1.x,
            h,
        )?;
        ops.norm(&norm1)?;
        ops.linear(
            norm1.y,
            w.intermediate.weight,
            w.intermediate.bias,
            self.t(at.inner, f),
            f,
        )?;
        ops.gelu(
            self.gelu(),
            self.t(at.inner, f),
            self.t(at.active, f),
            self.backward,
        )?;
        ops.linear(
            self.t(at.active, f),
            w.output.weight,
            w.output.bias,
            norm2.x,
            h,
        )?;
        ops.norm(&norm2)
    }

    /// Losses and hits of both heads. On the way to a backward pass losses are means, and the logits become their gradient.
    fn losses(&self, ops: &mut impl Ops) -> Result<()> {
        let (room, size) = (self.room, self.size);
        let heads = [
            (
                size.masked,
                room.logits,
                room.masked_labels,
                self.config.vocab_size,
                self.v(),
            ),
            (size.labelled, room.next_logits, room.next_labels, 2, ALIGN),
        ];
        for (i, (n, logits, labels, classes, width)) in heads.into_iter().enumerate() {
            if n == 0 {
                continue;
            }
            let (losses, hits) = (room.losses.first(n), room.hits.first(n));
            let scale = self.backward.then(|| room.scales.part(i, 1));
            ops.cross_entropy(&CrossEntropy {
                logits: logits.first(n * width),
                labels: labels.first(n),
                classes,
                losses,
                hits,
                scale,
            })?;
            ops.total(losses, scale, self.sums.part(2 * i, 1))?;
            ops.total(hits, None, self.sums.part(2 * i + 1, 1))?;
        }
        Ok(())
    }

    /// Adds the gradients of one [`Stage`] to `gradients`, once those before it are done; the logits hold theirs already.
    pub fn backward(&self, ops: &mut impl Ops, gradients: &Weights, stage: Stage) -> Result<()> {
        let (h, room) = (self.h(), self.room);
        let d = self.t(room.d, h);
        match stage {
            Stage::Heads => {
                ops.zero(d)?;
                self.mlm_backward(ops, gradients, d)?;
                self.nsp_backward(ops, gradients, d)
            }
            Stage::Layer(i) => {
                // The last layer's places hold what it wrote.
                if self.room.shared && i + 1 < self.config.num_hidden_layers {
                    self.layer(ops, i)?;
                }
                self.layer_backward(ops, i, gradients, d)
            }
            Stage::Embeddings => {
                let norm = self.norm0();
                let (dweight, dbias) = (gradients.norm0.weight, gradients.norm0.bias);
                ops.norm_backward(&NormBackward {
                    forward: norm,
                    dy: d,
                    dx: None,
                    dweight,
                    dbias,
                    dx_bias: None,
                })?;
                ops.embed_backward(&self.embedding(gradients), d)
            }
        }
    }

    fn mlm_backward(&self, ops: &mut impl Ops, g: &Weights, d: View) -> Result<()> {
        if self.size.masked == 0 {
            return Ok(());
        }
        let (h, v, room, w) = (self.h(), self.v(), self.room, self.weights);
        let (logits, norm) = (self.m(room.logits, v), self.head_norm());
        let (dhead, dpicked) = (self.m(room.head, h), self.m(room.head2, h));
        ops.column_sum(logits, g.prediction_bias)?;
        ops.linear_backward_weight(logits, norm.y, g.words, v)?;
        ops.linear_backward_input(logits, w.words, dhead, v, false)?;
        let (dweight, dbias) = (g.transform_norm.weight, g.transform_norm.bias);
        ops.norm_backward(&NormBackward {
            forward: norm,
            dy: dhead,
            dx: None,
            dweight,
            dbias,
            dx_bias: None,
        })?;
        ops.gelu_backward(self.gelu(), self.m(room.inner, h), dhead, g.transform.bias)?;
        ops.linear_backward_weight(dhead, self.m(room.picked, h), g.transform.weight, h)?;
        ops.linear_backward_input(dhead, w.transform.weight, dpicked, h, false)?;
        ops.scatter_add(dpicked, self.m(room.masked_positions, 1), d, h)
    }

    fn nsp_backward(&self, ops: &mut impl Ops, g: &Weights, d: View) -> Result<()> {
        if self.size.labelled == 0 {
            return Ok(());
        }
        let (h, room, w) = (self.h(), self.room, self.weights);
        let (logits, pooled) = (self.b(room.next_logits, ALIGN), self.b(room.pooled, h));
        let (dpooled, dfirsts) = (self.b(room.head, h), self.b(room.head2, h));
        ops.column_sum(logits, g.relationship.bias)?;
        ops.linear_backward_weight(logits, pooled, g.relationship.weight, ALIGN)?;
        ops.linear_backward_input(logits, w.relationship.weight, dpooled, ALIGN, false)?;
        ops.tanh_backward(pooled, dpooled)?;
        ops.column_sum(dpooled, g.pooler.bias)?;
        ops.linear_backward_weight(dpooled, self.b(room.firsts, h), g.pooler.weight, h)?;
        ops.linear_backward_input(dpooled, w.pooler.weight, dfirsts, h, false)?;
        ops.scatter_add(dfirsts, self.b(room.first, 1), d, h)
    }

    /// `d`: the gradient of the layer's result; becomes that of its input.
    fn layer_backward(
        &self,
        ops: &mut impl Ops,
        i: usize,
        gradients: &Weights,
        d: View,
    ) -> Result<()> {
        let (h, f, room) = (self.h(), self.config.intermediate_size, self.room);
        let (at, w, g) = (
            &room.layers[i],
            &self.weights.layers[i],
            &gradients.layers[i],
        );
        let [norm1, norm2] = self.norms(i);
        let e = self.t(room.e, h);
        // Where nothing is dropped, the gradient of what a norm was given is that of its sum.
        let split = |norm: &Norm| norm.before.map_or((None, d), |_| (Some(e), e));

        let (dx, dense) = split(&norm2);
        let (dweight, dbias, dx_bias) = (g.norm2.weight, g.norm2.bias, Some(g.output.bias));
        ops.norm_backward(&NormBackward {
            forward: norm2,
            dy: d,
            dx,
            dweight,
            dbias,
            dx_bias,
        })?;
        let inner = self.t(room.wide, f);
        ops.linear_backward_weight(dense, self.t(at.active, f), g.output.weight, h)?;
        ops.linear_backward_input(dense, w.output.weight, inner, h, false)?;
        ops.gelu_backward(self.gelu(), self.t(at.inner, f), inner, g.intermediate.bias)?;
        ops.linear_backward_weight(inner, norm1.y, g.intermediate.weight, f)?;
        ops.linear_backward_input(inner, w.intermediate.weight, d, f, true)?;

        let (dx, dense) = split(&norm1);
        let (dweight, dbias, dx_bias) =
            (g.norm1.weight, g.norm1.bias, Some(g.attention_output.bias));
        ops.norm_backward(&NormBackward {
            forward: norm1,
            dy: d,
            dx,
            dweight,
            dbias,
            dx_bias,
        })?;
        let (attention, dcontext, dqkv) = (
            self.attention(i, at),
            self.t(room.c, h),
            self.t(room.wide, 3 * h),
        );
        ops.linear_backward_weight(dense, attention.context, g.attention_output.weight, h)?;
        ops.linear_backward_input(dense, w.attention_output.weight, dcontext, h, false)?;
        ops.attention_backward(&attention, dcontext, dqkv)?;
        ops.column_sum(dqkv, g.qkv.bias)?;
        ops.linear_backward_weight(dqkv, self.input(i), g.qkv.weight, 3 * h)?;
        ops.linear_backward_input(dqkv, w.qkv.weight, d, 3 * h, true)
    }
}
