//! Times whole training steps on rows of a dataset, and prints one JSON line.
//!
//!     cargo run --release -p cloze-train --example step_bench -- DATASET minilm|base|large f32|bf16 [native|reference] [TOKENS] [STEPS]

use std::path::Path;
use std::time::Instant;

use cloze_shard::Dataset;
use cloze_shard::masking::MaskingRule;
use cloze_train::BertConfig;
use cloze_train::checkpoint::initial_parameters;
use cloze_train::device::{Build, DeviceChoice, build};
use cloze_train::engine::{
    Dropout, EngineKind, EngineState, Objective, Optimizer, OptimizerStep, Precision, Whole,
};
use cloze_train::feed::Feed;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let word = |i: usize, default: &str| arguments.get(i).map_or(default.to_owned(), Clone::clone);
    let dataset = Dataset::open(Path::new(&word(0, "data")))?;
    let (hidden, layers, heads) = match word(1, "minilm").as_str() {
        "minilm" => (384, 6, 12),
        "base" => (768, 12, 12),
        "large" => (1024, 24, 16),
        other => return Err(format!("{other}: minilm, base or large").into()),
    };
    let precision = match word(2, "f32").as_str() {
        "bf16" => Precision::Bf16,
        _ => Precision::F32,
    };
    let kind = match word(3, "native").as_str() {
        "reference" => EngineKind::Reference,
        _ => EngineKind::Native,
    };
    let (tokens, steps): (usize, u64) = (word(4, "2560").parse()?, word(5, "8").parse()?);
    let vocab_size = dataset.manifest().tokenizer.vocab_size;
    let config = BertConfig::parse(
        &serde_json::json!({
            "model_type": "bert", "vocab_size": vocab_size, "hidden_size": hidden, "num_hidden_layers": layers,
            "num_attention_heads": heads, "intermediate_size": 4 * hidden, "max_position_embeddings": 512
        })
        .to_string(),
    )?;
    let state = EngineState::initial(initial_parameters(&config, 0));
    let build_of = Build {
        engine: kind,
        device: DeviceChoice::Cpu,
        precision: Some(precision),
        ..Build::default()
    };
    let mut engine = build(build_of, &config, Objective::MlmNsp, state)?.engine;
    let split = dataset.split("train").ok_or("no training rows")?;
    let mut feed = Feed::new(
        &dataset,
        split,
        MaskingRule::default(),
        0,
        tokens,
        vocab_size,
    )?;
    let warmup = 2;
    let (mut seconds, mut counts, mut loss) = (Vec::new(), Vec::new(), 0.0);
    for step in 1..=steps + warmup {
        let started = Instant::now();
        let batch = feed.next_batch()?.ok_or("no rows")?;
        let dropout = Dropout {
            seed: 0,
            step,
            hidden: 0.1,
            attention: 0.1,
        };
        engine.accumulate(&batch, &Whole::of(&batch), Some(&dropout))?;
        engine.step(&OptimizerStep {
            step,
            learning_rate: 1e-4,
            weight_decay: 0.01,
            betas: (0.9, 0.999),
            eps: 1e-8,
            clip: 1.0,
            layer_decay: 1.0,
            optimizer: Optimizer::AdamW,
        })?;
        loss = engine.outcome()?.loss.total();
        if step > warmup {
            seconds.push(started.elapsed().as_secs_f64());
            counts.push(batch.tokens());
        }
    }
    let rate = counts.iter().sum::<usize>() as f64 / seconds.iter().sum::<f64>();
    let line = serde_json::json!({
        "engine": engine.describe(), "model": word(1, "minilm"), "tokens": counts, "seconds": seconds,
        "tokens_per_second": rate, "loss": loss
    });
    println!("{line}");
    Ok(())
}
