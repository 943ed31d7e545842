//! How much room preparation takes on the disk.

use std::path::Path;

use cloze_clean::{Dedup, ParagraphKind};
pub use cloze_shard::room::{free, is_one, taken};
use cloze_shard::schema::IdType;

use crate::amounts::Amounts;
use crate::buckets::SEGMENT_BYTES;
use crate::memory::Memory;
use crate::plan::{Planned, RECIPE_BYTES};
use crate::{Config, Error, MaskingKind, ObjectiveKind, Result};

/// Bytes that are needed, about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    /// For tokens, which are deleted at the end unless they are kept.
    pub tokens: u64,
    /// For a second copy of them, while duplicates are left out of it; it is deleted before anything else is made.
    pub copied: u64,
    /// For what says which documents and paragraphs stood before, while tokens are made.
    pub ledger: u64,
    /// For recipes, which are deleted at the end.
    pub recipes: u64,
    /// For what is sorted and gathered, beyond the dataset that takes its place.
    pub sorted: u64,
    /// For shards and the table of documents, which stay.
    pub dataset: u64,
}

impl Needed {
    /// What preparation of so much text will need.
    pub fn of(amounts: &Amounts, id_type: IdType, config: &Config, memory: Memory) -> Self {
        let planned = planned(amounts, config);
        let store = amounts.tokens * id_type.bytes() as f64
            + 4.0 * amounts.sentences
            + 50.0 * amounts.documents;
        let store = store as u64;
        let recipes = RECIPE_BYTES as u64 * planned.rows;
        let shards = shards(&planned, id_type, config);
        Self {
            tokens: store,
            copied: if config.clean.finds_duplicates() {
                store
            } else {
                0
            },
            ledger: ledger(amounts, config, memory),
            recipes,
            sorted: match memory.maps(store + recipes) {
                true => 0,
                false => gathered(&planned, id_type).saturating_sub(shards),
            },
            dataset: shards + (50.0 * amounts.documents) as u64,
        }
    }

    /// While tokens are made.
    pub fn made(self) -> u64 {
        self.tokens + self.copied + self.ledger
    }

    /// What of that is there whatever leaves the tokens again: where nothing does, they are not copied.
    pub fn made_surely(self) -> u64 {
        self.tokens + self.ledger
    }

    /// The most that is there at a time.
    pub fn all(self) -> u64 {
        self.made()
            .max(self.tokens + self.recipes + self.sorted + self.dataset)
    }
}

/// Bytes that deduplication writes beside the tokens, at least: keys beyond what memory holds of them, how documents begin, and a paragraph a document.
fn ledger(amounts: &Amounts, config: &Config, memory: Memory) -> u64 {
    let clean = &config.clean;
    let mut bytes = 0;
    if clean.dedup != Dedup::None {
        let keys = (KEY_BYTES * clean.keys() as u64 * amounts.documents as u64)
            .saturating_sub(memory.deduplication() as u64 / 2);
        let head = amounts.text.min(HEAD_BYTES * amounts.documents) + 4.0 * amounts.documents;
        bytes += keys + head as u64;
    }
    if clean.dedup_paragraphs != ParagraphKind::None {
        bytes += PARAGRAPH_BYTES * amounts.documents as u64;
    }
    bytes
}

/// Of a key, of how a document begins, and of a document with a paragraph, on the disk.
const KEY_BYTES: u64 = 24;
const HEAD_BYTES: f64 = 80.0;
const PARAGRAPH_BYTES: u64 = 28;

/// Rows and tokens that so much text comes to, to within 15 %, as measured on two corpora at lengths of 32 to 512 (the test has the figures).
///
/// Text fills 87 % of a row of pairs, since sentences are not cut, less what short rows leave; and a document has a last row, whatever is left for it. A random B takes the
/// place of text that comes again in the next row, so that a ratio of r lets every token appear 1 / (1 - r / 2) times, and oftener where documents are of one row.
fn planned(amounts: &Amounts, config: &Config) -> Planned {
    let (tokens, documents) = (amounts.tokens, amounts.documents);
    let full = tokens / config.max_tokens() as f64;
    let short = 1.0 - config.short_seq_prob() / 2.0;
    let sentence = tokens / amounts.sentences.max(1.0) / config.max_tokens() as f64;
    let (rows, again) = match config.objective {
        ObjectiveKind::FullSentences => (full / short * (1.0 + (0.8 * sentence).min(0.35)), 1.0),
        ObjectiveKind::Nsp | ObjectiveKind::Sop | ObjectiveKind::DocSentences => {
            let rows = (full / (0.87 * short) + documents / 3.0).max(documents);
            let ratio = match config.objective {
                ObjectiveKind::Nsp => config.random_next_ratio,
                _ => 0.0,
            };
            let of_one_row = documents / rows.max(1.0);
            let again = (1.0 + 0.5 * ratio * of_one_row * of_one_row) / (1.0 - ratio / 2.0);
            (rows, again)
        }
    };
    let again = again * f64::from(config.dupe_factor);
    let rows = rows * again;
    Planned {
        rows: rows as u64,
        tokens: (tokens * again + 3.0 * rows) as u64,
        ..Planned::default()
    }
}

/// Bytes that the rows of `planned` take while they are gathered: two segments each, and what is sorted of these. The shards that come of it take less, and its place.
pub fn gathered(planned: &Planned, id_type: IdType) -> u64 {
    planned.tokens * id_type.bytes() as u64 + planned.rows * 2 * (SEGMENT_BYTES + 24)
}

/// Bytes of the shards of `planned`, to within a percent.
pub fn shards(planned: &Planned, id_type: IdType, config: &Config) -> u64 {
    let (rows, tokens) = (planned.rows as f64, planned.tokens as f64);
    let width = id_type.bytes() as f64;
    // Offsets of ids, b_start, label with its validity, two documents, two sentences.
    let mut bytes = tokens * width + rows * (4.0 + 2.0 + 1.2 + 16.0 + 8.0);
    if config.masking == MaskingKind::Static {
        bytes += tokens * config.mask_rate * (2.0 + width) + rows * 8.0;
    }
    bytes as u64
}

/// An error where `needed` bytes are more than there are.
pub fn refuse(path: &Path, needed: u64, free: Option<u64>) -> Result<()> {
    match free {
        Some(free) if needed > free => Err(Error::Disk {
            path: path.into(),
            needed: megabytes(needed),
            // Downwards, so that it is less than what is needed, which is rounded upwards.
            free: megabytes(free / 1_000_000 * 1_000_000),
        }),
        _ => Ok(()),
    }
}

pub fn megabytes(bytes: u64) -> String {
    match bytes {
        0..10_000_000_000 => format!("{:.0} MB", (bytes as f64 / 1e6).ceil()),
        _ => format!("{:.0} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What does not fit into memory takes more of the disk; what does takes none for it.
    #[test]
    fn sorting_is_stated() {
        let amounts = Amounts {
            text: 10e9,
            tokens: 2.4e9,
            sentences: 1e8,
            documents: 5e6,
        };
        let needed = |memory: u64| {
            let memory = Memory::new(Some(memory));
            Needed::of(&amounts, IdType::UInt16, &Config::default(), memory)
        };
        let (mapped, sorted) = (needed(20 << 30), needed(1 << 30));
        assert_eq!(mapped.sorted, 0);
        assert!(
            sorted.sorted > sorted.dataset / 5 && sorted.sorted < sorted.dataset,
            "{sorted:?}"
        );
        assert_eq!(sorted.all(), mapped.all() + sorted.sorted);
    }

    /// Rows and row tokens that two corpora came to: documents of 94 tokens, and of 1,271.
    #[test]
    fn rows_are_about_as_many_as_will_be() {
        let short = [4_845_000.0, 257_900.0, 51_240.0];
        let long = [30_590_000.0, 1_048_000.0, 24_060.0];
        for (amounts, objective, seq_len, ratio, rows, row_tokens) in [
            (short, ObjectiveKind::Nsp, 32, 0.5, 287_959, 1.453),
            (short, ObjectiveKind::Nsp, 128, 0.5, 102_206, 1.579),
            (short, ObjectiveKind::Nsp, 512, 0.5, 88_172, 1.782),
            (short, ObjectiveKind::Nsp, 128, 0.0, 66_572, 1.024),
            (short, ObjectiveKind::Sop, 512, 0.5, 52_388, 1.002),
            (short, ObjectiveKind::FullSentences, 64, 0.5, 97_112, 1.008),
            (short, ObjectiveKind::FullSentences, 512, 0.5, 9_860, 1.010),
            (short, ObjectiveKind::DocSentences, 128, 0.5, 63_530, 1.0),
            (long, ObjectiveKind::Nsp, 32, 0.5, 1_701_564, 1.410),
            (long, ObjectiveKind::Nsp, 128, 0.5, 397_467, 1.354),
            (long, ObjectiveKind::Nsp, 512, 0.5, 114_720, 1.474),
            (long, ObjectiveKind::Sop, 256, 0.5, 148_587, 1.003),
            (long, ObjectiveKind::FullSentences, 128, 0.5, 286_829, 1.0),
            (long, ObjectiveKind::DocSentences, 512, 0.5, 76_966, 1.0),
        ] {
            let [tokens, sentences, documents] = amounts;
            let amounts = Amounts {
                text: 0.0,
                tokens,
                sentences,
                documents,
            };
            let config = Config {
                objective,
                seq_len,
                random_next_ratio: ratio,
                ..Config::default()
            };
            let planned = planned(&amounts, &config);
            let found = [
                planned.rows as f64 / f64::from(rows),
                (planned.tokens - 3 * planned.rows) as f64 / (row_tokens * tokens),
            ];
            assert!(
                found.iter().all(|r| (0.85..1.15).contains(r)),
                "{objective:?} {seq_len} {ratio}: {found:?}"
            );
        }
    }

    /// Deduplication writes keys beside the tokens, and may copy these: the one is certain, the other is not.
    #[test]
    fn deduplication_is_stated() {
        let amounts = Amounts {
            text: 10e9,
            tokens: 2.4e9,
            sentences: 1e8,
            documents: 5e6,
        };
        let needed = |dedup: Dedup, memory: u64| {
            let mut config = Config::default();
            config.clean.dedup = dedup;
            Needed::of(&amounts, IdType::UInt16, &config, Memory::new(Some(memory)))
        };
        let (none, exact, near) = (
            needed(Dedup::None, 1 << 20),
            needed(Dedup::Exact, 1 << 20),
            needed(Dedup::Near, 1 << 20),
        );
        assert_eq!((none.ledger, none.copied), (0, 0));
        assert_eq!(exact.copied, exact.tokens);
        let heads = 84 * 5_000_000;
        assert_eq!(exact.ledger, heads + 24 * 5_000_000 - (1 << 18));
        assert_eq!(near.ledger, heads + 240 * 5_000_000 - (1 << 18));
        assert_eq!(needed(Dedup::Near, 1 << 40).ledger, heads, "keys in memory");
        assert_eq!(near.made_surely(), near.tokens + near.ledger);
        assert_eq!(near.made(), near.made_surely() + near.copied);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("not/yet/there");
        let room = free(&inside);
        assert!(room.is_some_and(|bytes| bytes > 1_000_000));
        refuse(&inside, 1_000_000, room).unwrap();
        let why = refuse(&inside, 7_500_000_000, Some(1_200_000)).unwrap_err();
        assert!(
            why.to_string()
                .ends_with("about 7500 MB are needed, 1 MB are free"),
            "{why}"
        );
        refuse(&inside, u64::MAX, None).unwrap();
    }
}
