//! The learning rate over a run.

/// Linear warmup, then linear decay to zero: `peak · t/w` for `t ≤ w`, then `peak · (n − t + 1)/(n − w)`.
///
/// `step` is `t`, from 1 to `steps` = n; the first step after the warmup `w` has the peak rate, the last has `peak/(n − w)`.
#[must_use]
pub fn learning_rate(peak: f64, step: u64, warmup_steps: u64, steps: u64) -> f64 {
    if step <= warmup_steps {
        peak * step as f64 / warmup_steps as f64
    } else {
        peak * (steps + 1).saturating_sub(step) as f64
            / (steps - warmup_steps.min(steps)).max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_to_the_peak_and_falls_to_zero() {
        let rates: Vec<f64> = (1..=8).map(|t| learning_rate(1.0, t, 4, 8)).collect();
        assert_eq!(rates, [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]);
        assert_eq!(learning_rate(1.0, 9, 4, 8), 0.0);
        assert_eq!(learning_rate(2.0, 1, 0, 2), 2.0);
        assert_eq!(learning_rate(2.0, 3, 5, 3), 1.2);
    }
}
