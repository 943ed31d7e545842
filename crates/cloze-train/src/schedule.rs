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

    /// The rate at `step` of a run that ends by the clock, when the share `spent` of its time is over: as by steps, with r = 1 − `spent`
    /// (Izsak, Berchansky and Levy, EMNLP 2021, section 3.4).
    #[must_use]
    pub fn by_the_clock(self, peak: f64, step: u64, warmup_steps: u64, spent: f64) -> f64 {
        let left = (1.0 - spent).clamp(0.0, 1.0);
        if step <= warmup_steps {
            return peak * step as f64 / warmup_steps as f64;
        }
        match self {
            Self::Linear => peak * left,
            Self::Cosine => peak * (1.0 - (std::f64::consts::PI * left).cos()) / 2.0,
            Self::Constant => peak,
        }
    }
}

/// The share of tokens that is predicted at `step`, from 1 to `steps` = n: `first + (last − first) · (t − 1)/(n − 1)`, or `first` where
/// there is no `last` (Ankner et al. 2023, Dynamic Masking Rate Schedules for MLM Pretraining, whose rates fall from 30 % to 15 %).
///
/// So the first step has the first rate, and the last step the last.
#[must_use]
pub fn mask_rate(first: f64, last: Option<f64>, step: u64, steps: u64) -> f64 {
    let Some(last) = last.filter(|_| step > 1) else {
        return first;
    };
    if step >= steps {
        return last;
    }
    first + (last - first) * (step - 1) as f64 / (steps - 1) as f64
}

/// As [`mask_rate`] in a run that ends by the clock, when the share `spent` of its time is over: `first + (last − first) · spent`.
#[must_use]
pub fn mask_rate_by_the_clock(first: f64, last: Option<f64>, spent: f64) -> f64 {
    match last {
        Some(last) if spent >= 1.0 => last,
        Some(last) => first + (last - first) * spent.max(0.0),
        None => first,
    }
}

#[cfg(test)]
mod tests {
    use super::Schedule::{Constant, Cosine, Linear};
    use super::{mask_rate, mask_rate_by_the_clock};

    #[test]
    fn the_rate_of_masks_goes_from_the_first_to_the_last() {
        let rates: Vec<f64> = (1..=5).map(|t| mask_rate(0.5, Some(0.25), t, 5)).collect();
        assert_eq!(rates, [0.5, 0.4375, 0.375, 0.3125, 0.25]);
        // Both ends are met to the bit, and nothing lies outside.
        for (first, last) in [(0.3, 0.15), (0.1, 0.7), (0.15, 0.15), (1.0, 1e-3)] {
            let at = |t| mask_rate(first, Some(last), t, 997);
            assert_eq!((at(1), at(997)), (first, last));
            let (low, high) = (f64::min(first, last), f64::max(first, last));
            assert!((1..=997).all(|t| (low..=high).contains(&at(t))));
            assert_eq!(mask_rate(first, None, 500, 997), first);
        }
        assert_eq!(mask_rate(0.3, Some(0.15), 1, 1), 0.3, "a run of one step");
        let by_the_clock = |spent| mask_rate_by_the_clock(0.5, Some(0.25), spent);
        assert_eq!(
            [0.0, 0.5, 1.0, 1.7].map(by_the_clock),
            [0.5, 0.375, 0.25, 0.25]
        );
        assert_eq!(mask_rate_by_the_clock(0.5, None, 0.5), 0.5);
    }

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
    fn by_the_clock_the_end_is_that_of_the_time() {
        let rate = |step, spent| Linear.by_the_clock(2.0, step, 4, spent);
        assert_eq!((rate(1, 0.9), rate(4, 0.1)), (0.5, 2.0));
        assert_eq!((rate(5, 0.25), rate(9, 1.0), rate(9, 1.5)), (1.5, 0.0, 0.0));
        let half = Cosine.by_the_clock(2.0, 9, 4, 0.5);
        assert!((half - 1.0).abs() < 1e-12);
        assert_eq!(Constant.by_the_clock(2.0, 9, 4, 0.5), 2.0);
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
