//! Steps are what they are asked to be.

use std::fs;

use cloze_task::finetune::FinetuneConfig;
use cloze_train::{Build, EngineKind};
use serde_json::{Value, json};

use crate::support::{Seen, colours, cpu, lines, model, options, plain, run, run_on, shape, texts};

/// The losses of two epochs' steps of a model with changes to its configuration.
fn losses(change: &Value, options: FinetuneConfig) -> Vec<f64> {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut shape = shape();
    let changes = change.as_object().unwrap().clone();
    shape.as_object_mut().unwrap().extend(changes);
    let model = model(folder.path(), &shape, &[], |_| true);
    let train = colours(&at("train.jsonl"), 64, 1);
    let options = FinetuneConfig {
        epochs: 2,
        ..options
    };
    let mut seen = Seen::default();
    run(&model, &[&train], &at("out"), &options, &mut seen).unwrap();
    seen.steps.iter().map(|s| s.loss).collect()
}

#[test]
fn each_dropout_of_the_model_is_used() {
    let none = json!({"hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0});
    let with = |name: &str| {
        let mut config = none.clone();
        config[name] = json!(0.3);
        // Other dropout than that of the name is none.
        if name == "hidden_dropout_prob" {
            config["classifier_dropout"] = json!(0);
        }
        config
    };
    let base = losses(&none, options());
    for name in [
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "classifier_dropout",
    ] {
        let dropped = losses(&with(name), options());
        assert!(dropped != base, "{name}");
        assert!(dropped == losses(&with(name), options()), "{name}");
        let without = FinetuneConfig {
            dropout: Some(0.0),
            ..options()
        };
        assert!(losses(&with(name), without) == base, "{name}");
    }
    let seed = FinetuneConfig {
        seed: 1,
        ..options()
    };
    assert!(losses(&none, seed) != base, "another order, another head");
    // Dropped features differ from step to step: with all rows in each, only they and the order of sums do.
    let whole = FinetuneConfig {
        batch_size: 64,
        learning_rate: 1e-30,
        weight_decay: 0.0,
        ..options()
    };
    let same = losses(&none, whole.clone());
    assert!((same[0] - same[1]).abs() < 1e-6, "{same:?}");
    for name in ["hidden_dropout_prob", "classifier_dropout"] {
        let dropped = losses(&with(name), whole.clone());
        assert!(
            (dropped[0] - dropped[1]).abs() > 1e-4,
            "{name}: {dropped:?}"
        );
    }
}

#[test]
fn steps_are_made_as_they_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let train = colours(&at("train.jsonl"), 70, 1);
    let model = plain(folder.path());
    let weights = |out: &str, options: FinetuneConfig| -> (Seen, Vec<f32>, Vec<f32>) {
        let mut seen = Seen::default();
        run(&model, &[&train], &at(out), &options, &mut seen).unwrap();
        let bytes = fs::read(at(out).join("model.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let get = |name: &str| {
            let data = file.tensor(name).unwrap().data().to_vec();
            data.chunks_exact(4)
                .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
                .collect()
        };
        let table = "bert.embeddings.position_embeddings.weight";
        (seen, get(table), get("classifier.weight"))
    };
    // Rows of at most 32 tokens: the last positions have no gradient, so they only decay.
    let few = FinetuneConfig {
        epochs: 2,
        ..options()
    };
    let (seen, base, head) = weights("base", few.clone());
    // Five batches an epoch, of which one is short; a tenth of the steps is warmup.
    let rates: Vec<f64> = seen.steps.iter().map(|s| s.learning_rate).collect();
    let expected: Vec<f64> = (1..=10)
        .map(|t| 5e-3 * if t == 1 { 1.0 } else { (11 - t) as f64 / 9.0 })
        .collect();
    assert!(
        rates
            .iter()
            .zip(&expected)
            .all(|(a, b)| (a - b).abs() < 1e-12),
        "{rates:?}"
    );
    let (_, first, _) = weights(
        "still",
        FinetuneConfig {
            learning_rate: 1e-30,
            weight_decay: 0.0,
            ..few.clone()
        },
    );
    let last = 31 * 32..32 * 32;
    let kept: f64 = expected.iter().map(|rate| 1.0 - rate * 0.01).product();
    for (a, b) in base[last.clone()].iter().zip(&first[last.clone()]) {
        assert!(
            (f64::from(*a) - kept * f64::from(*b)).abs() < 1e-6,
            "{a} {b}"
        );
    }
    let (_, undecayed, _) = weights(
        "no-decay",
        FinetuneConfig {
            weight_decay: 0.0,
            ..few.clone()
        },
    );
    assert_eq!(undecayed[last.clone()], first[last]);
    assert_ne!(undecayed, first);
    // Layers far from the head all but stand still.
    let layers = FinetuneConfig {
        layer_decay: 1e-6,
        weight_decay: 0.0,
        ..few.clone()
    };
    let (_, below, above) = weights("layers", layers);
    assert!(below.iter().zip(&first).all(|(a, b)| (a - b).abs() < 1e-6));
    assert!(above.iter().zip(&head).any(|(a, b)| (a - b).abs() > 1e-4));
    let (other, ..) = weights("clip", FinetuneConfig { clip: 1e-9, ..few });
    assert_ne!(seen.steps[3].loss, other.steps[3].loss);
}

#[test]
fn the_reference_engine_learns_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let train = lines(
        &at("train.jsonl"),
        texts(40, 1).map(|(text, colour, _)| {
            let words: Vec<&str> = text.split(' ').collect();
            let tags: Vec<String> = words
                .iter()
                .map(|w| format!("{}", w.len() + colour))
                .collect();
            json!({"tokens": words, "tags": tags})
        }),
    );
    let model = plain(folder.path());
    let options = FinetuneConfig {
        epochs: 3,
        learning_rate: 1e-3,
        ..options()
    };
    let steps = |engine: EngineKind, out: &str| {
        let mut seen = Seen::default();
        let build = Build { engine, ..cpu() };
        run_on(build, &model, &[&train], &at(out), &options, &mut seen).unwrap();
        seen.steps
    };
    let (ours, theirs) = (
        steps(EngineKind::Native, "native"),
        steps(EngineKind::Reference, "reference"),
    );
    assert_eq!(ours.len(), 9);
    for (a, b) in ours.iter().zip(&theirs) {
        assert!((a.loss - b.loss).abs() < 1e-4 * b.loss, "{a:?} {b:?}");
        assert!(
            (a.grad_norm - b.grad_norm).abs() < 1e-3 * b.grad_norm,
            "{a:?} {b:?}"
        );
    }
}

#[test]
fn sentences_without_a_word_teach_nothing_and_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let rows = [
        json!({"tokens": ["red", "the"], "tags": ["X", "Y"]}),
        json!({"tokens": [], "tags": []}),
        json!({"tokens": [""], "tags": ["X"]}),
    ];
    let train = lines(&at("train.jsonl"), rows.clone());
    let dev = lines(&at("dev.jsonl"), rows.into_iter().skip(1));
    let options = FinetuneConfig {
        batch_size: 1,
        epochs: 1,
        ..options()
    };
    let mut seen = Seen::default();
    let model = plain(folder.path());
    let results = run(
        &model,
        &[&train, &dev, &dev],
        &at("out"),
        &options,
        &mut seen,
    )
    .unwrap();
    assert_eq!((seen.steps.len(), results.cut_words), (3, 2));
    assert!(
        results.dev.iter().all(|(_, spread)| spread.mean.is_none()),
        "{:?}",
        results.dev
    );
    let said = fs::read_to_string(at("out/predictions.jsonl")).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines[0],
        r#"{"row":1,"label":[],"prediction":[],"scores":[]}"#
    );
    assert_eq!(
        lines[1],
        r#"{"row":2,"label":["X"],"prediction":[null],"scores":[null]}"#
    );
}
