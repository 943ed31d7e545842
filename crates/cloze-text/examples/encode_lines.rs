//! Reads JSON strings, one a line, and writes the token ids of each as a JSON array: for comparison with other tokenizers. The fast way and the library's
//! must agree.
//!
//!     encode_lines TOKENIZER < strings.jsonl > ids.jsonl

use std::io::{BufRead, BufWriter, Write};

use cloze_text::Tokenizer;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os()
        .nth(1)
        .ok_or("usage: encode_lines TOKENIZER < strings.jsonl")?;
    let tokenizer = Tokenizer::open(path.as_ref())?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let (mut encoder, mut ids, mut by_library) = (tokenizer.encoder(), Vec::new(), Vec::new());
    for line in std::io::stdin().lock().lines() {
        let text: String = serde_json::from_str(&line?)?;
        ids.clear();
        by_library.clear();
        encoder.encode_into(&text, &mut ids)?;
        tokenizer.encode_into(&text, &mut by_library)?;
        if ids != by_library {
            return Err(format!("{text:?}: {ids:?}, by the library {by_library:?}").into());
        }
        serde_json::to_writer(&mut out, &ids)?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}
