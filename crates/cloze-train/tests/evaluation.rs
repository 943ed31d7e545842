//! Measuring a model in several ways, each against the plain one or against its definition.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::{Path, PathBuf};

use cloze_shard::Dataset;
use cloze_shard::manifest::Masking;
use cloze_shard::masking::MaskingRule;
use cloze_train::batch::MaskedBatch;
use cloze_train::engine::{Engine, EngineState, Objective};
use cloze_train::evaluation::{EvalOptions, Evaluation};
use cloze_train::record::{StepRecord, ValidationRecord};
use cloze_train::reference::ReferenceEngine;
use cloze_train::{Begun, Build, Observer, PretrainConfig, Start, checkpoint, pretrain};
use support::{VOCAB, config, dataset};

struct Quiet;

impl Observer for Quiet {
    fn on_start(&mut self, _: &Begun<'_>) {}
    fn on_step(&mut self, _: &StepRecord) {}
    fn on_validation(&mut self, _: &ValidationRecord) {}
    fn on_checkpoint(&mut self, _: &Path) {}
}

/// A dataset and a model that has seen a little of it.
fn model(folder: &Path, masking: Masking) -> (PathBuf, PathBuf) {
    let data = dataset(folder, 60, 23, masking);
    let plan = PretrainConfig {
        steps: 20,
        batch_tokens: 64,
        learning_rate: 1e-2,
        warmup_steps: 3,
        ..PretrainConfig::default()
    };
    let run = folder.join("run");
    pretrain(
        &data,
        &Start::Config(config(folder)),
        &run,
        &plan,
        &mut Quiet,
    )
    .unwrap();
    (data, run.join("model"))
}

fn open(data: &Path, model: &Path, batch_tokens: usize) -> Evaluation {
    let options = EvalOptions {
        split: "validation".into(),
        rule: MaskingRule::default(),
        mlm_only: false,
        seed: 4,
        batch_tokens,
        build: Build::default(),
    };
    Evaluation::open(data, model, options).unwrap()
}

/// What the rows of each source give is what they give one by one: what row k gives is what the first k + 1 rows give, less what the first k do.
#[test]
fn each_source_has_its_own_rows() {
    let folder = tempfile::tempdir().unwrap();
    let (data, model) = model(folder.path(), Masking::Dynamic);
    let mut evaluation = open(&data, &model, 64);
    let mut first = |n: u64| {
        let report = evaluation.report(n, &mut |_| ()).unwrap();
        let masked = report.masked_tokens as f64;
        [
            report.mlm_loss.unwrap() * masked,
            masked,
            report.tokens as f64,
        ]
    };
    // Rows lie in turn in documents of the one and the other source.
    let mut expected = [[0.0; 3]; 2];
    let mut before = [0.0; 3];
    for row in 0..23 {
        let now = first(row + 1);
        for i in 0..3 {
            expected[row as usize % 2][i] += now[i] - before[i];
        }
        before = now;
    }
    let parts = evaluation.by_source(0, &mut |_| ()).unwrap();
    let names: Vec<&str> = parts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["even.txt", "odd.txt"]);
    let mut losses = Vec::new();
    for ((_, part), [loss, masked, tokens]) in parts.iter().zip(expected) {
        assert_eq!(
            (part.masked_tokens as f64, part.tokens as f64),
            (masked, tokens)
        );
        assert!(
            (part.mlm_loss.unwrap() - loss / masked).abs() < 1e-4,
            "{part:?}"
        );
        losses.push(loss / masked);
    }
    assert!(
        (losses[0] - losses[1]).abs() > 1e-2,
        "{losses:?}: one is told from the other"
    );
}

#[test]
fn sources_add_up_to_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (data, model) = model(folder.path(), Masking::Dynamic);
    let mut evaluation = open(&data, &model, 64);
    for rows in [0, 7] {
        let whole = evaluation.report(rows, &mut |_| ()).unwrap();
        let mut told = 0;
        let parts = evaluation.by_source(rows, &mut |n| told += n).unwrap();
        assert_eq!(told, whole.rows);
        let sum = |f: &dyn Fn(&cloze_train::eval::EvalReport) -> f64| {
            parts.iter().map(|(_, r)| f(r)).sum::<f64>()
        };
        assert_eq!(sum(&|r| r.rows as f64), whole.rows as f64);
        assert_eq!(sum(&|r| r.tokens as f64), whole.tokens as f64);
        let masked = whole.masked_tokens as f64;
        assert_eq!(sum(&|r| r.masked_tokens as f64), masked);
        let loss = sum(&|r| r.mlm_loss.unwrap() * r.masked_tokens as f64) / masked;
        assert!((loss - whole.mlm_loss.unwrap()).abs() < 1e-5);
    }
}

/// One token hidden at a time, one row at a time, by the other engine.
#[test]
fn pseudo_perplexity_is_its_definition() {
    for masking in [
        Masking::Dynamic,
        Masking::Static {
            rule: MaskingRule::default(),
        },
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (data, model) = model(folder.path(), masking);
        let (shape, parameters, _) = checkpoint::read_model(&model, 0).unwrap();
        let state = EngineState::initial(parameters);
        let mut reference = ReferenceEngine::new(&shape, Objective::Mlm, state).unwrap();
        let dataset = Dataset::open(&data).unwrap();
        let split = dataset.split("validation").unwrap();
        let (mut sum, mut tokens) = (0.0, 0);
        for number in 0..split.rows() {
            let row = split.row(number);
            let ids = row.original_ids();
            for (place, &id) in ids.iter().enumerate().filter(|(_, id)| **id >= 5) {
                let mut seen = ids.clone();
                seen[place] = 4;
                let mut batch = MaskedBatch::new();
                let b_start = usize::from(row.b_start);
                batch.push(&seen, b_start, None, &[place as u16], &[id]);
                let said = reference.log_probabilities(&batch).unwrap();
                assert_eq!(said.len(), VOCAB);
                sum -= f64::from(said[id as usize]);
                tokens += 1;
            }
        }
        let expected = (sum / f64::from(tokens)).exp();
        for batch_tokens in [16, 200] {
            let mut evaluation = open(&data, &model, batch_tokens);
            let mut told = 0;
            let found = evaluation.pseudo_perplexity(0, &mut |n| told += n).unwrap();
            assert_eq!((found.tokens, found.rows, told), (tokens as u64, 23, 23));
            let off = (found.pseudo_perplexity / expected - 1.0).abs();
            assert!(off < 1e-4, "{found:?} {expected}");
            let part = evaluation.pseudo_perplexity(5, &mut |_| ()).unwrap();
            assert_eq!(part.rows, 5);
            assert!(part.tokens < found.tokens);
        }
    }
}

#[test]
fn samples_show_what_the_model_says() {
    let folder = tempfile::tempdir().unwrap();
    let (data, model) = model(folder.path(), Masking::Dynamic);
    let mut evaluation = open(&data, &model, 64);
    let samples = evaluation.samples(6, 3).unwrap();
    assert_eq!(samples.len(), 6);
    assert_eq!(samples, evaluation.samples(6, 3).unwrap());
    for sample in &samples {
        assert!(!sample.masked.is_empty() && sample.is_next.is_some());
        for hidden in &sample.masked {
            assert!(hidden.token.starts_with('w'), "{hidden:?}");
            assert_eq!(hidden.predictions.len(), 3);
            let p: Vec<f64> = hidden.predictions.iter().map(|(_, p)| *p).collect();
            assert!(p[0] >= p[1] && p[1] >= p[2] && p[2] > 0.0 && p.iter().sum::<f64>() <= 1.0);
        }
        assert!(sample.text().starts_with("[CLS]"), "{}", sample.text());
    }
    // Many more than there are: all.
    assert_eq!(evaluation.samples(1_000, 1).unwrap().len(), 23);
}
