//! Attention within rows, forward and backward, a (row, head) pair at a time; weights are computed again on the way back.

use rayon::prelude::*;

use super::gemm::{Finish, Matrix, Scratch, product_alone};
use super::isa::{Isa, Precision, vectorized};
use super::math::exp_falling;
use super::norm::{sum, sum_of};
use super::rows::Shared;
use crate::dropout::Dropout;

/// Where things lie.
#[derive(Clone, Copy)]
pub struct Shape<'a> {
    pub cu_seqlens: &'a [u32],
    pub heads: usize,
    /// Features of a head.
    pub size: usize,
    pub dropout: Option<Dropout>,
}

impl Shape<'_> {
    fn hidden(&self) -> usize {
        self.heads * self.size
    }

    /// Demands that the rows lie one after another within `tokens` tokens: what is written relies on it. How many tokens they cover.
    fn check(&self, tokens: usize) -> usize {
        let cu = self.cu_seqlens;
        let end = cu.last().map_or(usize::MAX, |&t| t as usize);
        let ascending = cu.first() == Some(&0) && cu.windows(2).all(|w| w[0] <= w[1]);
        assert!(ascending && end <= tokens, "rows do not fit the tokens");
        end
    }

    /// Runs `work(head, first token, tokens)` on every pair of a row and a head.
    fn each(&self, work: impl Fn(usize, usize, usize) + Sync) {
        let rows = self.cu_seqlens.len().saturating_sub(1);
        (0..rows * self.heads).into_par_iter().for_each(|task| {
            let (row, head) = (task / self.heads, task % self.heads);
            let (start, end) = (
                self.cu_seqlens[row] as usize,
                self.cu_seqlens[row + 1] as usize,
            );
            if start < end {
                work(head, start, end - start);
            }
        });
    }
}

/// How products are computed.
#[derive(Clone, Copy)]
pub struct Machine<'a> {
    pub isa: Isa,
    pub precision: Precision,
    pub scratch: &'a Scratch,
}

impl Machine<'_> {
    /// # Safety
    /// As for [`product_alone`].
    #[allow(clippy::too_many_arguments)]
    unsafe fn product(
        &self,
        dims: (usize, usize, usize),
        a: Matrix<'_>,
        b: Matrix<'_>,
        c: *mut f32,
        ldc: usize,
        scale: f32,
    ) {
        let finish = Finish {
            scale,
            ..Finish::default()
        };
        // SAFETY: the caller's.
        unsafe {
            product_alone(
                self.isa,
                self.precision,
                self.scratch,
                dims,
                a,
                b,
                c,
                ldc,
                finish,
            );
        };
    }
}

/// `context[T, H]`, and `log_sums[heads, T]`.
pub fn forward(
    machine: Machine<'_>,
    shape: Shape<'_>,
    qkv: &[f32],
    context: &mut [f32],
    log_sums: &mut [f32],
) {
    let (h, d) = (shape.hidden(), shape.size);
    let tokens = context.len() / h;
    assert!(
        qkv.len() == 3 * h * tokens && log_sums.len() >= shape.heads * tokens,
        "attention's views do not fit"
    );
    let end = shape.check(tokens);
    context[end * h..].fill(0.0);
    let (to_context, to_sums) = (Shared(context.as_mut_ptr()), Shared(log_sums.as_mut_ptr()));
    let scale = 1.0 / (d as f32).sqrt();
    shape.each(|head, start, n| {
        let [q, k, v] =
            [0, 1, 2].map(|i| Matrix::rows(&qkv[start * 3 * h + i * h + head * d..], 3 * h));
        let mut space = machine.scratch.take::<f32>(n * n + n);
        let (weights, mask) = space.slice().split_at_mut(n * n);
        // SAFETY: the weights are this task's own, `n` rows of `n`.
        unsafe { machine.product((n, n, d), q, k.t(), weights.as_mut_ptr(), n, scale) };
        // SAFETY: each (row, head) has its own tokens of its own head.
        let sums = unsafe { to_sums.part(head * tokens + start, n) };
        for (i, weights) in weights.chunks_mut(n).enumerate() {
            sums[i] = softmax(machine.isa, weights);
            if let Some(dropout) = shape.dropout {
                drop_row(
                    machine.isa,
                    dropout.head(head as u64),
                    (start + i) as u32,
                    weights,
                    mask,
                );
            }
        }
        let to = to_context.at(start * h + head * d);
        // SAFETY: the rows lie in the context; other heads write to other columns of them.
        unsafe { machine.product((n, d, n), Matrix::rows(weights, n), v, to, h, 1.0) };
    });
}

/// `dqkv[T, 3 H]` from `dcontext[T, H]`.
pub fn backward(
    machine: Machine<'_>,
    shape: Shape<'_>,
    qkv: &[f32],
    context: &[f32],
    log_sums: &[f32],
    dcontext: &[f32],
    dqkv: &mut [f32],
) {
    let (h, d) = (shape.hidden(), shape.size);
    let tokens = context.len() / h;
    assert!(
        qkv.len() == 3 * h * tokens && dqkv.len() == qkv.len() && dcontext.len() == context.len(),
        "attention's views do not fit"
    );
    let end = shape.check(tokens);
    dqkv[end * 3 * h..].fill(0.0);
    let to = Shared(dqkv.as_mut_ptr());
    let scale = 1.0 / (d as f32).sqrt();
    shape.each(|head, start, n| {
        let at = |i: usize| start * 3 * h + i * h + head * d;
        let [q, k, v] = [0, 1, 2].map(|i| Matrix::rows(&qkv[at(i)..], 3 * h));
        let own = Matrix::rows(&dcontext[start * h + head * d..], h);
        let mut space = machine.scratch.take::<f32>(3 * n * n);
        let (weights, rest) = space.slice().split_at_mut(n * n);
        let (dropped, dweights) = rest.split_at_mut(n * n);
        // SAFETY: both are this task's own, `n` rows of `n`.
        unsafe {
            machine.product((n, n, d), q, k.t(), weights.as_mut_ptr(), n, scale);
            machine.product((n, n, d), own, v.t(), dweights.as_mut_ptr(), n, 1.0);
        }
        for i in 0..n {
            let token = start + i;
            let (w, m, g) = (
                &mut weights[i * n..][..n],
                &mut dropped[i * n..][..n],
                &mut dweights[i * n..][..n],
            );
            let place = token * h + head * d;
            let turned = turn(machine.isa, &context[place..][..d], &dcontext[place..][..d]);
            match shape.dropout {
                Some(dropout) => mask_row(machine.isa, dropout.head(head as u64), token as u32, m),
                None => m.fill(1.0),
            }
            back_row(
                machine.isa,
                w,
                m,
                g,
                log_sums[head * tokens + token],
                turned,
                scale,
            );
        }
        let (weights, dscores) = (Matrix::rows(dropped, n), Matrix::rows(dweights, n));
        // SAFETY: the rows lie in `dqkv`; other heads, and the other two products, write to other columns of them.
        unsafe {
            machine.product((n, d, n), weights.t(), own, to.at(at(2)), 3 * h, 1.0);
            machine.product((n, d, n), dscores, k, to.at(at(0)), 3 * h, 1.0);
            machine.product((n, d, n), dscores.t(), q, to.at(at(1)), 3 * h, 1.0);
        }
    });
}

vectorized! {
    /// Makes a row of scores probabilities; the logarithm of the denominator.
    fn softmax(x: &mut [f32]) -> f32 {
        let most = x.iter().fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m });
        x.iter_mut().for_each(|x| *x = exp_falling::<FMA>(*x - most));
        let total = sum::<FMA>(x, |x| x);
        let share = 1.0 / total;
        x.iter_mut().for_each(|x| *x *= share);
        most + total.ln()
    }
}

vectorized! {
    fn drop_row(dropout: Dropout, token: u32, x: &mut [f32], mask: &mut [f32]) {
        let _ = FMA;
        dropout.fill(token, mask);
        x.iter_mut().zip(&*mask).for_each(|(x, m)| *x *= m);
    }
}

vectorized! {
    fn mask_row(dropout: Dropout, token: u32, mask: &mut [f32]) {
        let _ = FMA;
        dropout.fill(token, mask);
    }
}

vectorized! {
    /// The sum over keys of weight times its gradient, which is that of context times its own.
    fn turn(context: &[f32], dcontext: &[f32]) -> f32 {
        sum_of::<FMA>(context, dcontext, |a, b| a * b)
    }
}

vectorized! {
    /// From scores `w` and the mask `m`: `m` becomes the dropped weights, `g` the gradient of the scores.
    fn back_row(w: &[f32], m: &mut [f32], g: &mut [f32], log_sum: f32, turned: f32, scale: f32) {
        for ((w, m), g) in w.iter().zip(m).zip(g) {
            let p = exp_falling::<FMA>(*w - log_sum);
            *g = p * (*g * *m - turned) * scale;
            *m *= p;
        }
    }
}
