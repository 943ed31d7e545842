//! The operations on the CPU.

mod attention;
mod embedding;
pub mod gemm;
pub mod isa;
mod math;
mod memory;
mod norm;
mod optimizer;
mod pointwise;
mod rows;
mod rows_in;
#[cfg(test)]
mod tests;

use gemm::{Finish, Matrix, Scratch, product};
use isa::{Isa, Precision};
use memory::Memory;

use crate::dropout::{Dropout, Site};
use crate::ops::{
    AdamW, Attention, CrossEntropy, Embedding, Gelu, Kind, Lamb, Masks, Norm, NormBackward, Ops,
    Unpack, View,
};
use crate::{Error, Result};

/// The CPU: activations in single precision, products in single precision or with factors rounded to bf16.
#[derive(Debug)]
pub struct Cpu {
    isa: Isa,
    precision: Precision,
    scratch: Scratch,
    memory: Memory,
}

impl Cpu {
    /// The best that this processor has.
    #[must_use]
    pub fn new(precision: Precision) -> Self {
        Self {
            isa: Isa::best(),
            precision,
            scratch: Scratch::default(),
            memory: Memory::default(),
        }
    }

    /// With certain instructions, for comparison.
    pub fn with(isa: Isa, precision: Precision) -> Result<Self> {
        let best = Isa::best();
        if isa > best {
            return Err(Error::NoSuchInstructions { asked: isa, best });
        }
        Ok(Self {
            isa,
            ..Self::new(precision)
        })
    }

    fn scale(&mut self, view: Option<View>) -> Option<f32> {
        let (_, [scale], []) = self.memory.open([], [view?], []);
        Some(scale[0])
    }

    /// What is dropped at `site` in this step.
    fn dropped(&mut self, site: Option<Site>) -> Option<Dropout> {
        let site = site?;
        let ([draw], [], []) = self.memory.open([site.draw], [], []);
        Some(site.at(draw))
    }
}

fn add_all(from: &[f32], to: &mut [f32]) {
    to.iter_mut().zip(from).for_each(|(t, f)| *t += f);
}

fn shape<'a>(
    norm: &Norm,
    [before, after]: [Option<Dropout>; 2],
    weight: &'a [f32],
    bias: &'a [f32],
) -> norm::Shape<'a> {
    norm::Shape {
        weight,
        bias,
        eps: norm.eps,
        before,
        after,
    }
}

impl Ops for Cpu {
    fn describe(&self) -> String {
        let threads = rayon::current_num_threads();
        let s = if threads == 1 { "" } else { "s" };
        // Beyond AVX-512, instructions are for bf16 only.
        let used = match self.precision {
            Precision::F32 => self.isa.min(Isa::Avx512),
            Precision::Bf16 if self.isa >= Isa::Avx512Bf16 => self.isa,
            // Without an instruction for it, bf16 is rounded to and computed by plain loops.
            Precision::Bf16 => Isa::Scalar,
        };
        format!(
            "CPU, {threads} thread{s}, products in {} by {used}",
            self.precision
        )
    }

    fn allocate(&mut self, kind: Kind, len: usize) -> Result<View> {
        self.memory.allocate(kind, len)
    }

    fn release(&mut self, view: View) -> Result<()> {
        self.memory.release(view);
        Ok(())
    }

    fn upload_words(&mut self, to: View, from: &[u32]) -> Result<()> {
        self.memory.words_mut(to).copy_from_slice(from);
        Ok(())
    }

    fn upload(&mut self, to: View, from: &[f32]) -> Result<()> {
        let (_, _, [to]) = self.memory.open([], [], [to]);
        to.copy_from_slice(from);
        Ok(())
    }

    fn download(&mut self, from: View, to: &mut [f32]) -> Result<()> {
        let (_, [from], _) = self.memory.open([], [from], []);
        to.copy_from_slice(from);
        Ok(())
    }

    fn download_words(&mut self, from: View, to: &mut [u32]) -> Result<()> {
        to.copy_from_slice(self.memory.words_mut(from));
        Ok(())
    }

    fn zero(&mut self, view: View) -> Result<()> {
        let (_, _, [x]) = self.memory.open([], [], [view]);
        x.fill(0.0);
        Ok(())
    }

    fn parameters_changed(&mut self, _: View) -> Result<()> {
        Ok(())
    }

    fn unpack(&mut self, u: &Unpack) -> Result<()> {
        let reads = [u.wire, u.cu_seqlens, u.b_start];
        let writes = [u.input_ids, u.token_type_ids, u.position_ids];
        let ([wire, cu_seqlens, b_start], writes) = self.memory.open_words(reads, writes);
        rows_in::unpack(wire, u.narrow, cu_seqlens, b_start, writes);
        Ok(())
    }

    fn mask(&mut self, m: &Masks) -> Result<()> {
        let reads = [m.cu_seqlens, m.numbers, m.starts, m.epoch, m.special];
        let ([cu_seqlens, numbers, starts, epoch, special], [ids, positions, labels]) = self
            .memory
            .open_words(reads, [m.input_ids, m.positions, m.labels]);
        let drawing = rows_in::Drawing {
            cu_seqlens,
            numbers,
            starts,
            epoch: epoch[0],
            special,
            key: m.key,
            mask_id: m.mask_id,
            replacements: m.replacements,
            below: [m.mask_below, m.random_below],
        };
        rows_in::mask(drawing, ids, positions, labels);
        Ok(())
    }

    fn embed(&mut self, e: &Embedding, sum: View) -> Result<()> {
        let words = [e.input_ids, e.token_type_ids, e.position_ids];
        let h = sum.len() / e.input_ids.len().max(1);
        let ([ids, kinds, at], [words, positions, types], [sum]) =
            self.memory
                .open(words, [e.words, e.positions, e.types], [sum]);
        embedding::look_up(ids, kinds, at, words, positions, types, h, sum);
        Ok(())
    }

    fn embed_backward(&mut self, e: &Embedding, dsum: View) -> Result<()> {
        let h = dsum.len() / e.input_ids.len().max(1);
        let words = [e.input_ids, e.token_type_ids, e.position_ids];
        let ([ids, kinds, at], [d], [words, positions, types]) =
            self.memory
                .open(words, [dsum], [e.words, e.positions, e.types]);
        embedding::scatter(self.isa, ids, d, h, words);
        embedding::scatter(self.isa, at, d, h, positions);
        embedding::scatter(self.isa, kinds, d, h, types);
        Ok(())
    }

    fn norm(&mut self, n: &Norm) -> Result<()> {
        let dropped = [self.dropped(n.before), self.dropped(n.after)];
        let residual = n.residual.unwrap_or(n.weight);
        let (_, [weight, bias, residual], [x, stats, y]) =
            self.memory
                .open([], [n.weight, n.bias, residual], [n.x, n.stats, n.y]);
        let residual = n.residual.map(|_| residual);
        let shape = shape(n, dropped, weight, bias);
        norm::forward(self.isa, shape, x, residual, stats, y);
        Ok(())
    }

    fn norm_backward(&mut self, b: &NormBackward) -> Result<()> {
        let n = &b.forward;
        let dropped = [self.dropped(n.before), self.dropped(n.after)];
        let sums = {
            let dx = b.dx.unwrap_or(b.dy.first(0));
            let (_, [x, weight, bias, stats], [dy, dx]) =
                self.memory
                    .open([], [n.x, n.weight, n.bias, n.stats], [b.dy, dx]);
            let dx = b.dx.map(|_| dx);
            let shape = shape(n, dropped, weight, bias);
            norm::backward(self.isa, shape, x, stats, dy, dx)
        };
        let (_, _, [dweight, dbias]) = self.memory.open([], [], [b.dweight, b.dbias]);
        add_all(&sums.dweight, dweight);
        add_all(&sums.dbias, dbias);
        if let Some(view) = b.dx_bias {
            let (_, _, [dx_bias]) = self.memory.open([], [], [view]);
            add_all(&sums.dx_bias, dx_bias);
        }
        Ok(())
    }

    fn linear(&mut self, x: View, w: View, b: View, y: View, out: usize) -> Result<()> {
        let (_, [x, w, b], [y]) = self.memory.open([], [x, w, b], [y]);
        let (rows, width) = (y.len() / out, w.len() / out);
        let finish = Finish {
            bias: Some(b),
            ..Finish::default()
        };
        let (x, w) = (Matrix::rows(x, width), Matrix::rows(w, width).t());
        product(
            self.isa,
            self.precision,
            &self.scratch,
            (rows, out, width),
            x,
            w,
            y,
            out,
            finish,
        );
        Ok(())
    }

    fn linear_backward_input(
        &mut self,
        dy: View,
        w: View,
        dx: View,
        out: usize,
        accumulate: bool,
    ) -> Result<()> {
        let (_, [dy, w], [dx]) = self.memory.open([], [dy, w], [dx]);
        let (rows, width) = (dy.len() / out, w.len() / out);
        let finish = Finish {
            accumulate,
            ..Finish::default()
        };
        let (dy, w) = (Matrix::rows(dy, out), Matrix::rows(w, width));
        product(
            self.isa,
            self.precision,
            &self.scratch,
            (rows, width, out),
            dy,
            w,
            dx,
            width,
            finish,
        );
        Ok(())
    }

    fn linear_backward_weight(&mut self, dy: View, x: View, dw: View, out: usize) -> Result<()> {
        let (_, [dy, x], [dw]) = self.memory.open([], [dy, x], [dw]);
        let (rows, width) = (dy.len() / out, dw.len() / out);
        let finish = Finish {
            accumulate: true,
            ..Finish::default()
        };
        let (dy, x) = (Matrix::rows(dy, out).t(), Matrix::rows(x, width));
        product(
            self.isa,
            self.precision,
            &self.scratch,
            (out, width, rows),
            dy,
            x,
            dw,
            width,
            finish,
        );
        Ok(())
    }

    fn column_sum(&mut self, x: View, sum: View) -> Result<()> {
        let (_, [x], [sum]) = self.memory.open([], [x], [sum]);
        add_all(&pointwise::column_sum(self.isa, x, sum.len()), sum);
        Ok(())
    }

    fn gelu(&mut self, kind: Gelu, x: View, y: View, back: bool) -> Result<()> {
        let (_, _, [x, y]) = self.memory.open([], [], [x, y]);
        pointwise::gelu(self.isa, kind, x, y, back);
        Ok(())
    }

    fn gelu_backward(&mut self, _: Gelu, slope: View, dy: View, dbias: View) -> Result<()> {
        let (_, [slope], [dy, dbias]) = self.memory.open([], [slope], [dy, dbias]);
        let sums = pointwise::multiply(self.isa, slope, dy, dbias.len());
        add_all(&sums, dbias);
        Ok(())
    }

    fn attention(&mut self, a: &Attention) -> Result<()> {
        let dropout = self.dropped(a.dropout);
        let ([cu_seqlens], [qkv], [context, sums]) =
            self.memory
                .open([a.cu_seqlens], [a.qkv], [a.context, a.log_sums]);
        let shape = attention::Shape {
            cu_seqlens,
            heads: a.heads,
            size: attention_size(a),
            dropout,
        };
        let machine = attention::Machine {
            isa: self.isa,
            precision: self.precision,
            scratch: &self.scratch,
        };
        attention::forward(machine, shape, qkv, context, sums);
        Ok(())
    }

    fn attention_backward(&mut self, a: &Attention, dcontext: View, dqkv: View) -> Result<()> {
        let dropout = self.dropped(a.dropout);
        let reads = [a.qkv, a.context, a.log_sums, dcontext];
        let ([cu_seqlens], [qkv, context, sums, dcontext], [dqkv]) =
            self.memory.open([a.cu_seqlens], reads, [dqkv]);
        let shape = attention::Shape {
            cu_seqlens,
            heads: a.heads,
            size: attention_size(a),
            dropout,
        };
        let machine = attention::Machine {
            isa: self.isa,
            precision: self.precision,
            scratch: &self.scratch,
        };
        attention::backward(machine, shape, qkv, context, sums, dcontext, dqkv);
        Ok(())
    }

    fn gather(&mut self, x: View, rows: View, y: View, width: usize) -> Result<()> {
        let ([rows], [x], [y]) = self.memory.open([rows], [x], [y]);
        embedding::gather(x, rows, y, width);
        Ok(())
    }

    fn scatter_add(&mut self, y: View, rows: View, x: View, width: usize) -> Result<()> {
        let ([rows], [y], [x]) = self.memory.open([rows], [y], [x]);
        embedding::scatter_add(self.isa, y, rows, x, width);
        Ok(())
    }

    fn tanh(&mut self, x: View) -> Result<()> {
        let (_, _, [x]) = self.memory.open([], [], [x]);
        pointwise::tanh_forward(self.isa, x);
        Ok(())
    }

    fn tanh_backward(&mut self, y: View, dy: View) -> Result<()> {
        let (_, [y], [dy]) = self.memory.open([], [y], [dy]);
        pointwise::tanh_backward(y, dy);
        Ok(())
    }

    fn cross_entropy(&mut self, c: &CrossEntropy) -> Result<()> {
        let scale = self.scale(c.scale);
        let ([labels], _, [logits, losses, hits]) =
            self.memory
                .open([c.labels], [], [c.logits, c.losses, c.hits]);
        pointwise::cross_entropy(self.isa, logits, labels, c.classes, losses, hits, scale);
        Ok(())
    }

    fn total(&mut self, x: View, scale: Option<View>, sum: View) -> Result<()> {
        let scale = self.scale(scale).unwrap_or(1.0);
        let (_, [x], [sum]) = self.memory.open([], [x], [sum]);
        sum[0] += (pointwise::total(x) * f64::from(scale)) as f32;
        Ok(())
    }

    fn norm_of(&mut self, x: View, norm: View) -> Result<()> {
        let (_, [x], [norm]) = self.memory.open([], [x], [norm]);
        norm[0] = pointwise::sum_of_squares(self.isa, x).sqrt() as f32;
        Ok(())
    }

    fn adamw(&mut self, s: &AdamW) -> Result<()> {
        let reads = [s.gradients, s.rates, s.root2, s.norm];
        let ([groups], [g, rates, root2, norm], [p, m, v, skipped]) =
            self.memory
                .open([s.groups], reads, [s.parameters, s.m, s.v, s.skipped]);
        let Some(gradient_scale) = clipping(norm[0], s.clip) else {
            skipped[0] += 1.0;
            return Ok(());
        };
        let moments = optimizer::Moments {
            gradient_scale,
            beta1: s.beta1,
            beta2: s.beta2,
            eps: s.eps,
        };
        optimizer::adamw(self.isa, moments, root2[0], groups, rates, [p, m, v], g);
        Ok(())
    }

    fn lamb(&mut self, s: &Lamb) -> Result<()> {
        let writes = [s.parameters, s.m, s.v, s.gradients, s.skipped];
        let ([starts], [rates, corrections, norm], [p, m, v, g, skipped]) =
            self.memory
                .open([s.starts], [s.rates, s.corrections, s.norm], writes);
        let Some(gradient_scale) = clipping(norm[0], s.clip) else {
            skipped[0] += 1.0;
            return Ok(());
        };
        let moments = optimizer::Moments {
            gradient_scale,
            beta1: s.beta1,
            beta2: s.beta2,
            eps: s.eps,
        };
        let corrections = optimizer::Corrections {
            first: corrections[0],
            second: corrections[1],
        };
        optimizer::lamb(self.isa, moments, corrections, starts, rates, [p, m, v, g]);
        Ok(())
    }
}

/// What multiplies gradients of global norm `norm`; `None` where it is not finite.
fn clipping(norm: f32, clip: f32) -> Option<f32> {
    let scale = if clip > 0.0 {
        (clip / (norm + 1e-6)).min(1.0)
    } else {
        1.0
    };
    norm.is_finite().then_some(scale)
}

/// Features of a head.
fn attention_size(a: &Attention) -> usize {
    let tokens = a.log_sums.len() / a.heads.max(1);
    a.context.len() / (tokens * a.heads).max(1)
}
