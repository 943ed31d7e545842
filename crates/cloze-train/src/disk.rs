//! Room for checkpoints on the disk: known before the first is written, perhaps hours later.

use std::path::Path;

use cloze_shard::room::free;

use crate::{Error, Result};

/// What the checkpoints of a run take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes of one: the model, and beside it parameters and two moments for going on, four bytes each. `RUN/model` and `RUN/best` are other names for files of these.
    pub checkpoint: u64,
    /// Checkpoints that may be there at a time: those that are kept, the best, and one that is being written.
    pub most: u64,
    /// Bytes that are free, where the system says.
    pub free: Option<u64>,
}

impl Room {
    /// That of a run in `run` which keeps `keep` checkpoints: of a model of `parameters`, which are `padded` where they lie to be computed with.
    pub fn of(run: &Path, parameters: usize, padded: usize, keep: usize) -> Self {
        Self {
            checkpoint: 4 * parameters as u64 + 12 * padded as u64,
            most: keep.max(1) as u64 + 2,
            free: free(run),
        }
    }

    /// Refuses a run that cannot write one checkpoint.
    pub fn check(self, run: &Path) -> Result<()> {
        match self.free {
            Some(free) if free < self.checkpoint => Err(Error::Run {
                path: run.into(),
                why: format!(
                    "a checkpoint takes {} MB, {} MB are free",
                    self.checkpoint.div_ceil(1_000_000),
                    free / 1_000_000
                ),
                hint: "free some, or give an --out where there is more".into(),
            }),
            _ => Ok(()),
        }
    }

    /// Whether all that may be there at a time fits, beside the `there` that are.
    #[must_use]
    pub fn is_enough(self, there: u64) -> bool {
        let more = self.most.saturating_sub(there);
        self.free.is_none_or(|free| more * self.checkpoint <= free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_is_refused() {
        let run = Path::new("run");
        let room = |free| Room {
            free,
            ..Room::of(run, 1_000_000, 1_000_000, 3)
        };
        assert_eq!((room(None).checkpoint, room(None).most), (16_000_000, 5));
        assert!(room(None).check(run).is_ok() && room(None).is_enough(0));
        let why = room(Some(15_999_999)).check(run).unwrap_err();
        assert_eq!(
            why.to_string(),
            "run: a checkpoint takes 16 MB, 15 MB are free"
        );
        assert!(room(Some(16_000_000)).check(run).is_ok());
        assert!(!room(Some(79_999_999)).is_enough(0));
        assert!(room(Some(80_000_000)).is_enough(0));
        assert_eq!(Room::of(run, 10, 64, 3).checkpoint, 40 + 3 * 256);
        // A run that goes on has some of them.
        assert!(room(Some(32_000_000)).is_enough(3));
        assert!(!room(Some(31_000_000)).is_enough(3));
        assert!(Room::of(run, 1, 1, 0).free.is_some_and(|free| free > 0));
    }
}
