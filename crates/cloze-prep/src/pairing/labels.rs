//! Labels that meet their ratio: permuted-block randomisation, as clinical trials use it to keep arms balanced.

use cloze_shard::random::Stream;

const BLOCK: usize = 16;

/// An endless sequence of labels (true = random) of which every run of 16 holds its exact share, in keyed order.
///
/// Where the share of a block is not whole, blocks alternate between the two nearest counts so that the running
/// total stays within one of `ratio`, offset by a keyed fraction.
#[derive(Clone, Debug)]
pub struct PermutedBlocks {
    ratio: f64,
    offset: f64,
    blocks: u64,
    block: [bool; BLOCK],
    used: usize,
    stream: Stream,
}

impl PermutedBlocks {
    /// Labels of which the share `ratio` is true.
    #[must_use]
    pub fn new(ratio: f64, mut stream: Stream) -> Self {
        let offset = stream.unit();
        Self {
            ratio,
            offset,
            blocks: 0,
            block: [false; BLOCK],
            used: BLOCK,
            stream,
        }
    }

    /// The next label.
    pub fn draw(&mut self) -> bool {
        if self.used == BLOCK {
            let due = |blocks: u64| {
                (blocks as f64 * BLOCK as f64 * self.ratio + self.offset).floor() as usize
            };
            let quota = (due(self.blocks + 1) - due(self.blocks)).min(BLOCK);
            self.block = std::array::from_fn(|i| i < quota);
            self.stream.shuffle(&mut self.block);
            self.blocks += 1;
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloze_shard::random::{Key, Stage};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_ratio_is_met_at_every_length(ratio in 0.0f64..=1.0, seed: u64, n in 1usize..2_000) {
            let mut labels = PermutedBlocks::new(ratio, Key::new(seed, Stage::Label).stream(0, 0));
            let random = (0..n).filter(|_| labels.draw()).count() as f64;
            // Whole blocks are within one; the last, broken one adds at most a block's own spread.
            prop_assert!((random - ratio * n as f64).abs() <= 1.0 + BLOCK as f64 * ratio.min(1.0 - ratio) + 1e-9);
        }

        #[test]
        fn zero_and_one_are_kept_exactly(seed: u64) {
            for ratio in [0.0, 1.0] {
                let mut labels = PermutedBlocks::new(ratio, Key::new(seed, Stage::Label).stream(0, 0));
                prop_assert!((0..100).all(|_| labels.draw() == (ratio == 1.0)));
            }
        }
    }

    #[test]
    fn each_place_of_a_block_is_random_equally_often() {
        let mut counts = [0f64; BLOCK];
        for seed in 0..4_000 {
            let mut labels = PermutedBlocks::new(0.3, Key::new(seed, Stage::Label).stream(0, 0));
            counts
                .iter_mut()
                .for_each(|c| *c += f64::from(u8::from(labels.draw())));
        }
        let deviation = (4_000.0f64 * 0.3 * 0.7).sqrt();
        assert!(
            counts.iter().all(|c| (c - 1_200.0).abs() < 4.5 * deviation),
            "{counts:?}"
        );
    }
}
