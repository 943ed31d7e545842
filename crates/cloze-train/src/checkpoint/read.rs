//! Reading a Hugging Face folder: any BERT whose weights go by the usual names.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use cloze_shard::random::{Key, Stage};

use super::CONFIG;
use super::families::{Family, Rows};
use super::source::{Source, Values};
use crate::parameters::{Layout, PREDICTION_BIAS, Parameter, TYPE_EMBEDDINGS, WORD_EMBEDDINGS};
use crate::{BertConfig, Error, Result};

/// What became of the tensors of a checkpoint and of the parameters of the model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Parameters that were in the checkpoint.
    pub loaded: Vec<String>,
    /// Parameters that were not, and were initialised.
    pub initialised: Vec<String>,
    /// Tensors of the checkpoint that the model has no place for, with why.
    pub ignored: Vec<(String, String)>,
    /// Whether one of them is a decoder that differs from what it is tied to here: the MLM head is then not the one that was trained.
    pub lost_decoder: bool,
}

impl LoadReport {
    /// Whether the pooler and the NSP head were in the checkpoint.
    #[must_use]
    pub fn has_nsp_head(&self) -> bool {
        let nsp =
            |n: &String| n.starts_with("cls.seq_relationship.") || n.starts_with("bert.pooler.");
        !self.initialised.iter().any(nsp)
    }

    /// Refuses a model whose MLM head is not a trained one: measuring it would measure noise.
    pub fn require_heads(&self, model: &Path) -> Result<()> {
        if self.lost_decoder {
            return Err(Error::Checkpoint {
                path: model.into(),
                why: "has a decoder of its own, where predictions are made by the word embeddings here: its MLM head cannot be measured; pretrain it further first".into(),
            });
        }
        match self
            .initialised
            .iter()
            .find(|name| name.starts_with("cls.predictions."))
        {
            None => Ok(()),
            Some(name) => Err(Error::Checkpoint {
                path: model.into(),
                why: format!(
                    "has no MLM head ({name} is missing), so it cannot be measured; pretrain it first"
                ),
            }),
        }
    }
}

/// Reads `config.json` and the weights of `folder`: `model.safetensors`, `pytorch_model.bin`, or several such files with an index.
///
/// Names with and without the `bert.` prefix, `gamma`/`beta`, explicit decoders, padded vocabularies, and the names of [`Family`] are understood; F32, F16 and
/// BF16 are widened. Parameters that are missing are initialised as [`initial_parameters`] does.
pub fn read_model(folder: &Path, seed: u64) -> Result<(BertConfig, Vec<f32>, LoadReport)> {
    read_model_with(folder, &[], seed)
}

/// As [`read_model`], with the parameters of other `heads`, by name and shape.
pub fn read_model_with(
    folder: &Path,
    heads: &[(String, Vec<usize>)],
    seed: u64,
) -> Result<(BertConfig, Vec<f32>, LoadReport)> {
    let mut config = BertConfig::read(&folder.join(CONFIG))?;
    config.heads = heads.to_vec();
    let source = Source::open(folder)?;
    let fail = |why: String| Error::Checkpoint {
        path: source.path().into(),
        why,
    };
    let (layout, family) = (Layout::new(&config), config.family);
    let mut report = LoadReport::default();
    let mut by_name: BTreeMap<String, String> = BTreeMap::new();
    let names = layout.parameters().iter().map(|p| p.name.as_str());
    let places: HashSet<&str> = names.chain([DECODER_WEIGHT, DECODER_BIAS]).collect();
    for name in source.names() {
        let known = family.canonical(name);
        if !places.contains(known.as_str()) {
            let why = "not a parameter of BertForPreTraining";
            report.ignored.push((name.into(), why.into()));
        } else if let Some(other) = by_name.insert(known, name.into()) {
            return Err(fail(format!(
                "holds both {other} and {name}, which are the same parameter"
            )));
        }
    }
    let rows_of = |name: &str, parameter: &Parameter| -> Result<Rows> {
        let shape = source.shape(name)?;
        family.rows(parameter, shape).ok_or_else(|| {
            fail(format!(
                "{name} has the shape {shape:?}, config.json asks for {:?}",
                parameter.shape
            ))
        })
    };
    let load = |name: &str, parameter: &Parameter| -> Result<(Vec<f32>, usize)> {
        let rows = rows_of(name, parameter)?;
        let Values { shape, values } = source.read(name)?;
        let width = parameter.shape[1..].iter().product();
        let more = shape[0].saturating_sub(rows.first + rows.count);
        Ok((rows.of(&values, width), more))
    };
    // An explicit decoder stands in where the tied source is missing.
    for (copy, source) in [
        (DECODER_WEIGHT, WORD_EMBEDDINGS),
        (DECODER_BIAS, PREDICTION_BIAS),
    ] {
        let Some(name) = by_name.remove(copy) else {
            continue;
        };
        match by_name.get(source) {
            None => drop(by_name.insert(source.into(), name)),
            Some(own) => {
                let parameter = layout
                    .find(source)
                    .ok_or_else(|| fail(format!("no parameter {source}")))?;
                let why = if load(&name, parameter)? == load(own, parameter)? {
                    format!("a copy of {own}")
                } else {
                    report.lost_decoder = true;
                    format!("differs from {own}, to which the decoder is tied here")
                };
                report.ignored.push((name, why));
            }
        }
    }
    // What config.json asks for is there, before there is memory for all of it.
    let optional = |name: &str| {
        name.contains("pooler")
            || !name.starts_with("bert.")
            || (family == Family::DistilBert && name == TYPE_EMBEDDINGS)
    };
    if !layout
        .parameters()
        .iter()
        .any(|p| by_name.contains_key(&p.name))
    {
        return Err(fail("holds no parameter of a BERT".into()));
    }
    for parameter in layout.parameters() {
        match by_name.get(&parameter.name) {
            Some(name) => drop(rows_of(name, parameter)?),
            None if optional(&parameter.name) => {}
            None => {
                return Err(fail(format!(
                    "has no {}, which the encoder in config.json needs",
                    parameter.name
                )));
            }
        }
    }
    let mut parameters = initial_parameters(&config, seed);
    for parameter in layout.parameters() {
        let place = &mut parameters[parameter.range()];
        match by_name.get(&parameter.name) {
            Some(name) => {
                let (values, more) = load(name, parameter)?;
                if let Some(bad) = values.iter().find(|v| !v.is_finite()) {
                    return Err(fail(format!("{name} holds {bad}: the model is broken")));
                }
                place.copy_from_slice(&values);
                report.loaded.push(parameter.name.clone());
                if more > 0 {
                    let why = "rows beyond vocab_size";
                    report.ignored.push((name.clone(), format!("{more} {why}")));
                }
            }
            // There are no segments: so none changes what the model computes.
            None if family == Family::DistilBert && parameter.name == TYPE_EMBEDDINGS => {
                place.fill(0.0);
                report.initialised.push(parameter.name.clone());
            }
            None => report.initialised.push(parameter.name.clone()),
        }
    }
    Ok((config, parameters, report))
}

pub(super) const DECODER_WEIGHT: &str = "cls.predictions.decoder.weight";
pub(super) const DECODER_BIAS: &str = "cls.predictions.decoder.bias";

/// Parameters from scratch, as Hugging Face initialises a BERT: matrices and embeddings normal with the deviation
/// `initializer_range`, the embedding of `[PAD]` zero (where `pad_token_id` names it), biases 0, LayerNorm weights 1. Each
/// parameter has a stream of its own under `seed`.
#[must_use]
pub fn initial_parameters(config: &BertConfig, seed: u64) -> Vec<f32> {
    let layout = Layout::new(config);
    let mut values = vec![0f32; layout.len()];
    let key = Key::new(seed, Stage::Init);
    for (i, parameter) in layout.parameters().iter().enumerate() {
        let values = &mut values[parameter.range()];
        if parameter.decay {
            let mut stream = key.stream(i as u64, 0);
            values
                .iter_mut()
                .for_each(|v| *v = (stream.normal() * config.initializer_range) as f32);
        } else if parameter.name.ends_with("LayerNorm.weight") {
            values.fill(1.0);
        }
        if parameter.name == WORD_EMBEDDINGS {
            let pad = config
                .raw
                .get("pad_token_id")
                .and_then(serde_json::Value::as_u64)
                .unwrap_or(0) as usize;
            let h = config.hidden_size;
            values
                .chunks_mut(h)
                .nth(pad)
                .into_iter()
                .for_each(|row| row.fill(0.0));
        }
    }
    values
}
