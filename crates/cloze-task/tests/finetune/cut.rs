//! Seeds that do not come to their end: they diverge, or somebody asks to stop.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use cloze_task::Error;
use cloze_task::finetune::{FinetuneConfig, Results};
use serde_json::{Value, json};

use crate::support::{Seen, lines, options, plain, run};

/// A regression; twice the label of a huge row is beyond single precision.
fn rows(path: &Path, huge: Range<usize>) -> PathBuf {
    lines(
        path,
        (0..12)
            .map(|i| json!({"text": "red", "label": if huge.contains(&i) { 3.4e38 } else { 0.5 }})),
    )
}

struct Place {
    folder: tempfile::TempDir,
    model: PathBuf,
    files: [PathBuf; 3],
}

impl Place {
    fn new(huge: Range<usize>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        Self {
            model: plain(folder.path()),
            files: [
                rows(&at("train.jsonl"), huge),
                rows(&at("dev.jsonl"), 0..0),
                rows(&at("test.jsonl"), 0..0),
            ],
            folder,
        }
    }

    fn out(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(
        &self,
        out: &str,
        options: &FinetuneConfig,
        seen: &mut Seen,
    ) -> cloze_task::Result<Results> {
        let files: Vec<&Path> = self.files.iter().map(AsRef::as_ref).collect();
        run(&self.model, &files, &self.out(out), options, seen)
    }
}

fn short() -> FinetuneConfig {
    FinetuneConfig {
        epochs: 1,
        batch_size: 1,
        max_skipped: 2,
        ..options()
    }
}

fn written(out: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(out.join("results.json")).unwrap()).unwrap()
}

#[test]
fn seeds_that_diverge_leave_the_others_alone() {
    let place = Place::new(0..4);
    let (mut well, mut bad) = (Vec::new(), Vec::new());
    for seed in 0..6 {
        let plan = FinetuneConfig { seed, ..short() };
        match place.run(&format!("{seed}"), &plan, &mut Seen::default()) {
            Ok(results) => well.push(results.seeds[0].clone()),
            Err(
                Error::NonFinite {
                    seed: named, step, ..
                }
                | Error::Diverged { seed: named, step },
            ) => {
                assert_eq!(named, seed);
                bad.push((seed, step, "diverged"));
            }
            Err(e) => panic!("{e}"),
        }
    }
    assert!(well.len() > 1 && bad.len() > 1, "{well:?} {bad:?}");
    assert!(
        bad[0].0 < well.last().unwrap().seed,
        "one comes before another"
    );
    let plan = FinetuneConfig {
        seeds: 6,
        ..short()
    };
    let mut seen = Seen::default();
    let results = place.run("all", &plan, &mut seen).unwrap();
    assert_eq!(results.seeds, well);
    let cut: Vec<_> = results
        .cut
        .iter()
        .map(|c| (c.seed, c.step, c.why))
        .collect();
    assert_eq!(cut, bad);
    assert_eq!(seen.cut, bad.iter().map(|b| b.0).collect::<Vec<_>>());
    assert!(well.iter().any(|s| s.seed == results.kept_seed));
    assert_eq!(
        written(&place.out("all"))["cut"].as_array().unwrap().len(),
        bad.len()
    );
    assert!(
        written(&place.out(&well[0].seed.to_string()))
            .get("cut")
            .is_none()
    );
}

#[test]
fn the_best_so_far_is_kept_where_no_seed_comes_to_its_end() {
    // All huge but one: it diverges after a step or a few.
    let place = Place::new(0..8);
    let plan = FinetuneConfig {
        eval_every: 1,
        ..short()
    };
    let good = (0..9).find_map(|seed| {
        let plan = FinetuneConfig {
            seed,
            ..plan.clone()
        };
        let results = place.run(&format!("{seed}"), &plan, &mut Seen::default());
        results.ok().filter(|r| !r.cut.is_empty())
    });
    let results = good.unwrap();
    assert_eq!((results.seeds.len(), results.cut.len()), (1, 1));
    let (seed, cut) = (&results.seeds[0], &results.cut[0]);
    assert_eq!(
        (seed.seed, seed.steps, cut.why),
        (cut.seed, cut.step, "diverged")
    );
    assert!(seed.dev.is_some() && seed.test.is_none(), "{seed:?}");
    let out = place.out(&cut.seed.to_string());
    assert!(out.join("model.safetensors").exists() && !out.join("predictions.jsonl").exists());
}

#[test]
fn a_stop_keeps_what_is_done() {
    let place = Place::new(0..0);
    let plan = FinetuneConfig {
        seeds: 3,
        ..short()
    };
    let whole = place.run("whole", &plan, &mut Seen::default()).unwrap();
    // A seed asks after each of its 12 steps, and before each of 12 batches of the dev and of the test examples.
    for (stop_at, done, step) in [
        (37, 1, 1),
        (48, 1, 12),
        (60, 1, 12),
        (72, 1, 12),
        (73, 2, 1),
        (108, 2, 12),
    ] {
        let mut seen = Seen {
            stop_at,
            ..Seen::default()
        };
        let out = format!("stop-{stop_at}");
        let results = place.run(&out, &plan, &mut seen).unwrap();
        assert_eq!(results.seeds, whole.seeds[..done], "{stop_at}");
        let cut = &results.cut;
        assert_eq!(cut.len(), 1, "what comes after it is not begun");
        assert_eq!(
            (cut[0].seed, cut[0].step, cut[0].why),
            (done as u64, step, "stopped")
        );
        assert!(place.out(&out).join("model.safetensors").exists());
    }
    // Before anything was measured there is nothing to keep; after that there is.
    for (stop_at, kept) in [(1, false), (12, false), (24, false), (25, true), (36, true)] {
        let mut seen = Seen {
            stop_at,
            ..Seen::default()
        };
        let out = format!("first-{stop_at}");
        let results = place.run(&out, &plan, &mut seen);
        assert_eq!(place.out(&out).exists(), kept, "{stop_at}");
        match results {
            Ok(results) => {
                let (seed, own) = (&results.seeds[0], &whole.seeds[0]);
                assert_eq!((&seed.dev, &seed.history), (&own.dev, &own.history));
                assert!(seed.test.is_none());
            }
            Err(e) => assert!(matches!(e, Error::Stopped { seed: 0, .. }), "{e}"),
        }
    }
}
