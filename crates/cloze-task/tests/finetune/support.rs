//! A tiny model in a folder, and toy tasks.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use cloze_shard::random::{Key, Stage, Stream};
use cloze_task::data::{Data, Fields};
use cloze_task::finetune::{Evaluation, FinetuneConfig, Observer, Results, StepDone, finetune};
use cloze_train::checkpoint::initial_parameters;
use cloze_train::parameters::Layout;
use cloze_train::{BertConfig, Build, DeviceChoice};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize};
use serde_json::{Value, json};

/// Words whose tokens are one piece each; `##s` makes two of some others.
pub const WORDS: [&str; 12] = [
    "red", "green", "blue", "dog", "cat", "cow", "the", "a", "is", "of", "and", "##s",
];

/// The configuration of the tiny model.
pub fn shape() -> Value {
    json!({
        "model_type": "bert", "vocab_size": 5 + WORDS.len(), "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 64, "max_position_embeddings": 32, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.2, "pad_token_id": 0
    })
}

/// Writes a Hugging Face folder of the tiny model, with the tensors that `keep` wants.
pub fn model(
    folder: &Path,
    shape: &Value,
    heads: &[(&str, usize)],
    keep: impl Fn(&str) -> bool,
) -> PathBuf {
    let path = folder.join("model");
    fs::create_dir_all(&path).unwrap();
    let mut config = BertConfig::parse(&shape.to_string()).unwrap();
    let h = config.hidden_size;
    for (name, n) in heads {
        config.heads.push((format!("{name}.weight"), vec![*n, h]));
        config.heads.push((format!("{name}.bias"), vec![*n]));
    }
    let values = initial_parameters(&config, 1);
    let layout = Layout::new(&config);
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let views = (layout.parameters().iter())
        .filter(|p| keep(&p.name))
        .map(|p| {
            let bytes = &bytes[p.offset * 4..(p.offset + p.len()) * 4];
            (
                p.name.clone(),
                TensorView::new(Dtype::F32, p.shape.clone(), bytes).unwrap(),
            )
        });
    let file = serialize(views, None::<HashMap<String, String>>).unwrap();
    fs::write(path.join("model.safetensors"), file).unwrap();
    fs::write(path.join("config.json"), shape.to_string()).unwrap();
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let tokens: Vec<&str> = special.into_iter().chain(WORDS).collect();
    fs::write(path.join("vocab.txt"), tokens.join("\n") + "\n").unwrap();
    path
}

/// The tiny model as it comes out of pre-training.
pub fn plain(folder: &Path) -> PathBuf {
    model(folder, &shape(), &[], |_| true)
}

/// A text, its colour and its animal.
pub fn texts(n: usize, seed: u64) -> impl Iterator<Item = (String, usize, usize)> {
    let mut stream = Key::new(seed, Stage::Sample).stream(0, 0);
    (0..n).map(move |_| {
        let (colour, animal) = (stream.below(3) as usize, stream.below(3) as usize);
        let filler = |s: &mut Stream| {
            let n = s.below(4);
            (0..n)
                .map(|_| WORDS[6 + s.below(5) as usize].to_owned() + " ")
                .collect::<String>()
        };
        let (x, y) = (filler(&mut stream), filler(&mut stream));
        (
            format!("{x}{} {y}{}s", WORDS[colour], WORDS[3 + animal]),
            colour,
            animal,
        )
    })
}

/// Writes rows, an object a line.
pub fn lines(path: &Path, rows: impl IntoIterator<Item = Value>) -> PathBuf {
    let text: String = rows.into_iter().map(|row| format!("{row}\n")).collect();
    fs::write(path, text).unwrap();
    path.into()
}

/// The colour of a text as its label.
pub fn colours(path: &Path, n: usize, seed: u64) -> PathBuf {
    let rows =
        texts(n, seed).map(|(text, colour, _)| json!({"text": text, "label": WORDS[colour]}));
    lines(path, rows)
}

/// Options that a toy task is learned with.
pub fn options() -> FinetuneConfig {
    FinetuneConfig {
        epochs: 8,
        batch_size: 16,
        learning_rate: 5e-3,
        ..FinetuneConfig::default()
    }
}

pub fn cpu() -> Build {
    Build {
        device: DeviceChoice::Cpu,
        ..Build::default()
    }
}

/// What was seen.
#[derive(Default)]
pub struct Seen {
    pub steps: Vec<StepDone>,
    pub evaluations: Vec<(Evaluation, bool)>,
    pub skipped: Vec<u64>,
    pub drawn: Vec<String>,
    pub redrawn: bool,
    /// Seeds that did not come to their end.
    pub cut: Vec<u64>,
    /// Asks to stop when it is asked for the nth time, from 1.
    pub stop_at: usize,
    pub asked: usize,
}

impl Observer for Seen {
    fn on_start(&mut self, started: &cloze_task::finetune::Started<'_>) {
        self.drawn.clone_from(&started.report.initialised);
        self.redrawn = started.redrawn;
    }

    fn on_step(&mut self, step: &StepDone) {
        self.steps.push(*step);
    }

    fn on_evaluation(&mut self, evaluation: &Evaluation, best: bool) {
        self.evaluations.push((evaluation.clone(), best));
    }

    fn on_cut(&mut self, cut: &cloze_task::finetune::Cut, _: &cloze_task::Error) {
        self.cut.push(cut.seed);
    }

    fn should_stop(&mut self) -> bool {
        self.asked += 1;
        self.asked == self.stop_at
    }

    fn on_skipped(&mut self, step: u64, _: u64) {
        self.skipped.push(step);
    }
}

/// Reads the files (train, dev, test; the latter two where they are there) and trains.
pub fn run(
    model: &Path,
    files: &[&Path],
    out: &Path,
    options: &FinetuneConfig,
    seen: &mut Seen,
) -> cloze_task::Result<Results> {
    run_on(cpu(), model, files, out, options, seen)
}

/// As [`run`], on another engine.
pub fn run_on(
    build: Build,
    model: &Path,
    files: &[&Path],
    out: &Path,
    options: &FinetuneConfig,
    seen: &mut Seen,
) -> cloze_task::Result<Results> {
    let data = Data::read(
        files[0],
        files.get(1).copied(),
        files.get(2).copied(),
        &Fields::default(),
        None,
    )?;
    finetune(model, &data, out, options, build, seen)
}

/// A metric of the first seed's best model on the test examples.
pub fn test_metric(results: &Results, name: &str) -> f64 {
    let metrics = results.seeds[0].test.as_ref().unwrap();
    metrics.iter().find(|m| m.0 == name).unwrap().1.unwrap()
}
