//! What tokens are called on the screen, and what is looked for in them.

use std::ops::Range;

use cloze_cli::visible;
use cloze_shard::Vocabulary;

/// The vocabulary's entries as they are shown and searched.
pub struct Words {
    entries: Vec<Word>,
    outside: Word,
}

/// An entry.
pub struct Word {
    /// As it is called, `##` and all.
    pub name: String,
    /// As it is written in text.
    pub text: String,
    /// The same, in lower case.
    pub lower: String,
    /// Whether it goes on with the word before it.
    pub continues: bool,
}

impl Word {
    fn new(token: &str) -> Self {
        let piece = token.strip_prefix("##").filter(|rest| !rest.is_empty());
        let text = visible(piece.unwrap_or(token)).into_owned();
        Self {
            name: visible(token).into_owned(),
            lower: text.to_lowercase(),
            text,
            continues: piece.is_some(),
        }
    }
}

impl Words {
    pub fn new(vocabulary: &Vocabulary) -> Self {
        let entries = (0..vocabulary.len() as u32)
            .map(|id| Word::new(vocabulary.token(id).unwrap_or_default()))
            .collect();
        Self {
            entries,
            outside: Word::new("<outside the vocabulary>"),
        }
    }

    pub fn get(&self, id: u32) -> &Word {
        self.entries.get(id as usize).unwrap_or(&self.outside)
    }

    /// Writes tokens as lower-case text; where each is, into `places`.
    pub fn write(
        &self,
        ids: impl Iterator<Item = u32>,
        text: &mut String,
        places: &mut Vec<Range<usize>>,
    ) {
        text.clear();
        places.clear();
        for id in ids {
            let word = self.get(id);
            if !text.is_empty() && !word.continues {
                text.push(' ');
            }
            let start = text.len();
            text.push_str(&word.lower);
            places.push(start..text.len());
        }
    }
}

/// A text that is looked for: in the words as they stand, or with marks apart from words, as tokens are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    pub typed: String,
    forms: Vec<String>,
}

impl Pattern {
    pub fn new(typed: &str) -> Self {
        let one_space = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let lower = one_space(&typed.to_lowercase());
        let mut apart = String::new();
        for c in lower.chars() {
            if c.is_ascii_punctuation() {
                apart.extend([' ', c, ' ']);
            } else {
                apart.push(c);
            }
        }
        let mut forms = vec![lower];
        let apart = one_space(&apart);
        if apart != forms[0] {
            forms.push(apart);
        }
        Self {
            typed: typed.to_owned(),
            forms,
        }
    }

    pub fn is_in(&self, text: &str) -> bool {
        self.forms.iter().any(|form| text.contains(form.as_str()))
    }

    /// Where it is in a text.
    pub fn places(&self, text: &str) -> Vec<Range<usize>> {
        let each = self.forms.iter();
        each.flat_map(|form| {
            text.match_indices(form.as_str())
                .map(|(at, found)| at..at + found.len())
        })
        .collect()
    }
}
