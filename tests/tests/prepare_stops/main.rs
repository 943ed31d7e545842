//! Preparation that is stopped, in any way, and gone on with: what comes out is what an undisturbed run gives, byte for byte.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cloze_tests::Place;
use flate2::write::GzEncoder;

mod damage;
mod kept;

/// Every file of a dataset, with its bytes.
type Files = Vec<(PathBuf, Vec<u8>)>;

/// Documents as lines of JSON, some `bytes` together.
fn lines(first: usize, bytes: usize) -> String {
    let words = [
        "river", "stone", "bridge", "winter", "signal", "walks", "finds", "keeps", "quiet",
        "narrow",
    ];
    let (mut text, mut state) = (String::new(), first as u64);
    for i in first.. {
        if text.len() >= bytes {
            break;
        }
        let mut draw = |n: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        let mut document = String::new();
        for _ in 0..2 + draw(9) {
            for _ in 0..3 + draw(15) {
                document += words[draw(10) as usize];
                document.push(' ');
            }
            document += "end. The ";
        }
        text += &format!(
            "{}\n",
            serde_json::json!({"id": format!("d{i}"), "text": document})
        );
    }
    text
}

fn gzip(text: &str) -> Vec<u8> {
    let mut file = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    file.write_all(text.as_bytes()).unwrap();
    file.finish().unwrap()
}

/// Two plain files and a compressed one, in `in/`.
fn place(bytes: usize) -> Place {
    let place = Place::new();
    place.write("in/a.jsonl", lines(0, bytes));
    place.write("in/b.jsonl.gz", gzip(&lines(100_000, bytes)));
    place.write("in/c.jsonl", lines(200_000, bytes / 2));
    place
}

const OPTIONS: &str = "--tokenizer tokenizer --id-field id --seq-len 48 --validation-fraction 0.1 --shard-rows 4000 --save-every 1";

fn undisturbed(place: &Place, more: &str) -> Files {
    let line = format!("prepare in {OPTIONS} {more} --out undisturbed");
    let _ = place.cloze(&line).status(0);
    place.files("undisturbed")
}

fn is_same(files: &Files, place: &Place, out: &str) {
    let names = |files: &Files| files.iter().map(|f| f.0.clone()).collect::<Vec<_>>();
    let made = place.files(out);
    assert_eq!(names(files), names(&made));
    for (a, b) in files.iter().zip(&made) {
        assert!(a.1 == b.1, "{}", a.0.display());
    }
}

/// Killed fifty times, at moments that nobody chose.
#[test]
fn killed_and_gone_on_with() {
    killed("");
}

/// The same where the tokens do not fit into memory.
#[test]
fn killed_while_it_sorts() {
    killed("--memory 1MiB");
}

/// How far work had come when it was stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Begun,
    Tokens,
    Shards,
    Recipes,
    Gathering,
}

impl Stage {
    fn of(place: &Place) -> Self {
        let there = |path: &str| place.path("out").join(path).exists();
        if there(".work/train.buckets.json") {
            Self::Gathering
        } else if there(".work/train.buckets") {
            Self::Recipes
        } else if there("train") {
            Self::Shards
        } else if there(".work/tokens/part-00000.json") {
            Self::Tokens
        } else {
            Self::Begun
        }
    }
}

fn killed(memory: &str) {
    let place = place(1_500_000);
    let more = "--masking static --dupe-factor 2 --bins 24";
    let whole = undisturbed(&place, more);
    let line = format!("prepare in {OPTIONS} {more} {memory} --out out --resume");
    let begun = Instant::now();
    let _ = place.cloze(&line).status(0);
    let takes = begun.elapsed();
    is_same(&whole, &place, "out");
    fs::remove_dir_all(place.path("out")).unwrap();
    let start = || {
        Command::new(cloze_tests::executable("cloze"))
            .args(line.split_whitespace())
            .current_dir(place.path("."))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let finish = || {
        let _ = place.cloze(&line).status(0);
        is_same(&whole, &place, "out");
        fs::remove_dir_all(place.path("out")).unwrap();
    };
    let (mut kills, mut finished, mut stages) = (0, 0, [0; 5]);
    while kills < 50 {
        let mut child = start();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let wait = takes.mul_f64(f64::from(now.subsec_nanos() % 1_000) / 1_500.0);
        std::thread::sleep(wait);
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
            stages[Stage::of(&place) as usize] += 1;
        }
        if place.path("out/manifest.json").exists() {
            // What may be left is of no use, and goes when it is asked for again.
            finish();
            finished += 1;
        }
    }
    finish();
    eprintln!(
        "{kills} kills ({stages:?} by stage), {finished} whole before the last, {takes:?} undisturbed"
    );
    // Chance may have left a stage out: the moment is waited for, from the beginning, until it was met.
    let wanted = match memory {
        "" => &[Stage::Begun, Stage::Tokens, Stage::Shards][..],
        _ => &[
            Stage::Begun,
            Stage::Tokens,
            Stage::Recipes,
            Stage::Gathering,
        ],
    };
    for &stage in wanted {
        let mut tries = 0;
        while stages[stage as usize] == 0 {
            tries += 1;
            assert!(tries < 50, "{stage:?} was never met");
            let mut child = start();
            while child.try_wait().unwrap().is_none() && Stage::of(&place) != stage {
                std::thread::sleep(Duration::from_micros(200));
            }
            let _ = child.kill();
            child.wait().unwrap();
            stages[Stage::of(&place) as usize] += 1;
            finish();
        }
    }
    assert_eq!(
        stages[Stage::Recipes as usize] + stages[Stage::Gathering as usize] > 0,
        !memory.is_empty()
    );
    let _ = place.cloze(&line).status(0);
    let _ = place
        .cloze(&format!("verify out --source in {memory}"))
        .status(0);
}

/// A source that cannot be read to its end: what came before is not read again, and once it is mended the rest is.
#[test]
fn a_failing_input_is_mended() {
    let place = place(2_200_000);
    let whole = undisturbed(&place, "");
    let good = fs::read(place.path("in/b.jsonl.gz")).unwrap();
    place.write("in/b.jsonl.gz", &good[..good.len() / 2]);
    let line = format!("prepare in {OPTIONS} --out out");
    let _ = place
        .cloze(&line)
        .status(2)
        .says(&["b.jsonl.gz", "kept in out", "--resume"]);
    assert!(!place.path("out/manifest.json").exists());
    let _ = place.cloze(&line).status(2).says(&["--resume", "remains"]);
    // Still broken: the same again.
    let resume = format!("{line} --resume");
    let _ = place
        .cloze(&resume)
        .status(2)
        .says(&["going on after", "b.jsonl.gz"]);
    place.write("in/b.jsonl.gz", &good);
    let _ = place.cloze(&resume).status(0).says(&["going on after"]);
    is_same(&whole, &place, "out");
    // Whole: there is nothing to do; and it is not another's.
    let _ = place.cloze(&resume).status(0).says(&["whole already"]);
    let other = resume.replace("--seq-len 48", "--seq-len 40");
    let _ = place
        .cloze(&other)
        .status(2)
        .says(&["--seq-len was 48, is 40"]);
    let asked = format!("{resume} --tokens kept --report dropped.json");
    let _ = place.cloze(&asked).status(0).says(&[
        "no tokens were made in kept",
        "dropped.json was not written",
    ]);
    assert!(!place.path("kept").exists() && !place.path("dropped.json").exists());
    // Nor is it one of other sources: more of them, longer ones, ones of other bytes.
    place.write("in/c.txt", "A text more.");
    let _ = place
        .cloze(&resume)
        .status(2)
        .says(&["sources were ", "give another --out"]);
    fs::remove_file(place.path("in/c.txt")).unwrap();
    let mut other = good.clone();
    *other.last_mut().unwrap() ^= 1;
    place.write("in/b.jsonl.gz", &other);
    let _ = place
        .cloze(&resume)
        .status(2)
        .says(&["in/b.jsonl.gz holds other bytes"]);
    other.push(0);
    place.write("in/b.jsonl.gz", &other);
    let _ = place
        .cloze(&resume)
        .status(2)
        .says(&["bytes, in/b.jsonl.gz has"]);
    // Written again as it was, or moved, it is the same.
    place.write("in/b.jsonl.gz", &good);
    fs::rename(place.path("in"), place.path("moved")).unwrap();
    let moved = resume.replacen("prepare in ", "prepare moved ", 1);
    let _ = place.cloze(&moved).status(0).says(&["whole already"]);
}

/// Other options are refused by name, and so are other sources than those that were read, unless they may be read anew.
#[test]
fn what_changed_in_between() {
    let place = place(1_500_000);
    let line = format!("prepare in {OPTIONS} --out out");
    place.write("in/d.jsonl", "{\"id\": \"x\", \"text\": \n");
    let _ = place.cloze(&line).status(2).says(&["d.jsonl", "kept"]);
    for (option, other) in [("--seq-len 48", "--seq-len 40"), ("--id-field id", "")] {
        let said = place.cloze(&format!("{} --resume", line.replace(option, other)));
        let name = option.split(' ').next().unwrap();
        let _ = said.status(2).says(&["begun with other options", name]);
    }
    let text = fs::read_to_string(place.path("tokenizer/vocab.txt")).unwrap();
    place.write("tokenizer/vocab.txt", text.clone() + "zebra\n");
    let resume = format!("{line} --resume");
    let _ = place.cloze(&resume).status(2).says(&["the vocabulary"]);
    place.write("tokenizer/vocab.txt", text);
    // The first source is another now, so everything would be read again.
    place.write("in/a.jsonl", lines(7, 1_200_000));
    place.write("in/aa.jsonl", "{\"id\": \"y\", \"text\": \"A stone.\"}\n");
    fs::remove_file(place.path("in/d.jsonl")).unwrap();
    let _ = place.cloze(&resume).status(2).says(&[
        "out/.work/tokens holds tokens of other inputs",
        "in/a.jsonl had ",
        "in/aa.jsonl is new",
        "hint: give the inputs that they were made of",
        "--replace-tokens",
    ]);
    let replace = format!("{resume} --replace-tokens");
    let _ = place.cloze(&replace).status(0).says(&["is made anew: "]);
    let whole = undisturbed(&place, "");
    is_same(&whole, &place, "out");
}

/// Two at a time are refused: the second would write over the first.
#[test]
fn one_at_a_time() {
    let place = place(100_000);
    fs::create_dir_all(place.path("out/.work")).unwrap();
    let lock = fs::File::create(place.path("out/.work/lock")).unwrap();
    lock.try_lock().unwrap();
    let line = format!("prepare in {OPTIONS} --out out --resume");
    let _ = place
        .cloze(&line)
        .status(2)
        .says(&["being written by another process"]);
    lock.unlock().unwrap();
    let _ = place.cloze(&line).status(0);
}

/// A disk that is full: what was done is kept, and gone on with when there is room.
#[test]
fn a_disk_that_is_full_for_a_while() {
    let place = place(1_500_000);
    let small = place.path("small");
    fs::create_dir(&small).unwrap();
    let mount = |options: &str| {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(&small)
            .status();
        mounted.is_ok_and(|s| s.success())
    };
    if !mount("size=16m") {
        eprintln!("skipped: a file system cannot be mounted here");
        return;
    }
    // Much more text than its compressed size lets expect: a sample shows it.
    let much = lines(1, 3_000).repeat(15_000);
    place.write("in/y.jsonl.gz", gzip(&much));
    let line = format!("prepare in {OPTIONS} --out small/data");
    let refused = place.cloze(&line);
    let nothing = !place.path("small/data").exists();
    let cleaned =
        place.cloze(&format!("{line} --min-words 120").replace("small/data", "small/clean"));
    let _ = fs::remove_dir_all(place.path("small/clean"));
    // It does not where what it sees is hardly text.
    let mut state = 1u64;
    let mut junk = || -> String {
        let mut word = |_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            format!("{state:016x}")
        };
        (0..4).map(&mut word).collect()
    };
    let mut hidden: String = (0..12_000)
        .map(|i| {
            format!(
                "{{\"id\": \"j{i}\", \"junk\": \"{}\", \"text\": \"A stone.\"}}\n",
                junk()
            )
        })
        .collect();
    hidden += &much;
    place.write("in/y.jsonl.gz", gzip(&hidden));
    let full = place.cloze(&line);
    let has_manifest = place.path("small/data/manifest.json").exists();
    let remounted = mount("remount,size=200m");
    let resumed = place.cloze(&format!("{line} --resume"));
    let made = remounted.then(|| place.files("small/data"));
    let _ = Command::new("umount").arg(&small).status();
    let _ = refused
        .status(2)
        .says(&["from the beginnings of files", "are needed", "are free"]);
    // What cleaning leaves of it is not known, so nothing is refused, and there is room.
    let _ = cleaned.status(0).says(&["unless cleaning leaves less"]);
    assert!(nothing, "what is refused leaves nothing");
    let _ = full
        .status(2)
        .says(&["No space left", "the disk is full", "kept in small/data"]);
    assert!(!has_manifest);
    // All tokens may have been there, or not.
    let said = resumed.status(0).err();
    assert!(
        said.contains("going on after") || said.contains("as they are in small/data"),
        "{said}"
    );
    let whole = undisturbed(&place, "");
    assert!(made.unwrap() == whole);
}

/// A preparation into `out` that has begun, and waits for its standard input.
fn begun(place: &Place, line: &str) -> std::process::Child {
    // Who runs the tests in the background has its children ignore Ctrl-C.
    let child = Command::new("env")
        .arg("--default-signal=INT,TERM")
        .arg(cloze_tests::executable("cloze"))
        .args(line.split_whitespace())
        .current_dir(place.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !place.path("out/.work/key.json").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it hangs");
        std::thread::sleep(Duration::from_millis(2));
    }
    child
}

/// Ctrl-C and SIGTERM say in one line what to do, and are as safe as any other stop.
#[test]
fn a_signal_is_answered() {
    let place = place(40_000);
    // What stands at the end of the list does not end by itself, unless nothing is there.
    let line = |out: &str| format!("prepare in - {OPTIONS} --jobs 1 --out {out}");
    let _ = place.cloze(&line("undisturbed")).status(0);
    let whole = place.files("undisturbed");
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let mut child = begun(&place, &line("out"));
        let sent = Command::new("kill")
            .args(["-s", name, &child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
        let mut said = String::new();
        let _ = child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{said}");
        let stopped: Vec<&str> = said
            .lines()
            .filter(|l| l.starts_with("stopped: "))
            .collect();
        assert_eq!(stopped.len(), 1, "{said}");
        // Whether tokens are safe by then is chance.
        let kept = "what was done is kept in out: the same command with --resume goes on";
        let none = "no tokens are safe in out yet: the same command with --resume begins anew";
        assert!(
            stopped[0].contains(kept) || stopped[0].contains(none),
            "{said}"
        );
        assert!(!place.path("out/manifest.json").exists());
        let _ = place.cloze(&format!("{} --resume", line("out"))).status(0);
        is_same(&whole, &place, "out");
        fs::remove_dir_all(place.path("out")).unwrap();
    }
}

/// A file that is written to while it is read is not taken as what it was when the run began, nor as what it is.
#[test]
fn inputs_that_change_while_they_are_read() {
    let place = place(40_000);
    let line = format!("prepare - in {OPTIONS} --jobs 1 --out out");
    let mut child = begun(&place, &line);
    // What comes through the pipe is read first.
    let text = fs::read_to_string(place.path("in/c.jsonl")).unwrap();
    let half: String = text
        .lines()
        .take(3)
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(place.path("in/c.jsonl"), half).unwrap();
    drop(child.stdin.take());
    let mut said = String::new();
    let _ = child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2), "{said}");
    assert!(
        said.contains("in/c.jsonl: changed while it was read"),
        "{said}"
    );
    assert!(said.contains("hint: let nothing write to it"), "{said}");
    assert!(!place.path("out/manifest.json").exists());
}
