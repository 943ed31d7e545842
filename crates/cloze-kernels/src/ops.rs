//! The operations of one training step, which every device offers.
//!
//! `T` tokens of all rows stand one after another, without padding; `H` is the hidden size. Matrices are row-major; weights are `[out, in]`,
//! as PyTorch has them.
//!
//! What changes from step to step (boundaries of rows, scales, rates, what keys dropout) is looked up in memory when an operation runs, never
//! in what it is called with: so a sequence of operations can be recorded once and run again. Where shapes must be the same each time, too,
//! views are larger than what a batch fills: tokens after the last row and places that are [`NONE`] are padding, which no result depends on.

use crate::Result;
use crate::dropout::Site;

/// In place of a row, a token or a label: there is none.
pub const NONE: u32 = u32::MAX;

/// What lies in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Single-precision numbers: parameters, gradients, moments, losses, statistics.
    Float,
    /// Numbers in the precision that the device keeps activations in.
    Activation,
    /// 32-bit integers: ids, positions, boundaries.
    Word,
}

/// A run of elements on a device. It is a place, not memory: copying it copies nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    pub(crate) buffer: u32,
    pub(crate) start: usize,
    pub(crate) len: usize,
    pub(crate) kind: Kind,
}

impl View {
    /// Elements.
    #[must_use]
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// `len` elements from `start` on.
    ///
    /// # Panics
    /// Where they do not lie within: a mistake in the program, never in data.
    #[must_use]
    pub fn part(self, start: usize, len: usize) -> Self {
        let inside = start.checked_add(len).is_some_and(|end| end <= self.len);
        assert!(inside, "{start} + {len} of {}", self.len);
        Self {
            start: self.start + start,
            len,
            ..self
        }
    }

    /// The first `len` elements.
    #[must_use]
    pub fn first(self, len: usize) -> Self {
        self.part(0, len)
    }
}

/// GELU, by the error function or by tanh (Hendrycks and Gimpel 2016).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gelu {
    /// x Φ(x).
    Erf,
    /// x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2.
    Tanh,
}

/// Rows as they are sent to a device, and what a step looks at. Tokens after the last row become 0, 0 and 0.
#[derive(Clone, Copy, Debug)]
pub struct Unpack {
    /// `[T]` ids, or two a word, the first in the low half, where they are `narrow`.
    pub wire: View,
    /// Whether ids are sent in 16 bits.
    pub narrow: bool,
    /// `[B + 1]`: where each row begins, then where the last ends.
    pub cu_seqlens: View,
    /// `[B]`: the index within its row of the first token of B.
    pub b_start: View,
    /// `[T]`.
    pub input_ids: View,
    /// `[T]`: 0 before `b_start`, then 1.
    pub token_type_ids: View,
    /// `[T]`: the index within the row.
    pub position_ids: View,
}

/// Masks drawn where the step is computed, as BERT's are: of a row's tokens that are not special, so many are predicted as there are places for them;
/// of these some become `[MASK]`, some another token, and the rest stay. Draws are Philox4x32-10 of (row, epoch, block), and which tokens they choose is said by
/// `cloze_shard::masking`: the first words of the first blocks choose them, and the second and third word of block `i` say what becomes of the `i`-th.
#[derive(Clone, Copy, Debug)]
pub struct Masks {
    /// `[T]`, masked in place.
    pub input_ids: View,
    /// `[B + 1]`.
    pub cu_seqlens: View,
    /// `[B, 2]`: each row's number, low half first.
    pub numbers: View,
    /// `[B + 1]`: where each row's predicted tokens begin in `positions`, then where the last end. No row has more of them than tokens that may be predicted.
    pub starts: View,
    /// `[1]`.
    pub epoch: View,
    /// Ids that are never masked, ascending; [`NONE`] after them.
    pub special: View,
    /// The stage's key.
    pub key: [u32; 2],
    /// The id of `[MASK]`.
    pub mask_id: u32,
    /// Tokens that are not special.
    pub replacements: u32,
    /// Second words of draws below this become `[MASK]`.
    pub mask_below: u64,
    /// Others below this become the token that the third word picks.
    pub random_below: u64,
    /// No row has more tokens, nor more than [`LONGEST_MASKED`] where this is more.
    pub longest: usize,
    /// `[M]`: tokens that are predicted, ascending; [`NONE`] after them.
    pub positions: View,
    /// `[M]`: the original ids there; [`NONE`] after them.
    pub labels: View,
}

/// Longest row that [`Ops::mask`] takes: whoever leaves masks to be drawn there looks at that.
pub const LONGEST_MASKED: usize = 4_096;

/// The three tables of embeddings, or their gradients, and what is looked up in them.
#[derive(Clone, Copy, Debug)]
pub struct Embedding {
    /// `[T]`: rows of `words`.
    pub input_ids: View,
    /// `[T]`: rows of `types`.
    pub token_type_ids: View,
    /// `[T]`: rows of `positions`.
    pub position_ids: View,
    /// `[V, H]`.
    pub words: View,
    /// `[P, H]`.
    pub positions: View,
    /// `[2, H]`.
    pub types: View,
}

/// `y = drop_after(LayerNorm(drop_before(x) + residual))` (Ba, Kiros, Hinton 2016), each part but the norm optional.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// `[T, H]`; becomes the sum that is normalised.
    pub x: View,
    /// `[T, H]`.
    pub residual: Option<View>,
    /// `[H]`.
    pub weight: View,
    /// `[H]`.
    pub bias: View,
    /// `[T, 2]`: mean, and one over the deviation, of each row.
    pub stats: View,
    /// `[T, H]`.
    pub y: View,
    /// Added to the variance.
    pub eps: f32,
    /// Drops features of `x`.
    pub before: Option<Site>,
    /// Drops features of the result.
    pub after: Option<Site>,
}

/// The gradients of a [`Norm`].
#[derive(Clone, Copy, Debug)]
pub struct NormBackward {
    /// What went forward; `x` holds the sum.
    pub forward: Norm,
    /// `[T, H]`: gradient of `y`; becomes the gradient of the sum, which is that of the residual.
    pub dy: View,
    /// `[T, H]`: gradient of `x`; `None` where there is nothing to drop before, so that it is that of the sum.
    pub dx: Option<View>,
    /// `[H]`, added to.
    pub dweight: View,
    /// `[H]`, added to.
    pub dbias: View,
    /// `[H]`: the sum of `dx` over tokens is added to it; the gradient of the bias that made `x`.
    pub dx_bias: Option<View>,
}

/// softmax(Q Kᵀ / √d) V by head, within rows.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// `[T, 3 H]`: queries, keys, values; heads side by side in each.
    pub qkv: View,
    /// `[B + 1]`: where each row begins, then where the last ends. Tokens after it are padding, their results and gradients zeros.
    pub cu_seqlens: View,
    /// No row has more tokens.
    pub longest: usize,
    /// Heads.
    pub heads: usize,
    /// `[T, H]`: the result.
    pub context: View,
    /// `[heads, T]`: the logarithm of each softmax's denominator.
    pub log_sums: View,
    /// Drops attention weights.
    pub dropout: Option<Site>,
}

/// Cross-entropy of `logits[n, width]` at `labels[n]`.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy {
    /// `[n, width]`; with a scale, they become their gradient times it.
    pub logits: View,
    /// `[n]`: under `classes`, or [`NONE`], where loss, hit and gradient are 0. Where the loss is not finite, the gradient is not either.
    pub labels: View,
    /// Columns that count; the others' gradient is 0.
    pub classes: usize,
    /// `[n]`: in nats.
    pub losses: View,
    /// `[n]`: 1 where the label is the largest (the first of equals), else 0.
    pub hits: View,
    /// `[1]`.
    pub scale: Option<View>,
}

/// A step of AdamW (Loshchilov and Hutter, ICLR 2019), as PyTorch computes it, on all parameters at once.
///
/// With g = gradient · min(1, clip / (norm + 10⁻⁶)): m ← m + (1−β₁)(g − m); v ← β₂v + (1−β₂)g²; θ ← keep θ − rate m / (√v/root2 + ε).
/// Where the norm is not finite nothing changes, but that `skipped` is one more.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// θ, m, v and gradients, each of the same length.
    pub parameters: View,
    /// First moment.
    pub m: View,
    /// Second moment.
    pub v: View,
    /// Gradients.
    pub gradients: View,
    /// `[length / block]`: which row of `rates` each block of elements follows.
    pub groups: View,
    /// `[groups, 2]`: keep, 1 − ηλ, and rate, η / (1 − β₁ᵗ).
    pub rates: View,
    /// `[1]`: root2, √(1 − β₂ᵗ).
    pub root2: View,
    /// `[1]`: the gradients' global norm.
    pub norm: View,
    /// `[1]`: added to.
    pub skipped: View,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Largest norm that is not clipped; 0 for no clipping.
    pub clip: f32,
}

/// A step of LAMB (You et al., ICLR 2020, algorithm 2), on all parameters at once.
///
/// With g = gradient · min(1, clip / (norm + 10⁻⁶)): m ← m + (1−β₁)(g − m); v ← β₂v + (1−β₂)g²; u = (m / c₁) / (√(v / c₂) + ε) + λθ;
/// θ ← θ − η r u, where r = ‖θ‖ / ‖u‖ over all elements of a group that adapts and has both norms over 0, and 1 elsewhere. The gradients
/// become u. Where the norm is not finite nothing changes, but that `skipped` is one more.
#[derive(Clone, Copy, Debug)]
pub struct Lamb {
    /// θ, m, v and gradients, each of the same length.
    pub parameters: View,
    /// First moment.
    pub m: View,
    /// Second moment.
    pub v: View,
    /// Gradients.
    pub gradients: View,
    /// `[length / block]`: which row of `rates` each block of elements follows, ascending.
    pub groups: View,
    /// `[groups + 1]`: the first block of each group, then their number.
    pub starts: View,
    /// `[groups, 3]`: η, λ, and 1 where the group adapts, else 0.
    pub rates: View,
    /// `[2]`: c₁ = 1 − β₁ᵗ and c₂ = 1 − β₂ᵗ.
    pub corrections: View,
    /// `[1]`: the gradients' global norm.
    pub norm: View,
    /// `[1]`: added to.
    pub skipped: View,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Largest norm that is not clipped; 0 for no clipping.
    pub clip: f32,
}

/// A device: it owns memory, and does the arithmetic.
///
/// Gradients of parameters are added to; other results are replaced. A view that is written must not overlap another of the same call.
pub trait Ops {
    /// What it is, for a person.
    fn describe(&self) -> String;

    /// New memory of `len` zeros, kept until the device is dropped.
    fn allocate(&mut self, kind: Kind, len: usize) -> Result<View>;
    /// Gives memory back: the whole of what one `allocate` gave.
    fn release(&mut self, view: View) -> Result<()>;
    /// Copies integers to the device.
    fn upload_words(&mut self, to: View, from: &[u32]) -> Result<()>;
    /// Copies single-precision numbers to the device.
    fn upload(&mut self, to: View, from: &[f32]) -> Result<()>;
    /// Copies single-precision numbers from the device.
    fn download(&mut self, from: View, to: &mut [f32]) -> Result<()>;
    /// Copies integers from the device.
    fn download_words(&mut self, from: View, to: &mut [u32]) -> Result<()>;
    /// Sets to zero.
    fn zero(&mut self, view: View) -> Result<()>;
    /// Says that parameters changed: whoever keeps copies of them in another precision renews them.
    fn parameters_changed(&mut self, parameters: View) -> Result<()>;

    /// See [`Unpack`].
    fn unpack(&mut self, rows: &Unpack) -> Result<()>;
    /// See [`Masks`].
    fn mask(&mut self, masks: &Masks) -> Result<()>;
    /// `sum[T, H]` = words + positions + types.
    fn embed(&mut self, e: &Embedding, sum: View) -> Result<()>;
    /// Adds `dsum[T, H]` to the gradients of the tables that `e` names.
    fn embed_backward(&mut self, e: &Embedding, dsum: View) -> Result<()>;
    /// See [`Norm`].
    fn norm(&mut self, norm: &Norm) -> Result<()>;
    /// See [`NormBackward`].
    fn norm_backward(&mut self, norm: &NormBackward) -> Result<()>;
    /// `y[T, out] = x[T, in] wᵀ + b`.
    fn linear(&mut self, x: View, w: View, b: View, y: View, out: usize) -> Result<()>;
    /// `dx[T, in] = dy[T, out] w`, or added to it.
    fn linear_backward_input(
        &mut self,
        dy: View,
        w: View,
        dx: View,
        out: usize,
        accumulate: bool,
    ) -> Result<()>;
    /// `dw[out, in] += dyᵀ x`.
    fn linear_backward_weight(&mut self, dy: View, x: View, dw: View, out: usize) -> Result<()>;
    /// `sum[n] +=` the sum of the rows of `x[T, n]`.
    fn column_sum(&mut self, x: View, sum: View) -> Result<()>;
    /// `y = GELU(x)`; with `back`, `x` becomes whatever this device's way back needs.
    fn gelu(&mut self, kind: Gelu, x: View, y: View, back: bool) -> Result<()>;
    /// `dy` becomes the gradient of what GELU was given, of which `kept` is left; its sum over tokens is added to `dbias[n]`.
    fn gelu_backward(&mut self, kind: Gelu, kept: View, dy: View, dbias: View) -> Result<()>;
    /// See [`Attention`].
    fn attention(&mut self, attention: &Attention) -> Result<()>;
    /// From `dcontext[T, H]` the gradient `dqkv[T, 3 H]`.
    fn attention_backward(
        &mut self,
        attention: &Attention,
        dcontext: View,
        dqkv: View,
    ) -> Result<()>;
    /// `y[i] = x[rows[i]]`, rows `width` wide; zeros where `rows[i]` is [`NONE`].
    fn gather(&mut self, x: View, rows: View, y: View, width: usize) -> Result<()>;
    /// `x[rows[i]] += y[i]`; no row is named twice, and [`NONE`] names none.
    fn scatter_add(&mut self, y: View, rows: View, x: View, width: usize) -> Result<()>;
    /// `x = tanh(x)`.
    fn tanh(&mut self, x: View) -> Result<()>;
    /// `dy` becomes the gradient of what tanh made `y` of.
    fn tanh_backward(&mut self, y: View, dy: View) -> Result<()>;
    /// See [`CrossEntropy`].
    fn cross_entropy(&mut self, c: &CrossEntropy) -> Result<()>;
    /// `sum[0] +=` the sum of `x`, made in double precision and a fixed order, times `scale[0]`.
    fn total(&mut self, x: View, scale: Option<View>, sum: View) -> Result<()>;
    /// `norm[0]` = the root of the sum of squares, which is made in double precision and a fixed order.
    fn norm_of(&mut self, x: View, norm: View) -> Result<()>;
    /// See [`AdamW`].
    fn adamw(&mut self, step: &AdamW) -> Result<()>;
    /// See [`Lamb`].
    fn lamb(&mut self, step: &Lamb) -> Result<()>;

    /// Where a view lies in the device's memory, and the stream that work goes to, for libraries that speak to the device themselves; `None`
    /// where the host's memory is the device's.
    fn place(&self, _view: View) -> Option<(u64, u64)> {
        None
    }
    /// Whether it is worth making every batch look alike, so that a recording fits it.
    fn records(&self) -> bool {
        false
    }
    /// Runs what is recorded under `key` once more; false where nothing is.
    fn replay(&mut self, _key: u64) -> Result<bool> {
        Ok(false)
    }
    /// Until [`Ops::end`], operations run as ever, and may be recorded under `key`. Copies to and from the device are not among them.
    fn begin(&mut self, _key: u64) -> Result<()> {
        Ok(())
    }
    /// See [`Ops::begin`]; `whole` where nothing failed in between, or nothing is kept.
    fn end(&mut self, _whole: bool) -> Result<()> {
        Ok(())
    }
}
