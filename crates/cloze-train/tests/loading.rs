//! Reading Hugging Face folders as they are found in the wild.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use cloze_train::BertConfig;
use cloze_train::checkpoint::{LoadReport, initial_parameters, read_model};
use cloze_train::parameters::Layout;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize};

type Tensors = Vec<(String, Vec<usize>, Vec<f32>)>;

/// All parameters of the small BERT, with values that tell them apart.
fn tensors(folder: &Path) -> (Layout, Tensors) {
    let layout = Layout::new(&BertConfig::read(&support::config(folder)).unwrap());
    let tensors = layout
        .parameters()
        .iter()
        .map(|p| {
            (
                p.name.clone(),
                p.shape.clone(),
                p.range().map(|i| i as f32).collect(),
            )
        })
        .collect();
    (layout, tensors)
}

fn write(folder: &Path, tensors: &Tensors, dtype: Dtype) {
    let encode = |v: &f32| -> Vec<u8> {
        match dtype {
            Dtype::F32 => v.to_le_bytes().to_vec(),
            Dtype::F16 => half::f16::from_f32(*v).to_le_bytes().to_vec(),
            Dtype::BF16 => half::bf16::from_f32(*v).to_le_bytes().to_vec(),
            _ => vec![0; 8],
        }
    };
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, v)| v.iter().flat_map(encode).collect())
        .collect();
    let views: HashMap<&str, TensorView<'_>> = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, shape, _), b)| {
            (
                name.as_str(),
                TensorView::new(dtype, shape.clone(), b).unwrap(),
            )
        })
        .collect();
    fs::write(
        folder.join("model.safetensors"),
        serialize(views, None).unwrap(),
    )
    .unwrap();
}

fn read(folder: &Path, tensors: &Tensors) -> (Vec<f32>, LoadReport) {
    write(folder, tensors, Dtype::F32);
    let (_, parameters, report) = read_model(folder, 3).unwrap();
    (parameters, report)
}

#[test]
fn names_of_every_age_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let (layout, tensors) = tensors(folder.path());
    let mut expected = vec![0f32; layout.len()];
    for p in layout.parameters() {
        p.range().for_each(|i| expected[i] = i as f32);
    }
    let renamed = |f: &dyn Fn(&str) -> String| -> Tensors {
        tensors
            .iter()
            .map(|(n, s, v)| (f(n), s.clone(), v.clone()))
            .collect()
    };
    let no_prefix = renamed(&|n| n.strip_prefix("bert.").unwrap_or(n).to_owned());
    let gamma = renamed(&|n| {
        n.replace("LayerNorm.weight", "LayerNorm.gamma")
            .replace("LayerNorm.bias", "LayerNorm.beta")
    });
    for variant in [tensors.clone(), no_prefix, gamma] {
        let (parameters, report) = read(folder.path(), &variant);
        assert!(parameters == expected);
        assert!(
            report.initialised.is_empty() && report.ignored.is_empty(),
            "{report:?}"
        );
    }
}

#[test]
fn decoders_are_tied() {
    let folder = tempfile::tempdir().unwrap();
    let (layout, mut tensors) = tensors(folder.path());
    let words = tensors[0].clone();
    tensors.push((
        "cls.predictions.decoder.weight".into(),
        words.1.clone(),
        words.2.clone(),
    ));
    let (_, report) = read(folder.path(), &tensors);
    assert!(!report.lost_decoder && report.require_heads(folder.path()).is_ok());
    assert_eq!(
        report.ignored[0].1,
        "a copy of bert.embeddings.word_embeddings.weight"
    );

    tensors.last_mut().unwrap().2[0] += 1.0;
    let (parameters, report) = read(folder.path(), &tensors);
    assert!(report.ignored[0].1.contains("differs"), "{report:?}");
    assert!(report.lost_decoder && report.require_heads(folder.path()).is_err());
    assert_eq!(parameters[0], words.2[0]);

    // Only the decoder's bias is there.
    tensors.pop();
    tensors
        .iter_mut()
        .find(|t| t.0 == "cls.predictions.bias")
        .unwrap()
        .0 = "cls.predictions.decoder.bias".into();
    let (parameters, report) = read(folder.path(), &tensors);
    let bias = layout.find("cls.predictions.bias").unwrap();
    assert_eq!(parameters[bias.range()][1], (bias.offset + 1) as f32);
    assert!(report.initialised.is_empty());
}

#[test]
fn missing_heads_are_initialised_and_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let (layout, mut tensors) = tensors(folder.path());
    tensors.retain(|(n, _, _)| n.starts_with("bert.") && !n.contains("pooler"));
    tensors.push((
        "bert.embeddings.position_ids".into(),
        vec![2],
        vec![0.0, 1.0],
    ));
    let (parameters, report) = read(folder.path(), &tensors);
    assert_eq!(report.initialised.len(), 9, "{report:?}");
    assert_eq!(report.ignored[0].0, "bert.embeddings.position_ids");
    let config = BertConfig::read(&folder.path().join("config.json")).unwrap();
    let fresh = initial_parameters(&config, 3);
    for name in &report.initialised {
        let p = layout.find(name).unwrap();
        assert!(parameters[p.range()] == fresh[p.range()]);
    }
    assert!(report.require_heads(folder.path()).is_err());
    assert_ne!(fresh, initial_parameters(&config, 4));

    tensors.retain(|(n, _, _)| !n.contains("layer.1.output.dense.weight"));
    write(folder.path(), &tensors, Dtype::F32);
    let why = read_model(folder.path(), 3).unwrap_err().to_string();
    assert!(
        why.contains("bert.encoder.layer.1.output.dense.weight"),
        "an encoder is not made up: {why}"
    );
}

#[test]
fn half_precision_is_widened_and_other_types_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (layout, mut tensors) = tensors(folder.path());
    let mut expected = vec![0f32; layout.len()];
    for (name, _, values) in &mut tensors {
        values.iter_mut().for_each(|x| *x %= 256.0);
        expected[layout.find(name).unwrap().range()].copy_from_slice(values);
    }
    for dtype in [Dtype::F16, Dtype::BF16] {
        write(folder.path(), &tensors, dtype);
        assert!(
            read_model(folder.path(), 0).unwrap().1 == expected,
            "{dtype:?}"
        );
    }
    write(folder.path(), &tensors, Dtype::I64);
    let why = read_model(folder.path(), 0).unwrap_err().to_string();
    assert!(
        why.contains("I64") && why.contains("model.safetensors"),
        "{why}"
    );
}

#[test]
fn a_shape_that_config_json_does_not_ask_for_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (_, mut tensors) = tensors(folder.path());
    tensors[1].1.swap(0, 1);
    tensors[1].1 = vec![tensors[1].2.len()];
    write(folder.path(), &tensors, Dtype::F32);
    let why = read_model(folder.path(), 0).unwrap_err().to_string();
    assert!(
        why.contains("position_embeddings") && why.contains("[256]") && why.contains("[16, 16]"),
        "{why}"
    );
}

#[test]
fn initial_values_are_those_of_hugging_face() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = support::config(folder.path());
    let text = fs::read_to_string(&path)
        .unwrap()
        .replace("\"vocab_size\":40", "\"vocab_size\":4000");
    let config = BertConfig::parse(&text).unwrap();
    let layout = Layout::new(&config);
    let values = initial_parameters(&config, 0);
    let words = &values[layout.parameters()[0].range()];
    assert!(
        words[..16].iter().all(|&v| v == 0.0),
        "the row of [PAD] is zero"
    );
    let n = (words.len() - 16) as f64;
    let mean = words.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let deviation = (words.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n).sqrt();
    assert!(mean.abs() < 4.0 * 0.02 / n.sqrt(), "{mean}");
    assert!(
        (deviation / 0.02 - 1.0).abs() < 4.0 / (2.0 * n).sqrt(),
        "{deviation}"
    );
    for p in layout.parameters().iter().filter(|p| !p.decay) {
        let expected = if p.name.ends_with("LayerNorm.weight") {
            1.0
        } else {
            0.0
        };
        assert!(
            values[p.range()].iter().all(|&v| v == expected),
            "{}",
            p.name
        );
    }
}

/// The small BERT as another family has it: `config.json`, and tensors by their names there.
fn as_family(folder: &Path, kind: &str) -> (Layout, Tensors) {
    let (layout, tensors) = tensors(folder);
    let path = folder.join("config.json");
    let mut config: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let map = config.as_object_mut().unwrap();
    map.insert("model_type".into(), kind.into());
    let (old, new): (&[&str], &[&str]) = match kind {
        "distilbert" => (
            &[
                "hidden_size",
                "num_hidden_layers",
                "num_attention_heads",
                "intermediate_size",
                "hidden_dropout_prob",
                "attention_probs_dropout_prob",
            ],
            &[
                "dim",
                "n_layers",
                "n_heads",
                "hidden_dim",
                "dropout",
                "attention_dropout",
            ],
        ),
        _ => (&[], &[]),
    };
    for (old, new) in old.iter().zip(new) {
        let value = map.remove(*old).unwrap();
        map.insert((*new).into(), value);
    }
    if kind == "roberta" {
        map.insert("pad_token_id".into(), 1.into());
        map.insert("max_position_embeddings".into(), 18.into());
        map.insert("type_vocab_size".into(), 1.into());
        map.insert("layer_norm_eps".into(), 1e-5.into());
    }
    fs::write(&path, config.to_string()).unwrap();
    let tensors = tensors
        .into_iter()
        .filter_map(|(name, shape, values)| match kind {
            "distilbert" => Some((distilbert(&name)?, shape, values)),
            _ => roberta(&name, shape, values),
        })
        .collect();
    (layout, tensors)
}

fn distilbert(name: &str) -> Option<String> {
    if name.contains("pooler") || name.contains("token_type") || name.contains("seq_relationship") {
        return None;
    }
    let name = name
        .replace("bert.embeddings", "distilbert.embeddings")
        .replace("bert.encoder.layer", "distilbert.transformer.layer")
        .replace("attention.self.query", "attention.q_lin")
        .replace("attention.self.key", "attention.k_lin")
        .replace("attention.self.value", "attention.v_lin")
        .replace("attention.output.dense", "attention.out_lin")
        .replace("attention.output.LayerNorm", "sa_layer_norm")
        .replace("intermediate.dense", "ffn.lin1")
        .replace("cls.predictions.transform.dense", "vocab_transform")
        .replace("cls.predictions.transform.LayerNorm", "vocab_layer_norm")
        .replace("cls.predictions.bias", "vocab_projector.bias");
    let name = name
        .replace(".output.dense", ".ffn.lin2")
        .replace(".output.LayerNorm", ".output_layer_norm");
    Some(name)
}

fn roberta(
    name: &str,
    shape: Vec<usize>,
    values: Vec<f32>,
) -> Option<(String, Vec<usize>, Vec<f32>)> {
    let renamed = name
        .replace("cls.predictions.transform.dense", "lm_head.dense")
        .replace("cls.predictions.transform.LayerNorm", "lm_head.layer_norm")
        .replace("cls.predictions.bias", "lm_head.bias")
        .replace("bert.", "roberta.");
    Some(match name {
        n if n.contains("pooler") || n.contains("seq_relationship") => return None,
        n if n.contains("position_embeddings") => {
            let more = [vec![-1.0; 2 * shape[1]], values].concat();
            (renamed, vec![shape[0] + 2, shape[1]], more)
        }
        n if n.contains("token_type_embeddings") => {
            (renamed, vec![1, shape[1]], values[..shape[1]].to_vec())
        }
        _ => (renamed, shape, values),
    })
}

#[test]
fn models_that_are_a_bert_up_to_names() {
    for kind in ["distilbert", "roberta"] {
        let folder = tempfile::tempdir().unwrap();
        let (layout, tensors) = as_family(folder.path(), kind);
        write(folder.path(), &tensors, Dtype::F32);
        let (config, parameters, report) = read_model(folder.path(), 3).unwrap();
        assert_eq!(
            (config.hidden_size, config.max_position_embeddings),
            (16, 16)
        );
        assert!(report.ignored.is_empty(), "{report:?}");
        let mut made = report.initialised.clone();
        for p in layout.parameters() {
            let (found, count) = (&parameters[p.range()], p.len());
            let own: Vec<f32> = p.range().map(|i| i as f32).collect();
            if p.name.contains("token_type") {
                let expected = match kind {
                    "distilbert" => vec![0.0; count],
                    _ => own[..16].repeat(2),
                };
                assert_eq!(found, expected, "{kind}");
            } else if !p.nsp_only {
                assert_eq!(found, own, "{kind}: {}", p.name);
            }
        }
        made.retain(|n| !n.contains("pooler") && !n.contains("seq_relationship"));
        let expected: &[&str] = match kind {
            "distilbert" => &["bert.embeddings.token_type_embeddings.weight"],
            _ => &[],
        };
        assert_eq!(made, expected);
        // What is written is a BERT.
        let written = BertConfig::parse(&config.to_json()).unwrap();
        assert!(written.to_json().contains("\"model_type\": \"bert\""));
        assert_eq!(
            (written.layer_norm_eps, written.hidden_dropout_prob),
            (if kind == "roberta" { 1e-5 } else { 1e-12 }, 0.1)
        );
        assert_eq!(Layout::new(&written).len(), layout.len());
    }
}

#[test]
fn vocabularies_that_are_padded_are_cut() {
    let folder = tempfile::tempdir().unwrap();
    let (layout, mut tensors) = tensors(folder.path());
    for tensor in &mut tensors {
        if tensor.0.contains("word_embeddings") || tensor.0 == "cls.predictions.bias" {
            let width = tensor.2.len() / tensor.1[0];
            tensor.1[0] += 8;
            tensor.2.extend(vec![7.0; 8 * width]);
        }
    }
    let (parameters, report) = read(folder.path(), &tensors);
    for name in [
        "bert.embeddings.word_embeddings.weight",
        "cls.predictions.bias",
    ] {
        let p = layout.find(name).unwrap();
        let own: Vec<f32> = p.range().map(|i| i as f32).collect();
        assert_eq!(parameters[p.range()], own);
        let said = (name.to_owned(), "8 rows beyond vocab_size".to_owned());
        assert!(report.ignored.contains(&said), "{report:?}");
    }
    // One that is too small is not a vocabulary of this size.
    tensors[0].1[0] = 39;
    tensors[0].2.truncate(39 * 16);
    write(folder.path(), &tensors, Dtype::F32);
    let why = read_model(folder.path(), 0).unwrap_err().to_string();
    assert!(
        why.contains("[39, 16]") && why.contains("[40, 16]"),
        "{why}"
    );
}

#[test]
fn weights_in_several_files() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (layout, tensors) = tensors(folder);
    let (first, second) = tensors.split_at(9);
    let mut map = serde_json::Map::new();
    for (name, part) in [("a.safetensors", first), ("b.safetensors", second)] {
        write(folder, &part.to_vec(), Dtype::F32);
        fs::rename(folder.join("model.safetensors"), folder.join(name)).unwrap();
        map.extend(part.iter().map(|(n, _, _)| (n.clone(), name.into())));
    }
    let index = folder.join("model.safetensors.index.json");
    let put = |map: &serde_json::Map<String, serde_json::Value>| {
        let json = serde_json::json!({"metadata": {}, "weight_map": map});
        fs::write(&index, json.to_string()).unwrap();
    };
    put(&map);
    let (_, parameters, report) = read_model(folder, 0).unwrap();
    assert!(report.initialised.is_empty() && report.ignored.is_empty());
    for p in layout.parameters() {
        let own: Vec<f32> = p.range().map(|i| i as f32).collect();
        assert_eq!(parameters[p.range()], own);
    }
    let says = |expected: &[&str]| {
        let error = read_model(folder, 0).unwrap_err();
        for text in expected {
            assert!(error.to_string().contains(text), "{error}");
        }
    };
    let word = "bert.embeddings.word_embeddings.weight";
    for (file, expected) in [
        ("b.safetensors", word),
        ("c.safetensors", "c.safetensors"),
        ("../b.safetensors", "no file of this folder"),
        ("", "no file of this folder"),
    ] {
        let mut other = map.clone();
        other.insert(word.into(), file.into());
        put(&other);
        says(&[expected]);
    }
    fs::write(&index, "{").unwrap();
    says(&["index.json", "broken JSON"]);
    fs::write(&index, "{}").unwrap();
    says(&["index.json", "weight_map"]);
    fs::remove_file(&index).unwrap();
    says(&["model.safetensors"]);
}
