//! Losses with weights, and rates that fall from layer to layer: in both engines as their definitions say.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use cloze_kernels::cpu::Cpu;
use cloze_kernels::cpu::isa::{Isa, Precision};
use cloze_train::BertConfig;
use cloze_train::batch::MaskedBatch;
use cloze_train::engine::{
    Dropout, Engine, EngineState, Objective, Optimizer, OptimizerStep, Whole,
};
use cloze_train::native::NativeEngine;
use cloze_train::parameters::Layout;
use cloze_train::reference::ReferenceEngine;
use support::model::{NEXT, RANDOM, batch, config, largest, weights};

fn engines(config: &BertConfig) -> [(&'static str, Box<dyn Engine>); 2] {
    let state = || EngineState::initial(weights(config));
    let cpu = Cpu::with(Isa::best(), Precision::F32).unwrap();
    let objective = Objective::MlmNsp;
    [
        (
            "native",
            Box::new(NativeEngine::new(cpu, config, objective, state()).unwrap()),
        ),
        (
            "reference",
            Box::new(ReferenceEngine::new(config, objective, state()).unwrap()),
        ),
    ]
}

/// The gradient of one batch, and its losses.
fn gradient(
    engine: &mut dyn Engine,
    batch: &MaskedBatch,
    weights: [f64; 2],
) -> (Vec<f32>, f64, Option<f64>) {
    let whole = Whole {
        weights,
        ..Whole::of(batch)
    };
    engine.accumulate(batch, &whole, None).unwrap();
    let loss = engine.outcome().unwrap().loss;
    let gradient = engine.gradients().unwrap();
    engine.step(&STEP).unwrap();
    (gradient, loss.mlm, loss.nsp)
}

/// A step that changes nothing: it begins gradients anew.
const STEP: OptimizerStep = OptimizerStep {
    step: 1,
    learning_rate: 0.0,
    weight_decay: 0.0,
    betas: (0.9, 0.999),
    eps: 1e-8,
    clip: 0.0,
    layer_decay: 1.0,
    optimizer: Optimizer::AdamW,
};

#[test]
fn the_gradient_is_the_weighted_sum_of_those_of_both_losses() {
    let config = config(32, 2, 64, 2, "gelu");
    let both = batch(&[7, 31, 13], 1, &[NEXT, RANDOM]);
    let (mut mlm, mut nsp) = (both.clone(), both.clone());
    mlm.next_sentence_labels.fill(None);
    nsp.masked_positions.clear();
    nsp.masked_labels.clear();
    let weights = [0.5, 3.0];
    for (name, mut engine) in engines(&config) {
        let (g_mlm, mlm_loss, none) = gradient(engine.as_mut(), &mlm, [1.0, 1.0]);
        let (g_nsp, _, nsp_loss) = gradient(engine.as_mut(), &nsp, [1.0, 1.0]);
        assert!(none.is_none() && nsp_loss.is_some());
        let (found, found_mlm, found_nsp) = gradient(engine.as_mut(), &both, weights);
        let scale = largest(&found);
        for ((found, mlm), nsp) in found.iter().zip(&g_mlm).zip(&g_nsp) {
            let expected = 0.5 * mlm + 3.0 * nsp;
            assert!(
                (found - expected).abs() < 1e-5 * scale,
                "{name}: {found} {expected}"
            );
        }
        // Losses are told without their weights.
        assert!((found_mlm - mlm_loss).abs() < 1e-5, "{name}");
        assert!(
            (found_nsp.unwrap() - nsp_loss.unwrap()).abs() < 1e-5,
            "{name}"
        );
    }
}

/// How far a parameter of a model of `layers` layers is from the heads, by its name.
fn depth(name: &str, layers: i32) -> i32 {
    if name.starts_with("bert.embeddings.") {
        return layers + 1;
    }
    match name.strip_prefix("bert.encoder.layer.") {
        Some(rest) => layers - rest.split_once('.').unwrap().0.parse::<i32>().unwrap(),
        None => 0,
    }
}

#[test]
fn each_layer_goes_slower_than_the_one_above() {
    let layers = 3;
    let config = config(32, 2, 64, layers, "gelu");
    let batch = batch(&[7, 31, 13], 1, &[NEXT, RANDOM]);
    let step = |layer_decay: f64| OptimizerStep {
        learning_rate: 1e-2,
        weight_decay: 0.1,
        layer_decay,
        ..STEP
    };
    // How far each parameter goes.
    let way = |number: usize, decay: f64| {
        let (name, mut engine) = engines(&config).into_iter().nth(number).unwrap();
        engine.accumulate(&batch, &Whole::of(&batch), None).unwrap();
        engine.step(&step(decay)).unwrap();
        let (before, after) = (weights(&config), engine.parameters().unwrap());
        let way: Vec<f32> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
        (name, engine, way)
    };
    for number in 0..2 {
        let (name, engine, whole) = way(number, 1.0);
        let (_, _, slower) = way(number, 0.5);
        for p in engine.layout().parameters() {
            let share = 0.5f32.powi(depth(&p.name, layers as i32));
            let (whole, slower) = (&whole[p.range()], &slower[p.range()]);
            // But for rounding, key biases have no gradient.
            let moves = largest(whole) > 1e-3 || p.name.ends_with("key.bias");
            assert!(moves, "{name}: {} does not move", p.name);
            for (w, s) in whole.iter().zip(slower) {
                assert!(
                    (w * share - s).abs() < 1e-6,
                    "{name}: {}: {s} is not {share} of {w}",
                    p.name
                );
            }
        }
    }
}

/// The reference has the formulas in plain loops; PyTorch has no LAMB.
#[test]
fn steps_of_lamb_equal_the_reference() {
    let config = config(32, 2, 64, 2, "gelu");
    for objective in [Objective::MlmNsp, Objective::Mlm] {
        // Between parameters there is nothing: a norm would count it.
        let layout = Layout::new(&config);
        let mut own = vec![0.0; layout.len()];
        for p in layout.parameters() {
            own[p.range()].copy_from_slice(&weights(&config)[p.range()]);
        }
        let state = || EngineState::initial(own.clone());
        let cpu = Cpu::with(Isa::best(), Precision::F32).unwrap();
        let mut ours = NativeEngine::new(cpu, &config, objective, state()).unwrap();
        let mut theirs = ReferenceEngine::new(&config, objective, state()).unwrap();
        let before = ours.parameters().unwrap();
        for number in 1..=4 {
            for engine in [&mut ours as &mut dyn Engine, &mut theirs] {
                // The same to the bit: Adam makes what is all rounding as large as any.
                for p in engine.layout().parameters().to_vec() {
                    let still = p.nsp_only && objective == Objective::Mlm;
                    let wave = |i: usize| ((i * 37 + number as usize * 11) % 101) as f32 - 50.0;
                    let gradient: Vec<f32> = p.range().map(wave).collect();
                    if !still {
                        engine.add_gradient(&p, &gradient).unwrap();
                    }
                }
                engine
                    .step(&OptimizerStep {
                        optimizer: Optimizer::Lamb,
                        step: number,
                        learning_rate: 0.01,
                        weight_decay: 0.1,
                        layer_decay: 0.9,
                        clip: 1.0,
                        eps: 1e-6,
                        ..STEP
                    })
                    .unwrap();
            }
            let (a, b) = (ours.state().unwrap(), theirs.state().unwrap());
            for p in ours.layout().parameters() {
                let way = |x: &[f32]| -> Vec<f32> {
                    let old = &before[p.range()];
                    x[p.range()].iter().zip(old).map(|(x, o)| x - o).collect()
                };
                let (x, y) = (way(&a.parameters), way(&b.parameters));
                let still = p.nsp_only && objective == Objective::Mlm;
                assert_eq!(largest(&y) == 0.0, still, "{}", p.name);
                let off = x
                    .iter()
                    .zip(&y)
                    .fold(0f32, |m, (x, y)| m.max((x - y).abs()));
                assert!(off <= 1e-5 * largest(&y) + 1e-7, "{}: {off:e}", p.name);
            }
            theirs.load_state(a).unwrap();
        }
    }
}

/// What a layer does not keep it computes again: no bit differs.
#[test]
fn in_less_memory_the_same() {
    let config = config(32, 2, 64, 3, "gelu");
    let batch = batch(&[7, 31, 13], 1, &[NEXT, RANDOM]);
    let dropout = Dropout {
        seed: 3,
        step: 9,
        hidden: 0.1,
        attention: 0.2,
    };
    let run = |again: bool| {
        let state = EngineState::initial(weights(&config));
        let cpu = Cpu::with(Isa::best(), Precision::F32).unwrap();
        let engine = NativeEngine::new(cpu, &config, Objective::MlmNsp, state).unwrap();
        let mut engine = engine.recomputing(again);
        engine
            .accumulate(&batch, &Whole::of(&batch), Some(&dropout))
            .unwrap();
        let gradients = engine.gradients().unwrap();
        let encoded = engine.encode(&batch, &Whole::of(&batch), Some(&dropout));
        let encoded = encoded.unwrap();
        engine
            .encode_backward(&batch, Some(&dropout), &encoded)
            .unwrap();
        (gradients, encoded, engine.gradients().unwrap())
    };
    assert!(run(true) == run(false));
}
