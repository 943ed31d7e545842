//! Files in which PyTorch says what a small BERT's losses and gradients are: what every engine is compared with.
//!
//! A safetensors file. Its metadata holds `config` (a `config.json`), `lengths` (a list of each row's tokens; of such lists where there are
//! several batches) and `steps` (the optimizer's constants). Tensors, in single precision or 32-bit integers: `weights/NAME`, `gradients/NAME` and
//! `after/NAME` by parameter; `losses` (MLM, NSP); `batch/{input_ids, token_type_ids, labels, next}`, padded `[B, L]` and `[B]`, or
//! `batch/N/...` of several; `track/losses` and `track/norms` along the steps.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use cloze_shard::NextSentenceLabel;
use safetensors::SafeTensors;

use crate::batch::MaskedBatch;
use crate::engine::{Optimizer, OptimizerStep};
use crate::parameters::Layout;
use crate::schedule::Schedule;
use crate::{BertConfig, Error, Result};

/// One file.
#[derive(Debug)]
pub struct Golden {
    path: PathBuf,
    bytes: Vec<u8>,
    metadata: HashMap<String, String>,
}

impl Golden {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(cloze_shard::Error::io(path))?;
        let header = SafeTensors::read_metadata(&bytes).map_err(|e| wrong(path, &e.to_string()))?;
        Ok(Self {
            path: path.into(),
            metadata: header.1.metadata().clone().unwrap_or_default(),
            bytes,
        })
    }

    fn wrong(&self, why: &str) -> Error {
        wrong(&self.path, why)
    }

    fn metadata<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T> {
        let text = self.metadata.get(name);
        let text = text.ok_or_else(|| self.wrong(&format!("has no metadata {name:?}")))?;
        serde_json::from_str(text).map_err(|e| self.wrong(&format!("{name}: {e}")))
    }

    fn words(&self, name: &str) -> Result<Option<Vec<[u8; 4]>>> {
        let tensors =
            SafeTensors::deserialize(&self.bytes).map_err(|e| self.wrong(&e.to_string()))?;
        let view = tensors.tensor(name).ok();
        Ok(view.map(|v| v.data().as_chunks::<4>().0.to_vec()))
    }

    /// A tensor of numbers, where there is one.
    pub fn floats(&self, name: &str) -> Result<Option<Vec<f32>>> {
        let words = self.words(name)?;
        Ok(words.map(|w| w.into_iter().map(f32::from_le_bytes).collect()))
    }

    fn integers(&self, name: &str) -> Result<Vec<i32>> {
        let words = self
            .words(name)?
            .ok_or_else(|| self.wrong(&format!("has no {name}")))?;
        Ok(words.into_iter().map(i32::from_le_bytes).collect())
    }

    /// The model's shape.
    pub fn config(&self) -> Result<BertConfig> {
        let config: serde_json::Value = self.metadata("config")?;
        BertConfig::parse(&config.to_string()).map_err(|why| self.wrong(&why))
    }

    /// An arena of what lies under `prefix`, by parameter.
    pub fn arena(&self, prefix: &str) -> Result<Vec<f32>> {
        let layout = Layout::new(&self.config()?);
        let mut arena = vec![0.0; layout.len()];
        for p in layout.parameters() {
            let name = format!("{prefix}/{}", p.name);
            let values = self.floats(&name)?.filter(|v| v.len() == p.len());
            let values = values.ok_or_else(|| self.wrong(&format!("has no {name} of its size")))?;
            arena[p.range()].copy_from_slice(&values);
        }
        Ok(arena)
    }

    /// How many batches there are.
    pub fn batches(&self) -> Result<usize> {
        let lengths: serde_json::Value = self.metadata("lengths")?;
        let several = lengths
            .as_array()
            .filter(|l| l.iter().all(serde_json::Value::is_array));
        Ok(several.map_or(1, Vec::len))
    }

    /// A batch of PyTorch, padded there, as ours.
    pub fn batch(&self, number: usize) -> Result<MaskedBatch> {
        let several = self.batches()? > 1;
        let lengths: Vec<usize> = if several {
            let mut all: Vec<Vec<usize>> = self.metadata("lengths")?;
            all.swap_remove(number)
        } else {
            self.metadata("lengths")?
        };
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let read = |name: &str| {
            self.integers(&match several {
                true => format!("batch/{number}/{name}"),
                false => format!("batch/{name}"),
            })
        };
        let (ids, types) = (read("input_ids")?, read("token_type_ids")?);
        let (labels, next) = (read("labels")?, read("next")?);
        let places = lengths.len() * longest;
        if [&ids, &types, &labels].iter().any(|t| t.len() != places) || next.len() != lengths.len()
        {
            return Err(self.wrong("a batch is not of its lengths"));
        }
        let mut batch = MaskedBatch::new();
        for (r, &n) in lengths.iter().enumerate() {
            let row = r * longest..r * longest + n;
            let b_start = types[row.clone()].iter().position(|&t| t == 1).unwrap_or(n);
            let chosen = (0..n as u16)
                .zip(&labels[row.clone()])
                .filter(|(_, l)| **l >= 0);
            let (masked, wanted): (Vec<u16>, Vec<u32>) =
                chosen.map(|(i, &l)| (i, l as u32)).unzip();
            let ids: Vec<u32> = ids[row].iter().map(|&id| id as u32).collect();
            let label = i8::try_from(next[r])
                .ok()
                .and_then(NextSentenceLabel::from_i8);
            batch.push(&ids, b_start, label, &masked, &wanted);
        }
        Ok(batch)
    }

    /// How many steps PyTorch made.
    pub fn steps(&self) -> Result<u64> {
        self.plan("steps").map(|n| n as u64)
    }

    fn plan(&self, name: &str) -> Result<f64> {
        let plan: serde_json::Value = self.metadata("steps")?;
        plan[name]
            .as_f64()
            .ok_or_else(|| self.wrong(&format!("steps has no {name}")))
    }

    /// The optimizer's step of a number, from 1.
    pub fn step(&self, step: u64) -> Result<OptimizerStep> {
        let (peak, warmup) = (self.plan("peak")?, self.plan("warmup")? as u64);
        Ok(OptimizerStep {
            step,
            learning_rate: Schedule::Linear.learning_rate(peak, step, warmup, self.steps()?),
            weight_decay: self.plan("decay")?,
            betas: (0.9, 0.999),
            eps: 1e-8,
            clip: self.plan("clip")?,
            layer_decay: 1.0,
            optimizer: Optimizer::AdamW,
        })
    }
}

fn wrong(path: &Path, why: &str) -> Error {
    Error::Checkpoint {
        path: path.into(),
        why: why.to_owned(),
    }
}
