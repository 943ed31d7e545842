//! How fast training goes.

use std::time::Instant;

use crate::record::StepRecord;

/// Time and tokens since the last line of the log; evaluations and checkpoints are left out.
pub(super) struct Clock {
    started: Instant,
    waited: f64,
    pub steps: u64,
    pub tokens: u64,
}

impl Clock {
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
            waited: 0.0,
            steps: 0,
            tokens: 0,
        }
    }

    /// Runs `work` off the clock.
    pub fn outside<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let before = Instant::now();
        let result = work();
        self.started += before.elapsed();
        result
    }

    /// Runs `work`, which is nothing but to wait for data.
    pub fn waiting<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let before = Instant::now();
        let result = work();
        self.waited += before.elapsed().as_secs_f64();
        result
    }

    /// `record` with what the clock says; `steps` is how many there will be, and `left` how many seconds, where the run ends by the clock.
    pub fn complete(&self, record: StepRecord, steps: u64, left: Option<f64>) -> StepRecord {
        let spent = self.started.elapsed().as_secs_f64().max(1e-9);
        let each = spent / self.steps.max(1) as f64;
        StepRecord {
            tokens_per_second: self.tokens as f64 / spent,
            data_wait_fraction: self.waited / spent,
            step_seconds: each,
            seconds_left: (each * steps.saturating_sub(record.step) as f64)
                .min(left.unwrap_or(f64::INFINITY)),
            ..record
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::sleep;
    use std::time::Duration;

    /// A fifth of the time is waited for data; what is off the clock is in no share, and waiting before the clock is not in it.
    #[test]
    fn the_share_of_waiting_is_that_of_the_clock() {
        let ms = Duration::from_millis;
        let mut clock = Clock::start();
        for _ in 0..2 {
            clock.waiting(|| sleep(ms(20)));
            sleep(ms(80));
            clock.outside(|| sleep(ms(200)));
            clock.steps += 1;
            clock.tokens += 50;
        }
        let record = clock.complete(crate::record::tests::step(2), 4, None);
        // Sleeps may be longer, on a busy machine a lot.
        let about = |seen: f64, expected: f64| (0.6..1.6).contains(&(seen / expected));
        assert!(about(record.data_wait_fraction, 0.2), "{record:?}");
        assert!(about(record.step_seconds, 0.1), "{record:?}");
        assert!(about(record.tokens_per_second, 500.0), "{record:?}");
        assert!(about(record.seconds_left, 0.2), "{record:?}");
    }
}
