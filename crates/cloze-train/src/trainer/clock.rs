//! How fast training goes.

use std::time::Instant;

use crate::record::StepRecord;

/// Time and tokens since the last line of the log; evaluations and checkpoints are left out.
pub(super) struct Clock {
    started: Instant,
    pub waited: f64,
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
