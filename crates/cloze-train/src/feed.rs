//! Rows of a split as batches, in an order that is a function of (seed, epoch): a position is all there is to resume.

use std::sync::Arc;

use cloze_kernels::LONGEST_MASKED;
use cloze_shard::manifest::{FILE_NAME, Manifest, Masking, TOKENIZER_FOLDER};
use cloze_shard::masking::{MaskKey, Masker, MaskingRule};
use cloze_shard::random::{Key, Permutation, Stage};
use cloze_shard::rules::RowRules;
use cloze_shard::{Dataset, Split, Vocabulary};

use crate::batch::{Counts, MaskedBatch, Pending};
use crate::parallel::{Share, share};
use crate::{Error, Result};

/// Most special tokens that a device is told of.
pub const MOST_SPECIAL: usize = 64;

/// The epoch that keys masks of evaluations: training never reaches it, so the same masks are seen each time.
pub const EVALUATION_EPOCH: u32 = u32::MAX;

/// Where a feed is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// From 0.
    pub epoch: u32,
    /// Rows of the epoch that have been taken.
    pub row_in_epoch: u64,
}

/// Takes rows of a split and masks them.
pub struct Feed<'a> {
    split: &'a Split,
    /// `None` where the shards hold static masks.
    masker: Option<Arc<Masker>>,
    /// Whether masks are left to whoever computes the batch.
    deferred: bool,
    seed: u64,
    batch_tokens: usize,
    vocab_size: u32,
    position: Position,
    shuffle: bool,
    /// Rows of an epoch that are taken, from its first on.
    rows: u64,
    rules: RowRules,
    ids: Vec<u32>,
    positions: Vec<u16>,
    labels: Vec<u32>,
}

impl<'a> Feed<'a> {
    /// A feed of `split` whose batches hold at most `batch_tokens` tokens, in a keyed order that is another each epoch.
    pub fn new(
        dataset: &Dataset,
        split: &'a Split,
        rule: MaskingRule,
        seed: u64,
        batch_tokens: usize,
        vocab_size: usize,
    ) -> Result<Self> {
        let manifest = dataset.manifest();
        let longest = longest_row(manifest);
        if batch_tokens < longest {
            let why = format!(
                "is {batch_tokens}, but the longest row of the dataset has {longest} tokens"
            );
            return Err(Error::Config {
                option: "--batch-tokens",
                why,
            });
        }
        let masker = match manifest.masking {
            Masking::Static { .. } => None,
            Masking::Dynamic => Some(Arc::new(masker(dataset, rule)?)),
        };
        Ok(Self {
            split,
            masker,
            deferred: false,
            seed,
            batch_tokens,
            vocab_size: vocab_size as u32,
            position: Position::default(),
            shuffle: true,
            rows: split.rows(),
            rules: RowRules::of(manifest),
            ids: Vec::new(),
            positions: Vec::new(),
            labels: Vec::new(),
        })
    }

    /// The feed of an evaluation: one pass in stored order, masks of [`EVALUATION_EPOCH`].
    #[must_use]
    pub fn in_order(mut self) -> Self {
        self.shuffle = false;
        self.position.epoch = EVALUATION_EPOCH;
        self
    }

    /// Leaves masks to be drawn where batches are computed, if they are of tokens and rows are not too long for that.
    #[must_use]
    pub fn deferred(mut self, longest: usize) -> Self {
        let by_token = self.masker.as_ref().filter(|m| m.rule().unit.is_token());
        let special = by_token.map_or(0, |m| m.special().len());
        self.deferred = (1..=MOST_SPECIAL).contains(&special) && longest <= LONGEST_MASKED;
        self
    }

    /// Masks at another rate from the next batch on; nothing where masks are static.
    pub fn set_rate(&mut self, rate: f64) {
        if let Some(masker) = self.masker.as_mut().filter(|m| m.rule().rate != rate) {
            *masker = Arc::new(masker.at_rate(rate));
        }
    }

    /// Takes at most `rows` rows of an epoch; 0 for all.
    #[must_use]
    pub fn at_most(mut self, rows: u64) -> Self {
        if rows > 0 {
            self.rows = self.rows.min(rows);
        }
        self
    }

    /// Goes to `position`.
    pub fn seek(&mut self, position: Position) {
        self.position = position;
    }

    /// Where the next batch begins.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// The next batch: rows in order until the next would not fit. The last batch of an epoch may be short; after it,
    /// a shuffled feed goes on with the next epoch, one in order returns `None`.
    pub fn next_batch(&mut self) -> Result<Option<MaskedBatch>> {
        Ok(self.next_share(0, 1)?.map(|share| share.batch))
    }

    /// What `rank` of `world_size` processes does of the next batch; equal to [`Share::of`] the whole.
    ///
    /// Only its own rows are checked and masked; of the others it looks at ids and counts.
    pub fn next_share(&mut self, rank: usize, world_size: usize) -> Result<Option<Share>> {
        let Some((numbers, lengths)) = self.choose() else {
            return Ok(None);
        };
        let span = share(&lengths, world_size).swap_remove(rank);
        let mut batch = MaskedBatch::new();
        let mut counts = Counts::default();
        for (i, &number) in numbers.iter().enumerate() {
            if span.rows.contains(&i) {
                self.push(number, &mut batch)?;
            } else {
                counts += self.count(number);
            }
        }
        counts += batch.counts();
        Ok(Some(Share {
            batch,
            first_token: span.first_token,
            counts,
            tokens: lengths.iter().map(|&n| n as usize).sum(),
            rows: numbers.len(),
        }))
    }

    /// The numbers of the rows that the next batch is made of, which is passed over; none at the end.
    pub fn next_rows(&mut self) -> Vec<u64> {
        self.choose().map_or_else(Vec::new, |(numbers, _)| numbers)
    }

    /// One row by its number, with the masks of this epoch.
    pub fn row(&mut self, number: u64) -> Result<MaskedBatch> {
        let mut batch = MaskedBatch::new();
        self.push(number, &mut batch)?;
        Ok(batch)
    }

    /// Numbers and lengths of the rows of the next batch.
    fn choose(&mut self) -> Option<(Vec<u64>, Vec<u32>)> {
        let rows = self.rows;
        if self.position.row_in_epoch >= rows {
            if !self.shuffle || rows == 0 {
                return None;
            }
            self.position = Position {
                epoch: self.position.epoch.wrapping_add(1),
                row_in_epoch: 0,
            };
        }
        let key = Key::new(self.seed, Stage::EpochOrder);
        let order = Permutation::new(key, u64::from(self.position.epoch), 0, self.split.rows());
        let (mut numbers, mut lengths, mut tokens) = (Vec::new(), Vec::new(), 0);
        while self.position.row_in_epoch < rows {
            let at = self.position.row_in_epoch;
            let number = if self.shuffle { order.at(at) } else { at };
            let length = self.split.row(number).len();
            if tokens + length > self.batch_tokens {
                break;
            }
            tokens += length;
            numbers.push(number);
            lengths.push(length as u32);
            self.position.row_in_epoch += 1;
        }
        Some((numbers, lengths))
    }

    /// What a row adds to the counts of its batch.
    fn count(&mut self, number: u64) -> Counts {
        let row = self.split.row(number);
        let masked = match (&self.masker, row.masks) {
            (Some(masker), _) => {
                self.ids.clear();
                row.input_ids.extend_into(&mut self.ids);
                masker.count(self.mask_key(), number, &self.ids)
            }
            (None, Some(masks)) => masks.positions.len(),
            (None, None) => 0,
        };
        Counts {
            masked: masked as u64,
            labelled: u64::from(row.next_sentence_label.is_some()),
        }
    }

    fn mask_key(&self) -> MaskKey {
        MaskKey::new(self.seed, Stage::DynamicMask, self.position.epoch)
    }

    fn push(&mut self, number: u64, batch: &mut MaskedBatch) -> Result<()> {
        let row = self.split.row(number);
        let refused = |why: String| {
            let (shard, row) = self.split.locate(number);
            Err(Error::Row {
                path: self.split.shards()[shard].path().into(),
                row,
                why,
            })
        };
        if let Err(why) = self.rules.check(&row) {
            return refused(why);
        }
        self.ids.clear();
        self.positions.clear();
        self.labels.clear();
        row.input_ids.extend_into(&mut self.ids);
        match (&self.masker, row.masks) {
            (Some(masker), _) if self.deferred => {
                let key = self.mask_key();
                let pending = batch.pending.get_or_insert_with(|| Pending {
                    masker: masker.clone(),
                    key,
                    numbers: Vec::new(),
                    starts: vec![0],
                });
                let before = pending.starts.last().copied().unwrap_or(0);
                let count = masker.count(key, number, &self.ids);
                pending.numbers.push(number);
                pending.starts.push(before + count as u32);
            }
            (Some(masker), _) => {
                masker.mask(
                    self.mask_key(),
                    number,
                    &mut self.ids,
                    &mut self.positions,
                    &mut self.labels,
                );
            }
            (None, Some(masks)) => {
                self.positions.extend_from_slice(masks.positions);
                masks.labels.extend_into(&mut self.labels);
            }
            (None, None) => {}
        }
        // The embedding looks ids up without asking.
        if let Some(id) = self
            .ids
            .iter()
            .chain(&self.labels)
            .find(|&&id| id >= self.vocab_size)
        {
            return refused(format!(
                "token id {id}, the model's vocabulary has {}",
                self.vocab_size
            ));
        }
        let b_start = usize::from(row.b_start);
        batch.push(
            &self.ids,
            b_start,
            row.next_sentence_label,
            &self.positions,
            &self.labels,
        );
        Ok(())
    }
}

/// What draws masks by `rule`. Only where they are not of tokens are the dataset's entries looked at.
fn masker(dataset: &Dataset, rule: MaskingRule) -> Result<Masker> {
    let record = &dataset.manifest().tokenizer;
    if rule.unit.is_token() {
        return Ok(Masker::new(
            rule,
            &record.special_tokens,
            record.vocab_size,
        )?);
    }
    let folder = dataset.path().join(TOKENIZER_FOLDER);
    let vocabulary = Vocabulary::read(&folder)?;
    if vocabulary.digest() != record.vocab_digest {
        let why = format!("its entries are not those that {FILE_NAME} names");
        return Err(cloze_shard::Error::Vocabulary { path: folder, why }.into());
    }
    Ok(Masker::of(rule, &vocabulary)?)
}

/// Tokens of the longest row of any split.
#[must_use]
pub fn longest_row(manifest: &Manifest) -> usize {
    let shards = manifest.splits.values().flat_map(|s| &s.shards);
    shards
        .filter_map(|s| s.lengths.last_key_value())
        .map(|(&n, _)| usize::from(n))
        .max()
        .unwrap_or(0)
}
