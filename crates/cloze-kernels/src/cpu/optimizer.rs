//! AdamW and LAMB.

use rayon::prelude::*;

use super::isa::{Isa, fma, vectorized};
use super::norm::sum_of;

/// Elements that one task takes.
const SPAN: usize = 1 << 13;

/// What a step does to every element alike.
#[derive(Clone, Copy)]
pub struct Moments {
    pub gradient_scale: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub eps: f32,
}

/// Blocks of `p`, `m`, `v` move as `rates[group]` says.
pub fn adamw(
    isa: Isa,
    moments: Moments,
    root2: f32,
    groups: &[u32],
    rates: &[f32],
    [p, m, v]: [&mut [f32]; 3],
    g: &[f32],
) {
    let block = p.len() / groups.len().max(1);
    let span = (SPAN / block.max(1)).max(1);
    let spans = p
        .par_chunks_mut(span * block)
        .zip(m.par_chunks_mut(span * block))
        .zip(v.par_chunks_mut(span * block))
        .zip(g.par_chunks(span * block))
        .zip(groups.par_chunks(span));
    spans.for_each(|((((p, m), v), g), groups)| {
        // Neighbours of one group in one go.
        let mut start = 0;
        for run in groups.chunk_by(|a, b| a == b) {
            let part = start..start + run.len() * block;
            start = part.end;
            let (group, g) = (run[0] as usize, &g[part.clone()]);
            let (p, m, v) = (&mut p[part.clone()], &mut m[part.clone()], &mut v[part]);
            adamw_span(
                isa,
                moments,
                root2,
                rates[group * 2],
                rates[group * 2 + 1],
                p,
                m,
                v,
                g,
            );
        }
    });
}

vectorized! {
    fn adamw_span(s: Moments, root2: f32, keep: f32, rate: f32, p: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32]) {
        for (((p, m), v), g) in p.iter_mut().zip(m).zip(v).zip(g) {
            let g = g * s.gradient_scale;
            *m = fma::<FMA>(g - *m, 1.0 - s.beta1, *m);
            *v = fma::<FMA>((1.0 - s.beta2) * g, g, s.beta2 * *v);
            *p = fma::<FMA>(-rate, *m / (v.sqrt() / root2 + s.eps), *p * keep);
        }
    }
}

/// The constants of LAMB that are not a group's own.
#[derive(Clone, Copy)]
pub struct Corrections {
    pub first: f32,
    pub second: f32,
}

/// Groups of `p`, `m`, `v` move as `rates[group]` says; `g` becomes what they move along.
pub fn lamb(
    isa: Isa,
    moments: Moments,
    corrections: Corrections,
    starts: &[u32],
    rates: &[f32],
    [p, m, v, g]: [&mut [f32]; 4],
) {
    let blocks = starts.last().map_or(0, |&n| n as usize);
    let block = p.len() / blocks.max(1);
    for (bounds, rates) in starts.windows(2).zip(rates.chunks_exact(3)) {
        let part = bounds[0] as usize * block..bounds[1] as usize * block;
        let (p, m, v, g) = (
            &mut p[part.clone()],
            &mut m[part.clone()],
            &mut v[part.clone()],
            &mut g[part],
        );
        let spans = p
            .par_chunks(SPAN)
            .zip(m.par_chunks_mut(SPAN))
            .zip(v.par_chunks_mut(SPAN))
            .zip(g.par_chunks_mut(SPAN));
        let sums: Vec<[f64; 2]> = spans
            .map(|(((p, m), v), g)| {
                lamb_update(isa, moments, corrections, rates[1], p, m, v, g);
                [f64::from(squares(isa, p)), f64::from(squares(isa, g))]
            })
            .collect();
        let [own, along] = sums
            .iter()
            .fold([0f64; 2], |[a, b], [c, d]| [a + c, b + d])
            .map(f64::sqrt);
        let adapts = rates[2] != 0.0 && own > 0.0 && along > 0.0;
        let ratio = if adapts { (own / along) as f32 } else { 1.0 };
        p.par_chunks_mut(SPAN)
            .zip(g.par_chunks(SPAN))
            .for_each(|(p, g)| lamb_apply(isa, rates[0] * ratio, p, g));
    }
}

vectorized! {
    fn lamb_update(s: Moments, c: Corrections, decay: f32, p: &[f32], m: &mut [f32], v: &mut [f32], g: &mut [f32]) {
        let n = p.len();
        let (m, v, g) = (&mut m[..n], &mut v[..n], &mut g[..n]);
        for i in 0..n {
            let gradient = g[i] * s.gradient_scale;
            m[i] = fma::<FMA>(gradient - m[i], 1.0 - s.beta1, m[i]);
            v[i] = fma::<FMA>((1.0 - s.beta2) * gradient, gradient, s.beta2 * v[i]);
            let along = (m[i] / c.first) / ((v[i] / c.second).sqrt() + s.eps);
            g[i] = fma::<FMA>(decay, p[i], along);
        }
    }
}

vectorized! {
    fn lamb_apply(rate: f32, p: &mut [f32], g: &[f32]) {
        for (p, g) in p.iter_mut().zip(g) {
            *p = fma::<FMA>(-rate, *g, *p);
        }
    }
}

vectorized! {
    fn squares(x: &[f32]) -> f32 {
        sum_of::<FMA>(x, x, |a, b| a * b)
    }
}
