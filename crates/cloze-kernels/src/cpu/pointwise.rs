//! GELU, tanh, cross-entropy, sums of columns.

use rayon::prelude::*;

use super::isa::{Isa, fma, vectorized};
use super::math::{exp_falling, normal, tanh};
use super::norm::sum;
use super::rows::{Shared, sum_blocks};
use crate::ops::{Gelu, NONE};

/// Elements that one task takes.
const SPAN: usize = 1 << 13;

/// √(2/π) and the cubic term of the tanh form.
const TANH_RATE: f32 = 0.797_884_56;
const TANH_CUBE: f32 = 0.044_715;

/// GELU and its derivative.
#[inline(always)]
fn gelu_both<const FMA: bool>(kind: Gelu, x: f32) -> (f32, f32) {
    match kind {
        Gelu::Erf => {
            let (below, density) = normal::<FMA>(x);
            // Where x is infinite the density is 0, and 0 · ∞ is not a number.
            let slope = if density == 0.0 { 0.0 } else { x * density };
            (if below == 0.0 { 0.0 } else { x * below }, below + slope)
        }
        Gelu::Tanh => {
            let square = x * x;
            let t = tanh::<FMA>(TANH_RATE * x * fma::<FMA>(TANH_CUBE, square, 1.0));
            let inner = TANH_RATE * fma::<FMA>(3.0 * TANH_CUBE, square, 1.0);
            let slope = 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner;
            (0.5 * x * (1.0 + t), slope)
        }
    }
}

/// `y = GELU(x)`; with `slope`, `x` becomes the derivative.
pub fn gelu(isa: Isa, kind: Gelu, x: &mut [f32], y: &mut [f32], slope: bool) {
    let spans = y.par_chunks_mut(SPAN).zip(x.par_chunks_mut(SPAN));
    spans.for_each(|(y, x)| match kind {
        Gelu::Erf => gelu_erf(isa, x, y, slope),
        Gelu::Tanh => gelu_tanh(isa, x, y, slope),
    });
}

vectorized! {
    fn gelu_erf(x: &mut [f32], y: &mut [f32], slope: bool) {
        gelu_span::<FMA>(Gelu::Erf, x, y, slope);
    }
}

vectorized! {
    fn gelu_tanh(x: &mut [f32], y: &mut [f32], slope: bool) {
        gelu_span::<FMA>(Gelu::Tanh, x, y, slope);
    }
}

#[inline(always)]
fn gelu_span<const FMA: bool>(kind: Gelu, x: &mut [f32], y: &mut [f32], slope: bool) {
    // A loop, not an iterator's closure: the compiler must see it within the function that has the vector instructions.
    let n = x.len().min(y.len());
    let (x, y) = (&mut x[..n], &mut y[..n]);
    if slope {
        for i in 0..n {
            (y[i], x[i]) = gelu_both::<FMA>(kind, x[i]);
        }
    } else {
        for i in 0..n {
            y[i] = gelu_both::<FMA>(kind, x[i]).0;
        }
    }
}

/// `dy[T, n] *= slope`; its sum over tokens is returned.
pub fn multiply(isa: Isa, slope: &[f32], dy: &mut [f32], n: usize) -> Vec<f32> {
    assert_eq!(slope.len(), dy.len());
    let to = Shared(dy.as_mut_ptr());
    sum_blocks(slope.len() / n, n, |first, count, sums| {
        for row in first..first + count {
            // SAFETY: blocks are apart, so each row is this task's alone.
            let dy = unsafe { to.part(row * n, n) };
            multiply_row(isa, &slope[row * n..][..n], dy, sums);
        }
    })
}

vectorized! {
    fn multiply_row(slope: &[f32], dy: &mut [f32], sums: &mut [f32]) {
        let _ = FMA;
        for ((d, slope), s) in dy.iter_mut().zip(slope).zip(sums) {
            *d *= slope;
            *s += *d;
        }
    }
}

pub fn tanh_forward(isa: Isa, x: &mut [f32]) {
    x.par_chunks_mut(SPAN).for_each(|x| tanh_span(isa, x));
}

vectorized! {
    fn tanh_span(x: &mut [f32]) {
        x.iter_mut().for_each(|x| *x = tanh::<FMA>(*x));
    }
}

/// The derivative of tanh, by its value y: 1 − y².
pub fn tanh_backward(y: &[f32], dy: &mut [f32]) {
    dy.iter_mut().zip(y).for_each(|(d, y)| *d *= 1.0 - y * y);
}

/// The sum of the rows of `x[T, n]`.
pub fn column_sum(isa: Isa, x: &[f32], n: usize) -> Vec<f32> {
    sum_blocks(x.len() / n, n, |first, count, sums| {
        for row in x[first * n..(first + count) * n].chunks(n) {
            add(isa, row, sums);
        }
    })
}

vectorized! {
    /// `to += from`.
    pub fn add(from: &[f32], to: &mut [f32]) {
        to.iter_mut().zip(from).for_each(|(t, f)| *t += f);
    }
}

/// Cross-entropy of each row; see `Ops::cross_entropy`.
pub fn cross_entropy(
    isa: Isa,
    logits: &mut [f32],
    labels: &[u32],
    classes: usize,
    losses: &mut [f32],
    hits: &mut [f32],
    scale: Option<f32>,
) {
    let width = logits.len() / labels.len().max(1);
    let rows = logits
        .par_chunks_mut(width.max(1))
        .zip(labels)
        .zip(losses)
        .zip(hits);
    rows.for_each(|(((row, &label), loss), hit)| {
        let (row, rest) = row.split_at_mut(classes);
        let mut found = [0.0; 2];
        if label != NONE {
            cross_entropy_row(isa, row, label as usize, &mut found, scale);
        } else if scale.is_some() {
            row.fill(0.0);
        }
        if scale.is_some() {
            rest.fill(0.0);
        }
        [*loss, *hit] = found;
    });
}

vectorized! {
    fn cross_entropy_row(row: &mut [f32], label: usize, found: &mut [f32; 2], scale: Option<f32>) {
        let mut strands = [f32::NEG_INFINITY; 16];
        let (whole, rest) = row.as_chunks::<16>();
        for chunk in whole {
            for (s, x) in strands.iter_mut().zip(chunk) {
                *s = if *x > *s { *x } else { *s };
            }
        }
        let most = strands.iter().chain(rest).fold(f32::NEG_INFINITY, |m, &x| if x > m { x } else { m });
        let right = row[label];
        let first = row.iter().position(|&x| x == most);
        let total = match scale {
            Some(_) => {
                row.iter_mut().for_each(|x| *x = exp_falling::<FMA>(*x - most));
                sum::<FMA>(row, |x| x)
            }
            None => sum::<FMA>(row, |x| exp_falling::<FMA>(x - most)),
        };
        if let Some(scale) = scale {
            let share = scale / total;
            row.iter_mut().for_each(|x| *x *= share);
            row[label] -= scale;
        }
        let loss = total.ln() + most - right;
        if scale.is_some() {
            // 0, or NaN.
            row[label] += 0.0 * loss;
        }
        *found = [loss, f32::from(first == Some(label))];
    }
}

/// The sum in double precision, one after another.
pub fn total(x: &[f32]) -> f64 {
    x.iter().map(|&x| f64::from(x)).sum()
}

/// The sum of squares in double precision, by blocks of a fixed size.
pub fn sum_of_squares(isa: Isa, x: &[f32]) -> f64 {
    let partial: Vec<f64> = x.par_chunks(SPAN).map(|x| squares(isa, x)).collect();
    partial.iter().sum()
}

vectorized! {
    fn squares(x: &[f32]) -> f64 {
        let (whole, rest) = x.as_chunks::<16>();
        let mut strands = [0f64; 16];
        for chunk in whole {
            for (s, x) in strands.iter_mut().zip(chunk) {
                *s += f64::from(*x) * f64::from(*x);
            }
        }
        let _ = FMA;
        strands.iter().sum::<f64>() + rest.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>()
    }
}
