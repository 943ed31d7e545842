//! What must hold for any bytes, a module for each fuzz target.
//!
//! The targets run these under `cargo fuzz`; `tests/tests/hostile/` runs some of them in the ordinary tests. See `docs/fuzzing.md`.

pub mod input;
pub mod manifest;
pub mod pairing;
pub mod place;
pub mod sentences;
pub mod shard;
pub mod text;
pub mod tokens;
