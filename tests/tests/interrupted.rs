//! Training that is stopped from outside: by a signal in order, or killed.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use cloze_tests::Place;

const TRAIN: &str = "pretrain data --config config.json --steps 400 --batch-tokens 256 --warmup-steps 2 --log-every 7 --checkpoint-every 40 --eval-every 90 --keep 2 --jobs 1";

fn place() -> Place {
    let place = Place::new();
    place.prepare("corpus.jsonl", "data", "--seq-len 32");
    place.write_config();
    place
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill")
        .args(["-s", name, &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}

fn lines(place: &Place, run: &str) -> usize {
    let log = fs::read_to_string(place.path(run).join("train.jsonl"));
    log.map_or(0, |l| l.lines().count())
}

/// Waits until the log has so many lines, or the process has ended.
fn wait_for(place: &Place, run: &str, child: &mut Child, count: usize) -> Option<ExitStatus> {
    let begun = Instant::now();
    loop {
        let ended = child.try_wait().unwrap();
        if ended.is_some() || lines(place, run) >= count {
            return ended;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "it hangs");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether hangups are ignored here, and so by what is started from here: `nohup` has these tests run that way.
fn hangups_are_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & 1 == 1)
}

const STEPS: &str = "step-00002000";

/// Runs `line`, which makes 2,000 steps into `run`, sends the signals once some are made, and gives its status. On a busy machine it may be done before a
/// signal is there: then once more, from the beginning.
fn interrupted(place: &Place, line: &str, run: &str, signals: &[&str]) -> ExitStatus {
    for _ in 0..20 {
        let _ = fs::remove_dir_all(place.path(run));
        let mut child = place.start(&format!("{line} --out {run}"));
        if wait_for(place, run, &mut child, 5).is_some() {
            continue;
        }
        for name in signals {
            // It may be done before.
            let _ = Command::new("kill")
                .args(["-s", name, &child.id().to_string()])
                .status();
        }
        let status = child.wait().unwrap();
        if checkpoints(place, run).pop().unwrap() != STEPS {
            return status;
        }
    }
    panic!("it is too fast for this test");
}

fn checkpoints(place: &Place, run: &str) -> Vec<String> {
    let entries = fs::read_dir(place.path(run).join("checkpoints")).unwrap();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// What must be the same after an interruption: parameters, moments, position.
fn state(place: &Place, run: &str) -> [Vec<u8>; 3] {
    let folder: PathBuf = place
        .path(run)
        .join("checkpoints")
        .join(checkpoints(place, run).last().unwrap());
    [
        "model.safetensors",
        "trainer_state/optimizer.safetensors",
        "trainer_state/state.json",
    ]
    .map(|name| {
        let path = folder.join(name);
        fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    })
}

#[test]
fn a_signal_writes_a_checkpoint_and_the_run_goes_on() {
    let place = place();
    let line = TRAIN.replace("--steps 400", "--steps 2000");
    let _ = place.cloze(&format!("{line} --out whole")).status(0);
    for (name, code) in [("TERM", 0), ("HUP", 0), ("INT", 130)] {
        if name == "HUP" && hangups_are_ignored() {
            eprintln!("skipped: hangups are ignored here");
            continue;
        }
        let run = format!("run-{name}");
        let status = interrupted(&place, &line, &run, &[name]);
        assert_eq!(status.code(), Some(code), "{name}: {status:?}");
        let stopped = || {
            let report = fs::read_to_string(place.path(&run).join("report.html"));
            report
                .unwrap()
                .contains("stopped before its last step, 2,000")
        };
        assert!(stopped(), "{name}");
        let _ = place
            .cloze(&format!("pretrain data --out {run} --resume"))
            .status(0)
            .says(&["resumed after step"]);
        assert!(!stopped(), "{name}");
        assert!(state(&place, &run) == state(&place, "whole"), "{name}");
    }
}

/// A terminal that is closed, `timeout`, and many launchers send more than one signal at once: together they ask for one orderly end.
#[test]
fn signals_that_come_together_are_one() {
    let place = place();
    let line = TRAIN.replace("--steps 400", "--steps 2000");
    for (number, (first, second, code)) in [
        ("HUP", "HUP", 0),
        ("TERM", "HUP", 0),
        ("TERM", "TERM", 0),
        ("INT", "INT", 130),
    ]
    .into_iter()
    .enumerate()
    {
        if [first, second] == ["HUP", "HUP"] && hangups_are_ignored() {
            eprintln!("skipped: hangups are ignored here");
            continue;
        }
        let run = format!("run-{number}");
        let status = interrupted(&place, &line, &run, &[first, second]);
        assert_eq!(status.code(), Some(code), "{first} {second}: {status:?}");
        assert!(!checkpoints(&place, &run).is_empty(), "{first} {second}");
    }
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been() {
    let place = place();
    let _ = place.cloze(&format!("{TRAIN} --out whole")).status(0);
    let line = format!("{TRAIN} --out run --resume auto");
    let mut kills = 0;
    // On a busy machine a run may be done after few: then there is another.
    for _ in 0..5 {
        let _ = fs::remove_dir_all(place.path("run"));
        for round in 0.. {
            let mut child = place.start(&line);
            // After more lines each time, so that it comes further; at moments that nobody has chosen.
            let ended = wait_for(&place, "run", &mut child, 3 + 7 * round);
            if let Some(status) = ended {
                assert!(status.success(), "{status:?}");
                break;
            }
            std::thread::sleep(Duration::from_micros(700 * (round as u64 % 5)));
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
        }
        assert!(state(&place, "run") == state(&place, "whole"));
        if kills >= 4 {
            break;
        }
    }
    assert!(kills >= 4, "{kills}");
    let timeless = |run: &str| -> Vec<(String, String, String)> {
        let log = fs::read_to_string(place.path(run).join("train.jsonl")).unwrap();
        log.lines()
            .map(|l| {
                let v: serde_json::Value = serde_json::from_str(l).unwrap();
                let field = |name: &str| v[name].to_string();
                (field("kind"), field("step"), field("mlm_loss"))
            })
            .collect()
    };
    assert_eq!(timeless("run"), timeless("whole"));
    assert_eq!(checkpoints(&place, "run"), checkpoints(&place, "whole"));
}

#[test]
fn a_signal_keeps_the_seeds_of_a_task_that_are_done() {
    let place = place();
    let _ = place
        .cloze("pretrain data --config config.json --out run --steps 1 --warmup-steps 0 --batch-tokens 256 --jobs 1")
        .status(0);
    let rows = |n: usize| -> String {
        let row = |i: usize| {
            let text = cloze_tests::document(i);
            format!("{}\n", serde_json::json!({"text": text, "label": i % 2}))
        };
        (0..n).map(row).collect()
    };
    place.write("train.jsonl", rows(60));
    place.write("dev.jsonl", rows(20));
    for name in ["TERM", "INT"] {
        let line = format!(
            "finetune --model run/model --train train.jsonl --dev dev.jsonl --out {name} --seeds 1000 --epochs 1 --batch-size 4 --jobs 1 --device cpu"
        );
        let mut child = place.start(&line);
        // There is no sign of a seed that is done but what is said; some are, after a while.
        std::thread::sleep(Duration::from_secs(4));
        assert!(
            child.try_wait().unwrap().is_none(),
            "too fast for this test"
        );
        signal(&child, name);
        assert_eq!(child.wait().unwrap().code(), Some(130), "{name}");
        let results = fs::read_to_string(place.path(name).join("results.json")).unwrap();
        let results: serde_json::Value = serde_json::from_str(&results).unwrap();
        let done = results["seeds"].as_array().unwrap().len() as u64;
        assert_eq!(results["cut"][0]["why"], "stopped", "{results}");
        assert!(
            (1..1_000).contains(&done) && results["cut"][0]["seed"] == done,
            "{done}"
        );
        assert!(place.path(name).join("model.safetensors").exists());
    }
}

/// A process that waits for others has nothing to end in order.
#[test]
fn a_signal_before_all_have_met_ends_at_once() {
    use std::io::{BufRead, BufReader};

    let place = place();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mut child = Command::new(cloze_tests::executable("cloze"))
        .args(format!("{TRAIN} --out run").split(' '))
        .current_dir(place.path("."))
        .env("RANK", "0")
        .env("WORLD_SIZE", "2")
        .env("LOCAL_RANK", "0")
        .env("MASTER_ADDR", "127.0.0.1")
        .env("MASTER_PORT", port.to_string())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().contains("waits for rank 1")));
    let sent = Instant::now();
    signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(
        sent.elapsed() < Duration::from_secs(60),
        "its patience is 5 minutes"
    );
    assert!(!place.path("run").exists());
}

/// What is started by nohup goes on when its terminal is closed.
#[test]
fn a_hangup_that_is_ignored_stays_ignored() {
    let place = place();
    let start = || {
        let _ = fs::remove_dir_all(place.path("run"));
        Command::new("nohup")
            .arg(cloze_tests::executable("cloze"))
            .args(format!("{} --out run", TRAIN.replace("--steps 400", "--steps 2000")).split(' '))
            .current_dir(place.path("."))
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut child = start();
    let mut tries = 0;
    while wait_for(&place, "run", &mut child, 5).is_some() {
        tries += 1;
        assert!(tries < 20, "it is too fast for this test");
        child = start();
    }
    signal(&child, "HUP");
    assert!(child.wait().unwrap().success());
    assert_eq!(checkpoints(&place, "run").pop().unwrap(), STEPS);
}
