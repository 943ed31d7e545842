//! The loop on a small dataset: it learns, resumes bit for bit, and refuses what does not fit.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use cloze_shard::manifest::Masking;
use cloze_shard::masking::MaskingRule;
use cloze_shard::{Dataset, manifest};
use cloze_train::checkpoint::{self, read_state};
use cloze_train::engine::{EngineKind, Objective, Precision};
use cloze_train::eval::evaluate;
use cloze_train::feed::{Feed, Position};
use cloze_train::record::{Record, StepRecord, ValidationRecord};
use cloze_train::{Begun, Error, Observer, PretrainConfig, Result, Start, Summary, pretrain};
use support::{VOCAB, config, dataset, tokens};

struct Quiet;

impl Observer for Quiet {
    fn on_start(&mut self, _: &Begun<'_>) {}
    fn on_step(&mut self, _: &StepRecord) {}
    fn on_validation(&mut self, _: &ValidationRecord) {}
    fn on_checkpoint(&mut self, _: &Path) {}
}

/// Stops the process's work by panicking after a checkpoint: what a kill leaves behind.
struct KilledAfter(u64);

impl Observer for KilledAfter {
    fn on_start(&mut self, _: &Begun<'_>) {}
    fn on_step(&mut self, record: &StepRecord) {
        assert!(record.step < self.0, "killed");
    }
    fn on_validation(&mut self, _: &ValidationRecord) {}
    fn on_checkpoint(&mut self, _: &Path) {}
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
    pretrain(data, &start, run, config, &mut Quiet)
}

fn records(run: &Path) -> Vec<Record> {
    let text = fs::read_to_string(run.join("train.jsonl")).unwrap();
    text.lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

/// What of a log does not depend on the clock.
fn losses(run: &Path) -> Vec<String> {
    let timeless = |r: Record| match r {
        Record::Train(r) => format!(
            "{:?}",
            StepRecord {
                tokens_per_second: 0.0,
                data_wait_fraction: 0.0,
                step_seconds: 0.0,
                seconds_left: 0.0,
                ..r
            }
        ),
        Record::Validation(r) => format!("{r:?}"),
        Record::Skipped(r) => format!("{r:?}"),
    };
    records(run).into_iter().map(timeless).collect()
}

#[test]
fn it_learns() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 4_000, 200, Masking::Dynamic);
    let run = folder.path().join("run");
    let plan = PretrainConfig {
        steps: 500,
        batch_tokens: 1_024,
        warmup_steps: 50,
        eval_every: 0,
        dropout: Some(0.0),
        ..short()
    };
    let summary = train(&data, Start::Config(config(folder.path())), &run, &plan).unwrap();
    let report = summary.validation.unwrap();
    let chance = (VOCAB as f64).ln();
    assert!(report.mlm_loss.unwrap() < 0.6 * chance, "{report:?}");
    assert!(report.nsp_accuracy.unwrap() > 0.75, "{report:?}");
    let again = evaluate(
        &data,
        "validation",
        &run.join("model"),
        MaskingRule::default(),
        0,
        1_024,
        0,
        Default::default(),
        &mut |_| (),
    )
    .unwrap();
    assert_eq!(
        again, report,
        "the model in the run folder is the model that was trained"
    );
}

#[test]
fn a_resumed_run_is_bit_equal_to_one_that_never_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 10, Masking::Dynamic);
    let begin = || Start::Config(config(folder.path()));
    let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
    train(&data, begin(), &whole, &short()).unwrap();
    // Killed in step 9: the checkpoint of step 5 is the newest, the log goes further.
    let killed = std::panic::catch_unwind(|| {
        pretrain(&data, &begin(), &broken, &short(), &mut KilledAfter(9))
    });
    assert!(killed.is_err());
    assert!(records(&broken).last().unwrap().step() > 5);
    train(&data, Start::Resume, &broken, &short()).unwrap();
    let state = |run: &Path| read_state(&checkpoint::latest(run).unwrap().unwrap()).unwrap();
    assert!(
        state(&whole) == state(&broken),
        "parameters, moments and position"
    );
    assert_eq!(losses(&whole), losses(&broken));
    assert!(
        state(&whole).0.position.epoch >= 1,
        "the run crosses an epoch"
    );
    let bytes = |run: &Path| fs::read(run.join("model/model.safetensors")).unwrap();
    assert!(bytes(&whole) == bytes(&broken));
}

#[test]
fn another_seed_is_another_run() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 10, Masking::Dynamic);
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    train(&data, Start::Config(config(folder.path())), &a, &short()).unwrap();
    train(
        &data,
        Start::Config(config(folder.path())),
        &b,
        &PretrainConfig { seed: 1, ..short() },
    )
    .unwrap();
    assert_ne!(losses(&a), losses(&b));
}

#[test]
fn mlm_alone_leaves_the_nsp_head_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 10, Masking::Dynamic);
    let first = folder.path().join("first");
    train(
        &data,
        Start::Config(config(folder.path())),
        &first,
        &short(),
    )
    .unwrap();
    let second = folder.path().join("second");
    let plan = PretrainConfig {
        objective: Objective::Mlm,
        ..short()
    };
    let summary = train(&data, Start::Init(first.join("model")), &second, &plan).unwrap();
    assert_eq!(
        summary.validation.unwrap().nsp_accuracy,
        None,
        "what is not trained is not measured"
    );
    let (model, before, report) = checkpoint::read_model(&first.join("model"), 0).unwrap();
    let (_, after, _) = checkpoint::read_model(&second.join("model"), 0).unwrap();
    assert!(report.initialised.is_empty() && report.ignored.is_empty());
    for p in cloze_train::parameters::Layout::new(&model).parameters() {
        assert_eq!(
            before[p.range()] == after[p.range()],
            p.nsp_only,
            "{}",
            p.name
        );
    }
}

/// Two processes never write the same run.
#[test]
fn a_run_is_locked() {
    struct Nested<'a>(&'a Path, &'a Path, Option<String>);
    impl Observer for Nested<'_> {
        fn on_start(&mut self, _: &Begun<'_>) {}
        fn on_step(&mut self, _: &StepRecord) {}
        fn on_validation(&mut self, _: &ValidationRecord) {}
        fn on_checkpoint(&mut self, _: &Path) {
            let second = train(self.0, Start::Resume, self.1, &short());
            self.2.get_or_insert(second.unwrap_err().to_string());
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 5, Masking::Dynamic);
    let run = folder.path().join("run");
    let mut observer = Nested(&data, &run, None);
    let start = Start::Config(config(folder.path()));
    pretrain(&data, &start, &run, &short(), &mut observer).unwrap();
    assert!(observer.2.unwrap().contains("another process"));
}

#[test]
fn a_broken_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 30, 5, Masking::Dynamic);
    let run = folder.path().join("run");
    train(&data, Start::Config(config(folder.path())), &run, &short()).unwrap();
    let path = run.join("model/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let why = checkpoint::read_model(&run.join("model"), 0)
        .unwrap_err()
        .to_string();
    assert!(
        why.contains("NaN") && why.contains("model.safetensors"),
        "{why}"
    );
}

/// Each epoch takes every row once, in an order of its own.
#[test]
fn epochs_have_orders_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let data = Dataset::open(&dataset(folder.path(), 40, 5, Masking::Dynamic)).unwrap();
    let split = data.split("train").unwrap();
    let mut feed = Feed::new(&data, split, MaskingRule::default(), 3, 16, VOCAB).unwrap();
    let mut epoch = |number: u32| {
        feed.seek(Position {
            epoch: number,
            row_in_epoch: 0,
        });
        let mut lengths = Vec::new();
        while feed.position().epoch == number && feed.position().row_in_epoch < 40 {
            let batch = feed.next_batch().unwrap().unwrap();
            lengths.extend(batch.cu_seqlens.windows(2).map(|w| w[1] - w[0]));
        }
        lengths
    };
    let (first, again, second) = (epoch(0), epoch(0), epoch(1));
    assert!(first == again && first != second);
    let sorted = |mut lengths: Vec<u32>| {
        lengths.sort_unstable();
        lengths
    };
    assert_eq!(sorted(first), sorted(second));
}

/// Damaged rows are not trained on: no row leaves the feed that breaks a rule of the format.
#[test]
fn damaged_rows_are_not_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 40, 5, Masking::Dynamic);
    let path = data.join("train/part-00000.arrow");
    let mut bytes = fs::read(&path).unwrap();
    // [CLS] of the first row, then [SEP] and [CLS] of two neighbours.
    let pattern: Vec<u8> = [3u16, 2].iter().flat_map(|id| id.to_le_bytes()).collect();
    let at = bytes.windows(4).position(|w| w == pattern).unwrap();
    bytes[at] = 9;
    fs::write(&path, bytes).unwrap();
    let why = train(
        &data,
        Start::Config(config(folder.path())),
        &folder.path().join("run"),
        &short(),
    );
    assert!(matches!(why, Err(Error::Row { .. })), "{why:?}");
}

/// The checkpoint in `model` without the tensors whose names begin so.
fn strip(model: &Path, prefix: &str) {
    let path = model.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let kept: Vec<_> = tensors
        .iter()
        .filter(|(name, _)| !name.starts_with(prefix))
        .collect();
    assert!(kept.len() < tensors.len());
    fs::write(&path, safetensors::serialize(kept, None).unwrap()).unwrap();
}

#[test]
fn what_is_not_there_is_not_measured() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 30, 5, Masking::Dynamic);
    let run = folder.path().join("run");
    train(&data, Start::Config(config(folder.path())), &run, &short()).unwrap();
    let model = run.join("model");
    let eval = |data: &Path, split: &str| {
        evaluate(
            data,
            split,
            &model,
            MaskingRule::default(),
            0,
            64,
            0,
            Default::default(),
            &mut |_| (),
        )
    };
    let whole = eval(&data, "validation").unwrap();
    assert!(whole.nsp_accuracy.is_some() && whole.rows == 5);
    strip(&model, "cls.seq_relationship.");
    let without = eval(&data, "validation").unwrap();
    assert_eq!(
        (without.mlm_loss, without.nsp_accuracy),
        (whole.mlm_loss, None)
    );
    let says = |split: &str, data: &Path| eval(data, split).unwrap_err().to_string();
    assert!(says("test", &data).contains("no such split"));
    let other = tempfile::tempdir().unwrap();
    assert!(says("validation", &dataset(other.path(), 9, 0, Masking::Dynamic)).contains("no rows"));
    strip(&model, "cls.predictions.transform");
    assert!(says("validation", &data).contains("no MLM head"));
}

#[test]
fn static_masks_are_what_is_predicted() {
    let folder = tempfile::tempdir().unwrap();
    let masking = Masking::Static {
        rule: MaskingRule::default(),
    };
    let data = Dataset::open(&dataset(folder.path(), 5, 3, masking)).unwrap();
    let split = data.split("validation").unwrap();
    let feed = |seed| {
        Feed::new(&data, split, MaskingRule::default(), seed, 64, VOCAB)
            .unwrap()
            .in_order()
    };
    let batch = feed(1).next_batch().unwrap().unwrap();
    assert_eq!(batch, feed(2).next_batch().unwrap().unwrap());
    assert_eq!(
        batch.masked_positions,
        batch.cu_seqlens[..3]
            .iter()
            .map(|s| s + 1)
            .collect::<Vec<_>>()
    );
    let labels: Vec<u32> = split
        .iter()
        .map(|r| r.masks.unwrap().labels.get(0).unwrap())
        .collect();
    assert_eq!(batch.masked_labels, labels);
    assert!(
        batch
            .masked_positions
            .iter()
            .all(|&p| batch.input_ids[p as usize] == 4)
    );
}

#[test]
fn an_epoch_holds_every_row_once_and_a_position_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let data = Dataset::open(&dataset(folder.path(), 50, 3, Masking::Dynamic)).unwrap();
    let split = data.split("train").unwrap();
    let feed = || Feed::new(&data, split, MaskingRule::default(), 7, 40, VOCAB).unwrap();
    let mut whole = feed();
    let (mut batches, mut positions) = (vec![], vec![Position::default()]);
    while whole.position().epoch < 2 {
        batches.push(whole.next_batch().unwrap().unwrap());
        positions.push(whole.position());
    }
    let rows = |epoch: u32| -> usize {
        batches
            .iter()
            .zip(&positions[1..])
            .filter(|(_, p)| p.epoch == epoch)
            .map(|(b, _)| b.rows())
            .sum()
    };
    assert_eq!((rows(0), rows(1)), (50, 50));
    assert!(
        batches
            .iter()
            .all(|b| b.tokens() <= 40 && b.masked_positions.len() >= b.rows())
    );
    for (i, position) in positions.iter().enumerate().take(batches.len()) {
        let mut there = feed();
        there.seek(*position);
        assert_eq!(there.next_batch().unwrap().unwrap(), batches[i]);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 30, 5, Masking::Dynamic);
    let shape = config(folder.path());
    let run = folder.path().join("run");
    train(&data, Start::Config(shape.clone()), &run, &short()).unwrap();
    let model = run.join("model");
    let fails = |start: Start, run: &str, plan: PretrainConfig, expected: &[&str]| {
        let out = folder.path().join(run);
        let existed = out.exists();
        let error = train(&data, start, &out, &plan).expect_err(expected[0]);
        let text = format!("{error} {}", error.hint().unwrap_or_default());
        expected
            .iter()
            .for_each(|e| assert!(text.contains(e), "{text:?} does not say {e:?}"));
        assert_eq!(out.exists(), existed, "a refused run leaves no folder");
    };
    fails(
        Start::Config(shape.clone()),
        "run",
        short(),
        &["holds a run already", "--resume"],
    );
    fails(Start::Resume, "nothing", short(), &["no checkpoint"]);
    fails(
        Start::Resume,
        "run",
        PretrainConfig { seed: 3, ..short() },
        &["--seed was 0, is 3"],
    );
    fails(
        Start::Config(shape.clone()),
        "new",
        PretrainConfig {
            batch_tokens: 8,
            ..short()
        },
        &["--batch-tokens"],
    );
    fails(
        Start::Config(shape.clone()),
        "new",
        PretrainConfig {
            warmup_steps: 13,
            ..short()
        },
        &["--warmup-steps"],
    );
    fails(
        Start::Config(shape.clone()),
        "new",
        PretrainConfig {
            engine: EngineKind::Reference,
            precision: Some(Precision::Bf16),
            ..short()
        },
        &["--precision", "--engine reference"],
    );

    let changed = |name: &str, value: u64| {
        let mut json: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(&shape).unwrap()).unwrap();
        json[name] = value.into();
        let path = folder.path().join(format!("{name}.json"));
        fs::write(&path, json.to_string()).unwrap();
        Start::Config(path)
    };
    fails(
        changed("max_position_embeddings", 8),
        "new",
        short(),
        &["up to", "8 positions", "--seq-len 8"],
    );
    fails(
        changed("vocab_size", 39),
        "new",
        short(),
        &["40 entries", "39"],
    );

    let other = |name: &str, edit: &dyn Fn(&Path)| -> Start {
        let copy = folder.path().join(name);
        fs::create_dir(&copy).unwrap();
        for entry in fs::read_dir(&model).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
        }
        edit(&copy);
        Start::Init(copy)
    };
    let words = |folder: &Path| {
        let mut tokens = tokens();
        tokens.swap(7, 8);
        fs::write(folder.join("vocab.txt"), tokens.join("\n")).unwrap();
    };
    fails(
        other("words", &words),
        "new",
        short(),
        &["vocabularies differ", "not the same ones", "--tokenizer"],
    );
    let cut = |folder: &Path| {
        let path = folder.join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    };
    fails(
        other("cut", &cut),
        "new",
        short(),
        &["model.safetensors", "not a whole safetensors file"],
    );
}

#[test]
fn divergence_stops_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 30, 0, Masking::Dynamic);
    let plan = PretrainConfig {
        learning_rate: 1e30,
        warmup_steps: 0,
        clip: 0.0,
        ..short()
    };
    let error = train(
        &data,
        Start::Config(config(folder.path())),
        &folder.path().join("run"),
        &plan,
    )
    .unwrap_err();
    assert!(
        matches!(error, Error::NonFinite { .. } | Error::Broken { .. }),
        "{error}"
    );
}

#[test]
fn manifest_of_another_dataset_is_not_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 30, 5, Masking::Dynamic);
    let run = folder.path().join("run");
    train(&data, Start::Config(config(folder.path())), &run, &short()).unwrap();
    let mut changed = manifest::Manifest::read(&data).unwrap();
    changed.seed = 99;
    changed.write(&data).unwrap();
    let error = train(&data, Start::Resume, &run, &short())
        .unwrap_err()
        .to_string();
    assert!(error.contains("the dataset is another one"), "{error}");
}

/// Checkpoints that are kept: the newest ones.
#[test]
fn old_checkpoints_go() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 30, 0, Masking::Dynamic);
    let run = folder.path().join("run");
    let plan = PretrainConfig {
        checkpoint_every: 2,
        keep: 2,
        ..short()
    };
    train(&data, Start::Config(config(folder.path())), &run, &plan).unwrap();
    let mut names: Vec<PathBuf> = fs::read_dir(run.join("checkpoints"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    names.sort();
    let names: Vec<_> = names
        .iter()
        .map(|p| p.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(names, ["step-00000010", "step-00000012"]);
}
