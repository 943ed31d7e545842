//! The same rules over everything in memory, as they are stated: what is right.

use std::collections::{HashMap, HashSet};

use crate::exclude::Exclusion;
use crate::{CleanOptions, Cleaner, ParagraphKind, Result, canonical, minhash, words};

/// What becomes of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is dropped for the reason of this name, because of the document of this number, if it is because of one.
    Dropped(&'static str, Option<usize>),
    /// It stays, as these paragraphs; as one where paragraphs are not compared.
    Kept(Vec<String>),
}

/// What becomes of documents, in order.
pub fn clean(
    options: &CleanOptions,
    exclusion: Option<Exclusion>,
    texts: &[&str],
) -> Result<Vec<Fate>> {
    let cleaner = Cleaner::new(options, exclusion)?;
    let (mut same, mut near) = (HashMap::new(), HashMap::new());
    let mut paragraphs = HashSet::new();
    let mut fates = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        let look = cleaner.look(text);
        if let Some(dropped) = look.dropped {
            fates.push(Fate::Dropped(dropped.reason, None));
            continue;
        }
        let equal = look.keys.text.and_then(|key| same.get(&key).copied());
        let similar = look.keys.bands.iter().filter_map(|key| near.get(key));
        let fate = match (equal, similar.min().copied()) {
            (Some(of), _) => Fate::Dropped("duplicate", Some(of)),
            (None, Some(of)) => Fate::Dropped("near_duplicate", Some(of)),
            (None, None) => {
                same.extend(look.keys.text.map(|key| (key, number)));
                near.extend(look.keys.bands.iter().map(|&key| (key, number)));
                let all = || vec![look.text.to_string()];
                if options.dedup_paragraphs == ParagraphKind::None {
                    Fate::Kept(all())
                } else {
                    let mut kept = Vec::new();
                    for paragraph in &look.paragraphs {
                        if paragraph.key == 0 || paragraphs.insert(paragraph.key) {
                            kept.push(look.text[paragraph.range.clone()].to_owned());
                        }
                    }
                    if kept.is_empty() {
                        Fate::Dropped("repeated_paragraphs_only", None)
                    } else {
                        Fate::Kept(kept)
                    }
                }
            }
        };
        fates.push(fate);
    }
    Ok(fates)
}

/// The Jaccard similarity of the shingles of two texts: what MinHash estimates.
#[must_use]
pub fn jaccard(a: &str, b: &str) -> f64 {
    let [a, b] = [a, b].map(|text| {
        let (mut found, mut shingles) = (Vec::new(), Vec::new());
        words::words(&canonical::canonical(text), &mut found);
        minhash::shingles(&found, &mut shingles);
        shingles.into_iter().collect::<HashSet<u64>>()
    });
    let both = a.intersection(&b).count();
    both as f64 / (a.len() + b.len() - both).max(1) as f64
}
