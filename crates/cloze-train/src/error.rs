use std::path::{Path, PathBuf};

/// What can go wrong in training, always with where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something about the dataset or a file.
    #[error(transparent)]
    Shard(#[from] cloze_shard::Error),
    /// The engine failed.
    #[error("the engine failed: {0}")]
    Engine(#[from] candle_core::Error),
    /// A configuration of a model cannot be used.
    #[error("{}: {why}", path.display())]
    ModelConfig {
        /// The `config.json`.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A checkpoint cannot be used.
    #[error("{}: {why}", path.display())]
    Checkpoint {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The rows of a dataset do not have the labels that are asked for.
    #[error("the dataset {} has no labels for this objective: {why}", dataset.display())]
    Labels {
        /// The dataset.
        dataset: PathBuf,
        /// What it was made for.
        why: String,
        /// What to do.
        hint: String,
    },
    /// Dataset and model do not fit each other.
    #[error("the dataset {} does not fit the model {}: {why}", dataset.display(), model.display())]
    Mismatch {
        /// The dataset.
        dataset: PathBuf,
        /// The model.
        model: PathBuf,
        /// How.
        why: String,
        /// What to do.
        hint: String,
    },
    /// Datasets cannot be trained on together.
    #[error("the datasets {} and {} cannot be mixed: {why}", one.display(), other.display())]
    Mixture {
        /// A dataset.
        one: PathBuf,
        /// Another, which was named after it.
        other: PathBuf,
        /// Why not.
        why: String,
        /// What to do.
        hint: String,
    },
    /// The device cannot do it.
    #[error(transparent)]
    Device(#[from] cloze_kernels::Error),
    /// A GPU was asked of an executable that knows none.
    #[error("this executable was built without CUDA")]
    NoCuda,
    /// An option is out of range.
    #[error("{option} {why}")]
    Config {
        /// The option, as it is typed.
        option: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The run folder is taken, or is not there.
    #[error("{}: {why}", path.display())]
    Run {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What to do.
        hint: String,
    },
    /// A row holds what the model cannot take.
    #[error("{}: row {row}: {why}", path.display())]
    Row {
        /// The shard.
        path: PathBuf,
        /// The row in the shard.
        row: u64,
        /// What is wrong.
        why: String,
    },
    /// The loss or the gradient is not a number any more.
    #[error(
        "step {step}: the norm of the gradient is {norm}, and no step could be made {in_a_row} times in a row; {rows}"
    )]
    NonFinite {
        /// The last step that was tried.
        step: u64,
        /// How many are borne.
        in_a_row: u64,
        /// The norm.
        norm: f64,
        /// What is known of the rows of that step.
        rows: String,
        /// The best model that was measured, or the newest where none was.
        model: Option<PathBuf>,
    },
    /// A model has no finite loss.
    #[error("{}: its loss is no finite number: its training has diverged", model.display())]
    NoLoss {
        /// Its folder.
        model: PathBuf,
    },
    /// The model is not worth keeping any more: no checkpoint is made of it.
    #[error("step {step}: {why}: no checkpoint was written of that")]
    Broken {
        /// Steps made.
        step: u64,
        /// What is wrong with it.
        why: String,
        /// The best model that was measured, or the newest where none was.
        model: Option<PathBuf>,
    },
    /// The variables of a launcher do not say which process of how many this is.
    #[error("{variable} {why}")]
    Launch {
        /// The variable, or the variables.
        variable: String,
        /// What was found, and what is expected.
        why: String,
    },
    /// The processes of a run did not come together.
    #[error("rank {rank} of {world_size} at {address}: {why}")]
    Rendezvous {
        /// This process.
        rank: usize,
        /// Processes.
        world_size: usize,
        /// Where rank 0 listens.
        address: String,
        /// What went wrong.
        why: String,
    },
    /// Another process of the run is gone, or has failed.
    #[error("rank {rank} {why}")]
    Rank {
        /// That process.
        rank: usize,
        /// What became of it.
        why: String,
    },
    /// A pickle asks to import what no tensor needs. Nothing was run.
    #[error("{}: asks to run {name}: refused, nothing was run", path.display())]
    Import {
        /// The file.
        path: PathBuf,
        /// What it asks for.
        name: String,
    },
    /// A way back was asked for that no way forward led to.
    #[error("encode_backward was called without encode")]
    NotEncoded,
    /// The feed stopped.
    #[error("the feed stopped without saying why")]
    FeedStopped,
}

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

const DAMAGED: &str = "the checkpoint is damaged: delete its folder, and --resume goes on from the one before it, if there is one";

/// What to do after training has diverged; `model` is the best that was measured, or the newest.
fn begin_again(model: Option<&Path>) -> String {
    let with = "begin another run with a smaller --learning-rate or a longer --warmup-steps";
    match model {
        Some(model) => {
            let what = match model.ends_with(crate::checkpoint::BEST) {
                true => "is the best model that this one had",
                false => {
                    "is what this one had come to: measure it with `cloze eval` before you go on from it"
                }
            };
            format!("{with}; {} {what}", model.display())
        }
        None => with.into(),
    }
}

/// Whether a file is one of a checkpoint in a run's folder.
fn in_checkpoint(path: &Path) -> bool {
    let folders = path.components().map(|c| c.as_os_str());
    folders
        .into_iter()
        .any(|c| c == crate::checkpoint::CHECKPOINTS)
}

impl Error {
    /// What a person can do about it, where there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Shard(cloze_shard::Error::Io { path, source })
                if source.kind() == std::io::ErrorKind::NotFound && in_checkpoint(path) =>
            {
                Some(DAMAGED.into())
            }
            Self::Shard(e) => e.hint(),
            Self::Mismatch { hint, .. } | Self::Labels { hint, .. } | Self::Mixture { hint, .. } | Self::Run { hint, .. } => Some(hint.clone()),
            Self::ModelConfig { .. } => Some("give the config.json of a BERT model".into()),
            Self::Checkpoint { path, .. } if in_checkpoint(path) => Some(DAMAGED.into()),
            Self::Checkpoint { .. } => Some("give a Hugging Face folder with config.json and model.safetensors or pytorch_model.bin".into()),
            Self::NonFinite { rows, model, .. } => {
                // Where no row has a finite loss, it is not the rows.
                let rows = match rows.contains(" row ") && !rows.starts_with("none of") {
                    true => "look at the rows that are named; if nothing is wrong with them, ",
                    false => "",
                };
                Some(format!("{rows}{}", begin_again(model.as_deref())))
            }
            Self::NoLoss { .. } => Some("give an earlier model, such as RUN/best, or train with a smaller --learning-rate".into()),
            Self::Broken { model, .. } => Some(begin_again(model.as_deref())),
            Self::Row { .. } => Some("run `cloze verify` on the dataset".into()),
            Self::NoCuda => Some(
                "build it with `cargo build --release -p cloze-train-bin --features cuda`, or give --device cpu"
                    .into(),
            ),
            Self::Device(e) => e.hint(),
            Self::Launch { .. } => Some(
                "start all processes by torchrun --no-python, srun or mpirun, or one process without these variables"
                    .into(),
            ),
            Self::Rendezvous { .. } => Some(
                "every process needs the same MASTER_ADDR and MASTER_PORT, which no other job uses, the same options and the same cloze-train"
                    .into(),
            ),
            Self::Rank { rank, .. } => Some(format!(
                "look at what rank {rank} said; --resume goes on from the newest checkpoint"
            )),
            Self::Import { .. } => Some(
                "give a file of tensors alone: where its origin is trusted, transformers' save_pretrained writes model.safetensors".into(),
            ),
            Self::Config { option, .. } => Some(format!("give another {option}, or leave it out: see --help")),
            Self::Engine(_) | Self::FeedStopped | Self::NotEncoded => None,
        }
    }
}
