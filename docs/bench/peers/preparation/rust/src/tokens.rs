//! Ways to tokenize. Special tokens in a text are text, where a way can be told so; none are added.

use cloze_wordpiece::{Isa, WordPiece};
use tokenizers_rc::pipeline::{EncodeOptions, Override};

use crate::{Result, Timed, timed};

/// The ids of all texts, and where those of each end.
pub struct Ids {
    pub ids: Vec<u32>,
    pub ends: Vec<usize>,
}

pub fn ways() -> Vec<String> {
    let isas = Isa::ALL.into_iter().filter(|isa| isa.is_there());
    let ours = isas.map(|isa| format!("cloze {isa:?}").to_lowercase());
    let theirs = ["tokenizers", "tokenizers-rc", "tokie"].map(String::from);
    ours.chain(theirs).collect()
}

/// Encodes the texts one by one.
fn one_by_one<T: Into<u32>>(
    texts: &[&str],
    mut encode: impl FnMut(&str, &mut Vec<T>) -> Result<()>,
) -> Result<Timed<Ids>> {
    let bytes: usize = texts.iter().map(|text| text.len()).sum();
    let done = timed(|| {
        let mut ids = Vec::with_capacity(bytes / 3);
        let mut ends = Vec::with_capacity(texts.len());
        for text in texts {
            encode(text, &mut ids)?;
            ends.push(ids.len());
        }
        Ok((ids, ends))
    })?;
    let (ids, ends) = done.made;
    let ids = ids.into_iter().map(Into::into).collect();
    Ok(Timed {
        made: Ids { ids, ends },
        seconds: done.seconds,
        processor_seconds: done.processor_seconds,
    })
}

pub fn pass(way: &str, folder: &str, texts: &[&str]) -> Result<Timed<Ids>> {
    let path = format!("{folder}/tokenizer.json");
    let json = std::fs::read_to_string(&path)?;
    match way {
        "tokenizers" => {
            let mut tokenizer = tokenizers::Tokenizer::from_bytes(&json).map_err(|e| e.to_string())?;
            tokenizer.with_truncation(None).map_err(|e| e.to_string())?;
            tokenizer.with_padding(None);
            tokenizer.set_encode_special_tokens(true);
            one_by_one(texts, |text, ids: &mut Vec<u32>| {
                let encoding = tokenizer.encode_fast(text, false).map_err(|e| e.to_string())?;
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
            one_by_one(texts, |text, ids| {
                tokenizer.encode_into(text, &options, ids).map_err(|e| e.to_string().into())
            })
        }
        "tokie" => {
            let mut tokenizer = tokie::Tokenizer::from_json(&path).map_err(|e| e.to_string())?;
            tokenizer.no_truncation();
            tokenizer.no_padding();
            timed(|| {
                let (ids, lengths) = tokenizer.encode_batch_flat(texts, false);
                let mut end = 0;
                let ends = lengths.iter().map(|&length| {
                    end += length as usize;
                    end
                });
                Ok(Ids { ends: ends.collect(), ids })
            })
        }
        _ => {
            let isa = Isa::ALL.into_iter().find(|isa| format!("cloze {isa:?}").to_lowercase() == way);
            let isa = isa.ok_or_else(|| format!("unknown way {way}"))?;
            let tokenizer = WordPiece::from_json(&serde_json::from_str(&json)?).map_err(|e| e.to_string())?;
            let tokenizer = tokenizer.with(isa).ok_or("this processor lacks it")?;
            let mut scratch = tokenizer.scratch();
            one_by_one(texts, |text, ids: &mut Vec<u32>| {
                tokenizer.encode_into(&mut scratch, text, ids);
                Ok(())
            })
        }
    }
}
