//! Fine-tuning: a model and its head learn a task from labelled examples, once for each of several seeds.

mod batches;
mod evaluate;
mod options;
mod results;
mod run;
mod write;

use std::path::{Path, PathBuf};

use cloze_text::Tokenizer;
use cloze_train::checkpoint::LoadReport;
use cloze_train::{BertConfig, Build};

use crate::data::{Data, Example, Input, Target};
use crate::metrics::is_better;
use crate::{Error, Result, Row, Rows};

pub use evaluate::Prediction;
pub use options::FinetuneConfig;
pub use results::{Cut, Evaluation, Results, SeedResult, Spread};

/// What a person is told while it goes on.
pub trait Observer {
    /// A seed begins, or the first of several.
    fn on_start(&mut self, _: &Started<'_>) {}
    /// A step was made.
    fn on_step(&mut self, _: &StepDone) {}
    /// The model was measured on the dev examples; whether it is the best so far.
    fn on_evaluation(&mut self, _: &Evaluation, _best: bool) {}
    /// A step was not made, because its gradient was not finite; how many of this seed were not.
    fn on_skipped(&mut self, _step: u64, _skipped: u64) {}
    /// A seed is done.
    fn on_seed(&mut self, _: &SeedResult) {}
    /// A seed did not come to its end.
    fn on_cut(&mut self, _: &Cut, _why: &Error) {}
    /// Whether to stop, and keep what there is. Asked after each step, and in evaluations.
    fn should_stop(&mut self) -> bool {
        false
    }
}

/// How training with a seed begins.
#[allow(missing_debug_implementations)]
pub struct Started<'a> {
    /// The seed.
    pub seed: u64,
    /// Whether no other was before it.
    pub first: bool,
    /// The model's shape.
    pub config: &'a BertConfig,
    /// What computes, and why there.
    pub device: String,
    /// What became of the folder's tensors.
    pub report: &'a LoadReport,
    /// Whether the folder's output layer was for other labels, and drawn anew.
    pub redrawn: bool,
    /// Steps of an epoch.
    pub steps_an_epoch: u64,
    /// Steps in all.
    pub steps: u64,
    /// Rows that were cut to `--max-length` tokens, of how many.
    pub cut: (usize, usize),
    /// Words of the dev and test examples that were cut off: nothing is said about them.
    pub cut_words: usize,
}

/// A step that was made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepDone {
    /// The step, from 1, of how many.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// The mean loss of its batch.
    pub loss: f64,
    /// Its learning rate.
    pub learning_rate: f64,
    /// Norm of its gradient.
    pub grad_norm: f64,
    /// Tokens of its batch.
    pub tokens: usize,
}

/// Examples as rows of tokens.
pub(crate) struct Set {
    pub numbers: Vec<u64>,
    pub rows: Vec<Row>,
    pub targets: Vec<Target>,
}

/// All examples as rows of tokens.
pub(crate) struct Sets {
    pub train: Set,
    pub dev: Set,
    pub test: Set,
}

/// Trains `model` (a Hugging Face folder) on `data`, and writes the best into `out`, which must not exist yet or be empty.
///
/// A seed that diverges leaves the others alone. A stop keeps the seeds that are done. Where none came to its end, the best model so far is kept, if one
/// was measured; else there is an error, and nothing is written.
pub fn finetune(
    model: &Path,
    data: &Data,
    out: &Path,
    config: &FinetuneConfig,
    build: Build,
    observer: &mut dyn Observer,
) -> Result<Results> {
    config.check(data)?;
    write::prepare(out)?;
    let shape = BertConfig::read(&model.join(cloze_train::checkpoint::CONFIG))?;
    let max_length = config.length(shape.max_position_embeddings)?;
    let tokenizer = Tokenizer::open(model)?;
    let sets = Sets {
        train: Set::new(&data.train, &tokenizer, model, max_length)?,
        dev: Set::new(&data.dev, &tokenizer, model, max_length)?,
        test: Set::new(&data.test, &tokenizer, model, max_length)?,
    };
    let mut results = Results::new(model, data, config, &sets, max_length);
    // The best of the seeds that are done, and of those that were cut short.
    let (mut kept, mut spare) = (None::<run::Outcome>, None::<run::Outcome>);
    let mut error = None;
    for seed in (0..config.seeds).map(|i| config.seed.wrapping_add(i)) {
        let ended = run::train(model, data, &sets, seed, config, build, observer)?;
        let done = ended.cut.is_none();
        let mut stopped = false;
        if let Some((cut, why)) = ended.cut {
            observer.on_cut(&cut, &why);
            results.cut.push(cut);
            stopped = matches!(why, Error::Stopped { .. });
            error.get_or_insert(why);
        }
        if let Some(outcome) = ended.outcome {
            let best = if done { &mut kept } else { &mut spare };
            if done {
                observer.on_seed(&outcome.result);
                results.seeds.push(outcome.result.clone());
            }
            let metric = outcome.metric.clone().unwrap_or_default();
            let better = |best: &run::Outcome| is_better(&metric, outcome.value, best.value);
            if best.as_ref().is_none_or(better) {
                *best = Some(outcome);
            }
        }
        if stopped {
            break;
        }
    }
    if let (None, Some(spare)) = (&kept, &spare) {
        results.seeds.push(spare.result.clone());
    }
    let Some(kept) = kept.or(spare) else {
        return Err(error.unwrap_or(Error::Option {
            option: "--seeds",
            why: "is 0, must be at least 1".into(),
        }));
    };
    results.finish(&kept);
    write::write(out, &kept, data, &tokenizer, &results)?;
    Ok(results)
}

impl Set {
    fn new(
        examples: &[Example],
        tokenizer: &Tokenizer,
        model: &Path,
        max_length: usize,
    ) -> Result<Self> {
        use rayon::prelude::*;

        let id = |token: &str| {
            tokenizer.id(token).ok_or_else(|| Error::Model {
                path: PathBuf::from(model),
                why: format!("its tokenizer has no {token}"),
                hint: "give a folder with a BERT tokenizer".into(),
            })
        };
        let rows = Rows::new(tokenizer, id("[CLS]")?, id("[SEP]")?, max_length);
        let row = |example: &Example| match &example.input {
            Input::Text(text) => rows.single(text),
            Input::Pair(a, b) => rows.pair(a, b),
            Input::Words(words) => rows.words(words),
        };
        Ok(Self {
            numbers: examples.iter().map(|e| e.number).collect(),
            rows: examples.par_iter().map(row).collect::<Result<_>>()?,
            targets: examples.iter().map(|e| e.target.clone()).collect(),
        })
    }

    /// The first `n` rows.
    pub fn first(&self, n: usize) -> Self {
        let n = n.min(self.rows.len());
        Self {
            numbers: self.numbers[..n].to_vec(),
            rows: self.rows[..n].to_vec(),
            targets: self.targets[..n].to_vec(),
        }
    }

    pub fn lengths(&self) -> Vec<usize> {
        self.rows.iter().map(|r| r.input_ids.len()).collect()
    }

    pub fn cut(&self) -> usize {
        self.rows.iter().filter(|r| r.cut > 0).count()
    }

    /// Words that a head has no place for.
    pub fn cut_words(&self) -> usize {
        let words = self.rows.iter().flat_map(|r| &r.words);
        words.filter(|w| w.is_none()).count()
    }
}
