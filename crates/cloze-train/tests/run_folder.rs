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
