//! How long it takes.

use std::io::BufRead;
use std::path::PathBuf;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use clap::Args;
use cloze_shard::Dataset;
use cloze_shard::masking::MaskingRule;
use cloze_train::BertConfig;
use cloze_train::batch::MaskedBatch;
use cloze_train::checkpoint::initial_parameters;
use cloze_train::engine::{Dropout, Engine, EngineState, Optimizer, OptimizerStep, Whole};
use cloze_train::feed::Feed;
use serde_json::json;

use crate::device::{Place, say};

/// The usual sizes of BERT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Model {
    /// Two layers, hidden size 128: to see that everything runs
    Tiny,
    /// MiniLM-L6-H384
    Minilm,
    /// BERT-base
    Base,
    /// BERT-large
    Large,
}

impl Model {
    /// Hidden size, layers, heads.
    fn sizes(self) -> (usize, usize, usize) {
        match self {
            Self::Tiny => (128, 2, 2),
            Self::Minilm => (384, 6, 12),
            Self::Base => (768, 12, 12),
            Self::Large => (1_024, 24, 16),
        }
    }

    fn config(self, vocab_size: usize) -> anyhow::Result<BertConfig> {
        let (hidden, layers, heads) = self.sizes();
        let json = json!({
            "model_type": "bert", "vocab_size": vocab_size, "hidden_size": hidden, "num_hidden_layers": layers,
            "num_attention_heads": heads, "intermediate_size": 4 * hidden, "max_position_embeddings": 512
        });
        BertConfig::parse(&json.to_string()).map_err(anyhow::Error::msg)
    }
}

/// A model and a step's size.
#[derive(Debug, Args)]
pub struct Shape {
    /// Which model
    #[arg(long, default_value = "base")]
    model: Model,
    /// Tokens of a step
    #[arg(long, default_value_t = 65_536)]
    tokens: usize,
    /// Tokens of a row
    #[arg(long, default_value_t = 128)]
    length: usize,
    /// Entries of the vocabulary
    #[arg(long, default_value_t = 30_522)]
    vocab_size: usize,
}

#[derive(Debug, Args)]
pub struct Throughput {
    /// Which model
    #[arg(long, default_value = "base")]
    model: Model,
    /// Tokens of a step
    #[arg(long, default_value_t = 65_536)]
    tokens: usize,
    /// The dataset's folder
    #[arg(long)]
    dataset: PathBuf,
    /// Seconds of a burst
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Bursts, without waiting for lines; 0 for one at each line
    #[arg(long, default_value_t = 0)]
    bursts: usize,
}

fn state(config: &BertConfig) -> EngineState {
    EngineState::initial(initial_parameters(config, 0))
}

fn step(number: u64) -> OptimizerStep {
    OptimizerStep {
        step: number,
        learning_rate: 1e-4,
        weight_decay: 0.01,
        betas: (0.9, 0.999),
        eps: 1e-8,
        clip: 1.0,
        layer_decay: 1.0,
        optimizer: Optimizer::AdamW,
    }
}

fn dropout(number: u64) -> Dropout {
    Dropout {
        seed: 0,
        step: number,
        hidden: 0.1,
        attention: 0.1,
    }
}

fn one_step(engine: &mut dyn Engine, batch: &MaskedBatch, number: u64) -> anyhow::Result<()> {
    engine.accumulate(batch, &Whole::of(batch), Some(&dropout(number)))?;
    Ok(engine.step(&step(number))?)
}

/// Bursts of training from real shards, fed as training is.
pub fn throughput(place: Place, args: &Throughput) -> anyhow::Result<bool> {
    let dataset = Dataset::open(&args.dataset)?;
    let vocab_size = dataset.manifest().tokenizer.vocab_size;
    let config = args.model.config(vocab_size)?;
    let mut engine = place.engine(&config, state(&config))?;
    let split = dataset
        .split("train")
        .ok_or_else(|| anyhow::anyhow!("no training rows"))?;
    let rule = MaskingRule::default();
    let mut feed = Feed::new(&dataset, split, rule, 0, args.tokens, vocab_size)?;
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel(2);
        scope.spawn(move || {
            while let Ok(Some(batch)) = feed.next_batch() {
                if send.send(batch).is_err() {
                    return;
                }
            }
        });
        let mut number = 0;
        let mut burst = |seconds: f64, least: u64| -> anyhow::Result<_> {
            let (started, mut waited, mut tokens, mut steps) = (Instant::now(), 0.0, 0, 0u64);
            while started.elapsed().as_secs_f64() < seconds || steps < least {
                let asked = Instant::now();
                let batch: MaskedBatch = receive.recv()?;
                waited += asked.elapsed().as_secs_f64();
                number += 1;
                steps += 1;
                tokens += batch.tokens();
                one_step(engine.as_mut(), &batch, number)?;
                // Waits for the device now and then, as a trainer that writes a log does.
                if steps.is_multiple_of(10) {
                    engine.outcome()?;
                }
            }
            let loss = engine.outcome()?.loss.total();
            Ok((started.elapsed().as_secs_f64(), waited, tokens, steps, loss))
        };
        burst(0.0, 4)?;
        say(&json!({"check": "ready"}));
        let mut lines = std::io::stdin().lock().lines();
        for number in 1.. {
            if args.bursts > 0 && number > args.bursts {
                break;
            }
            if args.bursts == 0 && lines.next().transpose()?.is_none() {
                break;
            }
            let (seconds, waited, tokens, steps, loss) = burst(args.seconds, 1)?;
            say(&json!({
                "check": "throughput", "format": place.precision.name(), "model": format!("{:?}", args.model).to_lowercase(),
                "tokens_per_second": tokens as f64 / seconds, "step_ms": seconds * 1e3 / steps as f64, "steps": steps,
                "tokens_per_step": tokens as f64 / steps as f64, "data_wait_fraction": waited / seconds, "loss": loss
            }));
        }
        Ok(true)
    })
}

#[cfg(feature = "cuda")]
mod gpu {
    use cloze_kernels::Ops;
    use cloze_kernels::cuda::machine::Machine;
    use cloze_shard::NextSentenceLabel;
    use cloze_shard::random::{Key, Stage};
    use cloze_train::engine::Objective;
    use cloze_train::native::NativeEngine;

    use super::*;

    /// Rows of one length, words drawn at random, 15 % masked.
    fn batch(shape: &Shape) -> MaskedBatch {
        let mut stream = Key::new(1, Stage::Sample).stream(0, 0);
        let mut word = || 1_000 + stream.below(shape.vocab_size as u64 - 1_000) as u32;
        let mut batch = MaskedBatch::new();
        let positions: Vec<u16> = (1..shape.length as u16).step_by(7).collect();
        while batch.tokens() + shape.length <= shape.tokens {
            let ids: Vec<u32> = (0..shape.length).map(|_| word()).collect();
            let labels: Vec<u32> = positions.iter().map(|_| word()).collect();
            let label = if batch.rows().is_multiple_of(2) {
                NextSentenceLabel::IsNext
            } else {
                NextSentenceLabel::NotNext
            };
            batch.push(&ids, shape.length / 2, Some(label), &positions, &labels);
        }
        batch
    }

    fn ready(
        place: Place,
        shape: &Shape,
    ) -> anyhow::Result<(
        NativeEngine<cloze_kernels::cuda::Cuda<cloze_kernels::cuda::driver::Device>>,
        MaskedBatch,
    )> {
        let config = shape.model.config(shape.vocab_size)?;
        let engine = NativeEngine::new(place.cuda()?, &config, Objective::MlmNsp, state(&config))?;
        Ok((engine, batch(shape)))
    }

    pub fn products(place: Place, shape: &Shape) -> anyhow::Result<bool> {
        let (mut engine, batch) = ready(place, shape)?;
        one_step(&mut engine, &batch, 1)?;
        engine.outcome()?;
        for line in engine.ops().machine().algorithms() {
            say(&json!({"check": "product", "format": place.precision.name(), "line": line}));
        }
        Ok(true)
    }

    pub fn stages(place: Place, shape: &Shape) -> anyhow::Result<bool> {
        let (mut engine, batch) = ready(place, shape)?;
        let name = engine.ops().describe();
        for number in 1..=6 {
            one_step(&mut engine, &batch, number)?;
        }
        engine.outcome()?;
        let mut times = Vec::new();
        for number in 7..=26 {
            let started = Instant::now();
            one_step(&mut engine, &batch, number)?;
            engine.outcome()?;
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        engine.ops().machine().profile_start();
        one_step(&mut engine, &batch, 27)?;
        engine.outcome()?;
        let mut stages = engine.ops().machine().profile_stop();
        stages.sort_by(|a, b| b.2.total_cmp(&a.2));
        let sum: f64 = stages.iter().map(|s| s.2).sum();
        for (stage, calls, ms) in stages {
            say(&json!({"check": "stage", "stage": stage, "calls": calls, "ms": ms}));
        }
        let peak = engine.ops().machine().peak();
        say(&json!({
            "check": "step", "device": name, "model": format!("{:?}", shape.model).to_lowercase(), "tokens": batch.tokens(),
            "length": shape.length, "masked": batch.masked_positions.len(), "format": place.precision.name(),
            "step_ms": times[times.len() / 2], "least_ms": times[0], "most_ms": times[times.len() - 1], "sum_of_stages_ms": sum,
            "tokens_per_second": batch.tokens() as f64 / times[times.len() / 2] * 1e3, "peak_bytes": peak
        }));
        engine.ops().machine().wait()?;
        Ok(true)
    }
}

#[cfg(feature = "cuda")]
pub use gpu::{products, stages};

#[cfg(not(feature = "cuda"))]
pub fn products(_: Place, shape: &Shape) -> anyhow::Result<bool> {
    let _ = (shape.model, shape.tokens, shape.length, shape.vocab_size);
    Err(crate::device::without())
}

#[cfg(not(feature = "cuda"))]
pub fn stages(place: Place, shape: &Shape) -> anyhow::Result<bool> {
    products(place, shape)
}
