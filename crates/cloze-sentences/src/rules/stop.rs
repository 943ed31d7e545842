//! Whether a stop ends a sentence.

use super::Walk;
use crate::language::Flags;
use crate::sight::{
    Class, Closed, Next, Shape, Sight, Word, char_at, char_before, is_break, is_wide, space_at,
};

/// Dots that are counted, at most.
const DOTS: usize = 8;

/// A sentence that begins with an hour is no longer than this before it, in bytes.
const LEAD: usize = 28;

/// Words that are read after a stop are no longer than this, in bytes.
const WORD: usize = 24;

impl<'a, S: Sight<'a>> Walk<'a, '_, S> {
    /// A full stop, the last of its row.
    pub(super) fn period(&mut self, at: usize) {
        let bytes = self.text.as_bytes();
        // Most stops: "… of the house. The …". What follows comes to the same.
        if let [b' ' | b'\n', b'A'..=b'Z', ..] = bytes[at + 1..]
            && self.item.is_none()
            && self.sight.is_common(at, self.start)
        {
            return self.end(at + 1);
        }
        let row = bytes[self.start..=at].iter().rev().take(DOTS);
        let dots = row.take_while(|&&b| b == b'.').count();
        let first = at + 1 - dots;
        let before = if first > self.start {
            bytes[first - 1]
        } else {
            b' '
        };
        if matches!(before, b'!' | b'?') {
            return self.mark(at, at + 1);
        }
        if dots > 2 {
            return self.ellipsis(first, at + 1, dots);
        }
        if before == b' ' && first >= self.start + 2 && bytes[first - 2] == b'.' {
            let pairs = bytes[self.start..first].rchunks_exact(2);
            let more = pairs.take(DOTS).take_while(|pair| pair == b". ").count();
            return self.ellipsis(first - 2 * more, at + 1, dots + more);
        }
        let closed = self.sight.closers(at + 1);
        if !space_at(self.text, closed.end) {
            if closed.end == at + 1 && self.glued(first, at + 1) {
                self.end(at + 1);
            }
            return;
        }
        let next = self.sight.after(closed.end);
        if matches!(next.class, Class::End | Class::Inside) {
            return;
        }
        let word = self.sight.before(first, self.start);
        if (self.item.is_some() && self.next_item(word.start)) || self.first_item(&word, at) {
            return;
        }
        if self.ends(&word, closed, next) {
            self.end(closed.end);
        }
    }

    /// Whether the sentence ends with a full stop after `word`, before `next`.
    fn ends(&self, word: &Word<'a>, closed: Closed, next: Next) -> bool {
        let upper = next.class == Class::Upper;
        let mut flags = word.flags;
        if matches!(word.shape, Shape::Letter { .. })
            && let Some(pair) = self.letter_before(word)
        {
            // "z. B.", "A. N. Other"
            flags = pair;
            if flags == Flags::default() {
                return upper
                    && matches!(word.shape, Shape::Letter { upper: false })
                    && !self.initial(next);
            }
        }
        if upper && closed.quote && self.says(next) {
            return false;
        }
        // "(Bot.) A tree", "No. (of the page)"
        let opened = next.word > next.at && matches!(char_at(self.text, next.at), Some('(' | '['));
        if (closed.bracket && matches!(char_before(self.text, word.start), Some('(' | '[')))
            || (opened
                && (flags.has(Flags::ABBREVIATION) || matches!(word.shape, Shape::Letter { .. })))
        {
            return false;
        }
        if flags.has(Flags::CLOCK) {
            return upper && !self.belongs_to_hour(next) && !self.leads(word);
        }
        if flags.has(Flags::TITLE.with(Flags::NEVER)) {
            return false;
        }
        if flags.has(Flags::INNER) {
            return upper && self.starter(next);
        }
        if flags.has(Flags::LAST) {
            return upper && !closed.bracket;
        }
        // "v. 3", but not "V. Dehant"
        if flags.has(Flags::REFERENCE) && word.shape != (Shape::Letter { upper: true }) {
            return upper && !self.label(next);
        }
        match word.shape {
            Shape::Empty => upper,
            Shape::Closed => next.class != Class::Lower || closed.end == word.start + 1,
            Shape::Number => match next.class {
                // "2.6.13. inotify", "1990. ls"
                Class::Lower => {
                    let part = word.text.contains('.') || word.text.len() > 3;
                    part && word.start > self.start && !self.traits.ordinals
                }
                Class::Digit => !self.traits.ordinals,
                _ if self.traits.ordinals && word.text.len() < 3 && !self.referred(word) => {
                    upper && self.starter(next)
                }
                _ => true,
            },
            Shape::Letter { upper: true } => {
                upper && (self.starter(next) || self.names_letter(word))
            }
            Shape::Dotted => upper && self.starter(next),
            Shape::Letter { upper: false } => {
                (upper || next.class == Class::Other) && !self.initial(next)
            }
            Shape::Code => {
                next.class != Class::Lower || word.text.bytes().all(|b| b.is_ascii_alphanumeric())
            }
            Shape::Plain => {
                if next.class == Class::Lower {
                    closed.end == self.behind(word) && lone(word.text)
                } else if upper && contracted(word.text) {
                    self.starter(next)
                } else {
                    next.class != Class::Digit || !word.text.bytes().all(|b| b"ivxlc".contains(&b))
                }
            }
        }
    }

    /// Behind the full stop after a word.
    fn behind(&self, word: &Word<'a>) -> usize {
        word.start + word.text.len() + 1
    }

    /// A question or exclamation mark, the last of its row, with `behind` after it.
    pub(super) fn mark(&mut self, at: usize, behind: usize) {
        let closed = self.sight.closers(behind);
        if !space_at(self.text, closed.end) {
            // "太好了!我们走吧。"
            let wide = |c: Option<char>| c.is_some_and(is_wide);
            if wide(char_before(self.text, at)) && wide(char_at(self.text, closed.end)) {
                self.wide_stop(at, behind);
            }
            return;
        }
        let next = self.sight.after(closed.end);
        let ends = match next.class {
            Class::End | Class::Lower | Class::Inside => false,
            Class::Upper if closed.quote && self.says(next) => false,
            Class::Upper => {
                let word = self.sight.before(at, self.start);
                !word.flags.has(Flags::BANG) || self.starter(next)
            }
            Class::Digit | Class::Other => true,
        };
        // "(!)", "[?]": a remark on a word.
        let remark = closed.bracket && matches!(char_before(self.text, at), Some('(' | '['));
        if ends && !remark {
            self.end(closed.end);
        }
    }

    /// The sign of an ellipsis.
    pub(super) fn ellipsis_sign(&mut self, at: usize, behind: usize) {
        self.ellipsis(at, behind, 3);
    }

    /// Three dots or more, with or without spaces between.
    fn ellipsis(&mut self, first: usize, behind: usize, dots: usize) {
        let closed = self.sight.closers(behind);
        if !space_at(self.text, closed.end) {
            return;
        }
        let next = self.sight.after(closed.end);
        if dots > 3 {
            // "Introduction ..... 4"
            self.leader = behind;
        }
        let before = char_before(self.text, first).filter(|_| first > self.start);
        if next.class != Class::Upper {
            return;
        }
        let left_out = closed.bracket && matches!(before, Some('[' | '('));
        let apart = before.is_none_or(char::is_whitespace);
        let person = self.first_person(next);
        let left_open = apart && !(self.traits.spaced_ellipsis && self.starter(next));
        let goes_on = dots <= 3 && (person || left_open);
        let said = closed.quote && self.says(next);
        if !(left_out || goes_on || said) {
            self.end(closed.end);
        }
    }

    /// "Hello world.The sun": the space was forgotten.
    fn glued(&self, end: usize, behind: usize) -> bool {
        if !char_at(self.text, behind).is_some_and(|c| c.is_ascii_uppercase()) {
            return false;
        }
        let word = self.sight.before(end, self.start);
        let lower = word.text.len() > 1 && word.text.bytes().all(|b| b.is_ascii_lowercase());
        let amount = word.shape == Shape::Number;
        let next = self.word(behind);
        let apart = matches!(char_at(self.text, behind + next.len()), Some(' ' | ','));
        (lower || amount) && !word.flags.has(Flags::ABBREVIATION) && apart && {
            let rest = &next[1..];
            rest.bytes().all(|b| b.is_ascii_lowercase() || b == b'\'')
                && self.sight.flags(next).has(Flags::STARTER)
        }
    }

    /// "The steps: 1. Open it.": a list begins within the sentence.
    fn first_item(&mut self, word: &Word<'a>, at: usize) -> bool {
        if !matches!(word.text, "1" | "a") || word.start < self.start + 2 {
            return false;
        }
        let before = &self.text.as_bytes()[word.start - 2..word.start];
        if before == b": " && space_at(self.text, at + 1) {
            self.item = super::item::read(self.text, word.start).map(|(item, _)| item);
            return true;
        }
        false
    }

    /// The letters at a place.
    fn word(&self, at: usize) -> &'a str {
        let text = self.text;
        let mut end = at;
        while let Some(c) = char_at(text, end) {
            if !(c.is_alphabetic() || matches!(c, '\'' | '’')) || end + c.len_utf8() - at > WORD {
                break;
            }
            end += c.len_utf8();
        }
        &text[at..end]
    }

    /// What the language says of two letters with their full stops and a space between, where another letter stands before this one.
    fn letter_before(&self, word: &Word<'a>) -> Option<Flags> {
        let text = self.text;
        let stop = word
            .start
            .checked_sub(2)
            .filter(|&stop| stop > self.start)?;
        if &text.as_bytes()[stop..word.start] != b". " {
            return None;
        }
        let letter = char_before(text, stop).filter(|c| c.is_alphabetic())?;
        let start = stop - letter.len_utf8();
        let alone = start <= self.start || char_before(text, start).is_none_or(is_break);
        let mut room = [0; 2 * 4 + 1];
        let mut end = 0;
        for c in letter
            .encode_utf8(&mut [0; 4])
            .bytes()
            .chain(*b".")
            .chain(word.text.bytes())
        {
            room[end] = c;
            end += 1;
        }
        let pair = std::str::from_utf8(&room[..end]).unwrap_or("");
        alone.then(|| self.sight.flags(pair))
    }

    /// Whether a number is what a reference is to, and so no ordinal: "Abb. 3".
    fn referred(&self, number: &Word<'a>) -> bool {
        let stop = number.start.checked_sub(2).filter(|&s| s > self.start);
        stop.is_some_and(|stop| {
            &self.text.as_bytes()[stop..number.start] == b". "
                && self
                    .sight
                    .before(stop, self.start)
                    .flags
                    .has(Flags::REFERENCE)
        })
    }

    /// Whether the word before a letter is one that has it for a name: "Plan B", "in C".
    fn names_letter(&self, letter: &Word<'a>) -> bool {
        let end = letter.start.saturating_sub(1);
        if end <= self.start || self.text.as_bytes()[end] != b' ' {
            return false;
        }
        let flags = self.sight.before(end, self.start).flags;
        let language = matches!(letter.text, "C" | "R" | "X");
        flags.has(Flags::LETTERED) || (language && flags.has(Flags::PROGRAMMED))
    }

    /// Whether one letter with a full stop follows.
    fn initial(&self, next: Next) -> bool {
        let word = self.word(next.word);
        let stop = char_at(self.text, next.word + word.len()) == Some('.');
        stop && word.chars().nth(1).is_none()
    }

    /// Whether a word begins there that begins sentences. "I." and "A." are initials.
    fn starter(&self, next: Next) -> bool {
        if self.initial(next) {
            return false;
        }
        let word = self.word(next.word);
        let curly = word.contains('’').then(|| word.replace('’', "'"));
        self.sight
            .flags(curly.as_deref().unwrap_or(word))
            .has(Flags::STARTER)
    }

    /// "I", "I'm".
    fn first_person(&self, next: Next) -> bool {
        let word = self.word(next.word);
        word == "I" || word.starts_with("I'") || word.starts_with("I’")
    }

    /// Whether a name follows, and what its bearer did with the quotation before it: "…!" Maria said.
    fn says(&self, next: Next) -> bool {
        let name = self.word(next.word);
        let behind = next.word + name.len();
        char_at(self.text, behind) == Some(' ')
            && self.sight.flags(self.word(behind + 1)).has(Flags::SAID)
            && !self.sight.flags(name).has(Flags::STARTER)
    }

    /// Whether what follows is a number or letter that a reference is to: "Fig. A", "Vol. IV".
    fn label(&self, next: Next) -> bool {
        let word = self.word(next.word);
        let roman = word.bytes().all(|b| b"IVXLCDM".contains(&b));
        let single = word.chars().nth(1).is_none();
        (roman || single) && !matches!(word, "I" | "A")
    }

    fn belongs_to_hour(&self, next: Next) -> bool {
        self.sight.flags(self.word(next.word)).has(Flags::ZONE)
    }

    /// Whether the sentence holds nothing but an hour: "At 5 a.m."
    fn leads(&self, hour: &Word<'a>) -> bool {
        hour.start - self.start <= LEAD && self.sight.flags(self.word(self.start)).has(Flags::LEAD)
    }
}

/// Whether a word before a lower-case one is no unknown abbreviation: it has a vowel and four letters or more, or three small ones, or is
/// all capitals.
fn lone(word: &str) -> bool {
    if !word.is_ascii() {
        return word.chars().count() > 4;
    }
    let vowel = word.bytes().any(|b| b"aeiouyAEIOUY".contains(&b));
    let capitals = word.bytes().filter(u8::is_ascii_uppercase).count();
    match capitals {
        0 => vowel && word.len() > 2,
        _ if capitals == word.len() => word.len() > 2,
        _ => vowel && word.len() > 3,
    }
}

/// A capital and consonants only, such as "Hdn": an abbreviation that no list has.
fn contracted(word: &str) -> bool {
    word.len() < 5
        && word.is_ascii()
        && word.as_bytes()[0].is_ascii_uppercase()
        && word
            .bytes()
            .skip(1)
            .all(|b| b.is_ascii_lowercase() && !b"aeiouy".contains(&b))
        && !b"AEIOUY".contains(&word.as_bytes()[0])
}
