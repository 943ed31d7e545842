//! What the trainer needs, beside the weights, to go on as if it had never stopped.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use cloze_shard::atomic;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use super::{CHECKPOINTS, CONFIG, STATE_FOLDER};
use crate::config::LONGEST_JSON;
use crate::engine::EngineState;
use crate::feed::Position;
use crate::parameters::Layout;
use crate::{BertConfig, Error, PretrainConfig, Result};

/// `trainer_state/state.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainerState {
    /// Steps that have been made.
    pub step: u64,
    /// Where the feed goes on.
    pub position: Position,
    /// Tokens trained on.
    pub tokens: u64,
    /// Digest of the dataset's manifest; of several those of all, in their order.
    pub dataset: String,
    /// What the run was started with.
    pub config: PretrainConfig,
    /// Steps that were not made, because their gradient was not finite.
    #[serde(default)]
    pub skipped: u64,
    /// As many of the last steps.
    #[serde(default)]
    pub skipped_in_a_row: u64,
    /// The best evaluation so far, after a step.
    #[serde(default)]
    pub best: Option<Best>,
    /// Whether the evaluation after `step` is still to be made: the run was stopped before it, or in it.
    #[serde(default)]
    pub evaluation_due: bool,
    /// Of the clock, in all processes that the run went on in: evaluations and checkpoints too.
    #[serde(default)]
    pub seconds: f64,
}

/// `trainer_state/state.json` whole: with the digests of the checkpoint's other files, which bind them.
#[derive(Serialize, Deserialize)]
pub(super) struct StateFile<T> {
    #[serde(flatten)]
    pub trainer: T,
    /// By path in the checkpoint, hexadecimal.
    #[serde(default)]
    pub blake3: BTreeMap<String, String>,
}

/// An evaluation that was better than all before it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The step after which it was made.
    pub step: u64,
    /// The weighted sum of its losses.
    pub loss: f64,
}

pub(super) const STATE_FILE: &str = "state.json";
pub(super) const ARENAS_FILE: &str = "optimizer.safetensors";

/// The newest checkpoint of `run`, if there is one.
pub fn latest(run: &Path) -> Result<Option<PathBuf>> {
    Ok(all(run)?.pop())
}

/// All checkpoints of `run`, oldest first. A checkpoint appears by rename, so each that is there is whole. One that was about to be written again when the
/// process was killed is there as `.step-NNNNNNNN.old`.
pub(crate) fn all(run: &Path) -> Result<Vec<PathBuf>> {
    let folder = run.join(CHECKPOINTS);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => {
            return Err(Error::Run {
                path: run.into(),
                why: "is not the folder of a run".into(),
                hint: "give --out a folder, or a path where there is nothing yet".into(),
            });
        }
        Err(e) => return Err(cloze_shard::Error::io(&folder)(e).into()),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(cloze_shard::Error::io(&folder))?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let aside = name.strip_prefix('.').and_then(|n| n.strip_suffix(".old"));
        let step = aside.unwrap_or(&name).strip_prefix("step-");
        if let Some(step) = step.and_then(|n| n.parse::<u64>().ok()) {
            found.push((step, aside.is_some(), path));
        }
    }
    found.sort();
    // Where there are both, the new one is whole.
    found.dedup_by_key(|(step, ..)| *step);
    Ok(found.into_iter().map(|(.., path)| path).collect())
}

/// Puts the newest checkpoints of `run` aside, under the name `step-NNNNNNNN.damaged`, as long as they are damaged and there is one before them. Returns
/// them, with what is wrong with each.
pub fn set_damaged_aside(run: &Path) -> Result<Vec<(PathBuf, Error)>> {
    let mut all = all(run)?;
    let mut damaged = Vec::new();
    while all.len() > 1 {
        let Some(newest) = all.pop() else { break };
        let Err(error) = read_state(&newest) else {
            break;
        };
        let mut name = newest.file_name().unwrap_or_default().to_owned();
        name.push(".damaged");
        let aside = newest.with_file_name(name);
        fs::rename(&newest, &aside).map_err(cloze_shard::Error::io(&aside))?;
        damaged.push((aside, error));
    }
    Ok(damaged)
}

/// Reads how far `checkpoint` came, and what was asked for.
pub fn read_trainer(checkpoint: &Path) -> Result<TrainerState> {
    Ok(read_state_file(checkpoint)?.trainer)
}

fn read_state_file(checkpoint: &Path) -> Result<StateFile<TrainerState>> {
    let path = checkpoint.join(STATE_FOLDER).join(STATE_FILE);
    let text = cloze_shard::read_small(&path, LONGEST_JSON)?;
    serde_json::from_str(&text).map_err(|e| Error::Checkpoint {
        path,
        why: format!("not a trainer state: {e}"),
    })
}

/// Reads the state in `checkpoint`, all of whose files must be as they were written.
pub fn read_state(checkpoint: &Path) -> Result<(TrainerState, EngineState)> {
    let file = read_state_file(checkpoint)?;
    for (name, written) in &file.blake3 {
        let path = checkpoint.join(name);
        let mut parts = Path::new(name).components();
        if !parts.all(|part| matches!(part, Component::Normal(_))) {
            let why = "is no file of this checkpoint".into();
            return Err(Error::Checkpoint { path, why });
        }
        cloze_shard::regular_file(&path)?;
        let found = atomic::digest(&path)?.blake3;
        if found != *written {
            let why = format!("was changed after it was written: blake3 {found}, was {written}");
            return Err(Error::Checkpoint { path, why });
        }
    }
    let state = file.trainer;
    let path = checkpoint.join(STATE_FOLDER).join(ARENAS_FILE);
    cloze_shard::regular_file(&path)?;
    let bytes = fs::read(&path).map_err(cloze_shard::Error::io(&path))?;
    let fail = |why: String| Error::Checkpoint {
        path: path.clone(),
        why,
    };
    let tensors = SafeTensors::deserialize(&bytes)
        .map_err(|e| fail(format!("not a whole safetensors file: {e}")))?;
    let read = |name: &str| -> Result<Vec<f32>> {
        let view = tensors.tensor(name).map_err(|e| fail(e.to_string()))?;
        Ok(view
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect())
    };
    let expected = Layout::new(&BertConfig::read(&checkpoint.join(CONFIG))?).len();
    let engine = EngineState {
        parameters: read("parameters")?,
        first_moment: read("first_moment")?,
        second_moment: read("second_moment")?,
    };
    for arena in [
        &engine.parameters,
        &engine.first_moment,
        &engine.second_moment,
    ] {
        if arena.len() != expected {
            return Err(fail(format!(
                "holds {} numbers, config.json asks for {expected}",
                arena.len()
            )));
        }
    }
    Ok((state, engine))
}
