//! All of `cloze prepare`, by stages: see `cloze_bench`. One thread, so that its processor seconds are all there are; then two, by the clock.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use cloze_bench::{Bench, processor_seconds};
use cloze_prep::{Config, MaskUnitKind, MaskingKind, Progress, Stage, Work, prepare};

/// Processor seconds of each stage, of the thread that tells.
#[derive(Default)]
struct Stages(Mutex<Vec<(Stage, f64)>>);

impl Progress for Stages {
    fn begin(&self, stage: Stage, _: u64) {
        self.0.lock().unwrap().push((stage, processor_seconds()));
    }

    fn advance(&self, _: u64) {}

    fn count(&self, _: u64, _: u64) {}

    fn end(&self) {
        let mut stages = self.0.lock().unwrap();
        let (_, seconds) = stages.last_mut().unwrap();
        *seconds = processor_seconds() - *seconds;
    }
}

/// Prepares `text`, with the tokens in `folder/tokens`, into `folder/data`, which goes again.
fn run(folder: &Path, text: &Path, config: &Config) -> (Vec<(Stage, f64)>, f64) {
    let (stages, out) = (Stages::default(), folder.join("data"));
    let work = Work {
        tokens: Some(folder.join("tokens")),
        ..Work::default()
    };
    let begun = Instant::now();
    prepare(
        &[text.into()],
        &folder.join("vocab.txt"),
        &out,
        config,
        &work,
        &stages,
    )
    .unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    std::fs::remove_dir_all(out).unwrap();
    (stages.0.into_inner().unwrap(), seconds)
}

fn main() {
    let bench = Bench::new();
    let documents = cloze_bench::documents();
    let bytes: usize = documents.iter().map(String::len).sum();
    let megabytes = bytes as f64 / 1e6;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let vocabulary = cloze_bench::vocabulary(&documents);
    std::fs::write(folder.join("vocab.txt"), vocabulary.join("\n") + "\n").unwrap();
    let line = |text: &String| format!("{}\n", serde_json::json!({ "text": text }));
    let text = folder.join("a.jsonl");
    std::fs::write(&text, documents.iter().map(line).collect::<String>()).unwrap();
    let of = |mask_unit, masking| Config {
        masking,
        mask_unit,
        jobs: Some(1),
        ..Config::default()
    };
    let kinds = [
        (
            "dynamic masks",
            of(MaskUnitKind::Token, MaskingKind::Dynamic),
        ),
        (
            "static masks of tokens",
            of(MaskUnitKind::Token, MaskingKind::Static),
        ),
        (
            "static masks of words",
            of(MaskUnitKind::Word, MaskingKind::Static),
        ),
        (
            "static masks of spans",
            of(MaskUnitKind::Span, MaskingKind::Static),
        ),
    ];
    for (name, config) in kinds {
        for jobs in [1, 2] {
            let config = Config {
                jobs: Some(jobs),
                ..config.clone()
            };
            // The best of some rounds, stage by stage.
            let rounds = if bench.only_once() { 1 } else { 5 };
            let (mut best, mut wall) = ([f64::INFINITY; 3], f64::INFINITY);
            for _ in 0..rounds {
                let _ = std::fs::remove_dir_all(folder.join("tokens"));
                let (stages, seconds) = run(folder, &text, &config);
                wall = wall.min(seconds);
                for (best, (_, seconds)) in best.iter_mut().zip(&stages) {
                    *best = best.min(*seconds);
                }
            }
            let speed = |seconds: f64| megabytes / seconds;
            let [tokenize, pair, write] = best;
            match jobs {
                _ if bench.only_once() => {}
                1 => println!(
                    "{name:24} one thread: tokenize {:6.1}, pair {:6.1}, write {:6.1}, all {:6.1} MB a processor second",
                    speed(tokenize),
                    speed(pair),
                    speed(write),
                    speed(tokenize + pair + write),
                ),
                _ => println!(
                    "{name:24} two threads: {:6.1} MB a second by the clock, start and end included",
                    speed(wall)
                ),
            }
        }
    }
}
