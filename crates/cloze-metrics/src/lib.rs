//! How good answers are.
//!
//! Where a metric has no value (a correlation with something constant, a share of nothing) it is `None`; F1 is 0 where nothing is right, as
//! scikit-learn and seqeval have it.

mod entities;

use std::collections::BTreeSet;

pub use entities::{Entity, entities, entity_scores, is_iob2};

/// Values by name, in the order in which they are shown.
pub type Metrics = Vec<(&'static str, Option<f64>)>;

/// How often each class was right, and guessed: counts for F1 and accuracy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counts {
    right: u64,
    truth: u64,
    guess: u64,
}

impl Counts {
    /// 2 TP / (2 TP + FP + FN); 0 where that is 0/0.
    fn f1(&self) -> f64 {
        match self.truth + self.guess {
            0 => 0.0,
            both => 2.0 * self.right as f64 / both as f64,
        }
    }
}

/// One label of several, given `(truth, guess)`: `accuracy`, `f1_macro`, `f1_micro`, `mcc`.
///
/// F1 is the harmonic mean of precision and recall (van Rijsbergen, *Information Retrieval*, 2nd ed., 1979, chapter 7). Macro: the mean of the F1 of each
/// class that occurs, in truth or in guesses. Micro: that of the summed counts, which here equals the accuracy (Opitz and Burst, *Macro F1 and Macro F1*,
/// 2019, say which macro F1 this is: the averaged one).
#[must_use]
pub fn classes(pairs: &[(u32, u32)], classes: usize) -> Metrics {
    if pairs.is_empty() {
        return ["accuracy", "f1_macro", "f1_micro", "mcc"]
            .map(|n| (n, None))
            .into();
    }
    let counts = count(pairs, classes);
    let right: u64 = counts.iter().map(|c| c.right).sum();
    let accuracy = right as f64 / pairs.len() as f64;
    vec![
        ("accuracy", Some(accuracy)),
        ("f1_macro", Some(macro_f1(&counts))),
        ("f1_micro", Some(accuracy)),
        ("mcc", Some(mcc(&counts, pairs.len() as u64))),
    ]
}

fn count(pairs: &[(u32, u32)], classes: usize) -> Vec<Counts> {
    let mut counts = vec![Counts::default(); classes];
    for &(truth, guess) in pairs {
        counts[truth as usize].truth += 1;
        counts[guess as usize].guess += 1;
        counts[truth as usize].right += u64::from(truth == guess);
    }
    counts
}

fn macro_f1(counts: &[Counts]) -> f64 {
    let there = counts.iter().filter(|c| c.truth + c.guess > 0);
    let (n, sum) = there.fold((0u64, 0.0), |(n, sum), c| (n + 1, sum + c.f1()));
    sum / n.max(1) as f64
}

/// Matthews' correlation for several classes (Gorodkin, *Comparing two K-category assignments by a K-category correlation coefficient*, Computational
/// Biology and Chemistry 28, 2004): with c right of s, class k true tₖ times and guessed pₖ times,
/// (c s − Σ pₖ tₖ) / √((s² − Σ pₖ²)(s² − Σ tₖ²)); 0 where truth or guesses are all the same.
fn mcc(counts: &[Counts], all: u64) -> f64 {
    let s = all as f64;
    let sum = |term: &dyn Fn(&Counts) -> f64| counts.iter().map(term).sum::<f64>();
    let c = sum(&|k| k.right as f64);
    let across = c * s - sum(&|k| k.guess as f64 * k.truth as f64);
    let guesses = s * s - sum(&|k| (k.guess as f64).powi(2));
    let truths = s * s - sum(&|k| (k.truth as f64).powi(2));
    match guesses * truths {
        product if product > 0.0 => across / product.sqrt(),
        _ => 0.0,
    }
}

/// Numbers, given `(truth, guess)`: `spearman`, `pearson`, `mse` (the mean squared error).
#[must_use]
pub fn numbers(pairs: &[(f64, f64)]) -> Metrics {
    let (truths, guesses): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let squares: f64 = pairs.iter().map(|(t, g)| (t - g).powi(2)).sum();
    let mse = (!pairs.is_empty()).then(|| squares / pairs.len() as f64);
    vec![
        ("spearman", pearson(&ranks(&truths), &ranks(&guesses))),
        ("pearson", pearson(&truths, &guesses)),
        ("mse", mse),
    ]
}

/// The product-moment correlation (Pearson 1895): Σ (x − x̄)(y − ȳ) / √(Σ (x − x̄)² Σ (y − ȳ)²).
fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    let n = x.len() as f64;
    let (mean_x, mean_y) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        (x.iter().zip(y))
            .map(|(x, y)| f(x - mean_x, y - mean_y))
            .sum()
    };
    let both = (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt();
    (both > 0.0).then(|| (sum(&|x, y| x * y) / both).clamp(-1.0, 1.0))
}

/// Ranks from 1; equal values share the mean of theirs. The correlation of ranks is Spearman's (1904).
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for equal in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = before as f64 + (equal.len() + 1) as f64 / 2.0;
        equal.iter().for_each(|&i| ranks[i] = rank);
        before += equal.len();
    }
    ranks
}

/// Any number of labels, given `(truth, guess)`: `f1_micro`, `f1_macro` (over all labels), `subset_accuracy` (exactly the right ones).
#[must_use]
pub fn sets(pairs: &[(&[u32], Vec<u32>)], labels: usize) -> Metrics {
    if pairs.is_empty() {
        return ["f1_micro", "f1_macro", "subset_accuracy"]
            .map(|n| (n, None))
            .into();
    }
    let mut counts = vec![Counts::default(); labels];
    for (truth, guess) in pairs {
        truth
            .iter()
            .for_each(|&label| counts[label as usize].truth += 1);
        for &label in guess {
            counts[label as usize].guess += 1;
            counts[label as usize].right += u64::from(truth.contains(&label));
        }
    }
    let all = counts.iter().fold(Counts::default(), |mut sum, c| {
        sum.right += c.right;
        sum.truth += c.truth;
        sum.guess += c.guess;
        sum
    });
    let exact = pairs.iter().filter(|(truth, guess)| truth == guess).count();
    let mean = counts.iter().map(Counts::f1).sum::<f64>() / labels.max(1) as f64;
    vec![
        ("f1_micro", Some(all.f1())),
        ("f1_macro", Some(mean)),
        ("subset_accuracy", Some(exact as f64 / pairs.len() as f64)),
    ]
}

/// Tags of words, given each sentence's `(truth, guess)`: where the tags are IOB2 `entity_f1`, `entity_precision`, `entity_recall`; `accuracy` and F1
/// over words.
#[must_use]
pub fn tags(sentences: &[Vec<(u32, u32)>], labels: &[String]) -> Metrics {
    let mut metrics = Metrics::new();
    if is_iob2(labels) {
        let (mut truths, mut guesses) = (BTreeSet::new(), BTreeSet::new());
        let name = |id: u32| labels[id as usize].as_str();
        for (i, sentence) in sentences.iter().enumerate() {
            let there = |tags: Vec<&str>| entities(&tags).into_iter().map(move |e| (i, e));
            truths.extend(there(sentence.iter().map(|p| name(p.0)).collect()));
            guesses.extend(there(sentence.iter().map(|p| name(p.1)).collect()));
        }
        metrics = entity_scores(&truths, &guesses);
    }
    let words: Vec<(u32, u32)> = sentences.concat();
    let of_words = classes(&words, labels.len()).into_iter();
    metrics.extend(of_words.filter(|(name, _)| *name != "mcc"));
    metrics
}

/// The metric that says which of two models of a task is better, unless another is asked for.
#[must_use]
pub fn main_metric(metrics: &Metrics) -> &'static str {
    metrics.first().map_or("loss", |(name, _)| name)
}

/// Whether `value` of metric `name` is better than `than`; no value is worse than any.
#[must_use]
pub fn is_better(name: &str, value: Option<f64>, than: Option<f64>) -> bool {
    match (value, than) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(a), Some(b)) if matches!(name, "loss" | "mse") => a < b,
        (Some(a), Some(b)) => a > b,
    }
}

#[cfg(test)]
mod tests;
