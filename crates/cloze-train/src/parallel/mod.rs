//! Training by several processes, each on its part of every step's batch.

mod launch;
mod share;

pub use launch::{Address, World};
pub use share::{Share, Span, share};
