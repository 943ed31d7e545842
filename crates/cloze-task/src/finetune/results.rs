//! What is reported: `results.json`.

use std::path::Path;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::run::Outcome;
use super::{FinetuneConfig, Sets};
use crate::data::{Data, TaskKind};
use crate::metrics::Metrics;

/// A measurement on the dev examples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// The step after which it was made.
    pub step: u64,
    /// Epochs up to there.
    pub epoch: f64,
    /// The mean loss of the steps since the one before it.
    pub train_loss: Option<f64>,
    /// The metrics.
    #[serde(serialize_with = "as_map")]
    pub dev: Metrics,
}

/// What came out of a seed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeedResult {
    /// The seed.
    pub seed: u64,
    /// Steps that were tried.
    pub steps: u64,
    /// Steps of these that were not made, because their gradient was not finite.
    pub skipped: u64,
    /// The step after which the model was best.
    pub best_step: u64,
    /// The metrics of the best model on the dev examples.
    #[serde(
        serialize_with = "as_optional_map",
        skip_serializing_if = "Option::is_none"
    )]
    pub dev: Option<Metrics>,
    /// Those on the test examples.
    #[serde(
        serialize_with = "as_optional_map",
        skip_serializing_if = "Option::is_none"
    )]
    pub test: Option<Metrics>,
    /// All evaluations.
    pub history: Vec<Evaluation>,
}

/// A seed that did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// The seed.
    pub seed: u64,
    /// The last step that was tried.
    pub step: u64,
    /// `diverged` or `stopped`.
    pub why: &'static str,
}

/// A metric over seeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// The mean.
    pub mean: Option<f64>,
    /// The standard deviation of a sample (with n − 1); none for one seed.
    pub sd: Option<f64>,
}

/// Everything that came out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Results {
    /// What was asked.
    pub task: TaskKind,
    /// The labels by id.
    pub labels: Vec<String>,
    /// The folder that training began from.
    pub model: String,
    /// What was asked for.
    pub config: FinetuneConfig,
    /// Most tokens of a row.
    pub max_length: usize,
    /// Rows to learn from, to choose by and to measure on.
    pub rows: [usize; 3],
    /// Words of the dev and test rows that were cut off, and are not measured.
    pub cut_words: usize,
    /// What the best model was chosen by; nothing, where there is nothing to choose by.
    pub metric: Option<String>,
    /// The seed whose model was kept.
    pub kept_seed: u64,
    /// Each metric over all seeds, of the best models on the dev examples.
    #[serde(serialize_with = "as_pairs")]
    pub dev: Vec<(&'static str, Spread)>,
    /// Those on the test examples.
    #[serde(serialize_with = "as_pairs")]
    pub test: Vec<(&'static str, Spread)>,
    /// Seed by seed: those that came to their end; where there is none, the one whose model was kept as it was at its best.
    pub seeds: Vec<SeedResult>,
    /// Seeds that did not come to their end, and seeds after one that was stopped were not begun.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cut: Vec<Cut>,
}

impl Evaluation {
    /// The value of metric `name`.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<f64> {
        self.dev
            .iter()
            .find(|(n, _)| *n == name)
            .and_then(|(_, value)| *value)
    }
}

impl Spread {
    /// Of one value a seed; no mean where a seed has none.
    #[must_use]
    pub fn of(values: &[Option<f64>]) -> Self {
        let Some(values) = values.iter().copied().collect::<Option<Vec<f64>>>() else {
            return Self::default();
        };
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        Self {
            mean: (n > 0.0).then_some(mean),
            sd: (n > 1.0).then(|| (squares / (n - 1.0)).sqrt()),
        }
    }
}

impl Results {
    pub(super) fn new(
        model: &Path,
        data: &Data,
        config: &FinetuneConfig,
        sets: &Sets,
        max_length: usize,
    ) -> Self {
        Self {
            task: data.task.kind,
            labels: data.task.labels.clone(),
            model: model.display().to_string(),
            config: config.clone(),
            max_length,
            rows: [&sets.train, &sets.dev, &sets.test].map(|s| s.rows.len()),
            cut_words: sets.dev.cut_words() + sets.test.cut_words(),
            metric: None,
            kept_seed: config.seed,
            dev: Vec::new(),
            test: Vec::new(),
            seeds: Vec::new(),
            cut: Vec::new(),
        }
    }

    pub(super) fn finish(&mut self, kept: &Outcome) {
        self.kept_seed = kept.result.seed;
        self.metric.clone_from(&kept.metric);
        self.dev = self.spread(|seed| seed.dev.as_ref());
        self.test = self.spread(|seed| seed.test.as_ref());
    }

    fn spread(&self, of: impl Fn(&SeedResult) -> Option<&Metrics>) -> Vec<(&'static str, Spread)> {
        let all: Vec<&Metrics> = self.seeds.iter().filter_map(of).collect();
        let names = all
            .first()
            .into_iter()
            .flat_map(|m| m.iter().map(|(name, _)| *name));
        names
            .enumerate()
            .map(|(i, name)| {
                let values: Vec<Option<f64>> = all.iter().map(|m| m[i].1).collect();
                (name, Spread::of(&values))
            })
            .collect()
    }
}

fn as_pairs<S: Serializer, V: Serialize>(
    pairs: &[(&'static str, V)],
    to: S,
) -> Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(Some(pairs.len()))?;
    for (name, value) in pairs {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

fn as_map<S: Serializer>(metrics: &Metrics, to: S) -> Result<S::Ok, S::Error> {
    as_pairs(metrics, to)
}

fn as_optional_map<S: Serializer>(metrics: &Option<Metrics>, to: S) -> Result<S::Ok, S::Error> {
    match metrics {
        Some(metrics) => as_pairs(metrics, to),
        None => to.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_are_those_of_a_sample() {
        let spread = Spread::of(&[Some(1.0), Some(2.0), Some(6.0)]);
        // Deviations −2, −1, 3: 14 / 2.
        assert_eq!((spread.mean, spread.sd), (Some(3.0), Some(7f64.sqrt())));
        assert_eq!(
            Spread::of(&[Some(4.0)]),
            Spread {
                mean: Some(4.0),
                sd: None
            }
        );
        assert_eq!(Spread::of(&[Some(4.0), None]), Spread::default());
    }
}
