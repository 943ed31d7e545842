//! How sure a difference is.
//!
//! A difference between two arms has two sources of chance: which test examples there are, and what the seeds drew (order, masks, dropout, new heads, the
//! examples of a budget). Both arms of a comparison have the same examples and the same seeds, so differences are *paired*.
//!
//! - **Examples**: a bootstrap (Efron 1979). The test examples are drawn again, with replacement, the same ones for all models; the metric of each model is
//!   computed on them, and with it the difference (paired bootstrap: Koehn, EMNLP 2004; Berg-Kirkpatrick, Burkett, Klein, EMNLP 2012).
//! - **Seeds**: there are few of them. Drawing three again with replacement gives intervals that are far too narrow, so their part is drawn from Student's t:
//!   models are arms × seeds, seeds are blocks, and what is left over when the means of arms and seeds are taken away is the noise, pooled over arms that
//!   have all seeds, with (arms − 1)(seeds − 1) degrees of freedom (randomized blocks: Fisher 1935). It is taken to be as large in arms of fewer seeds.
//!   Arms are not equally noisy: one from scratch that has learned little hardly varies. So arms are pooled that begin as one of the two that are compared, and
//!   where the differences of these two vary more than that, their own deviation counts. In simulations of ten arms with three and five seeds, with noise that was
//!   equal, a fifth or nothing in half of the arms, or threefold in one, a difference of nothing was seen in 2 to 6 % of comparisons of 14 pairs, where pooling
//!   over all arms gave up to 20 %.
//!
//! Each resample adds both parts. An interval is between quantiles of the resamples; for k comparisons made at once its level is 1 − 0.05/k, so that all of
//! them hold together with 95 % (Bonferroni). A difference is *seen* where its interval does not hold 0.

use cloze_metrics::{classes, numbers};
use cloze_shard::random::{Key, Stage, Stream};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Times that test examples are drawn again.
pub const RESAMPLES: usize = 10_000;

/// A model's answers to the test examples, as its metric needs them.
#[derive(Clone, Debug, PartialEq)]
pub enum Answers {
    /// The metric is Σ first / Σ second: accuracy, micro-averaged F1, F1 of entities, mean squared error.
    Ratio(Vec<(f64, f64)>),
    /// One label of so many, `(truth, guess)`: macro-averaged F1, Matthews' correlation.
    Classes(Vec<(u32, u32)>, usize, &'static str),
    /// Numbers, `(truth, guess)`: correlations.
    Numbers(Vec<(f64, f64)>, &'static str),
}

impl Answers {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::Ratio(rows) => rows.len(),
            Self::Classes(rows, ..) => rows.len(),
            Self::Numbers(rows, _) => rows.len(),
        }
    }

    /// The metric over these rows.
    pub fn metric(&self, rows: impl Iterator<Item = usize>) -> f64 {
        let of = |metrics: cloze_metrics::Metrics, name: &str| {
            let found = metrics.iter().find(|(n, _)| *n == name);
            // A correlation with something constant says nothing.
            found.and_then(|(_, value)| *value).unwrap_or(0.0)
        };
        match self {
            Self::Ratio(all) => {
                let sum = rows.fold((0.0, 0.0), |(a, b), r| (a + all[r].0, b + all[r].1));
                if sum.1 == 0.0 { 0.0 } else { sum.0 / sum.1 }
            }
            Self::Classes(all, labels, name) => {
                let drawn: Vec<(u32, u32)> = rows.map(|r| all[r]).collect();
                of(classes(&drawn, *labels), name)
            }
            Self::Numbers(all, name) => {
                let drawn: Vec<(f64, f64)> = rows.map(|r| all[r]).collect();
                of(numbers(&drawn), name)
            }
        }
    }
}

/// A model among others: its arm's number, its seed, its answers.
#[derive(Clone, Debug)]
pub struct Model {
    /// Number of its arm.
    pub arm: usize,
    /// Its seed.
    pub seed: u32,
    /// What it says of the test examples.
    pub answers: Answers,
}

/// Models with their metrics, on all test examples and on each resample of them.
#[derive(Clone, Debug)]
pub struct Table {
    models: Vec<(usize, u32, f64, Vec<f64>)>,
    /// Of each arm.
    groups: Vec<usize>,
    key: Key,
}

/// What seeds change beside what they change in all arms alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Noise {
    /// Its standard deviation.
    pub deviation: f64,
    /// Degrees of freedom of that estimate.
    pub freedom: u32,
}

/// A difference between two arms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The mean over the seeds that both have.
    pub mean: f64,
    /// The lower end of its interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// The level of the interval.
    pub level: f64,
    /// Seeds that both have.
    pub seeds: u32,
    /// The difference with each.
    pub by_seed: Vec<f64>,
    /// Whether the interval knows what seeds change; if not, nothing can be said to be seen.
    pub knows_seeds: bool,
}

impl Difference {
    /// Whether it can be told from chance.
    pub fn is_seen(&self) -> bool {
        self.knows_seeds && (self.low > 0.0 || self.high < 0.0)
    }
}

impl Table {
    /// Computes all metrics. Every model must have answered the same examples.
    ///
    /// `groups` has the group of each arm whose noise is pooled with that of others of it; arms that it does not have are of group 0.
    pub fn new(models: &[Model], groups: &[usize], resamples: usize, seed: u64) -> Self {
        let key = Key::new(seed, Stage::Sample);
        let rows = models.first().map_or(0, |m| m.answers.len());
        let computed = models.par_iter().map(|model| {
            let all = model.answers.metric(0..rows);
            let resampled = (0..resamples as u64).map(|resample| {
                // The same examples for every model.
                let mut draws = key.stream(resample, 1);
                model
                    .answers
                    .metric((0..rows).map(|_| draws.below(rows as u64) as usize))
            });
            (model.arm, model.seed, all, resampled.collect())
        });
        Self {
            models: computed.collect(),
            groups: groups.into(),
            key,
        }
    }

    /// As a table whose models have one number each, and no examples: losses.
    pub fn of_numbers(
        models: &[(usize, u32, f64)],
        groups: &[usize],
        resamples: usize,
        seed: u64,
    ) -> Self {
        Self {
            models: models
                .iter()
                .map(|&(arm, seed, value)| (arm, seed, value, vec![value; resamples]))
                .collect(),
            groups: groups.into(),
            key: Key::new(seed, Stage::Sample),
        }
    }

    /// The metric of each seed of an arm, by seed.
    pub fn values(&self, arm: usize) -> Vec<(u32, f64)> {
        let own = self.models.iter().filter(|m| m.0 == arm);
        let mut values: Vec<(u32, f64)> = own.map(|m| (m.1, m.2)).collect();
        values.sort_by_key(|v| v.0);
        values
    }

    /// What seeds change, over all arms.
    pub fn noise(&self) -> Option<Noise> {
        self.pooled_noise(|_| true)
    }

    /// What seeds change in two arms, whose differences by seed these are.
    fn noise_between(&self, a: usize, b: usize, by_seed: &[f64]) -> Option<Noise> {
        let group = |arm: usize| self.groups.get(arm).copied().unwrap_or(0);
        let pooled = self.pooled_noise(|arm| [group(a), group(b)].contains(&group(arm)))?;
        // A difference has the noise of two.
        let own = spread(by_seed).1.unwrap_or(0.0) / 2f64.sqrt();
        Some(Noise {
            deviation: pooled.deviation.max(own),
            ..pooled
        })
    }

    /// Noise of randomized blocks, over those of the arms that have as many seeds as the one of them that has most.
    fn pooled_noise(&self, is_pooled: impl Fn(usize) -> bool) -> Option<Noise> {
        let arms = self.models.iter().map(|m| m.0);
        let mut arms: Vec<usize> = arms.filter(|arm| is_pooled(*arm)).collect();
        arms.sort_unstable();
        arms.dedup();
        let all: Vec<Vec<(u32, f64)>> = arms.iter().map(|a| self.values(*a)).collect();
        let widest = all.iter().max_by_key(|v| v.len())?;
        let seeds: Vec<u32> = widest.iter().map(|v| v.0).collect();
        let whole: Vec<Vec<f64>> = all
            .iter()
            .filter(|v| v.iter().map(|v| v.0).eq(seeds.iter().copied()))
            .map(|v| v.iter().map(|v| v.1).collect())
            .collect();
        let (a, n) = (whole.len(), seeds.len());
        if a < 2 || n < 2 {
            return None;
        }
        let mean = |values: &mut dyn Iterator<Item = f64>, n: usize| values.sum::<f64>() / n as f64;
        let of_arm: Vec<f64> = whole
            .iter()
            .map(|v| mean(&mut v.iter().copied(), n))
            .collect();
        let of_seed: Vec<f64> = (0..n)
            .map(|s| mean(&mut whole.iter().map(|v| v[s]), a))
            .collect();
        let of_all = mean(&mut of_arm.iter().copied(), a);
        let left = whole.iter().zip(&of_arm).flat_map(|(values, arm)| {
            let rest = values.iter().zip(&of_seed);
            rest.map(move |(value, seed)| value - arm - seed + of_all)
        });
        let freedom = (a - 1) * (n - 1);
        Some(Noise {
            deviation: (left.map(|r| r * r).sum::<f64>() / freedom as f64).sqrt(),
            freedom: freedom as u32,
        })
    }

    /// `a` − `b`, with an interval that is right with `level`; `None` where they have no seed in common.
    pub fn difference(&self, a: usize, b: usize, level: f64) -> Option<Difference> {
        let find = |arm: usize, seed: u32| self.models.iter().find(|m| m.0 == arm && m.1 == seed);
        let seeds = self.values(a).into_iter().map(|v| v.0);
        let pairs: Vec<_> = seeds
            .filter_map(|s| Some((find(a, s)?, find(b, s)?)))
            .collect();
        if pairs.is_empty() {
            return None;
        }
        let n = pairs.len() as f64;
        let by_seed: Vec<f64> = pairs.iter().map(|(x, y)| x.2 - y.2).collect();
        let mean = by_seed.iter().sum::<f64>() / n;
        let resamples = pairs[0].0.3.len();
        let noise = self.noise_between(a, b, &by_seed);
        let mut resampled: Vec<f64> = (0..resamples)
            .map(|r| {
                let over_examples = pairs.iter().map(|(x, y)| x.3[r] - y.3[r]).sum::<f64>() / n;
                let over_seeds = noise.map_or(0.0, |noise| {
                    let mut draws = self.key.stream(r as u64, 2 + (a * 64 + b) as u32);
                    noise.deviation * (2.0 / n).sqrt() * student(&mut draws, noise.freedom)
                });
                over_examples + over_seeds
            })
            .collect();
        resampled.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let last = resampled.len().saturating_sub(1);
            let place = (share * last as f64).round() as usize;
            resampled.get(place.min(last)).copied().unwrap_or(f64::NAN)
        };
        let tail = (1.0 - level) / 2.0;
        Some(Difference {
            mean,
            low: at(tail),
            high: at(1.0 - tail),
            level,
            seeds: pairs.len() as u32,
            by_seed,
            knows_seeds: noise.is_some(),
        })
    }
}

/// A draw of Student's t (1908): a normal one over the root of a mean of `freedom` squared normal ones.
fn student(draws: &mut Stream, freedom: u32) -> f64 {
    let top = draws.normal();
    let squares: f64 = (0..freedom).map(|_| draws.normal().powi(2)).sum();
    top / (squares / f64::from(freedom.max(1))).sqrt()
}

/// Mean and standard deviation (with n − 1).
pub fn spread(values: &[f64]) -> (f64, Option<f64>) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (
        mean,
        (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(draws: &mut Stream, rows: usize, p: f64) -> Answers {
        Answers::Ratio(
            (0..rows)
                .map(|_| (f64::from(u8::from(draws.chance(p))), 1.0))
                .collect(),
        )
    }

    /// Models of `arms` arms with `seeds` seeds, whose probability to be right is `p(arm)` with seed noise `sd`.
    fn models(
        trial: u64,
        arms: usize,
        seeds: u32,
        rows: usize,
        sd: f64,
        p: impl Fn(usize) -> f64,
    ) -> Vec<Model> {
        let mut draws = Key::new(trial, Stage::Init).stream(0, 0);
        let mut all = Vec::new();
        for seed in 0..seeds {
            // What a seed changes in all arms alike must not matter.
            let shared = 0.05 * draws.normal();
            for arm in 0..arms {
                let p = (p(arm) + shared + sd * draws.normal()).clamp(0.0, 1.0);
                let answers = right(&mut draws, rows, p);
                all.push(Model { arm, seed, answers });
            }
        }
        all
    }

    /// How often a difference of nothing is seen: as often as the level allows, with few seeds and much noise, too.
    #[test]
    fn chance_is_seldom_taken_for_a_difference() {
        for (seeds, arms, sd) in [(2, 4, 0.03), (3, 3, 0.03), (5, 2, 0.02), (3, 4, 0.0)] {
            let trials = 150;
            let seen = (0..trials).into_par_iter().filter(|&trial| {
                let models = models(trial, arms, seeds, 200, sd, |_| 0.7);
                Table::new(&models, &[], 200, trial)
                    .difference(0, 1, 0.95)
                    .unwrap()
                    .is_seen()
            });
            // 7.5 are expected at most; over 19 come about with a probability of 0.0001. Sampling noise of the examples is also in the noise of seeds here, as models
            // answer independently, so fewer may be seen.
            let seen = seen.count();
            assert!(seen <= 19, "{seeds} seeds, {arms} arms: {seen} of {trials}");
        }
    }

    /// Nor are arms that vary less, or more, than others a reason to see one: of all pairs that are compared at once.
    #[test]
    fn arms_that_are_not_equally_noisy_are_not_taken_for_different() {
        let pairs = [
            (1, 0),
            (2, 0),
            (3, 0),
            (5, 4),
            (6, 4),
            (7, 4),
            (1, 5),
            (2, 6),
        ];
        let level = 1.0 - 0.05 / pairs.len() as f64;
        for noise in [
            [1.0; 8],
            [1.0, 1.0, 1.0, 1.0, 0.0, 0.2, 0.2, 0.2],
            [1.0, 1.0, 3.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        ] {
            let trials = 300;
            let seen = (0..trials).into_par_iter().filter(|&trial| {
                let mut draws = Key::new(trial, Stage::Init).stream(1, 0);
                let mut all = Vec::new();
                for seed in 0..3 {
                    let shared = draws.normal();
                    all.extend((0..8).map(|arm| (arm, seed, shared + noise[arm] * draws.normal())));
                }
                let groups = [0, 0, 0, 0, 1, 1, 1, 1];
                let table = Table::of_numbers(&all, &groups, 4_000, trial);
                let sees =
                    |&(a, b): &(usize, usize)| table.difference(a, b, level).unwrap().is_seen();
                pairs.iter().any(sees)
            });
            // 15 are expected at most; over 30 come about with a probability of 0.0002. Pooled over all arms, it is some 40.
            let seen = seen.count();
            assert!(seen <= 30, "{noise:?}: {seen} of {trials}");
        }
    }

    #[test]
    fn a_difference_is_seen() {
        let seen = (0..40).into_par_iter().filter(|&trial| {
            let models = models(
                trial,
                4,
                3,
                1_000,
                0.005,
                |arm| if arm == 0 { 0.8 } else { 0.7 },
            );
            let table = Table::new(&models, &[], 400, trial);
            let found = table.difference(0, 1, 0.95).unwrap();
            assert!(found.low <= found.mean && found.mean <= found.high);
            assert!((found.mean - found.by_seed.iter().sum::<f64>() / 3.0).abs() < 1e-12);
            found.is_seen()
        });
        assert!(seen.count() >= 38);
    }

    #[test]
    fn pairing_takes_away_what_examples_share() {
        // Both are right about the same examples but for one in twenty, where the first is better.
        let rows = 1_000;
        let mut draws = Key::new(5, Stage::Init).stream(0, 0);
        let mut all = Vec::new();
        for seed in 0..3 {
            let base: Vec<bool> = (0..rows).map(|_| draws.chance(0.7)).collect();
            let ratio = |v: Vec<bool>| {
                Answers::Ratio(
                    v.into_iter()
                        .map(|b| (f64::from(u8::from(b)), 1.0))
                        .collect(),
                )
            };
            let better = base
                .iter()
                .enumerate()
                .map(|(i, b)| *b || i % 20 == 0)
                .collect();
            all.push(Model {
                arm: 0,
                seed,
                answers: ratio(better),
            });
            all.push(Model {
                arm: 1,
                seed,
                answers: ratio(base),
            });
        }
        let found = Table::new(&all, &[], 2_000, 0)
            .difference(0, 1, 0.95)
            .unwrap();
        assert!(
            found.is_seen() && found.high - found.low < 0.03,
            "{found:?}"
        );
    }

    #[test]
    fn one_seed_says_nothing() {
        let models = models(1, 2, 1, 1_000, 0.0, |arm| if arm == 0 { 0.9 } else { 0.1 });
        let found = Table::new(&models, &[], 200, 0)
            .difference(0, 1, 0.95)
            .unwrap();
        assert!(found.low > 0.5 && !found.is_seen());
    }

    #[test]
    fn arms_without_a_seed_in_common_are_not_compared() {
        let mut models = models(1, 2, 2, 50, 0.0, |_| 0.5);
        models.retain(|m| (m.arm == 0) == (m.seed == 0));
        assert!(
            Table::new(&models, &[], 10, 0)
                .difference(0, 1, 0.95)
                .is_none()
        );
    }

    #[test]
    fn noise_is_that_of_randomized_blocks() {
        // By hand: arms {1, 2} and {2, 5}: residuals ±0.5, one degree of freedom.
        let table = Table::of_numbers(
            &[
                (0, 0, 1.0),
                (0, 1, 2.0),
                (1, 0, 2.0),
                (1, 1, 5.0),
                (2, 0, 9.0),
            ],
            &[],
            10,
            0,
        );
        let noise = table.noise().unwrap();
        assert_eq!(noise.freedom, 1);
        assert!((noise.deviation - 1.0).abs() < 1e-12);
    }

    #[test]
    fn student_has_its_quantiles() {
        // P(|t| > 4.303) = 0.05 with 2 degrees of freedom, P(|t| > 2.228) with 10.
        for (freedom, bound) in [(2, 4.303), (10, 2.228)] {
            let key = Key::new(3, Stage::Init);
            let over = (0..100_000u64)
                .filter(|&i| student(&mut key.stream(i, 0), freedom).abs() > bound)
                .count();
            assert!((4_700..5_300).contains(&over), "{freedom}: {over}");
        }
    }

    #[test]
    fn metrics_over_all_rows_are_those_of_the_metrics() {
        let pairs = vec![(0, 0), (1, 0), (1, 1), (2, 2)];
        let answers = Answers::Classes(pairs.clone(), 3, "f1_macro");
        let expected = classes(&pairs, 3)
            .iter()
            .find(|m| m.0 == "f1_macro")
            .unwrap()
            .1
            .unwrap();
        assert_eq!(answers.metric(0..4), expected);
        assert_eq!(
            Answers::Ratio(vec![(1.0, 1.0), (0.0, 1.0)]).metric(0..2),
            0.5
        );
        let numbers = Answers::Numbers(vec![(1.0, 2.0), (2.0, 3.0), (3.0, 9.0)], "spearman");
        assert_eq!(numbers.metric(0..3), 1.0);
    }
}
