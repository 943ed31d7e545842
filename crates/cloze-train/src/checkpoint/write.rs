//! Writing a checkpoint: a folder that appears whole, under its name, or not at all.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use cloze_shard::atomic::{self, Written};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize};

use super::state::{ARENAS_FILE, STATE_FILE, StateFile, all};
use super::{BEST, CHECKPOINTS, CONFIG, MODEL, STATE_FOLDER, TrainerState, WEIGHTS};
use crate::config::OBJECTIVE;
use crate::engine::{EngineState, Objective};
use crate::parameters::Layout;
use crate::{BertConfig, Error, Result};

/// What a checkpoint is made of.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoint<'a> {
    /// The model's configuration.
    pub config: &'a BertConfig,
    /// Where each parameter lies.
    pub layout: &'a Layout,
    /// Parameters and moments.
    pub engine: &'a EngineState,
    /// Step, position, configuration.
    pub trainer: &'a TrainerState,
    /// The dataset's tokenizer folder, copied along.
    pub tokenizer: &'a Path,
}

/// Writes `run/checkpoints/step-NNNNNNNN`, makes it `run/model`, `run/best` too if it is
/// the best so far, and removes all checkpoints but the newest `keep` and the best.
pub fn write_checkpoint(run: &Path, checkpoint: &Checkpoint<'_>, keep: usize) -> Result<PathBuf> {
    let folder = run.join(CHECKPOINTS);
    make(&folder)?;
    let name = name_of(checkpoint.trainer.step);
    let partial = folder.join(format!(".{name}.partial"));
    remove(&partial)?;
    make(&partial)?;
    let mut blake3 = BTreeMap::new();
    let mut wrote = |name: String, written: Written| blake3.insert(name, written.blake3);
    write_model(&partial, checkpoint, &mut wrote)?;
    make(&partial.join(STATE_FOLDER))?;
    let arenas = format!("{STATE_FOLDER}/{ARENAS_FILE}");
    let written = write_arenas(&partial.join(&arenas), checkpoint)?;
    wrote(arenas, written);
    // Last: it binds the others.
    write_state(
        &partial.join(STATE_FOLDER).join(STATE_FILE),
        checkpoint,
        blake3,
    )?;
    let path = folder.join(&name);
    // A run that goes on writes the checkpoint of its first step again. Until the new one has its name, the old one stays, under another that readers know.
    let old = folder.join(format!(".{name}.old"));
    if path.exists() {
        remove(&old)?;
        rename(&path, &old)?;
    }
    rename(&partial, &path)?;
    atomic::sync_folder(&folder)?;
    remove(&old)?;
    publish(run, MODEL, &path)?;
    let best = checkpoint.trainer.best.map(|best| best.step);
    if best == Some(checkpoint.trainer.step) {
        publish(run, BEST, &path)?;
    }
    let best = best.map(|step| folder.join(name_of(step)));
    let mut old = all(run)?;
    old.truncate(old.len().saturating_sub(keep.max(1)));
    old.retain(|path| Some(path) != best.as_ref());
    old.iter().try_for_each(|path| remove(path))?;
    Ok(path)
}

/// Removes what a process that was killed while it wrote a checkpoint has left: nobody else removes it, and it is as large as one.
pub fn sweep(run: &Path) -> Result<()> {
    let folder = run.join(CHECKPOINTS);
    let Ok(entries) = fs::read_dir(&folder) else {
        return Ok(());
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let of = |end: &str| name.strip_prefix('.')?.strip_suffix(end);
        let is_left = of(".partial").is_some_and(|n| n.starts_with("step-"))
            || of(".old").is_some_and(|n| folder.join(n).is_dir());
        if is_left {
            remove(&path)?;
        }
    }
    Ok(())
}

fn name_of(step: u64) -> String {
    format!("step-{step:08}")
}

fn write_model(
    folder: &Path,
    checkpoint: &Checkpoint<'_>,
    wrote: &mut dyn FnMut(String, Written) -> Option<String>,
) -> Result<()> {
    let mut config = checkpoint.config.clone();
    // MLM alone leaves the head on pairs as it was, and with it what that head was trained for.
    let objective = checkpoint.trainer.config.objective;
    if objective != Objective::Mlm {
        let objective = serde_json::to_value(objective);
        config
            .raw
            .insert(OBJECTIVE.into(), objective.unwrap_or_default());
    }
    let config = config.to_json();
    let written = atomic::write(&folder.join(CONFIG), config.as_bytes())?;
    wrote(CONFIG.into(), written);
    let bytes = to_bytes(&checkpoint.engine.parameters);
    let views = checkpoint.layout.parameters().iter().map(|p| {
        let range = p.offset * 4..(p.offset + p.len()) * 4;
        (p.name.clone(), Dtype::F32, p.shape.clone(), &bytes[range])
    });
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let written = write_tensors(&folder.join(WEIGHTS), views, Some(format))?;
    wrote(WEIGHTS.into(), written);
    let tokenizer = checkpoint.tokenizer;
    for entry in fs::read_dir(tokenizer).map_err(cloze_shard::Error::io(tokenizer))? {
        let path = entry.map_err(cloze_shard::Error::io(tokenizer))?.path();
        if let Some(name) = path.file_name().filter(|_| path.is_file()) {
            let bytes = fs::read(&path).map_err(cloze_shard::Error::io(&path))?;
            let written = atomic::write(&folder.join(name), &bytes)?;
            wrote(name.to_string_lossy().into_owned(), written);
        }
    }
    Ok(())
}

fn write_state(
    path: &Path,
    checkpoint: &Checkpoint<'_>,
    blake3: BTreeMap<String, String>,
) -> Result<()> {
    let trainer = checkpoint.trainer;
    let file = StateFile { trainer, blake3 };
    let text = serde_json::to_string_pretty(&file).map_err(|e| Error::Checkpoint {
        path: path.into(),
        why: e.to_string(),
    })?;
    atomic::write(path, text.as_bytes())?;
    Ok(())
}

fn write_arenas(path: &Path, checkpoint: &Checkpoint<'_>) -> Result<Written> {
    let EngineState {
        parameters,
        first_moment,
        second_moment,
    } = checkpoint.engine;
    let arenas = [
        ("parameters", parameters),
        ("first_moment", first_moment),
        ("second_moment", second_moment),
    ];
    let bytes = arenas.map(|(name, values)| (name, to_bytes(values)));
    let views = bytes.iter().map(|(name, b)| {
        (
            (*name).to_owned(),
            Dtype::F32,
            vec![b.len() / 4],
            b.as_slice(),
        )
    });
    write_tensors(path, views, None)
}

fn write_tensors<'a>(
    path: &Path,
    tensors: impl Iterator<Item = (String, Dtype, Vec<usize>, &'a [u8])>,
    metadata: Option<HashMap<String, String>>,
) -> Result<Written> {
    let fail = |e: safetensors::SafeTensorError| Error::Checkpoint {
        path: path.into(),
        why: e.to_string(),
    };
    let views = tensors
        .map(|(name, dtype, shape, bytes)| Ok((name, TensorView::new(dtype, shape, bytes)?)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(fail)?;
    let bytes = serialize(views, metadata).map_err(fail)?;
    Ok(atomic::write(path, &bytes)?)
}

fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Makes `run/model` and `run/best` what they should be, where a process was stopped before it had: `newest` is the newest checkpoint of the run.
pub fn publish_again(run: &Path, newest: &Path, trainer: &TrainerState) -> Result<()> {
    publish(run, MODEL, newest)?;
    let best = trainer
        .best
        .map(|b| run.join(CHECKPOINTS).join(name_of(b.step)));
    match best.filter(|best| best.is_dir()) {
        Some(best) => publish(run, BEST, &best),
        None => Ok(()),
    }
}

/// Makes `run/NAME` the model of `checkpoint`: another name for the same files where the file system allows it.
fn publish(run: &Path, name: &str, checkpoint: &Path) -> Result<()> {
    let (next, model, old) = (
        run.join(format!(".{name}.next")),
        run.join(name),
        run.join(format!(".{name}.old")),
    );
    remove(&next)?;
    remove(&old)?;
    make(&next)?;
    for entry in fs::read_dir(checkpoint).map_err(cloze_shard::Error::io(checkpoint))? {
        let path = entry.map_err(cloze_shard::Error::io(checkpoint))?.path();
        if let Some(name) = path.file_name().filter(|_| path.is_file()) {
            let to = next.join(name);
            fs::hard_link(&path, &to)
                .or_else(|_| fs::copy(&path, &to).map(|_| ()))
                .map_err(cloze_shard::Error::io(&to))?;
        }
    }
    // Between the two renames there is none; the checkpoint it is made of is there throughout.
    if model.exists() {
        rename(&model, &old)?;
    }
    rename(&next, &model)?;
    remove(&old)?;
    Ok(atomic::sync_folder(run)?)
}

fn make(folder: &Path) -> Result<()> {
    Ok(fs::create_dir_all(folder).map_err(cloze_shard::Error::io(folder))?)
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    Ok(fs::rename(from, to).map_err(cloze_shard::Error::io(to))?)
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(cloze_shard::Error::io(folder)(e).into())
        }
        _ => Ok(()),
    }
}
