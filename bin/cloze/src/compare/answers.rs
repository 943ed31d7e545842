//! What a fine-tuned model said of the test examples, as its metric needs it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use cloze_metrics::entities;
use serde::Deserialize;
use serde_json::Value;

use super::statistics::Answers;

/// A line of `predictions.jsonl`.
#[derive(Deserialize)]
struct Prediction {
    row: u64,
    label: Value,
    prediction: Value,
}

/// What `results.json` says, as far as it matters here.
#[derive(Deserialize)]
struct Results {
    metric: Option<String>,
    labels: Vec<String>,
    test: BTreeMap<String, Spread>,
    #[serde(default)]
    seeds: Vec<Trained>,
}

/// How a model learned.
#[derive(Deserialize)]
struct Trained {
    #[serde(default)]
    history: Vec<Evaluated>,
}

#[derive(Deserialize)]
struct Evaluated {
    step: u64,
    #[serde(default)]
    dev: BTreeMap<String, Option<f64>>,
}

impl Trained {
    /// How much `metric` of dev grew from the middle of the steps to the last one.
    fn second_half(&self, metric: &str) -> Option<f64> {
        let of = |e: &Evaluated| e.dev.get(metric).copied().flatten();
        let last = self.history.last()?;
        // Looks at dev need not be at the middle: the first one after it.
        let middle = self.history.iter().find(|e| 2 * e.step >= last.step)?;
        Some(of(last)? - of(middle)?)
    }
}

#[derive(Deserialize)]
struct Spread {
    mean: Option<f64>,
}

/// The answers in a folder that `cloze finetune` wrote, the name of the metric, and which examples they are about.
pub struct Said {
    /// The metric that models were chosen by.
    pub metric: String,
    /// The answers.
    pub answers: Answers,
    /// Rows of the test file.
    pub rows: Vec<u64>,
    /// How much the metric of dev grew in the second half of fine-tuning.
    pub second_half: Option<f64>,
}

/// Reads them. The metric over all of them must be what `results.json` says.
pub fn read(folder: &Path) -> anyhow::Result<Said> {
    let text = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    let results: Results = serde_json::from_str(&text("results.json")?)
        .with_context(|| folder.join("results.json").display().to_string())?;
    let metric = results.metric.unwrap_or_else(|| "accuracy".into());
    let lines = text("predictions.jsonl")?;
    let predictions: Vec<Prediction> = lines
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .with_context(|| folder.join("predictions.jsonl").display().to_string())?;
    let answers = answers(&predictions, &metric, &results.labels);
    let answers =
        answers.with_context(|| format!("{}: cannot be compared by {metric}", folder.display()))?;
    let said = results.test.get(&metric).and_then(|s| s.mean);
    let found = answers.metric(0..answers.len());
    ensure!(
        said.is_some_and(|said| (said - found).abs() < 1e-6),
        "{}: its predictions give a {metric} of {found}, results.json says {said:?}",
        folder.display()
    );
    Ok(Said {
        second_half: results
            .seeds
            .first()
            .and_then(|trained| trained.second_half(&metric)),
        rows: predictions.iter().map(|p| p.row).collect(),
        metric,
        answers,
    })
}

fn answers(predictions: &[Prediction], metric: &str, labels: &[String]) -> Option<Answers> {
    let both = predictions.iter().map(|p| (&p.label, &p.prediction));
    let id = |v: &Value| {
        labels
            .iter()
            .position(|l| Some(l.as_str()) == v.as_str())
            .map(|i| i as u32)
    };
    let share = |yes: bool| (f64::from(u8::from(yes)), 1.0);
    let is_list = predictions.first().is_some_and(|p| p.label.is_array());
    let list = |v: &Value| -> Vec<String> {
        let items = v.as_array().into_iter().flatten();
        items
            .map(|i| i.as_str().unwrap_or_default().to_owned())
            .collect()
    };
    // F1 = 2 right / (true + guessed).
    let f1 =
        |right: usize, truth: usize, guess: usize| (2.0 * right as f64, (truth + guess) as f64);
    match metric {
        "accuracy" | "f1_micro" if !is_list => {
            Some(Answers::Ratio(both.map(|(t, p)| share(t == p)).collect()))
        }
        "f1_macro" | "mcc" if !is_list => {
            let name = if metric == "mcc" { "mcc" } else { "f1_macro" };
            let pairs = both
                .map(|(t, p)| Some((id(t)?, id(p)?)))
                .collect::<Option<_>>()?;
            Some(Answers::Classes(pairs, labels.len(), name))
        }
        "spearman" | "pearson" => {
            let name = if metric == "pearson" {
                "pearson"
            } else {
                "spearman"
            };
            let pairs = both
                .map(|(t, p)| Some((t.as_f64()?, p.as_f64()?)))
                .collect::<Option<_>>()?;
            Some(Answers::Numbers(pairs, name))
        }
        "mse" => {
            let squares = both.map(|(t, p)| Some(((t.as_f64()? - p.as_f64()?).powi(2), 1.0)));
            Some(Answers::Ratio(squares.collect::<Option<_>>()?))
        }
        "subset_accuracy" => Some(Answers::Ratio(both.map(|(t, p)| share(t == p)).collect())),
        "entity_f1" => {
            let count = |(t, p): (&Value, &Value)| {
                let (t, p) = seen(t, p);
                let (truth, guess) = (of(&t), of(&p));
                let right = truth.iter().filter(|e| guess.contains(e)).count();
                f1(right, truth.len(), guess.len())
            };
            Some(Answers::Ratio(both.map(count).collect()))
        }
        "accuracy" => {
            let count = |(t, p): (&Value, &Value)| {
                let (t, p) = seen(t, p);
                let right = t.iter().zip(&p).filter(|(t, p)| t == p).count();
                (right as f64, t.len() as f64)
            };
            Some(Answers::Ratio(both.map(count).collect()))
        }
        "f1_micro" => {
            let count = |(t, p): (&Value, &Value)| {
                let (t, p) = (list(t), list(p));
                let right = t.iter().filter(|l| p.contains(l)).count();
                f1(right, t.len(), p.len())
            };
            Some(Answers::Ratio(both.map(count).collect()))
        }
        _ => None,
    }
}

fn of(tags: &[&str]) -> Vec<cloze_metrics::Entity> {
    entities(tags).into_iter().collect()
}

/// Tags of the words that a prediction says something about: of words that were cut off it says nothing.
fn seen<'a>(truth: &'a Value, guess: &'a Value) -> (Vec<&'a str>, Vec<&'a str>) {
    let words = |v: &'a Value| v.as_array().into_iter().flatten();
    let pairs = words(truth).zip(words(guess));
    let kept = pairs.filter_map(|(t, g)| Some((t.as_str()?, g.as_str()?)));
    kept.unzip()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(metric: &str, pairs: &[(Value, Value)]) -> f64 {
        let predictions: Vec<Prediction> = (1..)
            .zip(pairs)
            .map(|(row, (label, prediction))| Prediction {
                row,
                label: label.clone(),
                prediction: prediction.clone(),
            })
            .collect();
        let labels = ["a", "b", "c"].map(str::to_owned);
        let answers = answers(&predictions, metric, &labels).unwrap();
        answers.metric(0..answers.len())
    }

    #[test]
    fn what_the_second_half_gave() {
        let trained = |points: &[(u64, Option<f64>)]| -> Trained {
            let history: Vec<Value> = (points.iter())
                .map(|(step, f1)| json!({"step": step, "train_loss": 1.0, "dev": {"f1": f1}}))
                .collect();
            serde_json::from_value(json!({"history": history, "seed": 0})).unwrap()
        };
        let all = trained(&[
            (10, Some(0.1)),
            (20, Some(0.3)),
            (30, Some(0.5)),
            (40, Some(0.75)),
        ]);
        assert_eq!(all.second_half("f1"), Some(0.75 - 0.3));
        assert_eq!(all.second_half("mcc"), None);
        // One look at dev is both the middle and the end.
        assert_eq!(trained(&[(10, Some(0.1))]).second_half("f1"), Some(0.0));
        assert_eq!(
            trained(&[(10, Some(0.1)), (20, None)]).second_half("f1"),
            None
        );
        assert_eq!(trained(&[]).second_half("f1"), None);
    }

    #[test]
    fn metrics_of_every_kind_of_task() {
        let classes = [
            (json!("a"), json!("a")),
            (json!("b"), json!("a")),
            (json!("c"), json!("c")),
        ];
        assert_eq!(said("accuracy", &classes), 2.0 / 3.0);
        assert_eq!(said("f1_micro", &classes), 2.0 / 3.0);
        // F1 of a: 2/3, of b: 0, of c: 1.
        assert!((said("f1_macro", &classes) - 5.0 / 9.0).abs() < 1e-12);
        let sets = [(json!(["a", "b"]), json!(["a"])), (json!([]), json!(["c"]))];
        assert_eq!(said("f1_micro", &sets), 0.5);
        assert_eq!(said("subset_accuracy", &sets), 0.0);
        let numbers = [
            (json!(1.0), json!(2.0)),
            (json!(2.0), json!(2.5)),
            (json!(3.0), json!(2.25)),
        ];
        assert_eq!(said("mse", &numbers), (1.0 + 0.25 + 0.5625) / 3.0);
        assert_eq!(said("spearman", &numbers), 0.5);
    }

    #[test]
    fn tags_of_words_that_were_cut_off_do_not_count() {
        let tags = [
            (json!(["B-x", "I-x", "O"]), json!(["B-x", "I-x", "O"])),
            (json!(["B-x", "O", "B-x"]), json!(["O", "O", null])),
        ];
        // Of two entities that can be seen, one was found, and nothing else was guessed.
        assert_eq!(said("entity_f1", &tags), 2.0 / 3.0);
        assert_eq!(said("accuracy", &tags), 4.0 / 5.0);
    }

    #[test]
    fn what_cannot_be_compared_is_none() {
        assert!(answers(&[], "loss", &[]).is_none());
    }
}
