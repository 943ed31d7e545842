//! The main job on the executables: the same bytes for any number of threads, and all of it readable again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use cloze_shard::manifest::SplitRecord;
use cloze_shard::rules::RowRules;
use cloze_shard::{Dataset, NextSentenceLabel, Row, ShardWriter};
use cloze_tests::{Place, document};

#[test]
fn bytes_do_not_depend_on_threads() {
    let place = Place::new();
    // Among the others a document as long as all of them, which is begun before them.
    let corpus = fs::read_to_string(place.path("corpus.jsonl")).unwrap();
    let long: Vec<String> = (200..320).map(document).collect();
    let long = serde_json::json!({"id": "long", "text": long.join("\n")});
    let (before, behind) = corpus.split_at(corpus.match_indices('\n').nth(60).unwrap().0 + 1);
    place.write("corpus.jsonl", format!("{before}{long}\n{behind}"));
    let all_options = [
        "--id-field id",
        "--id-field id --seed 9",
        "--id-field id --masking static --dupe-factor 3 --shard-rows 40 --pairing bert",
        "--id-field id --seed 9 --seq-len 24",
    ];
    for (i, options) in all_options.iter().enumerate() {
        let mut all = Vec::new();
        // Nine are many: some shards are made by one thread each, and the rest by several.
        for jobs in [1, 2, 5, 9] {
            let out = format!("data-{i}-{jobs}");
            place.prepare("corpus.jsonl", &out, &format!("{options} --jobs {jobs}"));
            all.push(place.files(&out));
        }
        assert!(all.windows(2).all(|two| two[0] == two[1]), "{options}");
        let is_shard = |(name, _): &&(PathBuf, Vec<u8>)| name.starts_with("train");
        assert_eq!(all[0].iter().filter(is_shard).count() > 9, i == 2);
        assert!(all[0].len() > 7, "shards, documents, manifest, tokenizer");
    }
    assert!(
        place.files("data-0-1") != place.files("data-1-1"),
        "another seed, other bytes"
    );
}

#[test]
fn every_input_form_gives_the_same_rows() {
    let place = Place::new();
    let plain = fs::read(place.path("corpus.jsonl")).unwrap();
    let (first, second) = plain.split_at(plain.iter().position(|&b| b == b'\n').unwrap() + 1);
    let gz = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    // Several members and several frames are one file.
    place.write("z/corpus.jsonl.gz", [gz(first), gz(second)].concat());
    let frames = [first, second]
        .map(|b| zstd::encode_all(b, 1).unwrap())
        .concat();
    place.write("s/corpus.jsonl.zst", frames);
    let texts: Vec<String> = (0..120).map(document).collect();
    place.write("t/corpus.txt", texts.join("\n\u{c}\n"));
    place.write("w/corpus.txt", texts.join("\r\n\u{c}\r\n"));
    place.prepare("corpus.jsonl", "plain", "");
    for (input, out) in [
        ("z", "gz"),
        ("s/*.zst", "zst"),
        ("t", "txt"),
        ("w/corpus.txt", "crlf"),
    ] {
        place.prepare(input, out, "");
        let shard = |data: &str| fs::read(place.path(data).join("train/part-00000.arrow")).unwrap();
        assert!(shard("plain") == shard(out), "{input}");
    }
}

#[test]
fn one_sentence_a_line() {
    let place = Place::new();
    place.write(
        "lines.txt",
        "River walks. never\nold stone\n\n\nquiet bridge\nnarrow window\nevery letter\n\n",
    );
    place.prepare(
        "lines.txt",
        "data",
        "--text-form sentence-per-line --validation-fraction 0",
    );
    let report: serde_json::Value =
        serde_json::from_str(&place.cloze("inspect data --json").status(0).out()).unwrap();
    assert_eq!(report["manifest"]["counts"]["documents"], 2);
    assert_eq!(report["manifest"]["counts"]["sentences"], 5);
}

/// Ids beyond 65,535 are stored in 32 bits.
#[test]
fn large_vocabularies() {
    let place = Place::new();
    let words = fs::read_to_string(place.path("tokenizer/vocab.txt")).unwrap();
    let (special, rest) = words.split_at(words.find("river").unwrap());
    let filler: String = (0..70_000).map(|i| format!("[unused{i}]\n")).collect();
    place.write("large/vocab.txt", format!("{special}{filler}{rest}"));
    place.prepare("corpus.jsonl", "narrow", "--masking static");
    let _ = place.cloze("prepare corpus.jsonl --tokenizer large --out wide --validation-fraction 0.1 --masking static").status(0);
    let _ = place.cloze("verify wide --source corpus.jsonl").status(0);
    let open = |name: &str| Dataset::open(&place.path(name)).unwrap();
    let (narrow, wide) = (open("narrow"), open("wide"));
    let (narrow, wide) = (narrow.split("train").unwrap(), wide.split("train").unwrap());
    assert_eq!(narrow.rows(), wide.rows());
    for (a, b) in narrow.iter().zip(wide.iter()) {
        let widened: Vec<u32> = a
            .original_ids()
            .into_iter()
            .map(|id| if id < 5 { id } else { id + 70_000 })
            .collect();
        assert_eq!(widened, b.original_ids());
    }
    assert!(
        wide.iter()
            .any(|r| r.original_ids().iter().any(|&id| id > 65_535))
    );
}

#[test]
fn inspect_shows_rows_with_their_origin() {
    let place = Place::new();
    place.prepare(
        "corpus.jsonl corpus",
        "data",
        "--id-field id --on-bad-input skip --masking static",
    );
    let text = place.cloze("inspect data --rows 4").status(0).out();
    for expected in [
        "random share",
        "row lengths",
        "corpus.jsonl document",
        "id \"d",
        "sentence",
        "→",
        "static",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let again = place.cloze("inspect data --rows 4").status(0).out();
    assert_eq!(text, again);
    let json: serde_json::Value =
        serde_json::from_str(&place.cloze("inspect data --json --rows 2").status(0).out()).unwrap();
    assert_eq!(json["rows"].as_array().unwrap().len(), 2);
    assert!(
        place
            .cloze("inspect data --split test")
            .status(2)
            .err()
            .contains("train and validation")
    );
}

#[test]
fn verify_finds_the_source_and_misses_another() {
    let place = Place::new();
    for (pairing, out) in [("cloze", "data"), ("bert", "bert")] {
        place.prepare(
            "corpus.jsonl",
            out,
            &format!("--pairing {pairing} --seq-len 16 --masking static --dupe-factor 2"),
        );
        let clean = place
            .cloze(&format!("verify {out} --source corpus.jsonl"))
            .status(0)
            .out();
        assert!(clean.contains("clean"), "{clean}");
    }
    // One word of one document is another.
    let changed = fs::read_to_string(place.path("corpus.jsonl"))
        .unwrap()
        .replacen("river", "stone", 1);
    place.write("changed.jsonl", changed);
    let found = place
        .cloze("verify data --source changed.jsonl")
        .status(1)
        .out();
    assert!(found.contains("is not in the source"), "{found}");
    // With ids, the document is there, but not the words.
    place.prepare("corpus.jsonl", "ids", "--id-field id");
    let found = place
        .cloze("verify ids --source changed.jsonl")
        .status(1)
        .out();
    assert!(found.contains("does not begin in sentence"), "{found}");
    let json: serde_json::Value = serde_json::from_str(
        &place
            .cloze("verify ids --source changed.jsonl --json")
            .status(1)
            .out(),
    )
    .unwrap();
    assert_eq!(json["clean"], false);
}

#[test]
fn a_bit_that_flips_anywhere_is_found() {
    let place = Place::new();
    place.prepare("corpus.jsonl", "data", "");
    let files = place.files("data");
    for (name, bytes) in files
        .iter()
        .filter(|(name, _)| !name.ends_with("manifest.json"))
    {
        for at in [0, bytes.len() / 3, bytes.len() / 2, bytes.len() - 1] {
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            fs::write(place.path("data").join(name), changed).unwrap();
            let ran = place.cloze("verify data").status(1);
            assert!(
                ran.out().contains(name.to_str().unwrap()),
                "{name:?} at {at}: {}",
                ran.out()
            );
        }
        fs::write(place.path("data").join(name), bytes).unwrap();
    }
    let _ = place.cloze("verify data").status(0);
}

/// Whatever is damaged, it is reported, and nothing that was not looked at is called good.
#[test]
fn damage_is_reported_and_never_a_panic() {
    let place = Place::new();
    place.prepare("corpus.jsonl", "data", "--masking static");
    let data = place.path("data");
    for name in ["train/part-00000.arrow", "documents.arrow"] {
        let path = data.join(name);
        let whole = fs::read(&path).unwrap();
        let ends = (0..1_500).chain(whole.len() - 1_500..whole.len());
        for at in ends.step_by(3) {
            let mut bytes = whole.clone();
            bytes[at] ^= if at % 2 == 0 { 0x80 } else { 0x7F };
            fs::write(&path, bytes).unwrap();
            let report = cloze_shard::verify::verify(&data, &mut |_| ()).unwrap();
            assert!(!report.is_clean(), "{name} at {at}");
            if let Ok(dataset) = Dataset::open(&data) {
                dataset
                    .split("train")
                    .unwrap()
                    .iter()
                    .for_each(|row| drop(row.to_row()));
                let _ = dataset.documents().map(|d| d.iter().count());
            }
        }
        fs::remove_file(&path).unwrap();
        let ran = place.cloze("verify data").status(1);
        assert!(ran.out().contains("6 of 7 files"), "{}", ran.out());
        if name.starts_with("train") {
            assert!(
                ran.out().contains("not all could be looked at"),
                "{}",
                ran.out()
            );
        }
        fs::write(&path, whole).unwrap();
    }
    let _ = place.cloze("verify data").status(0);
}

/// Changes one row of the training split that `which` picks: a shard and manifest written by somebody else, digests and all.
fn rewrite(place: &Place, which: fn(&Row) -> bool, change: fn(&mut Row)) {
    let path = place.path("data");
    let dataset = Dataset::open(&path).unwrap();
    let mut manifest = dataset.manifest().clone();
    let train = dataset.split("train").unwrap();
    let mut rows: Vec<Row> = train.iter().map(|r| r.to_row()).collect();
    change(rows.iter_mut().find(|r| which(r)).unwrap());
    let (name, id_type) = ("train/part-00000.arrow", manifest.tokenizer.id_type);
    let rules = RowRules::of(&manifest);
    let mut writer = ShardWriter::create(&path.join(name), id_type, false, rules).unwrap();
    rows.iter().for_each(|r| writer.push(&r.view()).unwrap());
    let shards = vec![writer.finish(name).unwrap()];
    let split = manifest.splits.get_mut("train").unwrap();
    *split = SplitRecord::new(shards, split.documents);
    manifest.write(&path).unwrap();
}

#[test]
fn a_false_label_is_found() {
    let place = Place::new();
    place.prepare("corpus.jsonl", "data", "--id-field id");
    rewrite(
        &place,
        |r| r.doc_a != r.doc_b,
        |r| r.next_sentence_label = Some(NextSentenceLabel::IsNext),
    );
    let found = place.cloze("verify data").status(1).out();
    assert!(
        found.contains("label audit") && found.contains("come from different documents"),
        "{found}"
    );
}

/// A row that keeps every rule, but whose B leaves a token out: only the source tells.
#[test]
fn a_gap_between_a_and_b_is_found() {
    let place = Place::new();
    place.prepare("corpus.jsonl", "data", "--id-field id --short-seq-prob 0.5");
    rewrite(
        &place,
        |r| {
            r.doc_a == r.doc_b
                && r.input_ids.len() < 100
                && r.input_ids.len() > usize::from(r.b_start) + 4
        },
        |r| {
            r.input_ids.remove(usize::from(r.b_start));
        },
    );
    let _ = place.cloze("verify data").status(0);
    let found = place
        .cloze("verify data --source corpus.jsonl")
        .status(1)
        .out();
    assert!(found.contains("B does not follow A"), "{found}");
}

#[test]
fn vocabularies_repeat_and_tokenize() {
    let place = Place::new();
    let train = |out: &str| {
        place
            .cloze(&format!(
                "vocab train corpus.jsonl corpus --vocab-size 300 --out {out}"
            ))
            .status(0)
    };
    let _ = (train("one"), train("two"));
    assert!(place.files("one") == place.files("two"));
    let _ = place
        .cloze("prepare corpus.jsonl --tokenizer one --out data")
        .status(0);
    let counts = place.cloze("inspect data --json").status(0).out();
    assert!(counts.contains("\"unknown_tokens\": 0"), "{counts}");
    let _ = place
        .cloze("vocab train corpus.jsonl --vocab-size 8 --out three")
        .status(2)
        .says(&["hint:", "--vocab-size"]);
    let _ = place
        .cloze("vocab train corpus.jsonl --out one")
        .status(2)
        .says(&["exists already"]);
}

#[test]
fn a_model_is_looked_at_from_several_sides() {
    let place = Place::new();
    place.prepare("corpus", "data", "--seq-len 32 --validation-fraction 0.4");
    place.write_config();
    let _ = place.cloze("pretrain data --config config.json --steps 3 --batch-tokens 256 --warmup-steps 2 --out run").status(0);
    let eval = "eval data --model run/model --by-source --pseudo-perplexity 4 --samples 2";
    let json = place.cloze(&format!("{eval} --json")).status(0).out();
    let found: serde_json::Value = serde_json::from_str(&json).unwrap();
    let sources = found["sources"].as_array().unwrap();
    let names: Vec<&str> = sources
        .iter()
        .map(|s| s["source"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["corpus/a.txt", "corpus/b.txt"]);
    for field in ["rows", "tokens", "masked_tokens"] {
        let parts = sources.iter().map(|s| s[field].as_u64().unwrap());
        assert_eq!(
            parts.sum::<u64>(),
            found[field].as_u64().unwrap(),
            "{field}"
        );
    }
    let pseudo = &found["pseudo_perplexity"];
    assert_eq!(pseudo["rows"], 4);
    assert!(pseudo["pseudo_perplexity"].as_f64().unwrap() > 1.0);
    let samples = found["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 2);
    assert_eq!(
        samples[0]["masked"][0]["predictions"]
            .as_array()
            .unwrap()
            .len(),
        5
    );
    let text = place.cloze(eval).status(0).out();
    for part in ["corpus/b.txt", "pseudo-perplexity ", "[CLS] ", " ← "] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn training_verbs_are_handed_over() {
    let place = Place::new();
    place.prepare("corpus.jsonl", "data", "--seq-len 32");
    place.write_config();
    let ran = place.cloze("pretrain data --config config.json --steps 6 --batch-tokens 256 --warmup-steps 2 --log-every 2 --out run").status(0);
    assert!(
        ran.err().contains("tok/s") && ran.err().contains("row      [CLS] "),
        "{}",
        ran.err()
    );
    let log = fs::read_to_string(place.path("run/train.jsonl")).unwrap();
    let first: serde_json::Value = serde_json::from_str(log.lines().nth(1).unwrap()).unwrap();
    for field in [
        "step",
        "loss",
        "mlm_loss",
        "nsp_loss",
        "learning_rate",
        "grad_norm",
        "tokens",
        "tokens_per_second",
        "data_wait_fraction",
        "seconds_left",
    ] {
        assert!(first.get(field).is_some(), "{field}: {first}");
    }
    // Resuming takes what the run was started with; what cannot change is refused.
    let _ = place
        .cloze("pretrain data --out run --resume")
        .status(0)
        .says(&["nothing is left to do"]);
    let _ = place
        .cloze("pretrain data --out run --resume --learning-rate 0.5")
        .status(2)
        .says(&["--learning-rate was 0.0001, is 0.5", "hint:"]);
    let _ = place
        .cloze("pretrain data --config config.json --out run")
        .status(2)
        .says(&["holds a run already"]);
    let _ = place
        .cloze("pretrain data --config config.json --out corpus")
        .status(2)
        .says(&["holds other files already"]);
    let _ = place
        .cloze("eval data --model run/model --jobs 100000")
        .status(2)
        .says(&["1024"]);
    let eval = place
        .cloze("eval data --model run/model --rows 3 --json")
        .status(0)
        .out();
    assert!(eval.contains("\"rows\":3,"), "{eval}");
    let eval = place
        .cloze("eval data --model run/model --split validation --json")
        .status(0)
        .out();
    let eval: serde_json::Value = serde_json::from_str(&eval).unwrap();
    for field in [
        "mlm_loss",
        "mlm_accuracy",
        "perplexity",
        "nsp_loss",
        "nsp_accuracy",
        "rows",
        "tokens",
    ] {
        assert!(eval[field].is_number(), "{field}: {eval}");
    }
    let _ = place
        .cloze("pretrain data --out run --steps 6 --batch-tokens 256 --warmup-steps 2 --resume")
        .status(0);
    let _ = place
        .cloze("pretrain data --out none")
        .status(2)
        .says(&["--init"]);
    let _ = place
        .cloze("pretrain data --config config.json --out run")
        .status(2)
        .says(&["holds a run already", "hint:"]);
}
