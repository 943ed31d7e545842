//! What strangers may give: whatever their bytes say, they are read or refused, and nothing breaks.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod changed;
#[path = "../../fuzz/src/lib.rs"]
mod checks;
mod crafted;
mod kept;
mod memory;
mod parquet;
