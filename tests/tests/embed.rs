//! Sentence embeddings by the executable.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;

use cloze_tests::Place;

fn place() -> Place {
    let place = Place::new();
    place.prepare("corpus.jsonl", "data", "--seq-len 32");
    place.write_config();
    let _ = place
        .cloze("pretrain data --config config.json --steps 2 --warmup-steps 0 --batch-tokens 256 --out run")
        .status(0);
    place
}

#[test]
fn threads_change_nothing() {
    let place = place();
    for jobs in [1, 2, 5] {
        let line = format!(
            "embed corpus.jsonl --model run/model --max-length 24 --out v{jobs}.npy --jobs {jobs}"
        );
        let _ = place.cloze(&line).status(0);
    }
    let bytes = |jobs: u32| fs::read(place.path(&format!("v{jobs}.npy"))).unwrap();
    assert!(bytes(1) == bytes(2) && bytes(1) == bytes(5) && bytes(1).len() == 128 + 120 * 16 * 4);
    let ids = fs::read_to_string(place.path("v1.npy.ids.jsonl")).unwrap();
    assert_eq!(ids.lines().count(), 120);
}

/// What fails leaves nothing behind, and what holds nothing is an error.
#[test]
fn failures_leave_nothing() {
    let place = place();
    place.write("empty.jsonl", "\n\n");
    place.write("broken.jsonl", "{\"text\": \"river\"}\n{\"text\": 5}\n");
    for (texts, says) in [
        ("empty.jsonl", "holds no text"),
        ("broken.jsonl", "line 2"),
        ("none.jsonl", "none.jsonl"),
    ] {
        for ending in ["npy", "parquet", "arrow"] {
            let line = format!("embed {texts} --model run/model --out v.{ending}");
            let _ = place.cloze(&line).status(2).says(&[says, "hint:"]);
        }
    }
    let left: Vec<String> = fs::read_dir(place.path("."))
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("v."))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let _ = place
        .cloze("embed corpus.jsonl --model nowhere/at/all/x --out v.npy")
        .status(2);
}

/// What is wrong with queries is said before anything else is done; what they name that is not there, with its line.
#[test]
fn queries_are_read_first() {
    let place = place();
    place.write(
        "texts.jsonl",
        "{\"id\": \"a\", \"text\": \"river\"}\n{\"id\": \"b\", \"text\": \"stone\"}\n",
    );
    let embed = |queries: &str, model: &str| {
        place.write("queries.jsonl", queries);
        place.cloze(&format!(
            "embed texts.jsonl --model {model} --retrieval queries.jsonl"
        ))
    };
    for (queries, says) in [
        ("", "holds no query"),
        ("{\"query\": \"x\"}\n", "line 1: has no relevant"),
        (
            "\n{\"query\": \"x\", \"relevant\": {\"a\": -1}}\n",
            "line 2: the gain of \"a\"",
        ),
        (
            "{\"query\": \"x\", \"relevant\": {\"a\": 0}}\n",
            "line 1: has no relevant",
        ),
        ("{\"query\"\n", "line 1: broken JSON"),
    ] {
        let _ = embed(queries, "nowhere")
            .status(2)
            .says(&["queries.jsonl", says, "hint:"]);
    }
    let named =
        "{\"query\": \"x\", \"relevant\": [\"a\"]}\n{\"query\": \"x\", \"relevant\": [\"c\"]}\n";
    let _ = embed(named, "run/model")
        .status(2)
        .says(&["line 2: names the document \"c\"", "--id-field"]);
    let good = embed(
        "{\"query\": \"stone\", \"relevant\": {\"b\": 2, \"a\": 0}}\n",
        "run/model",
    )
    .status(0);
    assert!(good.out().contains("1 queries, 2 texts"), "{}", good.out());
}

/// A field that was asked for and is nowhere is told of; the usual one need not be there.
#[test]
fn ids_that_are_nowhere() {
    let place = place();
    place.write("texts.txt", "river\nstone\n");
    place.write(
        "texts.jsonl",
        "{\"text\": \"river\", \"name\": \"a\"}\n{\"text\": \"stone\"}\n",
    );
    let embed = |texts: &str, option: &str| {
        let line = format!("embed {texts} --model run/model --out v.npy --force {option}");
        place.cloze(&line)
    };
    let _ = embed("texts.jsonl", "--id-field number").status(0).says(&[
        "warning: no text has the field \"number\"",
        "the first has [text, name]",
    ]);
    let _ = embed("texts.txt", "--id-field number").status(2).says(&[
        "texts.txt: a text a line, and lines have no field \"number\"",
        "hint: leave out --id-field",
    ]);
    for (texts, option) in [
        ("texts.jsonl", "--id-field name"),
        ("texts.jsonl", ""),
        ("texts.txt", ""),
    ] {
        let ran = embed(texts, option).status(0);
        assert!(!ran.err().contains("no text has"), "{}", ran.err());
    }
}
