//! `cargo xtask demo`: the whole road on a small corpus of our own, every command shown as it is typed.

use std::fs;
use std::time::Instant;

use serde_json::json;

use crate::demo_corpus;
use crate::steps::{executable, root, run_built, run_program};

/// A BERT that learns something in a minute on two cores.
fn small_bert(vocab_size: usize) -> String {
    let config = json!({
        "model_type": "bert", "architectures": ["BertForPreTraining"], "vocab_size": vocab_size,
        "hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 384,
        "max_position_embeddings": 64, "type_vocab_size": 2, "hidden_act": "gelu", "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0, "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 0
    });
    format!("{config:#}\n")
}

pub fn run(profile: &str) -> Result<(), String> {
    let packages = ["--package", "cloze", "--package", "cloze-train-bin"];
    run_cargo(profile, &packages)?;
    let started = Instant::now();
    let out = root().join("target/demo");
    let io = |e: std::io::Error| format!("{}: {e}", out.display());
    if out.exists() {
        fs::remove_dir_all(&out).map_err(io)?;
    }
    fs::create_dir_all(&out).map_err(io)?;
    let (documents, bytes) = demo_corpus::write(&out.join("corpus")).map_err(io)?;
    println!(
        "\ntarget/demo/corpus: {documents} documents, {:.1} MB, made up by this program",
        bytes as f64 / 1e6
    );

    let cloze = executable(profile, "cloze");
    let say = |text: &str| println!("\n── {text}");
    let step = |line: &str| run_built(&cloze, &line.split_whitespace().collect::<Vec<_>>());
    say(
        "Learn a vocabulary from the text (with a checkpoint of your own, use its tokenizer instead)",
    );
    step("vocab train target/demo/corpus --vocab-size 1200 --out target/demo/tokenizer")?;
    say("Turn the text into rows: sentence pairs, tokenized, shuffled, checked");
    step(
        "prepare target/demo/corpus --tokenizer target/demo/tokenizer --seq-len 64 --validation-fraction 0.03 \
         --out target/demo/data",
    )?;
    say("Look at them");
    step("inspect target/demo/data --rows 2")?;
    say("Check them against the text they were made from");
    step("verify target/demo/data --source target/demo/corpus")?;
    say("Train a small BERT from scratch: both losses fall");
    fs::write(out.join("config.json"), small_bert(vocabulary_size(&out)?)).map_err(io)?;
    step(
        "pretrain target/demo/data --config target/demo/config.json --steps 700 --batch-tokens 2048 \
         --learning-rate 2e-3 --warmup-steps 70 --eval-every 175 --eval-rows 300 --log-every 35 --out target/demo/run",
    )?;
    say("Measure it on text it has not seen");
    step("eval target/demo/data --model target/demo/run/model --split validation")?;
    println!(
        "\nDone in {} s. The dataset is target/demo/data, the model target/demo/run/model: a folder that \
         transformers loads\n(BertForPreTraining.from_pretrained). The executables are {}.\n\nYour own text next:\n  \
         cloze prepare YOUR_TEXT/ --tokenizer YOUR_BERT/ --out data\n  cloze pretrain data --init YOUR_BERT/ --out run",
        started.elapsed().as_secs(),
        cloze.parent().unwrap_or(&cloze).display()
    );
    Ok(())
}

fn run_cargo(profile: &str, packages: &[&str]) -> Result<(), String> {
    run_program(
        "cargo",
        &[&["build", "--profile", profile], packages].concat(),
    )
}

/// Entries that the trained vocabulary has: as many as the text gave.
fn vocabulary_size(out: &std::path::Path) -> Result<usize, String> {
    let path = out.join("tokenizer/vocab.txt");
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(text.lines().count())
}
