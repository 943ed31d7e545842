//! A task is learned from a run's model, on the executables.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;

use cloze_tests::{Place, document};
use serde_json::{Value, json};

/// Writes labelled documents: whether one is long.
fn examples(place: &Place, name: &str, numbers: std::ops::Range<usize>) {
    let rows = numbers.map(|i| {
        let text = document(i);
        let label = if text.len() > 90 { "long" } else { "short" };
        format!("{}\n", json!({"body": text, "label": label}))
    });
    place.write(name, rows.collect::<String>());
}

#[test]
fn a_runs_model_learns_a_task() {
    let place = Place::new();
    place.write_config();
    place.prepare("corpus.jsonl", "data", "--seq-len 32");
    let _ = place
        .cloze("pretrain data --config config.json --out run --steps 2 --batch-tokens 256 --warmup-steps 0 --jobs 1")
        .status(0);
    examples(&place, "train.jsonl", 0..60);
    examples(&place, "dev.jsonl", 60..90);
    examples(&place, "test.jsonl", 90..110);
    let finetune = |out: &str, options: &str| {
        place.cloze(&format!(
            "finetune --model run/model --train train.jsonl --dev dev.jsonl --test test.jsonl --text-field body --jobs 1 --device cpu --out {out} {options}"
        ))
    };
    let ran = finetune("task", "--epochs 2 --seeds 2").status(0).says(&[
        "classification, chosen because \"label\" holds text; 2 labels: long, short",
        "60 to learn from, 30 dev, 20 test",
        "classifier.weight",
        "seed 1",
        "longer than --max-length",
    ]);
    for shown in [
        "accuracy",
        "f1_macro",
        "mcc",
        " ± ",
        "dev",
        "test",
        "task: the model of seed",
    ] {
        assert!(ran.out().contains(shown), "{shown}: {}", ran.out());
    }
    let read = |name: &str| fs::read_to_string(place.path(name)).unwrap();
    assert_eq!(read("task/predictions.jsonl").lines().count(), 20);
    for name in [
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "vocab.txt",
    ] {
        assert!(place.path(&format!("task/{name}")).exists(), "{name}");
    }
    let ran = finetune("again", "--epochs 2 --seeds 2 --json").status(0);
    let printed: Value = serde_json::from_str(&ran.out()).unwrap();
    let results: Value = serde_json::from_str(&read("task/results.json")).unwrap();
    assert_eq!(printed, results, "the same seeds, the same results");
    // What is there is left alone.
    let _ = finetune("task", "")
        .status(2)
        .says(&["holds files already", "hint: "]);
    place.write("dev.jsonl", "{\"body\": \"x\", \"label\": \"huge\"}\n");
    let _ = finetune("bad", "").status(2).says(&[
        "dev.jsonl: line 1: ",
        "\"huge\"",
        "no other row has one",
        "hint: ",
    ]);
    let rows = ["long", "huge", "tiny", "huge"];
    let rows = rows.map(|label| format!("{}\n", json!({"body": "x", "label": label})));
    place.write("dev.jsonl", rows.concat());
    let _ = finetune("bad", "").status(2).says(&[
        "dev.jsonl: line 2: ",
        "3 rows have such labels (huge, tiny)",
    ]);
    assert!(!place.path("bad").exists());
}
