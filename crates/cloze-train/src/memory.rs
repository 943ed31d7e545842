//! Whether a step fits into the machine's memory: asked before training, since a process that takes too much is killed without a word.

use std::fs;
use std::path::Path;

use crate::native::room_bytes;
use crate::plan::PretrainConfig;
use crate::{BertConfig, Error, Result};

/// Refuses a step whose activations do not fit into what is free on the CPU's side.
///
/// `tokens` and `rows` are those of all training rows; a step is never more.
pub fn check(config: &PretrainConfig, model: &BertConfig, tokens: u64, rows: u64) -> Result<()> {
    let Some(free) = available() else {
        return Ok(());
    };
    let needed = needed(config, model, tokens, rows);
    if needed <= free {
        return Ok(());
    }
    let gigabytes = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
    Err(Error::Config {
        option: "--batch-tokens",
        why: format!(
            "is {}: computing so many at a time takes some {} of memory, {} are free; --pass-tokens {} computes a step in parts, with the same result",
            config.batch_tokens,
            gigabytes(needed),
            gigabytes(free),
            fitting(config, model, rows as f64 / tokens.max(1) as f64, free)
        ),
    })
}

fn needed(config: &PretrainConfig, model: &BertConfig, tokens: u64, rows: u64) -> u64 {
    let most = match config.pass_tokens {
        0 => config.batch_tokens,
        part => part.min(config.batch_tokens),
    };
    let at_a_time = (most as u64).min(tokens);
    let share = at_a_time as f64 / tokens.max(1) as f64;
    let rate = config.mask_rate.max(config.mask_rate_end.unwrap_or(0.0));
    room_bytes(
        model,
        at_a_time,
        (rows as f64 * share) as u64,
        (at_a_time as f64 * rate) as u64,
        config.recompute,
    )
}

/// A number of tokens at a time that fits well.
fn fitting(config: &PretrainConfig, model: &BertConfig, rows_a_token: f64, free: u64) -> u64 {
    let mut tokens = 1 << 20;
    while tokens > 1_024 {
        let rows = (tokens as f64 * rows_a_token) as u64;
        let rate = config.mask_rate.max(config.mask_rate_end.unwrap_or(0.0));
        let masked = (tokens as f64 * rate) as u64;
        if room_bytes(model, tokens, rows, masked, config.recompute) <= free / 2 {
            break;
        }
        tokens /= 2;
    }
    tokens
}

/// Bytes that this process may still take: what the system says, or less where a group of processes has a limit. `None` where nobody says.
fn available() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let free = line.split_whitespace().next()?.parse::<u64>().ok()? * 1_024;
    Some(limit(Path::new("/sys/fs/cgroup")).map_or(free, |limit| limit.min(free)))
}

/// What the process's control group (version 2) leaves of its limit.
fn limit(root: &Path) -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|l| l.strip_prefix("0::/"))?;
    let number = |name: &str| -> Option<u64> {
        let text = fs::read_to_string(root.join(path).join(name)).ok()?;
        text.trim().parse().ok()
    };
    // "max" is no number: there is no limit.
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> BertConfig {
        let text = serde_json::json!({"model_type": "bert", "vocab_size": 30_522, "hidden_size": 768,
            "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3_072, "max_position_embeddings": 512});
        BertConfig::parse(&text.to_string()).unwrap()
    }

    #[test]
    fn what_a_step_takes_grows_with_its_tokens_and_not_beyond_the_rows() {
        let config = |batch, pass| PretrainConfig {
            batch_tokens: batch,
            pass_tokens: pass,
            ..PretrainConfig::default()
        };
        let of = |batch, pass, tokens| needed(&config(batch, pass), &model(), tokens, tokens / 100);
        let one = of(4_096, 0, 1 << 30);
        // BERT-base: 12 layers of 8 H + 2 F numbers a token, and the head's logits.
        assert!((1_500_000_000..4_000_000_000).contains(&one), "{one}");
        assert!(of(8_192, 0, 1 << 30) > 19 * one / 10);
        assert_eq!(of(1 << 20, 4_096, 1 << 30), one);
        assert_eq!(of(1 << 40, 0, 4_096), of(4_096, 0, 4_096));
        let parts = fitting(&config(1 << 20, 0), &model(), 0.01, 5 * one);
        assert_eq!(parts, 8_192);
    }

    #[test]
    fn a_step_that_cannot_fit_is_refused_with_a_part_that_does() {
        let config = PretrainConfig {
            batch_tokens: 1 << 40,
            ..PretrainConfig::default()
        };
        let error = check(&config, &model(), 1 << 40, 1 << 33);
        if available().is_some() {
            let text = error.unwrap_err().to_string();
            assert!(
                text.contains("--pass-tokens") && text.contains("are free"),
                "{text}"
            );
        }
    }
}
