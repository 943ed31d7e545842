//! What a model says, and how good that is.

use cloze_train::engine::{Engine, Whole};
use serde::Serialize;
use serde_json::{Value, json};

use super::Set;
use crate::data::{Target, Task, TaskKind};
use crate::heads::{Head, loss_sum};
use crate::metrics::{self, Metrics};
use crate::{Result, Row, batch};

/// What a model says about a row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// Its line or row in the file, from 1.
    pub row: u64,
    /// What is right.
    pub label: Value,
    /// What the model says.
    pub prediction: Value,
    /// What the head gave, by label: logits, or for a regression the number.
    pub scores: Value,
}

/// What the head gives for each row of `set`: its outputs, for words one word after another. Before each batch `go_on` is asked whether to.
pub fn outputs(
    engine: &mut dyn Engine,
    head: &Head,
    hidden: usize,
    size: usize,
    set: &Set,
    go_on: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<Vec<f32>>> {
    let values = head.values(engine)?;
    let mut outputs = vec![Vec::new(); set.rows.len()];
    let mut order: Vec<usize> = (0..set.rows.len()).collect();
    order.sort_by_key(|&i| set.rows[i].input_ids.len());
    for part in order.chunks(size) {
        go_on()?;
        let rows: Vec<&Row> = part.iter().map(|&i| &set.rows[i]).collect();
        let batch = batch(rows.iter().copied());
        let encoded = engine.encode(&batch, &Whole::of(&batch), None)?;
        let logits = head.logits(&values, &gather(&encoded, &head.places(&rows), hidden))?;
        let mut rest = logits.as_slice();
        let each = logits.len() / head.places(&rows).len().max(1);
        for (&i, row) in part.iter().zip(&rows) {
            let (own, others) = rest.split_at(head.places(&[row]).len() * each);
            outputs[i] = own.to_vec();
            rest = others;
        }
    }
    Ok(outputs)
}

/// The rows `places` of `x: [T, H]`.
pub fn gather(x: &[f32], places: &[usize], hidden: usize) -> Vec<f32> {
    let row = |&place: &usize| &x[place * hidden..(place + 1) * hidden];
    places.iter().flat_map(row).copied().collect()
}

/// The metrics of `outputs`, and the mean loss last.
pub fn measure(head: &Head, task: &Task, set: &Set, outputs: &[Vec<f32>]) -> Metrics {
    let answers = || set.targets.iter().zip(outputs).zip(&set.rows);
    let mut metrics = match task.kind {
        TaskKind::Classification => {
            let pairs = answers().filter_map(|((target, scores), _)| match target {
                Target::Class(truth) => Some((*truth, best(scores))),
                _ => None,
            });
            metrics::classes(&pairs.collect::<Vec<_>>(), task.labels.len())
        }
        TaskKind::Regression => {
            let pairs = answers().filter_map(|((target, scores), _)| match target {
                Target::Number(truth) => Some((*truth, f64::from(scores[0]))),
                _ => None,
            });
            metrics::numbers(&pairs.collect::<Vec<_>>())
        }
        TaskKind::MultiLabel => {
            let pairs = answers().filter_map(|((target, scores), _)| match target {
                Target::Set(truth) => Some((truth.as_slice(), chosen(scores))),
                _ => None,
            });
            metrics::sets(&pairs.collect::<Vec<_>>(), task.labels.len())
        }
        TaskKind::TokenClassification => {
            let sentences = answers().filter_map(|((target, scores), row)| match target {
                Target::Tags(truth) => {
                    let guesses = scores.chunks(task.labels.len()).map(best);
                    let seen = row
                        .words
                        .iter()
                        .zip(truth)
                        .filter(|(word, _)| word.is_some());
                    Some(seen.map(|(_, truth)| *truth).zip(guesses).collect())
                }
                _ => None,
            });
            metrics::tags(&sentences.collect::<Vec<_>>(), &task.labels)
        }
    };
    let goals = head.goals(set.rows.iter().zip(&set.targets));
    let (sum, terms) = loss_sum(&outputs.concat(), &goals);
    metrics.push(("loss", (terms > 0).then(|| sum / terms as f64)));
    metrics
}

/// The first of the largest.
fn best(scores: &[f32]) -> u32 {
    let mut best = 0;
    for (i, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = i;
        }
    }
    best as u32
}

/// The labels whose probability is at least one half: those whose logit is not under 0.
fn chosen(scores: &[f32]) -> Vec<u32> {
    (0..)
        .zip(scores)
        .filter(|(_, s)| **s >= 0.0)
        .map(|(label, _)| label)
        .collect()
}

/// What the model says about each row.
pub fn predictions(task: &Task, set: &Set, outputs: &[Vec<f32>]) -> Vec<Prediction> {
    let name = |id: &u32| Value::from(task.labels[*id as usize].as_str());
    let names = |ids: &[u32]| ids.iter().map(name).collect::<Value>();
    let each = set
        .numbers
        .iter()
        .zip(&set.rows)
        .zip(&set.targets)
        .zip(outputs);
    each.map(|(((&number, row), target), scores)| {
        let (label, prediction, scores) = match target {
            Target::Class(truth) => (name(truth), name(&best(scores)), json!(scores)),
            Target::Number(truth) => (json!(truth), json!(scores[0]), json!(scores)),
            Target::Set(truth) => (names(truth), names(&chosen(scores)), json!(scores)),
            Target::Tags(truth) => {
                let mut words = scores.chunks(task.labels.len());
                // Of words that were cut off nothing is said.
                let scores: Vec<Option<&[f32]>> = row
                    .words
                    .iter()
                    .map(|w| w.and_then(|_| words.next()))
                    .collect();
                let guesses = scores.iter().map(|s| s.map(|s| name(&best(s))));
                let guesses = guesses.map(|g| g.unwrap_or_default()).collect();
                (names(truth), guesses, json!(scores))
            }
        };
        Prediction {
            row: number,
            label,
            prediction,
            scores,
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(kind: TaskKind, row: Row, target: Target, scores: &[f32]) -> (Value, Value, Value) {
        let labels = ["a", "b", "c"].map(str::to_owned);
        let task = Task::new(kind, labels.into_iter().collect());
        let set = Set {
            numbers: vec![7],
            rows: vec![row],
            targets: vec![target],
        };
        let mut all = predictions(&task, &set, &[scores.to_vec()]);
        let one = all.remove(0);
        assert_eq!((one.row, all.len()), (7, 0));
        (one.label, one.prediction, one.scores)
    }

    #[test]
    fn what_is_said_follows_from_the_scores() {
        let row = Row::default;
        let scores = [-0.25, 1.5, 1.5];
        let found = said(TaskKind::Classification, row(), Target::Class(2), &scores);
        assert_eq!(found, (json!("c"), json!("b"), json!(scores)));
        let found = said(TaskKind::Regression, row(), Target::Number(0.5), &[2.0]);
        assert_eq!(found, (json!(0.5), json!(2.0), json!([2.0])));
        // A probability of one half is enough.
        let scores = [0.0, -0.125, 0.125];
        let found = said(TaskKind::MultiLabel, row(), Target::Set(vec![1]), &scores);
        assert_eq!(found, (json!(["b"]), json!(["a", "c"]), json!(scores)));
        // The second word has no piece, the last does not fit.
        let row = Row {
            words: vec![Some(1), None, Some(2), None],
            ..Row::default()
        };
        let scores = [0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        let target = Target::Tags(vec![0, 1, 2, 0]);
        let found = said(TaskKind::TokenClassification, row, target, &scores);
        let expected = json!([[0.0, 1.0, 0.0], null, [0.0, 0.0, 1.0], null]);
        assert_eq!(found.0, json!(["a", "b", "c", "a"]));
        assert_eq!(
            (found.1, found.2),
            (json!(["b", null, "c", null]), expected)
        );
    }

    #[test]
    fn words_that_were_cut_off_are_not_measured() {
        let labels = ["B-X", "O"].map(str::to_owned);
        let task = Task::new(TaskKind::TokenClassification, labels.into_iter().collect());
        let row = |words: &[Option<usize>]| Row {
            words: words.to_vec(),
            ..Row::default()
        };
        let tags = |ids: &[u32]| Target::Tags(ids.to_vec());
        let set = Set {
            numbers: vec![1, 2],
            rows: vec![row(&[None, Some(1), Some(2)]), row(&[Some(1)])],
            targets: vec![tags(&[0, 1, 0]), tags(&[1])],
        };
        assert_eq!(set.cut_words(), 1);
        let (x, o) = ([1.0, 0.0], [0.0, 1.0]);
        let config = r#"{"vocab_size": 9, "hidden_size": 2, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 2,
            "max_position_embeddings": 9}"#;
        let mut config = cloze_train::BertConfig::parse(config).expect("it is whole");
        config.heads = Head::shapes(&task, 2);
        let layout = cloze_train::parameters::Layout::new(&config);
        let head = Head::new(&task, &config, &layout, None).expect("it has all");
        let metrics = measure(&head, &task, &set, &[[o, x].concat(), x.to_vec()]);
        let get = |name: &str| metrics.iter().find(|m| m.0 == name).and_then(|m| m.1);
        assert_eq!(get("accuracy"), Some(2.0 / 3.0));
        assert_eq!(
            (get("entity_precision"), get("entity_recall")),
            (Some(0.5), Some(1.0))
        );
        // Right, right, wrong: log(1 + e⁻¹) twice, log(1 + e) once.
        let expected = (2.0 * (-1f64).exp().ln_1p() + 1f64.exp().ln_1p()) / 3.0;
        assert!(get("loss").is_some_and(|loss| (loss - expected).abs() < 1e-9));
    }
}
