//! Sentence embeddings: what the encoder gives, pooled over a text's tokens.

mod export;
mod retrieval;
mod texts;
mod write;

use std::path::{Path, PathBuf};

use cloze_train::engine::Whole;
use cloze_train::{BertConfig, Build};
use serde_json::Value;

pub use export::export;
pub use retrieval::{Asked, Query, Retrieval, measure, place_queries, places, read_queries};
pub use texts::{Text, Texts};
pub use write::Sink;

use crate::{Error, Model, Result, Row, Rows, batch};

/// How a text's tokens become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The mean over all tokens, special ones too (Reimers and Gurevych, EMNLP 2019, section 3).
    Mean,
    /// The first token, `[CLS]`.
    Cls,
}

/// What is asked for; what is `None` follows from the model's folder.
#[derive(Clone, Copy, Debug)]
pub struct EmbedOptions {
    /// As `1_Pooling/config.json` says; the mean, where there is none.
    pub pooling: Option<Pooling>,
    /// Whether vectors have the length 1: yes, unless `modules.json` is there and has no step for it.
    pub normalize: Option<bool>,
    /// Most tokens of a text: `max_seq_length` of `sentence_bert_config.json`, or 512, and never more than the model has positions.
    pub max_length: Option<usize>,
    /// Most tokens that are computed at a time.
    pub batch_tokens: usize,
    /// What the engine is built of.
    pub build: Build,
}

/// A model that embeds texts.
#[allow(missing_debug_implementations)]
pub struct Embedder {
    model: Model,
    folder: PathBuf,
    special: [u32; 2],
    /// What is done.
    pub pooling: Pooling,
    /// Whether vectors have the length 1.
    pub normalize: bool,
    /// Most tokens of a text, special ones included.
    pub max_length: usize,
    batch_tokens: usize,
    /// Texts that were longer.
    pub cut: u64,
}

impl Embedder {
    /// Opens the Hugging Face folder of a model.
    pub fn open(folder: &Path, options: &EmbedOptions) -> Result<Self> {
        let model = Model::open(folder, &[], options.build, 0)?;
        let encoded = |text: &str| {
            let mut ids = Vec::new();
            model.tokenizer.encode_into(text, &mut ids).map(|()| ids)
        };
        other_steps(folder, encoded("A WORD")? == encoded("a word")?)?;
        let find = |token: &str| {
            model.tokenizer.id(token).ok_or_else(|| Error::Model {
                path: folder.into(),
                why: format!("its tokenizer has no {token}"),
                hint: "give a BERT with its tokenizer".into(),
            })
        };
        let special = [find("[CLS]")?, find("[SEP]")?];
        let most = model.config.max_position_embeddings;
        let asked = match options.max_length {
            Some(length) => Some(length),
            None => json(folder, "sentence_bert_config.json")?
                .and_then(|v| v["max_seq_length"].as_u64())
                .map(|n| n as usize),
        };
        if let Some(length) = options.max_length.filter(|length| *length > most) {
            return Err(Error::Option {
                option: "--max-length",
                why: format!("is {length}, but the model has {most} positions"),
            });
        }
        let max_length = asked.unwrap_or(512).min(most);
        if max_length < 4 {
            return Err(Error::Option {
                option: "--max-length",
                why: format!("is {max_length}, must be at least 4"),
            });
        }
        Ok(Self {
            special,
            pooling: match options.pooling {
                Some(pooling) => pooling,
                None => pooling(folder)?,
            },
            normalize: match options.normalize {
                Some(normalize) => normalize,
                None => normalizes(folder)?,
            },
            max_length,
            batch_tokens: options.batch_tokens.max(max_length),
            cut: 0,
            folder: folder.into(),
            model,
        })
    }

    /// `H`.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.model.config.hidden_size
    }

    /// The model's shape.
    #[must_use]
    pub fn config(&self) -> &BertConfig {
        &self.model.config
    }

    /// What it runs on, for a person.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("{}; {}", self.model.engine.describe(), self.model.device)
    }

    /// The vectors of `texts`, in their order. Texts of similar length are computed together; `told` is told of texts as they are done.
    pub fn embed<S: AsRef<str>>(
        &mut self,
        texts: &[S],
        told: &mut dyn FnMut(u64),
    ) -> Result<Vec<Vec<f32>>> {
        let [cls, sep] = self.special;
        let maker = Rows::new(&self.model.tokenizer, cls, sep, self.max_length);
        let rows = texts.iter().map(|text| maker.single(text.as_ref()));
        let rows = rows.collect::<Result<Vec<Row>>>()?;
        self.cut += rows.iter().filter(|row| row.cut > 0).count() as u64;
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&i| rows[i].input_ids.len());
        let mut vectors = vec![Vec::new(); rows.len()];
        let mut rest = order.as_slice();
        while !rest.is_empty() {
            let mut tokens = 0;
            let fits = |&&i: &&usize| {
                tokens += rows[i].input_ids.len();
                tokens <= self.batch_tokens
            };
            let (now, later) = rest.split_at(rest.iter().take_while(fits).count().max(1));
            rest = later;
            let batch = batch(now.iter().map(|&i| &rows[i]));
            let encoded = self.model.engine.encode(&batch, &Whole::of(&batch), None)?;
            let h = self.model.config.hidden_size;
            for (&i, (start, length)) in now.iter().zip(batch.spans()) {
                let own = &encoded[start * h..(start + length) * h];
                vectors[i] = pool(own, h, self.pooling, self.normalize);
            }
            // No vector is nearer to these than another, and none is said to be.
            if now
                .iter()
                .any(|&i| vectors[i].iter().any(|x| !x.is_finite()))
            {
                return Err(Error::Model {
                    path: self.folder.clone(),
                    why: "gives a vector whose numbers are not finite: its training has diverged"
                        .into(),
                    hint: "give an earlier model, or train with a smaller --learning-rate".into(),
                });
            }
            told(now.len() as u64);
        }
        Ok(vectors)
    }
}

/// One vector of the tokens of a text, `[n, h]`; sums in double precision.
fn pool(tokens: &[f32], h: usize, pooling: Pooling, normalize: bool) -> Vec<f32> {
    let mut sum = vec![0f64; h];
    let taken = match pooling {
        Pooling::Mean => tokens,
        Pooling::Cls => &tokens[..h],
    };
    for token in taken.chunks_exact(h) {
        sum.iter_mut()
            .zip(token)
            .for_each(|(s, &x)| *s += f64::from(x));
    }
    let count = (taken.len() / h) as f64;
    let norm = sum.iter().map(|s| s * s).sum::<f64>().sqrt() / count;
    // As PyTorch's `normalize`: what has no direction stays zero.
    let scale = if normalize {
        count * norm.max(1e-12)
    } else {
        count
    };
    sum.iter().map(|s| (s / scale) as f32).collect()
}

/// Bytes of a JSON file of a model, which may be a stranger's.
const LONGEST_JSON: u64 = 1 << 20;

/// A JSON file of a model's folder, where it is there.
fn json(folder: &Path, name: &str) -> Result<Option<Value>> {
    let path = folder.join(name);
    if !path.exists() {
        return Ok(None);
    }
    let text = cloze_shard::read_small(&path, LONGEST_JSON)?;
    let value =
        serde_json::from_str(&text).map_err(|e| broken(path, format!("broken JSON: {e}")))?;
    Ok(Some(value))
}

fn broken(path: PathBuf, why: String) -> Error {
    let hint = "give --pooling, --normalize and --max-length, and take the file out of the folder, where that is what you want";
    Error::Model {
        path,
        why,
        hint: hint.into(),
    }
}

/// How the folder of a sentence transformer pools.
fn pooling(folder: &Path) -> Result<Pooling> {
    let name = "1_Pooling/config.json";
    let Some(config) = json(folder, name)? else {
        return Ok(Pooling::Mean);
    };
    let on = |key: &str| config[key].as_bool() == Some(true);
    match (on("pooling_mode_mean_tokens"), on("pooling_mode_cls_token")) {
        (true, false) => Ok(Pooling::Mean),
        (false, true) => Ok(Pooling::Cls),
        _ => Err(broken(
            folder.join(name),
            "asks for another pooling than mean or CLS".into(),
        )),
    }
}

/// Refuses the folder of a sentence transformer that does more than is done here: its vectors would be others, and nothing would say so.
fn other_steps(folder: &Path, lowercase: bool) -> Result<()> {
    let refuse = |name: &str, why: String| Err(broken(folder.join(name), why));
    let name = "modules.json";
    let modules = json(folder, name)?.unwrap_or_default();
    for module in modules.as_array().into_iter().flatten() {
        let kind = module["type"].as_str().unwrap_or_default();
        let known = ["Transformer", "Pooling", "Normalize"];
        if !known.contains(&kind.rsplit('.').next().unwrap_or_default()) {
            return refuse(name, format!("has a step that is not known here: {kind:?}"));
        }
    }
    let name = "sentence_bert_config.json";
    let settings = json(folder, name)?.unwrap_or_default();
    if settings["do_lower_case"].as_bool() == Some(true) && !lowercase {
        return refuse(
            name,
            "asks for lowercased text, which its tokenizer does not do".into(),
        );
    }
    let name = "config_sentence_transformers.json";
    let settings = json(folder, name)?.unwrap_or_default();
    match settings["default_prompt_name"].as_str() {
        Some(prompt) => refuse(
            name,
            format!(
                "puts the prompt {prompt:?} before each text by default, which is not done here: put it into the texts"
            ),
        ),
        None => Ok(()),
    }
}

/// Whether the folder of a sentence transformer normalises; yes, where nothing is said.
fn normalizes(folder: &Path) -> Result<bool> {
    let modules = json(folder, "modules.json")?;
    Ok(modules.is_none_or(|modules| {
        let mut kinds = modules.as_array().into_iter().flatten();
        kinds.any(|m| m["type"].as_str().is_some_and(|t| t.ends_with("Normalize")))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_that_are_not_made_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, value: Value| {
            std::fs::write(folder.path().join(name), value.to_string()).unwrap();
        };
        let of = |kinds: &[&str]| -> Value {
            let all = kinds.iter().map(|k| serde_json::json!({"type": k}));
            all.collect()
        };
        let refused = |lowercase| other_steps(folder.path(), lowercase).map_err(|e| e.to_string());
        assert!(refused(false).is_ok());
        let old = "sentence_transformers.models";
        put(
            "modules.json",
            of(&[
                &format!("{old}.Transformer"),
                &format!("{old}.Pooling"),
                "a.b.Normalize",
            ]),
        );
        assert!(refused(false).is_ok());
        put(
            "sentence_bert_config.json",
            serde_json::json!({"do_lower_case": true}),
        );
        assert!(refused(true).is_ok() && refused(false).unwrap_err().contains("lowercased"));
        put(
            "sentence_bert_config.json",
            serde_json::json!({"do_lower_case": false}),
        );
        let prompts = |default: Value| serde_json::json!({"prompts": {"q": "query: "}, "default_prompt_name": default});
        put("config_sentence_transformers.json", prompts(Value::Null));
        assert!(refused(false).is_ok());
        put("config_sentence_transformers.json", prompts("q".into()));
        assert!(refused(false).unwrap_err().contains("the prompt \"q\""));
        put("config_sentence_transformers.json", prompts(Value::Null));
        put(
            "modules.json",
            of(&[&format!("{old}.Transformer"), &format!("{old}.Dense")]),
        );
        assert!(refused(false).unwrap_err().contains("Dense"));
    }

    #[test]
    fn pooling_is_its_definition() {
        let tokens = [3.0, 0.0, 1.0, 4.0, 2.0, -1.0];
        assert_eq!(pool(&tokens, 2, Pooling::Mean, false), [2.0, 1.0]);
        assert_eq!(pool(&tokens, 2, Pooling::Cls, false), [3.0, 0.0]);
        assert_eq!(pool(&tokens, 2, Pooling::Cls, true), [1.0, 0.0]);
        let unit = pool(&tokens, 2, Pooling::Mean, true);
        let root = 5f32.sqrt();
        assert!((unit[0] - 2.0 / root).abs() < 1e-7 && (unit[1] - 1.0 / root).abs() < 1e-7);
        assert_eq!(pool(&[0.0, 0.0], 2, Pooling::Mean, true), [0.0, 0.0]);
    }
}
