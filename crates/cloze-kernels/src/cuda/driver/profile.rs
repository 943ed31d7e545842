//! What takes how long on a device, by name, without waiting for any of it.

use std::collections::BTreeMap;

use super::stream::Event;
use crate::Result;

/// Pairs of moments that are kept before they are read.
const KEPT: usize = 4_096;

/// Moments before and after what ran, and what they have come to.
///
/// Where the host is slower than the device, it includes the time from the first moment until the host asked for the work itself.
#[derive(Debug, Default)]
pub struct Profile {
    pending: Vec<(String, [Event; 2])>,
    /// Calls and milliseconds.
    sums: BTreeMap<String, (u64, f64)>,
}

impl Profile {
    /// Adds what ran between two moments on one stream.
    pub fn add(&mut self, name: String, moments: [Event; 2]) -> Result<()> {
        self.pending.push((name, moments));
        match self.pending.len() {
            KEPT => self.read(),
            _ => Ok(()),
        }
    }

    /// Waits for all that was added, and adds it up.
    pub fn read(&mut self) -> Result<()> {
        for (name, [start, end]) in self.pending.drain(..) {
            let ms = end.since(&start)?;
            let sum = self.sums.entry(name).or_default();
            *sum = (sum.0 + 1, sum.1 + ms);
        }
        Ok(())
    }

    /// Name, calls and milliseconds of what was read.
    pub fn sums(self) -> Vec<(String, u64, f64)> {
        let sums = self.sums.into_iter();
        sums.map(|(name, (calls, ms))| (name, calls, ms)).collect()
    }
}
