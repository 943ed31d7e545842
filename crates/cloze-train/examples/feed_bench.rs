//! Times the feed alone, on one thread: rows from a warm map, checked, masked, as batches. One JSON line a way of batching.
//!
//!     cargo run --release -p cloze-train --example feed_bench -- DATASET [TOKENS] [ROUNDS] [GROUP]
//!
//! Before it is timed, an epoch is read, so that all pages are there. A round is half a second of whole epochs, because the system counts time on a core in
//! steps of milliseconds; rounds of all ways take turns, and the best counts.

use std::path::Path;
use std::time::Instant;

use cloze_shard::masking::MaskingRule;
use cloze_shard::{Dataset, Split};
use cloze_train::Result;
use cloze_train::batch::MaskedBatch;
use cloze_train::feed::Feed;

/// What a round saw.
#[derive(Clone, Copy, Default)]
struct Round {
    tokens: u64,
    rows: u64,
    masked: u64,
    batches: u64,
    /// Tokens if every row were as long as the longest of its batch.
    padded: u64,
    wall: f64,
    cpu: f64,
}

/// Seconds that this thread has been on a core, where the system says.
fn on_core() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split(' ').next()?.parse::<f64>().ok()? / 1e9)
}

fn round(feed: &mut Feed<'_>, rows: u64, seconds: f64) -> Result<Round> {
    let mut round = Round::default();
    let mut batch = MaskedBatch::new();
    let (wall, cpu) = (Instant::now(), on_core());
    while let Some(share) = feed.next_share_in(batch, 0, 1)? {
        round.tokens += share.tokens as u64;
        round.rows += share.rows as u64;
        round.masked += share.counts.masked;
        round.batches += 1;
        let longest = share.batch.spans().map(|(_, n)| n).max().unwrap_or(0);
        round.padded += (longest * share.rows) as u64;
        batch = share.batch;
        let spent = wall.elapsed().as_secs_f64();
        if feed.position().row_in_epoch >= rows && spent >= seconds {
            break;
        }
    }
    round.wall = wall.elapsed().as_secs_f64();
    let spent = cpu.zip(on_core()).map(|(before, after)| after - before);
    round.cpu = spent.unwrap_or(round.wall);
    Ok(round)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let word = |i: usize, default: &str| arguments.get(i).map_or(default.to_owned(), Clone::clone);
    let dataset = Dataset::open(Path::new(&word(0, "data")))?;
    let tokens: usize = word(1, "65536").parse()?;
    let rounds: usize = word(2, "7").parse()?;
    let group: usize = word(3, "32").parse()?;
    let manifest = dataset.manifest();
    let split: &Split = dataset.split("train").ok_or("no training rows")?;
    let vocab_size = manifest.tokenizer.vocab_size;
    let feed = |batches: usize| -> Result<Feed<'_>> {
        let rule = MaskingRule::default();
        let feed = Feed::new(&dataset, split, rule, 0, tokens, vocab_size)?;
        Ok(feed.group_lengths(batches))
    };
    let mut ways = Vec::new();
    for batches in [0, group] {
        let mut feed = feed(batches)?;
        round(&mut feed, split.rows(), 0.0)?;
        ways.push((batches, feed, Vec::new()));
    }
    for _ in 0..rounds {
        for (_, feed, seen) in &mut ways {
            seen.push(round(feed, split.rows(), 0.5)?);
        }
    }
    for (batches, _, seen) in ways {
        let best = |seconds: fn(&Round) -> f64| {
            let rates = seen.iter().map(|r| r.tokens as f64 / seconds(r));
            rates.fold(0.0, f64::max)
        };
        let sum = |of: fn(&Round) -> u64| seen.iter().map(of).sum::<u64>();
        let line = serde_json::json!({
            "seq_len": manifest.max_seq_length,
            "group_lengths": batches,
            "batch_tokens": tokens,
            "rows": split.rows(),
            "tokens_a_row": sum(|r| r.tokens) as f64 / sum(|r| r.rows) as f64,
            "masked_share": sum(|r| r.masked) as f64 / sum(|r| r.tokens) as f64,
            "batch_full": sum(|r| r.tokens) as f64 / (sum(|r| r.batches) * tokens as u64) as f64,
            "padding_share": 1.0 - sum(|r| r.tokens) as f64 / sum(|r| r.padded) as f64,
            "tokens_per_core_second": best(|r| r.cpu).round(),
            "tokens_per_second": best(|r| r.wall).round(),
            "rounds": rounds,
        });
        println!("{line}");
    }
    Ok(())
}
