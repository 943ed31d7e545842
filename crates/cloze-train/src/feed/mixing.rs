//! Whether datasets can be mixed, and by which shares.

use cloze_shard::{Dataset, Split};

use super::groups::Lengths;
use super::order::{BLOCK, cut_block};
use crate::engine::Objective;
use crate::{Error, Result};

/// Refuses datasets whose rows mean different things to a model that learns `objective`, or that are one and the same, and a `mix` that does not fit them.
pub fn check_mixture(datasets: &[Dataset], mix: &[f64], objective: Objective) -> Result<()> {
    for (i, other) in datasets.iter().enumerate() {
        for one in &datasets[..i] {
            check_pair(one, other, objective)?;
        }
    }
    let fail = |why: String| {
        let option = "--mix";
        Err(Error::Config { option, why })
    };
    if !mix.is_empty() && mix.len() != datasets.len() {
        let (weights, n) = (mix.len(), datasets.len());
        return fail(format!(
            "has {weights} weights, expected one for each of the {n} datasets"
        ));
    }
    match mix.iter().find(|w| !(**w > 0.0 && w.is_finite())) {
        Some(weight) => fail(format!("holds {weight}, weights must be over 0")),
        None => Ok(()),
    }
}

fn check_pair(one: &Dataset, other: &Dataset, objective: Objective) -> Result<()> {
    let fail = |why: String, hint: String| {
        Err(Error::Mixture {
            one: one.path().into(),
            other: other.path().into(),
            why,
            hint,
        })
    };
    let (a, b) = (one.manifest(), other.manifest());
    let again = || {
        format!(
            "prepare both with one tokenizer: prepare the second again with --tokenizer {}",
            one.path()
                .join(cloze_shard::manifest::TOKENIZER_FOLDER)
                .display()
        )
    };
    if a.tokenizer.vocab_digest != b.tokenizer.vocab_digest {
        let (n, m) = (a.tokenizer.vocab_size, b.tokenizer.vocab_size);
        let why = if n == m {
            format!("their vocabularies differ: both have {n} entries, but not the same ones")
        } else {
            format!("their vocabularies differ: {n} entries and {m}")
        };
        return fail(why, again());
    }
    if a.tokenizer.special_tokens != b.tokenizer.special_tokens {
        return fail("their special tokens have different ids".into(), again());
    }
    if let (Some(x), Some(y)) = (a.tokenizer.lowercase, b.tokenizer.lowercase)
        && x != y
    {
        return fail(
            "the tokenizer of one lowercases, that of the other does not".into(),
            again(),
        );
    }
    if objective.has_pairs() && a.objective != b.objective {
        return fail(
            format!(
                "their labels mean different things: {:?} and {:?}",
                a.objective, b.objective
            ),
            "prepare both with the same objective; --objective mlm has no use for labels".into(),
        );
    }
    if a.digest() == b.digest() {
        return fail(
            "they are the same dataset".into(),
            "name each once, and give it the sum of the weights".into(),
        );
    }
    Ok(())
}

/// What names the datasets in a checkpoint: the digests of their manifests, in order.
#[must_use]
pub fn joined_digest(datasets: &[Dataset]) -> String {
    let digests: Vec<String> = datasets.iter().map(|d| d.manifest().digest()).collect();
    digests.join("+")
}

/// How many draws of a block are of which dataset; `None` where they are as one.
///
/// Weights are shares of tokens; what is drawn is rows, so a dataset of longer rows has fewer draws.
pub fn cut(sources: &[(&Dataset, &Split)], mix: &[f64]) -> Result<Option<Vec<u32>>> {
    if mix.is_empty() || sources.len() == 1 {
        return Ok(None);
    }
    let weights: Vec<f64> = (sources.iter().zip(mix))
        .map(|(source, weight)| weight / mean(source))
        .collect();
    let counts = cut_block(&weights);
    match counts.iter().position(|&n| n == 0) {
        Some(i) => Err(Error::Config {
            option: "--mix",
            why: format!(
                "gives {} less than one row of {BLOCK}",
                sources[i].0.path().display()
            ),
        }),
        None => Ok(Some(counts)),
    }
}

/// Tokens of the rows of a mixture.
pub fn lengths(sources: &[(&Dataset, &Split)], mix: &[f64]) -> Lengths {
    let [mut rows, mut sum, mut squares] = [0.0; 3];
    for (i, source) in sources.iter().enumerate() {
        let [n, tokens, of_squares] = moments(source);
        let share = match mix.get(i) {
            Some(weight) => weight / tokens.max(1.0),
            None => 1.0,
        };
        rows += share * n;
        sum += share * tokens;
        squares += share * of_squares;
    }
    let rows = f64::max(rows, f64::MIN_POSITIVE);
    let mean = sum / rows;
    Lengths {
        mean,
        deviation: (squares / rows - mean * mean).max(0.0).sqrt(),
    }
}

/// Tokens of a row of a split, on average.
fn mean(source: &(&Dataset, &Split)) -> f64 {
    let [rows, tokens, _] = moments(source);
    tokens / rows.max(1.0)
}

/// Rows of a split, the sum of their tokens, and that of the squares.
fn moments((dataset, split): &(&Dataset, &Split)) -> [f64; 3] {
    let is_it = |name: &str| dataset.split(name).is_some_and(|s| std::ptr::eq(s, *split));
    let records = dataset.manifest().splits.iter();
    let record = records.filter(|(name, _)| is_it(name)).map(|(_, r)| r);
    let counts = record.flat_map(|r| &r.shards).flat_map(|s| &s.lengths);
    let mut sums = [0.0; 3];
    for (&length, &rows) in counts {
        let (length, rows) = (f64::from(length), rows as f64);
        let terms = [rows, rows * length, rows * length * length];
        sums.iter_mut()
            .zip(terms)
            .for_each(|(sum, term)| *sum += term);
    }
    sums
}
