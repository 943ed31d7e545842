//! The operations of one BERT training step: what they are ([`Ops`]), and how the CPU does them.
//!
//! Every operation of [`cpu`] is tested against its definition in double precision, on awkward sizes.

#![allow(
    clippy::excessive_precision,
    reason = "constants are written as they were derived; the compiler rounds them"
)]
#![allow(
    clippy::needless_range_loop,
    reason = "loops over several rows at once, which become vector instructions, are written by index"
)]

pub mod cpu;
pub mod cuda;
pub mod dropout;
mod error;
mod ops;
pub mod oracle;

pub use dropout::Site;
pub use error::{Error, Result};
pub use ops::{
    AdamW, Attention, CrossEntropy, Embedding, Gelu, Kind, LONGEST_MASKED, Lamb, Masks, NONE, Norm,
    NormBackward, Ops, Unpack, View,
};
