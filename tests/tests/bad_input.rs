//! Bad input: a clear error that names file and place, with a hint, and nothing left that could pass for a dataset.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::Write;

use cloze_tests::{Place, document};

/// Prepares `input` and demands that it fails, says `expected`, gives a hint, and leaves nothing.
fn refused(place: &Place, input: &str, options: &str, expected: &[&str]) {
    let line = format!("prepare {input} --tokenizer tokenizer --out out {options}");
    let _ = place.cloze(&line).status(2).says(expected).says(&["hint:"]);
    assert!(
        !place.path("out").exists(),
        "{input} leaves something behind"
    );
}

/// What the summary says of `name`.
fn count<'t>(summary: &'t str, name: &str) -> &'t str {
    let mut words = summary.lines().map(str::split_whitespace);
    let found = words.find_map(|mut w| (w.next() == Some(name)).then(|| w.next()));
    found.flatten().unwrap_or_default()
}

fn jsonl(lines: &[String]) -> String {
    lines.iter().map(|l| format!("{l}\n")).collect()
}

fn good(number: usize) -> String {
    serde_json::json!({"text": document(number)}).to_string()
}

#[test]
fn invalid_utf8() {
    let place = Place::new();
    place.write("bad.txt", b"a river\nan old \xff stone\n");
    refused(
        &place,
        "bad.txt",
        "",
        &["bad.txt", "line 2", "byte 8", "0xff", "UTF-8"],
    );
    place.write(
        "bad.jsonl",
        [good(1).as_bytes(), b"\n{\"text\": \"\xc3\x28\"}\n"].concat(),
    );
    refused(&place, "bad.jsonl", "", &["bad.jsonl", "line 2", "UTF-8"]);
    let ran = place.prepare("bad.jsonl corpus.jsonl", "skipped", "--on-bad-input skip");
    assert!(
        ran.err()
            .contains("passed over 1 time: invalid UTF-8; first bad.jsonl: line 2"),
        "{}",
        ran.err()
    );
    // Only the line that holds the bad bytes goes.
    place.write(
        "two.txt",
        b"river stone.\n\xff bridge.\n\x0cold garden walks. quiet market.\n",
    );
    let ran = place
        .prepare(
            "two.txt",
            "second",
            "--on-bad-input skip --validation-fraction 0",
        )
        .out();
    assert_eq!(count(&ran, "documents"), "2", "{ran}");
    let rows = place.cloze("inspect second --rows 9").status(0).out();
    assert!(
        rows.contains("river stone") && !rows.contains("bridge"),
        "{rows}"
    );
    // What the first bytes say.
    for (name, bytes, hint) in [
        ("packed.txt", &b"\x1f\x8b\x08\xff"[..], "gzip"),
        ("packed3.txt", b"\xfd7zXZ\0", "xz"),
        ("columns.txt", b"PAR1\xff", "Parquet"),
        ("packed2.txt", b"\x28\xb5\x2f\xfd\xff", "zstd"),
        ("image.txt", b"\x89PNG\0\0\0", "binary"),
    ] {
        place.write(name, bytes);
        refused(&place, name, "", &[name, "hint:", hint]);
    }
    // Where nothing is left, the reason is said.
    place.write("only.txt", b"\xff\n");
    refused(
        &place,
        "only.txt",
        "--on-bad-input skip",
        &[
            "no document with text in 1 file",
            "invalid UTF-8",
            "only.txt: line 1",
        ],
    );
}

/// A `.json` that is named holds one object a line.
#[test]
fn json_by_its_name() {
    let place = Place::new();
    place.write("dump.json", jsonl(&(0..40).map(good).collect::<Vec<_>>()));
    let ran = place.prepare("dump.json", "data", "").out();
    assert_eq!(count(&ran, "documents"), "40", "{ran}");
    place.write("array.json", "[\n{\"text\": \"old stone\"}\n]\n");
    refused(&place, "array.json", "", &["array.json: line 1", "jq -c"]);
}

#[test]
fn nothing_to_read() {
    let place = Place::new();
    place.write("empty.txt", "");
    refused(&place, "empty.txt", "", &["empty.txt", "empty file"]);
    place.write("blank.txt", " \n\n\t\n");
    refused(&place, "blank.txt", "", &["no document with text"]);
    fs::create_dir(place.path("folder")).unwrap();
    refused(&place, "folder", "", &["folder", "it is empty"]);
    place.write("pictures/one.png", "x");
    refused(&place, "pictures", "", &["pictures", "one.png"]);
    refused(&place, "absent.txt", "", &["absent.txt", "No such file"]);
    refused(
        &place,
        "nothing/*.txt",
        "",
        &["nothing/*.txt", "not a folder"],
    );
    refused(
        &place,
        "corpus/*.jsonl",
        "",
        &["corpus/*.jsonl", "matches no file"],
    );
    refused(
        &place,
        "corpus corpus/a.txt",
        "",
        &["corpus/a.txt", "twice"],
    );
    // An empty file among others is no reason to stop.
    place.write("corpus/empty.txt", "");
    place.prepare("corpus", "fine", "");
}

#[test]
fn truncated_archives() {
    let place = Place::new();
    let text = jsonl(&(0..2_000).map(good).collect::<Vec<_>>());
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    let gz = encoder.finish().unwrap();
    let zst = zstd::encode_all(text.as_bytes(), 3).unwrap();
    for (name, bytes) in [("cut.jsonl.gz", &gz), ("cut.jsonl.zst", &zst)] {
        for keep in [bytes.len() / 2, bytes.len() - 3] {
            place.write(name, &bytes[..keep]);
            refused(&place, name, "", &[name, "after line", "cut short"]);
        }
        let mut damaged = bytes.clone();
        damaged.extend_from_slice(b"something else");
        place.write(name, damaged);
        refused(&place, name, "", &[name, "something else follows"]);
        place.write(name, &bytes[..bytes.len() / 2]);
        let out = format!("skipped-{}", name.len());
        let ran = place.prepare(&format!("corpus {name}"), &out, "--on-bad-input skip");
        assert!(
            ran.err().contains("damaged archive, rest lost"),
            "{}",
            ran.err()
        );
    }
    // Plain text keeps what was read, although its document was not read to the end.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let prose: String = (0..2_000).map(|i| document(i) + "\n").collect();
    encoder.write_all(prose.as_bytes()).unwrap();
    let gz = encoder.finish().unwrap();
    place.write("cut.txt.gz", &gz[..gz.len() / 2]);
    refused(&place, "cut.txt.gz", "", &["cut.txt.gz", "cut short"]);
    let ran = place.prepare(
        "cut.txt.gz",
        "kept",
        "--on-bad-input skip --validation-fraction 0",
    );
    assert!(
        ran.err().contains("rest lost; first cut.txt.gz"),
        "{}",
        ran.err()
    );
    assert_eq!(count(&ran.out(), "documents"), "1", "{}", ran.out());
}

#[test]
fn broken_lines() {
    let place = Place::new();
    let write = |bad: &str| place.write("bad.jsonl", jsonl(&[good(1), bad.to_owned(), good(2)]));
    write("{\"text\": \"river\"");
    refused(
        &place,
        "bad.jsonl",
        "",
        &["bad.jsonl", "line 2", "broken JSON", "column"],
    );
    write("[1, 2]");
    refused(&place, "bad.jsonl", "", &["line 2", "not a JSON object"]);
    write("{\"body\": \"river\", \"n\": 1}");
    refused(
        &place,
        "bad.jsonl",
        "",
        &["line 2", "no field \"text\"", "[body, n]", "--text-field"],
    );
    write("{\"text\": 7}");
    refused(&place, "bad.jsonl", "", &["line 2", "\"text\" is not text"]);
    write("{\"text\": \"river\"}");
    refused(
        &place,
        "bad.jsonl",
        "--id-field id",
        &["line 1", "no field \"id\"", "--id-field"],
    );
    write("{\"text\": 7}");
    let ran = place.prepare(
        "bad.jsonl",
        "skipped",
        "--on-bad-input skip --validation-fraction 0",
    );
    assert!(
        ran.err()
            .contains("passed over 1 time: field missing or not text; first bad.jsonl: line 2"),
        "{}",
        ran.err()
    );
}

#[test]
fn tokenizers_that_cannot_serve() {
    let place = Place::new();
    let vocab = fs::read_to_string(place.path("tokenizer/vocab.txt")).unwrap();
    let refused = |tokenizer: &str, expected: &[&str]| {
        let line = format!("prepare corpus.jsonl --tokenizer {tokenizer} --out out");
        let _ = place.cloze(&line).status(2).says(expected).says(&["hint:"]);
        assert!(!place.path("out").exists());
    };
    place.write("no-mask/vocab.txt", vocab.replace("[MASK]\n", ""));
    refused("no-mask", &["no-mask/vocab.txt", "[MASK]"]);
    place.write(
        "bpe/tokenizer.json",
        r#"{"model": {"type": "BPE", "vocab": {"a": 0}}}"#,
    );
    refused("bpe", &["bpe/tokenizer.json", "BPE"]);
    fs::create_dir(place.path("hollow")).unwrap();
    refused(
        "hollow",
        &["hollow", "neither tokenizer.json nor vocab.txt"],
    );
    refused("absent", &["--tokenizer absent", "nothing is downloaded"]);
    place.write("cased/vocab.txt", format!("{vocab}Winter\nStone\n"));
    refused("cased/vocab.txt", &["do_lower_case", "\"Winter\""]);
}

#[test]
fn output_folders_that_are_taken() {
    let place = Place::new();
    place.prepare("corpus.jsonl", "data", "");
    let before = place.files("data");
    let refused = |out: &str, expected: &str| {
        let line = format!("prepare corpus.jsonl --tokenizer tokenizer --out {out}");
        let _ = place.cloze(&line).status(2).says(&[out, expected, "hint:"]);
    };
    refused("data", "holds a dataset already");
    assert!(place.files("data") == before, "it is as it was");
    refused("corpus", "is not empty");
    refused("data/more", "lies in the dataset");
    assert!(place.files("data") == before, "it is as it was");
    refused("corpus.jsonl", "is a file");
    fs::create_dir_all(place.path("stopped/.work")).unwrap();
    refused("stopped", "remains of a preparation that was stopped");
    fs::create_dir(place.path("hollow")).unwrap();
    place.prepare("corpus.jsonl", "hollow", "");
}

#[test]
fn options_out_of_range() {
    let place = Place::new();
    for (options, expected) in [
        ("--seq-len 4", "--seq-len is 4"),
        ("--random-next-ratio 1.5", "--random-next-ratio is 1.5"),
        ("--dupe-factor 0", "--dupe-factor is 0"),
        ("--language xx", "\"xx\""),
    ] {
        let line = format!("prepare corpus.jsonl --tokenizer tokenizer --out out {options}");
        let _ = place.cloze(&line).status(2).says(&[expected]);
        assert!(!place.path("out").exists());
    }
}

#[test]
fn datasets_that_are_not_whole() {
    let place = Place::new();
    place.prepare("corpus.jsonl", "data", "--id-field id");
    let shard = place.path("data/train/part-00000.arrow");
    let bytes = fs::read(&shard).unwrap();
    fs::write(&shard, &bytes[..bytes.len() - 64]).unwrap();
    let _ = place.cloze("inspect data").status(2).says(&[
        "part-00000.arrow",
        "the manifest says",
        "hint:",
    ]);
    let found = place.cloze("verify data").status(1).out();
    assert!(
        found.contains("part-00000.arrow") && found.contains("the manifest says"),
        "{found}"
    );
    // Cut and padded to its size again: the footer is gone.
    let mut padded = bytes[..bytes.len() - 64].to_vec();
    padded.resize(bytes.len(), 0);
    fs::write(&shard, padded).unwrap();
    let _ = place
        .cloze("inspect data")
        .status(2)
        .says(&["part-00000.arrow", "Arrow"]);
    let _ = place.cloze("verify data").status(1);
    fs::remove_file(&shard).unwrap();
    let _ = place
        .cloze("inspect data")
        .status(2)
        .says(&["part-00000.arrow", "hint:"]);
    let _ = place.cloze("verify data").status(1);

    fs::write(&shard, &bytes).unwrap();
    let manifest = place.path("data/manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(
        &manifest,
        text.replace("\"format_version\": 1", "\"format_version\": 9"),
    )
    .unwrap();
    let _ = place
        .cloze("inspect data")
        .status(2)
        .says(&["version 9", "reads version 1", "hint:"]);
    fs::write(&manifest, &text[..text.len() / 2]).unwrap();
    let _ = place
        .cloze("verify data")
        .status(2)
        .says(&["manifest.json"]);
    fs::write(
        &manifest,
        text.replace("train/part-00000.arrow", "../../etc/passwd"),
    )
    .unwrap();
    let _ = place
        .cloze("inspect data")
        .status(2)
        .says(&["not inside the dataset"]);
    fs::remove_file(&manifest).unwrap();
    for verb in ["inspect data", "verify data", "eval data --model nothing"] {
        let _ =
            place
                .cloze(verb)
                .status(2)
                .says(&["not a Cloze dataset", "no manifest.json", "hint:"]);
    }
    let _ = place
        .cloze("inspect nowhere")
        .status(2)
        .says(&["no such folder"]);
}

/// A shard with a good digest and bad rows: written by a program with a fault.
#[test]
fn a_manifest_that_does_not_add_up() {
    let place = Place::new();
    place.prepare("corpus.jsonl", "data", "");
    let manifest = place.path("data/manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["splits"]["train"]["shards"][0]["labels"]["is_next"] = 1.into();
    fs::write(&manifest, value.to_string()).unwrap();
    let found = place.cloze("verify data").status(1).out();
    assert!(found.contains("totals"), "{found}");
    // The trainer sizes batches and checks positions by the lengths: it must not believe false ones.
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let rows = value["splits"]["train"]["shards"][0]["rows"].clone();
    value["splits"]["train"]["shards"][0]["lengths"] = serde_json::json!({ "8": rows });
    fs::write(&manifest, value.to_string()).unwrap();
    let _ = place
        .cloze("inspect data")
        .status(2)
        .says(&["part-00000.arrow", "lengths: the manifest says"]);
}

/// Runs on a file system of 300 kB. Needs the right to mount one; says so where it has not.
#[test]
#[cfg(target_os = "linux")]
fn a_disk_that_is_too_small() {
    use std::process::Command;
    let place = Place::new();
    let small = place.path("small");
    fs::create_dir(&small).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=300k", "tmpfs"])
        .arg(&small)
        .status();
    if !mounted.is_ok_and(|s| s.success()) {
        eprintln!("skipped: a file system cannot be mounted here");
        return;
    }
    let ran = place
        .cloze("prepare corpus.jsonl --tokenizer tokenizer --dupe-factor 200 --out small/data");
    let left = place.path("small/data").exists();
    let _ = Command::new("umount").arg(&small).status();
    let _ = ran
        .status(2)
        .says(&["small/data", "are needed", "are free"]);
    assert!(!left, "something is left");
}

/// Killed at any time, nothing that is left passes for a dataset.
#[test]
#[cfg(unix)]
fn killed() {
    use std::process::{Command, Stdio};
    let place = Place::new();
    let lines: Vec<String> = (0..4_000).map(good).collect();
    place.write("large.jsonl", jsonl(&lines));
    let mut stopped = 0;
    for wait in [5, 30, 80, 150, 250] {
        let out = format!("killed-{wait}");
        let mut child = Command::new(cloze_tests::executable("cloze"))
            .args([
                "prepare",
                "large.jsonl",
                "--tokenizer",
                "tokenizer",
                "--dupe-factor",
                "20",
                "--out",
                &out,
            ])
            .current_dir(place.path("."))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
        if place.path(&out).join("manifest.json").exists() {
            let _ = place.cloze(&format!("verify {out}")).status(0);
        } else {
            stopped += 1;
            let _ = place
                .cloze(&format!("inspect {out}"))
                .status(2)
                .says(&["not a Cloze dataset"]);
        }
    }
    assert!(stopped > 0, "no kill came in time");
}

/// A stranger's dataset must not make us read what is not in its folder, or wait for ever.
#[test]
#[cfg(unix)]
fn links_and_pipes_in_a_dataset() {
    use std::os::unix::fs::symlink;
    let place = Place::new();
    let shard = "train/part-00000.arrow";
    let (inside, outside) = ("data/train/kept.arrow", "elsewhere.arrow");
    let shard_of = |data: &str| place.path(data).join(shard);
    for verb in ["verify", "inspect"] {
        for file in [shard, "documents.arrow", "tokenizer/vocab.txt"] {
            place.prepare("corpus.jsonl", "data", "--seq-len 32");
            let path = place.path("data").join(file);
            fs::rename(&path, place.path(outside)).unwrap();
            symlink(place.path(outside), &path).unwrap();
            let status = if verb == "verify" { 1 } else { 2 };
            let ran = place.cloze(&format!("{verb} data"));
            // Sizes of tokenizer and documents are looked at where they are used.
            if verb == "verify" || file == shard {
                let ran = ran.status(status);
                let said = ran.out() + &ran.err();
                assert!(
                    said.contains(file) && said.contains("leads out of"),
                    "{said}"
                );
            }
            fs::remove_dir_all(place.path("data")).unwrap();
        }
    }
    place.prepare("corpus.jsonl", "data", "--seq-len 32");
    // A link inside is a name for a file of the dataset, and the whole may lie elsewhere.
    fs::rename(shard_of("data"), place.path(inside)).unwrap();
    symlink("kept.arrow", shard_of("data")).unwrap();
    symlink(place.path("data"), place.path("link")).unwrap();
    let _ = place.cloze("verify link").status(0);
    // A pipe that nobody writes to.
    fs::remove_file(shard_of("data")).unwrap();
    let pipe = |path: &std::path::Path| {
        let made = std::process::Command::new("mkfifo").arg(path).status();
        assert!(made.unwrap().success());
    };
    pipe(&shard_of("data"));
    let found = place.cloze("verify data").status(1).out();
    assert!(found.contains("no regular file"), "{found}");
    let _ = place
        .cloze("inspect data")
        .status(2)
        .says(&["no regular file", "hint:"]);
    fs::remove_file(place.path("data/manifest.json")).unwrap();
    pipe(&place.path("data/manifest.json"));
    let _ = place
        .cloze("inspect data")
        .status(2)
        .says(&["manifest.json", "no regular file"]);
}
