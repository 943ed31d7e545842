//! Text to sentences.
mod scan;
