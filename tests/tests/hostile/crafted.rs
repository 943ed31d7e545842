//! Datasets made to break what reads them.

use std::fs;
use std::sync::Arc;

use arrow_array::types::UInt16Type;
use arrow_array::{
    Array, ArrayRef, Int8Array, Int64Array, ListArray, RecordBatch, UInt16Array, UInt32Array,
};
use cloze_shard::schema::{IdType, shard_schema};
use cloze_shard::{Dataset, atomic, ipc};
use cloze_tests::Place;
use serde_json::{Value, json};

use crate::checks::place::read;

/// The manifest of a prepared dataset, to be changed.
struct Given {
    place: Place,
    whole: Value,
}

impl Given {
    fn new(options: &str) -> Self {
        let place = Place::new();
        place.prepare("corpus.jsonl", "data", options);
        let text = fs::read(place.path("data/manifest.json")).unwrap();
        let whole = serde_json::from_slice(&text).unwrap();
        Self { place, whole }
    }

    fn write(&self, manifest: &Value) {
        let path = self.place.path("data/manifest.json");
        fs::write(path, manifest.to_string()).unwrap();
    }

    /// Writes the manifest with `value` at `pointer`.
    fn put(&self, pointer: &str, value: Value) {
        let mut told = self.whole.clone();
        let (above, name) = pointer.rsplit_once('/').unwrap();
        match told.pointer_mut(above).unwrap() {
            Value::Array(items) => items[name.parse::<usize>().unwrap()] = value,
            object => object[name] = value,
        }
        self.write(&told);
    }

    /// Why the dataset is refused, by the library and by both verbs that look at all of it.
    fn refused(&self, says: &str) {
        let why = Dataset::open(&self.place.path("data"))
            .unwrap_err()
            .to_string();
        assert!(why.contains(says), "{why}");
        for verb in ["verify data", "inspect data"] {
            let _ = self.place.cloze(verb).status(2).says(&[says, "hint:"]);
        }
    }
}

#[test]
fn counts_that_no_dataset_has() {
    let given = Given::new("--seq-len 32");
    let shard = "/splits/train/shards/0";
    for pointer in [
        "/splits/train/rows",
        "/splits/train/tokens",
        "/splits/train/documents",
        "/splits/train/labels/is_next",
        &format!("{shard}/rows"),
        &format!("{shard}/tokens"),
        &format!("{shard}/labels/none"),
        &format!("{shard}/lengths/8"),
        "/sources/0/bytes",
        "/sources/0/documents",
        "/counts/documents",
        "/documents/bytes",
        "/tokenizer/files/0/bytes",
    ] {
        let mut told = given.whole.clone();
        if pointer.ends_with("/8") {
            told["splits"]["train"]["shards"][0]["lengths"]["8"] = 1.into();
        }
        *told
            .pointer_mut(pointer)
            .unwrap_or_else(|| panic!("{pointer}")) = u64::MAX.into();
        given.write(&told);
        let why = Dataset::open(&given.place.path("data"))
            .unwrap_err()
            .to_string();
        assert!(
            why.contains("add up to more than any dataset"),
            "{pointer}: {why}"
        );
        assert!(!read(&given.place.path("data")));
        // A half is a number as any other, and is not what is there.
        *told.pointer_mut(pointer).unwrap() = (1u64 << 62).into();
        given.write(&told);
        read(&given.place.path("data"));
    }
    given.put("/splits/train/rows", json!(u64::MAX));
    given.refused("add up to more than any dataset holds");
    let entries = &given.whole["tokenizer"]["vocab_size"];
    for (pointer, value) in [
        ("/tokenizer/special_tokens/mask", entries.clone()),
        ("/tokenizer/special_tokens/mask", json!(u32::MAX)),
        (
            "/tokenizer/special_tokens/sep",
            given.whole["tokenizer"]["special_tokens"]["cls"].clone(),
        ),
        ("/tokenizer/vocab_size", json!(3)),
    ] {
        given.put(pointer, value);
        given.refused("its special tokens are");
    }
    given.put(
        "/config",
        serde_json::from_str(&("[".repeat(100) + &"]".repeat(100))).unwrap(),
    );
    assert!(read(&given.place.path("data")));
    let deep = given.whole.to_string().replacen(
        "\"seed\":0",
        &format!("\"seed\":{}", "[".repeat(100_000)),
        1,
    );
    fs::write(given.place.path("data/manifest.json"), deep).unwrap();
    given.refused("recursion limit");
}

#[test]
fn files_that_are_named_twice_or_elsewhere() {
    let given = Given::new("--seq-len 32");
    let shard = given.whole["splits"]["train"]["shards"][0].clone();
    let name = shard["path"].as_str().unwrap();
    for again in [name, "train//part-00000.arrow", "train/./part-00000.arrow"] {
        let mut told = given.whole.clone();
        let mut second = shard.clone();
        second["path"] = again.into();
        told["splits"]["train"]["shards"]
            .as_array_mut()
            .unwrap()
            .push(second);
        given.write(&told);
        given.refused("twice");
    }
    given.put("/documents/path", name.into());
    given.refused("twice");
    // The same file outside, by every way to say so.
    fs::copy(
        given.place.path("data").join(name),
        given.place.path("outside.arrow"),
    )
    .unwrap();
    let absolute = given.place.path("outside.arrow");
    for path in [
        "../outside.arrow",
        "train/../../outside.arrow",
        "./../outside.arrow",
        absolute.to_str().unwrap(),
        "/etc/passwd",
    ] {
        given.put("/splits/train/shards/0/path", path.into());
        let why = Dataset::open(&given.place.path("data"))
            .unwrap_err()
            .to_string();
        assert!(why.contains("not inside the dataset"), "{why}");
        let found = given.place.cloze("verify data").status(1).out();
        assert!(found.contains("not inside the dataset"), "{found}");
    }
}

/// What `verify` finds wrong it does not open: a pipe would keep it for ever.
#[test]
#[cfg(unix)]
fn pipes_and_links_where_documents_and_tokenizer_should_be() {
    use std::os::unix::fs::symlink;
    let given = Given::new("--seq-len 32");
    let data = given.place.path("data");
    let pipe = |name: &str| {
        let path = given.place.path(name);
        let _ = fs::remove_file(&path);
        let made = std::process::Command::new("mkfifo").arg(path).status();
        assert!(made.unwrap().success());
    };
    let problems = |says: &str| {
        let found = given.place.cloze("verify data").status(1).out();
        assert!(found.contains(says), "{found}");
    };
    pipe("pipe");
    given.put("/documents/path", "../pipe".into());
    problems("not inside the dataset");
    given.write(&given.whole);
    pipe("data/documents.arrow");
    problems("no regular file");
    let _ = given
        .place
        .cloze("inspect data")
        .status(2)
        .says(&["no regular file"]);
    // The tokenizer is what is in its folder, whatever the manifest says of files.
    let given = Given::new("--seq-len 32");
    let data_again = given.place.path("data");
    assert_ne!(data, data_again);
    let mut told = given.whole.clone();
    told["tokenizer"]["files"] = json!([]);
    given.write(&told);
    let file = data_again.join("tokenizer/tokenizer.json");
    fs::rename(&file, given.place.path("elsewhere.json")).unwrap();
    for verbs in [
        ["verify data", "inspect data"],
        ["verify data --source corpus.jsonl", "inspect data --rows 1"],
    ] {
        symlink(given.place.path("elsewhere.json"), &file).unwrap();
        for verb in verbs {
            let ran = given.place.cloze(verb);
            let said = ran.out() + &ran.err();
            assert!(said.contains("leads out of the dataset"), "{verb}: {said}");
        }
        fs::remove_file(&file).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&file).status();
        assert!(made.unwrap().success());
        for verb in verbs {
            let ran = given.place.cloze(verb);
            let said = ran.out() + &ran.err();
            assert!(said.contains("no regular file"), "{verb}: {said}");
        }
        fs::remove_file(&file).unwrap();
    }
    // A file that nobody names is none of the tokenizer's.
    fs::write(&file, "{}").unwrap();
    let _ = given
        .place
        .cloze("inspect data")
        .status(2)
        .says(&["names no such file", "delete it"]);
    given.write(&given.whole);
    // A file with a hole takes no room on the disk.
    fs::File::create(&file).unwrap().set_len(1 << 40).unwrap();
    let _ = given
        .place
        .cloze("inspect data")
        .status(2)
        .says(&["at most 33554432 are read"]);
    let line = "prepare corpus.jsonl --tokenizer data/tokenizer --out out";
    let _ = given
        .place
        .cloze(line)
        .status(2)
        .says(&["at most 33554432 are read"]);
}

/// The configuration in a manifest is used where a dataset is compared with its source.
#[test]
fn a_configuration_that_was_never_allowed() {
    let given = Given::new("--seq-len 32");
    for (pointer, value, says) in [
        ("/config/seq_len", json!(0), "--seq-len is 0"),
        ("/config/dupe_factor", json!(0), "--dupe-factor is 0"),
        ("/config/language", json!("xx"), "\"xx\""),
        ("/config/encoding", json!("replacement"), "--encoding"),
        (
            "/config/seq_len",
            json!("many"),
            "configuration is not understood",
        ),
    ] {
        given.put(pointer, value);
        let _ = given
            .place
            .cloze("verify data --source corpus.jsonl")
            .status(2)
            .says(&[says]);
    }
    #[cfg(unix)]
    {
        let clean = cloze_clean::CleanOptions {
            exclude: vec!["/dev/zero".into()],
            ..Default::default()
        };
        given.put("/config/clean", serde_json::to_value(clean).unwrap());
        let _ = given
            .place
            .cloze("verify data --source corpus.jsonl")
            .status(2)
            .says(&["/dev/zero", "no regular file"]);
    }
}

/// A shard as one batch, or as given batches of rows.
fn one_batch(rows: usize) -> RecordBatch {
    let schema = shard_schema(IdType::UInt16, false);
    let lists = (0..rows).map(|_| Some([2u16, 9, 3].map(Some)));
    let lists = ListArray::from_iter_primitive::<UInt16Type, _, _>(lists);
    let (_, offsets, values, _) = lists.into_parts();
    let arrow_schema::DataType::List(item) = schema.field(0).data_type() else {
        panic!("input_ids are a list");
    };
    let ids = ListArray::new(Arc::clone(item), offsets, values, None);
    let zeros = || Arc::new(Int64Array::from(vec![0; rows])) as ArrayRef;
    let sentences = || Arc::new(UInt32Array::from(vec![0; rows])) as ArrayRef;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(ids),
        Arc::new(UInt16Array::from(vec![3; rows])),
        Arc::new(Int8Array::new_null(rows)),
        zeros(),
        zeros(),
        sentences(),
        sentences(),
    ];
    assert!(columns.iter().all(|c| c.len() == rows));
    RecordBatch::try_new(schema, columns).unwrap()
}

/// Takes a shard of `batches` into the dataset, with a manifest that fits it.
fn exchange(given: &Given, batches: &[RecordBatch], change: impl Fn(&mut Vec<u8>), rows: usize) {
    let path = given.place.path("data/train/part-00000.arrow");
    let mut writer =
        ipc::IpcFileWriter::create(&path, &shard_schema(IdType::UInt16, false)).unwrap();
    batches
        .iter()
        .for_each(|batch| writer.write(batch).unwrap());
    writer.finish().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(&path, bytes).unwrap();
    let written = atomic::digest(&path).unwrap();
    let mut told = given.whole.clone();
    let shard = &mut told["splits"]["train"]["shards"][0];
    shard["bytes"] = written.bytes.into();
    shard["blake3"] = written.blake3.into();
    shard["rows"] = rows.into();
    shard["lengths"] = json!({"3": rows});
    given.write(&told);
}

#[test]
fn batches_of_any_size_and_batches_that_are_there_twice() {
    let given = Given::new("--seq-len 32");
    let opened = || Dataset::open(&given.place.path("data"));
    let (full, part) = (one_batch(8_192), one_batch(9));
    exchange(&given, &[full.clone(), part.clone()], |_| (), 8_201);
    assert_eq!(opened().unwrap().split("train").unwrap().rows(), 8_201);
    assert!(read(&given.place.path("data")));
    let refused = |says: &str| {
        let why = opened().unwrap_err().to_string();
        assert!(why.contains(says), "{why}");
        assert!(!read(&given.place.path("data")));
    };
    exchange(&given, &[one_batch(8_193)], |_| (), 8_193);
    refused("record batch 0 has 8193 rows, not 8192 or fewer");
    exchange(&given, &[part.clone(), part.clone()], |_| (), 18);
    refused("record batch 0 has 9 rows, not 8192");
    // The footer's second block is its first again: a little file could so have any number of rows.
    let again = |bytes: &mut Vec<u8>| {
        let tail = bytes.len() - 10;
        let length = u32::from_le_bytes(*bytes[tail..].first_chunk().unwrap()) as usize;
        let blocks = |bytes: &[u8]| {
            let footer = arrow_ipc::root_as_footer(&bytes[tail - length..tail]).unwrap();
            footer
                .recordBatches()
                .unwrap()
                .iter()
                .map(|b| b.0)
                .collect::<Vec<[u8; 24]>>()
        };
        let [first, second] = blocks(bytes)[..] else {
            panic!("two batches");
        };
        let place = bytes.windows(24).rposition(|w| w == second).unwrap();
        bytes[place..place + 24].copy_from_slice(&first);
        assert_eq!(blocks(bytes), [first, first]);
    };
    exchange(&given, &[full.clone(), full], again, 16_384);
    refused("it begins before the one before it ends");
}
