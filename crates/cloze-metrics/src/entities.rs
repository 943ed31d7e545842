//! Entities of tagged words, as seqeval finds and counts them by default (Nakayama 2018), after conlleval of the CoNLL-2000 shared task
//! (Tjong Kim Sang and Buchholz).

use std::collections::BTreeSet;

use crate::Metrics;

/// A type, the first word and the last.
pub type Entity = (String, usize, usize);

/// Whether all tags are `O`, `B-TYPE` or `I-TYPE`, and one begins an entity (IOB2: Tjong Kim Sang and Veenstra, EACL 1999).
#[must_use]
pub fn is_iob2(tags: &[String]) -> bool {
    let begins = |tag: &String| tag.len() > 2 && tag.starts_with("B-");
    let goes_on = |tag: &String| tag.len() > 2 && tag.starts_with("I-");
    tags.iter().all(|t| t == "O" || begins(t) || goes_on(t)) && tags.iter().any(begins)
}

/// The entities of IOB2 tags. One begins at `B-`, and at an `I-` that stands after `O` or another type; it ends before the next `B-`, `O` or other type.
#[must_use]
pub fn entities(tags: &[&str]) -> Vec<Entity> {
    let mut found: Vec<Entity> = Vec::new();
    let mut open = false;
    for (i, tag) in tags.iter().enumerate() {
        let Some((prefix, kind)) = tag.split_once('-') else {
            open = false;
            continue;
        };
        match found
            .last_mut()
            .filter(|e| open && prefix == "I" && e.0 == kind)
        {
            Some(entity) => entity.2 = i,
            None => found.push((kind.into(), i, i)),
        }
        open = true;
    }
    found
}

/// `entity_f1`, `entity_precision` and `entity_recall`: an entity is right where its sentence, type, first and last word are. Over all types together.
#[must_use]
pub fn entity_scores(
    truths: &BTreeSet<(usize, Entity)>,
    guesses: &BTreeSet<(usize, Entity)>,
) -> Metrics {
    let right = truths.intersection(guesses).count() as f64;
    let share = |of: usize| if of == 0 { 0.0 } else { right / of as f64 };
    let both = truths.len() + guesses.len();
    vec![
        ("entity_f1", Some(2.0 * share(both))),
        ("entity_precision", Some(share(guesses.len()))),
        ("entity_recall", Some(share(truths.len()))),
    ]
}
