//! AdamW, LAMB and the global norm on flat arenas in memory.

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
/// t counts steps that were not made, too, where PyTorch under a `GradScaler` counts those alone that were: what is not made is found out on the
/// device, and the corrections are the host's. So a first step after a skipped one is a little shorter here (0.74 of PyTorch's with β = 0.9 and 0.999),
/// and after some thousand steps there is no difference.
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

/// What one parameter's step of LAMB multiplies and adds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LambConstants {
    /// η.
    pub rate: f32,
    /// λ.
    pub decay: f32,
    /// Whether the step is as long as the parameter is: of what is decayed, so not of biases and norms.
    pub adapts: bool,
}

/// The constants of a parameter's step of LAMB; its rate is as of AdamW.
pub fn lamb_constants(step: &OptimizerStep, parameter: &Parameter) -> LambConstants {
    let rate = step.learning_rate * step.layer_decay.powi(parameter.depth as i32);
    let decay = if parameter.decay {
        step.weight_decay
    } else {
        0.0
    };
    LambConstants {
        rate: rate as f32,
        decay: decay as f32,
        adapts: parameter.decay,
    }
}

/// 1 − β₁ᵗ and 1 − β₂ᵗ.
pub fn corrections(step: &OptimizerStep) -> [f32; 2] {
    let (beta1, beta2) = step.betas;
    [beta1, beta2].map(|beta| (1.0 - beta.powf(step.step as f64)) as f32)
}

/// One step of LAMB over all parameters that `objective` trains; the norm of the gradient before clipping.
///
/// [`cloze_kernels::Lamb`] has the formulas; as of AdamW, what cannot be trained is left alone, and nothing changes where the norm is not finite.
pub fn lamb(
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
    let [c1, c2] = corrections(step);
    for parameter in layout.parameters() {
        if parameter.nsp_only && objective == Objective::Mlm {
            continue;
        }
        let c = lamb_constants(step, parameter);
        let range = parameter.range();
        let place = &mut state.parameters[range.clone()];
        let (m, v) = (
            &mut state.first_moment[range.clone()],
            &mut state.second_moment[range.clone()],
        );
        let mut direction = Vec::with_capacity(place.len());
        for (((p, m), v), &g) in place.iter().zip(m).zip(v).zip(&gradients[range]) {
            let g = g * gradient_scale;
            *m += (g - *m) * (1.0 - beta1);
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            direction.push((*m / c1) / ((*v / c2).sqrt() + step.eps as f32) + c.decay * p);
        }
        let (own, along) = (global_norm(place), global_norm(&direction));
        let ratio = match c.adapts && own > 0.0 && along > 0.0 {
            true => (own / along) as f32,
            false => 1.0,
        };
        for (p, u) in place.iter_mut().zip(&direction) {
            *p -= c.rate * ratio * u;
        }
    }
    norm
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
