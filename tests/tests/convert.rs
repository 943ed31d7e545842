//! `cloze convert`: nothing is lost on the way to Parquet and back, and what was changed on the way is found.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use cloze_shard::manifest::SplitRecord;
use cloze_shard::rules::RowRules;
use cloze_shard::{Dataset, NextSentenceLabel, ShardWriter};
use cloze_tests::Place;

/// A dataset `data` of two splits and several shards, with rows that have no label.
fn prepared(options: &str) -> Place {
    let place = Place::new();
    let lone: String = (0..9)
        .map(|i| format!("{{\"id\": \"lone{i}\", \"text\": \"River {i} walks\"}}\n"))
        .collect();
    place.write("lone.jsonl", lone);
    place.prepare(
        "corpus.jsonl lone.jsonl",
        "data",
        &format!("--id-field id --shard-rows 70 {options}"),
    );
    place
}

fn names(files: &[(PathBuf, Vec<u8>)]) -> Vec<&str> {
    files.iter().map(|(p, _)| p.to_str().unwrap()).collect()
}

#[test]
fn there_and_back_gives_the_same_bytes() {
    for options in [
        "",
        "--masking static --mask-unit word --dupe-factor 3",
        "--seq-len 24 --validation-fraction 0",
    ] {
        let place = prepared(options);
        let data = place.files("data");
        assert!(data.len() > 6, "{:?}", names(&data));
        let mut all = Vec::new();
        for jobs in [1, 2, 5] {
            let out = format!("parquet-{jobs}");
            let _ = place
                .cloze(&format!("convert data {out} --to parquet --jobs {jobs}"))
                .status(0);
            all.push(place.files(&out));
        }
        assert!(all[0] == all[1] && all[1] == all[2], "{options}");
        let arrow = names(&all[0]).iter().any(|n| n.ends_with(".arrow"));
        assert!(!arrow, "{:?}", names(&all[0]));
        let clean = place.cloze("verify parquet-1").status(0).out();
        assert!(clean.contains("clean") && clean.contains("label audit"));
        let ran = place.cloze("convert parquet-2 back --to arrow --jobs 2");
        assert_eq!(ran.status(0).err().matches("warning").count(), 0);
        assert!(place.files("back") == data, "{options}");
        let dataset = Dataset::open(&place.path("back")).unwrap();
        let train = &dataset.manifest().splits["train"];
        assert!(train.labels.none > 0 && train.shards.len() > 1, "{options}");
    }
}

/// Ids of 32 bits.
#[test]
fn large_vocabularies() {
    let place = Place::new();
    let words = fs::read_to_string(place.path("tokenizer/vocab.txt")).unwrap();
    let (special, rest) = words.split_at(words.find("river").unwrap());
    let filler: String = (0..70_000).map(|i| format!("[unused{i}]\n")).collect();
    place.write("large/vocab.txt", format!("{special}{filler}{rest}"));
    let _ = place
        .cloze("prepare corpus.jsonl --tokenizer large --out data --masking static")
        .status(0);
    let _ = place.cloze("convert data p --to parquet").status(0);
    let _ = place.cloze("convert p back --to arrow").status(0);
    assert!(place.files("back") == place.files("data"));
}

#[test]
fn whoever_needs_arrow_says_so() {
    let place = prepared("--seq-len 32");
    place.write_config();
    let _ = place.cloze("convert data p --to parquet").status(0);
    let _ = place.cloze("convert data t --to transformers").status(0);
    for line in [
        "inspect p",
        "verify p --source corpus.jsonl",
        "pretrain p --config config.json --steps 2 --out run",
        "eval p --model run/model",
    ] {
        let _ = place
            .cloze(line)
            .status(2)
            .says(&["p: its files are parquet", "cloze convert p OUT --to arrow"]);
    }
    let pretrain = "pretrain t --config config.json --steps 2 --out run";
    let _ = place
        .cloze(pretrain)
        .status(2)
        .says(&["its files are transformers", "hint: go back to the dataset"]);
    assert!(!place.path("run").exists());
}

#[test]
fn what_cannot_be_is_refused() {
    let place = prepared("");
    let _ = place.cloze("convert data p --to parquet").status(0);
    let _ = place.cloze("convert p t --to transformers").status(0);
    place.write("file", "x");
    place.write("full/file", "x");
    fs::create_dir(place.path("empty")).unwrap();
    fs::create_dir(place.path("stopped.partial")).unwrap();
    for (line, says) in [
        ("convert data x --to arrow", "Arrow already"),
        ("convert p x --to parquet", "Parquet already"),
        (
            "convert t x --to arrow",
            "convert the dataset that it was made from",
        ),
        ("convert t x --to transformers", "made for transformers"),
        ("convert data p --to parquet", "holds a dataset already"),
        ("convert data file --to parquet", "is a file"),
        ("convert data full --to parquet", "is not empty"),
        (
            "convert data data/p --to parquet",
            "lies in another dataset",
        ),
        (
            "convert data stopped --to parquet",
            "remains of a conversion",
        ),
        ("convert nothing x --to parquet", "no such folder"),
        ("convert corpus x --to parquet", "no manifest.json"),
        ("convert data p x --to parquet", "2 datasets"),
        ("convert data x --to parquet --pad", "--to transformers"),
        ("convert data x", "--to"),
        (
            "convert data x --to parquet --from lddl --tokenizer tokenizer",
            "--from",
        ),
        ("convert --from lddl data x", "--tokenizer"),
    ] {
        let _ = place.cloze(line).status(2).says(&[says]);
        assert!(!place.path("x").exists() && !place.path("x.partial").exists());
    }
    let _ = place.cloze("convert data empty --to parquet").status(0);
    let _ = place
        .cloze("convert data deep/er/out --to parquet")
        .status(0);
}

#[test]
fn a_bit_that_flips_anywhere_is_found() {
    let place = prepared("--masking static");
    let _ = place.cloze("convert data parquet --to parquet").status(0);
    let _ = place
        .cloze("convert data transformers --to transformers --pad")
        .status(0);
    for folder in ["parquet", "transformers"] {
        for (name, bytes) in place.files(folder) {
            let name = name.to_str().unwrap();
            if name.ends_with("manifest.json") {
                continue;
            }
            for at in [0, bytes.len() / 3, bytes.len() - 1] {
                let mut changed = bytes.clone();
                changed[at] ^= 4;
                place.write(&format!("{folder}/{name}"), changed);
                let ran = place.cloze(&format!("verify {folder}")).status(1);
                assert!(ran.out().contains(name), "{name} at {at}: {}", ran.out());
                if folder == "parquet" {
                    let _ = place
                        .cloze("convert parquet x --to arrow")
                        .status(2)
                        .says(&[name, "the manifest says"]);
                    assert!(!place.path("x").exists() && !place.path("x.partial").exists());
                }
            }
            fs::remove_file(place.path(folder).join(name)).unwrap();
            let _ = place.cloze(&format!("verify {folder}")).status(1);
            place.write(&format!("{folder}/{name}"), bytes);
        }
        let _ = place.cloze(&format!("verify {folder}")).status(0);
    }
    // Nor is a shard that was changed before handed on.
    let mut shard = fs::read(place.path("data/train/part-00001.arrow")).unwrap();
    let middle = shard.len() / 2;
    shard[middle] ^= 1;
    place.write("data/train/part-00001.arrow", shard);
    let refused = place.cloze("convert data x --to parquet").status(2);
    let _ = refused.says(&["part-00001.arrow", "blake3"]);
}

/// Manifests of somebody else: whatever they say, files stay inside, and sums are compared.
#[test]
fn manifests_are_not_trusted() {
    let place = prepared("");
    let _ = place.cloze("convert data p --to parquet").status(0);
    let _ = place.cloze("convert data t --to transformers").status(0);
    let whole = fs::read_to_string(place.path("p/manifest.json")).unwrap();
    let export = fs::read_to_string(place.path("t/manifest.json")).unwrap();
    let first = "\"of\": \"train/part-00000.arrow\"";
    let rows = {
        let dataset = Dataset::open(&place.path("data")).unwrap();
        dataset.manifest().splits["train"].shards[0].rows
    };
    let rows = format!("\"rows\": {rows},");
    let fewer = "\"rows\": 3,";
    // What is changed, whether checking can begin, and what is said.
    for (from, to, status, says) in [
        (
            "train/part-00000.arrow",
            "../part-00000.arrow",
            2,
            "not inside",
        ),
        (
            "train/part-00000.parquet",
            "/part-00000.parquet",
            2,
            "not inside",
        ),
        (
            first,
            "\"of\": \"train/part-00001.arrow\"",
            2,
            "not the same",
        ),
        (
            first,
            "\"of\": \"train/part-00009.arrow\"",
            2,
            "not the same",
        ),
        (
            "\"format_version\": 4",
            "\"format_version\": 6",
            2,
            "version 1 to 5",
        ),
        (
            "\"format_version\": 1",
            "\"format_version\": 4",
            2,
            "has format version 4",
        ),
        (
            "\"files_format\": \"parquet\"",
            "\"files_format\": \"orc\"",
            2,
            "orc",
        ),
        ("\"files_format\"", "\"file_format\"", 2, "file_format"),
        (
            "\"max_seq_length\": 128",
            "\"max_seq_length\": 9",
            1,
            "tokens, at most 9",
        ),
        (&rows, fewer, 1, "are not those in the manifest"),
        (
            "\"id_type\": \"uint16\"",
            "\"id_type\": \"uint32\"",
            1,
            "its columns are",
        ),
    ] {
        let changed = whole.replace(from, to);
        assert!(changed != whole, "{from}");
        place.write("p/manifest.json", changed);
        let ran = place.cloze("verify p").status(status);
        let said = ran.out() + &ran.err();
        assert!(
            said.contains(says) && !said.contains("panicked"),
            "{from}: {said}"
        );
        let ran = place.cloze("convert p x --to arrow").status(2);
        assert!(ran.err().contains(says), "{from}: {}", ran.err());
        assert!(!place.path("x").exists() && !place.path("x.partial").exists());
    }
    let of_data = fs::read_to_string(place.path("data/manifest.json")).unwrap();
    place.write("data/manifest.json", of_data.replace(&rows, fewer));
    for target in ["parquet", "transformers"] {
        let ran = place.cloze(&format!("convert data x --to {target}"));
        // Several are false now; which of them is looked at first is a matter of threads.
        let _ = ran
            .status(2)
            .says(&["data/train/part-0000", "are not those in the manifest"]);
        assert!(!place.path("x").exists());
    }
    place.write("data/manifest.json", of_data);
    place.write("t/manifest.json", export.replace(&rows, fewer));
    let found = place.cloze("verify t").status(1).out();
    assert!(
        found.contains("rows: the manifest says 3, found 69"),
        "{found}"
    );
    let padded = export.replace(
        "\n  \"files\": [",
        "\n  \"padded_to\": 128,\n  \"files\": [",
    );
    place.write("t/manifest.json", padded);
    let found = place.cloze("verify t").status(1).out();
    assert!(found.contains("not all as long as"), "{found}");
}

/// What `verify` says of rows, it says of Parquet too.
#[test]
fn a_false_label_is_found_in_parquet() {
    let place = prepared("--shard-rows 9999");
    // Somebody else's shard and manifest, digests and all, where random text is labelled next.
    let path = place.path("data");
    let dataset = Dataset::open(&path).unwrap();
    let mut manifest = dataset.manifest().clone();
    let name = "train/part-00000.arrow";
    let rules = RowRules::of(&manifest);
    let id_type = manifest.tokenizer.id_type;
    let mut writer = ShardWriter::create(&path.join(name), id_type, false, rules).unwrap();
    for row in dataset.split("train").unwrap().iter() {
        let mut row = row.to_row();
        if row.doc_a != row.doc_b {
            row.next_sentence_label = Some(NextSentenceLabel::IsNext);
        }
        writer.push(&row.view()).unwrap();
    }
    let split = manifest.splits.get_mut("train").unwrap();
    *split = SplitRecord::new(vec![writer.finish(name).unwrap()], split.documents);
    manifest.write(&path).unwrap();
    let _ = place.cloze("convert data p --to parquet").status(0);
    let before = place.cloze("verify data --json").status(1).out();
    let after = place.cloze("verify p --json").status(1).out();
    let problems = |text: &str| -> BTreeMap<String, u64> {
        let report: serde_json::Value = serde_json::from_str(text).unwrap();
        let checks = report["checks"].as_array().unwrap().iter();
        checks
            .map(|c| (c["check"].to_string(), c["problems"].as_u64().unwrap()))
            .collect()
    };
    assert_eq!(problems(&before), problems(&after));
    assert!(problems(&after)["\"label audit\""] > 0);
    assert!(after.contains("p/train/part-00000.parquet"), "{after}");
}
