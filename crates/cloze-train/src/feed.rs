//! Rows of one or more datasets as batches, in an order that is a function of (seed, epoch): a position is all there is to resume.

mod groups;
mod mixing;
mod order;

use std::path::Path;
use std::sync::Arc;

use cloze_kernels::LONGEST_MASKED;
use cloze_shard::manifest::{FILE_NAME, Manifest, Masking, Objective, TOKENIZER_FOLDER};
use cloze_shard::masking::{MaskKey, Masker, MaskingRule, Scratch};
use cloze_shard::random::{Key, Stage};
use cloze_shard::rules::RowRules;
use cloze_shard::{Dataset, NextSentenceLabel, RowRef, Split};

use crate::batch::{Counts, MaskedBatch, Pending, swap_segments};
use crate::parallel::{Share, share};
use crate::{Error, Result};

use groups::{Groups, Lengths};
pub use mixing::{check_mixture, joined_digest};
use order::Order;

/// Most special tokens that a device is told of.
pub const MOST_SPECIAL: usize = 64;

/// The epoch that keys masks of evaluations: training never reaches it, so the same masks are seen each time.
pub const EVALUATION_EPOCH: u32 = u32::MAX;

/// Rows between one that is masked and one that is fetched from memory.
const AHEAD: usize = 4;

/// Where a feed is. An epoch is as many rows as all of its datasets hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// From 0.
    pub epoch: u32,
    /// Rows of the epoch that have been taken.
    pub row_in_epoch: u64,
}

/// A dataset's part of a feed.
struct Source<'a> {
    split: &'a Split,
    rules: RowRules,
    /// Whether the label 1 says that the segments are turned around.
    turned: bool,
}

/// Takes rows and masks them.
pub struct Feed<'a> {
    sources: Vec<Source<'a>>,
    order: Order,
    groups: Option<Groups>,
    /// `None` where all shards hold static masks.
    masker: Option<Arc<Masker>>,
    /// Whether masks are left to whoever computes the batch.
    deferred: bool,
    /// Whether labels say which segment is the first, instead of whether they follow one another.
    sentence_order: bool,
    seed: u64,
    batch_tokens: usize,
    vocab_size: u32,
    position: Position,
    /// Rows of an epoch that are taken, from its first on.
    rows: u64,
    /// Tokens of rows.
    row_tokens: Lengths,
    /// Rows of the next batch: numbers and lengths.
    numbers: Vec<u64>,
    lengths: Vec<u32>,
    scratch: Scratch,
    ids: Vec<u32>,
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
        let sources = [(dataset, split)];
        Self::mixed(&sources, &[], rule, seed, batch_tokens, vocab_size)
    }

    /// A feed of several datasets, which must fit each other ([`check_mixture`]).
    ///
    /// `mix` holds the share of the tokens that each is to have; where it is empty, they are as one dataset.
    pub fn mixed(
        sources: &[(&Dataset, &'a Split)],
        mix: &[f64],
        rule: MaskingRule,
        seed: u64,
        batch_tokens: usize,
        vocab_size: usize,
    ) -> Result<Self> {
        let longest = sources.iter().map(|(d, _)| longest_row(d.manifest())).max();
        if let Some(longest) = longest.filter(|&n| batch_tokens < n) {
            let why = format!(
                "is {batch_tokens}, but the longest row of the dataset has {longest} tokens"
            );
            return Err(Error::Config {
                option: "--batch-tokens",
                why,
            });
        }
        let dynamic = |d: &&(&Dataset, &Split)| d.0.manifest().masking == Masking::Dynamic;
        // All have the same vocabulary, so one masker is all theirs.
        let masker = match sources.iter().find(dynamic) {
            None => None,
            Some((dataset, _)) => Some(Arc::new(masker(dataset, rule)?)),
        };
        let rows: Vec<u64> = sources.iter().map(|(_, split)| split.rows()).collect();
        let order = Order::new(seed, &rows, mixing::cut(sources, mix)?);
        Ok(Self {
            row_tokens: mixing::lengths(sources, mix),
            rows: order.rows(),
            order,
            groups: None,
            masker,
            deferred: false,
            sentence_order: false,
            seed,
            batch_tokens,
            vocab_size: vocab_size as u32,
            position: Position::default(),
            sources: sources
                .iter()
                .map(|(dataset, split)| Source {
                    split,
                    rules: RowRules::of(dataset.manifest()),
                    turned: dataset.manifest().objective == Objective::Sop,
                })
                .collect(),
            numbers: Vec::new(),
            lengths: Vec::new(),
            scratch: Scratch::default(),
            ids: Vec::new(),
        })
    }

    /// The feed of an evaluation: one pass in stored order, masks of [`EVALUATION_EPOCH`].
    #[must_use]
    pub fn in_order(mut self) -> Self {
        self.order.stored();
        self.groups = None;
        self.position.epoch = EVALUATION_EPOCH;
        self
    }

    /// Batches of rows of similar length: windows of about so many batches are sorted and put into a keyed order; 0 for none.
    #[must_use]
    pub fn group_lengths(mut self, batches: usize) -> Self {
        let new = || Groups::new(self.seed, batches, self.batch_tokens, self.row_tokens);
        self.groups = (batches > 0).then(new);
        self
    }

    /// Leaves masks to be drawn where batches are computed, if all are dynamic, of tokens, and rows are not too long for that.
    #[must_use]
    pub fn deferred(mut self, longest: usize) -> Self {
        let by_token = self.masker.as_ref().filter(|m| m.rule().unit.is_token());
        let special = by_token.map_or(0, |m| m.special().len());
        self.deferred = (1..=MOST_SPECIAL).contains(&special)
            && longest <= LONGEST_MASKED
            && self.sources.iter().all(|s| !s.rules.static_masks());
        self
    }

    /// Labels for sentence order prediction: of rows whose segments follow one another, half change places, by a coin of (seed, epoch, row), and the
    /// label says which; other rows have none.
    #[must_use]
    pub fn sentence_order(mut self, on: bool) -> Self {
        self.sentence_order = on;
        self
    }

    /// Whether labels are those of sentence order prediction.
    #[must_use]
    pub fn is_sentence_order(&self) -> bool {
        self.sentence_order
    }

    /// The label of a row, and whether its segments change places. `turned`: the label 1 of the dataset says that they did already.
    fn label(
        &self,
        number: u64,
        row: &RowRef<'_>,
        turned: bool,
    ) -> (Option<NextSentenceLabel>, bool) {
        if !self.sentence_order {
            return (row.next_sentence_label, false);
        }
        let is = match row.next_sentence_label {
            Some(NextSentenceLabel::IsNext) => false,
            Some(NextSentenceLabel::NotNext) if turned => true,
            _ => return (None, false),
        };
        let epoch = self.order.mask_epoch(self.position.epoch);
        let coin = Key::new(self.seed, Stage::SentenceOrder).block(number, epoch, 0)[0];
        match coin & 1 {
            0 => (Some(NextSentenceLabel::IsNext), is),
            _ => (Some(NextSentenceLabel::NotNext), !is),
        }
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
        self.next_share_in(MaskedBatch::new(), rank, world_size)
    }

    /// As [`Feed::next_share`], in the memory of a batch that nobody needs any more.
    pub fn next_share_in(
        &mut self,
        mut batch: MaskedBatch,
        rank: usize,
        world_size: usize,
    ) -> Result<Option<Share>> {
        if !self.choose() {
            return Ok(None);
        }
        batch.clear();
        let span = share(&self.lengths, world_size).swap_remove(rank);
        let numbers = std::mem::take(&mut self.numbers);
        let mut counts = Counts::default();
        for (i, &number) in numbers.iter().enumerate() {
            if span.rows.contains(&i) {
                if let Some(&soon) = numbers.get(i + AHEAD) {
                    let (source, row) = self.order.locate(soon);
                    self.sources[source].split.prefetch(row);
                }
                self.push(number, &mut batch)?;
            } else {
                counts += self.count(number);
            }
        }
        counts += batch.counts();
        let rows = numbers.len();
        self.numbers = numbers;
        Ok(Some(Share {
            batch,
            first_token: span.first_token,
            counts,
            tokens: self.lengths.iter().map(|&n| n as usize).sum(),
            rows,
        }))
    }

    /// The numbers of the rows that the next batch is made of, which is passed over; none at the end.
    pub fn next_rows(&mut self) -> Vec<u64> {
        match self.choose() {
            true => self.numbers.clone(),
            false => Vec::new(),
        }
    }

    /// The shard that holds a row, by its number, and the row in the shard.
    #[must_use]
    pub fn locate(&self, number: u64) -> (&Path, u64) {
        let (source, row) = self.order.locate(number);
        let split = self.sources[source].split;
        let (shard, row) = split.locate(row);
        (split.shards()[shard].path(), row)
    }

    /// One row by its number, with the masks of this epoch.
    pub fn row(&mut self, number: u64) -> Result<MaskedBatch> {
        let mut batch = MaskedBatch::new();
        self.push(number, &mut batch)?;
        Ok(batch)
    }

    /// Finds the rows of the next batch, and passes them over; false at the end.
    fn choose(&mut self) -> bool {
        let rows = self.rows;
        if self.position.row_in_epoch >= rows {
            if !self.order.is_endless() || rows == 0 {
                return false;
            }
            self.position = Position {
                epoch: self.position.epoch.wrapping_add(1),
                row_in_epoch: 0,
            };
        }
        self.numbers.clear();
        self.lengths.clear();
        let sources = &self.sources;
        let length = |order: &Order, number: u64| {
            let (source, row) = order.locate(number);
            sources[source].split.row_len(row) as u32
        };
        let Position {
            epoch,
            row_in_epoch,
        } = self.position;
        if let Some(groups) = &mut self.groups {
            let at = (epoch, row_in_epoch);
            for &(number, length) in groups.batch(&mut self.order, length, at, rows) {
                self.numbers.push(number);
                self.lengths.push(length);
            }
        } else {
            let mut tokens = 0;
            for at in row_in_epoch..rows {
                let number = self.order.at(epoch, at);
                let length = length(&self.order, number);
                tokens += length as usize;
                if tokens > self.batch_tokens {
                    break;
                }
                self.numbers.push(number);
                self.lengths.push(length);
            }
        }
        self.position.row_in_epoch += self.numbers.len() as u64;
        true
    }

    /// What a row adds to the counts of its batch.
    fn count(&mut self, number: u64) -> Counts {
        let (source, row) = self.order.locate(number);
        let source = &self.sources[source];
        let row = source.split.row(row);
        let (label, swapped) = self.label(number, &row, source.turned);
        let masked = match (row.masks, &self.masker) {
            (Some(masks), _) => masks.positions.len(),
            (None, Some(masker)) => {
                self.ids.clear();
                row.input_ids.extend_into(&mut self.ids);
                if swapped {
                    swap_segments(&mut self.ids, usize::from(row.b_start));
                }
                masker.count(self.mask_key(), number, &self.ids)
            }
            (None, None) => 0,
        };
        Counts {
            masked: masked as u64,
            labelled: u64::from(label.is_some()),
        }
    }

    fn mask_key(&self) -> MaskKey {
        let epoch = self.order.mask_epoch(self.position.epoch);
        MaskKey::new(self.seed, Stage::DynamicMask, epoch)
    }

    fn refused(&self, number: u64, why: String) -> Error {
        let (path, row) = self.locate(number);
        let path = path.into();
        Error::Row { path, row, why }
    }

    fn push(&mut self, number: u64, batch: &mut MaskedBatch) -> Result<()> {
        let (source, row) = self.order.locate(number);
        let source = &self.sources[source];
        let row = source.split.row(row);
        if let Err(why) = source.rules.check(&row) {
            return Err(self.refused(number, why));
        }
        let key = self.mask_key();
        let masked = batch.masked_labels.len();
        let b_start = usize::from(row.b_start);
        let (label, swapped) = self.label(number, &row, source.turned);
        let start = batch.begin_row(row.input_ids, b_start, label);
        if swapped {
            batch.swap_last_row(b_start);
        }
        let ids = &mut batch.input_ids[start..];
        match (row.masks, &self.masker) {
            (Some(masks), _) => {
                // Of a row that is turned, those of the second segment come first.
                let first = match swapped {
                    true => masks
                        .positions
                        .partition_point(|&p| usize::from(p) < b_start),
                    false => 0,
                };
                let (a, b) = masks.positions.split_at(first);
                let back = if swapped { b_start - 1 } else { 0 };
                let there = |p: &u16, by: usize| (start + usize::from(*p) + by) as u32;
                let places = b.iter().map(|p| there(p, 0) - back as u32);
                batch.masked_positions.extend(places);
                let on = row.len() - b_start;
                batch
                    .masked_positions
                    .extend(a.iter().map(|p| there(p, on)));
                let labels = (first..masks.positions.len()).chain(0..first);
                batch
                    .masked_labels
                    .extend(labels.filter_map(|i| masks.labels.get(i)));
            }
            (None, Some(masker)) if self.deferred => {
                let pending = batch.pending.get_or_insert_with(|| Pending {
                    masker: masker.clone(),
                    key,
                    numbers: Vec::new(),
                    starts: vec![0],
                });
                let before = pending.starts.last().copied().unwrap_or(0);
                let count = masker.count(key, number, ids);
                pending.numbers.push(number);
                pending.starts.push(before + count as u32);
            }
            (None, Some(masker)) => masker.mask_in(
                &mut self.scratch,
                key,
                number,
                start as u32,
                ids,
                &mut batch.masked_positions,
                &mut batch.masked_labels,
            ),
            (None, None) => {}
        }
        // The embedding looks ids up without asking.
        if source.rules.vocab_size() > self.vocab_size {
            let mut seen = batch.input_ids[start..]
                .iter()
                .chain(&batch.masked_labels[masked..]);
            if let Some(id) = seen.find(|&&id| id >= self.vocab_size) {
                let has = self.vocab_size;
                let why = format!("token id {id}, the model's vocabulary has {has}");
                return Err(self.refused(number, why));
            }
        }
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
    let vocabulary = dataset.vocabulary()?;
    if vocabulary.digest() != record.vocab_digest {
        let folder = dataset.path().join(TOKENIZER_FOLDER);
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
