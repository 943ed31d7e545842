//! Text of any size for measurements: made-up words in Zipf's proportions, in sentences and documents of very different lengths.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::demo_corpus::Dice;

/// Different words, and the places of a table from which one is drawn at once.
const WORDS: usize = 60_000;
const TABLE: usize = 1 << 17;
/// Text after which another file begins.
const FILE_BYTES: u64 = 1 << 30;

const STARTS: [&str; 20] = [
    "b", "c", "d", "f", "g", "h", "j", "l", "m", "n", "p", "r", "s", "t", "v", "br", "st", "tr",
    "cl", "sh",
];
const MIDDLES: [&str; 8] = ["a", "e", "i", "o", "u", "ea", "ou", "io"];
const ENDS: [&str; 10] = ["", "", "", "n", "r", "s", "t", "l", "nd", "ck"];

/// Writes about so many gigabytes of JSONL to `folder`; documents.
pub fn write(folder: &Path, gigabytes: f64) -> std::io::Result<u64> {
    fs::create_dir_all(folder)?;
    let mut dice = Dice::new(0x5a1a_d000);
    let words: Vec<String> = (0..WORDS).map(|i| word(i, &mut dice)).collect();
    // The i-th word as often as 1 / (i + 2).
    let weights = (0..WORDS).map(|i| 1.0 / (i as f64 + 2.0));
    let all: f64 = weights.clone().sum();
    let mut table = Vec::with_capacity(TABLE);
    let mut sum = 0.0;
    for (word, weight) in words.iter().zip(weights) {
        sum += weight / all;
        let until = (sum * TABLE as f64).round() as usize;
        table.resize(until.clamp(table.len(), TABLE), word.as_str());
    }
    table.resize(TABLE, words[WORDS - 1].as_str());

    let (bytes, mut written, mut documents) = ((gigabytes * 1e9) as u64, 0, 0u64);
    let mut text = String::new();
    for number in 0.. {
        let path = folder.join(format!("salad-{number:03}.jsonl"));
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        let end = bytes.min(written + FILE_BYTES);
        while written < end {
            text.clear();
            document(&table, &mut dice, &mut text);
            // Words and stops only: nothing to escape.
            let line = format!("{{\"id\":\"s{documents}\",\"text\":\"{text}\"}}\n");
            file.write_all(line.as_bytes())?;
            written += line.len() as u64;
            documents += 1;
        }
        file.flush()?;
        if written >= bytes {
            break;
        }
    }
    Ok(documents)
}

/// Frequent words are short.
fn word(rank: usize, dice: &mut Dice) -> String {
    let syllables = match rank {
        0..60 => 1,
        60..2_000 => 1 + dice.below(2),
        _ => 2 + dice.below(3),
    };
    (0..syllables)
        .map(|_| [dice.pick(&STARTS), dice.pick(&MIDDLES), dice.pick(&ENDS)].concat())
        .collect()
}

fn document(table: &[&str], dice: &mut Dice, text: &mut String) {
    // One document in 50 is long.
    let most = if dice.below(50) == 0 { 400 } else { 36 };
    for sentence in 0..1 + dice.below(most) {
        if sentence > 0 {
            text.push_str(if dice.below(7) == 0 { "\\n\\n" } else { " " });
        }
        for i in 0..3 + dice.below(28) {
            if i > 0 {
                text.push_str(if dice.below(11) == 0 { ", " } else { " " });
            }
            let begin = text.len();
            text.push_str(table[dice.below(TABLE)]);
            if i == 0 {
                text[begin..begin + 1].make_ascii_uppercase();
            }
        }
        text.push_str(if dice.below(15) == 0 { "?" } else { "." });
    }
}
