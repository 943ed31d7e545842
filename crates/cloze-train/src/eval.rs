//! Measuring a model on a split.

use std::path::Path;

use cloze_shard::masking::MaskingRule;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::device::Build;
use crate::engine::{Engine, EvalSums};
use crate::evaluation::{EvalOptions, Evaluation};
use crate::feed::Feed;
use crate::parallel::{Collective, reduce_sums};

/// What was seen. Losses are mean cross-entropies in nats; accuracies are shares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalReport {
    /// Over the masked tokens.
    pub mlm_loss: Option<f64>,
    /// Share of masked tokens whose most probable prediction is right.
    pub mlm_accuracy: Option<f64>,
    /// e to the `mlm_loss`.
    pub perplexity: Option<f64>,
    /// Over the rows that have a label.
    pub nsp_loss: Option<f64>,
    /// Share of labelled rows whose label is predicted.
    pub nsp_accuracy: Option<f64>,
    /// As `nsp_loss`, where labels say which segment is the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sop_loss: Option<f64>,
    /// As `nsp_accuracy`, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sop_accuracy: Option<f64>,
    /// Rows.
    pub rows: u64,
    /// Tokens, special tokens included.
    pub tokens: u64,
    /// Tokens that were predicted.
    pub masked_tokens: u64,
    /// Rows that have a label.
    pub labelled_rows: u64,
}

impl From<EvalSums> for EvalReport {
    fn from(sums: EvalSums) -> Self {
        let mean = |sum: f64, n: u64| (n > 0).then(|| sum / n as f64);
        let mlm_loss = mean(sums.mlm_loss, sums.masked_tokens);
        Self {
            mlm_loss,
            mlm_accuracy: mean(sums.mlm_correct as f64, sums.masked_tokens),
            perplexity: mlm_loss.map(f64::exp),
            nsp_loss: mean(sums.nsp_loss, sums.labelled_rows),
            nsp_accuracy: mean(sums.nsp_correct as f64, sums.labelled_rows),
            sop_loss: None,
            sop_accuracy: None,
            rows: sums.rows,
            tokens: sums.tokens,
            masked_tokens: sums.masked_tokens,
            labelled_rows: sums.labelled_rows,
        }
    }
}

impl EvalReport {
    /// What was seen of rows whose labels say which segment is the first, if `order`, else whether they follow one another.
    #[must_use]
    pub fn of(sums: EvalSums, order: bool) -> Self {
        let report = Self::from(sums);
        match order {
            false => report,
            true => Self {
                sop_loss: report.nsp_loss,
                sop_accuracy: report.nsp_accuracy,
                nsp_loss: None,
                nsp_accuracy: None,
                ..report
            },
        }
    }

    /// The loss of the head on the pooler, whatever labels say.
    #[must_use]
    pub fn pair_loss(&self) -> Option<f64> {
        self.nsp_loss.or(self.sop_loss)
    }
}

/// Runs `engine` over what `feed` has left.
pub fn run(
    engine: &mut dyn Engine,
    feed: &mut Feed<'_>,
    told: &mut dyn FnMut(u64),
) -> Result<EvalReport> {
    let mut sums = EvalSums::default();
    while let Some(batch) = feed.next_batch()? {
        sums += engine.evaluate(&batch)?;
        told(batch.rows() as u64);
    }
    Ok(EvalReport::of(sums, feed.is_sentence_order()))
}

/// As [`run`], each process of `peers` its share of every batch, by passes of at most `pass_tokens`; all get the same sums. Before each
/// batch every process says whether it is to be `left`: if any is, all leave, without sums.
pub fn run_shared(
    engine: &mut dyn Engine,
    feed: &mut Feed<'_>,
    pass_tokens: usize,
    peers: &mut dyn Collective,
    left: &mut dyn FnMut() -> bool,
) -> Result<Option<EvalSums>> {
    let (rank, world_size) = (peers.rank(), peers.world_size());
    let mut sums = EvalSums::default();
    while let Some(share) = feed.next_share(rank, world_size)? {
        let mut votes = [f64::from(u8::from(left()))];
        peers.all_reduce_f64(&mut votes)?;
        if votes[0] > 0.0 {
            return Ok(None);
        }
        for (batch, _) in share.passes(pass_tokens, [1.0, 1.0]) {
            sums += engine.evaluate(&batch)?;
        }
    }
    reduce_sums(peers, sums).map(Some)
}

/// Measures the model in `model` on `split` of `dataset`: every row once, in stored order.
///
/// NSP is measured where the checkpoint has its head. Masks are the shards' where they are static; otherwise they are drawn by `rule` and `seed`, the same at each call.
#[allow(clippy::too_many_arguments)]
pub fn evaluate(
    dataset: &Path,
    split: &str,
    model: &Path,
    rule: MaskingRule,
    seed: u64,
    batch_tokens: usize,
    rows: u64,
    build: Build,
    told: &mut dyn FnMut(u64),
) -> Result<EvalReport> {
    let options = EvalOptions {
        mlm_only: false,
        split: split.into(),
        rule,
        seed,
        batch_tokens,
        build,
    };
    Evaluation::open(dataset, model, options)?.report(rows, told)
}
