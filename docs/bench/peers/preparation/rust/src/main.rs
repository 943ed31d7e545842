//! One way to tokenize, or to find sentences, once over the texts of a file, in a process of its own.
//!
//!     text-pass list
//!     text-pass tokenize WAY TEXTS TOKENIZER_DIR [--every K FROM] [--out FILE]
//!     text-pass sentences WAY TEXTS LANGUAGE [--every K FROM] [--out FILE]
//!
//! TEXTS holds texts with a NUL between them; of these each `K`th is taken, beginning with number `FROM`. What is made ready before (texts read, tokenizer
//! opened) is not timed. Prints a line of JSON: bytes of text, texts, tokens or sentences, seconds by the clock and seconds of all threads on a processor. FILE gets what
//! came out: for each text a line, with its ids, or a list of its sentences.

mod sentences;
mod tokens;

use std::error::Error;
use std::io::Write;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Time on a processor of all threads.
fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// What a way made of the texts, and how long it took.
struct Timed<T> {
    made: T,
    seconds: f64,
    processor_seconds: f64,
}

/// Runs what is timed.
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<Timed<T>> {
    let (clock, processor) = (Instant::now(), processor_time());
    let made = std::hint::black_box(work()?);
    Ok(Timed {
        processor_seconds: (processor_time() - processor).as_secs_f64(),
        seconds: clock.elapsed().as_secs_f64(),
        made,
    })
}

struct Job {
    texts: Vec<String>,
    out: Option<std::fs::File>,
}

fn job(path: &str, options: &[String]) -> Result<Job> {
    let (mut every, mut from, mut out) = (1, 0, None);
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        let mut value = || rest.next().ok_or("an option without a value");
        match option.as_str() {
            "--every" => (every, from) = (value()?.parse()?, value()?.parse()?),
            "--out" => out = Some(std::fs::File::create(value()?)?),
            _ => return Err(format!("unknown option {option}").into()),
        }
    }
    let all = std::fs::read_to_string(path)?;
    let texts = all.split('\0').skip(from).step_by(every);
    Ok(Job {
        texts: texts.map(str::to_owned).collect(),
        out,
    })
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (kind, way, path, model, options) = match words.as_slice() {
        [list] if list == "list" => {
            let ways =
                serde_json::json!({ "tokenize": tokens::ways(), "sentences": sentences::ways() });
            println!("{ways}");
            return Ok(());
        }
        [kind, way, path, model, options @ ..] => (kind.as_str(), way, path, model, options),
        _ => return Err("see the beginning of src/main.rs".into()),
    };
    let job = job(path, options)?;
    let texts: Vec<&str> = job.texts.iter().map(String::as_str).collect();
    let mut out = job.out.map(std::io::BufWriter::new);
    let (seconds, processor_seconds, count) = match kind {
        "tokenize" => {
            let done = tokens::pass(way, model, &texts, out.is_some())?;
            for ids in &done.made.of_texts {
                if let Some(out) = &mut out {
                    writeln!(out, "{ids:?}")?;
                }
            }
            (done.seconds, done.processor_seconds, done.made.count)
        }
        "sentences" => {
            let done = sentences::pass(way, model, &texts)?;
            if let Some(out) = &mut out {
                for (text, ranges) in texts
                    .iter()
                    .zip(sentences::pass_by_text(way, model, &texts)?)
                {
                    let sentences: Vec<&str> = ranges.into_iter().map(|r| text[r].trim()).collect();
                    writeln!(out, "{}", serde_json::json!(sentences))?;
                }
            }
            (done.seconds, done.processor_seconds, done.made)
        }
        _ => return Err(format!("unknown kind {kind}").into()),
    };
    if let Some(mut out) = out {
        out.flush()?;
    }
    let bytes: usize = texts.iter().map(|text| text.len()).sum();
    let said = serde_json::json!({
        "bytes": bytes, "texts": texts.len(), "count": count, "seconds": seconds, "processor_seconds": processor_seconds,
    });
    println!("{said}");
    Ok(())
}
