//! Text to ids, with each set of instructions: see `cloze_bench`. What was met in the round before is known, as it is in a long text.

use cloze_bench::Bench;
use cloze_wordpiece::{Isa, Settings, Vocabulary, WordPiece};

fn main() {
    let bench = Bench::new();
    let documents = cloze_bench::documents();
    let bytes: usize = documents.iter().map(String::len).sum();
    let entries = cloze_bench::vocabulary(&documents);
    let tokens: Vec<(&str, u32)> = entries.iter().map(String::as_str).zip(0..).collect();
    let vocabulary = Vocabulary {
        tokens: &tokens,
        unknown: "[UNK]",
        prefix: "##",
        most_chars: 100,
    };
    let sentences: Vec<&str> = documents
        .iter()
        .flat_map(|d| d.split_inclusive(". "))
        .collect();
    let whole: Vec<&str> = documents.iter().map(String::as_str).collect();
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_there()) {
        let tokenizer = match WordPiece::new(&vocabulary, Settings::default()) {
            Ok(tokenizer) => tokenizer.with(isa),
            Err(why) => return eprintln!("{why}"),
        };
        let Some(tokenizer) = tokenizer else { continue };
        for (unit, texts) in [("documents", &whole), ("sentences", &sentences)] {
            let (mut scratch, mut ids) = (tokenizer.scratch(), Vec::<u32>::new());
            let name = format!("wordpiece, {unit}, {isa:?}");
            bench.time(&name, bytes as f64, "bytes", || {
                ids.clear();
                for text in texts {
                    tokenizer.encode_into(&mut scratch, text, &mut ids);
                }
                ids.len()
            });
        }
    }
}
