//! BERT pre-training from Cloze shards.
//!
//! [`pretrain`] is the loop; what it drives is an [`engine::Engine`], which owns parameters, gradients and moments and does
//! the arithmetic: [`native`] is the one to train with, [`reference`], a plain autograd model on candle, is its oracle.

pub mod batch;
pub mod checkpoint;
mod config;
pub mod device;
mod disk;
pub mod engine;
mod error;
pub mod eval;
pub mod evaluation;
pub mod events;
pub mod feed;
pub mod golden;
mod log;
mod matching;
mod memory;
pub mod native;
pub mod optimizer;
pub mod parallel;
pub mod parameters;
mod plan;
pub mod record;
pub mod reference;
pub mod samples;
pub mod schedule;
mod start;
mod trainer;

pub use config::{Activation, BertConfig};
pub use device::{Build, Built, DeviceChoice, build};
pub use disk::Room;
pub use engine::{EngineKind, Precision};
pub use error::{Error, Result};
pub use plan::PretrainConfig;
pub use start::{Begun, Start};
pub use trainer::{Observer, Summary, pretrain, pretrain_in, pretrain_on, stored_config};
