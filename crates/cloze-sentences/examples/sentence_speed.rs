//! How fast text becomes sentences, with each set of instructions and with `sentencex`.
//!
//!     cargo run --release -p cloze-sentences --example sentence_speed -- FILE.jsonl [LANGUAGE [SECONDS]]
//!
//! Parts of the file's documents (field `text`) are taken in turn by all ways, so that each sees text that was not just looked at, and
//! what else the machine does hurts all alike. Each way's median is reported, documents one by one and all in one.

#![allow(clippy::unwrap_used, reason = "an example")]

use std::time::Instant;

use cloze_sentences::{Isa, Segmenter};

/// The strings of the field `text` of lines of JSON.
fn documents(path: &str) -> Vec<String> {
    let lines = std::fs::read_to_string(path).unwrap();
    lines.lines().filter_map(text).collect()
}

fn text(line: &str) -> Option<String> {
    let rest = line.split_once("\"text\": \"")?.1;
    let (mut out, mut chars) = (String::new(), rest.chars());
    while let Some(c) = chars.next() {
        match c {
            '"' => return Some(out),
            '\\' => match chars.next()? {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                'u' => {
                    let hex: String = chars.by_ref().take(4).collect();
                    let code = u32::from_str_radix(&hex, 16).ok()?;
                    out.push(char::from_u32(code).unwrap_or('\u{fffd}'));
                }
                c => out.push(c),
            },
            c => out.push(c),
        }
    }
    None
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    let mut args = std::env::args().skip(1);
    let documents = documents(&args.next().expect("a file of JSON lines"));
    let language = args.next().unwrap_or("en".into());
    let seconds: f64 = args.next().map_or(3.0, |s| s.parse().unwrap());
    let segmenter = Segmenter::rules(&language).unwrap();
    let isas: Vec<Isa> = Isa::ALL.into_iter().filter(|isa| isa.available()).collect();
    let parts: Vec<&[String]> = documents.chunks(documents.len().div_ceil(24)).collect();
    let bytes: usize = documents.iter().map(String::len).sum();
    println!(
        "{} documents, {:.1} MB",
        documents.len(),
        bytes as f64 / 1e6
    );

    let mut rates = vec![vec![]; 2 * isas.len() + 1];
    let mut found = 0;
    let start = Instant::now();
    let mut out = vec![];
    let mut turn = 0;
    while start.elapsed().as_secs_f64() < seconds {
        for (way, rates) in rates.iter_mut().enumerate() {
            let part = parts[turn % parts.len()];
            turn += 1;
            let mut size: usize = part.iter().map(String::len).sum();
            let joined = part.join("\n\n");
            let before = Instant::now();
            if way == 2 * isas.len() {
                // A tenth is enough of the slow one.
                let some = &part[..part.len().div_ceil(10)];
                size = some.iter().map(String::len).sum();
                for text in some {
                    found += sentencex::segment(&language, text).len();
                }
            } else if way % 2 == 0 {
                for text in part {
                    out.clear();
                    segmenter.sentences_with(isas[way / 2], text, &mut out);
                    found += out.len();
                }
            } else {
                out.clear();
                segmenter.sentences_with(isas[way / 2], &joined, &mut out);
                found += out.len();
            }
            rates.push(size as f64 / 1e6 / before.elapsed().as_secs_f64());
        }
        turn += 1;
    }
    for (way, rates) in rates.iter_mut().enumerate() {
        let name = match (isas.get(way / 2), way % 2) {
            (Some(isa), 0) => format!("{isa}, documents"),
            (Some(isa), _) => format!("{isa}, joined"),
            (None, _) => "sentencex".into(),
        };
        println!("{name:20} {:8.0} MB/s", median(rates));
    }
    std::hint::black_box(found);
}
