//! Batches of rows of similar length.

use cloze_shard::random::{Key, Stage};

use super::order::Order;
use crate::parallel::share;

/// Cuts an epoch's order into windows of so many rows. The rows of a window are sorted by length (ties stay in order), cut into as few batches as the
/// budget allows, of as equal a number of tokens as can be, and the batches are put into a keyed order.
///
/// So a window is a function of (seed, epoch, its number), every row of an epoch comes once, and a place in it is all there is to resume.
#[derive(Clone, Debug)]
pub struct Groups {
    key: Key,
    /// Rows of a window.
    size: u64,
    batch_tokens: usize,
    /// The window that was looked at last: epoch, number.
    window: Option<(u32, u64)>,
    /// Its rows in the order in which they are taken, with their lengths.
    rows: Vec<(u64, u32)>,
    /// Where its batches end.
    ends: Vec<usize>,
    by_length: Vec<(u32, u32, u64)>,
}

impl Groups {
    /// Windows of as many rows as `batches` batches of `batch_tokens` tokens very likely hold, where rows have so many tokens.
    pub fn new(seed: u64, batches: usize, batch_tokens: usize, lengths: Lengths) -> Self {
        Self {
            key: Key::new(seed, Stage::LengthGroups),
            size: window(batches, batch_tokens, lengths),
            batch_tokens,
            window: None,
            rows: Vec::new(),
            ends: Vec::new(),
            by_length: Vec::new(),
        }
    }

    /// What is left of the batch at place `at` of an epoch of `rows` rows: numbers and lengths.
    pub fn batch(
        &mut self,
        order: &mut Order,
        length: impl Fn(&Order, u64) -> u32,
        (epoch, at): (u32, u64),
        rows: u64,
    ) -> &[(u64, u32)] {
        let number = at / self.size;
        if self.window != Some((epoch, number)) {
            self.open(order, length, epoch, number, rows);
        }
        let first = (at - number * self.size) as usize;
        let end = self.ends.partition_point(|&end| end <= first);
        &self.rows[first..self.ends[end]]
    }

    fn open(
        &mut self,
        order: &mut Order,
        length: impl Fn(&Order, u64) -> u32,
        epoch: u32,
        number: u64,
        rows: u64,
    ) {
        let first = number * self.size;
        let end = rows.min(first + self.size);
        self.by_length.clear();
        for (place, at) in (0u32..).zip(first..end) {
            let row = order.at(epoch, at);
            self.by_length.push((length(order, row), place, row));
        }
        self.by_length.sort_unstable();
        let lengths: Vec<u32> = self.by_length.iter().map(|r| r.0).collect();
        let mut batches = share(&lengths, fewest(&lengths, self.batch_tokens));
        self.key.stream(number, epoch).shuffle(&mut batches);
        self.rows.clear();
        self.ends.clear();
        for batch in batches {
            let of = &self.by_length[batch.rows];
            self.rows.extend(of.iter().map(|&(n, _, row)| (row, n)));
            self.ends.push(self.rows.len());
        }
        self.window = Some((epoch, number));
    }
}

/// So many rows that `batches` batches hold them but once in some forty windows, which then have a batch more; an average row's tokens of each
/// batch are taken to stay empty. With as many rows as fit on average, half of all windows would have a batch more.
fn window(batches: usize, batch_tokens: usize, lengths: Lengths) -> u64 {
    let mean = lengths.mean.max(1.0);
    let most = batches as f64 * (batch_tokens as f64 - mean).max(0.0) / mean;
    let rows = most - 2.0 * lengths.deviation / mean * most.sqrt();
    (rows.round() as u64).clamp(1, u64::from(u32::MAX))
}

/// Tokens of rows.
#[derive(Clone, Copy, Debug)]
pub struct Lengths {
    /// On average.
    pub mean: f64,
    /// Standard deviation.
    pub deviation: f64,
}

/// How many batches of at most `most` tokens hold rows of `lengths`, taken in order.
fn fewest(lengths: &[u32], most: usize) -> usize {
    let (mut batches, mut tokens) = (1, 0);
    for &n in lengths {
        if tokens + n as usize > most {
            batches += 1;
            tokens = 0;
        }
        tokens += n as usize;
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Each window holds the rows that it would hold without groups, in batches that keep the budget and do not overlap in length; a place
        /// inside it gives the rest of the batch.
        #[test]
        fn windows_are_the_same_rows(
            lengths in prop::collection::vec(1u32..60, 1..400),
            batches in 1usize..9,
            most in 60usize..200,
            seed: u64,
            epoch in 0u32..4,
        ) {
            let rows = lengths.len() as u64;
            let mean = f64::from(lengths.iter().sum::<u32>()) / rows as f64;
            let tokens = Lengths { mean, deviation: 17.0 };
            let length = |_: &Order, row: u64| lengths[row as usize];
            let mut order = Order::new(seed, &[rows], None);
            let mut groups = Groups::new(seed, batches, most, tokens);
            let size = groups.size;
            let (mut at, mut taken, mut ranges) = (0, Vec::new(), Vec::new());
            while at < rows {
                let batch = groups.batch(&mut order, length, (epoch, at), rows).to_vec();
                prop_assert!(!batch.is_empty());
                prop_assert!(batch.iter().map(|r| r.1 as usize).sum::<usize>() <= most);
                prop_assert!(batch.iter().all(|&(row, n)| n == lengths[row as usize]));
                prop_assert!(batch.windows(2).all(|w| w[0].1 <= w[1].1));
                prop_assert_eq!(at / size, (at + batch.len() as u64 - 1) / size);
                for inside in 0..batch.len() {
                    let mut fresh = Groups::new(seed, batches, most, tokens);
                    let place = (epoch, at + inside as u64);
                    prop_assert_eq!(fresh.batch(&mut order, length, place, rows), &batch[inside..]);
                }
                ranges.push((at / size, batch[0].1, batch[batch.len() - 1].1));
                taken.extend(batch.iter().map(|r| r.0));
                at += batch.len() as u64;
            }
            prop_assert_eq!(taken.len() as u64, rows);
            for (window, rows) in taken.chunks(size as usize).enumerate() {
                let first = window as u64 * size;
                let mut expected: Vec<u64> = (first..first + rows.len() as u64).map(|at| order.at(epoch, at)).collect();
                let mut rows = rows.to_vec();
                expected.sort_unstable();
                rows.sort_unstable();
                prop_assert_eq!(rows, expected);
            }
            for (i, a) in ranges.iter().enumerate() {
                for b in &ranges[i + 1..] {
                    prop_assert!(a.0 != b.0 || a.2 <= b.1 || b.2 <= a.1, "{a:?} {b:?}");
                }
            }
        }
    }

    /// Batches do not come by length: their order is keyed, and another in each window and epoch.
    #[test]
    fn batches_are_shuffled() {
        let tokens = Lengths {
            mean: 25.5,
            deviation: 14.4,
        };
        let mut order = Order::new(1, &[2_000], None);
        let mut groups = Groups::new(1, 20, 255, tokens);
        let size = groups.size;
        // All windows hold the same lengths.
        order.stored();
        let length = |_: &Order, row: u64| 1 + (row % size % 50) as u32;
        assert!((150..180).contains(&size), "{size}");
        let mut firsts = |epoch, window: u64| -> Vec<u32> {
            let (mut at, mut lengths) = (window * size, Vec::new());
            while at < (window + 1) * size {
                let batch = groups.batch(&mut order, length, (epoch, at), 2_000);
                lengths.push(batch[0].1);
                at += batch.len() as u64;
            }
            lengths
        };
        let (first, next, other) = (firsts(0, 0), firsts(0, 1), firsts(1, 0));
        assert!(!first.is_sorted() && first != next && first != other);
        assert!((16..=20).contains(&first.len()), "{}", first.len());
        assert_eq!(first, firsts(0, 0));
    }
}
