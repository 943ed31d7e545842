//! What a run is left alone with: steps without a finite gradient, being stopped, memory for a part of a step at a time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use cloze_shard::Dataset;
use cloze_shard::manifest::Masking;
use cloze_shard::masking::MaskingRule;
use cloze_train::checkpoint::{self, TrainerState, read_state, read_trainer};
use cloze_train::feed::Feed;
use cloze_train::record::{Record, SkipRecord, StepRecord, ValidationRecord};
use cloze_train::schedule::Schedule;
use cloze_train::{Begun, Error, Observer, PretrainConfig, Result, Start, Summary, pretrain};
use safetensors::{SafeTensors, tensor::TensorView};
use support::{VOCAB, config, dataset};

/// Asks to stop after a step; remembers what was skipped, and dies after another step.
#[derive(Default)]
struct Watch {
    stop_after: Option<u64>,
    /// As `stop_after`, and how often it was asked after that step before it says so: in the evaluation.
    stop_in: Option<(u64, u64)>,
    dies_after: Option<u64>,
    skipped: Vec<SkipRecord>,
}

impl Observer for Watch {
    fn on_start(&mut self, _: &Begun<'_>) {}
    fn on_step(&mut self, record: &StepRecord) {
        assert_ne!(Some(record.step), self.dies_after, "killed");
    }
    fn on_validation(&mut self, _: &ValidationRecord) {}
    fn on_skipped(&mut self, record: &SkipRecord) {
        self.skipped.push(record.clone());
    }
    fn on_checkpoint(&mut self, _: &Path) {}
    fn should_stop(&mut self, step: u64) -> bool {
        if let Some((_, left)) = self.stop_in.as_mut().filter(|(at, _)| *at == step) {
            *left = left.saturating_sub(1);
            return *left == 0;
        }
        Some(step) == self.stop_after
    }
}

fn short() -> PretrainConfig {
    PretrainConfig {
        steps: 12,
        batch_tokens: 64,
        learning_rate: 1e-2,
        warmup_steps: 3,
        eval_every: 4,
        checkpoint_every: 5,
        log_every: 1,
        keep: 10,
        ..PretrainConfig::default()
    }
}

fn train(data: &Path, start: Start, run: &Path, config: &PretrainConfig) -> Result<Summary> {
    pretrain(data, &start, run, config, &mut Watch::default())
}

/// What of a log does not depend on the clock.
fn records(run: &Path) -> Vec<Record> {
    let text = fs::read_to_string(run.join("train.jsonl")).unwrap();
    let timeless = |record| match record {
        Record::Train(r) => Record::Train(StepRecord {
            tokens_per_second: 0.0,
            data_wait_fraction: 0.0,
            step_seconds: 0.0,
            seconds_left: 0.0,
            ..r
        }),
        other => other,
    };
    text.lines()
        .map(|l| timeless(serde_json::from_str(l).unwrap()))
        .collect()
}

fn newest(run: &Path) -> PathBuf {
    checkpoint::latest(run).unwrap().unwrap()
}

fn trainer(run: &Path) -> TrainerState {
    read_trainer(&newest(run)).unwrap()
}

/// Both runs hold the same parameters, moments and position, and the same log.
fn assert_same(a: &Path, b: &Path) {
    let state = |run: &Path| read_state(&newest(run)).unwrap();
    assert!(state(a) == state(b), "{} {}", a.display(), b.display());
    assert_eq!(records(a), records(b));
}

#[test]
fn a_run_that_is_asked_to_stop_goes_on_as_if_it_had_not() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 10, Masking::Dynamic);
    let begin = Start::Config(config(folder.path()));
    let whole = folder.path().join("whole");
    // A line at every second step, so that a stop falls between two.
    let plan = PretrainConfig {
        log_every: 2,
        ..short()
    };
    train(&data, begin.clone(), &whole, &plan).unwrap();
    for stop in [1, 4, 7] {
        let run = folder.path().join(format!("stopped-{stop}"));
        let mut watch = Watch {
            stop_after: Some(stop),
            ..Watch::default()
        };
        let summary = pretrain(&data, &begin, &run, &plan, &mut watch).unwrap();
        assert!(summary.stopped && summary.steps == stop, "{summary:?}");
        assert_eq!(trainer(&run).step, stop, "a checkpoint was written");
        let summary = train(&data, Start::Resume, &run, &plan).unwrap();
        assert!(!summary.stopped && summary.steps == 12);
        let state = |run: &Path| read_state(&newest(run)).unwrap();
        assert!(state(&whole) == state(&run), "stopped after {stop}");
        // The step after which it stopped has a line of its own.
        let mut lines = records(&run);
        lines.retain(|r| !matches!(r, Record::Train(r) if r.step % 2 == 1 && r.step > 1));
        assert_eq!(lines, records(&whole));
    }
}

/// An evaluation takes long: it is not waited for, and is made when the run goes on.
#[test]
fn a_run_that_is_stopped_in_an_evaluation_makes_it_when_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 30, Masking::Dynamic);
    let begin = Start::Config(config(folder.path()));
    let whole = folder.path().join("whole");
    let validation = train(&data, begin.clone(), &whole, &short()).unwrap();
    // Before the first step; in the evaluation after the fourth, and before it; in that after the last, and before it.
    for (step, asked) in [(0, 1), (0, 3), (4, 1), (4, 3), (12, 1), (12, 2), (12, 4)] {
        let run = folder.path().join(format!("stopped-{step}-{asked}"));
        let mut watch = Watch {
            stop_in: Some((step, asked)),
            ..Watch::default()
        };
        let summary = pretrain(&data, &begin, &run, &short(), &mut watch).unwrap();
        assert!(summary.stopped && summary.steps == step, "{summary:?}");
        assert!(trainer(&run).step == step && trainer(&run).evaluation_due);
        let made = |r: &Record| matches!(r, Record::Validation(r) if r.step == step);
        assert!(!records(&run).iter().any(made), "{step} {asked}");
        // Nor does it hurt to be stopped there again.
        let again = if step == 12 { 2 } else { 1 };
        let mut watch = Watch {
            stop_in: Some((step, again)),
            ..Watch::default()
        };
        let summary = pretrain(&data, &Start::Resume, &run, &short(), &mut watch).unwrap();
        assert!(summary.stopped && summary.steps == step, "{summary:?}");
        let summary = train(&data, Start::Resume, &run, &short()).unwrap();
        assert!(!summary.stopped && summary.validation == validation.validation);
        assert_same(&whole, &run);
        assert_eq!(trainer(&whole), trainer(&run));
        let best = |run: &Path| fs::read(run.join("best/model.safetensors")).unwrap();
        assert!(best(&whole) == best(&run));
    }
}

/// Killed after an evaluation that was still due: it is made again, and is in the log once.
#[test]
fn an_evaluation_that_is_made_again_is_logged_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 30, Masking::Dynamic);
    let (whole, run) = (folder.path().join("whole"), folder.path().join("run"));
    let begin = Start::Config(config(folder.path()));
    train(&data, begin.clone(), &whole, &short()).unwrap();
    let mut watch = Watch {
        stop_in: Some((4, 2)),
        ..Watch::default()
    };
    pretrain(&data, &begin, &run, &short(), &mut watch).unwrap();
    let due = newest(&run).join("trainer_state/state.json");
    let due = (due.clone(), fs::read(due).unwrap());
    train(&data, Start::Resume, &run, &short()).unwrap();
    // What a process leaves that is killed between the line of the log and the checkpoint.
    for entry in fs::read_dir(run.join("checkpoints")).unwrap() {
        let path = entry.unwrap().path();
        if !due.0.starts_with(&path) {
            fs::remove_dir_all(path).unwrap();
        }
    }
    fs::write(&due.0, &due.1).unwrap();
    train(&data, Start::Resume, &run, &short()).unwrap();
    assert_same(&whole, &run);
}

/// Where there is nothing to evaluate on, a run that is asked to stop at its last step is done.
#[test]
fn asked_to_stop_at_the_last_step_it_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 30, 0, Masking::Dynamic);
    let run = folder.path().join("run");
    let mut watch = Watch {
        stop_after: Some(12),
        ..Watch::default()
    };
    let begin = Start::Config(config(folder.path()));
    let summary = pretrain(&data, &begin, &run, &short(), &mut watch).unwrap();
    assert!(!summary.stopped && summary.validation.is_none());
}

#[test]
fn begun_where_there_is_no_checkpoint_and_resumed_where_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 10, Masking::Dynamic);
    let fresh = || Start::Config(config(folder.path()));
    let auto = || Start::ResumeOr(Box::new(fresh()));
    let (whole, run) = (folder.path().join("whole"), folder.path().join("run"));
    train(&data, fresh(), &whole, &short()).unwrap();
    for dies_after in [2, 7] {
        // First before there is a checkpoint but with a log, then with both.
        let killed = std::panic::catch_unwind(|| {
            let mut watch = Watch {
                dies_after: Some(dies_after),
                ..Watch::default()
            };
            pretrain(&data, &auto(), &run, &short(), &mut watch)
        });
        assert!(killed.is_err() && run.join("train.jsonl").exists());
    }
    assert_eq!(trainer(&run).step, 5);
    train(&data, auto(), &run, &short()).unwrap();
    assert_same(&whole, &run);
    // A folder of something else is no run to go on with.
    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("thesis.txt"), "mine").unwrap();
    let error = train(&data, auto(), &other, &short()).unwrap_err();
    assert!(error.to_string().contains("other files"), "{error}");
}

/// A model with a position embedding so large that no row of `length` tokens or more has a finite loss.
fn poisoned(folder: &Path, data: &Path, length: usize) -> PathBuf {
    let run = folder.join("healthy");
    let plan = PretrainConfig {
        steps: 1,
        warmup_steps: 0,
        ..short()
    };
    train(data, Start::Config(config(folder)), &run, &plan).unwrap();
    let path = run.join("model/model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let name = "bert.embeddings.position_embeddings.weight";
    let view = tensors.tensor(name).unwrap();
    let (shape, mut data) = (view.shape().to_vec(), view.data().to_vec());
    let at = (length - 1) * shape[1] * 4;
    // Their sum is infinite, so is their mean, and what is left of them without it is no number.
    for huge in data[at..at + 8].as_chunks_mut::<4>().0 {
        *huge = f32::MAX.to_le_bytes();
    }
    let mut all: HashMap<String, TensorView<'_>> = tensors.tensors().into_iter().collect();
    all.insert(
        name.into(),
        TensorView::new(view.dtype(), shape, &data).unwrap(),
    );
    let copy = folder.join("poisoned");
    fs::create_dir(&copy).unwrap();
    for name in ["config.json", "vocab.txt"] {
        fs::copy(run.join("model").join(name), copy.join(name)).unwrap();
    }
    let changed = safetensors::serialize(all, None).unwrap();
    fs::write(copy.join("model.safetensors"), changed).unwrap();
    copy
}

const LONG: usize = 15;

/// The numbers of the long rows of each batch of a run.
fn long_rows(data: &Path, steps: u64) -> Vec<Vec<u64>> {
    let data = Dataset::open(data).unwrap();
    let split = data.split("train").unwrap();
    let mut feed = Feed::new(&data, split, MaskingRule::default(), 0, 64, VOCAB).unwrap();
    (0..steps)
        .map(|_| {
            let mut rows = feed.next_rows();
            rows.retain(|&number| split.row(number).input_ids.len() >= LONG);
            rows
        })
        .collect()
}

#[test]
fn steps_without_a_finite_gradient_are_not_made_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 0, Masking::Dynamic);
    let model = poisoned(folder.path(), &data, LONG);
    let bad: Vec<u64> = (1..)
        .zip(long_rows(&data, 40))
        .filter(|(_, rows)| !rows.is_empty())
        .map(|(step, _)| step)
        .collect();
    assert!(bad.len() > 1 && bad.len() < 20, "{bad:?}");
    for log_every in [1, 7] {
        let run = folder.path().join(format!("run-{log_every}"));
        let plan = PretrainConfig {
            steps: 40,
            log_every,
            ..short()
        };
        let mut watch = Watch::default();
        let start = Start::Init(model.clone());
        let summary = pretrain(&data, &start, &run, &plan, &mut watch).unwrap();
        assert_eq!(summary.skipped, bad.len() as u64, "each is counted once");
        let told: u64 = watch.skipped.iter().map(|r| r.skipped).sum();
        assert_eq!(told, summary.skipped);
        assert_eq!(trainer(&run).skipped, summary.skipped);
        let logged = records(&run);
        assert!(
            logged
                .iter()
                .all(|r| !matches!(r, Record::Train(r) if bad.contains(&r.step))),
            "a step that was not made has no losses"
        );
        assert!(logged.iter().any(|r| matches!(r, Record::Skipped(_))));
        if log_every == 1 {
            let steps: Vec<u64> = watch.skipped.iter().map(|r| r.step).collect();
            assert_eq!(steps, bad);
        }
    }
    // However often it is looked at, the same steps are made.
    let state = |every: u64| {
        let run = folder.path().join(format!("run-{every}"));
        read_state(&newest(&run)).unwrap().1
    };
    assert!(state(1) == state(7));
}

#[test]
fn too_many_in_a_row_end_the_run_and_the_rows_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 0, Masking::Dynamic);
    let model = poisoned(folder.path(), &data, LONG);
    let rows = long_rows(&data, 40);
    let (step, numbers) = (1u64..)
        .zip(&rows)
        .find(|(_, rows)| !rows.is_empty())
        .unwrap();
    let run = folder.path().join("run");
    let plan = PretrainConfig {
        steps: 40,
        max_skipped: 1,
        checkpoint_every: 1,
        ..short()
    };
    let error = train(&data, Start::Init(model), &run, &plan).unwrap_err();
    assert!(
        matches!(error, Error::NonFinite { step: s, in_a_row: 1, .. } if s == step),
        "{error}"
    );
    let text = error.to_string();
    for number in numbers {
        let name = format!("part-00000.arrow row {number}");
        assert!(text.contains(&name), "{text:?} does not say {name}");
    }
    assert_eq!(text.matches(".arrow row ").count(), numbers.len(), "{text}");
    assert!(error.hint().unwrap().contains("--learning-rate"));
    // What was learned is kept: other rows have a finite loss.
    assert_eq!(trainer(&run).step, step);
    let path = run.join("model").display().to_string();
    assert!(error.hint().unwrap().contains(&path), "{error:?}");
}

/// A rate so high that the numbers are finite and all losses are not, with room for one checkpoint alone.
#[test]
fn a_broken_model_is_never_written_over_a_good_one() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 10, Masking::Dynamic);
    for (steps, checkpoint_every, rate) in
        [(40, 2, 1e38), (40, 0, 1e38), (1, 1, 1e38), (40, 2, 3e38)]
    {
        let run = folder
            .path()
            .join(format!("{steps}-{checkpoint_every}-{rate}"));
        let begin = Start::Config(config(folder.path()));
        let plan = PretrainConfig {
            steps,
            checkpoint_every,
            learning_rate: rate,
            warmup_steps: 0,
            schedule: Schedule::Constant,
            keep: 1,
            eval_every: 0,
            ..short()
        };
        let error = train(&data, begin, &run, &plan).unwrap_err();
        assert!(
            matches!(error, Error::Broken { .. } | Error::NonFinite { .. }),
            "{error}"
        );
        assert!(checkpoint::latest(&run).unwrap().is_none(), "{error}");
        assert!(!run.join("model").exists());
        let hint = error.hint().unwrap();
        assert!(
            hint.contains("--learning-rate") && !hint.contains("--init"),
            "{hint}"
        );
    }
}

/// The good checkpoint of a run that then goes wrong is the one that is kept.
#[test]
fn the_last_good_checkpoint_survives_what_comes_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 10, Masking::Dynamic);
    let run = folder.path().join("run");
    let plan = PretrainConfig {
        keep: 1,
        checkpoint_every: 1,
        eval_every: 0,
        ..short()
    };
    let mut watch = Watch {
        stop_after: Some(5),
        ..Watch::default()
    };
    let begin = Start::Config(config(folder.path()));
    pretrain(&data, &begin, &run, &plan, &mut watch).unwrap();
    let good = read_state(&newest(&run)).unwrap().1;
    // It goes on at another rate, and that is too high.
    let path = newest(&run).join("trainer_state/state.json");
    let mut state: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    state["config"]["learning_rate"] = 1e38.into();
    fs::write(&path, state.to_string()).unwrap();
    let plan = PretrainConfig {
        learning_rate: 1e38,
        ..plan
    };
    let error = train(&data, Start::Resume, &run, &plan).unwrap_err();
    assert!(matches!(error, Error::Broken { step: 6, .. }), "{error}");
    assert!(
        error
            .hint()
            .unwrap()
            .contains("is what this one had come to"),
        "{error:?}"
    );
    assert_eq!(trainer(&run).step, 5);
    assert!(read_state(&newest(&run)).unwrap().1 == good);
}

/// After the first, each is looked at: so it is not the next line of the log at which it ends.
#[test]
fn a_run_that_makes_no_step_ends_as_soon_as_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 0, Masking::Dynamic);
    let model = poisoned(folder.path(), &data, 2);
    let plan = PretrainConfig {
        steps: 40,
        log_every: 10,
        checkpoint_every: 0,
        max_skipped: 15,
        ..short()
    };
    let run = folder.path().join("run");
    let error = train(&data, Start::Init(model), &run, &plan).unwrap_err();
    assert!(
        matches!(error, Error::NonFinite { step: 15, .. }),
        "{error}"
    );
}

#[test]
fn the_best_evaluation_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 200, 40, Masking::Dynamic);
    let run = folder.path().join("run");
    // So high a rate that it soon gets worse.
    let plan = PretrainConfig {
        steps: 16,
        learning_rate: 0.3,
        warmup_steps: 8,
        eval_every: 2,
        checkpoint_every: 3,
        keep: 1,
        mlm_weight: 1.0,
        nsp_weight: 0.25,
        ..short()
    };
    let summary = train(&data, Start::Config(config(folder.path())), &run, &plan).unwrap();
    let evaluations: Vec<(u64, f64)> = records(&run)
        .into_iter()
        .filter_map(|r| match r {
            Record::Validation(r) if r.step > 0 => {
                let loss = r.report.mlm_loss.unwrap() + 0.25 * r.report.nsp_loss.unwrap();
                Some((r.step, loss))
            }
            _ => None,
        })
        .collect();
    let best = *evaluations
        .iter()
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .unwrap();
    assert!(best.0 < 16, "{evaluations:?}");
    let kept = trainer(&run).best.unwrap();
    assert_eq!((kept.step, kept.loss), best);
    assert_eq!(summary.steps, 16);
    let mut names: Vec<String> = fs::read_dir(run.join("checkpoints"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let name = format!("step-{:08}", best.0);
    assert_eq!(names, [name.clone(), "step-00000016".into()]);
    let bytes = |folder: PathBuf| fs::read(folder.join("model.safetensors")).unwrap();
    let weights = bytes(run.join("best"));
    assert!(weights == bytes(run.join("checkpoints").join(name)));
    assert!(weights != bytes(run.join("model")));
}

/// A step in passes is the step.
#[test]
fn memory_for_a_part_of_a_step_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 10, Masking::Dynamic);
    let runs: Vec<PathBuf> = [0, 30, 1]
        .into_iter()
        .map(|pass_tokens| {
            let run = folder.path().join(format!("run-{pass_tokens}"));
            let plan = PretrainConfig {
                pass_tokens,
                dropout: Some(0.1),
                ..short()
            };
            train(&data, Start::Config(config(folder.path())), &run, &plan).unwrap();
            run
        })
        .collect();
    let losses = |run: &Path| -> Vec<f64> {
        let loss = |r: Record| match r {
            Record::Train(r) => r.loss,
            Record::Validation(r) => r.report.mlm_loss.unwrap(),
            Record::Skipped(r) => panic!("{r:?}"),
        };
        records(run).into_iter().map(loss).collect()
    };
    let whole = losses(&runs[0]);
    for run in &runs[1..] {
        let ours = losses(run);
        assert_eq!(ours.len(), whole.len());
        for (a, b) in ours.iter().zip(&whole) {
            assert!((a - b).abs() < 1e-4, "{ours:?} {whole:?}");
        }
    }
}

#[test]
fn a_run_by_the_clock_ends_with_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 10, Masking::Dynamic);
    let run = folder.path().join("run");
    let plan = PretrainConfig {
        steps: u64::from(u32::MAX),
        hours: Some(0.8 / 3_600.0),
        warmup_steps: 3,
        eval_every: 0,
        checkpoint_every: 0,
        ..short()
    };
    let begin = Start::Config(config(folder.path()));
    let mut watch = Watch {
        stop_after: Some(5),
        ..Watch::default()
    };
    let summary = pretrain(&data, &begin, &run, &plan, &mut watch).unwrap();
    assert!(summary.stopped && summary.steps == 5);
    let before = trainer(&run).seconds;
    assert!(before > 0.0 && before < 0.8);
    let summary = train(&data, Start::Resume, &run, &plan).unwrap();
    assert!(!summary.stopped && summary.steps > 5 && summary.validation.is_some());
    assert!(trainer(&run).seconds >= 0.8);
    let rates: Vec<f64> = records(&run)
        .into_iter()
        .filter_map(|r| match r {
            Record::Train(r) => Some(r.learning_rate),
            _ => None,
        })
        .collect();
    let falls = |r: &[f64]| r.windows(2).all(|w| w[1] <= w[0]);
    assert!(falls(&rates[3..]) && rates[2] == 1e-2, "{rates:?}");
    assert!(*rates.last().unwrap() < 0.5 * rates[3], "{rates:?}");
    // Nothing is left to do.
    let steps = summary.steps;
    assert_eq!(
        train(&data, Start::Resume, &run, &plan).unwrap().steps,
        steps
    );
    // A run of another length is another run.
    let other = PretrainConfig {
        hours: Some(1.0),
        ..plan
    };
    let error = train(&data, Start::Resume, &run, &other).unwrap_err();
    assert!(error.to_string().contains("--hours"), "{error}");
}

/// Near the end of its time a run masks as one that has had the last rate from the first.
#[test]
fn the_rate_of_masks_follows_the_clock_where_the_run_does() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 10, Masking::Dynamic);
    let plan = PretrainConfig {
        hours: Some(1.0),
        steps: u64::from(u32::MAX),
        schedule: Schedule::Constant,
        mask_rate: 0.9,
        eval_every: 0,
        checkpoint_every: 0,
        ..short()
    };
    let begun = folder.path().join("begun");
    let until = |step| Watch {
        stop_after: Some(step),
        ..Watch::default()
    };
    let begin = Start::Config(config(folder.path()));
    pretrain(&data, &begin, &begun, &plan, &mut until(5)).unwrap();
    let parts = newest(&begun);
    // The loss of a few steps after the fifth, of which so many seconds were over, at rates from `first` to `last`.
    let losses = |seconds: f64, first: f64, last: Option<f64>| {
        let run = folder.path().join(format!("{seconds}-{first}-{last:?}"));
        let checkpoint = run.join("checkpoints/step-00000005");
        fs::create_dir_all(checkpoint.join("trainer_state")).unwrap();
        for entry in ["", "trainer_state"].map(|f| fs::read_dir(parts.join(f)).unwrap()) {
            for path in entry.map(|e| e.unwrap().path()).filter(|p| p.is_file()) {
                let to = checkpoint.join(path.strip_prefix(&parts).unwrap());
                fs::copy(&path, to).unwrap();
            }
        }
        let path = checkpoint.join("trainer_state/state.json");
        let mut state: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        state["seconds"] = seconds.into();
        state["config"]["mask_rate"] = first.into();
        state["config"]["mask_rate_end"] = last.into();
        fs::write(&path, state.to_string()).unwrap();
        let plan = PretrainConfig {
            mask_rate: first,
            mask_rate_end: last,
            ..plan.clone()
        };
        pretrain(&data, &Start::Resume, &run, &plan, &mut until(11)).unwrap();
        let loss = |r: Record| match r {
            Record::Train(r) => Some(r.loss),
            _ => None,
        };
        let losses: Vec<f64> = records(&run).into_iter().filter_map(loss).collect();
        assert_eq!(losses.len(), 6);
        losses
    };
    // Of rows this short that is one token, whatever the clock says exactly.
    let late = losses(3_500.0, 0.9, Some(0.01));
    assert_eq!(late, losses(3_500.0, 0.01, None));
    assert_ne!(late, losses(3_500.0, 0.9, None));
    assert_ne!(late, losses(1.0, 0.9, Some(0.01)));
}
