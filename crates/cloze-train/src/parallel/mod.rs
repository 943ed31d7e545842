//! Training by several processes, each on its part of every step's batch.

mod share;

pub use share::{Share, Span, share};
