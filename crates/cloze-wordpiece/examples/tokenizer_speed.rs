//! How fast text that was not seen before becomes ids, beside `tokenizers`; and whether the ids of the whole corpus are the same.
//!
//!     cargo run --release -p cloze-wordpiece --example tokenizer_speed -- CORPUS HF_DIR [check]
//!
//! CORPUS is JSONL with a field `text`, or text, a document a line. It is cut into pieces of about 2 MB, which each set of instructions takes in turn, none of them twice; `tokenizers` takes every thirtieth. Documents are encoded whole, and split at ". " as sentences are. With `check`, every id of the corpus is compared.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "an example")]

use std::hint::black_box;

use cloze_wordpiece::{Isa, WordPiece};

/// Seconds that this thread was given a processor, where Linux says so, for others may be at work; else of the clock.
fn processor_seconds() -> f64 {
    static START: std::sync::LazyLock<std::time::Instant> =
        std::sync::LazyLock::new(std::time::Instant::now);
    let said = std::fs::read_to_string("/proc/thread-self/schedstat");
    let nanoseconds = said
        .ok()
        .and_then(|s| s.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| START.elapsed().as_secs_f64(), |ns| ns / 1e9)
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, corpus, model, ..] = arguments.as_slice() else {
        panic!("speed CORPUS HF_DIR [check]");
    };
    let text = std::fs::read_to_string(corpus).unwrap();
    let documents: Vec<String> = (text.lines())
        .map(
            |line| match serde_json::from_str::<serde_json::Value>(line) {
                Ok(value) if value["text"].is_string() => {
                    value["text"].as_str().unwrap().to_owned()
                }
                _ => line.to_owned(),
            },
        )
        .collect();
    drop(text);
    let json = std::fs::read_to_string(format!("{model}/tokenizer.json")).unwrap();
    let mut theirs = tokenizers::Tokenizer::from_bytes(&json).unwrap();
    theirs.with_truncation(None).unwrap();
    theirs.with_padding(None);
    theirs.set_encode_special_tokens(true);
    let json = serde_json::from_str(&json).unwrap();
    let isas: Vec<Isa> = Isa::ALL.into_iter().filter(|isa| isa.is_there()).collect();
    let ours: Vec<WordPiece> = isas
        .iter()
        .map(|isa| WordPiece::from_json(&json).unwrap().with(*isa).unwrap())
        .collect();
    let mut pieces: Vec<Vec<&str>> = vec![Vec::new()];
    let mut held = 0;
    for document in &documents {
        if held > 2_000_000 {
            pieces.push(Vec::new());
            held = 0;
        }
        held += document.len();
        pieces.last_mut().unwrap().push(document);
    }
    for (unit, sentences) in [("documents", false), ("sentences", true)] {
        // Bytes and seconds of each, and tokens.
        let mut sums = vec![(0usize, 0f64, 0usize); ours.len() + 1];
        let mut scratches: Vec<_> = ours.iter().map(WordPiece::scratch).collect();
        let mut ids = Vec::<u16>::with_capacity(8 << 20);
        for (number, piece) in pieces.iter().enumerate() {
            let texts: Vec<&str> = match sentences {
                false => piece.clone(),
                true => piece.iter().flat_map(|d| d.split_inclusive(". ")).collect(),
            };
            let bytes: usize = texts.iter().map(|t| t.len()).sum();
            let which = number % ours.len();
            let scratch = &mut scratches[which];
            ids.clear();
            let begun = processor_seconds();
            for text in &texts {
                ours[which].encode_into(scratch, text, &mut ids);
            }
            let sum = &mut sums[which];
            *sum = (
                sum.0 + bytes,
                sum.1 + processor_seconds() - begun,
                sum.2 + ids.len(),
            );
            black_box(&ids);
            if number % 30 == 0 {
                let begun = processor_seconds();
                let mut tokens = 0;
                for text in &texts {
                    tokens += theirs.encode_fast(*text, false).unwrap().get_ids().len();
                }
                let sum = &mut sums[ours.len()];
                *sum = (
                    sum.0 + bytes,
                    sum.1 + processor_seconds() - begun,
                    sum.2 + tokens,
                );
            }
        }
        let theirs = sums[ours.len()];
        let theirs = theirs.0 as f64 / theirs.1 / 1e6;
        for (isa, (bytes, seconds, tokens)) in isas.iter().zip(&sums) {
            let speed = *bytes as f64 / seconds / 1e6;
            println!(
                "{unit:10} {:8} {speed:6.1} MB/s, {:5.1} M tokens/s, {:5.1} x tokenizers",
                format!("{isa:?}"),
                *tokens as f64 / seconds / 1e6,
                speed / theirs
            );
        }
        println!("{unit:10} theirs   {theirs:6.1} MB/s");
    }
    if arguments.len() > 3 {
        let mut tokens = 0;
        let mut scratches: Vec<_> = ours.iter().map(WordPiece::scratch).collect();
        for document in &documents {
            let encoding = theirs.encode_fast(document.as_str(), false).unwrap();
            tokens += encoding.get_ids().len();
            for (tokenizer, scratch) in ours.iter().zip(&mut scratches) {
                let mut ids = Vec::<u32>::new();
                tokenizer.encode_into(scratch, document, &mut ids);
                assert!(
                    ids == encoding.get_ids(),
                    "{:?}: {document:?}",
                    tokenizer.isa()
                );
            }
        }
        println!("{tokens} ids of {} documents are the same", documents.len());
    }
}
