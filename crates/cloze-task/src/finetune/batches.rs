//! The order of an epoch.

use cloze_shard::random::{Key, Permutation, Stage};

/// Batches from which rows of similar length are taken together.
const WINDOW: usize = 50;

/// The batches of an epoch, of at most `size` rows, of rows of these lengths.
///
/// Rows are shuffled; within each window of [`WINDOW`] batches they are sorted by length and cut into batches; the batches are shuffled. Keyed by (seed, epoch).
pub fn epoch(seed: u64, epoch: u64, lengths: &[usize], size: usize) -> Vec<Vec<usize>> {
    let key = Key::new(seed, Stage::EpochOrder);
    let size = size.min(lengths.len()).max(1);
    let order = |part: u32, n: usize| -> Vec<usize> {
        let permutation = Permutation::new(key, epoch, part, n as u64);
        (0..n as u64).map(|i| permutation.at(i) as usize).collect()
    };
    let mut batches = Vec::new();
    for window in order(0, lengths.len()).chunks_mut(WINDOW * size) {
        window.sort_by_key(|&row| std::cmp::Reverse(lengths[row]));
        batches.extend(window.chunks(size).map(<[usize]>::to_vec));
    }
    let places = order(1, batches.len());
    (places.into_iter())
        .map(|at| std::mem::take(&mut batches[at]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_there_once_and_batches_are_alike() {
        let lengths: Vec<usize> = (0..1003).map(|i| 3 + i * i % 97).collect();
        let batches = epoch(1, 2, &lengths, 8);
        assert_eq!(batches.len(), 126);
        let mut rows = batches.concat();
        rows.sort_unstable();
        assert_eq!(rows, (0..1003).collect::<Vec<_>>());
        assert_eq!(batches.iter().filter(|b| b.len() == 8).count(), 125);
        // Padding to the longest of each batch: little, where a plain shuffle has about half as much again.
        let padded: usize = (batches.iter())
            .map(|b| b.len() * b.iter().map(|&r| lengths[r]).max().unwrap_or(0))
            .sum();
        let tokens: usize = lengths.iter().sum();
        assert!((padded as f64) < 1.05 * tokens as f64, "{padded} {tokens}");
        // Long batches are not all first.
        let firsts: Vec<usize> = batches.iter().map(|b| lengths[b[0]]).collect();
        assert!(!firsts.is_sorted_by(|a, b| a >= b));
        assert_eq!(batches, epoch(1, 2, &lengths, 8));
        assert_ne!(batches, epoch(1, 3, &lengths, 8));
        assert_ne!(batches, epoch(2, 2, &lengths, 8));
        assert_eq!(epoch(1, 2, &[5, 6], 8).len(), 1);
    }
}
