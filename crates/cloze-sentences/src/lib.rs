//! Text to sentences that cover it, at the speed of memory.
//!
//! [`Segmenter`] cuts a text: by rules of our own for the languages that have a file of words here, by those of the crate
//! `sentencex` for others. [`split_long`] cuts sentences that are too long to be of use.

mod error;
mod general;
mod language;
mod long;
#[cfg(any(test, feature = "naive"))]
pub mod naive;
mod rules;
mod scan;
mod segmenter;
mod sight;
#[cfg(test)]
mod tests;

pub use error::{Error, Result};
pub use long::{Limit, split_long};
pub use scan::Isa;
pub use segmenter::Segmenter;
