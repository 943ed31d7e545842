//! Text to sentences, with each set of instructions: see `cloze_bench`.

use cloze_bench::Bench;
use cloze_sentences::{Isa, Segmenter};

fn main() {
    let bench = Bench::new();
    let documents = cloze_bench::documents();
    let bytes: usize = documents.iter().map(String::len).sum();
    let Ok(english) = Segmenter::rules("en") else {
        return;
    };
    let mut out = Vec::new();
    for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
        bench.time(
            &format!("sentences, English, {isa}"),
            bytes as f64,
            "bytes",
            || {
                for document in &documents {
                    out.clear();
                    english.sentences_with(isa, document, &mut out);
                }
                out.len()
            },
        );
    }
}
