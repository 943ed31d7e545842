//! Fine-tuning a tiny model on toy tasks.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cut;
mod errors;
mod steps;
mod support;

use std::fs;
use std::path::Path;

use cloze_task::finetune::FinetuneConfig;
use serde_json::{Value, json};
use support::{Seen, WORDS, colours, lines, model, options, plain, run, shape, test_metric, texts};

/// Learns what `row` makes of texts, and gives a metric on 100 others.
fn learned(metric: &str, row: impl Fn((String, usize, usize)) -> Value) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let files = [
        ("train.jsonl", 400, 1),
        ("dev.jsonl", 60, 2),
        ("test.jsonl", 100, 3),
    ]
    .map(|(name, n, seed)| lines(&at(name), texts(n, seed).map(&row)));
    let files: Vec<&Path> = files.iter().map(AsRef::as_ref).collect();
    let results = run(
        &plain(folder.path()),
        &files,
        &at("out"),
        &options(),
        &mut Seen::default(),
    )
    .unwrap();
    assert_eq!(results.rows, [400, 60, 100]);
    test_metric(&results, metric)
}

#[test]
fn a_class_is_learned() {
    let accuracy = learned(
        "accuracy",
        |(text, colour, _)| json!({"text": text, "label": WORDS[colour]}),
    );
    assert!(accuracy > 0.95, "{accuracy}");
}

#[test]
fn which_of_two_texts_is_which_is_learned() {
    let accuracy = learned("accuracy", |(text, colour, animal)| {
        let other = "the dog is red";
        let first = (colour + animal) % 2 == 0;
        let (a, b) = if first {
            (text.as_str(), other)
        } else {
            (other, text.as_str())
        };
        json!({"text": a, "text_pair": b, "label": u8::from(first)})
    });
    assert!(accuracy > 0.95, "{accuracy}");
}

#[test]
fn a_number_is_learned() {
    let correlation = learned(
        "pearson",
        |(text, colour, _)| json!({"text": text, "label": colour as f64 / 2.0}),
    );
    assert!(correlation > 0.95, "{correlation}");
}

#[test]
fn several_labels_are_learned() {
    let exact = learned("subset_accuracy", |(text, colour, animal)| {
        let labels = [
            (colour == 1, "green"),
            (animal == 2, "cow"),
            (animal > 0, "no dog"),
        ];
        let labels: Vec<&str> = labels.iter().filter(|l| l.0).map(|l| l.1).collect();
        json!({"text": text, "label": labels})
    });
    assert!(exact > 0.95, "{exact}");
}

#[test]
fn tags_are_learned() {
    let f1 = learned("entity_f1", |(text, ..)| {
        let words: Vec<&str> = text.split(' ').collect();
        let colour = |w: &&str| WORDS[..3].contains(w);
        let animal = |w: &&str| w.len() > 2 && WORDS[3..6].contains(&&w[..w.len() - 1]);
        let tags: Vec<&str> = (0..words.len())
            .map(|i| match (animal(&words[i]), colour(&words[i])) {
                (true, _) if i > 0 && colour(&words[i - 1]) => "I-X",
                (true, _) => "B-Y",
                (_, true) => "B-X",
                _ => "O",
            })
            .collect();
        json!({"tokens": words, "tags": tags})
    });
    assert!(f1 > 0.95, "{f1}");
}

#[test]
fn the_same_seed_gives_the_same_bytes_with_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let files = [
        colours(&at("train.jsonl"), 70, 1),
        colours(&at("dev.jsonl"), 30, 2),
        colours(&at("test.jsonl"), 30, 3),
    ];
    let files: Vec<&Path> = files.iter().map(AsRef::as_ref).collect();
    let model = plain(folder.path());
    let train = |jobs: usize, seed: u64| -> Vec<Vec<u8>> {
        let out = at(&format!("out-{jobs}-{seed}"));
        let options = FinetuneConfig {
            epochs: 2,
            seeds: 2,
            seed,
            ..options()
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(jobs)
            .build()
            .unwrap();
        pool.install(|| run(&model, &files, &out, &options, &mut Seen::default()))
            .unwrap();
        let names = [
            "config.json",
            "model.safetensors",
            "predictions.jsonl",
            "results.json",
        ];
        names.map(|name| fs::read(out.join(name)).unwrap()).into()
    };
    let one = train(1, 0);
    assert!(one == train(3, 0));
    let other = train(2, 5);
    assert!(one[0] == other[0] && one[1] != other[1] && one[2] != other[2]);
    let results: Value = serde_json::from_slice(&one[3]).unwrap();
    let value = |seed: usize| results["seeds"][seed]["dev"]["accuracy"].as_f64().unwrap();
    assert_eq!(
        results["dev"]["accuracy"]["mean"],
        (value(0) + value(1)) / 2.0
    );
    let kept = usize::from(value(1) > value(0));
    assert_eq!(results["kept_seed"], kept);
    assert_ne!(
        results["seeds"][0]["dev"]["loss"],
        results["seeds"][1]["dev"]["loss"]
    );
}

#[test]
fn the_best_is_kept_and_training_stops_where_none_is_better() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let train = colours(&at("train.jsonl"), 96, 1);
    // What is learned is wrong here: the longer, the worse.
    let dev = lines(
        &at("dev.jsonl"),
        texts(60, 2)
            .map(|(text, colour, _)| json!({"text": text, "label": WORDS[(colour + 1) % 3]})),
    );
    let model = plain(folder.path());
    let mut seen = Seen::default();
    let options = FinetuneConfig {
        eval_every: 4,
        patience: Some(3),
        ..options()
    };
    let results = run(
        &model,
        &[&train, &dev, &dev],
        &at("out"),
        &options,
        &mut seen,
    )
    .unwrap();
    let seed = &results.seeds[0];
    let best = seen.evaluations.iter().rposition(|e| e.1).unwrap();
    assert_eq!(seen.evaluations.len(), best + 1 + 3);
    assert_eq!(seed.steps, 4 * (best as u64 + 4));
    assert!(seed.steps < 48 && seed.steps as usize == seen.steps.len());
    assert_eq!(seed.best_step, 4 * (best as u64 + 1));
    assert_eq!(seed.dev.as_ref(), Some(&seen.evaluations[best].0.dev));
    assert_eq!(
        seed.dev, seed.test,
        "the best model is measured, not the last"
    );
    assert_ne!(
        seed.dev.as_ref(),
        Some(&seen.evaluations.last().unwrap().0.dev)
    );
    // By its loss, another may be the best; the lower the better.
    let by_loss = FinetuneConfig {
        metric: Some("loss".into()),
        ..options
    };
    let mut seen = Seen::default();
    let results = run(&model, &[&train, &dev], &at("by-loss"), &by_loss, &mut seen).unwrap();
    let losses: Vec<f64> = seen
        .evaluations
        .iter()
        .map(|e| e.0.value("loss").unwrap())
        .collect();
    let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(
        results.dev.iter().find(|m| m.0 == "loss").unwrap().1.mean,
        Some(least)
    );
    assert!(!at("by-loss/predictions.jsonl").exists());
}

#[test]
fn what_is_written_begins_where_training_ended() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (train, test) = (
        colours(&at("train.jsonl"), 96, 1),
        colours(&at("test.jsonl"), 40, 2),
    );
    // Without the heads of pre-training, the pooler too.
    let model = model(folder.path(), &shape(), &[], |name| {
        name.starts_with("bert.e")
    });
    let mut seen = Seen::default();
    let out = at("parts/of/the/way/out");
    let first = run(&model, &[&train, &test, &test], &out, &options(), &mut seen).unwrap();
    for name in [
        "bert.pooler.dense.weight",
        "classifier.weight",
        "classifier.bias",
    ] {
        assert!(seen.drawn.iter().any(|n| n == name), "{name}");
    }
    let config: Value =
        serde_json::from_slice(&fs::read(out.join("config.json")).unwrap()).unwrap();
    assert_eq!(
        config["architectures"],
        json!(["BertForSequenceClassification"])
    );
    assert_eq!(config["problem_type"], "single_label_classification");
    assert_eq!(
        config["id2label"],
        json!({"0": "blue", "1": "green", "2": "red"})
    );
    assert_eq!(config["label2id"], json!({"blue": 0, "green": 1, "red": 2}));
    assert_eq!(config["hidden_dropout_prob"], 0.1);
    // A step that changes nothing: what was written is measured.
    let still = FinetuneConfig {
        epochs: 1,
        learning_rate: 1e-30,
        weight_decay: 0.0,
        ..options()
    };
    let mut seen = Seen::default();
    let again = run(
        &out,
        &[&train, &test, &test],
        &at("again"),
        &still,
        &mut seen,
    )
    .unwrap();
    assert!(!seen.drawn.iter().any(|n| n.starts_with("classifier")) && !seen.redrawn);
    assert_eq!(again.seeds[0].test, first.seeds[0].test);
    assert_eq!(
        fs::read(out.join("predictions.jsonl")).unwrap(),
        fs::read(at("again/predictions.jsonl")).unwrap()
    );
    // Other labels, as many: the output layer is drawn anew.
    let animals = lines(
        &at("animals.jsonl"),
        texts(40, 3).map(|(text, _, animal)| json!({"text": text, "label": WORDS[3 + animal]})),
    );
    let mut seen = Seen::default();
    run(
        &out,
        &[&animals, &animals],
        &at("animals"),
        &still,
        &mut seen,
    )
    .unwrap();
    assert!(seen.redrawn);
    let loss = seen.evaluations[0].0.value("loss").unwrap();
    assert!(
        loss < 2.0,
        "{loss}: nothing is left of what was learned about colours"
    );
}

/// A 0 or 1 for each label says what a list of the labels says, however they are written.
#[test]
fn lists_of_zeros_and_ones_are_sets_of_labels() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let model = plain(folder.path());
    let results = |name: &str, row: &dyn Fn(usize, usize) -> Value| {
        let files = [("train", 60, 1), ("dev", 20, 2)].map(|(set, n, seed)| {
            let rows = texts(n, seed).map(|(text, a, b)| json!({"text": text, "label": row(a, b)}));
            lines(&at(&format!("{name}-{set}.jsonl")), rows)
        });
        let files: Vec<&Path> = files.iter().map(AsRef::as_ref).collect();
        let options = FinetuneConfig {
            epochs: 1,
            ..options()
        };
        let results = run(&model, &files, &at(name), &options, &mut Seen::default()).unwrap();
        assert_eq!(results.labels, ["0", "1", "2"], "{name}");
        let weights = fs::read(at(name).join("model.safetensors")).unwrap();
        (results.seeds, weights)
    };
    let has = |a: usize, b: usize| (0..3).map(move |i| i == a || i == b);
    let sets = results("sets", &|a, b| {
        (0..3).zip(has(a, b)).filter(|x| x.1).map(|x| x.0).collect()
    });
    for (name, write) in [
        (
            "numbers",
            (|has| json!(i32::from(has))) as fn(bool) -> Value,
        ),
        ("points", |has| json!(f64::from(u8::from(has)))),
        ("booleans", |has| json!(has)),
    ] {
        let hot = results(name, &|a, b| has(a, b).map(write).collect());
        assert!(hot == sets, "{name}");
    }
    // Others must be as those to learn from.
    for bad in [json!([0, 1]), json!([0, 1, 2]), json!(["0", "1", "1"])] {
        let dev = lines(&at("bad.jsonl"), [json!({"text": "red", "label": bad})]);
        let files = [at("numbers-train.jsonl"), dev];
        let files: Vec<&Path> = files.iter().map(AsRef::as_ref).collect();
        let error = run(&model, &files, &at("bad"), &options(), &mut Seen::default()).unwrap_err();
        assert!(error.to_string().contains("are not 3 numbers"), "{error}");
    }
}
