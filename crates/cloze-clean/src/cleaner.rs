//! What can be said of a document by itself.

use std::borrow::Cow;
use std::ops::Range;

use crate::exclude::{Exclusion, Row};
use crate::filters::Filters;
use crate::minhash::{self, Bands, MinHasher};
use crate::normalize::{Normalizer, Removed};
use crate::{CleanOptions, Dedup, ParagraphKind, Result, canonical, words};

/// Looks at documents, on any thread.
#[derive(Debug)]
pub struct Cleaner {
    normalizer: Normalizer,
    filters: Filters,
    exclusion: Option<Exclusion>,
    dedup: Dedup,
    bands: Bands,
    hasher: MinHasher,
    paragraphs: ParagraphKind,
    least_words: u64,
}

/// What was seen of a document.
#[derive(Clone, Debug, PartialEq)]
pub struct Look<'a> {
    /// Its text as it shall be.
    pub text: Cow<'a, str>,
    /// How that differs from what was read.
    pub changes: Changes,
    /// Why it is dropped, where it is.
    pub dropped: Option<Dropped>,
    /// What it is compared by, where it stays and is compared.
    pub keys: Keys,
    /// Its paragraphs, where these are compared.
    pub paragraphs: Vec<Paragraph>,
}

/// How a text was changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Whether it was.
    pub changed: bool,
    /// Which characters were removed.
    pub removed: Removed,
}

/// Why a document is dropped by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// A name to count it by.
    pub reason: &'static str,
    /// The rows of evaluation sets that it shares text with.
    pub rows: Vec<Row>,
}

/// What a document is compared by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// The key of its canonical text.
    pub text: Option<u128>,
    /// The keys of its bands; none where it has no word.
    pub bands: Vec<u128>,
}

/// A paragraph of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paragraph {
    /// Its bytes in the text.
    pub range: Range<usize>,
    /// The key of its canonical text, or 0 where it is too short to be compared.
    pub key: u128,
}

impl Cleaner {
    /// A cleaner that does what `options` ask for, and looks for `exclusion`.
    pub fn new(options: &CleanOptions, exclusion: Option<Exclusion>) -> Result<Self> {
        options.check()?;
        Ok(Self {
            normalizer: Normalizer::of(options),
            filters: Filters::of(options),
            exclusion,
            dedup: options.dedup,
            bands: Bands::of(options.dedup_threshold),
            hasher: MinHasher::default(),
            paragraphs: options.dedup_paragraphs,
            least_words: options.dedup_min_words,
        })
    }

    /// What is looked for.
    #[must_use]
    pub fn exclusion(&self) -> Option<&Exclusion> {
        self.exclusion.as_ref()
    }

    /// Looks at a document.
    #[must_use]
    pub fn look<'a>(&self, text: &'a str) -> Look<'a> {
        let mut changes = Changes::default();
        let text = self.normalizer.apply(text, &mut changes.removed);
        changes.changed = matches!(text, Cow::Owned(_));
        let mut look = Look {
            text,
            changes,
            dropped: None,
            keys: Keys::default(),
            paragraphs: Vec::new(),
        };
        look.dropped = self.judge(&look.text, &mut look.keys);
        if look.dropped.is_none() && self.paragraphs != ParagraphKind::None {
            look.paragraphs = self.paragraphs(&look.text);
        }
        look
    }

    /// Why a text is dropped; otherwise its keys.
    fn judge(&self, text: &str, keys: &mut Keys) -> Option<Dropped> {
        let dropped = |reason| {
            let rows = Vec::new();
            Some(Dropped { reason, rows })
        };
        if text.trim().is_empty() {
            return dropped("nothing_left");
        }
        if let Some(reason) = self.filters.broken(text) {
            return dropped(reason);
        }
        if self.exclusion.is_none() && self.dedup == Dedup::None {
            return None;
        }
        let canonical = canonical::canonical(text);
        let mut found = Vec::new();
        if self.exclusion.is_some() || self.dedup == Dedup::Near {
            words::words(&canonical, &mut found);
        }
        if let Some(exclusion) = &self.exclusion {
            let rows = exclusion.hits(&found);
            if !rows.is_empty() {
                let reason = "excluded";
                return Some(Dropped { reason, rows });
            }
        }
        if self.dedup != Dedup::None {
            keys.text = Some(canonical::key(&canonical));
        }
        if self.dedup == Dedup::Near {
            let mut shingles = Vec::new();
            minhash::shingles(&found, &mut shingles);
            if let Some(signature) = self.hasher.signature(&shingles) {
                self.bands.keys(&signature, &mut keys.bands);
            }
        }
        None
    }

    fn paragraphs(&self, text: &str) -> Vec<Paragraph> {
        let mut ranges = Vec::new();
        canonical::paragraphs(text, self.paragraphs, &mut ranges);
        let paragraph = |range: Range<usize>| {
            let text = &text[range.clone()];
            let long = text.split_whitespace().count() as u64 >= self.least_words;
            let key = if long {
                canonical::key(&canonical::canonical(text))
            } else {
                0
            };
            Paragraph { range, key }
        };
        ranges.into_iter().map(paragraph).collect()
    }
}
