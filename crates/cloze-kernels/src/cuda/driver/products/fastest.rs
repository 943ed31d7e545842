//! Which algorithm is the fastest.
//!
//! One run between two moments of an idle stream takes as long as the host needs to ask for it. So many runs are asked for while the device is busy
//! with something else, and are timed together.

use cudarc::cublaslt::sys;
use cudarc::driver;

use super::super::{Event, failed};
use super::{Plan, Products};
use crate::Result;
use crate::cuda::machine::{Address, Product};

/// Runs that warm up.
const WARMUP: usize = 2;
/// Rounds, of which the median counts.
const ROUNDS: usize = 3;
/// What the runs of a round are to take together, in milliseconds.
const ROUND: f64 = 0.2;
/// Most runs of a round.
const MOST: usize = 32;
/// Times that the workspace is zeroed before a round: some 0.2 ms of a GPU's memory, in which the host asks for the runs.
const BUSY: usize = 8;

/// Runs of a round, where one takes `ms`.
fn runs(ms: f64) -> usize {
    // A cast saturates, and makes 0 of what is no number.
    ((ROUND / ms).ceil() as usize).clamp(2, MOST)
}

impl Products {
    /// Which of `offered` takes the least time, and how long. What is added to is not the result itself.
    pub(super) fn fastest(
        &self,
        plan: &Plan,
        p: &Product,
        offered: &[sys::cublasLtMatmulHeuristicResult_t],
        stream: driver::sys::CUstream,
    ) -> Result<(usize, Option<f64>)> {
        let each = if p.single { 4 } else { self.format.bytes() };
        let mut spare = None;
        if p.accumulate {
            let bytes = p.m * p.n * each;
            // SAFETY: it is set before it is read.
            let at = unsafe { driver::result::malloc_sync(bytes) }.map_err(failed("cuMemAlloc"))?;
            // SAFETY: all of it was just allocated.
            unsafe { driver::result::memset_d8_async(at, 0, bytes, stream) }
                .map_err(failed("cuMemsetD8Async"))?;
            spare = Some(at);
        }
        let c = spare.unwrap_or(p.c);
        let mut best = (0, None);
        for (which, one) in offered.iter().enumerate() {
            // An algorithm that fails after all is passed over.
            let took = self.take(plan, p, c, &one.algo, stream);
            if let Ok(ms) = took
                && best.1.is_none_or(|least| ms < least)
            {
                best = (which, Some(ms));
            }
        }
        if let Some(at) = spare {
            // SAFETY: nothing runs that uses it: every run was waited for.
            unsafe { driver::result::free_sync(at) }.map_err(failed("cuMemFree"))?;
        }
        Ok(best)
    }

    /// Milliseconds that an algorithm takes.
    fn take(
        &self,
        plan: &Plan,
        p: &Product,
        c: Address,
        algorithm: &sys::cublasLtMatmulAlgo_t,
        stream: driver::sys::CUstream,
    ) -> Result<f64> {
        let (start, end) = (Event::new()?, Event::new()?);
        let round = |runs: usize| {
            for _ in 0..BUSY {
                let (at, bytes) = self.workspace;
                // SAFETY: the workspace is this stream's, and nothing in it lasts from one product to the next.
                unsafe { driver::result::memset_d8_async(at, 0, bytes, stream) }
                    .map_err(failed("cuMemsetD8Async"))?;
            }
            start.record(stream)?;
            for _ in 0..runs {
                self.multiply(plan, p, c, algorithm, stream)?;
            }
            end.record(stream)?;
            Ok(end.since(&start)? / runs as f64)
        };
        let runs = runs(round(WARMUP)?);
        let mut times = [0.0; ROUNDS];
        for ms in &mut times {
            *ms = round(runs)?;
        }
        times.sort_by(f64::total_cmp);
        Ok(times[ROUNDS / 2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_takes_long_enough() {
        for (ms, expected) in [(0.02, 10), (0.015, 14), (0.05, 4), (0.19, 2), (5.0, 2)] {
            assert_eq!(runs(ms), expected, "{ms}");
        }
        for ms in [0.001, 0.0, f64::MIN_POSITIVE] {
            assert_eq!(runs(ms), MOST, "{ms}");
        }
        assert_eq!(runs(f64::NAN), 2);
    }
}
