//! Sentence order prediction: which rows are turned, what becomes of their tokens and masks, and that it is learned.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;

use cloze_shard::manifest::Masking;
use cloze_shard::masking::MaskingRule;
use cloze_shard::{Dataset, NextSentenceLabel};
use cloze_train::engine::Objective;
use cloze_train::evaluation::{EvalOptions, Evaluation};
use cloze_train::feed::Feed;
use cloze_train::record::{StepRecord, ValidationRecord};
use cloze_train::{Begun, Build, Observer, PretrainConfig, Start, pretrain};
use support::{VOCAB, config, dataset};

struct Quiet;

impl Observer for Quiet {
    fn on_start(&mut self, _: &Begun<'_>) {}
    fn on_step(&mut self, _: &StepRecord) {}
    fn on_validation(&mut self, _: &ValidationRecord) {}
    fn on_checkpoint(&mut self, _: &Path) {}
}

/// Says in the manifest that the dataset was prepared for another objective.
fn made_for(dataset: &Path, objective: &str) {
    let path = dataset.join("manifest.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    manifest["objective"] = objective.into();
    manifest["format_version"] = 3.into();
    std::fs::write(path, manifest.to_string()).unwrap();
}

/// An objective that the rows have no labels for is refused, with one that they have.
#[test]
fn rows_without_the_labels_are_refused() {
    for (rows, objective, hint) in [
        ("sop", Objective::MlmNsp, Some("mlm+sop")),
        ("full-sentences", Objective::MlmNsp, Some("mlm,")),
        ("doc-sentences", Objective::MlmSop, Some("mlm,")),
        ("doc-sentences", Objective::Mlm, None),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let data = dataset(folder.path(), 40, 10, Masking::Dynamic);
        made_for(&data, rows);
        let asked = PretrainConfig {
            objective,
            steps: 1,
            warmup_steps: 0,
            batch_tokens: 64,
            ..PretrainConfig::default()
        };
        let start = Start::Config(config(folder.path()));
        let run = folder.path().join("run");
        let outcome = pretrain(&data, &start, &run, &asked, &mut Quiet);
        match (outcome, hint) {
            (Ok(_), None) => {}
            (Err(error), Some(hint)) => {
                let said = format!("{error} {}", error.hint().unwrap());
                assert!(said.contains(rows) && said.contains(hint), "{said}");
            }
            (outcome, _) => panic!("{rows}: {:?}", outcome.map(|s| s.steps)),
        }
    }
}

/// Every row of an epoch, beside the row that it was made of, from the definition.
#[test]
fn half_of_the_rows_that_go_on_are_turned() {
    let fixed = Masking::Static {
        rule: MaskingRule::default(),
    };
    for (masking, sop) in [
        (Masking::Dynamic, false),
        (fixed, false),
        (Masking::Dynamic, true),
        (fixed, true),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = dataset(folder.path(), 2_000, 0, masking);
        if sop {
            made_for(&path, "sop");
        }
        let data = Dataset::open(&path).unwrap();
        let split = data.split("train").unwrap();
        let feed = |epoch| {
            let feed = Feed::new(&data, split, MaskingRule::default(), 7, 64, VOCAB).unwrap();
            let mut feed = feed.sentence_order(true);
            feed.seek(cloze_train::feed::Position {
                epoch,
                row_in_epoch: 0,
            });
            feed
        };
        let (mut plain, mut other) = (feed(0), feed(1));
        let (mut turned, mut labelled, mut moved) = (0u32, 0u32, 0u32);
        for number in 0..2_000 {
            let row = split.row(number);
            let batch = plain.row(number).unwrap();
            let label = batch.next_sentence_labels[0];
            // The row as it was before masks.
            let mut ids = batch.input_ids.clone();
            for (&p, &id) in batch.masked_positions.iter().zip(&batch.masked_labels) {
                ids[p as usize] = id;
            }
            assert!(batch.masked_positions.is_sorted() && !batch.masked_positions.is_empty());
            let (a, b) = (row.segment_a().to_vec(), row.segment_b().to_vec());
            let original = row.original_ids();
            let (a, b) = match &row.masks {
                None => (a, b),
                Some(_) => {
                    let b_start = usize::from(row.b_start);
                    let end = original.len() - 1;
                    (
                        original[1..b_start - 1].to_vec(),
                        original[b_start..end].to_vec(),
                    )
                }
            };
            // Of sentence order prediction, the label 1 says that B stood before A.
            let was_turned = sop && row.next_sentence_label == Some(NextSentenceLabel::NotNext);
            let (a, b) = if was_turned { (b, a) } else { (a, b) };
            let pair = |x: &[u32], y: &[u32]| [&[2], x, &[3], y, &[3]].concat();
            let expected = match label {
                Some(NextSentenceLabel::NotNext) => pair(&b, &a),
                _ => pair(&a, &b),
            };
            assert_eq!(ids, expected, "{number}");
            let first = if expected == pair(&a, &b) {
                a.len()
            } else {
                b.len()
            };
            let types = batch.token_type_ids.iter().filter(|&&t| t == 0).count();
            assert_eq!(types, first + 2);
            match row.next_sentence_label {
                Some(stored) if sop || stored == NextSentenceLabel::IsNext => {
                    labelled += 1;
                    turned += u32::from(label == Some(NextSentenceLabel::NotNext));
                    let again = other.row(number).unwrap().next_sentence_labels[0];
                    moved += u32::from(again != label);
                }
                _ => assert_eq!(label, None, "segments that do not follow one another"),
            }
        }
        // Four standard errors of a fair coin.
        for count in [turned, moved] {
            let off = f64::from(count) - f64::from(labelled) / 2.0;
            assert!(
                off.abs() < 2.0 * f64::from(labelled).sqrt(),
                "{count} of {labelled}"
            );
        }
        assert_eq!(labelled, if sop { 2_000 } else { 1_000 });
    }
}

#[test]
fn shares_of_ranks_are_parts_of_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let data = Dataset::open(&dataset(folder.path(), 80, 0, Masking::Dynamic)).unwrap();
    let split = data.split("train").unwrap();
    let feed = || {
        let feed = Feed::new(&data, split, MaskingRule::default(), 7, 100, VOCAB).unwrap();
        feed.sentence_order(true)
    };
    let (mut whole, mut first, mut second) = (feed(), feed(), feed());
    for _ in 0..12 {
        let all = whole.next_share(0, 1).unwrap().unwrap();
        let parts = [
            first.next_share(0, 2).unwrap().unwrap(),
            second.next_share(1, 2).unwrap().unwrap(),
        ];
        assert_eq!(all.counts, all.batch.counts());
        for part in &parts {
            assert_eq!(part.counts, all.counts);
        }
        let mut joined = parts[0].batch.clone();
        joined.append(&parts[1].batch);
        assert_eq!(joined, all.batch);
    }
}

#[test]
fn order_is_learned_and_measured_as_order() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 4_000, 200, Masking::Dynamic);
    let run = folder.path().join("run");
    let plan = PretrainConfig {
        objective: Objective::MlmSop,
        // Four seeds in four learn it by then, at 400 steps one does.
        steps: 600,
        batch_tokens: 1_024,
        learning_rate: 1e-2,
        warmup_steps: 40,
        eval_every: 0,
        dropout: Some(0.0),
        ..PretrainConfig::default()
    };
    let start = Start::Config(config(folder.path()));
    let summary = pretrain(&data, &start, &run, &plan, &mut Quiet).unwrap();
    let report = summary.validation.unwrap();
    assert!(report.sop_accuracy.unwrap() > 0.7, "{report:?}");
    assert_eq!((report.nsp_loss, report.nsp_accuracy), (None, None));
    assert_eq!(report.labelled_rows, 100);
    let log = std::fs::read_to_string(run.join("train.jsonl")).unwrap();
    assert!(log.contains("\"sop_loss\":") && !log.contains("\"nsp_loss\":0."));
    // The model says what its head was trained for.
    let options = EvalOptions {
        split: "validation".into(),
        rule: MaskingRule::default(),
        mlm_only: false,
        seed: 0,
        batch_tokens: 1_024,
        build: Build::default(),
    };
    let measure = |model: &Path| {
        let mut again = Evaluation::open(&data, model, options.clone()).unwrap();
        again.report(0, &mut |_| ()).unwrap()
    };
    assert_eq!(measure(&run.join("model")), report);
    // Beside models of other objectives its MLM loss is that of rows as they are stored: whatever it says that it was trained for.
    let stored = |model: &Path| {
        let options = EvalOptions {
            mlm_only: true,
            ..options.clone()
        };
        let mut again = Evaluation::open(&data, model, options).unwrap();
        again.report(0, &mut |_| ()).unwrap()
    };
    let of_order = stored(&run.join("model"));
    assert_eq!(of_order.sop_accuracy, None);
    assert_ne!(of_order.mlm_loss, report.mlm_loss);
    let path = run.join("model/config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("mlm+sop", "mlm+nsp")).unwrap();
    assert_eq!(stored(&run.join("model")), of_order);
    assert_eq!(measure(&run.join("model")).mlm_loss, of_order.mlm_loss);
    std::fs::write(&path, text).unwrap();
    // MLM alone leaves that head as it was; one that it begins with is noise.
    let alone = PretrainConfig {
        objective: Objective::Mlm,
        steps: 1,
        warmup_steps: 0,
        learning_rate: 1e-6,
        ..plan
    };
    let further = folder.path().join("further");
    let start = Start::Init(run.join("model"));
    pretrain(&data, &start, &further, &alone, &mut Quiet).unwrap();
    let found = measure(&further.join("model"));
    assert!(found.sop_accuracy.unwrap() > 0.7 && found.nsp_accuracy.is_none());
    let scratch = folder.path().join("scratch");
    let start = Start::Config(config(folder.path()));
    pretrain(&data, &start, &scratch, &alone, &mut Quiet).unwrap();
    let found = measure(&scratch.join("model"));
    assert!(found.mlm_loss.is_some());
    assert_eq!((found.sop_accuracy, found.nsp_accuracy), (None, None));
}
