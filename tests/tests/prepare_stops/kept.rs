//! Tokens that are kept, for more than one dataset.

use super::*;

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

/// A file that holds other text than when tokens were made of it, in several parts: none of them is used again.
#[test]
fn parts_of_a_file_that_is_another_are_made_anew() {
    let place = Place::new();
    place.write("in/a.jsonl", lines(0, 3_500_000));
    let prepare = |more: &str| place.cloze(&format!("prepare in {OPTIONS} {more}"));
    let _ = prepare("--tokens kept --out first").status(0);
    assert!(place.path("kept/part-00002.json").exists());
    let text = fs::read_to_string(place.path("in/a.jsonl")).unwrap();
    place.write("in/a.jsonl", text.replace("river", "stone"));
    let _ = prepare("--tokens kept --out second").status(2);
    let _ = prepare("--tokens kept --replace-tokens --out second")
        .status(0)
        .says(&["in/a.jsonl holds other bytes"]);
    let _ = prepare("--out third").status(0);
    assert!(place.files("second") == place.files("third"));
}

/// Standard input has no name and no time: it is read to see whether it holds what it held.
#[test]
fn standard_input_is_compared() {
    let place = Place::new();
    place.write("text.jsonl", lines(0, 2_500_000));
    place.write("other.jsonl", lines(7, 2_500_000));
    let prepare = |from: &str, more: &str, expected: i32, says: &[&str]| {
        let line = format!("prepare - --input-format jsonl {OPTIONS} {more}");
        let ran = Command::new(cloze_tests::executable("cloze"))
            .args(line.split_whitespace())
            .current_dir(place.path("."))
            .stdin(fs::File::open(place.path(from)).unwrap())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(expected), "{line}: {said}");
        for text in says {
            assert!(said.contains(text), "{line}: {text}: {said}");
        }
    };
    // A file of that name is another thing.
    place.write("-", "stone");
    let as_they_are = ["tokens   as they are in kept"];
    prepare("text.jsonl", "--tokens kept --out first", 0, &[]);
    assert!(place.path("kept/part-00001.json").exists());
    prepare("text.jsonl", "--tokens kept --out second", 0, &as_they_are);
    assert!(place.files("second") == place.files("first"));
    let refuses = ["- holds other bytes", "--replace-tokens"];
    prepare("other.jsonl", "--tokens kept --out third", 2, &refuses);
    let replaces = "--tokens kept --replace-tokens --out third";
    prepare("other.jsonl", replaces, 0, &["is made anew: - is not"]);
    prepare("other.jsonl", "--out fourth", 0, &[]);
    assert!(place.files("third") == place.files("fourth"));
    // With deduplication tokens that are not whole are made anew, of what was read already to compare it.
    let unique = "--dedup exact --tokens unique --out";
    prepare("text.jsonl", &format!("{unique} fifth"), 0, &[]);
    fs::remove_file(place.path("unique/whole.json")).unwrap();
    let read = ["read to see whether it is the same", "--replace-tokens"];
    prepare("text.jsonl", &format!("{unique} sixth"), 2, &read);
    let replaces = format!("{unique} sixth --replace-tokens");
    prepare("text.jsonl", &replaces, 0, &[]);
    assert!(place.files("fifth") == place.files("sixth"));
    // Stopped when all was read, it is gone on with; what the machine lost cannot be made of what was read already.
    let stopped = || {
        let _ = fs::remove_dir_all(place.path("out"));
        fs::create_dir_all(place.path("out/.work")).unwrap();
        fs::create_dir(place.path("out/manifest.json.partial")).unwrap();
        prepare("text.jsonl", "--out out --resume", 2, &["manifest.json"]);
        fs::remove_dir(place.path("out/manifest.json.partial")).unwrap();
    };
    let is_whole = || assert!(place.files("out") == place.files("first"));
    stopped();
    prepare("text.jsonl", "--out out --resume", 0, &["as they are"]);
    is_whole();
    stopped();
    fs::write(place.path("out/.work/tokens/part-00001.arrow"), "").unwrap();
    prepare("text.jsonl", "--out out --resume", 2, &read);
    prepare(
        "text.jsonl",
        "--out out --resume --replace-tokens",
        0,
        &["made anew"],
    );
    is_whole();
}
