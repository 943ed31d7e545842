//! The native engine with CUDA's kernels, run on the host: whole steps, recorded and run again, against the CPU's operations.
//!
//! Tolerance in single precision: as in `native.rs`. Where activations are rounded to bf16, each lies off by up to 2⁻⁹ of itself, and a gradient
//! is the sum of some thousands of their products: within 5 % of the largest of its tensor, plus 0.1 % of the largest of all.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use cloze_kernels::cpu::Cpu;
use cloze_kernels::cpu::isa::Precision;
use cloze_kernels::cuda::Cuda;
use cloze_kernels::cuda::host::{Host, Order};
use cloze_kernels::cuda::machine::Format;
use cloze_shard::Dataset;
use cloze_shard::manifest::Masking;
use cloze_shard::masking::{MaskUnit, MaskingRule};
use cloze_train::BertConfig;
use cloze_train::batch::MaskedBatch;
use cloze_train::engine::{
    Dropout, Engine, EngineState, Objective, Optimizer, OptimizerStep, Whole,
};
use cloze_train::feed::{Feed, longest_row};
use cloze_train::native::NativeEngine;
use cloze_train::reference::ReferenceEngine;
use support::model::{NEXT, RANDOM, VOCAB, batch, config, largest, weights};
use support::twins::Twins;

fn cpu(config: &BertConfig) -> NativeEngine<Cpu> {
    let state = EngineState::initial(weights(config));
    NativeEngine::new(Cpu::new(Precision::F32), config, Objective::MlmNsp, state).unwrap()
}

fn host(config: &BertConfig, format: Format, order: Order) -> NativeEngine<Cuda<Host>> {
    let state = EngineState::initial(weights(config));
    let ops = Cuda::new(Host::new(format, order));
    NativeEngine::new(ops, config, Objective::MlmNsp, state).unwrap()
}

fn dropout(step: u64) -> Dropout {
    Dropout {
        seed: 3,
        step,
        hidden: 0.1,
        attention: 0.2,
    }
}

fn step(step: u64) -> OptimizerStep {
    OptimizerStep {
        step,
        learning_rate: 1e-3 / step as f64,
        weight_decay: 0.1,
        betas: (0.9, 0.999),
        eps: 1e-6,
        clip: 1.0,
        layer_decay: 1.0,
        optimizer: Optimizer::AdamW,
    }
}

/// Compares every gradient: `relative` of the tensor's largest and `absolute` of the largest of all is allowed.
fn compare(a: &mut dyn Engine, b: &mut dyn Engine, relative: f32, absolute: f32, what: &str) {
    let (x, y) = (a.gradients().unwrap(), b.gradients().unwrap());
    let all = largest(&y);
    for p in b.layout().parameters() {
        let (x, y) = (&x[p.range()], &y[p.range()]);
        let off = x.iter().zip(y).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        // Key biases have a gradient of zero but for rounding.
        let scale = if p.name.ends_with("key.bias") {
            all
        } else {
            largest(y)
        };
        assert!(
            off <= relative * scale + absolute * all,
            "{what}: {}: off by {off:.2e} of {scale:.2e}",
            p.name
        );
    }
}

fn batches() -> Vec<MaskedBatch> {
    vec![
        batch(&[40, 33, 2, 29, 17, 3], 2, &[NEXT, RANDOM, None]),
        batch(&[5, 9, 31], 1, &[NEXT, RANDOM]),
        batch(&[3; 20], 1, &[NEXT, RANDOM]),
        batch(&[30, 30], 1, &[RANDOM]),
        batch(&[7, 11], 1, &[None]),
        batch(&[9, 40, 22], 2, &[NEXT, RANDOM]),
    ]
}

/// Steps from a recording are the steps that would have been made: other tokens, lengths, masks, rates, dropout each time.
#[test]
fn steps_from_a_recording_are_the_same() {
    for (hidden, heads, act) in [(64, 2, "gelu"), (128, 2, "gelu_new"), (24, 3, "gelu")] {
        let config = config(hidden, heads, 2 * hidden, 2, act);
        let (mut ours, mut theirs) = (host(&config, Format::F32, Order::Forward), cpu(&config));
        for (number, batch) in (1..).zip(batches()) {
            let what = format!("{hidden}, step {number}");
            for engine in [&mut ours as &mut dyn Engine, &mut theirs] {
                let (whole, dropout) = (Whole::of(&batch), dropout(number));
                engine.accumulate(&batch, &whole, Some(&dropout)).unwrap();
            }
            compare(&mut ours, &mut theirs, 3e-5, 1e-6, &what);
            let outcomes = [&mut ours as &mut dyn Engine, &mut theirs].map(|engine| {
                engine.step(&step(number)).unwrap();
                engine.outcome().unwrap()
            });
            let [a, b] = outcomes;
            assert_eq!(a.loss.nsp.is_some(), b.loss.nsp.is_some(), "{what}");
            assert!(
                (a.loss.total() - b.loss.total()).abs() < 1e-5
                    && (a.grad_norm - b.grad_norm).abs() < 1e-4 * b.grad_norm,
                "{what}: {a:?} {b:?}"
            );
            let [a, b] =
                [&mut ours as &mut dyn Engine, &mut theirs].map(|e| e.evaluate(&batch).unwrap());
            assert!(
                (a.mlm_loss - b.mlm_loss).abs() < 1e-4 * b.mlm_loss,
                "{what}: {a:?} {b:?}"
            );
            assert_eq!(
                (a.mlm_correct, a.nsp_correct),
                (b.mlm_correct, b.nsp_correct),
                "{what}"
            );
            // From the same place again, so that differences do not grow.
            theirs.load_state(ours.state().unwrap()).unwrap();
        }
        assert!(
            ours.ops().machine().replayed() >= 4,
            "what is alike is recorded once"
        );
    }
}

/// In bf16 losses and gradients are those of single precision, less exactly; and what products read follows the parameters.
#[test]
fn bf16_is_near() {
    for (hidden, heads) in [(64, 2), (64, 1)] {
        let config = config(hidden, heads, 2 * hidden, 2, "gelu");
        let (mut ours, mut theirs) = (host(&config, Format::Bf16, Order::Backward), cpu(&config));
        for (number, batch) in (1..).zip(batches()) {
            let what = format!("{hidden} of {heads}, step {number}");
            for engine in [&mut ours as &mut dyn Engine, &mut theirs] {
                let (whole, dropout) = (Whole::of(&batch), dropout(number));
                engine.accumulate(&batch, &whole, Some(&dropout)).unwrap();
            }
            compare(&mut ours, &mut theirs, 0.05, 1e-3, &what);
            let [a, b] = [&mut ours as &mut dyn Engine, &mut theirs].map(|engine| {
                engine.step(&step(number)).unwrap();
                engine.outcome().unwrap().loss
            });
            assert!(
                (a.total() - b.total()).abs() < 0.01 * b.total(),
                "{what}: {a:?} {b:?}"
            );
            theirs.load_state(ours.state().unwrap()).unwrap();
        }
    }
}

/// The encoder alone, and its way back, from recordings too, between steps of all of it; and what the MLM head says.
#[test]
fn the_encoder_alone() {
    let config = config(64, 2, 128, 2, "gelu");
    let (mut ours, mut theirs) = (host(&config, Format::F32, Order::Forward), cpu(&config));
    let near = |a: &[f32], b: &[f32], what: &str| {
        assert_eq!(a.len(), b.len(), "{what}");
        let off = a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(off <= 3e-5 * largest(b) + 2e-6, "{what}: off by {off:e}");
    };
    for (number, batch) in (1..).zip(batches()) {
        let what = format!("step {number}");
        let (whole, dropout) = (Whole::of(&batch), dropout(number));
        let gradient: Vec<f32> = (0..batch.tokens() * 64)
            .map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0)
            .collect();
        let [a, b] = [&mut ours as &mut dyn Engine, &mut theirs].map(|engine| {
            engine.accumulate(&batch, &whole, Some(&dropout)).unwrap();
            let bias = engine
                .layout()
                .find("bert.pooler.dense.bias")
                .unwrap()
                .clone();
            engine.add_gradient(&bias, &[0.5; 64]).unwrap();
            // With dropout and without: two recordings.
            let dropout = (number % 2 == 0).then_some(&dropout);
            let encoded = engine.encode(&batch, &whole, dropout).unwrap();
            engine.encode_backward(&batch, dropout, &gradient).unwrap();
            (encoded, engine.log_probabilities(&batch).unwrap())
        });
        near(&a.0, &b.0, &what);
        near(&a.1, &b.1, &what);
        compare(&mut ours, &mut theirs, 3e-5, 1e-6, &what);
        for engine in [&mut ours as &mut dyn Engine, &mut theirs] {
            engine.step(&step(number)).unwrap();
        }
        theirs.load_state(ours.state().unwrap()).unwrap();
    }
    assert!(ours.ops().machine().replayed() >= 4);
}

/// The order in which blocks and threads take turns changes no bit.
#[test]
fn turns_do_not_change_a_bit() {
    let config = config(64, 2, 128, 2, "gelu");
    for format in [Format::F32, Format::Bf16] {
        let run = |order| {
            let mut engine = host(&config, format, order);
            let batch = &batches()[0];
            let (whole, dropout) = (Whole::of(batch), dropout(1));
            engine.accumulate(batch, &whole, Some(&dropout)).unwrap();
            let gradients = engine.gradients().unwrap();
            engine.step(&step(1)).unwrap();
            (
                gradients,
                engine.outcome().unwrap(),
                engine.state().unwrap(),
            )
        };
        assert!(run(Order::Forward) == run(Order::Backward), "{format:?}");
    }
}

/// Masks that are drawn where a step is computed are those that the feed would have drawn: no bit differs, on any device.
#[test]
fn masks_are_drawn_as_the_feed_draws_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = support::dataset(folder.path(), 60, 0, Masking::Dynamic);
    let dataset = Dataset::open(&path).unwrap();
    let split = dataset.split("train").unwrap();
    let feed = || Feed::new(&dataset, split, MaskingRule::default(), 5, 120, VOCAB).unwrap();
    let (mut drawn, mut left) = (feed(), feed().deferred(longest_row(dataset.manifest())));
    let config = config(64, 2, 128, 1, "gelu");
    let state = || EngineState::initial(weights(&config));
    let objective = Objective::MlmNsp;
    let mut engines: Vec<[Box<dyn Engine>; 2]> = vec![
        [Box::new(cpu(&config)), Box::new(cpu(&config))],
        [(); 2].map(|()| -> Box<dyn Engine> {
            Box::new(ReferenceEngine::new(&config, objective, state()).unwrap())
        }),
        [(); 2]
            .map(|()| -> Box<dyn Engine> { Box::new(host(&config, Format::F32, Order::Forward)) }),
    ];
    // Past the end of an epoch, so that the epoch matters.
    for number in 1..=9 {
        let (a, b) = (
            drawn.next_batch().unwrap().unwrap(),
            left.next_batch().unwrap().unwrap(),
        );
        assert!(a.pending.is_none() && b.pending.is_some() && b.masked_positions.is_empty());
        assert_eq!(a.counts(), b.counts());
        let mut settled = b.clone();
        settled.settle();
        assert!(settled == a);
        for pair in &mut engines {
            let outcomes = pair
                .each_mut()
                .map(|engine| engine.as_mut())
                .into_iter()
                .zip([&a, &b])
                .map(|(engine, batch)| {
                    engine
                        .accumulate(batch, &Whole::of(batch), Some(&dropout(number)))
                        .unwrap();
                    let gradients = engine.gradients().unwrap();
                    engine.step(&step(number)).unwrap();
                    (
                        gradients,
                        engine.outcome().unwrap(),
                        engine.evaluate(batch).unwrap(),
                    )
                });
            let outcomes: Vec<_> = outcomes.collect();
            assert!(outcomes[0] == outcomes[1], "step {number}");
        }
    }
}

/// Masks of words and spans are drawn by the feed, whatever it was asked; masks at other rates are what the feed would have drawn.
#[test]
fn what_a_device_cannot_draw_is_drawn_by_the_feed() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = support::tokens_with_pieces();
    let path = support::dataset_of(tokens, folder.path(), 60, 0, Masking::Dynamic);
    let dataset = Dataset::open(&path).unwrap();
    let split = dataset.split("train").unwrap();
    let longest = longest_row(dataset.manifest());
    for unit in [MaskUnit::Token, MaskUnit::Word, MaskUnit::SPAN] {
        let rule = MaskingRule {
            unit,
            ..MaskingRule::default()
        };
        let feed = || Feed::new(&dataset, split, rule, 5, 120, VOCAB).unwrap();
        let (mut drawn, mut left) = (feed(), feed().deferred(longest));
        for rate in [0.15, 0.15, 0.4, 0.9] {
            let [a, mut b] = [&mut drawn, &mut left].map(|feed| {
                feed.set_rate(rate);
                feed.next_batch().unwrap().unwrap()
            });
            assert_eq!(b.pending.is_some(), unit == MaskUnit::Token, "{unit:?}");
            assert_eq!(a.counts(), b.counts());
            b.settle();
            assert!(a == b, "{unit:?} at {rate}");
        }
    }
}

/// What is sent to be summed is complete, through the host and in place, whatever the size of the buckets, and with nothing to do as well.
#[test]
fn gradients_are_summed_as_they_are_completed() {
    let config = config(64, 2, 96, 3, "gelu");
    let batch = batch(&[9, 3, 33, 70], 2, &[NEXT, None, RANDOM]);
    let (whole, dropout) = (Whole::of(&batch), dropout(1));
    let mut once = host(&config, Format::F32, Order::Forward);
    once.accumulate(&batch, &whole, Some(&dropout)).unwrap();
    let twice: Vec<f32> = once.gradients().unwrap().iter().map(|g| g * 2.0).collect();
    let len = once.layout().len();
    for (bytes, buckets) in [(1, 5), (150_000, 3), (usize::MAX, 1)] {
        for on_device in [false, true] {
            let mut engine = host(&config, Format::F32, Order::Forward).buckets_of(bytes);
            // The second time recordings are run.
            for _ in 0..2 {
                let mut twins = Twins::default();
                twins.on_device = on_device;
                engine
                    .load_state(EngineState::initial(weights(&config)))
                    .unwrap();
                let dropout = Some(&dropout);
                engine
                    .accumulate_and_sum(&batch, &whole, dropout, &mut twins)
                    .unwrap();
                assert!(engine.gradients().unwrap() == twice, "{bytes}, {on_device}");
                assert_eq!((twins.sums.len(), twins.sums.iter().sum()), (buckets, len));
                let nothing = MaskedBatch::new();
                engine
                    .accumulate_and_sum(&nothing, &whole, dropout, &mut twins)
                    .unwrap();
                assert_eq!(
                    twins.sums.len(),
                    2 * buckets,
                    "others wait for the same sums"
                );
            }
        }
    }
}
