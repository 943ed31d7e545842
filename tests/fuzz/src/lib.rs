//! What must hold for any bytes, a module for each fuzz target.
//!
//! The targets run these under `cargo fuzz`; the ordinary tests run them on the cases in `kept/` (`tests/tests/kept.rs`). See `docs/fuzzing.md`.

pub mod input;
pub mod manifest;
pub mod pairing;
pub mod place;
pub mod sentences;
pub mod shard;
pub mod text;
pub mod tokens;
