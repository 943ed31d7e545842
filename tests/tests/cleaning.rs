//! Cleaning on the executables: the dataset of a corpus that is cleaned on the way is that of the corpus cleaned before.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;

use cloze_clean::exclude::Builder;
use cloze_clean::naive::{self, Fate};
use cloze_clean::{CleanOptions, Dedup, ParagraphKind, UnicodeForm};
use cloze_tests::{Place, document};
use serde_json::{Value, json};

/// Keyed draws: SplitMix64.
struct Draws(u64);

impl Draws {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

/// Documents of the made-up language; half of them stood before, in some way.
fn corpus(seed: u64, documents: usize) -> Vec<String> {
    let mut draws = Draws(seed);
    let words: Vec<String> = (0..40)
        .flat_map(|i| {
            document(i)
                .split_whitespace()
                .map(|w| w.trim_matches('.').to_lowercase())
                .collect::<Vec<_>>()
        })
        .collect();
    let sentence = |draws: &mut Draws| {
        let n = 3 + draws.below(12);
        let text: Vec<&str> = (0..n)
            .map(|_| words[draws.below(words.len())].as_str())
            .collect();
        let text = text.join(" ");
        format!("{}{}.", text[..1].to_uppercase(), &text[1..])
    };
    let mut texts: Vec<String> = Vec::new();
    let mut paragraphs: Vec<String> = Vec::new();
    for _ in 0..documents {
        let old = texts.get(draws.below(texts.len().max(1))).cloned();
        let text = match (draws.below(9), old) {
            (0, Some(text)) => text,
            (1, Some(text)) => format!("\u{feff}{}\r\n", text.replace(' ', "  ")),
            (3, _) if draws.below(4) == 0 => format!("{}\n", sentence(&mut draws)).repeat(3),
            (2, Some(text)) => {
                let mut all: Vec<&str> = text.split(' ').collect();
                let at = draws.below(all.len());
                all[at] = "another";
                all.join(" ")
            }
            _ => {
                let parts: Vec<String> = (0..1 + draws.below(4))
                    .map(|_| {
                        if draws.below(4) > 0 || paragraphs.is_empty() {
                            let n = 1 + draws.below(4);
                            let part: Vec<String> = (0..n).map(|_| sentence(&mut draws)).collect();
                            paragraphs.push(part.join(" "));
                            part.join(" ")
                        } else {
                            paragraphs[draws.below(paragraphs.len())].clone()
                        }
                    })
                    .collect();
                parts.join(["\n\n", "\n"][draws.below(2)])
            }
        };
        texts.push(text);
    }
    texts
}

fn write(place: &Place, name: &str, documents: impl Iterator<Item = (usize, String)>) {
    let lines = documents.map(|(id, text)| format!("{}\n", json!({"id": id, "text": text})));
    place.write(name, lines.collect::<String>());
}

fn shards(place: &Place, dataset: &str) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut files = place.files(dataset);
    files.retain(|(path, _)| path.iter().count() == 2 && !path.starts_with("tokenizer"));
    assert!(files.len() >= 2);
    files
}

fn manifest(place: &Place, dataset: &str) -> Value {
    serde_json::from_slice(&fs::read(place.path(dataset).join("manifest.json")).unwrap()).unwrap()
}

const EVERYTHING: &str = "--id-field id --tidy-space --unicode nfkc --strip-control --min-words 6 --max-repeated-lines 0.4 --dedup near \
    --dedup-threshold 0.7 --memory 2MiB --exclude test.jsonl --exclude-field question --exclude-field answer --exclude-ngram 8";

fn options(paragraphs: ParagraphKind) -> CleanOptions {
    CleanOptions {
        tidy_space: true,
        unicode: UnicodeForm::Nfkc,
        strip_control: true,
        min_words: Some(6),
        max_repeated_lines: Some(0.4),
        dedup: Dedup::Near,
        dedup_threshold: 0.7,
        dedup_paragraphs: paragraphs,
        ..CleanOptions::default()
    }
}

/// Everything at once, with sorters that spill: as a corpus that the naive rules cleaned in memory, and the same for any number of threads.
#[test]
fn as_a_corpus_that_was_cleaned_before() {
    let place = Place::new();
    let texts = corpus(1, 4000);
    write(&place, "raw.jsonl", texts.iter().cloned().enumerate());
    let rows: Vec<[&str; 2]> = (0..20)
        .map(|i| {
            [
                texts[i * 150].as_str(),
                texts[i * 150 + 7].split('.').next().unwrap(),
            ]
        })
        .collect();
    let lines = rows
        .iter()
        .map(|[q, a]| format!("{}\n", json!({"question": q, "answer": a})));
    place.write("test.jsonl", lines.collect::<String>());
    for (kind, name) in [
        (ParagraphKind::None, "none"),
        (ParagraphKind::BlankLine, "blank-line"),
        (ParagraphKind::Line, "line"),
    ] {
        let mut builder = Builder::new(8);
        builder.set("test.jsonl");
        for (i, row) in rows.iter().enumerate() {
            row.iter().for_each(|text| builder.add(i as u64, text));
        }
        let slices: Vec<&str> = texts.iter().map(String::as_str).collect();
        let fates = naive::clean(&options(kind), Some(builder.finish()), &slices).unwrap();
        let kept = fates
            .iter()
            .enumerate()
            .filter_map(|(id, fate)| match fate {
                Fate::Kept(parts) => Some((id, parts.join("\n\n"))),
                Fate::Dropped(..) => None,
            });
        write(&place, "cleaned.jsonl", kept);
        place.prepare("cleaned.jsonl", &format!("right-{name}"), "--id-field id");

        let mut all = Vec::new();
        for jobs in [1, 2, 5] {
            let out = format!("data-{name}-{jobs}");
            let asked =
                format!("{EVERYTHING} --dedup-paragraphs {name} --jobs {jobs} --report {out}.json");
            place.prepare("raw.jsonl", &out, &asked);
            all.push((
                place.files(&out),
                fs::read(place.path(&format!("{out}.json"))).unwrap(),
            ));
        }
        assert!(all[0] == all[1] && all[1] == all[2], "{name}");
        let (out, right) = (format!("data-{name}-1"), format!("right-{name}"));
        assert!(shards(&place, &out) == shards(&place, &right), "{name}");

        let (found, right) = (manifest(&place, &out), manifest(&place, &right));
        for count in ["documents", "sentences", "tokens", "unknown_tokens"] {
            assert_eq!(
                found["counts"][count], right["counts"][count],
                "{name}: {count}"
            );
        }
        let report: Value = serde_json::from_slice(&all[0].1).unwrap();
        for reason in [
            "duplicate",
            "near_duplicate",
            "excluded",
            "min_words",
            "repeated_lines",
            "repeated_paragraphs_only",
        ] {
            let of_reason = |(i, fate): (usize, &Fate)| match fate {
                Fate::Dropped(name, of) if *name == reason => Some((i, *of)),
                _ => None,
            };
            let right: Vec<_> = fates.iter().enumerate().filter_map(of_reason).collect();
            let counted = &found["counts"][format!("dropped_{reason}")];
            assert_eq!(
                counted.as_u64().unwrap_or(0),
                right.len() as u64,
                "{name}: {reason}"
            );
            assert!(
                !right.is_empty() || kind != ParagraphKind::Line,
                "{reason} is in the corpus"
            );
            let empty = Vec::new();
            let examples = report["examples"][reason].as_array().unwrap_or(&empty);
            assert_eq!(examples.len(), right.len().min(5));
            for (example, (i, of)) in examples.iter().zip(right) {
                assert_eq!(example["index"], i);
                assert_eq!(example["id"], i.to_string());
                assert_eq!(example["source"], "raw.jsonl");
                assert!(example["text"].as_str().unwrap().len() > 1, "{example}");
                assert_eq!(example["of"]["index"].as_u64(), of.map(|of| of as u64));
            }
        }
        assert_eq!(found["counts"]["read_documents"], texts.len());
        let by = report["excluded_by"].as_array().unwrap();
        assert_eq!(found["counts"]["excluding_rows"], by.len());
        assert!(by.len() > 10 && by[0]["source"] == "test.jsonl");
    }
}

/// The audit cleans as the preparation did, and says where it cannot.
#[test]
fn the_audit_cleans_too() {
    let place = Place::new();
    write(&place, "raw.jsonl", corpus(2, 400).into_iter().enumerate());
    place.write("test.jsonl", "{\"text\": \"the river walks old stone\"}\n");
    let asked = "--id-field id --tidy-space --dedup near --dedup-paragraphs line --exclude test.jsonl --exclude-ngram 5";
    place.prepare("raw.jsonl", "data", asked);
    let clean = place.cloze("verify data --source raw.jsonl").status(0);
    assert!(clean.out().contains("clean"));
    // A source without its first document: what was a duplicate of it is now kept, and what was its text is not found.
    let raw = fs::read_to_string(place.path("raw.jsonl")).unwrap();
    place.write("less.jsonl", raw.split_once('\n').unwrap().1);
    let found = place.cloze("verify data --source less.jsonl").status(1);
    assert!(
        found.out().contains("is not in the source"),
        "{}",
        found.out()
    );

    fs::rename(place.path("test.jsonl"), place.path("moved.jsonl")).unwrap();
    let _ = place
        .cloze("verify data --source raw.jsonl")
        .status(2)
        .says(&["test.jsonl"]);
    let _ = place
        .cloze("verify data --source raw.jsonl --exclude moved.jsonl")
        .status(0);
    place.write(
        "test.jsonl",
        "{\"text\": \"another set of words altogether\"}\n",
    );
    let _ = place
        .cloze("verify data --source raw.jsonl")
        .status(2)
        .says(&["not the evaluation set", "hint:", "--exclude"]);
}

/// Without any of the options nothing is said of cleaning, and options that change nothing change no byte of the shards.
#[test]
fn nothing_is_done_unless_it_is_asked_for() {
    let place = Place::new();
    place.prepare(
        "corpus.jsonl",
        "plain",
        "--id-field id --dedup-threshold 0.7",
    );
    let plain = manifest(&place, "plain");
    assert!(plain["config"].get("clean").is_none());
    assert!(plain["counts"].get("read_documents").is_none());
    // The documents of this corpus all differ, and its lines are tidy.
    let ran = place.prepare(
        "corpus.jsonl",
        "same",
        "--id-field id --dedup exact --tidy-space",
    );
    let _ = ran.says(&["documents kept", "cleaning"]);
    assert!(shards(&place, "plain") == shards(&place, "same"));
    let same = manifest(&place, "same");
    assert_eq!(same["config"]["clean"]["dedup"], "exact");
    assert_eq!(same["counts"]["read_documents"], 120);
    assert_eq!(same["counts"]["documents"], 120);
}

#[test]
fn errors_say_what_to_do() {
    let place = Place::new();
    place.write("empty.jsonl", "{\"text\": \"?!\"}\n");
    place.write("other.jsonl", "{\"question\": \"why\"}\n");
    let fails = |options: &str, says: &[&str]| {
        let line = format!("prepare corpus.jsonl --tokenizer tokenizer --out data {options}");
        let _ = place.cloze(&line).status(2).says(says);
        assert!(!place.path("data").exists(), "{options}");
    };
    fails(
        "--exclude empty.jsonl",
        &["empty.jsonl", "no row holds a word"],
    );
    fails(
        "--exclude other.jsonl",
        &["other.jsonl", "\"text\"", "question"],
    );
    fails("--exclude none.jsonl", &["none.jsonl"]);
    fails("--dedup-threshold 2", &["--dedup-threshold is 2"]);
    fails("--min-words 1000", &["no document", "min words"]);
    fails(
        "--report none/report.json",
        &["--report", "none/report.json"],
    );
    let before = fs::read(place.path("corpus.jsonl")).unwrap();
    fails(
        "--report corpus.jsonl",
        &["--report corpus.jsonl", "is no such report"],
    );
    assert!(fs::read(place.path("corpus.jsonl")).unwrap() == before);
}
