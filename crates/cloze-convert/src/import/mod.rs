//! Datasets of what other programs prepared.
