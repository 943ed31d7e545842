//! Steps that are not made, because their gradient is not finite.
//!
//! An engine counts them on its device and is asked at logged steps. From the first that is seen it is asked after every step, for a while: so it is
//! known how many there were in a row.

/// How many were seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Skips {
    /// In a row, after which training stops.
    most: u64,
    /// What the engine has counted.
    counted: u64,
    /// Steps since the engine was asked.
    since: u64,
    /// Up to the last step.
    in_a_row: u64,
    /// Steps after which the engine is still asked.
    careful: u64,
}

impl Skips {
    /// `in_a_row` were the last of an earlier process.
    pub fn new(most: u64, in_a_row: u64) -> Self {
        Self {
            most,
            counted: 0,
            since: 0,
            in_a_row,
            careful: if in_a_row > 0 { most + 2 } else { 0 },
        }
    }

    /// How many of the last steps were not made.
    pub fn in_a_row(&self) -> u64 {
        self.in_a_row
    }

    /// After a step was asked for: whether to look at what became of it.
    pub fn step(&mut self) -> bool {
        self.since += 1;
        self.careful = self.careful.saturating_sub(1);
        self.careful > 0
    }

    /// What the engine says: steps that it did not make since it is there, and whether the last is one of them. How many are new.
    pub fn look(&mut self, counted: u64, last: bool) -> u64 {
        let new = counted.saturating_sub(self.counted);
        self.in_a_row = match last {
            false => 0,
            true if new == self.since => self.in_a_row + new,
            // They were not all in a row; how many were is not known, but for the last.
            true => 1,
        };
        if new > 0 {
            self.careful = self.most + 2;
        }
        (self.counted, self.since) = (counted, 0);
        new
    }

    /// Whether there were too many in a row.
    pub fn too_many(&self) -> bool {
        self.in_a_row >= self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes steps of which some fail; looks every `every` steps and when it is told to. At which step it gave up.
    fn gives_up(fails: impl Fn(u64) -> bool, every: u64, most: u64) -> Option<u64> {
        let (mut skips, mut counted, mut reported) = (Skips::new(most, 0), 0, 0);
        for step in 1..=200 {
            counted += u64::from(fails(step));
            let look = skips.step();
            if look || step % every == 0 {
                reported += skips.look(counted, fails(step));
                if skips.too_many() {
                    return Some(step);
                }
            }
        }
        assert_eq!(reported, counted, "none is lost");
        None
    }

    #[test]
    fn a_stop_within_a_row_does_not_begin_it_anew() {
        let mut first = Skips::new(5, 0);
        for step in 1..=3 {
            first.step();
            first.look(step, true);
        }
        assert_eq!((first.in_a_row(), first.too_many()), (3, false));
        let mut second = Skips::new(5, first.in_a_row());
        for (counted, over) in [(1, false), (2, true)] {
            assert!(second.step(), "each of these is looked at");
            second.look(counted, true);
            assert_eq!(second.too_many(), over);
        }
        let mut well = Skips::new(5, 4);
        well.step();
        well.look(0, false);
        assert_eq!((well.in_a_row(), well.too_many()), (0, false));
    }

    #[test]
    fn it_gives_up_after_so_many_in_a_row() {
        assert_eq!(gives_up(|_| true, 1, 5), Some(5));
        // They are seen at the tenth step, all ten.
        assert_eq!(gives_up(|_| true, 10, 5), Some(10));
        assert_eq!(gives_up(|_| true, 10, 15), Some(15));
        // From the seventh on: at the tenth it is only known that the last was one.
        assert_eq!(gives_up(|s| s >= 7, 10, 5), Some(14));
        assert_eq!(gives_up(|s| s % 5 != 0, 10, 5), None);
        assert_eq!(gives_up(|s| s % 3 == 0, 7, 2), None);
        assert_eq!(gives_up(|s| s == 50, 10, 1), Some(50));
        assert_eq!(gives_up(|s| s > 100 && s < 110, 1, 10), None);
    }
}
