//! `cloze inspect`: a document's rows, two datasets, what reaches a terminal.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};

use cloze_shard::{Dataset, NextSentenceLabel, Vocabulary};
use cloze_tests::{Place, document};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

type Segment = (String, u64, String, u64, u64);

/// Every segment of a document (or whose document is not asked for) by its hash: split, row, name, first and last sentence. In the tests' language a
/// sentence ends with a full stop and nowhere else.
fn segments(dataset: &Dataset) -> BTreeMap<i64, BTreeSet<Segment>> {
    let vocabulary = Vocabulary::read(&dataset.path().join("tokenizer")).unwrap();
    let is_stop = |id: &u32| vocabulary.token(*id) == Some(".");
    let mut all: BTreeMap<i64, BTreeSet<Segment>> = BTreeMap::new();
    for (split, rows) in dataset.splits() {
        for (i, row) in rows.iter().enumerate() {
            let ids = row.original_ids();
            let b_start = usize::from(row.b_start);
            let mut parts = vec![("A", row.doc_a, row.sentence_a, &ids[1..b_start - 1])];
            if row.has_b() {
                let b = &ids[b_start..ids.len() - 1];
                parts.push(("B", row.doc_b, row.sentence_b, b));
            }
            for (name, doc, first, ids) in parts {
                let inner = ids[..ids.len() - 1].iter().filter(|id| is_stop(id)).count() as u64;
                let first = u64::from(first);
                all.entry(doc).or_default().insert((
                    split.to_owned(),
                    i as u64,
                    name.to_owned(),
                    first,
                    first + inner,
                ));
            }
        }
    }
    all
}

fn shown(answer: &Value) -> BTreeSet<Segment> {
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let each = answer["segments"].as_array().unwrap().iter();
    each.map(|s| {
        (
            text(&s["split"]),
            number(&s["row"]),
            text(&s["segment"]),
            number(&s["first_sentence"]),
            number(&s["last_sentence"]),
        )
    })
    .collect()
}

/// All documents: with the source, exactly the rows and sentences that there are; without it, never more than that.
#[test]
fn a_document_is_followed_into_its_rows() {
    for options in [
        "--pairing cloze",
        "--pairing bert --dupe-factor 2 --masking static",
        "--objective sop",
        "--objective doc-sentences",
    ] {
        let place = Place::new();
        place.prepare(
            "corpus.jsonl",
            "data",
            &format!("--id-field id --seq-len 16 {options}"),
        );
        let dataset = Dataset::open(&place.path("data")).unwrap();
        let expected = segments(&dataset);
        let mut cut = 0;
        for (ordinal, record) in dataset.documents().unwrap().iter().enumerate().step_by(7) {
            let id = record.id.clone().unwrap();
            let of = expected.get(&record.doc).cloned().unwrap_or_default();
            let exact = place.cloze(&format!(
                "inspect data --doc {id} --source corpus.jsonl --json"
            ));
            let exact = json(&exact.status(0).out());
            assert_eq!(shown(&exact), of, "{options} {id}");
            let document = &exact["documents"][0];
            assert_eq!(number(&document["ordinal"]), ordinal as u64);
            let coverage = &document["coverage"];
            let whole = number(&coverage["covered"]);
            assert_eq!(number(&coverage["sentences"]), u64::from(record.sentences));
            assert_eq!(
                document["text"].as_array().unwrap().len() as u64,
                u64::from(record.sentences)
            );
            let reached: BTreeSet<u64> = of.iter().flat_map(|s| s.3..=s.4).collect();
            let part = number(&coverage["in_part"]);
            assert_eq!(whole + part, reached.len() as u64, "{options} {id}");
            cut += u64::from(record.sentences) - whole;

            let rows = json(
                &place
                    .cloze(&format!("inspect data --doc {id} --json"))
                    .status(0)
                    .out(),
            );
            let begun = |all: &BTreeSet<Segment>| -> BTreeSet<_> {
                all.iter()
                    .map(|s| (s.0.clone(), s.1, s.2.clone(), s.3))
                    .collect()
            };
            let known = shown(&rows);
            assert_eq!(begun(&known), begun(&of));
            let proven: BTreeSet<u64> = known.iter().flat_map(|s| s.3..=s.4).collect();
            assert!(
                proven.is_subset(&reached),
                "{options} {id}: {proven:?} {reached:?}"
            );
            let coverage = &rows["documents"][0]["coverage"];
            assert_eq!(number(&coverage["covered"]), proven.len() as u64);
        }
        // Only BERT's pairing loses text.
        assert_eq!(cut > 0, options.contains("bert"), "{options}: {cut}");
    }
}

/// Between two others a document is found by its source.
#[test]
fn documents_inside_a_row_are_found_with_the_source() {
    let place = Place::new();
    place.prepare(
        "corpus.jsonl",
        "data",
        "--id-field id --seq-len 64 --objective full-sentences",
    );
    let dataset = Dataset::open(&place.path("data")).unwrap();
    let mut unnamed = 0;
    for record in dataset.documents().unwrap().iter().step_by(5) {
        let id = record.id.unwrap();
        let ask = |more: &str| {
            json(
                &place
                    .cloze(&format!("inspect data --doc {id} --json {more}"))
                    .status(0)
                    .out(),
            )
        };
        let (rows, exact) = (ask(""), ask("--source corpus.jsonl"));
        let coverage = &exact["documents"][0]["coverage"];
        assert_eq!(
            number(&coverage["covered"]),
            u64::from(record.sentences),
            "{id}"
        );
        unnamed += usize::from(shown(&rows).is_empty());
        assert!(!shown(&exact).is_empty());
    }
    assert!(unnamed > 0, "no row holds three documents");
}

#[test]
fn a_document_is_named_in_three_ways() {
    let place = Place::new();
    place.prepare("corpus.jsonl", "data", "--id-field id");
    let by_id = place.cloze("inspect data --doc d17").status(0).out();
    assert!(
        by_id.contains("id \"d17\"") && by_id.contains("corpus.jsonl document 17"),
        "{by_id}"
    );
    let doc = json(&place.cloze("inspect data --doc d17 --json").status(0).out());
    let hash = doc["documents"][0]["doc"].as_str().unwrap().to_owned();
    for name in [hash.as_str(), "#17"] {
        assert_eq!(
            place
                .cloze(&format!("inspect data --doc {name}"))
                .status(0)
                .out(),
            by_id
        );
    }
    for name in ["d1700", "#120", "0000000000000000", "#x"] {
        let _ = place
            .cloze(&format!("inspect data --doc {name}"))
            .status(2)
            .says(&["no document", "'#0' to '#119'"]);
    }
    // A source that says something else is noticed.
    let text = std::fs::read_to_string(place.path("corpus.jsonl")).unwrap();
    let changed: String = text
        .lines()
        .map(|l| {
            if l.contains("\"d17\"") {
                l.replace(" ", " never ") + "\n"
            } else {
                format!("{l}\n")
            }
        })
        .collect();
    place.write("changed.jsonl", changed);
    let _ = place
        .cloze("inspect data --doc d17 --source changed.jsonl")
        .status(2)
        .says(&["is not in the source where the row says", "verify --source"]);
}

/// Rows of the same text are the same, whatever their masks and the numbers of their tokens.
#[test]
fn two_datasets_are_compared() {
    let place = Place::new();
    place.prepare("corpus.jsonl corpus", "a", "--seq-len 32");
    place.prepare(
        "corpus.jsonl corpus/a.txt",
        "b",
        "--seq-len 32 --pairing bert --seed 3",
    );
    place.prepare(
        "corpus.jsonl corpus",
        "masked",
        "--seq-len 32 --masking static",
    );
    let diff = |other: &str| {
        json(
            &place
                .cloze(&format!("inspect a --diff {other} --json"))
                .status(0)
                .out(),
        )
    };

    let sets = ["a", "b"].map(|name| {
        let dataset = Dataset::open(&place.path(name)).unwrap();
        let docs: BTreeSet<i64> = dataset.documents().unwrap().iter().map(|d| d.doc).collect();
        let rows: Vec<_> = dataset
            .split("train")
            .unwrap()
            .iter()
            .map(|r| {
                (
                    r.original_ids(),
                    r.b_start,
                    r.next_sentence_label == Some(NextSentenceLabel::IsNext),
                    r.has_b(),
                )
            })
            .collect();
        (docs, rows)
    });
    let [(docs_a, rows_a), (docs_b, rows_b)] = &sets;
    let found = diff("b");
    let documents = &found["documents"];
    assert_eq!(
        number(&documents["both"]) as usize,
        docs_a.intersection(docs_b).count()
    );
    assert_eq!(number(&documents["distinct_a"]) as usize, docs_a.len());
    assert_eq!(number(&documents["distinct_b"]) as usize, docs_b.len());
    let rows = &found["rows"]["train"];
    let in_b = rows_a.iter().filter(|r| rows_b.contains(r)).count();
    assert_eq!(number(&rows["a_in_b"]) as usize, in_b);
    assert!(in_b > 0 && in_b < rows_a.len());
    assert_eq!(
        number(&rows["b_in_a"]) as usize,
        rows_b.iter().filter(|r| rows_a.contains(r)).count()
    );
    let options: Vec<&str> = found["options"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| o["option"].as_str().unwrap())
        .collect();
    assert_eq!(options, ["pairing", "seed", "sources"]);
    let text = place.cloze("inspect a --diff b").status(0).out();
    for expected in [
        "pairing",
        "rows, train",
        "row lengths, split train",
        "tokenizer: the same",
        "train: tokens",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }

    let same = diff("masked");
    let rows = &same["rows"]["train"];
    assert_eq!(number(&rows["a_in_b"]), number(&rows["a"]));
    assert_eq!(
        (&rows["distinct_a"], &rows["distinct_b"]),
        (&rows["both"], &rows["both"])
    );

    // The same words with other numbers, and one more.
    let words = std::fs::read_to_string(place.path("tokenizer/vocab.txt")).unwrap();
    let mut words: Vec<&str> = words.lines().collect();
    words[5..].reverse();
    words.push("unheard");
    place.write("tokenizer/vocab.txt", words.join("\n"));
    place.prepare("corpus.jsonl corpus", "other", "--seq-len 32");
    let other = diff("other");
    let rows = &other["rows"]["train"];
    assert_eq!(number(&rows["a_in_b"]), number(&rows["a"]));
    assert_eq!(
        other["vocabulary"]["only_b"],
        serde_json::json!(["unheard"])
    );
    assert_eq!(other["vocabulary"]["only_a"], serde_json::json!([]));
    assert!(number(&other["vocabulary"]["other_ids"]) > 50);
}

/// What strangers wrote cannot steer the terminal, and programs read it as it is.
#[test]
fn strangers_words_are_shown_not_obeyed() {
    let place = Place::new();
    let evil = "x\u{1b}[2J\u{9b}31m\u{202e}\nrow 0";
    let text = cloze_tests::document(3);
    place.write(
        "evil\u{1b}[31m.jsonl",
        format!("{}\n", serde_json::json!({"id": evil, "text": text})),
    );
    let words = std::fs::read_to_string(place.path("tokenizer/vocab.txt")).unwrap();
    let evil_words: String = (0..300).map(|i| format!("\u{1b}]0;{i}\u{7}\n")).collect();
    place.write("tokenizer/vocab.txt", words + &evil_words);
    place.prepare(
        "evil\u{1b}[31m.jsonl",
        "data",
        "--id-field id --validation-fraction 0 --masking static --mask-rate 0.9 --mask-share 0 --random-share 1",
    );
    for line in [
        "inspect data",
        "inspect data --json",
        "inspect data --doc #0",
        "inspect data --doc #0 --json",
        "inspect data --doc #0 --source evil\u{1b}[31m.jsonl",
        "inspect data --diff data",
        "inspect data --doc \u{1b}[2J",
        "inspect no\u{1b}[2J",
    ] {
        let ran = place.cloze(line);
        for out in [ran.out(), ran.err()] {
            let raw = out
                .chars()
                .find(|&c| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c));
            assert_eq!(raw, None, "{line}: {out}");
        }
    }
    let shown = json(&place.cloze("inspect data --doc #0 --json").status(0).out());
    assert_eq!(shown["documents"][0]["id"], evil);
    let text = place.cloze("inspect data --rows 1").status(0).out();
    assert!(text.contains("→\\u{1b}]0;"), "{text}");
    assert!(
        text.contains("\\u{1b}[2J") && text.contains("evil\\u{1b}[31m.jsonl"),
        "{text}"
    );
    assert_eq!(
        text.lines().filter(|l| l.starts_with("row 0 ")).count(),
        1,
        "{text}"
    );
}

/// A viewer needs a terminal, and says what there is without one.
#[test]
fn a_viewer_needs_a_terminal() {
    let place = Place::new();
    place.prepare("corpus.jsonl", "data", "");
    let _ = place
        .cloze("inspect data --view")
        .status(2)
        .says(&["not a terminal", "leave out --view"]);
    let _ = place.cloze("inspect data --view --json").status(2);
    let _ = place.cloze("inspect data --view --diff data").status(2);
    let _ = place.cloze("inspect data --source corpus.jsonl").status(2);
}

/// Rows are listed as they are; masks are only drawn where they are shown.
#[test]
fn masks_are_asked_for_where_they_are_shown() {
    let place = Place::new();
    place.prepare("corpus.jsonl", "data", "");
    for option in ["--mask-rate 0.3", "--mask-unit word"] {
        let _ = place
            .cloze(&format!("inspect data {option}"))
            .status(2)
            .says(&["--view|--html"]);
        let page = format!("inspect data {option} --html page.html");
        let _ = place.cloze(&page).status(0);
    }
}

/// What is between two tags, tags taken out, in order.
fn cells(page: &str) -> Vec<String> {
    let each = page.split(['<']).skip(1).filter_map(|p| p.split_once('>'));
    each.map(|(_, text)| text.trim().to_owned())
        .filter(|t| !t.is_empty())
        .collect()
}

fn after<'a>(cells: &'a [String], name: &str) -> &'a [String] {
    let at = cells.iter().position(|c| c == name);
    &cells[at.unwrap_or_else(|| panic!("{name}: {cells:?}")) + 1..]
}

/// The page says what is there, is whole in itself, the same each time, and nothing in it is obeyed.
#[test]
fn a_report_says_what_is_there() {
    let place = Place::new();
    let evil = "<script>alert(1)</script>\u{202e}";
    let text = cloze_tests::document(3);
    place.write(
        "<b>.jsonl",
        format!("{}\n", serde_json::json!({"id": evil, "text": text})).repeat(3),
    );
    place.write(
        "unknown.jsonl",
        "{\"id\": \"u\", \"text\": \"Ωmega ψ river. Ж stone.\"}\n",
    );
    place.prepare(
        "unknown.jsonl <b>.jsonl corpus.jsonl",
        "data",
        "--id-field id --seq-len 32 --bins 12,20 --masking static",
    );
    let _ = place
        .cloze("inspect data --html report.html --rows 150")
        .status(0);
    let page = std::fs::read_to_string(place.path("report.html")).unwrap();
    let _ = place
        .cloze("inspect data --html again.html --rows 150 --jobs 1")
        .status(0);
    assert_eq!(
        page,
        std::fs::read_to_string(place.path("again.html")).unwrap()
    );
    assert!(
        !page.contains("<script") && !page.contains('\u{202e}') && page.contains("&lt;script&gt;")
    );
    for outside in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }

    let dataset = Dataset::open(&place.path("data")).unwrap();
    let manifest = dataset.manifest();
    let cells = cells(&page);
    let train = after(&cells, "train");
    let record = &manifest.splits["train"];
    assert_eq!(train[0].replace(',', ""), record.documents.to_string());
    assert_eq!(train[1].replace(',', ""), record.rows.to_string());
    let unk = manifest.tokenizer.special_tokens.unk;
    let all = || dataset.splits().flat_map(|(_, s)| s.iter());
    let tokens: Vec<u32> = all().flat_map(|r| r.original_ids()).collect();
    let unknown = tokens.iter().filter(|&&id| id == unk).count();
    assert!(unknown > 0);
    assert!(
        after(&cells, "unknown")
            .iter()
            .any(|c| c.starts_with(&format!("{unknown} ("))),
        "{unknown}"
    );
    // Bins: rows of each, and their ends.
    let bin = after(&cells, "13–20");
    let of = |r: &cloze_shard::RowRef<'_>| (13..=20).contains(&r.len());
    let rows: usize = dataset.split("train").unwrap().iter().filter(of).count();
    assert_eq!(bin[0].replace(',', ""), rows.to_string());
    // Sources: tokens in rows, the largest first.
    let framing = [2, 3, 4, 0];
    let docs: BTreeMap<i64, u32> = dataset
        .documents()
        .unwrap()
        .iter()
        .map(|d| (d.doc, d.source))
        .collect();
    let mut counts = [0u64; 3];
    for row in all() {
        let ids = row.original_ids();
        for (i, id) in ids.iter().enumerate() {
            let doc = if i < usize::from(row.b_start) {
                row.doc_a
            } else {
                row.doc_b
            };
            counts[docs[&doc] as usize] += u64::from(!framing.contains(id));
        }
    }
    let source = after(&cells, "unknown.jsonl");
    assert_eq!(source[2].replace(',', ""), counts[0].to_string());
    let source = after(&cells, "&lt;b&gt;.jsonl");
    assert_eq!(
        (source[0].as_str(), source[2].replace(',', "")),
        ("3", counts[1].to_string())
    );
    let listed = after(&cells, "tokens in rows");
    let place_of = |name: &str| listed.iter().position(|c| c == name).unwrap();
    assert!(place_of("corpus.jsonl") < place_of("&lt;b&gt;.jsonl"));
    assert!(place_of("&lt;b&gt;.jsonl") < place_of("unknown.jsonl"));
    assert!(counts[2] > counts[1] && counts[1] > counts[0]);
    // The same document three times.
    let documents = after(after(&cells, "repeat another"), "documents");
    assert_eq!(documents[..5], ["124", "122", "2", "1.6 %", "3"]);

    let _ = place
        .cloze("inspect data --html report.html --json")
        .status(2);
    let _ = place
        .cloze("inspect data --html no/such/folder/report.html")
        .status(2)
        .says(&["no/such/folder"]);
    // Nothing but an earlier report is replaced.
    let _ = place.cloze("inspect data --html report.html").status(0);
    for (file, why) in [
        ("data/manifest.json", "lies in the dataset's folder"),
        ("data/report.html", "lies in the dataset's folder"),
        ("corpus.jsonl", "is no such report"),
    ] {
        let before = std::fs::read(place.path(file)).ok();
        let _ = place
            .cloze(&format!("inspect data --html {file}"))
            .status(2)
            .says(&[file, why]);
        assert_eq!(std::fs::read(place.path(file)).ok(), before);
    }
}

/// Sentences are those of the text as it was tokenized, not as it lies in the source.
#[test]
fn a_document_that_was_cleaned_is_found_in_its_source() {
    let place = Place::new();
    let line = |i: usize| {
        let text = format!(
            "{} The river's ﬁrst ﬂoor\u{a0}ends. {}",
            document(i),
            document(i + 1)
        );
        format!(
            "{}\n",
            serde_json::json!({"id": format!("d{i}"), "text": text})
        )
    };
    place.write("odd.jsonl", (0..40).map(line).collect::<String>());
    place.prepare(
        "odd.jsonl",
        "plain",
        "--seq-len 32 --id-field id --validation-fraction 0",
    );
    place.prepare(
        "odd.jsonl",
        "clean",
        "--seq-len 32 --id-field id --validation-fraction 0 --unicode nfkc --tidy-space",
    );
    for data in ["plain", "clean"] {
        for id in ["d0", "d7", "d31"] {
            let line = format!("inspect {data} --doc {id} --source odd.jsonl");
            let shown = place.cloze(&line).status(0).out();
            assert!(!shown.contains("not in the source"), "{shown}");
        }
    }
    let options = "--seq-len 32 --id-field id --validation-fraction 0 --dedup-paragraphs line";
    place.prepare("odd.jsonl", "parts", options);
    let _ = place
        .cloze("inspect parts --doc d7 --source odd.jsonl")
        .status(2)
        .says(&[
            "--dedup-paragraphs",
            "hint: leave --source out",
            "verify --source",
        ]);
    let _ = place.cloze("inspect parts --doc d7").status(0);
}
