//! What a BERT is pre-trained for: fine-tuning on a task, sentence embeddings.
//!
//! Unlike pre-training, these begin from text: a text, a pair or a list of words becomes a row ([`Rows`]), rows become a batch, and
//! [`Model`] runs the encoder of a Hugging Face folder on it, on any device that trains.

pub mod data;
pub mod embed;
mod error;
pub mod finetune;
pub mod heads;
pub use cloze_metrics as metrics;
mod model;
mod rows;

pub use error::{Error, Result};
pub use model::Model;
pub use rows::{Row, Rows, batch};
