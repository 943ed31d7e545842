//! Where a step keeps what it computes: one set of places, made once and used by every step that fits.

use cloze_kernels::{Kind, Masks, NONE, Ops, Result, Unpack, View};
use cloze_shard::masking::Replacing;

use crate::BertConfig;
use crate::batch::MaskedBatch;
use crate::engine::{Dropout, Objective, Whole};
use crate::feed::MOST_SPECIAL;
use crate::parameters::ALIGN;

/// How much a batch holds, or a room can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Size {
    /// `T`.
    pub tokens: usize,
    /// `B`.
    pub rows: usize,
    /// `M`: predicted tokens.
    pub masked: usize,
    /// Rows that have a label, where the objective trains them.
    pub labelled: usize,
    /// Tokens of the longest row.
    pub longest: usize,
}

impl Size {
    /// Of a batch.
    pub fn of(batch: &MaskedBatch, objective: Objective) -> Self {
        Self {
            tokens: batch.tokens(),
            rows: batch.rows(),
            masked: batch.masked(),
            labelled: match objective {
                Objective::MlmNsp | Objective::MlmSop => batch.labelled_rows(),
                Objective::Mlm => 0,
            },
            longest: batch.spans().map(|(_, n)| n).max().unwrap_or(0),
        }
    }

    fn holds(self, other: Self) -> bool {
        self.tokens >= other.tokens
            && self.rows >= other.rows
            && self.masked >= other.masked
            && self.longest >= other.longest
    }

    /// A little more than both, so that batches that differ by a few tokens share a room.
    fn rounded(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.max(other.tokens).next_multiple_of(256),
            rows: self.rows.max(other.rows).next_multiple_of(16),
            masked: self.masked.max(other.masked).next_multiple_of(64),
            labelled: self.rows.max(other.rows).next_multiple_of(16),
            longest: self.longest.max(other.longest).next_multiple_of(64),
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
    /// Whether layers share their places, but for their results: each computes anew on the way back what another has written over.
    pub shared: bool,
    all: Vec<View>,
    /// All integers, one after another: what is sent with each batch, what is sent where masks are drawn already, what is made on the device.
    words: View,
    /// `[2]`: the step, and tokens of it before the first: what keys dropout.
    pub draw: View,
    /// What [`Unpack`] and [`Masks`] look at.
    wire: View,
    pub cu_seqlens: View,
    b_start: View,
    numbers: View,
    starts: View,
    epoch: View,
    special: View,
    /// `[B]`: the `[CLS]` of rows that have a label, and their labels.
    pub first: View,
    pub next_labels: View,
    pub masked_positions: View,
    pub masked_labels: View,
    pub input_ids: View,
    pub token_type_ids: View,
    pub position_ids: View,
    /// `[2]`: one over the number of predicted tokens and of labelled rows.
    pub scales: View,
    /// The embeddings' norm.
    pub sum0: View,
    pub stats0: View,
    pub y0: View,
    pub layers: Vec<LayerRoom>,
    /// The MLM head, `[M, H]` but for `stats: [M, 2]` and `logits: [M, V']`, padded to a multiple of [`ALIGN`].
    pub picked: View,
    pub inner: View,
    pub active: View,
    pub stats: View,
    pub normal: View,
    pub logits: View,
    /// The NSP head, `[B, H]` but for `next_logits: [B, ALIGN]`.
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

/// Bytes of a room for `tokens` in `rows`, `masked` of them predicted, where activations are in single precision: on the CPU.
pub fn bytes(config: &BertConfig, tokens: u64, rows: u64, masked: u64, shared: bool) -> u64 {
    let (h, f) = (config.hidden_size as u64, config.intermediate_size as u64);
    let (layers, heads) = (
        config.num_hidden_layers as u64,
        config.num_attention_heads as u64,
    );
    let v = (config.vocab_size as u64).next_multiple_of(ALIGN as u64);
    // As `Room::new` takes them: what layers share, what each has, embeddings and gradients, and the heads.
    let layer = 8 * h + 2 * f + heads + 4;
    let own = match shared {
        true => layer + (layers.max(1) - 1) * h,
        false => layers * layer,
    };
    let around = 5 * h + 2 + f.max(3 * h) + 4;
    let heads = masked * (4 * h + v + 2) + rows * (2 * h + ALIGN as u64);
    let both = masked.max(rows) * (2 * h + 2);
    4 * (tokens * (own + around) + heads + both)
}

impl Room {
    /// A room that holds at least `needed`, in place of `old`.
    pub fn fitting(
        ops: &mut impl Ops,
        config: &BertConfig,
        old: Option<Self>,
        needed: Size,
        shared: bool,
    ) -> Result<Self> {
        if let Some(old) = old {
            if old.size.holds(needed) {
                return Ok(old);
            }
            for view in old.all {
                ops.release(view)?;
            }
            return Self::new(ops, config, needed.rounded(old.size), shared);
        }
        Self::new(ops, config, needed.rounded(Size::default()), shared)
    }

    fn new(ops: &mut impl Ops, config: &BertConfig, size: Size, shared: bool) -> Result<Self> {
        let Size {
            tokens: t,
            rows: b,
            masked: m,
            ..
        } = size;
        let (h, f, v) = (
            config.hidden_size,
            config.intermediate_size,
            config.vocab_size.next_multiple_of(ALIGN),
        );
        let mut all = Vec::new();
        let mut take = |kind: Kind, len: usize| -> Result<View> {
            let view = ops.allocate(kind, len)?;
            all.push(view);
            Ok(view)
        };
        let (word, float, act) = (Kind::Word, Kind::Float, Kind::Activation);
        let mut layers: Vec<LayerRoom> = Vec::with_capacity(config.num_hidden_layers);
        for _ in 0..config.num_hidden_layers {
            if let Some(first) = layers.first().copied().filter(|_| shared) {
                layers.push(LayerRoom {
                    y2: take(act, t * h)?,
                    ..first
                });
                continue;
            }
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
        let lengths = [
            2,
            t,
            b + 1,
            b,
            2 * b,
            b + 1,
            1,
            MOST_SPECIAL,
            b,
            b,
            m,
            m,
            t,
            t,
            t,
        ];
        let words = take(
            word,
            lengths.iter().map(|n| n.next_multiple_of(ALIGN)).sum(),
        )?;
        let mut start = 0;
        let parts = lengths.map(|n| {
            let part = words.part(start, n);
            start += n.next_multiple_of(ALIGN);
            part
        });
        Ok(Self {
            size,
            shared,
            words,
            draw: parts[0],
            wire: parts[1],
            cu_seqlens: parts[2],
            b_start: parts[3],
            numbers: parts[4],
            starts: parts[5],
            epoch: parts[6],
            special: parts[7],
            first: parts[8],
            next_labels: parts[9],
            masked_positions: parts[10],
            masked_labels: parts[11],
            input_ids: parts[12],
            token_type_ids: parts[13],
            position_ids: parts[14],
            scales: take(float, 2)?,
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
            next_logits: take(act, b * ALIGN)?,
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

    /// Sends a batch, and padding after it.
    pub fn fill(
        &self,
        ops: &mut impl Ops,
        batch: &MaskedBatch,
        whole: &Whole,
        dropout: Option<&Dropout>,
        objective: Objective,
    ) -> Result<()> {
        let mut words = Vec::with_capacity(self.words.len());
        let mut put = |view: View, values: &mut dyn Iterator<Item = u32>, padding: u32| {
            let end = words.len() + view.len();
            words.extend(values);
            words.resize(end, padding);
            words.resize(end.next_multiple_of(ALIGN), 0);
        };
        let step = dropout.map_or(0, |d| d.step as u32);
        put(self.draw, &mut [step, whole.first_token].into_iter(), 0);
        let ids = &batch.input_ids;
        if narrow(batch) {
            let pair = |p: &[u32]| p[0] | p.get(1).copied().unwrap_or(0) << 16;
            put(self.wire, &mut ids.chunks(2).map(pair), 0);
        } else {
            put(self.wire, &mut ids.iter().copied(), 0);
        }
        let end = batch.tokens() as u32;
        put(self.cu_seqlens, &mut batch.cu_seqlens.iter().copied(), end);
        let b_start = |(start, n): (usize, usize)| {
            batch.token_type_ids[start..start + n].partition_point(|&t| t == 0) as u32
        };
        put(self.b_start, &mut batch.spans().map(b_start), 0);
        let (mut numbers, mut starts, mut epoch, mut special): (&[u64], &[u32], _, &[u32]) =
            (&[], &[], 0, &[]);
        if let Some(p) = &batch.pending {
            (numbers, starts) = (&p.numbers, &p.starts);
            (epoch, special) = (p.key.words().1, p.masker.special());
        }
        let halves = numbers.iter().flat_map(|&n| [n as u32, (n >> 32) as u32]);
        put(self.numbers, &mut halves.into_iter(), 0);
        let last = starts.last().copied().unwrap_or(0);
        put(self.starts, &mut starts.iter().copied(), last);
        put(self.epoch, &mut std::iter::once(epoch), 0);
        put(self.special, &mut special.iter().copied(), NONE);
        let rows = batch.next_sentence_labels.iter().zip(&batch.cu_seqlens);
        let labelled = || {
            let trained = objective.has_pairs();
            let one = |(label, &first): (&Option<_>, _)| Some((first, (*label)? as u32));
            rows.clone().filter_map(one).filter(move |_| trained)
        };
        put(self.first, &mut labelled().map(|(first, _)| first), NONE);
        put(
            self.next_labels,
            &mut labelled().map(|(_, label)| label),
            NONE,
        );
        if batch.pending.is_none() {
            let (positions, labels) = (&batch.masked_positions, &batch.masked_labels);
            put(self.masked_positions, &mut positions.iter().copied(), NONE);
            put(self.masked_labels, &mut labels.iter().copied(), NONE);
        }
        ops.upload_words(self.words.first(words.len()), &words)?;
        ops.upload(self.scales, &whole.scales())
    }

    /// Makes of what was sent what the step looks at.
    pub fn unpack(&self, ops: &mut impl Ops, size: Size, sent: &Sent) -> Result<()> {
        let cu_seqlens = self.cu_seqlens.first(size.rows + 1);
        ops.unpack(&Unpack {
            wire: self.wire,
            narrow: sent.narrow,
            cu_seqlens,
            b_start: self.b_start.first(size.rows),
            input_ids: self.input_ids.first(size.tokens),
            token_type_ids: self.token_type_ids.first(size.tokens),
            position_ids: self.position_ids.first(size.tokens),
        })?;
        let Some((key, replacing)) = sent.masks else {
            return Ok(());
        };
        ops.mask(&Masks {
            input_ids: self.input_ids.first(size.tokens),
            cu_seqlens,
            numbers: self.numbers.first(2 * size.rows),
            starts: self.starts.first(size.rows + 1),
            epoch: self.epoch,
            special: self.special,
            key,
            mask_id: replacing.mask_id,
            replacements: replacing.replacements,
            mask_below: replacing.mask_below,
            random_below: replacing.random_below,
            longest: size.longest,
            positions: self.masked_positions.first(size.masked),
            labels: self.masked_labels.first(size.masked),
        })
    }
}

/// Whether a batch's ids are sent in 16 bits.
fn narrow(batch: &MaskedBatch) -> bool {
    batch.input_ids.iter().all(|&id| id <= u32::from(u16::MAX))
}

/// How a batch was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sent {
    narrow: bool,
    /// What masks that are still to be drawn are drawn by.
    masks: Option<([u32; 2], Replacing)>,
}

impl Sent {
    pub fn of(batch: &MaskedBatch) -> Self {
        let masks = batch.pending.as_ref();
        Self {
            narrow: narrow(batch),
            masks: masks.map(|p| (p.key.words().0, p.masker.replacing())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloze_kernels::cpu::{Cpu, isa};

    #[test]
    fn bytes_are_those_of_the_places() {
        let text = serde_json::json!({"model_type": "bert", "vocab_size": 1_000, "hidden_size": 64, "num_hidden_layers": 3,
            "num_attention_heads": 4, "intermediate_size": 200, "max_position_embeddings": 64});
        let config = BertConfig::parse(&text.to_string()).unwrap();
        let size = Size {
            tokens: 4_096,
            rows: 96,
            masked: 640,
            labelled: 96,
            longest: 64,
        };
        for shared in [false, true] {
            let mut ops = Cpu::new(isa::Precision::F32);
            let room = Room::new(&mut ops, &config, size, shared).unwrap();
            let taken: u64 = room.all.iter().map(|v| 4 * v.len() as u64).sum();
            let said = bytes(&config, 4_096, 96, 640, shared);
            let off = said.abs_diff(taken) as f64 / taken as f64;
            assert!(off < 0.02, "{shared}: {said} {taken}");
        }
    }
}
