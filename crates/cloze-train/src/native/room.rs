//! Where a step keeps what it computes: one set of places, made once and used by every step that fits.

use cloze_kernels::{Kind, Ops, Result, View};

use crate::BertConfig;

/// How much a batch holds, or a room can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// `T`.
    pub tokens: usize,
    /// `B`.
    pub rows: usize,
    /// `M`: predicted tokens.
    pub masked: usize,
}

impl Size {
    fn holds(self, other: Self) -> bool {
        self.tokens >= other.tokens && self.rows >= other.rows && self.masked >= other.masked
    }

    /// A little more than both, so that batches that differ by a few tokens share a room.
    fn rounded(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.max(other.tokens).next_multiple_of(256),
            rows: self.rows.max(other.rows).next_multiple_of(16),
            masked: self.masked.max(other.masked).next_multiple_of(64),
        }
    }
}

/// What one encoder layer keeps for its way back.
#[derive(Clone, Copy, Debug)]
pub struct LayerRoom {
    /// `[T, 3 H]`.
    pub qkv: View,
    /// `[T, H]`: attention's result.
    pub context: View,
    /// `[heads, T]`.
    pub log_sums: View,
    /// `[T, H]`: what the first norm normalised, and `[T, 2]` how; `[T, H]` its result.
    pub sum1: View,
    pub stats1: View,
    pub y1: View,
    /// `[T, F]`: before and after the activation.
    pub inner: View,
    pub active: View,
    /// As of the first norm.
    pub sum2: View,
    pub stats2: View,
    pub y2: View,
}

/// All places.
#[derive(Debug)]
pub struct Room {
    pub size: Size,
    all: Vec<View>,
    pub input_ids: View,
    pub token_type_ids: View,
    pub position_ids: View,
    pub cu_seqlens: View,
    pub masked_positions: View,
    pub masked_labels: View,
    /// `[B]`: the `[CLS]` of rows that have a label, and their labels.
    pub first: View,
    pub next_labels: View,
    /// The embeddings' norm.
    pub sum0: View,
    pub stats0: View,
    pub y0: View,
    pub layers: Vec<LayerRoom>,
    /// The MLM head, `[M, H]` but for `stats: [M, 2]` and `logits: [M, V]`.
    pub picked: View,
    pub inner: View,
    pub active: View,
    pub stats: View,
    pub normal: View,
    pub logits: View,
    /// The NSP head, `[B, H]` but for `next_logits: [B, 2]`.
    pub firsts: View,
    pub pooled: View,
    pub next_logits: View,
    /// `[max(M, B)]`.
    pub losses: View,
    pub hits: View,
    /// Gradients: three of `[T, H]`, one of `[T, max(F, 3 H)]`, two of `[max(M, B), H]`.
    pub d: View,
    pub e: View,
    pub c: View,
    pub wide: View,
    pub head: View,
    pub head2: View,
}

impl Room {
    /// A room that holds at least `needed`, in place of `old`.
    pub fn fitting(
        ops: &mut impl Ops,
        config: &BertConfig,
        old: Option<Self>,
        needed: Size,
    ) -> Result<Self> {
        if let Some(old) = old {
            if old.size.holds(needed) {
                return Ok(old);
            }
            for view in old.all {
                ops.release(view)?;
            }
            return Self::new(ops, config, needed.rounded(old.size));
        }
        Self::new(ops, config, needed.rounded(Size::default()))
    }

    fn new(ops: &mut impl Ops, config: &BertConfig, size: Size) -> Result<Self> {
        let Size {
            tokens: t,
            rows: b,
            masked: m,
        } = size;
        let (h, f, v) = (
            config.hidden_size,
            config.intermediate_size,
            config.vocab_size,
        );
        let mut all = Vec::new();
        let mut take = |kind: Kind, len: usize| -> Result<View> {
            let view = ops.allocate(kind, len)?;
            all.push(view);
            Ok(view)
        };
        let (word, float, act) = (Kind::Word, Kind::Float, Kind::Activation);
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for _ in 0..config.num_hidden_layers {
            layers.push(LayerRoom {
                qkv: take(act, t * 3 * h)?,
                context: take(act, t * h)?,
                log_sums: take(float, t * config.num_attention_heads)?,
                sum1: take(act, t * h)?,
                stats1: take(float, t * 2)?,
                y1: take(act, t * h)?,
                inner: take(act, t * f)?,
                active: take(act, t * f)?,
                sum2: take(act, t * h)?,
                stats2: take(float, t * 2)?,
                y2: take(act, t * h)?,
            });
        }
        Ok(Self {
            size,
            input_ids: take(word, t)?,
            token_type_ids: take(word, t)?,
            position_ids: take(word, t)?,
            cu_seqlens: take(word, b + 1)?,
            masked_positions: take(word, m)?,
            masked_labels: take(word, m)?,
            first: take(word, b)?,
            next_labels: take(word, b)?,
            sum0: take(act, t * h)?,
            stats0: take(float, t * 2)?,
            y0: take(act, t * h)?,
            layers,
            picked: take(act, m * h)?,
            inner: take(act, m * h)?,
            active: take(act, m * h)?,
            stats: take(float, m * 2)?,
            normal: take(act, m * h)?,
            logits: take(act, m * v)?,
            firsts: take(act, b * h)?,
            pooled: take(act, b * h)?,
            next_logits: take(act, b * 2)?,
            losses: take(float, m.max(b))?,
            hits: take(float, m.max(b))?,
            d: take(act, t * h)?,
            e: take(act, t * h)?,
            c: take(act, t * h)?,
            wide: take(act, t * f.max(3 * h))?,
            head: take(act, m.max(b) * h)?,
            head2: take(act, m.max(b) * h)?,
            all,
        })
    }
}
