//! Several processes train what one would: the same losses and parameters but for the order of sums, whatever their number, and across a restart
//! with another number.
//!
//! Tolerance: sums of gradients are made in another order, which a few steps of Adam carry on: parameters within 1e-4 (each moves by up to 1e-3 a
//! step), losses within 1e-4.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::TcpListener;
use std::path::Path;

use cloze_shard::manifest::Masking;
use cloze_train::checkpoint::read_state;
use cloze_train::parallel::{Address, World};
use cloze_train::record::{Record, StepRecord, ValidationRecord};
use cloze_train::{
    Begun, EngineKind, Observer, PretrainConfig, Result, Start, Summary, pretrain_in,
};
use support::{config, dataset};

/// Asks to stop after a step.
struct StopAfter(Option<u64>);

impl Observer for StopAfter {
    fn on_start(&mut self, _: &Begun<'_>) {}
    fn on_step(&mut self, _: &StepRecord) {}
    fn on_validation(&mut self, _: &ValidationRecord) {}
    fn on_checkpoint(&mut self, _: &Path) {}
    fn should_stop(&mut self, step: u64) -> bool {
        Some(step) == self.0
    }
}

/// Trains by `ranks` members, each a thread with a connection of its own, as processes are.
fn train(
    ranks: usize,
    data: &Path,
    start: &Start,
    run: &Path,
    plan: &dyn Fn(usize) -> PretrainConfig,
) -> Vec<Result<Summary>> {
    train_until(ranks, data, start, run, plan, None)
}

/// As [`train`]; the last member alone is asked to stop after so many steps.
fn train_until(
    ranks: usize,
    data: &Path,
    start: &Start,
    run: &Path,
    plan: &dyn Fn(usize) -> PretrainConfig,
    stop: Option<u64>,
) -> Vec<Result<Summary>> {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let plans: Vec<PretrainConfig> = (0..ranks).map(plan).collect();
    std::thread::scope(|scope| {
        let members: Vec<_> = plans
            .iter()
            .enumerate()
            .map(|(rank, plan)| {
                let world = World {
                    rank,
                    world_size: ranks,
                    local_rank: rank,
                    address: (ranks > 1).then(|| Address {
                        host: "127.0.0.1".into(),
                        port,
                    }),
                    job: String::new(),
                };
                let mut watch = StopAfter(stop.filter(|_| rank + 1 == ranks));
                scope.spawn(move || pretrain_in(&world, data, start, run, plan, &mut watch))
            })
            .collect();
        members.into_iter().map(|m| m.join().unwrap()).collect()
    })
}

fn plan(steps: u64) -> PretrainConfig {
    PretrainConfig {
        steps,
        batch_tokens: 200,
        learning_rate: 1e-3,
        warmup_steps: 2,
        eval_every: 5,
        checkpoint_every: 4,
        log_every: 1,
        ..PretrainConfig::default()
    }
}

fn losses(run: &Path) -> Vec<(u64, f64, u64)> {
    let log = std::fs::read_to_string(run.join("train.jsonl")).unwrap();
    let records = log.lines().map(|l| serde_json::from_str(l).unwrap());
    records
        .map(|record| match record {
            Record::Train(r) => (r.step, r.loss, r.tokens),
            Record::Validation(r) => (r.step, r.report.mlm_loss.unwrap(), r.report.rows),
            Record::Skipped(r) => panic!("{r:?}"),
        })
        .collect()
}

fn parameters(run: &Path, step: u64) -> Vec<f32> {
    let checkpoint = run.join(format!("checkpoints/step-{step:08}"));
    read_state(&checkpoint).unwrap().1.parameters
}

fn same(a: &Path, b: &Path, step: u64, what: &str) {
    let (x, y) = (losses(a), losses(b));
    assert_eq!(x.len(), y.len(), "{what}");
    for (x, y) in x.iter().zip(&y) {
        assert!(
            (x.0, x.2) == (y.0, y.2) && (x.1 - y.1).abs() < 1e-4,
            "{what}: {x:?} {y:?}"
        );
    }
    let (x, y) = (parameters(a, step), parameters(b, step));
    let off = x
        .iter()
        .zip(&y)
        .fold(0f32, |m, (x, y)| m.max((x - y).abs()));
    assert!(off < 1e-4, "{what}: parameters off by {off:e}");
}

#[test]
fn any_number_of_processes_trains_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 90, 30, Masking::Dynamic);
    let start = Start::Config(config(folder.path()));
    let alone = folder.path().join("alone");
    for result in train(1, &data, &start, &alone, &|_| plan(10)) {
        result.unwrap();
    }
    for (ranks, engine) in [
        (2, EngineKind::Native),
        (3, EngineKind::Native),
        (2, EngineKind::Reference),
    ] {
        let run = folder.path().join(format!("{ranks}-{engine:?}"));
        let plan = |_| PretrainConfig { engine, ..plan(10) };
        for result in train(ranks, &data, &start, &run, &plan) {
            result.unwrap();
        }
        same(&alone, &run, 10, &format!("{ranks} processes, {engine:?}"));
    }
    // Stopped at step 6 by two, of which one is asked to; gone on by three, by parts of their shares.
    let run = folder.path().join("moved");
    for result in train_until(2, &data, &start, &run, &|_| plan(10), Some(6)) {
        let summary = result.unwrap();
        assert!(summary.stopped && summary.steps == 6, "{summary:?}");
    }
    let parts = |_| PretrainConfig {
        pass_tokens: 30,
        ..plan(10)
    };
    for result in train(3, &data, &Start::Resume, &run, &parts) {
        assert_eq!(result.unwrap().steps, 10);
    }
    same(&alone, &run, 10, "two, then three");
}

#[test]
fn what_differs_between_processes_is_refused_by_all() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 90, 30, Masking::Dynamic);
    let start = Start::Config(config(folder.path()));
    let run = folder.path().join("run");
    let plan = |rank| PretrainConfig {
        batch_tokens: 200 + rank,
        ..plan(10)
    };
    for result in train(2, &data, &start, &run, &plan) {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("batch-tokens"), "{error}");
    }
    assert!(!run.exists());
}
