//! A model gets the words of a corpus, on the executables, and goes on being trained.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;

use cloze_tests::{Place, document};
use serde_json::{Value, json};

/// A corpus of a field, and a model that has never seen it.
fn place() -> Place {
    let place = Place::new();
    place.write_config();
    place.prepare("corpus.jsonl", "data", "--seq-len 32");
    let _ = place
        .cloze("pretrain data --config config.json --out run --steps 1 --batch-tokens 256 --warmup-steps 0 --jobs 1 --device cpu")
        .status(0);
    let words = [
        "Kubernetes",
        "kubelet",
        "etcd",
        "kubeletic",
        "2024",
        "stoneware",
    ];
    let lines = (0..200).map(|i| {
        let text = format!(
            "{} The {} of a {}. Every {} keeps.",
            document(i),
            words[i % 6],
            words[i % 4],
            words[i % 2]
        );
        format!("{}\n", json!({ "body": text }))
    });
    place.write("field.jsonl", lines.collect::<String>());
    place
}

const EXTEND: &str = "vocab extend field.jsonl --text-field body --model run/model";

#[test]
fn a_model_learns_words_of_its_field() {
    let place = place();
    let ran = place
        .cloze(&format!("{EXTEND} --min-count 2 --dry-run"))
        .status(0);
    let shown = ran.out();
    let line = |word: &str| {
        let found = shown
            .lines()
            .find(|l| l.split_whitespace().next() == Some(word));
        found.map(|l| l.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    };
    // 34 + 50 + 100 times; ten pieces.
    let row = line("kubernetes").unwrap();
    assert_eq!(row[..3], ["kubernetes", "184", "1,656"], "{shown}");
    assert_eq!(row[3..].join(" "), "k ##u ##b ##e ##r ##n ##e ##t ##e ##s");
    assert!(line("2024").is_none() && line("river").is_none(), "{shown}");
    assert!(shown.contains("nothing was written"));
    // The most that is saved comes first; kubeletic begins with kubelet, so it saves less after that.
    let first = |word: &str| shown.find(&format!(" {word} ")).unwrap();
    assert!(first("kubernetes") < first("kubelet") && first("kubelet") < first("kubeletic"));
    assert_eq!(
        line("kubeletic").unwrap()[2],
        "166",
        "83 times, kubelet ##i ##c"
    );

    let extend = |out: &str, options: &str| {
        place.cloze(&format!(
            "{EXTEND} --words 3 --min-count 2 --out {out} {options}"
        ))
    };
    let ran = extend("mine", "--jobs 1").status(0);
    for said in [
        "tokens per word",
        "vocab_size",
        "+ 3 tokens",
        "cls.predictions.bias",
    ] {
        assert!(ran.out().contains(said), "{said}: {}", ran.out());
    }
    let _ = extend("again", "--jobs 3").status(0);
    assert_eq!(
        place.files("mine"),
        place.files("again"),
        "threads change nothing"
    );
    let read = |name: &str| fs::read_to_string(place.path(name)).unwrap();
    let (old, new) = (read("run/model/vocab.txt"), read("mine/vocab.txt"));
    assert_eq!(new, format!("{old}kubernetes\nkubelet\nthe\n"));
    let config: Value = serde_json::from_str(&read("mine/config.json")).unwrap();
    assert_eq!(config["vocab_size"], new.lines().count());

    // On with it: rows of the new tokens, a model that takes them.
    let _ = place
        .cloze("prepare field.jsonl --text-field body --tokenizer mine --out rows --seq-len 32 --validation-fraction 0.1")
        .status(0);
    let shown = place.cloze("inspect rows --rows 20").status(0).out();
    assert!(shown.contains("kubernetes"), "{shown}");
    let _ = place
        .cloze("pretrain rows --init mine --out further --steps 2 --batch-tokens 256 --warmup-steps 0 --jobs 1 --device cpu")
        .status(0);
    let config: Value = serde_json::from_str(&read("further/model/config.json")).unwrap();
    assert_eq!(config["vocab_size"], new.lines().count());
    // The old model does not fit rows of the new vocabulary.
    let _ = place
        .cloze("pretrain rows --init run/model --out no --steps 2 --device cpu")
        .status(2)
        .says(&["hint: "]);
}

#[test]
fn words_are_given_by_hand() {
    let place = place();
    place.write("words.txt", "Etcd\nriver\nZürich\netcd\n");
    let list = "vocab extend --list words.txt --model run/model --out";
    let ran = place.cloze(&format!("{list} mine")).status(0);
    assert!(
        ran.out()
            .contains("2 words of the list are in the vocabulary"),
        "{}",
        ran.out()
    );
    let vocab = fs::read_to_string(place.path("mine/vocab.txt")).unwrap();
    assert!(vocab.ends_with("\netcd\nzurich\n"), "{vocab}");
    // With a corpus it is said what they change.
    let ran = place
        .cloze(&format!("{EXTEND} --list words.txt --dry-run"))
        .status(0);
    assert!(ran.out().contains("tokens per word"));
    assert!(!place.path("mine.partial").exists());

    place.write("words.txt", "etcd\nkube-proxy\n");
    let _ = place.cloze(&format!("{list} other")).status(2).says(&[
        "words.txt: line 2: ",
        "kube - proxy",
        "hint: ",
    ]);
    place.write("words.txt", "river\n\n");
    let _ = place
        .cloze(&format!("{list} other"))
        .status(2)
        .says(&["no word to add", "hint: "]);
    let _ = place
        .cloze(&format!("{list} other --words 5"))
        .status(2)
        .says(&["--words"]);
    assert!(!place.path("other").exists());
}

#[test]
fn what_cannot_be_extended_is_said_before_the_corpus_is_read() {
    type Change<'a> = &'a dyn Fn(&str, Vec<u8>) -> Option<Vec<u8>>;
    let place = place();
    let refused = |line: &str, says: &[&str]| {
        let ran = place.cloze(line).status(2).says(says).says(&["hint: "]);
        assert!(!ran.err().contains("documents ("), "{}", ran.err());
        assert!(!place.path("out").exists() && !place.path("out.partial").exists());
        // One error, said once.
        assert_eq!(ran.err().matches("error: ").count(), 1, "{}", ran.err());
    };
    let extend = |model: &str| {
        format!("vocab extend field.jsonl --text-field body --model {model} --out out")
    };
    let copy = |name: &str, change: Change<'_>| {
        for (path, bytes) in place.files("run/model") {
            let path = path.to_string_lossy().into_owned();
            if let Some(bytes) = change(&path, bytes) {
                place.write(&format!("{name}/{path}"), bytes);
            }
        }
    };
    refused(&format!("{EXTEND} --out data"), &["data: exists already"]);
    refused(&extend("nowhere"), &["nowhere"]);
    refused(&extend("tokenizer"), &["config.json"]);
    copy("bare", &|name, bytes| {
        (name != "model.safetensors").then_some(bytes)
    });
    refused(
        &extend("bare"),
        &["bare: holds no weights", "model.safetensors"],
    );
    // A tokenizer of another model.
    copy("other", &|name, bytes| match name {
        "tokenizer.json" => None,
        "vocab.txt" => Some([&bytes[..], b"more\n"].concat()),
        _ => Some(bytes),
    });
    refused(&extend("other"), &["tokens", "vocab_size"]);
    // Tokens that are in no file that is read.
    copy("added", &|name, bytes| {
        (name != "tokenizer.json").then_some(bytes)
    });
    place.write("added/added_tokens.json", r#"{"[E1]": 101}"#);
    refused(&extend("added"), &["added_tokens.json", "[E1]"]);
    let _ = place
        .cloze("vocab extend field.jsonl --model run/model --out out")
        .status(2)
        .says(&["no field \"text\"", "--text-field"]);
    let _ = place
        .cloze(&format!("{EXTEND} --out out --min-count 1000000"))
        .status(2)
        .says(&["no word to add", "--min-count"]);
    assert!(!place.path("out").exists());
}
