//! Models with more tokens: rows of new ones are means, everything else is what it was, to the bit.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use cloze_train::checkpoint::{Extended, Extender, Extension, read_model};
use cloze_train::parameters::Layout;
use cloze_train::{BertConfig, Error};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize};
use support::VOCAB;

const WORDS: &str = "bert.embeddings.word_embeddings.weight";
const BIAS: &str = "cls.predictions.bias";
const DECODER: &str = "cls.predictions.decoder.weight";
const IDS: &str = "bert.embeddings.position_ids";

type Tensor = (Dtype, Vec<usize>, Vec<u8>);
type Tensors = BTreeMap<String, Tensor>;

fn number(dtype: Dtype, v: f32) -> Vec<u8> {
    match dtype {
        Dtype::F32 => v.to_le_bytes().to_vec(),
        Dtype::F16 => half::f16::from_f32(v).to_le_bytes().to_vec(),
        Dtype::BF16 => half::bf16::from_f32(v).to_le_bytes().to_vec(),
        Dtype::F64 => f64::from(v).to_le_bytes().to_vec(),
        _ => (v as i64).to_le_bytes().to_vec(),
    }
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    let bytes = |n| tensor.2.chunks_exact(n);
    match tensor.0 {
        Dtype::F32 => bytes(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()).into())
            .collect(),
        Dtype::F64 => bytes(8)
            .map(|b| f64::from_le_bytes(b.try_into().unwrap()))
            .collect(),
        Dtype::F16 => bytes(2)
            .map(|b| half::f16::from_le_bytes(b.try_into().unwrap()).to_f64())
            .collect(),
        _ => bytes(2)
            .map(|b| half::bf16::from_le_bytes(b.try_into().unwrap()).to_f64())
            .collect(),
    }
}

fn tensor(dtype: Dtype, shape: &[usize], seed: usize) -> Tensor {
    let count: usize = shape.iter().product();
    let values = (0..count).map(|i| ((i * 31 + seed * 7) % 997) as f32 / 91.0 - 5.0);
    (
        dtype,
        shape.to_vec(),
        values.flat_map(|v| number(dtype, v)).collect(),
    )
}

/// The small BERT, with the vocabulary's tensors of `rows`, an explicit decoder that differs, and one tensor that is no parameter.
fn model(folder: &Path, dtype: Dtype, rows: usize) -> Tensors {
    let layout = Layout::new(&BertConfig::read(&support::config(folder)).unwrap());
    let mut tensors: Tensors = layout
        .parameters()
        .iter()
        .enumerate()
        .map(|(i, p)| (p.name.clone(), tensor(dtype, &p.shape, i)))
        .collect();
    tensors.insert(WORDS.into(), tensor(dtype, &[rows, 16], 3));
    tensors.insert(DECODER.into(), tensor(dtype, &[rows, 16], 4));
    tensors.insert(BIAS.into(), tensor(dtype, &[rows], 5));
    tensors.insert(IDS.into(), tensor(Dtype::I64, &[1, 32], 6));
    write(folder, "model.safetensors", &tensors);
    tensors
}

fn write(folder: &Path, name: &str, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        let view = TensorView::new(*dtype, shape.clone(), bytes).unwrap();
        (name.as_str(), view)
    });
    fs::write(folder.join(name), serialize(views, None).unwrap()).unwrap();
}

fn read(folder: &Path) -> Tensors {
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let one = |(name, t): (String, TensorView<'_>)| {
        (name, (t.dtype(), t.shape().to_vec(), t.data().to_vec()))
    };
    file.tensors().into_iter().map(one).collect()
}

fn pieces() -> Vec<Vec<u32>> {
    vec![vec![5, 6], vec![7, 8, 9, 7], vec![1], vec![10, 5, 11]]
}

fn extend(folder: &Path, tokens: usize) -> Result<Extended, Error> {
    let pieces = pieces();
    let files = [("vocab.txt".to_owned(), b"words".to_vec())];
    let extension = Extension {
        tokens,
        pieces: &pieces,
        files: &files,
    };
    let extender = Extender::open(folder, tokens, pieces.len())?;
    let said = extender.extended().clone();
    let done = extender.write(&extension, &folder.join("out"))?;
    assert_eq!(said, done);
    Ok(done)
}

/// What `after` should be: from the definition, number by number.
fn compare(before: &Tensors, after: &Tensors, tokens: usize, rows: usize) {
    assert!(before.keys().eq(after.keys()));
    for (name, old) in before {
        let new = &after[name];
        if ![WORDS, BIAS, DECODER].contains(&name.as_str()) {
            assert_eq!(old, new, "{name}");
            continue;
        }
        let width: usize = old.1[1..].iter().product();
        assert_eq!((new.0, new.1[0], &new.1[1..]), (old.0, rows, &old.1[1..]));
        let bytes = |t: &Tensor| t.2.len() / t.1[0];
        assert_eq!(
            old.2[..tokens * bytes(old)],
            new.2[..tokens * bytes(old)],
            "{name}"
        );
        let (then, now) = (numbers(old), numbers(new));
        for (i, pieces) in pieces().iter().enumerate() {
            for c in 0..width {
                let sum: f64 = pieces.iter().map(|&p| then[p as usize * width + c]).sum();
                let (mean, found) = (sum / pieces.len() as f64, now[(tokens + i) * width + c]);
                let expected = match old.0 {
                    Dtype::F32 => f64::from(mean as f32),
                    Dtype::F16 => half::f16::from_f64(mean).to_f64(),
                    Dtype::BF16 => half::bf16::from_f64(mean).to_f64(),
                    _ => mean,
                };
                assert_eq!(found, expected, "{name}, new row {i}, column {c}");
            }
        }
        let kept = tokens + pieces().len();
        if kept < rows {
            let range = kept * bytes(old)..rows * bytes(old);
            assert_eq!(old.2[range.clone()], new.2[range], "{name}");
        }
    }
}

#[test]
fn rows_of_new_tokens_are_means_and_nothing_else_changes() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::F64] {
        let folder = tempfile::tempdir().unwrap();
        let before = model(folder.path(), dtype, VOCAB);
        let done = extend(folder.path(), VOCAB).unwrap();
        assert_eq!(done.vocab_size, (VOCAB, VOCAB + 4));
        assert_eq!((done.spare, done.beyond, done.has_head), (0, 0, true));
        assert_eq!(done.tensors, [WORDS, BIAS, DECODER]);
        let out = folder.path().join("out");
        compare(&before, &read(&out), VOCAB, VOCAB + 4);
        assert_eq!(fs::read(out.join("vocab.txt")).unwrap(), b"words");
        // The configuration says the new size, and everything else that it said.
        let json = |path: &Path| -> serde_json::Value {
            serde_json::from_slice(&fs::read(path.join("config.json")).unwrap()).unwrap()
        };
        let mut expected = json(folder.path());
        expected["vocab_size"] = (VOCAB + 4).into();
        assert_eq!(json(&out), expected);
        if dtype != Dtype::F64 {
            let (config, _, report) = read_model(&out, 0).unwrap();
            assert_eq!(config.vocab_size, VOCAB + 4);
            assert!(report.initialised.is_empty(), "{report:?}");
        }
    }
}

#[test]
fn rows_of_no_token_are_taken_first() {
    // The tokenizer has fewer tokens than the model has rows: some rows are left, all are taken, or not enough are there.
    for tokens in [VOCAB - 6, VOCAB - 4, VOCAB - 1] {
        let folder = tempfile::tempdir().unwrap();
        let before = model(folder.path(), Dtype::F32, VOCAB);
        let done = extend(folder.path(), tokens).unwrap();
        let rows = VOCAB.max(tokens + 4);
        assert_eq!(done.vocab_size, (VOCAB, rows));
        assert_eq!(done.spare, VOCAB - tokens);
        compare(&before, &read(&folder.path().join("out")), tokens, rows);
    }
    // The tensors have more rows than config.json says.
    let folder = tempfile::tempdir().unwrap();
    let before = model(folder.path(), Dtype::F32, VOCAB + 8);
    let done = extend(folder.path(), VOCAB).unwrap();
    assert_eq!((done.vocab_size, done.beyond), ((VOCAB, VOCAB + 4), 8));
    compare(&before, &read(&folder.path().join("out")), VOCAB, VOCAB + 4);
}

#[test]
fn weights_in_several_files_become_one() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let before = model(folder, Dtype::F32, VOCAB);
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    let (mut map, mut parts) = (serde_json::Map::new(), [Tensors::new(), Tensors::new()]);
    for (i, (name, tensor)) in before.iter().enumerate() {
        parts[i % 2].insert(name.clone(), tensor.clone());
        map.insert(name.clone(), format!("{}.safetensors", i % 2).into());
    }
    for (i, part) in parts.iter().enumerate() {
        write(folder, &format!("{i}.safetensors"), part);
    }
    let index = serde_json::json!({"weight_map": map}).to_string();
    fs::write(folder.join("model.safetensors.index.json"), index).unwrap();
    extend(folder, VOCAB).unwrap();
    compare(&before, &read(&folder.join("out")), VOCAB, VOCAB + 4);
    let mut names: Vec<_> = fs::read_dir(folder.join("out"))
        .unwrap()
        .flatten()
        .collect();
    names.sort_by_key(fs::DirEntry::file_name);
    let names: Vec<_> = names.iter().map(fs::DirEntry::file_name).collect();
    assert_eq!(names, ["config.json", "model.safetensors", "vocab.txt"]);
}

#[test]
fn an_encoder_alone_has_its_embeddings_extended() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let all = model(folder, Dtype::F32, VOCAB);
    let bare =
        |(name, t): (&String, &Tensor)| Some((name.strip_prefix("bert.")?.to_owned(), t.clone()));
    let before: Tensors = all.iter().filter_map(bare).collect();
    write(folder, "model.safetensors", &before);
    let done = extend(folder, VOCAB).unwrap();
    assert!(!done.has_head);
    assert_eq!(done.tensors, ["embeddings.word_embeddings.weight"]);
    let after = read(&folder.join("out"));
    assert!(before.keys().eq(after.keys()));
    assert_eq!(
        after["embeddings.word_embeddings.weight"].1,
        [VOCAB + 4, 16]
    );
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let good = model(folder, Dtype::F32, VOCAB);
    let refused = |tokens: usize, expected: &[&str]| {
        let error = extend(folder, tokens).err().unwrap();
        for text in expected {
            assert!(error.to_string().contains(text), "{error}");
        }
        assert!(error.hint().is_some(), "{error}");
        assert!(!folder.join("out").exists() && !folder.join("out.partial").exists());
    };
    let with = |name: &str, tensor: Option<Tensor>| {
        let mut tensors = good.clone();
        tensors.remove(name);
        tensors.extend(tensor.map(|t| (name.to_owned(), t)));
        write(folder, "model.safetensors", &tensors);
    };
    refused(VOCAB + 1, &["41 tokens", "vocab_size 40"]);
    with(WORDS, None);
    refused(VOCAB, &["has no", WORDS]);
    with(BIAS, Some(tensor(Dtype::F32, &[VOCAB - 1], 0)));
    refused(VOCAB, &[BIAS, "[39]", "[40]"]);
    with(WORDS, Some(tensor(Dtype::F32, &[VOCAB, 17], 0)));
    refused(VOCAB, &[WORDS, "[40, 17]", "[40, 16]"]);
    with(DECODER, Some(tensor(Dtype::I64, &[VOCAB, 16], 0)));
    refused(VOCAB, &[DECODER, "I64"]);
    fs::write(folder.join("model.safetensors"), b"{").unwrap();
    refused(VOCAB, &["model.safetensors"]);
    write(folder, "model.safetensors", &good);
    // What a stopped run left is no obstacle; a folder of that name is.
    fs::create_dir(folder.join("out.partial")).unwrap();
    fs::write(folder.join("out.partial/old"), b"x").unwrap();
    extend(folder, VOCAB).unwrap();
    assert!(!folder.join("out/old").exists() && !folder.join("out.partial").exists());
    let error = extend(folder, VOCAB).err().unwrap();
    assert!(error.to_string().contains("out: exists already") && error.hint().is_some());
    // Ids that the model has no row for are a mistake of the caller.
    let pieces = [vec![VOCAB as u32]];
    let extension = Extension {
        tokens: VOCAB,
        pieces: &pieces,
        files: &[],
    };
    let extender = Extender::open(folder, VOCAB, 1).unwrap();
    assert!(extender.write(&extension, &folder.join("new")).is_err());
}
