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

/// Tokens that are kept serve every objective, and a corpus that grew is not read again from the start.
#[test]
fn tokens_are_used_again() {
    let place = place(1_500_000);
    for (i, more) in [
        "",
        "--objective sop",
        "--objective full-sentences --seq-len 64",
        "--objective doc-sentences --bins 16,24",
    ]
    .iter()
    .enumerate()
    {
        let first = undisturbed(&place, more);
        let line = format!("prepare in {OPTIONS} {more} --tokens kept --out out");
        let said = place.cloze(&line).status(0);
        if i > 0 {
            let _ = said.says(&["tokens   as they are in kept"]);
        }
        is_same(&first, &place, "out");
        let _ = place.cloze("verify out --source in").status(0);
        for folder in ["out", "undisturbed"] {
            fs::remove_dir_all(place.path(folder)).unwrap();
        }
    }
    place.write("in/z.jsonl", lines(900_000, 300_000));
    let line = format!("prepare in {OPTIONS} --tokens kept --out out");
    let _ = place.cloze(&line).status(0).says(&["going on after"]);
    is_same(&undisturbed(&place, ""), &place, "out");
    // Where nothing can be written they are as good.
    let kept = place.path("kept");
    let mount = |options: &[&str]| {
        let mounted = Command::new("mount").args(options).arg(&kept).status();
        mounted.is_ok_and(|s| s.success())
    };
    if mount(&["--bind", kept.to_str().unwrap()]) && mount(&["-o", "remount,ro,bind"]) {
        let _ = fs::remove_dir_all(place.path("out"));
        let ran = place.cloze(&line);
        let other = place.cloze(
            &line
                .replace("prepare in ", "prepare in/a.jsonl ")
                .replace("out out", "out less"),
        );
        let _ = Command::new("umount").arg(&kept).status();
        let _ = ran.status(0).says(&["tokens   as they are in kept"]);
        is_same(&place.files("undisturbed"), &place, "out");
        let _ = other.status(2).says(&[
            "kept holds tokens of other inputs",
            "in/b.jsonl.gz is not among the inputs now",
        ]);
    } else {
        let _ = Command::new("umount").arg(&kept).status();
        eprintln!("skipped: a folder cannot be made read-only here");
    }
    let other = format!("prepare in {OPTIONS} --language de --tokens kept --out other");
    let _ = place.cloze(&other).status(2).says(&[
        "kept was begun with other options",
        "--language was \"en\", is \"de\"",
    ]);
    assert!(!place.path("other").exists());
    // A folder of something else is left alone.
    let other = format!("prepare in {OPTIONS} --tokens in --out other");
    let _ = place
        .cloze(&other)
        .status(2)
        .says(&["holds files that are no tokens"]);
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

/// Tokens that are used again are those that were written: of their rows nobody could tell.
#[test]
fn damaged_tokens_are_not_used() {
    let place = Place::new();
    let prepare = |out: &str| {
        place.cloze(&format!(
            "prepare corpus.jsonl --tokenizer tokenizer --seq-len 32 --tokens tokens --out {out}"
        ))
    };
    let _ = prepare("first").status(0);
    let path = place.path("tokens/part-00000.arrow");
    let whole = fs::read(&path).unwrap();
    // The ids of a token in the middle: what it is cannot be told from what it was.
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let refused = |out: &str| {
        let _ = prepare(out).status(2).says(&[
            "tokens/part-00000.arrow: not as it was written",
            "hint: delete tokens, and run the command again",
        ]);
        assert!(!place.path(out).join("manifest.json").exists());
    };
    fs::write(&path, &bytes).unwrap();
    refused("second");
    // Nor where the rest is still to be made.
    let whole_json = fs::read(place.path("tokens/whole.json")).unwrap();
    fs::remove_file(place.path("tokens/whole.json")).unwrap();
    refused("third");
    // Nor where a file is gone.
    fs::write(place.path("tokens/whole.json"), &whole_json).unwrap();
    fs::remove_file(&path).unwrap();
    refused("gone");
    fs::write(&path, &whole).unwrap();
    fs::write(place.path("tokens/whole.json"), &whole_json).unwrap();
    let _ = prepare("fourth").status(0);
    assert!(place.files("fourth") == place.files("first"));
    fs::write(&path, &bytes).unwrap();
    fs::remove_dir_all(place.path("tokens")).unwrap();
    let _ = prepare("fifth").status(0);
    assert!(place.files("fifth") == place.files("first"));
}

/// Tokens that are kept are worth hours: other inputs do not take their place without a word, and the same ones are known under other names and times.
#[test]
fn kept_tokens_are_not_replaced_in_silence() {
    let place = place(300_000);
    let with = |inputs: &str, out: &str| {
        place.cloze(&format!(
            "prepare {inputs} {OPTIONS} --tokens kept --out {out}"
        ))
    };
    let _ = with("in", "first").status(0);
    let kept = place.files("kept");
    let refused = |inputs: &str, says: &[&str]| {
        let _ = with(inputs, "refused").status(2).says(says);
        assert!(!place.path("refused").exists());
        assert!(place.files("kept") == kept, "{inputs}");
    };
    refused(
        "in/a.jsonl",
        &[
            "in/b.jsonl.gz is not among the inputs now",
            "in/c.jsonl is not among the inputs now",
        ],
    );
    refused(
        "in/b.jsonl.gz in/a.jsonl in/c.jsonl",
        &["source 0 was in/a.jsonl, is in/b.jsonl.gz now"],
    );
    // Nor is anything written into a folder of somebody else's, a lock too.
    place.write("foreign/lock", "mine");
    place.write("foreign/notes", "mine, too");
    let foreign = place.files("foreign");
    for tokens in ["foreign", "foreign/notes", "first/tokens", "refused/tokens"] {
        let line = format!("prepare in {OPTIONS} --tokens {tokens} --out refused");
        let _ = place.cloze(&line).status(2).says(&["hint: give"]);
        assert!(place.files("foreign") == foreign, "{tokens}");
        assert!(!place.path("first/tokens").exists(), "{tokens}");
    }
    place.write("in/ab.jsonl", lines(5, 3_000));
    refused("in", &["in/ab.jsonl is new"]);
    fs::remove_file(place.path("in/ab.jsonl")).unwrap();
    // Other words of the same length, and the time set back.
    let path = place.path("in/c.jsonl");
    let (text, time) = (
        fs::read_to_string(&path).unwrap(),
        fs::metadata(&path).unwrap().modified().unwrap(),
    );
    let set_back = |text: &str| {
        fs::write(&path, text).unwrap();
        fs::File::options()
            .append(true)
            .open(&path)
            .unwrap()
            .set_modified(time)
            .unwrap();
    };
    set_back(&text.replace("river", "stone"));
    refused("in", &["in/c.jsonl holds other bytes"]);
    set_back(&text);
    // A copy under another name, in another folder, at another time: text is not read again, and the dataset names what was given.
    fs::rename(place.path("in"), place.path("moved")).unwrap();
    fs::rename(place.path("moved/c.jsonl"), place.path("moved/cc.jsonl")).unwrap();
    for out in ["second", "third"] {
        let _ = with("moved", out)
            .status(0)
            .says(&["tokens   as they are in kept"]);
    }
    let _ = place
        .cloze(&format!("prepare moved {OPTIONS} --out anew"))
        .status(0);
    assert!(
        place.files("second") == place.files("anew") && place.files("third") == place.files("anew")
    );
    // What is asked for is done.
    let line =
        format!("prepare moved/a.jsonl {OPTIONS} --tokens kept --out fourth --replace-tokens");
    let _ = place
        .cloze(&line)
        .status(0)
        .says(&["moved/cc.jsonl is not among the inputs now"]);
    let _ = place
        .cloze(&format!("prepare moved/a.jsonl {OPTIONS} --out less"))
        .status(0);
    assert!(place.files("fourth") == place.files("less"));
    // What cleaning did is told by them, though the dataset is whole.
    let line = format!("prepare moved {OPTIONS} --min-words 30 --tokens clean --report");
    let _ = place
        .cloze(&format!("{line} one.json --out fifth"))
        .status(0);
    let _ = place
        .cloze(&format!("{line} two.json --out fifth --resume"))
        .status(0)
        .says(&["whole already"]);
    assert!(fs::read(place.path("one.json")).unwrap() == fs::read(place.path("two.json")).unwrap());
    // Which duplicates stay is known when all are there.
    let line = format!("prepare moved/a.jsonl {OPTIONS} --dedup exact --tokens unique --out sixth");
    let _ = place.cloze(&line).status(0);
    let grown = line
        .replace("a.jsonl", "a.jsonl moved/cc.jsonl")
        .replace("sixth", "seventh");
    let _ = place
        .cloze(&grown)
        .status(2)
        .says(&["with deduplication", "--replace-tokens"]);
    let _ = place.cloze(&format!("{grown} --replace-tokens")).status(0);
}

/// What `line` makes in `out`; and what is there before the manifest is written, in `work`.
fn unfinished(place: &Place, line: &str) -> Files {
    let whole = {
        let _ = place.cloze(line).status(0);
        place.files("out")
    };
    // The manifest cannot be written.
    fs::remove_dir_all(place.path("out")).unwrap();
    fs::create_dir_all(place.path("out/.work")).unwrap();
    fs::create_dir(place.path("out/manifest.json.partial")).unwrap();
    let _ = place
        .cloze(&format!("{line} --resume"))
        .status(2)
        .says(&["manifest.json"]);
    fs::remove_dir(place.path("out/manifest.json.partial")).unwrap();
    fs::rename(place.path("out"), place.path("work")).unwrap();
    whole
}

/// Makes `out` of `work` again.
fn again(place: &Place) {
    let _ = fs::remove_dir_all(place.path("out"));
    let copied = Command::new("cp")
        .arg("-a")
        .args([place.path("work"), place.path("out")])
        .status();
    assert!(copied.unwrap().success());
}

/// Whatever byte of unfinished work is another when it is gone on with: what comes out is the same, or it is refused.
#[test]
fn damaged_work_is_not_used() {
    let place = place(200_000);
    let line = format!("prepare in {OPTIONS} --shard-rows 900 --out out");
    let whole = unfinished(&place, &line);
    let mut damaged = 0;
    for (name, bytes) in place.files("work") {
        if bytes.is_empty() {
            continue;
        }
        again(&place);
        let mut other = bytes.clone();
        other[bytes.len() / 2] ^= 1;
        fs::write(place.path("out").join(&name), other).unwrap();
        let ran = place.cloze(&format!("{line} --resume"));
        if place.path("out/manifest.json").exists() {
            let _ = ran.status(0);
            assert!(place.files("out") == whole, "{}", name.display());
        } else {
            let _ = ran
                .status(2)
                .says(&["not as it was written", "hint: delete out"]);
            assert!(place.path("out/.work/tokens/part-00000.arrow").exists());
            damaged += 1;
        }
    }
    assert!(damaged > 3, "{damaged}");
}

/// A machine that stops loses files that were written a moment before: tokens are made anew from the first part on that is not whole, and so are recipes.
#[test]
fn what_the_machine_lost_is_made_anew() {
    let place = place(1_500_000);
    let line = format!("prepare in {OPTIONS} --out out");
    let whole = unfinished(&place, &line);
    let empty = |path: &Path| fs::write(path, "").unwrap();
    let zeros = |path: &Path| {
        let length = fs::metadata(path).unwrap().len();
        fs::write(path, vec![0; length as usize]).unwrap();
    };
    let gone = |path: &Path| fs::remove_file(path).unwrap();
    let ways: [&dyn Fn(&Path); 3] = [&empty, &zeros, &gone];
    for lost in ways {
        for (name, says) in [
            ("tokens/part-00000.arrow", ["it is made anew", "tokenize"]),
            (
                "tokens/part-00002.arrow",
                ["it is made anew", "going on after"],
            ),
            ("train-0.recipes", ["tokens   as they are", "pair"]),
        ] {
            again(&place);
            lost(&place.path("out/.work").join(name));
            let _ = place
                .cloze(&format!("{line} --resume"))
                .status(0)
                .says(&says);
            assert!(place.files("out") == whole, "{name}");
        }
    }
}

/// What other threads write beside the rows, and bring to the disk, fails where somebody reads of it, and is gone on with.
#[test]
fn what_fails_beside_the_rows_is_told_of() {
    let place = place(60_000);
    let line = format!("prepare in {OPTIONS} --shard-rows 400 --jobs 3 --out out");
    let whole = unfinished(&place, &line);
    for taken in ["train/part-00001.arrow", "tokenizer", "documents.arrow"] {
        again(&place);
        let path = place.path("out").join(taken);
        let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
        let note = format!("out/.work/{}.json", taken.replace('/', "-"));
        let _ = fs::remove_file(place.path(&note));
        // A file where a folder is to be, or a folder with something in it where a file is.
        match taken {
            "tokenizer" => fs::write(&path, "").unwrap(),
            _ => fs::create_dir_all(path.join("mine")).unwrap(),
        }
        let resumed = format!("{line} --resume");
        let _ = place.cloze(&resumed).status(2).says(&[taken]);
        assert!(!place.path("out/manifest.json").exists());
        let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
        let _ = place.cloze(&resumed).status(0);
        assert!(place.files("out") == whole, "{taken}");
    }
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
