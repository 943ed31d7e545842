//! How much room preparation takes on the disk.

use std::path::Path;

use cloze_shard::schema::IdType;

use crate::buckets::SEGMENT_BYTES;
use crate::input::{Compression, Format, InputPlan};
use crate::memory::Memory;
use crate::plan::Planned;
use crate::{Config, Error, MaskingKind, Result};

/// Bytes that are needed, about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    /// For tokens, which are deleted at the end unless they are kept.
    pub tokens: u64,
    /// For recipes, which are deleted at the end.
    pub recipes: u64,
    /// For what is sorted and gathered, beyond the dataset that takes its place.
    pub sorted: u64,
    /// For shards and the table of documents, which stay.
    pub dataset: u64,
}

/// Text in a file, for each byte of it on the disk.
const RATIO: f64 = 3.5;
/// Bytes of English text a token, and a sentence; a document is taken for some 2,000.
const TOKEN_BYTES: f64 = 4.2;
const SENTENCE_BYTES: f64 = 100.0;
const DOCUMENT_BYTES: f64 = 2_000.0;

impl Needed {
    /// What the sources will need, by their sizes alone: the truth may be half of it, or twice as much where text compresses well.
    pub fn guess(plan: &InputPlan, id_type: IdType, config: &Config, memory: Memory) -> Self {
        let text = plan.sources.iter().map(|source| {
            let ratio = match source.compression {
                Compression::None => 1.0,
                _ => RATIO,
            };
            // Parquet is compressed, as far as one knows.
            let ratio = if source.format == Format::Parquet {
                RATIO
            } else {
                ratio
            };
            source.bytes as f64 * ratio
        });
        let text: f64 = text.sum();
        let tokens = text / TOKEN_BYTES;
        let rows = rows(tokens, config);
        let planned = Planned {
            rows: rows as u64,
            tokens: (tokens * f64::from(config.dupe_factor) * 1.1 + 3.0 * rows) as u64,
            ..Planned::default()
        };
        let documents = text / DOCUMENT_BYTES;
        let store =
            tokens * id_type.bytes() as f64 + 4.0 * text / SENTENCE_BYTES + 50.0 * documents;
        let recipes = Self::recipes(tokens as u64, config);
        let shards = shards(&planned, id_type, config);
        Self {
            tokens: store as u64,
            recipes,
            sorted: match memory.maps(store as u64 + recipes) {
                true => 0,
                false => gathered(&planned, id_type).saturating_sub(shards),
            },
            dataset: shards + (50.0 * documents) as u64,
        }
    }

    /// Bytes of the recipes that so many tokens of text will have, about.
    pub fn recipes(tokens: u64, config: &Config) -> u64 {
        (33.0 * rows(tokens as f64, config)) as u64
    }

    /// All of it together.
    pub fn all(self) -> u64 {
        self.tokens + self.recipes + self.sorted + self.dataset
    }
}

/// Rows of so many tokens of text, about.
fn rows(tokens: f64, config: &Config) -> f64 {
    tokens / (0.8 * config.max_tokens() as f64) * f64::from(config.dupe_factor)
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

/// Bytes that are free where `path` is, or will be; `None` where the system does not say.
pub fn free(path: &Path) -> Option<u64> {
    let there = std::path::absolute(path).ok()?;
    let there = there.ancestors().find(|p| p.exists())?.to_path_buf();
    let stat = rustix::fs::statvfs(&there).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// An error where `needed` bytes are more than there are.
pub fn refuse(path: &Path, needed: u64, free: Option<u64>) -> Result<()> {
    match free {
        Some(free) if needed > free => Err(Error::Disk {
            path: path.into(),
            needed: megabytes(needed),
            free: megabytes(free),
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
    use crate::input::{InputOptions, Source};

    /// What does not fit into memory takes more of the disk; what does takes none for it.
    #[test]
    fn sorting_is_stated() {
        let source = Source {
            path: "a.txt".into(),
            format: Format::Text,
            compression: Compression::None,
            bytes: 10_000_000_000,
            object: None,
        };
        let plan = InputPlan {
            sources: vec![source],
            ignored: Vec::new(),
            options: InputOptions::of(&Config::default()),
        };
        let needed = |memory: u64| {
            let memory = Memory::new(Some(memory));
            Needed::guess(&plan, IdType::UInt16, &Config::default(), memory)
        };
        let (mapped, sorted) = (needed(20 << 30), needed(1 << 30));
        assert_eq!(mapped.sorted, 0);
        assert!(
            sorted.sorted > sorted.dataset / 5 && sorted.sorted < sorted.dataset,
            "{sorted:?}"
        );
        assert_eq!(sorted.all(), mapped.all() + sorted.sorted);
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
                .ends_with("about 7500 MB are needed, 2 MB are free"),
            "{why}"
        );
        refuse(&inside, u64::MAX, None).unwrap();
    }
}
