//! Preparation within a memory that the tokens do not fit into: what comes out is what comes out where they do, byte for byte.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use cloze_tests::{Place, document};

/// A corpus with everything that is awkward: twins, documents of one word, one that is long, a sentence without an end, and few that are as they should be.
fn place() -> Place {
    let place = Place::new();
    let mut lines = Vec::new();
    for i in 0..9_000usize {
        let text = match i % 31 {
            0 => "river".to_owned(),
            1 | 2 => document(5),
            3 if i < 200 => (i..i + 300).map(document).collect::<Vec<_>>().join(" "),
            4 => document(i).replace('.', " ").repeat(9),
            5 => (i..i + 9).map(document).collect::<Vec<_>>().join(" "),
            _ => document(i) + " " + &document(i * 3 + 1),
        };
        // Ids that several have.
        let id = format!("d{}", if i % 50 == 7 { 7 } else { i });
        lines.push(serde_json::json!({"id": id, "text": text, "url": format!("u{i}")}).to_string());
    }
    place.write("many.jsonl", lines.join("\n"));
    place
}

/// Which road was taken is seen by what was told.
fn prepare(place: &Place, out: &str, more: &str, sorts: bool) {
    let line = format!(
        "prepare many.jsonl --tokenizer tokenizer --out {out} --validation-fraction 0.1 --shard-rows 3000 --save-every 1 {more}"
    );
    let ran = place.cloze(&line).status(0);
    assert_eq!(
        ran.err().contains("gather "),
        sorts,
        "{line}\n{}",
        ran.err()
    );
    assert!(!place.path(out).join(".work").exists());
}

#[test]
fn sorted_is_the_same_as_mapped() {
    let place = place();
    for (i, options) in [
        "--id-field id --meta-field url",
        "--dupe-factor 3 --bins 20,40 --masking static --seed 5",
        "--pairing bert",
        "--pairing bert --dupe-factor 2 --bins 30 --masking static --mask-unit word --id-field id",
        "--objective sop --bins 40",
        "--objective full-sentences --seq-len 512 --masking static",
        "--objective full-sentences --seq-len 24 --dupe-factor 2 --bins 12,18",
        "--objective doc-sentences --bins 20 --masking static --mask-unit span",
        "--random-next-ratio 1 --seq-len 8 --shard-rows 900000",
        "--random-next-ratio 0 --validation-fraction 0 --shard-rows 50",
    ]
    .into_iter()
    .enumerate()
    {
        let direct = format!("direct-{i}");
        prepare(&place, &direct, options, false);
        let expected = place.files(&direct);
        for (jobs, memory) in [(1, "1MiB"), (3, "1MiB"), (2, "1.5MiB")] {
            let sorted = format!("sorted-{i}-{jobs}");
            prepare(
                &place,
                &sorted,
                &format!("{options} --jobs {jobs} --memory {memory}"),
                true,
            );
            let found = place.files(&sorted);
            assert!(found.iter().map(|f| &f.0).eq(expected.iter().map(|f| &f.0)));
            for (a, b) in found.iter().zip(&expected) {
                assert!(a.1 == b.1, "{options}: {}", a.0.display());
            }
            std::fs::remove_dir_all(place.path(&sorted)).unwrap();
        }
        // A portion of the source at a time finds nothing either; but for BERT's own faults.
        if !options.contains("bert") {
            let verify = format!("verify {direct} --source many.jsonl --memory 1MiB");
            let _ = place.cloze(&verify).status(0);
        }
        std::fs::remove_dir_all(place.path(&direct)).unwrap();
    }
}

/// An audit that holds a portion of the source at a time finds what one finds that holds it all.
#[test]
fn portions_find_the_same() {
    let place = place();
    let text = std::fs::read_to_string(place.path("many.jsonl")).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for line in lines.iter_mut().step_by(997) {
        *line = line.replace("stone", "never");
    }
    lines.swap(100, 8_000);
    lines.truncate(8_990);
    place.write("other.jsonl", lines.join("\n"));
    for objective in ["nsp", "sop", "full-sentences", "doc-sentences"] {
        let options = format!("--id-field id --objective {objective} --seq-len 64");
        prepare(&place, objective, &options, false);
        let found = |more: &str, source: &str, status: i32| -> Vec<serde_json::Value> {
            let line = format!("verify {objective} --json --source {source} {more}");
            let ran = place.cloze(&line).status(status);
            let report: serde_json::Value = serde_json::from_str(&ran.out()).unwrap();
            report["checks"].as_array().unwrap().clone()
        };
        let (all, portions) = (
            found("", "other.jsonl", 1),
            found("--memory 1MiB", "other.jsonl", 1),
        );
        assert_eq!(all, portions, "{objective}");
        let problems = |checks: &[serde_json::Value]| {
            let of = |check: &serde_json::Value| check["problems"].as_u64();
            checks.iter().filter_map(of).sum::<u64>()
        };
        // A few rows of each text that is another; where rows go on into the next documents, those of the two that changed places.
        assert!(
            (10..2_000).contains(&problems(&all)),
            "{objective}: {all:?}"
        );
        assert_eq!(problems(&found("--memory 1MiB", "many.jsonl", 0)), 0);
    }
}

/// A vocabulary whose ids do not fit into 16 bits.
#[test]
fn wide_ids_are_sorted_too() {
    let place = place();
    let words = std::fs::read_to_string(place.path("tokenizer/vocab.txt")).unwrap();
    let more: String = (0..66_000).map(|i| format!("[unused{i}]\n")).collect();
    let special = words.lines().take(5).count();
    assert_eq!(special, 5);
    // Words come last, so that their ids are wide.
    let (special, words) = words.split_at(words.find("river").unwrap());
    place.write("tokenizer/vocab.txt", format!("{special}{more}{words}"));
    prepare(&place, "direct", "--masking static", false);
    prepare(&place, "sorted", "--masking static --memory 1MiB", true);
    assert!(place.files("direct") == place.files("sorted"));
}

#[test]
fn sizes_are_checked() {
    let place = Place::new();
    for size in ["0", "much", "3cows", "512KiB"] {
        let line = format!("prepare corpus --tokenizer tokenizer --out out --memory {size}");
        let _ = place.cloze(&line).status(2);
    }
    assert!(!place.path("out").exists());
}
