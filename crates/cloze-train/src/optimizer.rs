//! AdamW and the global norm on flat arenas in memory.

use rayon::prelude::*;

use crate::engine::{EngineState, Objective, OptimizerStep};
use crate::parameters::{Layout, Parameter};

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

/// What one parameter's step multiplies and adds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Constants {
    /// Multiplies the parameter: 1 − ηλ.
    pub keep: f32,
    /// η / (1 − β₁ᵗ).
    pub rate: f32,
    /// √(1 − β₂ᵗ).
    pub root2: f32,
}

/// What multiplies a gradient of global norm `norm`: clipping.
fn clipping(step: &OptimizerStep, norm: f64) -> f32 {
    if step.clip > 0.0 {
        (step.clip / (norm + 1e-6)).min(1.0) as f32
    } else {
        1.0
    }
}

/// The constants of a parameter's step.
///
/// Its rate is η dᵏ, where k is how far it is from the heads and d the decay by layer (Howard and Ruder, ACL 2018, section 3.2).
pub fn constants(step: &OptimizerStep, parameter: &Parameter) -> Constants {
    let (beta1, beta2) = step.betas;
    let learning_rate = step.learning_rate * step.layer_decay.powi(parameter.depth as i32);
    let correction = |beta: f64| 1.0 - beta.powf(step.step as f64);
    let keep = if parameter.decay {
        1.0 - learning_rate * step.weight_decay
    } else {
        1.0
    };
    Constants {
        keep: keep as f32,
        rate: (learning_rate / correction(beta1)) as f32,
        root2: correction(beta2).sqrt() as f32,
    }
}

/// One AdamW step over all parameters that `objective` trains; the norm of the gradient before clipping.
///
/// With g clipped by `clip / (norm + 1e-6)` where that is under 1: θ ← θ(1 − ηλ); m ← β₁m + (1−β₁)g;
/// v ← β₂v + (1−β₂)g²; θ ← θ − η/(1−β₁ᵗ) · m / (√v/√(1−β₂ᵗ) + ε). Parameters whose gradient cannot
/// exist under the objective are left alone: decay would only shrink them. Where the norm is not finite nothing changes.
pub fn adamw(
    layout: &Layout,
    objective: Objective,
    state: &mut EngineState,
    gradients: &[f32],
    step: &OptimizerStep,
) -> f64 {
    let norm = global_norm(gradients);
    if !norm.is_finite() {
        return norm;
    }
    let gradient_scale = clipping(step, norm);
    let (beta1, beta2) = (step.betas.0 as f32, step.betas.1 as f32);
    let eps = step.eps as f32;
    for parameter in layout.parameters() {
        if parameter.nsp_only && objective == Objective::Mlm {
            continue;
        }
        let c = constants(step, parameter);
        let range = parameter.range();
        let chunks = state.parameters[range.clone()]
            .par_chunks_mut(CHUNK)
            .zip(state.first_moment[range.clone()].par_chunks_mut(CHUNK))
            .zip(state.second_moment[range.clone()].par_chunks_mut(CHUNK))
            .zip(gradients[range].par_chunks(CHUNK));
        chunks.for_each(|(((p, m), v), g)| {
            for (((p, m), v), &g) in p.iter_mut().zip(m).zip(v).zip(g) {
                let g = g * gradient_scale;
                *m += (g - *m) * (1.0 - beta1);
                *v = beta2 * *v + (1.0 - beta2) * g * g;
                *p = *p * c.keep - c.rate * (*m / (v.sqrt() / c.root2 + eps));
            }
        });
    }
    norm
}
