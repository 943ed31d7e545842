//! What `cargo bench` measures with: a text, and processor seconds.
//!
//! Each file in a crate's `benches/` is a plain program that makes a [`Bench`] and times closures with it. Processor seconds are those that the thread was given
//! (Linux says; elsewhere it is the clock), so that others at work on the machine disturb less. No other crate links this one but for its benches.
//!
//! - `CLOZE_BENCH_TEXT` names the text: JSONL with a field `text`, or plain text, a document between blank lines. Without it, one is made up ([`made_up`]).
//! - `CLOZE_BENCH_VOCAB` names a `vocab.txt`. Without it, the words of the text are the vocabulary ([`vocabulary_of`]).
//! - `CLOZE_BENCH_SECONDS` is how long each closure is timed, 1 by default.

mod text;

use std::hint::black_box;
use std::time::Instant;

pub use text::{documents, made_up, vocabulary, vocabulary_of};

/// Processor seconds of a round, at least.
const SHORTEST: f64 = 0.02;

/// Times closures, and says how fast they were.
#[derive(Debug)]
pub struct Bench {
    /// Only what has this in its name is timed.
    filter: Option<String>,
    /// Everything runs once, and nothing is said of its speed.
    only_once: bool,
    seconds: f64,
}

impl Bench {
    /// As the arguments of the program and the environment say: `cargo bench -- NAME` times what has NAME in its name.
    #[must_use]
    pub fn new() -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let seconds = std::env::var("CLOZE_BENCH_SECONDS").ok();
        Self {
            filter: arguments.iter().find(|a| !a.starts_with('-')).cloned(),
            // `cargo test --benches` leaves this out.
            only_once: !arguments.iter().any(|a| a == "--bench"),
            seconds: seconds.and_then(|s| s.parse().ok()).unwrap_or(1.0),
        }
    }

    /// Whether anything runs once only.
    #[must_use]
    pub fn only_once(&self) -> bool {
        self.only_once
    }

    /// Times `work`, which goes through `amount` of `unit` (bytes, tokens, rows), again and again; the best and the median round are told, in millions of the unit a
    /// processor second.
    pub fn time<T>(&self, name: &str, amount: f64, unit: &str, mut work: impl FnMut() -> T) {
        if self
            .filter
            .as_ref()
            .is_some_and(|f| !name.contains(f.as_str()))
        {
            return;
        }
        // What is learned and allocated once is no part of it.
        black_box(work());
        if self.only_once {
            return;
        }
        let mut round = |times: u32| {
            let before = processor_seconds();
            for _ in 0..times {
                black_box(work());
            }
            processor_seconds() - before
        };
        // The system tells the time of a thread a tick late.
        let mut times = 1;
        while round(times) < SHORTEST && times < 1 << 20 {
            times *= 2;
        }
        let begun = Instant::now();
        let mut rounds = Vec::new();
        while rounds.len() < 5 || begun.elapsed().as_secs_f64() < self.seconds {
            rounds.push(round(times) / f64::from(times));
        }
        rounds.sort_unstable_by(f64::total_cmp);
        let speed = |seconds: f64| amount / seconds / 1e6;
        println!(
            "{name:44} {:9.1} M {unit}/s   median {:9.1}   of {} rounds",
            speed(rounds[0]),
            speed(rounds[rounds.len() / 2]),
            rounds.len()
        );
    }
}

impl Default for Bench {
    fn default() -> Self {
        Self::new()
    }
}

/// Seconds that this thread was given a processor, where Linux says so; else of the clock.
#[must_use]
pub fn processor_seconds() -> f64 {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    let said = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = said.and_then(|s| s.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| START.elapsed().as_secs_f64(), |ns| ns / 1e9)
}
