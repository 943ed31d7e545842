//! What engines give to heads that others compute: the encoder's output and its way back, probabilities of all entries.
//!
//! Tolerances as in `native.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use cloze_kernels::cpu::Cpu;
use cloze_kernels::cpu::isa::{Isa, Precision};
use cloze_train::BertConfig;
use cloze_train::engine::{
    Dropout, Engine, EngineState, Objective, Optimizer, OptimizerStep, Whole,
};
use cloze_train::native::NativeEngine;
use cloze_train::reference::{ReferenceEngine, head_mask};
use support::model::{NEXT, RANDOM, VOCAB, batch, config, largest, weights};

const DROPOUT: Dropout = Dropout {
    seed: 3,
    step: 9,
    hidden: 0.1,
    attention: 0.2,
};

fn native(config: &BertConfig) -> NativeEngine<Cpu> {
    let cpu = Cpu::with(Isa::best(), Precision::F32).unwrap();
    let state = EngineState::initial(weights(config));
    NativeEngine::new(cpu, config, Objective::MlmNsp, state).unwrap()
}

fn reference(config: &BertConfig) -> ReferenceEngine {
    let state = EngineState::initial(weights(config));
    ReferenceEngine::new(config, Objective::MlmNsp, state).unwrap()
}

fn near(a: &[f32], b: &[f32], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    let off = a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(off <= 3e-5 * largest(b) + 2e-6, "{what}: off by {off:e}");
}

/// A loss by the encoder's output whose gradient is known: the sum of the output times numbers without pattern.
fn wave(n: usize) -> Vec<f32> {
    (0..n)
        .map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0)
        .collect()
}

#[test]
fn the_encoder_and_its_way_back_equal_the_reference() {
    for (hidden, heads, lengths) in [
        (32, 1, &[3, 3, 3][..]),
        (64, 2, &[17]),
        (30, 5, &[9, 40, 1]),
    ] {
        let config = config(hidden, heads, 64, 2, "gelu");
        // Masks and labels play no part.
        let batch = batch(lengths, 1, &[NEXT, RANDOM]);
        let whole = Whole {
            first_token: 40,
            ..Whole::of(&batch)
        };
        for dropout in [None, Some(&DROPOUT)] {
            let what = format!("{lengths:?}, dropout {}", dropout.is_some());
            let mut expected = reference(&config);
            let gradient = wave(batch.tokens() * hidden);
            let there = expected.encode(&batch, &whole, dropout).unwrap();
            expected
                .encode_backward(&batch, dropout, &gradient)
                .unwrap();
            let d = expected.gradients().unwrap();
            assert!(largest(&d) > 0.1);
            let filled_up = native(&config).alike();
            let engines: [(&str, Box<dyn Engine>); 2] = [
                ("plain", Box::new(native(&config))),
                ("filled up", Box::new(filled_up)),
            ];
            for (name, mut engine) in engines {
                let what = format!("{what}, {name}");
                // The room was used for something larger before.
                let large = support::model::batch(&[60, 70], 2, &[NEXT]);
                engine
                    .accumulate(&large, &Whole::of(&large), Some(&DROPOUT))
                    .unwrap();
                engine.step(&still(1)).unwrap();
                near(
                    &engine.encode(&batch, &whole, dropout).unwrap(),
                    &there,
                    &what,
                );
                engine.encode_backward(&batch, dropout, &gradient).unwrap();
                let ours = engine.gradients().unwrap();
                for p in engine.layout().parameters() {
                    // A key's bias has no gradient but for rounding.
                    if !p.name.ends_with("key.bias") {
                        let what = format!("{what}: {}", p.name);
                        near(&ours[p.range()], &d[p.range()], &what);
                    }
                }
            }
        }
    }
}

/// A step that changes nothing.
fn still(step: u64) -> OptimizerStep {
    OptimizerStep {
        step,
        learning_rate: 0.0,
        weight_decay: 0.0,
        betas: (0.9, 0.999),
        eps: 1e-8,
        clip: 0.0,
        layer_decay: 1.0,
        optimizer: Optimizer::AdamW,
    }
}

#[test]
fn parameters_of_other_heads_are_optimised_with_all_others() {
    let mut config = config(32, 2, 64, 1, "gelu");
    config.heads = vec![
        ("classifier.weight".into(), vec![3, 32]),
        ("classifier.bias".into(), vec![3]),
    ];
    let engines: [Box<dyn Engine>; 2] = [Box::new(native(&config)), Box::new(reference(&config))];
    for mut engine in engines {
        let find = |e: &dyn Engine, name: &str| e.layout().find(name).unwrap().clone();
        let (weight, bias) = (
            find(engine.as_ref(), "classifier.weight"),
            find(engine.as_ref(), "classifier.bias"),
        );
        let before = engine.parameters().unwrap();
        let gradient = wave(96);
        engine.add_gradient(&weight, &gradient[..90]).unwrap();
        engine.add_gradient(&weight, &gradient).unwrap();
        engine.add_gradient(&bias, &[3.0, 0.0, -4.0]).unwrap();
        let norm = 25.0
            + (gradient.iter().enumerate())
                .map(|(i, g)| f64::from(if i < 90 { 2.0 * g } else { *g }).powi(2))
                .sum::<f64>();
        let step = OptimizerStep {
            learning_rate: 1e-3,
            ..still(1)
        };
        engine.step(&step).unwrap();
        let found = engine.outcome().unwrap().grad_norm;
        assert!((found - norm.sqrt()).abs() < 1e-5 * found, "{found} {norm}");
        let after = engine.parameters().unwrap();
        // The first step of Adam: by the rate, against the gradient's sign.
        for (i, g) in gradient.iter().enumerate() {
            let way = after[weight.offset + i] - before[weight.offset + i];
            let expected = if *g == 0.0 { 0.0 } else { -1e-3 * g.signum() };
            assert!((way - expected).abs() < 1e-6, "{i}: {way} {expected}");
        }
        let way = |i: usize| after[bias.offset + i] - before[bias.offset + i];
        assert!((way(0) + 1e-3).abs() < 1e-6 && way(1) == 0.0 && (way(2) - 1e-3).abs() < 1e-6);
    }
}

#[test]
fn probabilities_are_those_that_are_measured() {
    let config = config(32, 2, 64, 2, "gelu");
    let batch = batch(&[7, 31, 13], 1, &[NEXT, RANDOM]);
    let mut reference = reference(&config);
    let theirs = reference.log_probabilities(&batch).unwrap();
    let filled_up = native(&config).alike();
    let engines: [Box<dyn Engine>; 2] = [Box::new(native(&config)), Box::new(filled_up)];
    for mut engine in engines {
        let ours = engine.log_probabilities(&batch).unwrap();
        assert_eq!(ours.len(), batch.masked() * VOCAB);
        near(&ours, &theirs, "log probabilities");
        let sums = engine.evaluate(&batch).unwrap();
        let (mut loss, mut correct) = (0.0, 0);
        for (row, &label) in ours.chunks(VOCAB).zip(&batch.masked_labels) {
            let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
            assert!((sum - 1.0).abs() < 1e-5, "{sum}");
            loss -= f64::from(row[label as usize]);
            let best = (0..VOCAB).max_by(|&a, &b| row[a].total_cmp(&row[b]));
            correct += u64::from(best == Some(label as usize));
        }
        assert!((loss - sums.mlm_loss).abs() < 1e-4 * loss);
        assert_eq!(correct, sums.mlm_correct);
        let empty = cloze_train::batch::MaskedBatch::new();
        assert!(engine.log_probabilities(&empty).unwrap().is_empty());
        let nothing = engine.encode(&empty, &Whole::of(&empty), None).unwrap();
        assert!(nothing.is_empty());
        engine.encode_backward(&empty, None, &[]).unwrap();
    }
}

#[test]
fn a_heads_mask_drops_its_share_and_keeps_the_mean() {
    let mask = head_mask(&DROPOUT, 0.25, 400, 96);
    let dropped = mask.iter().filter(|&&m| m == 0.0).count() as f64 / mask.len() as f64;
    // Four standard errors of 38,400 draws.
    assert!(
        (dropped - 0.25).abs() < 4.0 * (0.25f64 * 0.75 / 38_400.0).sqrt(),
        "{dropped}"
    );
    assert!(
        mask.iter()
            .all(|&m| m == 0.0 || (m - 4.0 / 3.0).abs() < 1e-6)
    );
    assert!(
        mask != head_mask(
            &Dropout {
                step: 10,
                ..DROPOUT
            },
            0.25,
            400,
            96
        )
    );
    assert!(head_mask(&DROPOUT, 0.25, 7, 96)[..] == mask[..7 * 96]);
}
