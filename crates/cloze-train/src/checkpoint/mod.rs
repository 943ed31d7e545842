//! Checkpoints are Hugging Face folders, with `trainer_state/` beside the weights for exact resume.

mod extend;
mod families;
mod pickle;
mod read;
mod source;
mod state;
mod torch;
mod write;

pub use extend::{Extended, Extender, Extension, refuse_taken};
pub use families::Family;
pub use read::{LoadReport, initial_parameters, read_model, read_model_with};
pub use source::{Raw, Values};
pub(crate) use state::all;
pub use state::{Best, TrainerState, latest, read_state, read_trainer, set_damaged_aside};
pub use torch::TorchFile;
pub use write::{Checkpoint, write_checkpoint};
pub(crate) use write::{publish_again, sweep};

/// The weights of a Hugging Face folder.
pub const WEIGHTS: &str = "model.safetensors";
/// The configuration of a Hugging Face folder.
pub const CONFIG: &str = "config.json";
/// The folder, in a checkpoint, of what only the trainer needs.
pub const STATE_FOLDER: &str = "trainer_state";
/// The folder, in a run, of its checkpoints.
pub const CHECKPOINTS: &str = "checkpoints";
/// The folder, in a run, of the newest model.
pub const MODEL: &str = "model";
/// The folder, in a run, of the model with the best evaluation.
pub const BEST: &str = "best";
