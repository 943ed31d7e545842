//! The operations of one training step, which every device offers.
//!
//! `T` tokens of all rows stand one after another, without padding; `H` is the hidden size. Matrices are row-major; weights are `[out, in]`,
//! as PyTorch has them.

use crate::Result;
use crate::dropout::Dropout;

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
    pub before: Option<Dropout>,
    /// Drops features of the result.
    pub after: Option<Dropout>,
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
    /// `[B + 1]`: where each row begins, then `T`.
    pub cu_seqlens: View,
    /// Tokens of the longest row.
    pub longest: usize,
    /// Heads.
    pub heads: usize,
    /// `[T, H]`: the result.
    pub context: View,
    /// `[heads, T]`: the logarithm of each softmax's denominator.
    pub log_sums: View,
    /// Drops attention weights.
    pub dropout: Option<Dropout>,
}

/// What a step of AdamW (Loshchilov and Hutter, ICLR 2019) multiplies and adds, as PyTorch computes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Multiplies the gradient: clipping.
    pub gradient_scale: f32,
    /// Multiplies the parameter: 1 − ηλ.
    pub keep: f32,
    /// η / (1 − β₁ᵗ).
    pub rate: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// √(1 − β₂ᵗ).
    pub root2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
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
    /// Sets to zero.
    fn zero(&mut self, view: View) -> Result<()>;
    /// Says that parameters changed: whoever keeps copies of them in another precision renews them.
    fn parameters_changed(&mut self, parameters: View) -> Result<()>;

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
    /// `y = GELU(x)`; with `slope`, `x` becomes the derivative, which is all that the way back needs.
    fn gelu(&mut self, kind: Gelu, x: View, y: View, slope: bool) -> Result<()>;
    /// `dy` becomes the gradient of what GELU was given, by its derivative `slope`; its sum over tokens is added to `dbias[n]`.
    fn gelu_backward(&mut self, slope: View, dy: View, dbias: View) -> Result<()>;
    /// See [`Attention`].
    fn attention(&mut self, attention: &Attention) -> Result<()>;
    /// From `dcontext[T, H]` the gradient `dqkv[T, 3 H]`.
    fn attention_backward(
        &mut self,
        attention: &Attention,
        dcontext: View,
        dqkv: View,
    ) -> Result<()>;
    /// `y[i] = x[rows[i]]`, rows `width` wide.
    fn gather(&mut self, x: View, rows: View, y: View, width: usize) -> Result<()>;
    /// `x[rows[i]] += y[i]`; no row is named twice.
    fn scatter_add(&mut self, y: View, rows: View, x: View, width: usize) -> Result<()>;
    /// `x = tanh(x)`.
    fn tanh(&mut self, x: View) -> Result<()>;
    /// `dy` becomes the gradient of what tanh made `y` of.
    fn tanh_backward(&mut self, y: View, dy: View) -> Result<()>;
    /// Cross-entropy of `logits[n, classes]` at `labels[n]`, in nats, into `losses[n]`; `hits[n]` is 1 where the label is the largest (the first
    /// of equals). With a scale, `logits` become their gradient times it.
    fn cross_entropy(
        &mut self,
        logits: View,
        labels: View,
        losses: View,
        hits: View,
        scale: Option<f32>,
    ) -> Result<()>;
    /// The sum of squares, in double precision and a fixed order.
    fn sum_of_squares(&mut self, x: View) -> Result<f64>;
    /// m ← m + (1−β₁)(g − m); v ← β₂v + (1−β₂)g²; θ ← keep θ − rate m / (√v/root2 + ε).
    fn adamw(
        &mut self,
        step: &AdamW,
        parameters: View,
        m: View,
        v: View,
        gradients: View,
    ) -> Result<()>;
}
