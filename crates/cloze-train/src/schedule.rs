//! The learning rate over a run.

use serde::{Deserialize, Serialize};

/// What becomes of the learning rate after the warmup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// It falls linearly to zero.
    #[default]
    Linear,
    /// It falls to zero by half a wave of a cosine (Loshchilov and Hutter, ICLR 2017, without restarts).
    Cosine,
    /// It stays.
    Constant,
}

impl Schedule {
    /// The rate at `step`, from 1 to `steps` = n. In the warmup of w steps `peak · t/w`. After it, with the share of steps that are left
    /// r = (n − t + 1)/(n − w): `peak · r`, `peak · (1 − cos πr)/2`, or `peak`.
    ///
    /// So the first step after the warmup has the peak rate, and the last has still some.
    #[must_use]
    pub fn learning_rate(self, peak: f64, step: u64, warmup_steps: u64, steps: u64) -> f64 {
        if step <= warmup_steps {
            return peak * step as f64 / warmup_steps as f64;
        }
        let after = (steps - warmup_steps.min(steps)).max(1) as f64;
        let left = (steps + 1).saturating_sub(step) as f64;
        match self {
            Self::Linear => peak * left / after,
            Self::Cosine => peak * (1.0 - (std::f64::consts::PI * left / after).cos()) / 2.0,
            Self::Constant => peak,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Schedule::{Constant, Cosine, Linear};

    #[test]
    fn rises_to_the_peak_and_falls_to_zero() {
        let rates: Vec<f64> = (1..=8)
            .map(|t| Linear.learning_rate(1.0, t, 4, 8))
            .collect();
        assert_eq!(rates, [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]);
        assert_eq!(Linear.learning_rate(1.0, 9, 4, 8), 0.0);
        assert_eq!(Linear.learning_rate(2.0, 1, 0, 2), 2.0);
        assert_eq!(Linear.learning_rate(2.0, 3, 5, 3), 1.2);
    }

    #[test]
    fn a_cosine_is_slow_at_both_ends_and_a_constant_stays() {
        let rate = |t| Cosine.learning_rate(2.0, t, 2, 6);
        assert_eq!((rate(1), rate(2), rate(3), rate(7)), (1.0, 2.0, 2.0, 0.0));
        assert!((rate(5) - 1.0).abs() < 1e-12, "half way down");
        assert!((rate(4) - (1.0 + 0.5f64.sqrt())).abs() < 1e-12);
        assert_eq!(Constant.learning_rate(2.0, 1, 2, 6), 1.0);
        assert_eq!(Constant.learning_rate(2.0, 6, 2, 6), 2.0);
    }
}
