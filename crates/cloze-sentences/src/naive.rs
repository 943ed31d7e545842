//! The rules without vectors, tables and short cuts: every character is a place to look at, words are looked for in the file.

use std::ops::Range;

use crate::language::{Flags, Language, flags_by_reading};
use crate::rules::Walk;
use crate::sight::{
    Closed, Next, Sight, Word, after_slowly, before_slowly, char_at, closers_slowly,
};

struct Plain<'a> {
    text: &'a str,
    file: &'static str,
}

impl<'a> Sight<'a> for Plain<'a> {
    fn before(&self, end: usize, floor: usize) -> Word<'a> {
        before_slowly(self.text, end, floor, |word| self.flags(word))
    }

    fn after(&self, at: usize) -> Next {
        after_slowly(self.text, at)
    }

    fn closers(&self, at: usize) -> Closed {
        closers_slowly(self.text, at)
    }

    fn flags(&self, word: &str) -> Flags {
        flags_by_reading(self.file, word)
    }
}

/// The sentences of a text, character by character; none where the language has no rules of our own.
#[must_use]
pub fn sentences(code: &str, text: &str) -> Vec<Range<usize>> {
    let mut out = vec![];
    let Some(language) = Language::find(code) else {
        return out;
    };
    let sight = Plain {
        text,
        file: language.file,
    };
    let mut walk = Walk::new(text, sight, language.traits, &mut out);
    for (at, c) in text.char_indices() {
        let next = char_at(text, at + c.len_utf8());
        let place = match c {
            // A row of stops is one; letters and digits behind a stop are the same word's.
            '.' | '!' | '?' => !next.is_some_and(|n| {
                n.is_ascii_lowercase() || n.is_ascii_digit() || matches!(n, '.' | '!' | '?')
            }),
            ';' => language.traits.greek && next.is_none_or(char::is_whitespace),
            '0'..='9' => next == Some(')'),
            _ => c == '\n' || !c.is_ascii(),
        };
        if place && at >= walk.resume {
            walk.look(at);
        }
    }
    walk.finish();
    out
}
