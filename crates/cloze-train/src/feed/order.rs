//! Which row comes when: a function of (seed, epoch, place), computable at any place without those before it.

use cloze_shard::random::{Key, Permutation, Stage};

/// Draws of a mixture in which each dataset has exactly its share.
pub const BLOCK: usize = 4_096;

/// Bits of a row's number that say which row it is; those above say, in a mixture by weights, how often its dataset was gone through before.
const ROW_BITS: u32 = 40;

/// The order of the rows of one or more datasets.
///
/// Rows are numbered through, dataset after dataset. An epoch is as many rows as all datasets hold.
///
/// - Without weights an epoch is a keyed permutation of all rows, as if the datasets were one.
/// - With weights, draw `t` of the run (epochs after one another) lies in block `t / BLOCK`. A block holds the same number of draws of each dataset,
///   its share by largest remainders, in keyed order. Draw `k` of a dataset, counted over the whole run, is row `k mod n` of pass `k div n` through
///   its `n` rows; each pass is a keyed permutation of them. So datasets have epochs of their own, and none holds a row twice.
#[derive(Clone, Debug)]
pub struct Order {
    key: Key,
    /// Number of the first row of each dataset, then the number of rows.
    starts: Vec<u64>,
    mixture: Option<Mixture>,
    shuffle: bool,
    /// The permutation of the last epoch that was asked for.
    epoch: Option<(u32, Permutation)>,
}

impl Order {
    /// The order of datasets of so many rows. `counts`, if there are any, says how many of the draws of a block are of which.
    pub fn new(seed: u64, rows: &[u64], counts: Option<Vec<u32>>) -> Self {
        let mut starts = vec![0];
        let mut total = 0;
        for n in rows {
            total += n;
            starts.push(total);
        }
        Self {
            key: Key::new(seed, Stage::EpochOrder),
            starts,
            mixture: counts.map(|counts| Mixture::new(seed, counts, rows)),
            shuffle: true,
            epoch: None,
        }
    }

    /// Rows as they are stored, dataset after dataset.
    pub fn stored(&mut self) {
        self.shuffle = false;
    }

    /// Whether epochs follow one another, each in an order of its own.
    pub fn is_endless(&self) -> bool {
        self.shuffle
    }

    /// Rows of an epoch.
    pub fn rows(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// The number of the row at place `at` of `epoch`.
    pub fn at(&mut self, epoch: u32, at: u64) -> u64 {
        if !self.shuffle {
            return at;
        }
        let rows = self.rows();
        if let Some(mixture) = &mut self.mixture {
            let draw = u64::from(epoch) * rows + at;
            let (dataset, pass, row) = mixture.draw(self.key, draw);
            return u64::from(pass) << ROW_BITS | (self.starts[dataset] + row);
        }
        let order = match self.epoch {
            Some((of, order)) if of == epoch => order,
            _ => {
                let order = Permutation::new(self.key, u64::from(epoch), 0, rows);
                self.epoch = Some((epoch, order));
                order
            }
        };
        order.at(at)
    }

    /// The dataset and the row in it that `number` means.
    #[inline]
    pub fn locate(&self, number: u64) -> (usize, u64) {
        if let [_, _] = self.starts[..] {
            return (0, number & ((1 << ROW_BITS) - 1));
        }
        let number = number & ((1 << ROW_BITS) - 1);
        let dataset = self.starts.partition_point(|&start| start <= number) - 1;
        (dataset, number - self.starts[dataset])
    }

    /// What keys the masks of rows of `epoch` beside their numbers: in a mixture by weights the numbers say it all.
    pub fn mask_epoch(&self, epoch: u32) -> u32 {
        match self.mixture {
            Some(_) if self.shuffle => 0,
            _ => epoch,
        }
    }
}

/// Draws of datasets by weights.
#[derive(Clone, Debug)]
struct Mixture {
    key: Key,
    counts: Vec<u32>,
    rows: Vec<u64>,
    /// The block that was asked for last: of each draw the dataset, and how many of that dataset the block has before it.
    block: Option<u64>,
    draws: Vec<(u32, u32)>,
    /// Of each dataset the pass that was asked for last, and its order.
    passes: Vec<Option<(u32, Permutation)>>,
}

impl Mixture {
    fn new(seed: u64, counts: Vec<u32>, rows: &[u64]) -> Self {
        Self {
            key: Key::new(seed, Stage::Mixture),
            rows: rows.to_vec(),
            block: None,
            draws: Vec::new(),
            passes: vec![None; counts.len()],
            counts,
        }
    }

    /// The dataset of a draw, the pass through it, and the row in it.
    fn draw(&mut self, order: Key, draw: u64) -> (usize, u32, u64) {
        let block = draw / BLOCK as u64;
        if self.block != Some(block) {
            self.open(block);
        }
        let (dataset, before) = self.draws[(draw % BLOCK as u64) as usize];
        let of = dataset as usize;
        let k = block * u64::from(self.counts[of]) + u64::from(before);
        let (pass, at) = ((k / self.rows[of]) as u32, k % self.rows[of]);
        let permutation = match self.passes[of] {
            Some((p, permutation)) if p == pass => permutation,
            _ => {
                let new = Permutation::new(order, u64::from(pass), dataset, self.rows[of]);
                self.passes[of] = Some((pass, new));
                new
            }
        };
        (of, pass, permutation.at(at))
    }

    /// Deals the draws of a block.
    fn open(&mut self, block: u64) {
        self.draws.clear();
        for (dataset, &count) in (0u32..).zip(&self.counts) {
            self.draws.extend((0..count).map(|_| (dataset, 0)));
        }
        self.key.stream(block, 0).shuffle(&mut self.draws);
        let mut seen = vec![0; self.counts.len()];
        for (dataset, before) in &mut self.draws {
            *before = seen[*dataset as usize];
            seen[*dataset as usize] += 1;
        }
        self.block = Some(block);
    }
}

/// Cuts [`BLOCK`] draws by `weights` of rows: each dataset has its share rounded down, and those with the largest remainders one more.
pub fn cut_block(weights: &[f64]) -> Vec<u32> {
    let sum: f64 = weights.iter().sum();
    let exact: Vec<f64> = weights.iter().map(|w| w / sum * BLOCK as f64).collect();
    let mut counts: Vec<u32> = exact.iter().map(|x| *x as u32).collect();
    let mut by_remainder: Vec<usize> = (0..weights.len()).collect();
    by_remainder.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()));
    let left = (BLOCK as u32).saturating_sub(counts.iter().sum());
    for &dataset in by_remainder.iter().cycle().take(left as usize) {
        counts[dataset] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROW: u64 = (1 << ROW_BITS) - 1;

    fn mixtures() -> impl Strategy<Value = (Vec<u64>, Vec<f64>)> {
        let dataset = (1u64..3_000, 0.01f64..1.0);
        prop::collection::vec(dataset, 2..6).prop_map(|all| all.into_iter().unzip())
    }

    /// By replaying: each draw of a block goes to the dataset that was dealt, and is the next row of that dataset's passes.
    fn replayed(seed: u64, rows: &[u64], counts: &[u32], draws: usize) -> Vec<u64> {
        let mut taken = vec![0u64; rows.len()];
        let mut out = Vec::new();
        for block in 0.. {
            let mut dealt: Vec<usize> = Vec::new();
            for (dataset, &n) in counts.iter().enumerate() {
                dealt.resize(dealt.len() + n as usize, dataset);
            }
            assert_eq!(dealt.len(), BLOCK);
            Key::new(seed, Stage::Mixture)
                .stream(block, 0)
                .shuffle(&mut dealt);
            for d in dealt {
                let (pass, at) = (taken[d] / rows[d], taken[d] % rows[d]);
                taken[d] += 1;
                let key = Key::new(seed, Stage::EpochOrder);
                let row = Permutation::new(key, pass, d as u32, rows[d]).at(at);
                out.push(pass << 40 | (rows[..d].iter().sum::<u64>() + row));
                if out.len() == draws {
                    return out;
                }
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Any place at random, in an order that is asked for anew, is what comes there in turn.
        #[test]
        fn a_place_is_enough((rows, weights) in mixtures(), seed: u64, places in prop::collection::vec(0usize..3 * BLOCK, 40)) {
            let counts = cut_block(&weights);
            let sequence = replayed(seed, &rows, &counts, 3 * BLOCK);
            let (mut one, total) = (Order::new(seed, &rows, Some(counts.clone())), rows.iter().sum::<u64>());
            for place in places {
                let (epoch, at) = ((place as u64 / total) as u32, place as u64 % total);
                prop_assert_eq!(one.at(epoch, at), sequence[place]);
                let mut fresh = Order::new(seed, &rows, Some(counts.clone()));
                prop_assert_eq!(fresh.at(epoch, at), sequence[place]);
            }
        }

        /// Each block holds the share that was asked for, to less than a row, and no pass through a dataset holds a row twice.
        #[test]
        fn shares_are_exact((rows, weights) in mixtures(), seed: u64) {
            let counts = cut_block(&weights);
            prop_assert_eq!(counts.iter().sum::<u32>() as usize, BLOCK);
            let sum: f64 = weights.iter().sum();
            for (count, weight) in counts.iter().zip(&weights) {
                prop_assert!((f64::from(*count) - weight / sum * BLOCK as f64).abs() < 1.0);
            }
            let mut order = Order::new(seed, &rows, Some(counts.clone()));
            let total = order.rows();
            let mut passes = vec![Vec::new(); rows.len()];
            for block in 0..3 {
                let mut seen = vec![0u32; rows.len()];
                for draw in block * BLOCK as u64..(block + 1) * BLOCK as u64 {
                    let number = order.at((draw / total) as u32, draw % total);
                    let (dataset, row) = order.locate(number);
                    prop_assert!(row < rows[dataset]);
                    prop_assert_eq!(number & ROW, rows[..dataset].iter().sum::<u64>() + row);
                    seen[dataset] += 1;
                    passes[dataset].push((number >> ROW_BITS, row));
                }
                prop_assert_eq!(&seen, &counts);
            }
            for (drawn, &n) in passes.iter().zip(&rows) {
                for (pass, rows) in drawn.chunks(n as usize).enumerate() {
                    prop_assert!(rows.iter().all(|r| r.0 == pass as u64));
                    let mut rows: Vec<u64> = rows.iter().map(|r| r.1).collect();
                    rows.sort_unstable();
                    prop_assert!(rows.windows(2).all(|w| w[0] < w[1]));
                }
            }
        }

        /// Without weights, several datasets are as one.
        #[test]
        fn without_weights_they_are_one(rows in prop::collection::vec(1u64..300, 1..5), seed: u64, epoch: u32) {
            let total = rows.iter().sum();
            let one = Permutation::new(Key::new(seed, Stage::EpochOrder), u64::from(epoch), 0, total);
            let mut order = Order::new(seed, &rows, None);
            for at in 0..total {
                let number = order.at(epoch, at);
                prop_assert_eq!(number, one.at(at));
                let (dataset, row) = order.locate(number);
                prop_assert_eq!(rows[..dataset].iter().sum::<u64>() + row, number);
            }
            prop_assert_eq!(order.mask_epoch(epoch), epoch);
        }
    }

    #[test]
    fn what_is_left_goes_to_the_largest_remainders() {
        // 1,365.3 each; 2,867.2, 819.2 and 409.6; 4,095.96 and 0.04.
        assert_eq!(cut_block(&[1.0, 1.0, 1.0]), [1_366, 1_365, 1_365]);
        assert_eq!(cut_block(&[0.7, 0.2, 0.1]), [2_867, 819, 410]);
        assert_eq!(cut_block(&[1.0, 1e-5]), [4_096, 0]);
    }

    /// Datasets are mixed evenly, not one after the other: each tenth of a block holds about its tenth of each.
    #[test]
    fn blocks_are_shuffled() {
        let counts = vec![BLOCK as u32 / 2; 2];
        let mut order = Order::new(3, &[100_000, 100_000], Some(counts));
        let half = BLOCK as u64 / 2;
        let first = (0..half)
            .filter(|&at| order.locate(order.clone().at(0, at)).0 == 0)
            .count();
        // Hypergeometric: 1,024 ± 23.
        assert!((900..1_150).contains(&first), "{first}");
        let dealt = |order: &mut Order, block: u64| -> Vec<usize> {
            let places = block * BLOCK as u64..(block + 1) * BLOCK as u64;
            let numbers: Vec<u64> = places.map(|at| order.at(0, at)).collect();
            numbers.iter().map(|&n| order.locate(n).0).collect()
        };
        assert_ne!(dealt(&mut order, 0), dealt(&mut order, 1));
        assert_eq!(order.mask_epoch(7), 0);
    }
}
