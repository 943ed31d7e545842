//! What is written: a Hugging Face folder with the results beside the weights. It appears whole, under its name, or not at all.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use cloze_shard::atomic;
use cloze_text::Tokenizer;
use cloze_train::BertConfig;
use cloze_train::checkpoint::{CONFIG, WEIGHTS};
use cloze_train::parameters::Layout;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize};
use serde_json::{Map, Value, json};

use super::Results;
use super::run::Outcome;
use crate::data::{Data, Task, TaskKind};
use crate::{Error, Result};

const RESULTS: &str = "results.json";
const PREDICTIONS: &str = "predictions.jsonl";

/// Sees that `out` can be written, before anything else is done: it is not there, or empty, and what is beside it can be made.
pub fn prepare(out: &Path) -> Result<()> {
    refuse_taken(out)?;
    let partial = make_partial(out)?;
    Ok(fs::remove_dir(&partial).map_err(cloze_shard::Error::io(&partial))?)
}

fn refuse_taken(out: &Path) -> Result<()> {
    let taken = |why: &str| {
        Err(Error::Taken {
            path: out.into(),
            why: why.into(),
            option: "--out",
        })
    };
    if out.file_name().is_none() {
        return taken("has no name of its own");
    }
    match fs::read_dir(out) {
        Ok(entries) => match entries.count() {
            0 => Ok(()),
            _ => taken("holds files already"),
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => taken("is no folder"),
        Err(e) => Err(cloze_shard::Error::io(out)(e).into()),
    }
}

/// The folder that gets its name once it is whole, empty.
fn make_partial(out: &Path) -> Result<PathBuf> {
    let mut name = std::ffi::OsString::from(".");
    name.push(out.file_name().unwrap_or_default());
    name.push(".partial");
    let partial = out.with_file_name(name);
    match fs::remove_dir_all(&partial) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(cloze_shard::Error::io(&partial)(e).into());
        }
        _ => fs::create_dir_all(&partial).map_err(cloze_shard::Error::io(&partial))?,
    }
    Ok(partial)
}

/// Writes the kept model, its results and what it says about the test examples.
pub fn write(
    out: &Path,
    kept: &Outcome,
    data: &Data,
    tokenizer: &Tokenizer,
    results: &Results,
) -> Result<()> {
    refuse_taken(out)?;
    let partial = make_partial(out)?;
    let file = |name: &str, bytes: &[u8]| atomic::write(&partial.join(name), bytes);
    file(CONFIG, config(&kept.config, &data.task).as_bytes())?;
    file(WEIGHTS, &weights(&partial, kept, &data.task)?)?;
    for (name, bytes) in tokenizer.files() {
        file(name, bytes)?;
    }
    let json = |value: &Value| format!("{value:#}\n");
    let shown = serde_json::to_value(results).map_err(|e| Error::Model {
        path: partial.join(RESULTS),
        why: e.to_string(),
        hint: "this is a mistake in the program".into(),
    })?;
    file(RESULTS, json(&shown).as_bytes())?;
    if !kept.predictions.is_empty() {
        let lines = kept.predictions.iter().map(|p| {
            let line = json!({"row": p.row, "label": p.label, "prediction": p.prediction, "scores": p.scores});
            format!("{line}\n")
        });
        file(PREDICTIONS, lines.collect::<String>().as_bytes())?;
    }
    atomic::sync_folder(&partial)?;
    fs::rename(&partial, out).map_err(cloze_shard::Error::io(out))?;
    Ok(atomic::sync_folder(out.parent().unwrap_or(Path::new(".")))?)
}

/// The configuration, as transformers reads it for the task.
fn config(config: &BertConfig, task: &Task) -> String {
    let mut raw = config.raw.clone();
    let (architecture, problem) = match task.kind {
        TaskKind::Classification => (
            "BertForSequenceClassification",
            Some("single_label_classification"),
        ),
        TaskKind::Regression => ("BertForSequenceClassification", Some("regression")),
        TaskKind::MultiLabel => (
            "BertForSequenceClassification",
            Some("multi_label_classification"),
        ),
        TaskKind::TokenClassification => ("BertForTokenClassification", None),
    };
    raw.insert("architectures".into(), json!([architecture]));
    raw.insert("model_type".into(), "bert".into());
    let labels = match task.kind {
        TaskKind::Regression => vec!["LABEL_0".to_owned()],
        _ => task.labels.clone(),
    };
    let by_id = labels
        .iter()
        .enumerate()
        .map(|(i, l)| (i.to_string(), l.as_str().into()));
    raw.insert(
        "id2label".into(),
        Value::Object(by_id.collect::<Map<_, _>>()),
    );
    let by_label = labels
        .iter()
        .enumerate()
        .map(|(i, l)| (l.clone(), i.into()));
    raw.insert(
        "label2id".into(),
        Value::Object(by_label.collect::<Map<_, _>>()),
    );
    // It would have a say beside the labels.
    raw.shift_remove("num_labels");
    raw.shift_remove("problem_type");
    if let Some(problem) = problem {
        raw.insert("problem_type".into(), problem.into());
    }
    for name in ["torch_dtype", "dtype"] {
        if let Some(dtype) = raw.get_mut(name) {
            *dtype = "float32".into();
        }
    }
    format!("{:#}\n", Value::Object(raw))
}

/// The parameters that the architecture has.
fn weights(path: &Path, kept: &Outcome, task: &Task) -> Result<Vec<u8>> {
    let pooled = task.kind != TaskKind::TokenClassification;
    let layout = Layout::new(&kept.config);
    let belongs =
        |name: &str| !name.starts_with("cls.") && (pooled || !name.starts_with("bert.pooler."));
    let own: Vec<_> = layout
        .parameters()
        .iter()
        .filter(|p| belongs(&p.name))
        .collect();
    let bytes: Vec<Vec<u8>> = (own.iter())
        .map(|p| {
            kept.parameters[p.range()]
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect()
        })
        .collect();
    let fail = |e: safetensors::SafeTensorError| Error::Model {
        path: path.join(WEIGHTS),
        why: e.to_string(),
        hint: "this is a mistake in the program".into(),
    };
    let views = own.iter().zip(&bytes).map(|(p, bytes)| {
        Ok((
            p.name.clone(),
            TensorView::new(Dtype::F32, p.shape.clone(), bytes)?,
        ))
    });
    let views = views.collect::<Result<Vec<_>, _>>().map_err(fail)?;
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    serialize(views, Some(format)).map_err(fail)
}
