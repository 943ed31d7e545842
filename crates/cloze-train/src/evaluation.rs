//! A model and a split of a dataset, measured in several ways.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use cloze_shard::masking::MaskingRule;
use cloze_shard::random::{Key, Permutation, Stage};
use cloze_shard::{Dataset, Split, Vocabulary};
use serde::{Deserialize, Serialize};

use crate::batch::MaskedBatch;
use crate::checkpoint;
use crate::device::{self, Build};
use crate::engine::{Engine, EngineState, EvalSums, Objective};
use crate::eval::{self, EvalReport};
use crate::feed::Feed;
use crate::matching;
use crate::samples::{MaskedRow, predicted};
use crate::{Error, Result};

/// How a split is looked at.
#[derive(Clone, Debug)]
pub struct EvalOptions {
    /// Which split.
    pub split: String,
    /// Masks, where they are not static.
    pub rule: MaskingRule,
    /// Whether the MLM head alone is measured, on rows as they are stored, whatever else the model was trained for.
    pub mlm_only: bool,
    /// Keys masks, and which rows are chosen where not all are looked at one by one.
    pub seed: u64,
    /// Most tokens in a batch.
    pub batch_tokens: usize,
    /// What the engine is built of.
    pub build: Build,
}

/// A model and a split.
#[allow(missing_debug_implementations)]
pub struct Evaluation {
    dataset: Dataset,
    model: PathBuf,
    options: EvalOptions,
    vocab_size: usize,
    objective: Objective,
    engine: Box<dyn Engine>,
}

/// How probable a model finds each token when all others of its row are seen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PseudoPerplexity {
    /// exp(−Σ ln P(token | the rest of its row) / tokens) (Salazar et al., ACL 2020, section 2.1): special tokens are not among them.
    pub pseudo_perplexity: f64,
    /// Tokens, each of which was hidden alone.
    pub tokens: u64,
    /// Rows.
    pub rows: u64,
}

impl Evaluation {
    /// Opens both. NSP is measured where the checkpoint has its head.
    pub fn open(dataset: &Path, model: &Path, options: EvalOptions) -> Result<Self> {
        let dataset = Dataset::open(dataset)?;
        let (config, parameters, report) = checkpoint::read_model(model, options.seed)?;
        matching::check_model(&dataset, model, &config)?;
        report.require_heads(model)?;
        let no_rows = |why: String| Error::Config {
            option: "--split",
            why: format!("{:?}: {why}", options.split),
        };
        let rows = dataset.split(&options.split).map(Split::rows);
        match rows {
            None => {
                let names: Vec<&str> = dataset.splits().map(|(name, _)| name).collect();
                let names = names.join(" and ");
                return Err(no_rows(format!(
                    "the dataset has no such split, but {names}"
                )));
            }
            Some(0) => return Err(no_rows("the split holds no rows".into())),
            Some(_) => {}
        }
        // A head that was not in the checkpoint is noise: what it says is not reported.
        let has_pairs = report.has_nsp_head() && config.has_pairs() && !options.mlm_only;
        let objective = match has_pairs {
            true if config.pretrained_for_order() => Objective::MlmSop,
            true => Objective::MlmNsp,
            false => Objective::Mlm,
        };
        // As are labels that mean something else.
        let objective = match matching::has_labels(&dataset, objective) {
            true => objective,
            false => Objective::Mlm,
        };
        let state = EngineState::initial(parameters);
        let engine = device::build(options.build, &config, objective, state)?.engine;
        let evaluation = Self {
            dataset,
            model: model.into(),
            options,
            vocab_size: config.vocab_size,
            objective,
            engine,
        };
        // A budget that holds no row is refused now.
        evaluation.feed()?;
        Ok(evaluation)
    }

    fn feed(&self) -> Result<Feed<'_>> {
        feed_of(
            &self.dataset,
            &self.options,
            self.vocab_size,
            self.objective,
        )
    }

    fn split(&self) -> Result<&Split> {
        let split = self.dataset.split(&self.options.split);
        split.ok_or(Error::FeedStopped)
    }

    /// Rows of the split.
    pub fn rows(&self) -> Result<u64> {
        Ok(self.split()?.rows())
    }

    /// Every row once, in stored order, or the first `rows` of them; 0 for all. `told` is told of rows as they are done.
    pub fn report(&mut self, rows: u64, told: &mut dyn FnMut(u64)) -> Result<EvalReport> {
        let feed = feed_of(
            &self.dataset,
            &self.options,
            self.vocab_size,
            self.objective,
        )?;
        let report = eval::run(self.engine.as_mut(), &mut feed.at_most(rows), told)?;
        self.finite(report)
    }

    /// Refuses losses that are no numbers: they are of a model that is broken.
    fn finite(&self, report: EvalReport) -> Result<EvalReport> {
        let losses = [report.mlm_loss, report.pair_loss()];
        match losses.iter().flatten().all(|loss| loss.is_finite()) {
            true => Ok(report),
            false => Err(Error::NoLoss {
                model: self.model.clone(),
            }),
        }
    }

    /// The first `rows` rows, or all, by the source of each one's first segment, in the order of the manifest; the masks are those of [`report`](Self::report).
    pub fn by_source(
        &mut self,
        rows: u64,
        told: &mut dyn FnMut(u64),
    ) -> Result<Vec<(String, EvalReport)>> {
        let documents = self.dataset.documents()?;
        let sources: HashMap<i64, u32> = documents.iter().map(|d| (d.doc, d.source)).collect();
        let split = self.split()?;
        let all = match rows {
            0 => split.rows(),
            rows => rows.min(split.rows()),
        };
        let mut numbers: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for number in 0..all {
            let source = sources.get(&split.row(number).doc_a);
            let source = source.copied().unwrap_or(u32::MAX);
            numbers.entry(source).or_default().push(number);
        }
        let names: Vec<String> = (self.dataset.manifest().sources.iter())
            .map(|s| s.path.clone())
            .collect();
        let most = self.options.batch_tokens;
        let mut reports = Vec::new();
        for (source, numbers) in numbers {
            let mut feed = feed_of(
                &self.dataset,
                &self.options,
                self.vocab_size,
                self.objective,
            )?;
            let engine = self.engine.as_mut();
            let mut sums = EvalSums::default();
            let mut batch = MaskedBatch::new();
            for number in numbers {
                let row = feed.row(number)?;
                if batch.tokens() + row.tokens() > most {
                    sums += engine.evaluate(&batch)?;
                    batch = MaskedBatch::new();
                }
                batch.append(&row);
                told(1);
            }
            sums += engine.evaluate(&batch)?;
            let name = names.get(source as usize).cloned();
            let name = name.unwrap_or_else(|| "unknown".into());
            reports.push((name, EvalReport::of(sums, feed.is_sentence_order())));
        }
        Ok(reports)
    }

    /// The numbers of so many rows of the split, chosen by the seed.
    fn chosen(&self, rows: u64) -> Result<impl Iterator<Item = u64> + use<>> {
        let all = self.rows()?;
        let key = Key::new(self.options.seed, Stage::Sample);
        let order = Permutation::new(key, 0, 0, all);
        Ok((0..rows.min(all)).map(move |i| order.at(i)))
    }

    /// Hides each token of `rows` rows alone; 0 for all rows. As costly as evaluating as many rows as those have tokens.
    pub fn pseudo_perplexity(
        &mut self,
        rows: u64,
        told: &mut dyn FnMut(u64),
    ) -> Result<PseudoPerplexity> {
        let all = if rows == 0 { u64::MAX } else { rows };
        let chosen = self.chosen(all)?;
        let vocabulary = self.vocabulary()?;
        let (special, mask) = (vocabulary.special().sorted(), vocabulary.special().mask);
        let most = self.options.batch_tokens;
        let split = self.dataset.split(&self.options.split);
        let split = split.ok_or(Error::FeedStopped)?;
        let mut feed = feed_of(
            &self.dataset,
            &self.options,
            self.vocab_size,
            self.objective,
        )?;
        let (mut sums, mut rows) = (EvalSums::default(), 0);
        for number in chosen {
            // Refuses a row that breaks a rule of the format.
            feed.row(number)?;
            let row = split.row(number);
            let (ids, b_start) = (row.original_ids(), usize::from(row.b_start));
            let mut batch = MaskedBatch::new();
            for (place, &id) in ids.iter().enumerate() {
                if special.binary_search(&id).is_ok() {
                    continue;
                }
                let mut seen = ids.clone();
                seen[place] = mask;
                if batch.tokens() + seen.len() > most {
                    sums += self.engine.evaluate(&batch)?;
                    batch = MaskedBatch::new();
                }
                batch.push(&seen, b_start, None, &[place as u16], &[id]);
            }
            sums += self.engine.evaluate(&batch)?;
            rows += 1;
            told(1);
        }
        let tokens = sums.masked_tokens;
        Ok(PseudoPerplexity {
            pseudo_perplexity: (sums.mlm_loss / tokens.max(1) as f64).exp(),
            tokens,
            rows,
        })
    }

    /// Some rows, with the `top` most probable predictions of what is hidden in them.
    pub fn samples(&mut self, rows: u64, top: usize) -> Result<Vec<MaskedRow>> {
        let chosen = self.chosen(rows)?;
        let vocabulary = self.vocabulary()?;
        let mut feed = feed_of(
            &self.dataset,
            &self.options,
            self.vocab_size,
            self.objective,
        )?;
        let engine = self.engine.as_mut();
        let mut samples = Vec::new();
        for number in chosen {
            samples.extend(predicted(engine, &feed.row(number)?, &vocabulary, top)?);
        }
        Ok(samples)
    }

    fn vocabulary(&self) -> Result<Vocabulary> {
        Ok(self.dataset.vocabulary()?)
    }
}

/// A split in stored order, with the masks of evaluations.
fn feed_of<'a>(
    dataset: &'a Dataset,
    options: &EvalOptions,
    vocab_size: usize,
    objective: Objective,
) -> Result<Feed<'a>> {
    let split = dataset.split(&options.split);
    let feed = Feed::new(
        dataset,
        split.ok_or(Error::FeedStopped)?,
        options.rule,
        options.seed,
        options.batch_tokens,
        vocab_size,
    )?;
    let order = objective == Objective::MlmSop;
    Ok(feed.in_order().sentence_order(order))
}
