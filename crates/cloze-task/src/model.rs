//! A Hugging Face folder, ready to encode.

use std::path::Path;

use cloze_text::Tokenizer;
use cloze_train::checkpoint::{LoadReport, read_model_with};
use cloze_train::engine::{Engine, EngineState, Objective};
use cloze_train::{BertConfig, Build, build};

use crate::{Error, Result};

/// A model, what runs it, and its tokenizer.
#[allow(missing_debug_implementations)]
pub struct Model {
    /// Its shape, with the heads that were asked for.
    pub config: BertConfig,
    /// What computes.
    pub engine: Box<dyn Engine>,
    /// Why it runs where it does.
    pub device: String,
    /// What became of the folder's tensors.
    pub report: LoadReport,
    /// Text to ids.
    pub tokenizer: Tokenizer,
}

impl Model {
    /// Opens `folder`. `heads` are the parameters of other heads than those of pre-training, by name and shape: read where the folder has them,
    /// otherwise drawn from `seed`.
    pub fn open(
        folder: &Path,
        heads: &[(String, Vec<usize>)],
        asked: Build,
        seed: u64,
    ) -> Result<Self> {
        let (config, parameters, report) = read_model_with(folder, heads, seed)?;
        let tokenizer = Tokenizer::open(folder)?;
        if tokenizer.vocab_size() > config.vocab_size {
            return Err(Error::Model {
                path: folder.into(),
                why: format!(
                    "its tokenizer has {} entries, its vocab_size is {}",
                    tokenizer.vocab_size(),
                    config.vocab_size
                ),
                hint: "give a folder whose tokenizer and config.json belong together".into(),
            });
        }
        let state = EngineState::initial(parameters);
        let built = build(asked, &config, Objective::MlmNsp, state)?;
        Ok(Self {
            config,
            engine: built.engine,
            device: built.why,
            report,
            tokenizer,
        })
    }
}
