//! Models of strangers: whatever their files say, they are read or refused, in memory that does not grow with what is said.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use cloze_shard::random::{Key, Stage};
use cloze_train::BertConfig;
use cloze_train::checkpoint::{initial_parameters, read_model, read_state};
use cloze_train::parameters::Layout;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize};
use serde_json::{Value, json};

/// The small BERT in `folder`, as it is written.
fn model(folder: &Path) -> Vec<u8> {
    let config = BertConfig::read(&support::config(folder)).unwrap();
    let values = initial_parameters(&config, 0);
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let layout = Layout::new(&config);
    let views = layout.parameters().iter().map(|p| {
        let data = &bytes[p.offset * 4..(p.offset + p.len()) * 4];
        let view = TensorView::new(Dtype::F32, p.shape.clone(), data);
        (p.name.clone(), view.unwrap())
    });
    let bytes = serialize(views, None).unwrap();
    fs::write(folder.join("model.safetensors"), &bytes).unwrap();
    bytes
}

/// Why the model is refused.
fn refused(folder: &Path) -> String {
    read_model(folder, 0).unwrap_err().to_string()
}

fn change_config(folder: &Path, changes: &[(&str, Value)]) {
    let path = support::config(folder);
    let text = fs::read_to_string(&path).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    for (name, value) in changes {
        config[name] = value.clone();
    }
    fs::write(path, config.to_string()).unwrap();
}

#[test]
fn a_configuration_that_asks_for_more_than_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    model(folder);
    assert!(read_model(folder, 0).is_ok());
    let word = "bert.embeddings.word_embeddings.weight";
    // 8 GiB, 16 GiB, and layers without end.
    for (name, value, says) in [
        ("vocab_size", 1u64 << 27, word),
        ("intermediate_size", 1 << 26, "intermediate.dense"),
        ("max_position_embeddings", 1 << 27, "position_embeddings"),
        ("type_vocab_size", 1 << 28, "token_type_embeddings"),
        ("num_hidden_layers", 4_000, "has no bert.encoder.layer."),
        ("num_hidden_layers", 1 << 31, "num_hidden_layers"),
        ("vocab_size", 1 << 31, "parameters"),
        ("vocab_size", u64::MAX, "vocab_size"),
    ] {
        change_config(folder, &[(name, value.into())]);
        let why = refused(folder);
        assert!(why.contains(says), "{name}: {why}");
    }
    for first in [u64::MAX, u64::MAX - 1] {
        let changes = [
            ("model_type", json!("roberta")),
            ("pad_token_id", json!(first)),
        ];
        change_config(folder, &changes);
        assert!(read_model(folder, 0).is_err());
    }
    let deep = "[".repeat(100_000);
    fs::write(folder.join("config.json"), format!("{{\"a\": {deep}")).unwrap();
    assert!(refused(folder).contains("recursion limit"));
}

/// A safetensors file of a header and so many bytes after it.
fn file_of(header: &str, data: usize) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length, header.as_bytes(), &vec![0; data]].concat()
}

#[test]
fn headers_that_lie() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let whole = model(folder);
    let put = |bytes: &[u8]| {
        fs::write(folder.join("model.safetensors"), bytes).unwrap();
        refused(folder)
    };
    let word = "bert.embeddings.word_embeddings.weight";
    let tensor = |shape: &str, from: u64, to: u64| {
        format!("{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[{from},{to}]}}")
    };
    let one = |shape: &str, from, to| format!("{{\"{word}\":{}}}", tensor(shape, from, to));
    for bytes in [
        vec![],
        vec![0; 7],
        u64::MAX.to_le_bytes().to_vec(),
        (1u64 << 63).to_le_bytes().to_vec(),
        99_999_999u64.to_le_bytes().to_vec(),
        file_of("{", 0),
        file_of("[]", 0),
        file_of(&"[".repeat(200_000), 0),
        file_of(&one("[40,16]", 0, 2_560), 100),
        file_of(&one("[40,16]", 100, 2_660), 2_660),
        file_of(&one("[40,16]", 2_560, 0), 2_560),
        file_of(&one("[4294967296,4294967296]", 0, 0), 0),
        file_of(&one("[18446744073709551615]", 0, 16), 16),
        file_of(&one("[-1]", 0, 16), 16),
        whole[..whole.len() - 1].to_vec(),
        [&whole[..], b"more"].concat(),
    ] {
        let why = put(&bytes);
        assert!(why.contains("not a whole safetensors file"), "{why}");
    }
    // Tensors that together have more bytes than 64 bits count.
    let size = (1u64 << 61) - 1;
    let items = (0..8).map(|i| {
        let (from, to) = (i * size, (i + 1) * size);
        format!("\"t{i}\":{{\"dtype\":\"U8\",\"shape\":[{size}],\"data_offsets\":[{from},{to}]}}")
    });
    let header = format!("{{{}}}", items.collect::<Vec<_>>().join(","));
    assert!(put(&file_of(&header, 64)).contains("not a whole safetensors file"));
    let of_no_file = format!(
        "{{\"__metadata__\":{{\"format\":\"pt\"}},\"{word}\":{}}}",
        tensor("[0]", 0, 0)
    );
    assert!(put(&file_of(&of_no_file, 0)).contains("[0]"));
}

/// Whatever is changed: an error or a model, never a panic.
#[test]
fn damage_is_an_error_or_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let whole = model(folder);
    let config = fs::read(folder.join("config.json")).unwrap();
    let header = 8 + u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
    let mut refused = 0;
    for number in 0..600 {
        let mut draws = Key::new(number, Stage::Sample).stream(0, 0);
        let (name, mut bytes, most) = match number % 3 {
            0 => ("config.json", config.clone(), config.len()),
            _ => ("model.safetensors", whole.clone(), header),
        };
        for _ in 0..=draws.below(3) {
            let at = draws.below(most as u64) as usize;
            bytes[at] = b"0123456789-[]{},:\"eEFUI\\\xff"[draws.below(25) as usize];
        }
        fs::write(folder.join(name), &bytes).unwrap();
        refused += u32::from(read_model(folder, 0).is_err());
        let all = [("config.json", &config), ("model.safetensors", &whole)];
        all.iter()
            .for_each(|(name, bytes)| fs::write(folder.join(name), bytes).unwrap());
    }
    assert!(refused > 200, "{refused}");
}

/// What may be read without end, or never answers.
#[test]
#[cfg(unix)]
fn pipes_and_devices() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    model(folder);
    let bin = folder.join("pytorch_model.bin");
    let weights = folder.join("model.safetensors");
    let check = |path: PathBuf| {
        let kept = path.with_extension("kept");
        let was = path.exists();
        if was {
            fs::rename(&path, &kept).unwrap();
        }
        symlink("/dev/zero", &path).unwrap();
        let why = refused(folder);
        assert!(why.contains("no regular file"), "{why}");
        fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let why = refused(folder);
        assert!(why.contains("no regular file"), "{why}");
        fs::remove_file(&path).unwrap();
        if was {
            fs::rename(&kept, &path).unwrap();
        }
    };
    check(folder.join("config.json"));
    check(weights.clone());
    fs::rename(&weights, folder.join("other")).unwrap();
    check(folder.join("model.safetensors.index.json"));
    check(bin);
    // A file that is said to be in the folder.
    let index =
        json!({"weight_map": {"bert.embeddings.word_embeddings.weight": "part.safetensors"}});
    fs::write(
        folder.join("model.safetensors.index.json"),
        index.to_string(),
    )
    .unwrap();
    symlink("/dev/zero", folder.join("part.safetensors")).unwrap();
    assert!(refused(folder).contains("no regular file"));
    // A link to a file is what caches of models are made of.
    fs::remove_file(folder.join("model.safetensors.index.json")).unwrap();
    symlink(folder.join("other"), &weights).unwrap();
    assert!(read_model(folder, 0).is_ok());
    // Longer than any configuration: a file with a hole takes no room on the disk.
    let config = fs::File::create(folder.join("config.json")).unwrap();
    config.set_len(1 << 40).unwrap();
    assert!(refused(folder).contains("at most 33554432 are read"));
}

/// The files that a state binds are the checkpoint's own.
#[test]
fn a_state_that_names_other_files() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("step-00000001");
    fs::create_dir_all(folder.join("trainer_state")).unwrap();
    let state = |name: &str| {
        json!({"step": 1, "position": {"epoch": 0, "row_in_epoch": 0}, "tokens": 1, "dataset": "", "blake3": {name: "00"},
            "config": serde_json::to_value(cloze_train::PretrainConfig::default()).unwrap()})
    };
    for name in ["../outside", "/etc/passwd", "a/../../outside"] {
        let path = folder.join("trainer_state/state.json");
        fs::write(&path, state(name).to_string()).unwrap();
        let why = read_state(&folder).unwrap_err().to_string();
        assert!(why.contains("is no file of this checkpoint"), "{why}");
    }
}
