//! Losses and gradients against the formulas in double precision: finite differences of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;

use super::*;

const HIDDEN: usize = 6;
const PLACES: usize = 5;

fn config(more: &str) -> BertConfig {
    let json = format!(
        r#"{{"model_type": "bert", "vocab_size": 20, "hidden_size": {HIDDEN}, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 8, "max_position_embeddings": 16{more}}}"#
    );
    BertConfig::parse(&json).unwrap()
}

fn task(kind: TaskKind) -> Task {
    let labels: &[&str] = match kind {
        TaskKind::Regression => &[],
        _ => &["a", "b", "c"],
    };
    Task::new(
        kind,
        labels
            .iter()
            .map(|l| (*l).to_owned())
            .collect::<BTreeSet<_>>(),
    )
}

/// A head, its configuration, all parameters, and encodings without pattern.
fn head(kind: TaskKind, dropout: f64) -> (Head, Vec<f32>, Vec<f32>) {
    let (task, mut config) = (task(kind), config(""));
    config.heads = Head::shapes(&task, HIDDEN);
    let layout = Layout::new(&config);
    let wave = |n: usize, step: f32| (0..n).map(|i| (i as f32 * step).sin() * 0.8).collect();
    let head = Head::new(&task, &config, &layout, Some(dropout)).unwrap();
    (head, wave(layout.len(), 1.7), wave(PLACES * HIDDEN, 2.3))
}

fn goals(kind: TaskKind) -> Goals {
    match kind {
        TaskKind::Regression => Goals::Numbers(vec![0.5, -2.0, 3.0, 0.0, 1.0]),
        TaskKind::MultiLabel => Goals::Sets(vec![0, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 0]),
        _ => Goals::Classes(vec![2, 0, 1, 1, 0]),
    }
}

/// The head and its mean loss, by their definitions.
fn definition(kind: TaskKind, p: &[Vec<f64>], x: &[f64], mask: &[f64], goals: &Goals) -> f64 {
    let linear = |x: &[f64], w: &[f64], b: &[f64]| -> Vec<f64> {
        let row = |(w, b): (&[f64], &f64)| w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + b;
        w.chunks(x.len()).zip(b).map(row).collect()
    };
    let (mut sum, mut terms) = (0.0, 0.0);
    for i in 0..PLACES {
        let mut x = x[i * HIDDEN..(i + 1) * HIDDEN].to_vec();
        if kind != TaskKind::TokenClassification {
            x = linear(&x, &p[0], &p[1])
                .into_iter()
                .map(f64::tanh)
                .collect();
        }
        x.iter_mut()
            .zip(&mask[i * HIDDEN..])
            .for_each(|(x, m)| *x *= m);
        let logits = linear(&x, &p[p.len() - 2], &p[p.len() - 1]);
        match goals {
            Goals::Classes(classes) => {
                let all: f64 = logits.iter().map(|l| l.exp()).sum();
                sum -= (logits[classes[i] as usize].exp() / all).ln();
                terms += 1.0;
            }
            Goals::Numbers(numbers) => {
                sum += (logits[0] - f64::from(numbers[i])).powi(2);
                terms += 1.0;
            }
            Goals::Sets(members) => {
                for (l, y) in logits.iter().zip(&members[i * logits.len()..]) {
                    let p = 1.0 / (1.0 + (-l).exp());
                    sum -= if *y == 1 { p.ln() } else { (1.0 - p).ln() };
                    terms += 1.0;
                }
            }
        }
    }
    sum / terms
}

const KINDS: [TaskKind; 4] = [
    TaskKind::Classification,
    TaskKind::Regression,
    TaskKind::MultiLabel,
    TaskKind::TokenClassification,
];

fn values(head: &Head, arena: &[f32]) -> Vec<Vec<f32>> {
    let each = head.parameters.iter();
    each.map(|p| arena[p.range()].to_vec()).collect()
}

#[test]
fn losses_and_gradients_are_those_of_the_definition() {
    let wide = |v: &[f32]| v.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
    let dropout = Dropout {
        seed: 1,
        step: 2,
        hidden: 0.9,
        attention: 0.9,
    };
    for kind in KINDS {
        for p in [0.0, 0.4] {
            let (head, arena, x) = head(kind, p);
            let goals = goals(kind);
            let mask = match p {
                0.0 => vec![1.0; x.len()],
                p => wide(&head_mask(&dropout, p, PLACES, HIDDEN)),
            };
            let found = head
                .train(&values(&head, &arena), &x, &goals, Some(&dropout))
                .unwrap();
            let parameters: Vec<Vec<f64>> = head
                .parameters
                .iter()
                .map(|p| wide(&arena[p.range()]))
                .collect();
            let x = wide(&x);
            let expected = definition(kind, &parameters, &x, &mask, &goals);
            assert!(
                (found.loss - expected).abs() < 1e-5,
                "{kind}: {} {expected}",
                found.loss
            );
            let difference = |change: &dyn Fn(f64) -> f64| (change(1e-5) - change(-1e-5)) / 2e-5;
            let check = |what: &str, i: usize, found: f32, expected: f64| {
                let off = (f64::from(found) - expected).abs();
                assert!(off < 1e-5, "{kind}, {what}, {i}: {found} {expected}");
            };
            for i in 0..x.len() {
                let expected = difference(&|by| {
                    let mut x = x.clone();
                    x[i] += by;
                    definition(kind, &parameters, &x, &mask, &goals)
                });
                check("input", i, found.input[i], expected);
            }
            assert_eq!(found.parameters.len(), parameters.len());
            for (k, (parameter, gradient)) in found.parameters.iter().enumerate() {
                assert_eq!(gradient.len(), parameter.len());
                for (i, &found) in gradient.iter().enumerate() {
                    let expected = difference(&|by| {
                        let mut parameters = parameters.clone();
                        parameters[k][i] += by;
                        definition(kind, &parameters, &x, &mask, &goals)
                    });
                    check(&parameter.name, i, found, expected);
                }
            }
        }
    }
}

#[test]
fn without_dropout_the_logits_are_those_of_the_loss() {
    for kind in KINDS {
        let (head, arena, x) = head(kind, 0.0);
        let logits = head.logits(&values(&head, &arena), &x).unwrap();
        assert_eq!(
            logits.len(),
            PLACES * if kind == TaskKind::Regression { 1 } else { 3 }
        );
        let (sum, terms) = loss_sum(&logits, &goals(kind));
        let pass = head
            .train(&values(&head, &arena), &x, &goals(kind), None)
            .unwrap();
        assert!((sum / terms as f64 - pass.loss).abs() < 1e-6, "{kind}");
        assert!(head.logits(&values(&head, &arena), &[]).unwrap().is_empty());
    }
    // Far from zero nothing overflows.
    let (sum, _) = loss_sum(&[800.0, -800.0], &Goals::Sets(vec![0, 1]));
    assert!((sum - 1600.0).abs() < 1e-9);
    let (sum, _) = loss_sum(&[800.0, -800.0], &Goals::Classes(vec![1]));
    assert!((sum - 1600.0).abs() < 1e-9);
}

#[test]
fn a_head_looks_at_cls_or_at_the_first_piece_of_each_word_it_knows() {
    let row = |words: &[Option<usize>], n: usize| Row {
        input_ids: vec![7; n],
        b_start: n,
        words: words.to_vec(),
        cut: 0,
    };
    let rows = [row(&[Some(1), None, Some(3)], 6), row(&[Some(1), None], 3)];
    let both: Vec<&Row> = rows.iter().collect();
    let (of_words, _, _) = head(TaskKind::TokenClassification, 0.0);
    assert_eq!(of_words.places(&both), [1, 3, 7]);
    let targets = [Target::Tags(vec![2, 1, 0]), Target::Tags(vec![1, 0])];
    let goals = of_words.goals(rows.iter().zip(&targets));
    assert_eq!(goals, Goals::Classes(vec![2, 0, 1]));
    let (of_texts, _, _) = head(TaskKind::MultiLabel, 0.0);
    assert_eq!(of_texts.places(&both), [0, 6]);
    let targets = [Target::Set(vec![0, 2]), Target::Set(vec![])];
    let goals = of_texts.goals(rows.iter().zip(&targets));
    assert_eq!(goals, Goals::Sets(vec![1, 0, 1, 0, 0, 0]));
}

#[test]
fn dropout_is_the_options_or_the_classifiers_or_the_models() {
    let task = task(TaskKind::Classification);
    let of = |more: &str, asked| {
        let mut config = config(more);
        config.heads = Head::shapes(&task, HIDDEN);
        Head::new(&task, &config, &Layout::new(&config), asked).map(|h| h.dropout)
    };
    let both = r#", "classifier_dropout": 0.3, "hidden_dropout_prob": 0.2"#;
    assert_eq!(of(both, None).unwrap(), 0.3);
    assert_eq!(of(both, Some(0.0)).unwrap(), 0.0);
    let null = r#", "classifier_dropout": null, "hidden_dropout_prob": 0.2"#;
    assert_eq!(of(null, None).unwrap(), 0.2);
    let error = of(r#", "classifier_dropout": 1"#, None).unwrap_err();
    assert!(error.to_string().contains("classifier_dropout"), "{error}");
}
