//! Which text is kept, and what it looks like: normalisation, filters, deduplication, decontamination.
//!
//! # One pass over the text
//!
//! What can be said of a document by itself is said while it is read, on any thread ([`Cleaner::look`]): its text is
//! normalised, judged by the filters, searched for n-grams of evaluation sets, and, if it stays, reduced to *keys* of 128 bits. What
//! depends on the documents before it is decided when all are read, from the keys alone ([`Ledger`]). So text is read and
//! tokenized once, in any order on any number of threads, and whoever keeps the tokens leaves out afterwards what is no longer wanted.
//!
//! # What is a duplicate?
//!
//! A document's keys are the hash of its canonical text ([`canonical`]) and, with `--dedup near`, one key for each band of its MinHash
//! signature ([`minhash`]). One rule covers both: **a document is dropped if one of its keys is that of a kept document
//! before it**. The first in source order stays, and no document goes because of one that is gone itself.
//!
//! A paragraph is dropped if its canonical text occurred before in a kept document, or in its own.
//!
//! # Bounded memory
//!
//! Documents are numbered as they come. (key, document) pairs go to a sorter that keeps what memory allows and spills sorted
//! runs ([`sort`]). Merged by key, they show which keys are shared: those become numbered *groups*, and (document, group)
//! pairs are sorted by document. Going through them in order, a group is taken by the first kept document that has it, and a
//! document whose group is taken is dropped. Paragraphs of kept documents then go the same way, where a sort is enough: all
//! but the first of a key are removed.
//!
//! Held in memory: the sorters' buffers (half of `--memory` together), a bit a document, and 8 bytes a shared key, in a mapped
//! file where that is more than the sorters may have. On disk, next to the tokens: 24 bytes a key (9 bands and the text: 240 bytes a document), 24
//! bytes a paragraph, and the first 80 characters of each document, for the report.
//!
//! Beside all this stands [`naive`]: the same rules over everything in memory, which says what is right.

pub mod canonical;
mod cleaner;
mod error;
pub mod exclude;
pub mod filters;
pub mod ledger;
pub mod minhash;
pub mod naive;
pub mod normalize;
mod options;
mod paragraphs;
mod report;
pub mod sort;
pub mod words;

pub use cleaner::{Changes, Cleaner, Dropped, Keys, Look, Paragraph};
pub use error::{Error, Result};
pub use ledger::{Decision, Ledger};
pub use options::{CleanOptions, Dedup, ParagraphKind, UnicodeForm};
pub use report::{CleanReport, Example, Place, RepeatedParagraph, head};
