//! Ways to tokenize. Special tokens in a text are text, where a way can be told so; none are added.

use cloze_wordpiece::{Isa, WordPiece};
use tokenizers_rc::pipeline::{EncodeOptions, Override, PipelineToken};

use crate::{Result, Timed, timed};

/// Bytes of text that are encoded into the same buffer, as by a program that streams. New memory for all ids would cost more than some tokenizers do.
const PIECE: usize = 2_000_000;

/// How many ids there are; and where they are asked for, those of each text.
#[derive(Default)]
pub struct Ids {
    pub count: usize,
    pub of_texts: Vec<Vec<u32>>,
}

pub fn ways() -> Vec<String> {
    let isas = Isa::ALL.into_iter().filter(|isa| isa.is_there());
    let ours = isas.map(|isa| format!("cloze {isa:?}").to_lowercase());
    let theirs = ["tokenizers", "tokenizers-rc", "tokie"].map(String::from);
    ours.chain(theirs).collect()
}

/// Texts in pieces.
fn pieces<'a, 't>(texts: &'a [&'t str]) -> Vec<&'a [&'t str]> {
    let (mut all, mut start, mut held) = (Vec::new(), 0, 0);
    for (number, text) in texts.iter().enumerate() {
        held += text.len();
        if held >= PIECE {
            all.push(&texts[start..=number]);
            (start, held) = (number + 1, 0);
        }
    }
    all.push(&texts[start..]);
    all
}

/// Encodes the texts one by one.
fn one_by_one<T: Into<u32> + Copy>(
    texts: &[&str],
    keep: bool,
    mut encode: impl FnMut(&str, &mut Vec<T>) -> Result<()>,
) -> Result<Timed<Ids>> {
    let pieces = pieces(texts);
    let mut ids = Vec::with_capacity(PIECE);
    timed(|| {
        let mut all = Ids::default();
        for piece in pieces {
            ids.clear();
            for text in piece {
                let before = ids.len();
                encode(text, &mut ids)?;
                if keep {
                    all.of_texts
                        .push(ids[before..].iter().map(|&id| id.into()).collect());
                }
            }
            std::hint::black_box(&ids);
            all.count += ids.len();
        }
        Ok(all)
    })
}

/// Encodes the texts; ids are kept only if asked for, and then the time says nothing.
pub fn pass(way: &str, folder: &str, texts: &[&str], keep: bool) -> Result<Timed<Ids>> {
    let path = format!("{folder}/tokenizer.json");
    let json = std::fs::read_to_string(&path)?;
    match way {
        "tokenizers" => {
            let mut tokenizer =
                tokenizers::Tokenizer::from_bytes(&json).map_err(|e| e.to_string())?;
            tokenizer.with_truncation(None).map_err(|e| e.to_string())?;
            tokenizer.with_padding(None);
            tokenizer.set_encode_special_tokens(true);
            one_by_one(texts, keep, |text, ids: &mut Vec<u32>| {
                let encoding = tokenizer
                    .encode_fast(text, false)
                    .map_err(|e| e.to_string())?;
                ids.extend_from_slice(encoding.get_ids());
                Ok(())
            })
        }
        "tokenizers-rc" => {
            let json = tokenizers_rc::canonicalize_str(&json).map_err(|e| e.to_string())?;
            let tokenizer = tokenizers_rc::from_json(&json).map_err(|e| e.to_string())?;
            let options = EncodeOptions {
                add_special_tokens: false,
                encode_special_tokens: true,
                padding: Override::Off,
                truncation: Override::Off,
            };
            one_by_one(texts, keep, |text, ids: &mut Vec<PipelineToken>| {
                tokenizer
                    .encode_into(text, &options, ids)
                    .map_err(|e| e.to_string().into())
            })
        }
        "tokie" => {
            let mut tokenizer = tokie::Tokenizer::from_json(&path).map_err(|e| e.to_string())?;
            tokenizer.no_truncation();
            tokenizer.no_padding();
            let pieces = pieces(texts);
            timed(|| {
                let mut all = Ids::default();
                for piece in pieces {
                    let (ids, lengths) = tokenizer.encode_batch_flat(piece, false);
                    all.count += ids.len();
                    let mut rest = ids.as_slice();
                    for &length in lengths.iter().filter(|_| keep) {
                        let of_text;
                        (of_text, rest) = rest.split_at(length as usize);
                        all.of_texts.push(of_text.to_vec());
                    }
                    std::hint::black_box(&ids);
                }
                Ok(all)
            })
        }
        _ => {
            let isa = Isa::ALL
                .into_iter()
                .find(|isa| format!("cloze {isa:?}").to_lowercase() == way);
            let isa = isa.ok_or_else(|| format!("unknown way {way}"))?;
            let tokenizer =
                WordPiece::from_json(&serde_json::from_str(&json)?).map_err(|e| e.to_string())?;
            let tokenizer = tokenizer.with(isa).ok_or("this processor lacks it")?;
            let mut scratch = tokenizer.scratch();
            one_by_one(texts, keep, |text, ids: &mut Vec<u32>| {
                tokenizer.encode_into(&mut scratch, text, ids);
                Ok(())
            })
        }
    }
}
