//! AdamW and the global norm on flat arenas in memory.

use rayon::prelude::*;

use crate::engine::{EngineState, Objective, OptimizerStep};
use crate::parameters::Layout;

/// Elements that are summed together: fixed, so that sums do not depend on the number of threads.
const CHUNK: usize = 1 << 14;

/// The L2 norm of `gradients`, summed in double precision in a fixed order.
#[must_use]
pub fn global_norm(gradients: &[f32]) -> f64 {
    let partial: Vec<f64> = gradients
        .par_chunks(CHUNK)
        .map(|chunk| chunk.iter().map(|&g| f64::from(g) * f64::from(g)).sum())
        .collect();
    partial.iter().sum::<f64>().sqrt()
}

/// One AdamW step over all parameters that `objective` trains; the norm of the gradient before clipping.
///
/// With g clipped by `clip / (norm + 1e-6)` where that is under 1: θ ← θ(1 − ηλ); m ← β₁m + (1−β₁)g;
/// v ← β₂v + (1−β₂)g²; θ ← θ − η/(1−β₁ᵗ) · m / (√v/√(1−β₂ᵗ) + ε). Parameters whose gradient cannot
/// exist under the objective are left alone: decay would only shrink them.
pub fn adamw(
    layout: &Layout,
    objective: Objective,
    state: &mut EngineState,
    gradients: &[f32],
    step: &OptimizerStep,
) -> f64 {
    let norm = global_norm(gradients);
    let scale = if step.clip > 0.0 {
        (step.clip / (norm + 1e-6)).min(1.0)
    } else {
        1.0
    } as f32;
    let (b1, b2) = step.betas;
    let correction1 = 1.0 - b1.powf(step.step as f64);
    let correction2 = (1.0 - b2.powf(step.step as f64)).sqrt();
    let rate = (step.learning_rate / correction1) as f32;
    let (root2, eps) = (correction2 as f32, step.eps as f32);
    let (b1, b2) = (b1 as f32, b2 as f32);
    for parameter in layout.parameters() {
        if parameter.nsp_only && objective == Objective::Mlm {
            continue;
        }
        let keep = if parameter.decay {
            (1.0 - step.learning_rate * step.weight_decay) as f32
        } else {
            1.0
        };
        let range = parameter.range();
        let chunks = state.parameters[range.clone()]
            .par_chunks_mut(CHUNK)
            .zip(state.first_moment[range.clone()].par_chunks_mut(CHUNK))
            .zip(state.second_moment[range.clone()].par_chunks_mut(CHUNK))
            .zip(gradients[range].par_chunks(CHUNK));
        chunks.for_each(|(((p, m), v), g)| {
            for (((p, m), v), &g) in p.iter_mut().zip(m).zip(v).zip(g) {
                let g = g * scale;
                *m += (g - *m) * (1.0 - b1);
                *v = b2 * *v + (1.0 - b2) * g * g;
                *p = *p * keep - rate * (*m / (v.sqrt() / root2 + eps));
            }
        });
    }
    norm
}
