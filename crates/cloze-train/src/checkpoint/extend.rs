//! A Hugging Face folder with more tokens than it had: embeddings and output biases of new tokens are means of those that the words were cut into before.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use cloze_shard::atomic;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize};
use serde_json::Value;

use super::read::{DECODER_BIAS, DECODER_WEIGHT};
use super::source::{Raw, Source};
use super::{CONFIG, WEIGHTS};
use crate::config::LONGEST_JSON;
use crate::parameters::{PREDICTION_BIAS, WORD_EMBEDDINGS};
use crate::{BertConfig, Error, Result};

/// What is added to a model.
#[derive(Clone, Copy, Debug)]
pub struct Extension<'a> {
    /// Tokens of the old tokenizer: the id of the first new one.
    pub tokens: usize,
    /// For each new token, what the old tokenizer makes of it.
    pub pieces: &'a [Vec<u32>],
    /// The new tokenizer's files, by name.
    pub files: &'a [(String, Vec<u8>)],
}

/// What was done, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extended {
    /// `vocab_size` in `config.json`, before and after.
    pub vocab_size: (usize, usize),
    /// Rows that were there for no token: new tokens take them first.
    pub spare: usize,
    /// Rows of the tensors beyond the old `vocab_size`: they are left out.
    pub beyond: usize,
    /// The tensors with a row for each token, by their names.
    pub tensors: Vec<String>,
    /// Whether there is a bias for each token among them: whether the model has an MLM head.
    pub has_head: bool,
}

/// The parameters that have a row for each token.
const ROWS: [&str; 4] = [
    WORD_EMBEDDINGS,
    PREDICTION_BIAS,
    DECODER_WEIGHT,
    DECODER_BIAS,
];

/// A model that can be extended.
pub struct Extender {
    model: PathBuf,
    source: Source,
    /// `config.json`, as it is.
    raw: serde_json::Map<String, Value>,
    /// Names of the tensors with a row for each token.
    names: Vec<String>,
    extended: Extended,
}

impl Extender {
    /// Opens `model`, whose tokenizer has so many `tokens`, and finds out what so many `new` ones make of it.
    pub fn open(model: &Path, tokens: usize, new: usize) -> Result<Self> {
        let path = model.join(CONFIG);
        let config = BertConfig::read(&path)?;
        let text = cloze_shard::read_small(&path, LONGEST_JSON)?;
        let raw = serde_json::from_str(&text).map_err(|e| Error::ModelConfig {
            path,
            why: format!("broken JSON: {e}"),
        })?;
        let size = config.vocab_size;
        if tokens > size {
            return Err(Error::Run {
                path: model.into(),
                why: format!(
                    "its tokenizer has {tokens} tokens, config.json says vocab_size {size}"
                ),
                hint: "give the folder of a model with the tokenizer that it was trained with"
                    .into(),
            });
        }
        let source = Source::open(model)?;
        let fail = |why: String| Error::Checkpoint {
            path: source.path().into(),
            why,
        };
        let (mut names, mut known, mut most) = (Vec::new(), Vec::new(), 0);
        for name in source.names() {
            let canonical = config.family.canonical(name);
            let Some(parameter) = ROWS.iter().find(|p| **p == canonical) else {
                continue;
            };
            let Raw { dtype, shape, .. } = source.raw(name)?;
            let width: &[usize] = match *parameter {
                WORD_EMBEDDINGS | DECODER_WEIGHT => &[config.hidden_size],
                _ => &[],
            };
            if shape.first().is_none_or(|&rows| rows < size) || shape[1..] != *width {
                return Err(fail(format!(
                    "{name} has the shape {shape:?}, config.json asks for {:?}",
                    [&[size], width].concat()
                )));
            }
            if number_bytes(dtype).is_none() {
                return Err(fail(format!(
                    "{name} is of type {dtype:?}; F64, F32, F16 and BF16 are extended"
                )));
            }
            most = most.max(shape[0]);
            names.push(name.to_owned());
            known.push(*parameter);
        }
        if !known.contains(&WORD_EMBEDDINGS) {
            return Err(fail(format!("has no {WORD_EMBEDDINGS}")));
        }
        let has_head = known.iter().any(|p| *p != WORD_EMBEDDINGS);
        let extended = Extended {
            vocab_size: (size, size.max(tokens + new)),
            spare: size - tokens,
            beyond: most - size,
            tensors: names.clone(),
            has_head,
        };
        Ok(Self {
            model: model.into(),
            source,
            raw,
            names,
            extended,
        })
    }

    /// What is done when it is written.
    #[must_use]
    pub fn extended(&self) -> &Extended {
        &self.extended
    }

    /// Writes the model with `extension` to `out`, which must not exist yet; it appears whole.
    ///
    /// All tensors stay as they are, in number type too, but for the rows of new tokens: means in double precision, rounded once. `config.json` stays but for
    /// `vocab_size`. Files that are neither model nor tokenizer are not copied.
    pub fn write(mut self, extension: &Extension<'_>, out: &Path) -> Result<Extended> {
        refuse_taken(out)?;
        let new = extension.pieces.len();
        let size = self.extended.vocab_size;
        let known = |pieces: &Vec<u32>| {
            !pieces.is_empty() && pieces.iter().all(|&id| (id as usize) < extension.tokens)
        };
        if extension.tokens + self.extended.spare != size.0
            || size.1 != size.0.max(extension.tokens + new)
            || !extension.pieces.iter().all(known)
        {
            return Err(Error::Run {
                path: self.model,
                why: "is not the model that was opened for these tokens".into(),
                hint: "this is a mistake in the program".into(),
            });
        }
        let name = out.file_name().ok_or_else(|| Error::Run {
            path: out.into(),
            why: "is no name of a folder".into(),
            hint: "give a folder that does not exist".into(),
        })?;
        let partial = out.with_file_name(format!("{}.partial", name.to_string_lossy()));
        let done = self.write_into(extension, &partial).and_then(|()| {
            fs::rename(&partial, out).map_err(cloze_shard::Error::io(out))?;
            let parent = out.parent().unwrap_or(Path::new(""));
            Ok(atomic::sync_folder(parent)?)
        });
        if done.is_err() {
            // What is said is the first error.
            let _ = fs::remove_dir_all(&partial);
        }
        done.map(|()| self.extended)
    }

    fn write_into(&mut self, extension: &Extension<'_>, folder: &Path) -> Result<()> {
        if folder.exists() {
            fs::remove_dir_all(folder).map_err(cloze_shard::Error::io(folder))?;
        }
        fs::create_dir_all(folder).map_err(cloze_shard::Error::io(folder))?;
        for (name, bytes) in extension.files {
            atomic::write(&folder.join(name), bytes)?;
        }
        let rows = self.extended.vocab_size.1;
        self.raw.insert("vocab_size".into(), rows.into());
        let config = format!("{:#}\n", Value::Object(std::mem::take(&mut self.raw)));
        atomic::write(&folder.join(CONFIG), config.as_bytes())?;
        let path = folder.join(WEIGHTS);
        let fail = |e: safetensors::SafeTensorError| Error::Checkpoint {
            path: path.clone(),
            why: e.to_string(),
        };
        let mut tensors = Vec::new();
        for name in self.source.names() {
            let mut tensor = self.source.raw(name)?;
            if self.names.iter().any(|n| n == name) {
                tensor = with_means(&tensor, extension, rows);
            }
            tensors.push((name, tensor));
        }
        let views = tensors
            .iter()
            .map(|(name, t)| Ok((*name, TensorView::new(t.dtype, t.shape.clone(), &t.bytes)?)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(fail)?;
        let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let bytes = serialize(views, Some(format)).map_err(fail)?;
        atomic::write(&path, &bytes)?;
        Ok(atomic::sync_folder(folder)?)
    }
}

/// Refuses a folder that is there already.
pub fn refuse_taken(out: &Path) -> Result<()> {
    if fs::symlink_metadata(out).is_err() {
        return Ok(());
    }
    Err(Error::Run {
        path: out.into(),
        why: "exists already".into(),
        hint: "give a folder that does not exist, or remove this one".into(),
    })
}

/// Bytes of a number that means can be made of.
fn number_bytes(dtype: Dtype) -> Option<usize> {
    match dtype {
        Dtype::F64 => Some(8),
        Dtype::F32 => Some(4),
        Dtype::F16 | Dtype::BF16 => Some(2),
        _ => None,
    }
}

/// `tensor` with so many `rows`: those of new tokens are means.
fn with_means(tensor: &Raw<'_>, extension: &Extension<'_>, rows: usize) -> Raw<'static> {
    let dtype = tensor.dtype;
    let width: usize = tensor.shape[1..].iter().product();
    let size = number_bytes(dtype).unwrap_or(1);
    let old = tensor.shape[0].min(rows);
    let mut bytes = Vec::with_capacity(rows * width * size);
    bytes.extend_from_slice(&tensor.bytes[..old * width * size]);
    bytes.resize(rows * width * size, 0);
    let mut sums = vec![0f64; width];
    for (i, pieces) in extension.pieces.iter().enumerate() {
        sums.fill(0.0);
        for &id in pieces {
            let row = &tensor.bytes[id as usize * width * size..][..width * size];
            let numbers = row.chunks_exact(size);
            sums.iter_mut()
                .zip(numbers)
                .for_each(|(s, n)| *s += decode(dtype, n));
        }
        let place = &mut bytes[(extension.tokens + i) * width * size..][..width * size];
        for (place, sum) in place.chunks_exact_mut(size).zip(&sums) {
            encode(dtype, sum / pieces.len() as f64, place);
        }
    }
    let shape = [&[rows], &tensor.shape[1..]].concat();
    Raw {
        dtype,
        shape,
        bytes: Cow::Owned(bytes),
    }
}

fn decode(dtype: Dtype, bytes: &[u8]) -> f64 {
    match (dtype, bytes) {
        (Dtype::F16, &[a, b]) => half::f16::from_le_bytes([a, b]).to_f64(),
        (Dtype::BF16, &[a, b]) => half::bf16::from_le_bytes([a, b]).to_f64(),
        (_, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]).into(),
        (_, &[a, b, c, d, e, f, g, h]) => f64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => f64::NAN,
    }
}

fn encode(dtype: Dtype, value: f64, place: &mut [u8]) {
    match dtype {
        Dtype::F16 => place.copy_from_slice(&half::f16::from_f32(odd(value)).to_le_bytes()),
        Dtype::BF16 => place.copy_from_slice(&half::bf16::from_f32(odd(value)).to_le_bytes()),
        Dtype::F64 => place.copy_from_slice(&value.to_le_bytes()),
        _ => place.copy_from_slice(&(value as f32).to_le_bytes()),
    }
}

/// `value` in single precision, with a last bit of one where it is not exact: rounding that again to fewer bits rounds `value` (Boldo and Melquiond 2008).
fn odd(value: f64) -> f32 {
    let near = value as f32;
    let (bits, back) = (near.to_bits(), f64::from(near));
    if back == value || value.is_nan() || bits & 1 == 1 {
        near
    } else if back.abs() > value.abs() {
        f32::from_bits(bits - 1)
    } else {
        f32::from_bits(bits + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of all finite numbers of 16 bits the nearest, ties to the even one.
    fn nearest(value: f64, to: impl Fn(u16) -> f64) -> u16 {
        let all = (0..=u16::MAX).filter(|&b| to(b).is_finite());
        let far = |b: &u16| (to(*b) - value).abs();
        let best = all.clone().map(|b| far(&b)).fold(f64::INFINITY, f64::min);
        let mut ties = all.filter(|b| far(b) == best && (to(*b) != 0.0 || *b == 0));
        ties.clone().find(|b| b & 1 == 0).or(ties.next()).unwrap()
    }

    #[test]
    fn means_are_rounded_once() {
        let f16 = |b| half::f16::from_bits(b).to_f64();
        let bf16 = |b| half::bf16::from_bits(b).to_f64();
        // Just above and below what lies between two neighbours: rounding to single precision first would make ties of them.
        for b in [0x3c00u16, 0x3c01, 0x0001, 0x0400, 0xbc01] {
            for (dtype, to) in [
                (Dtype::F16, &f16 as &dyn Fn(u16) -> f64),
                (Dtype::BF16, &bf16),
            ] {
                let middle = (to(b) + to(b + 1)) / 2.0;
                let step = 2f64.powi(-40);
                for value in [
                    middle,
                    middle * (1.0 + step),
                    middle * (1.0 - step),
                    to(b),
                    0.1,
                ] {
                    let mut place = [0; 2];
                    encode(dtype, value, &mut place);
                    let expected = nearest(value, to);
                    assert_eq!(u16::from_le_bytes(place), expected, "{dtype:?} {value:e}");
                }
            }
        }
    }

    #[test]
    fn a_row_of_a_new_token_is_the_mean_of_its_pieces() {
        let values: Vec<f32> = (0..12).map(|i| (i * i) as f32 / 7.0).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let tensor = Raw {
            dtype: Dtype::F32,
            shape: vec![6, 2],
            bytes: bytes.clone().into(),
        };
        let pieces = [vec![0, 1, 1], vec![3], vec![0, 2]];
        let extension = Extension {
            tokens: 4,
            pieces: &pieces,
            files: &[],
        };
        // Rows 4 and 5 belonged to no token; the third new one is a row more.
        let made = with_means(&tensor, &extension, 7);
        assert_eq!(made.shape, [7, 2]);
        assert_eq!(made.bytes[..4 * 8], bytes[..4 * 8]);
        let mean = |ids: &[usize], c: usize| {
            let sum: f64 = ids.iter().map(|&i| f64::from(values[i * 2 + c])).sum();
            (sum / ids.len() as f64) as f32
        };
        let expected: Vec<f32> = [&[0, 1, 1][..], &[3], &[0, 2]]
            .iter()
            .flat_map(|ids| [mean(ids, 0), mean(ids, 1)])
            .collect();
        let found: Vec<f32> = made.bytes[4 * 8..]
            .chunks_exact(4)
            .map(|b| decode(Dtype::F32, b) as f32)
            .collect();
        assert_eq!(found, expected);
    }
}
