//! Unfinished work that is another when it is gone on with, or cannot be written.

use super::*;

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

/// Whatever byte of unfinished work is another when it is gone on with: what comes out is the same, or, where nothing tells any more what it was made with, it is refused.
#[test]
fn damaged_work_is_not_used() {
    let place = place(200_000);
    let line = format!("prepare in {OPTIONS} --shard-rows 900 --out out");
    let whole = unfinished(&place, &line);
    let mut said = 0;
    for (name, bytes) in place.files("work") {
        if bytes.is_empty() {
            continue;
        }
        again(&place);
        let mut other = bytes.clone();
        other[bytes.len() / 2] ^= 1;
        fs::write(place.path("out").join(&name), other).unwrap();
        let ran = place.cloze(&format!("{line} --resume"));
        let damaged = format!("{}: not as it was written", name.display());
        if name == Path::new(".work/key.json") {
            let _ = ran.status(2).says(&[&damaged, "hint: delete out"]);
            assert!(place.path("out/.work/tokens/part-00000.arrow").exists());
            continue;
        }
        // Nobody has to know of what can be seen to be another.
        said += usize::from(ran.err().contains(&damaged));
        let is_note = name.starts_with(".work") && name.extension().is_some_and(|e| e == "json");
        let says = [damaged.as_str(), "is made anew"];
        let _ = ran.status(0).says(if is_note { &says } else { &[] });
        assert!(place.files("out") == whole, "{}", name.display());
    }
    assert!(said > 5, "{said}");
}

/// A machine that stops loses files that were written a moment before: tokens are made anew from the first part on that is not whole, and so are recipes. So is what
/// lost notes told of.
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
        for (names, says) in [
            ("tokens/part-00000.arrow", ["it is made anew", "tokenize"]),
            (
                "tokens/part-00002.arrow",
                ["it is made anew", "going on after"],
            ),
            ("tokens/key.json", ["tokens   as they are", "write"]),
            ("tokens/part-00001.json", ["tokens   as they are", "write"]),
            ("tokens/whole.json", ["going on after", "tokenize"]),
            (
                "tokens/part-00001.json tokens/whole.json",
                ["going on after", "tokenize"],
            ),
            ("train-0.recipes", ["tokens   as they are", "pair"]),
            ("plan.json", ["tokens   as they are", "pair"]),
            ("train-part-00000.arrow.json", ["as they are", "write"]),
        ] {
            again(&place);
            for name in names.split(' ') {
                lost(&place.path("out/.work").join(name));
            }
            let _ = place
                .cloze(&format!("{line} --resume"))
                .status(0)
                .says(&says);
            assert!(place.files("out") == whole, "{names}");
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

/// Unfinished work may lie elsewhere, by a link: what else is there stays.
#[test]
fn what_a_link_leads_to_is_left_alone() {
    let place = place(60_000);
    place.write("elsewhere/mine", "mine");
    fs::create_dir(place.path("out")).unwrap();
    std::os::unix::fs::symlink("../elsewhere", place.path("out/.work")).unwrap();
    let line = format!("prepare in {OPTIONS} --out out --resume");
    let _ = place.cloze(&line).status(0);
    assert!(!place.path("out/.work").exists());
    assert!(place.path("elsewhere/mine").exists());
}
