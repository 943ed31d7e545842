//! Ways to find sentences.

use std::ops::Range;

use cloze_sentences::{Isa, Segmenter};

use crate::{Result, Timed, timed};

pub fn ways() -> Vec<String> {
    let isas = Isa::ALL.into_iter().filter(|isa| isa.available());
    let ours = isas.map(|isa| format!("cloze {isa:?}").to_lowercase());
    ours.chain(["sentencex".to_owned()]).collect()
}

/// A way: appends the sentences of a text.
type Way = Box<dyn FnMut(&str, &mut Vec<Range<usize>>)>;

fn way(name: &str, language: &str) -> Result<Way> {
    if name == "sentencex" {
        let rules = sentencex::language_factory(language);
        return Ok(Box::new(move |text, out| {
            let sentences = rules.segment(text).into_iter();
            let filled = sentences.filter(|sentence| !sentence.trim().is_empty());
            out.extend(filled.map(|sentence| {
                let start = sentence.as_ptr() as usize - text.as_ptr() as usize;
                start..start + sentence.len()
            }));
        }));
    }
    let isa = Isa::ALL
        .into_iter()
        .find(|isa| format!("cloze {isa:?}").to_lowercase() == name);
    let isa = isa.ok_or_else(|| format!("unknown way {name}"))?;
    let segmenter = Segmenter::rules(language).map_err(|e| e.to_string())?;
    Ok(Box::new(move |text, out| {
        segmenter.sentences_with(isa, text, out)
    }))
}

/// How many sentences there are.
pub fn pass(name: &str, language: &str, texts: &[&str]) -> Result<Timed<usize>> {
    let mut way = way(name, language)?;
    let mut out = Vec::new();
    timed(|| {
        let mut count = 0;
        for text in texts {
            out.clear();
            way(text, &mut out);
            count += out.len();
        }
        Ok(count)
    })
}

/// The sentences of each text.
pub fn pass_by_text(name: &str, language: &str, texts: &[&str]) -> Result<Vec<Vec<Range<usize>>>> {
    let mut way = way(name, language)?;
    let of_text = texts.iter().map(|text| {
        let mut out = Vec::new();
        way(text, &mut out);
        out
    });
    Ok(of_text.collect())
}
