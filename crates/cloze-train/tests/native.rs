//! The native engine against the reference engine: the same losses and gradients, dropout included, on awkward batches.
//!
//! Tolerance: as in `golden.rs`, |a − b| ≤ 3e-5 · (largest of the tensor) + 2e-6: both sum in single precision, in other orders.
//! With factors rounded to bf16, each product is off by some 2⁻⁹ of its terms: gradients within 5 % of the tensor's largest, losses within 1 %.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use cloze_kernels::cpu::Cpu;
use cloze_kernels::cpu::isa::{Isa, Precision};
use cloze_shard::NextSentenceLabel;
use cloze_train::BertConfig;
use cloze_train::batch::MaskedBatch;
use cloze_train::engine::{
    BatchLoss, Dropout, Engine, EngineState, Objective, Optimizer, OptimizerStep, Whole,
};
use cloze_train::native::NativeEngine;
use cloze_train::reference::ReferenceEngine;
use support::model::{NEXT, RANDOM, batch, config, largest, weights};

fn native(
    config: &BertConfig,
    isa: Isa,
    precision: Precision,
    objective: Objective,
) -> NativeEngine<Cpu> {
    let cpu = Cpu::with(isa, precision).unwrap();
    NativeEngine::new(
        cpu,
        config,
        objective,
        EngineState::initial(weights(config)),
    )
    .unwrap()
}

fn usable() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|&isa| isa <= Isa::best())
}

/// Adds a batch's gradients; the losses so far.
fn accumulate(
    engine: &mut dyn Engine,
    batch: &MaskedBatch,
    dropout: Option<&Dropout>,
) -> BatchLoss {
    let whole = Whole::of(batch);
    engine.accumulate(batch, &whole, dropout).unwrap();
    engine.outcome().unwrap().loss
}

/// Compares every gradient; `relative` of the tensor's largest is allowed.
fn compare(
    ours: &mut dyn Engine,
    theirs: &mut dyn Engine,
    relative: f32,
    absolute: f32,
    what: &str,
) {
    let (a, b) = (ours.gradients().unwrap(), theirs.gradients().unwrap());
    let all = largest(&b);
    for p in theirs.layout().parameters() {
        let (a, b) = (&a[p.range()], &b[p.range()]);
        // Key biases have a gradient of zero but for rounding: there the query's sets the scale.
        let scale = if p.name.ends_with("key.bias") {
            all
        } else {
            largest(b)
        };
        let off = a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(
            off <= relative * scale + absolute,
            "{what}: {}: off by {off:.2e} of {scale:.2e}",
            p.name
        );
    }
}

/// Name, hidden size, heads, inner size, activation, lengths of rows, masks in five tokens, labels.
type Case = (
    &'static str,
    usize,
    usize,
    usize,
    &'static str,
    &'static [usize],
    usize,
    &'static [Option<NextSentenceLabel>],
);

const CASES: [Case; 7] = [
    (
        "rows of three tokens",
        32,
        1,
        64,
        "gelu",
        &[3, 3, 3],
        1,
        &[NEXT, RANDOM],
    ),
    ("one row", 64, 2, 96, "gelu", &[17], 1, &[NEXT]),
    (
        "prime lengths",
        64,
        2,
        128,
        "gelu",
        &[7, 31, 13, 2, 101, 1],
        1,
        &[NEXT, None, RANDOM],
    ),
    (
        "heads of 64",
        128,
        2,
        256,
        "gelu_new",
        &[33, 64, 128],
        2,
        &[RANDOM, NEXT],
    ),
    (
        "odd sizes",
        30,
        5,
        37,
        "gelu",
        &[9, 40, 11],
        1,
        &[NEXT, RANDOM],
    ),
    ("no label", 32, 2, 64, "gelu", &[8, 12], 1, &[None]),
    ("nothing masked", 32, 2, 64, "gelu", &[8, 12], 0, &[NEXT]),
];

#[test]
fn gradients_equal_the_reference() {
    for (name, hidden, heads, inner, act, lengths, masks, labels) in CASES {
        let config = config(hidden, heads, inner, 2, act);
        let batch = batch(lengths, masks, labels);
        for objective in [Objective::MlmNsp, Objective::Mlm] {
            for dropout in [
                None,
                Some(Dropout {
                    seed: 3,
                    step: 9,
                    hidden: 0.1,
                    attention: 0.2,
                }),
            ] {
                let state = EngineState::initial(weights(&config));
                let mut reference = ReferenceEngine::new(&config, objective, state).unwrap();
                let expected = accumulate(&mut reference, &batch, dropout.as_ref());
                for isa in usable() {
                    let what = format!(
                        "{name}, {objective:?}, {isa}, dropout {}",
                        dropout.is_some()
                    );
                    let mut engine = native(&config, isa, Precision::F32, objective);
                    let loss = accumulate(&mut engine, &batch, dropout.as_ref());
                    assert!(
                        (loss.mlm - expected.mlm).abs() < 3e-6 * expected.mlm.max(1.0),
                        "{what}: {loss:?} {expected:?}"
                    );
                    assert_eq!(loss.nsp.is_some(), expected.nsp.is_some(), "{what}");
                    assert!(
                        (loss.total() - expected.total()).abs() < 1e-5,
                        "{what}: {loss:?} {expected:?}"
                    );
                    compare(&mut engine, &mut reference, 3e-5, 2e-6, &what);
                    // In bf16 the same, less exactly.
                    let mut engine = native(&config, isa, Precision::Bf16, objective);
                    let loss = accumulate(&mut engine, &batch, dropout.as_ref());
                    assert!(
                        (loss.total() - expected.total()).abs() < 0.01 * expected.total().max(1.0),
                        "{what}: {loss:?} {expected:?}"
                    );
                    compare(
                        &mut engine,
                        &mut reference,
                        0.05,
                        2e-3,
                        &format!("{what}, bf16"),
                    );
                }
            }
        }
    }
}

/// Gradients add up over batches of any size, and a step begins anew.
#[test]
fn batches_of_any_size_add_up() {
    let config = config(64, 2, 128, 2, "gelu");
    // Each is too large for what was there before in another way: tokens, rows, masks.
    let batches = [
        batch(&[5, 9], 1, &[NEXT, RANDOM]),
        batch(&[150, 33, 2, 90, 120, 80], 1, &[NEXT, RANDOM]),
        batch(&[3; 40], 1, &[NEXT, RANDOM]),
        batch(&[100, 100], 4, &[NEXT]),
        batch(&[3], 1, &[NEXT]),
    ];
    let state = EngineState::initial(weights(&config));
    let mut reference = ReferenceEngine::new(&config, Objective::MlmNsp, state).unwrap();
    let mut engine = native(&config, Isa::best(), Precision::F32, Objective::MlmNsp);
    for round in 1..=2 {
        for batch in &batches {
            let (a, b) = (
                accumulate(&mut engine, batch, None),
                accumulate(&mut reference, batch, None),
            );
            assert!((a.total() - b.total()).abs() < 1e-4, "{a:?} {b:?}");
            let (a, b) = (
                engine.evaluate(batch).unwrap(),
                reference.evaluate(batch).unwrap(),
            );
            assert!(
                (a.mlm_loss - b.mlm_loss).abs() < 1e-4 * b.mlm_loss
                    && (a.nsp_loss - b.nsp_loss).abs() < 1e-4,
                "{a:?} {b:?}"
            );
            assert_eq!(
                (
                    a.mlm_correct,
                    a.nsp_correct,
                    a.masked_tokens,
                    a.labelled_rows
                ),
                (
                    b.mlm_correct,
                    b.nsp_correct,
                    b.masked_tokens,
                    b.labelled_rows
                )
            );
        }
        compare(&mut engine, &mut reference, 1e-4, 1e-5, "three batches");
        let step = OptimizerStep {
            step: round,
            ..STEP
        };
        engine.step(&step).unwrap();
        reference.step(&step).unwrap();
        let (a, b) = (engine.outcome().unwrap(), reference.outcome().unwrap());
        assert!(
            (a.grad_norm - b.grad_norm).abs() < 1e-4 * b.grad_norm,
            "{a:?} {b:?}"
        );
        assert_eq!(largest(&engine.gradients().unwrap()), 0.0);
    }
}

/// Batches that are filled up with padding, as a device that records steps wants them, give the same losses and gradients, whatever was in the
/// room before.
#[test]
fn padding_changes_nothing() {
    let config = config(64, 2, 128, 2, "gelu");
    let dropout = Dropout {
        seed: 3,
        step: 9,
        hidden: 0.1,
        attention: 0.2,
    };
    let large = batch(&[150, 33, 2, 90, 120, 80], 4, &[NEXT, RANDOM]);
    let mut padded = native(&config, Isa::best(), Precision::F32, Objective::MlmNsp).alike();
    accumulate(&mut padded, &large, Some(&dropout));
    for small in [
        batch(&[5, 9], 1, &[NEXT, None]),
        batch(&[3; 40], 1, &[NEXT, RANDOM]),
        batch(&[8, 12], 0, &[NEXT]),
        batch(&[8, 12], 1, &[None]),
    ] {
        let state = EngineState::initial(weights(&config));
        padded.load_state(state).unwrap();
        padded.step(&STEP).unwrap();
        let state = padded.state().unwrap();
        let mut plain = native(&config, Isa::best(), Precision::F32, Objective::MlmNsp);
        plain.load_state(state).unwrap();
        let (a, b) = (
            accumulate(&mut padded, &small, Some(&dropout)),
            accumulate(&mut plain, &small, Some(&dropout)),
        );
        assert!(
            (a.total() - b.total()).abs() < 1e-6 && a.nsp.is_some() == b.nsp.is_some(),
            "{a:?} {b:?}"
        );
        // Sums over tokens are made in blocks, which padding moves.
        compare(&mut padded, &mut plain, 1e-6, 1e-9, "padded");
        assert_eq!(
            padded.evaluate(&small).unwrap(),
            plain.evaluate(&small).unwrap()
        );
    }
}

const STEP: OptimizerStep = OptimizerStep {
    step: 1,
    learning_rate: 1e-3,
    weight_decay: 0.1,
    betas: (0.9, 0.999),
    eps: 1e-8,
    clip: 1.0,
    layer_decay: 1.0,
    optimizer: Optimizer::AdamW,
};

/// Parts of a step's batch, each told where it begins, add up to the whole; a part may be empty.
#[test]
fn parts_add_up_to_the_whole() {
    let config = config(64, 2, 128, 2, "gelu");
    let dropout = Dropout {
        seed: 3,
        step: 9,
        hidden: 0.1,
        attention: 0.2,
    };
    let lengths: [&[usize]; 4] = [&[5, 9], &[150, 33, 2], &[], &[3]];
    let parts = lengths.map(|n| batch(n, 1, &[NEXT, None, RANDOM]));
    let mut all = MaskedBatch::new();
    for part in &parts {
        let base = all.tokens() as u32;
        all.input_ids.extend(&part.input_ids);
        all.token_type_ids.extend(&part.token_type_ids);
        all.cu_seqlens
            .extend(part.cu_seqlens[1..].iter().map(|n| n + base));
        all.masked_positions
            .extend(part.masked_positions.iter().map(|n| n + base));
        all.masked_labels.extend(&part.masked_labels);
        all.next_sentence_labels.extend(&part.next_sentence_labels);
    }
    let whole = Whole::of(&all);
    let state = || EngineState::initial(weights(&config));
    let mut expected = ReferenceEngine::new(&config, Objective::MlmNsp, state()).unwrap();
    let loss = accumulate(&mut expected, &all, Some(&dropout));
    let native = native(&config, Isa::best(), Precision::F32, Objective::MlmNsp);
    let reference = ReferenceEngine::new(&config, Objective::MlmNsp, state()).unwrap();
    let engines: [Box<dyn Engine>; 2] = [Box::new(native), Box::new(reference)];
    for mut engine in engines {
        let mut first_token = 0;
        for part in &parts {
            let whole = Whole {
                first_token,
                ..whole
            };
            engine.accumulate(part, &whole, Some(&dropout)).unwrap();
            first_token += part.tokens() as u32;
        }
        let found = engine.outcome().unwrap().loss;
        assert!(
            (found.total() - loss.total()).abs() < 1e-5,
            "{found:?} {loss:?}"
        );
        compare(engine.as_mut(), &mut expected, 3e-5, 2e-6, "parts");
    }
}

/// A step whose gradient is not finite is not made, and counted.
#[test]
fn a_step_that_cannot_be_made_changes_nothing() {
    let config = config(32, 2, 64, 1, "gelu");
    let batch = batch(&[8, 12], 1, &[NEXT]);
    let mut bad = EngineState::initial(weights(&config));
    bad.parameters[40] = f32::NAN;
    let native = native(&config, Isa::best(), Precision::F32, Objective::MlmNsp);
    let reference = ReferenceEngine::new(
        &config,
        Objective::MlmNsp,
        EngineState::initial(weights(&config)),
    )
    .unwrap();
    let engines: [Box<dyn Engine>; 2] = [Box::new(native), Box::new(reference)];
    for mut engine in engines {
        engine.load_state(bad.clone()).unwrap();
        accumulate(engine.as_mut(), &batch, None);
        engine.step(&STEP).unwrap();
        let outcome = engine.outcome().unwrap();
        assert!(!outcome.grad_norm.is_finite() && outcome.skipped == 1);
        let after = engine.state().unwrap();
        let same = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same(&after.parameters, &bad.parameters));
        assert!(same(&after.first_moment, &bad.first_moment));
        assert_eq!(largest(&engine.gradients().unwrap()), 0.0);
    }
}

/// Nor is one whose loss is not finite, although its gradient would be: softmax gives shares of anything.
#[test]
fn a_step_without_a_finite_loss_changes_nothing() {
    let config = config(32, 2, 64, 1, "gelu");
    let batch = batch(&[8, 12], 1, &[NEXT]);
    let whole = EngineState::initial(weights(&config));
    let native = native(&config, Isa::best(), Precision::F32, Objective::MlmNsp);
    let reference = ReferenceEngine::new(&config, Objective::MlmNsp, whole.clone()).unwrap();
    let engines: [Box<dyn Engine>; 2] = [Box::new(native), Box::new(reference)];
    for mut engine in engines {
        let mut bad = whole.clone();
        let named = |name: &str| {
            let all = engine.layout().parameters();
            all.iter().find(|p| p.name == name).unwrap().range()
        };
        for (i, at) in named("cls.predictions.bias").enumerate() {
            bad.parameters[at] = if i == 0 { 3e38 } else { -3e38 };
        }
        engine.load_state(bad.clone()).unwrap();
        let loss = accumulate(engine.as_mut(), &batch, None);
        assert!(loss.mlm.is_infinite(), "{loss:?}");
        engine.step(&STEP).unwrap();
        let outcome = engine.outcome().unwrap();
        assert!(!outcome.grad_norm.is_finite() && outcome.skipped == 1);
        assert!(engine.state().unwrap().parameters == bad.parameters);
    }
}

/// The number of threads changes no bit of losses, gradients or parameters.
#[test]
fn threads_do_not_change_a_bit() {
    let config = config(64, 2, 128, 2, "gelu");
    let batch = batch(
        &[150, 33, 2, 90, 120, 80, 7, 7, 64],
        1,
        &[NEXT, RANDOM, None],
    );
    let dropout = Dropout {
        seed: 3,
        step: 9,
        hidden: 0.1,
        attention: 0.2,
    };
    for precision in [Precision::F32, Precision::Bf16] {
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| {
                let mut engine = native(&config, Isa::best(), precision, Objective::MlmNsp);
                let loss = accumulate(&mut engine, &batch, Some(&dropout));
                let gradients = engine.gradients().unwrap();
                engine.step(&STEP).unwrap();
                (
                    loss,
                    gradients,
                    engine.outcome().unwrap(),
                    engine.parameters().unwrap(),
                )
            })
        };
        assert!(with(1) == with(5), "{precision}");
    }
}
