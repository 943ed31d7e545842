//! Dropout, residual and LayerNorm in one pass over rows; and back.

use super::isa::{Isa, fma, vectorized};
use super::rows::{Shared, sum_blocks};
use crate::dropout::Dropout;

/// What a row is normalised with.
#[derive(Clone, Copy)]
pub struct Shape<'a> {
    pub weight: &'a [f32],
    pub bias: &'a [f32],
    pub eps: f32,
    pub before: Option<Dropout>,
    pub after: Option<Dropout>,
}

/// `x` becomes `drop_before(x) + residual`; `y` its norm, dropped after; `stats` its mean and one over its deviation.
pub fn forward(
    isa: Isa,
    shape: Shape<'_>,
    x: &mut [f32],
    residual: Option<&[f32]>,
    stats: &mut [f32],
    y: &mut [f32],
) {
    use rayon::prelude::*;
    let h = shape.weight.len();
    let rows = x
        .par_chunks_mut(h)
        .zip(y.par_chunks_mut(h))
        .zip(stats.par_chunks_mut(2))
        .enumerate();
    rows.with_min_len(8).for_each(|(token, ((x, y), stats))| {
        let residual = residual.map(|r| &r[token * h..][..h]);
        forward_row(isa, token as u32, shape, x, residual, stats, y);
    });
}

vectorized! {
    fn forward_row(token: u32, shape: Shape<'_>, x: &mut [f32], residual: Option<&[f32]>, stats: &mut [f32], y: &mut [f32]) {
        let h = x.len();
        if let Some(dropout) = shape.before {
            // `y` holds the mask until it is needed.
            dropout.fill(token, y);
            x.iter_mut().zip(&*y).for_each(|(x, m)| *x *= m);
        }
        if let Some(residual) = residual {
            x.iter_mut().zip(residual).for_each(|(x, r)| *x += r);
        }
        let mean = sum::<FMA>(x, |v| v) / h as f32;
        let variance = sum::<FMA>(x, |v| (v - mean) * (v - mean)) / h as f32;
        let scale = 1.0 / (variance + shape.eps).sqrt();
        (stats[0], stats[1]) = (mean, scale);
        if let Some(dropout) = shape.after {
            dropout.fill(token, y);
            for i in 0..h {
                y[i] *= fma::<FMA>((x[i] - mean) * scale, shape.weight[i], shape.bias[i]);
            }
        } else {
            for i in 0..h {
                y[i] = fma::<FMA>((x[i] - mean) * scale, shape.weight[i], shape.bias[i]);
            }
        }
    }
}

/// A sum in sixteen strands.
#[inline(always)]
pub fn sum<const FMA: bool>(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (whole, rest) = x.as_chunks::<16>();
    let mut strands = [0f32; 16];
    for chunk in whole {
        for (s, x) in strands.iter_mut().zip(chunk) {
            *s += f(*x);
        }
    }
    let tail: f32 = rest.iter().map(|x| f(*x)).sum();
    strands.iter().sum::<f32>() + tail
}

/// A sum over pairs in sixteen strands.
#[inline(always)]
pub fn sum_of<const FMA: bool>(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let mut strands = [0f32; 16];
    for (a, b) in a.iter().zip(b) {
        for i in 0..16 {
            strands[i] += f(a[i], b[i]);
        }
    }
    let tail: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| f(*a, *b)).sum();
    strands.iter().sum::<f32>() + tail
}

/// The sums that a backward pass makes over tokens.
pub struct Sums {
    pub dweight: Vec<f32>,
    pub dbias: Vec<f32>,
    pub dx_bias: Vec<f32>,
}

/// `dy` becomes the gradient of the sum `x` that was normalised, and `dx` that of what was dropped before.
pub fn backward(
    isa: Isa,
    shape: Shape<'_>,
    x: &[f32],
    stats: &[f32],
    dy: &mut [f32],
    dx: Option<&mut [f32]>,
) -> Sums {
    let h = shape.weight.len();
    let to_dy = Shared(dy.as_mut_ptr());
    let to_dx = dx.map(|dx| {
        assert_eq!(dx.len(), dy.len());
        Shared(dx.as_mut_ptr())
    });
    let rows = dy.len() / h;
    assert!(x.len() == rows * h && stats.len() >= rows * 2);
    let sums = sum_blocks(rows, 3 * h, |first, count, sums| {
        let mut mask = vec![0f32; h];
        for token in first..first + count {
            // SAFETY: blocks are apart, so each row is this task's alone.
            let dy = unsafe { to_dy.part(token * h, h) };
            // SAFETY: as above.
            let dx = to_dx.map(|dx| unsafe { dx.part(token * h, h) });
            backward_row(
                isa,
                token as u32,
                shape,
                &x[token * h..][..h],
                &stats[token * 2..][..2],
                dy,
                dx,
                &mut mask,
                sums,
            );
        }
    });
    let (dweight, rest) = sums.split_at(h);
    let (dbias, dx_bias) = rest.split_at(h);
    Sums {
        dweight: dweight.into(),
        dbias: dbias.into(),
        dx_bias: dx_bias.into(),
    }
}

vectorized! {
    fn backward_row(token: u32, shape: Shape<'_>, x: &[f32], stats: &[f32], dy: &mut [f32], dx: Option<&mut [f32]>, mask: &mut [f32], sums: &mut [f32]) {
        let h = x.len();
        let (mean, scale) = (stats[0], stats[1]);
        let (dweight, rest) = sums.split_at_mut(h);
        let (dbias, dx_bias) = rest.split_at_mut(h);
        if let Some(dropout) = shape.after {
            dropout.fill(token, mask);
            dy.iter_mut().zip(&*mask).for_each(|(d, m)| *d *= m);
        }
        for i in 0..h {
            dweight[i] = fma::<FMA>(dy[i], (x[i] - mean) * scale, dweight[i]);
            dbias[i] += dy[i];
        }
        for i in 0..h {
            dy[i] *= shape.weight[i];
        }
        let n = h as f32;
        let mean_d = sum::<FMA>(dy, |d| d) / n;
        let mean_along = sum_of::<FMA>(dy, x, |d, x| d * (x - mean)) * scale * scale / n;
        for i in 0..h {
            dy[i] = (dy[i] - mean_d - (x[i] - mean) * mean_along) * scale;
        }
        match (dx, shape.before) {
            (Some(dx), Some(dropout)) => {
                dropout.fill(token, dx);
                for i in 0..h {
                    dx[i] *= dy[i];
                    dx_bias[i] += dx[i];
                }
            }
            (Some(dx), None) => {
                dx.copy_from_slice(dy);
                dx_bias.iter_mut().zip(&*dy).for_each(|(s, d)| *s += d);
            }
            (None, _) => dx_bias.iter_mut().zip(&*dy).for_each(|(s, d)| *s += d),
        }
    }
}
