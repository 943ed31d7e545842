//! The folder of a run: who may use it, and what becomes of one that is damaged.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use cloze_shard::manifest::Masking;
use cloze_train::parallel::{Address, World};
use cloze_train::record::{StepRecord, ValidationRecord};
use cloze_train::{
    Begun, Error, Observer, PretrainConfig, Result, Start, Summary, checkpoint, pretrain,
    pretrain_in,
};
use support::{config, dataset};

struct Quiet;

impl Observer for Quiet {
    fn on_start(&mut self, _: &Begun<'_>) {}
    fn on_step(&mut self, _: &StepRecord) {}
    fn on_validation(&mut self, _: &ValidationRecord) {}
    fn on_checkpoint(&mut self, _: &Path) {}
}

fn short() -> PretrainConfig {
    PretrainConfig {
        steps: 6,
        batch_tokens: 64,
        warmup_steps: 3,
        eval_every: 2,
        checkpoint_every: 4,
        log_every: 1,
        ..PretrainConfig::default()
    }
}

fn train(data: &Path, start: Start, run: &Path) -> Result<Summary> {
    pretrain(data, &start, run, &short(), &mut Quiet)
}

/// What an error says, and what it advises.
fn said(error: &Error) -> String {
    format!("{error} | {}", error.hint().unwrap_or_default())
}

fn fails(data: &Path, start: Start, run: &Path, expected: &[&str]) {
    let said = said(&train(data, start, run).unwrap_err());
    for text in expected {
        assert!(said.contains(text), "{said:?} does not say {text:?}");
    }
}

#[test]
fn a_run_that_goes_on_now_is_not_taken_for_one_that_was_stopped() {
    struct Nested<'a>(&'a Path, &'a Path, &'a Path);
    impl Observer for Nested<'_> {
        fn on_start(&mut self, _: &Begun<'_>) {}
        fn on_step(&mut self, record: &StepRecord) {
            let fresh = || Start::Config(self.2.into());
            let auto = Start::ResumeOr(Box::new(fresh()));
            // Before there is a checkpoint and after.
            assert_eq!(
                checkpoint::latest(self.1).unwrap().is_some(),
                record.step > 2
            );
            for start in [fresh(), Start::Resume, auto] {
                fails(
                    self.0,
                    start,
                    self.1,
                    &["another process is training in it"],
                );
            }
        }
        fn on_validation(&mut self, _: &ValidationRecord) {}
        fn on_checkpoint(&mut self, _: &Path) {}
    }
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 5, Masking::Dynamic);
    let run = folder.path().join("run");
    let config = config(folder.path());
    let start = Start::Config(config.clone());
    let mut nested = Nested(&data, &run, &config);
    pretrain(&data, &start, &run, &short(), &mut nested).unwrap();
}

#[test]
fn what_was_not_published_is_published_when_the_run_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 5, Masking::Dynamic);
    let run = folder.path().join("run");
    train(&data, Start::Config(config(folder.path())), &run).unwrap();
    let weights = |name: &str| fs::read(run.join(name).join("model.safetensors")).unwrap();
    let (model, best) = (weights("model"), weights("best"));
    // A process may be killed after the checkpoint is there and before its model is.
    fs::remove_dir_all(run.join("best")).unwrap();
    let stale = run.join("model/model.safetensors");
    fs::remove_file(&stale).unwrap();
    fs::write(&stale, "of an older step").unwrap();
    train(&data, Start::Resume, &run).unwrap();
    assert!(weights("model") == model && weights("best") == best);
}

#[test]
fn a_damaged_checkpoint_is_not_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 5, Masking::Dynamic);
    let run = folder.path().join("run");
    train(&data, Start::Config(config(folder.path())), &run).unwrap();
    let newest = checkpoint::latest(&run).unwrap().unwrap();
    let damaged = &["the checkpoint is damaged", "--resume goes on"];
    for name in [
        "model.safetensors",
        "config.json",
        "vocab.txt",
        "trainer_state/optimizer.safetensors",
        "trainer_state/state.json",
    ] {
        let path = newest.join(name);
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        // A bit of the state itself shows only where it is no state any more.
        if name != "trainer_state/state.json" {
            fs::write(&path, &bad).unwrap();
            fails(&data, Start::Resume, &run, &[name, "blake3"]);
            fails(&data, Start::Resume, &run, damaged);
        }
        fs::write(&path, &good[..middle]).unwrap();
        fails(&data, Start::Resume, &run, damaged);
        fs::remove_file(&path).unwrap();
        fails(&data, Start::Resume, &run, damaged);
        fs::write(&path, good).unwrap();
    }
    // What the hint says.
    fs::remove_dir_all(&newest).unwrap();
    assert_eq!(train(&data, Start::Resume, &run).unwrap().steps, 6);
}

/// Everything of the newest checkpoint that a run goes on from.
fn newest(run: &Path) -> [Vec<u8>; 2] {
    let newest = checkpoint::latest(run).unwrap().unwrap();
    [
        "trainer_state/state.json",
        "trainer_state/optimizer.safetensors",
    ]
    .map(|name| fs::read(newest.join(name)).unwrap())
}

#[test]
fn a_job_that_is_left_alone_goes_on_from_the_checkpoint_before_a_damaged_one() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 5, Masking::Dynamic);
    let run = folder.path().join("run");
    train(&data, Start::Config(config(folder.path())), &run).unwrap();
    assert!(checkpoint::set_damaged_aside(&run).unwrap().is_empty());
    let whole = newest(&run);
    let last = run.join("checkpoints/step-00000006");
    fs::write(last.join("trainer_state/optimizer.safetensors"), "x").unwrap();
    let aside = checkpoint::set_damaged_aside(&run).unwrap();
    let damaged = run.join("checkpoints/step-00000006.damaged");
    assert_eq!(aside.len(), 1);
    assert!(aside[0].0 == damaged && damaged.is_dir() && !last.exists());
    assert!(aside[0].1.to_string().contains("optimizer.safetensors"));
    train(&data, Start::Resume, &run).unwrap();
    assert!(newest(&run) == whole);
    // The only one there is stays where it is: beginning anew is for a person to decide.
    for step in ["step-00000004", "step-00000006.damaged"] {
        fs::remove_dir_all(run.join("checkpoints").join(step)).ok();
    }
    let all = fs::read_dir(run.join("checkpoints")).unwrap();
    for entry in all.flatten().filter(|e| e.path() != last) {
        fs::remove_dir_all(entry.path()).unwrap();
    }
    fs::write(last.join("trainer_state/state.json"), "{").unwrap();
    assert!(checkpoint::set_damaged_aside(&run).unwrap().is_empty());
    assert!(last.is_dir());
}

/// A run that goes on writes the checkpoint that it went on from again, if an evaluation was due.
#[test]
fn a_checkpoint_that_is_written_again_is_there_throughout() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 5, Masking::Dynamic);
    let run = folder.path().join("run");
    train(&data, Start::Config(config(folder.path())), &run).unwrap();
    let whole = newest(&run);
    // Killed between the two renames: the old one has its other name, the new one none yet.
    let checkpoints = run.join("checkpoints");
    let aside = checkpoints.join(".step-00000006.old");
    fs::rename(checkpoints.join("step-00000006"), &aside).unwrap();
    fs::create_dir(checkpoints.join(".step-00000006.partial")).unwrap();
    assert_eq!(checkpoint::latest(&run).unwrap().unwrap(), aside);
    assert!(newest(&run) == whole);
    assert_eq!(train(&data, Start::Resume, &run).unwrap().steps, 6);
    // After both, the new one counts.
    fs::create_dir(checkpoints.join("step-00000006")).unwrap();
    assert!(
        checkpoint::latest(&run)
            .unwrap()
            .unwrap()
            .ends_with("step-00000006")
    );
}

#[test]
fn a_model_whose_checkpoints_are_gone_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 5, Masking::Dynamic);
    let run = folder.path().join("run");
    let fresh = || Start::Config(config(folder.path()));
    train(&data, fresh(), &run).unwrap();
    fs::remove_dir_all(run.join("checkpoints")).unwrap();
    let model = fs::read(run.join("model/model.safetensors")).unwrap();
    for start in [fresh(), Start::Resume, Start::ResumeOr(Box::new(fresh()))] {
        let expected = [
            "no checkpoint to go on from",
            "give another --out",
            "--init",
        ];
        fails(&data, start, &run, &expected);
    }
    assert!(fs::read(run.join("model/model.safetensors")).unwrap() == model);
}

#[test]
fn no_step_at_all_writes_the_model_as_it_begins() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 5, Masking::Dynamic);
    let run = folder.path().join("run");
    let none = PretrainConfig {
        steps: 0,
        warmup_steps: 0,
        ..short()
    };
    let start = || Start::Config(config(folder.path()));
    let summary = pretrain(&data, &start(), &run, &none, &mut Quiet).unwrap();
    assert!(summary.steps == 0 && !summary.stopped && summary.validation.is_some());
    let (_, state) = checkpoint::read_state(&checkpoint::latest(&run).unwrap().unwrap()).unwrap();
    let shape = cloze_train::BertConfig::read(&config(folder.path())).unwrap();
    let drawn = checkpoint::initial_parameters(&shape, none.seed);
    assert!(state.parameters == drawn);
    let again = Start::ResumeOr(Box::new(start()));
    assert_eq!(
        pretrain(&data, &again, &run, &none, &mut Quiet)
            .unwrap()
            .steps,
        0
    );
}

#[test]
fn a_tokenizer_that_is_not_the_datasets_is_found_before_the_first_step() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 5, Masking::Dynamic);
    let path = data.join("tokenizer/vocab.txt");
    let text = fs::read_to_string(&path).unwrap();
    for change in [Some(text.replace("w7\n", "w0\n")), Some("w".into()), None] {
        match change {
            Some(text) => fs::write(&path, text).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let run = folder.path().join("run");
        fails(
            &data,
            Start::Config(config(folder.path())),
            &run,
            &["tokenizer/vocab.txt"],
        );
        assert!(!run.exists());
    }
}

/// Whatever lies in the tokenizer's folder is written beside a model's own files: so nothing may that the dataset does not name.
#[test]
fn files_that_the_dataset_does_not_name_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 5, Masking::Dynamic);
    let run = folder.path().join("run");
    for name in ["config.json", "model.safetensors", "notes"] {
        let path = data.join("tokenizer").join(name);
        fs::write(&path, "{}").unwrap();
        let start = Start::Config(config(folder.path()));
        fails(
            &data,
            start,
            &run,
            &[name, "names no such file", "delete it"],
        );
        assert!(!run.exists());
        fs::remove_file(&path).unwrap();
    }
    // Nor may it name a model's.
    let path = data.join("manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    for name in [
        "config.json",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "a/b",
        "",
    ] {
        let other = text.replace("tokenizer/vocab.txt", &format!("tokenizer/{name}"));
        assert!(other != text);
        fs::write(&path, other).unwrap();
        let start = Start::Config(config(folder.path()));
        fails(
            &data,
            start,
            &run,
            &["manifest.json", "no file of a tokenizer"],
        );
    }
}

/// A process that is killed while it writes a checkpoint leaves a part of one.
#[test]
fn what_a_killed_process_has_left_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 5, Masking::Dynamic);
    let run = folder.path().join("run");
    train(&data, Start::Config(config(folder.path())), &run).unwrap();
    let checkpoints = run.join("checkpoints");
    for left in [".step-00000003.partial", ".step-00000006.old"] {
        fs::create_dir_all(checkpoints.join(left).join("trainer_state")).unwrap();
    }
    train(&data, Start::Resume, &run).unwrap();
    let hidden = |e: &fs::DirEntry| e.file_name().to_string_lossy().starts_with('.');
    let left = fs::read_dir(&checkpoints).unwrap().flatten();
    assert_eq!(left.filter(hidden).count(), 0);
}

/// What is said of a checkpoint's size is what it takes, but for the files of configuration and tokenizer.
#[test]
fn a_checkpoint_takes_what_was_said() {
    struct Said(u64);
    impl Observer for Said {
        fn on_start(&mut self, begun: &Begun<'_>) {
            self.0 = begun.room.checkpoint;
        }
        fn on_step(&mut self, _: &StepRecord) {}
        fn on_validation(&mut self, _: &ValidationRecord) {}
        fn on_checkpoint(&mut self, _: &Path) {}
    }
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 5, Masking::Dynamic);
    let run = folder.path().join("run");
    let start = Start::Config(config(folder.path()));
    let mut said = Said(0);
    pretrain(&data, &start, &run, &short(), &mut said).unwrap();
    let newest = checkpoint::latest(&run).unwrap().unwrap();
    let taken = cloze_shard::room::taken(&newest);
    // Names and shapes, and what is at most written beside.
    assert!(
        said.0 <= taken && taken < said.0 + 16_000,
        "{} {taken}",
        said.0
    );
}

#[test]
fn a_file_is_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 5, Masking::Dynamic);
    let config = config(folder.path());
    let start = Start::Config(config.clone());
    fails(&data, start, &config, &["not the folder of a run", "--out"]);
}

/// A process that cannot begin tells the others at once.
#[test]
fn others_hear_of_a_failure_before_they_have_met() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), 60, 5, Masking::Dynamic);
    let nothing = folder.path().join("nothing");
    for lame in [0, 1] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let begun = Instant::now();
        let start = Start::Config(config(folder.path()));
        let run = folder.path().join("run");
        let errors: Vec<Error> = std::thread::scope(|scope| {
            let one = |rank: usize| {
                let world = World {
                    rank,
                    world_size: 2,
                    local_rank: rank,
                    address: Some(Address {
                        host: "127.0.0.1".into(),
                        port,
                    }),
                    job: String::new(),
                };
                let data = if rank == lame { &nothing } else { &data };
                let (start, run) = (&start, &run);
                scope.spawn(move || {
                    pretrain_in(&world, data, start, run, &short(), &mut Quiet).unwrap_err()
                })
            };
            let threads = [one(0), one(1)];
            threads.map(|t| t.join().unwrap()).into()
        });
        assert!(begun.elapsed() < Duration::from_secs(8), "{errors:?}");
        assert!(!run.exists());
        let own = errors[lame].to_string();
        assert!(own.contains("not a Cloze dataset"), "{own}");
        let other = errors[1 - lame].to_string();
        assert!(other.contains(&format!("rank {lame} failed: ")), "{other}");
        assert!(other.contains("not a Cloze dataset"), "{other}");
    }
}
