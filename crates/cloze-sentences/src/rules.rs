//! The rules: one walk over the places that may end a sentence.
//!
//! Each place is judged by the word before it and by what follows it, within bounds ([`crate::sight`]), so that the time is linear in
//! the text whatever it holds. All that is remembered from place to place is where the sentence and the line began and
//! which item of a list they are.

mod item;
mod line;
mod stop;

use std::ops::Range;

use crate::language::Traits;
use crate::sight::{Sight, char_at, char_before, space_at};
use item::Item;

/// A walk over a text.
pub(crate) struct Walk<'a, 'o, S> {
    text: &'a str,
    sight: S,
    traits: Traits,
    out: &'o mut Vec<Range<usize>>,
    /// Where the sentence begins: never white space, except at the end of the text.
    start: usize,
    /// Where the line of the last place begins.
    line: usize,
    /// Places before this were looked at already.
    pub(crate) resume: usize,
    /// The item of a list that the sentence is.
    item: Option<Item>,
    /// The last item of the paragraph.
    list: Option<Item>,
    /// Where the last row of dots ends that leads to a page number.
    leader: usize,
}

impl<'a, 'o, S: Sight<'a>> Walk<'a, 'o, S> {
    pub(crate) fn new(
        text: &'a str,
        sight: S,
        traits: Traits,
        out: &'o mut Vec<Range<usize>>,
    ) -> Self {
        let mut walk = Self {
            text,
            sight,
            traits,
            out,
            start: 0,
            line: 0,
            resume: 0,
            item: None,
            list: None,
            leader: 0,
        };
        walk.begin(0);
        walk
    }

    /// Looks at a place, which must not lie before [`Self::resume`]. Places come in order.
    #[inline]
    pub(crate) fn look(&mut self, at: usize) {
        match self.text.as_bytes()[at] {
            b'.' => self.period(at),
            b'\n' => self.newline(at),
            b'!' | b'?' => self.mark(at, at + 1),
            b';' => self.mark(at, at + 1),
            b'0'..=b'9' => self.bracketed_number(at),
            _ => self.other(at),
        }
    }

    /// Ends the last sentence.
    pub(crate) fn finish(self) {
        let rest = &self.text[self.start..];
        let rest = rest.trim_end();
        if !rest.is_empty() {
            self.out.push(self.start..self.start + rest.len());
        }
    }

    /// Ends the sentence at `end`, which is behind a character that is not white space, and begins the next.
    #[inline]
    fn end(&mut self, end: usize) {
        if end > self.start {
            self.out.push(self.start..end);
            self.begin(end);
        }
    }

    /// Ends the sentence before white space that ends at `end`.
    fn end_before_space(&mut self, end: usize) {
        let trimmed = self.text[self.start..end].trim_end().len();
        if trimmed > 0 {
            self.out.push(self.start..self.start + trimmed);
        }
        self.begin(end);
    }

    /// Begins a sentence behind the white space at `from`.
    #[inline]
    fn begin(&mut self, from: usize) {
        let bytes = self.text.as_bytes();
        self.item = None;
        match bytes[from..] {
            [b' ', b'A'..=b'Z', second, ..] if second != b'.' && second != b')' => {}
            // No item has a number of such letters.
            [b'\n', b'A'..=b'Z', b'a'..=b'z', ..] if self.sight.takes_short_cuts() => {
                self.line = from + 1;
            }
            _ => return self.begin_slowly(from),
        }
        self.start = from + 1;
        self.resume = from + 1;
    }

    fn begin_slowly(&mut self, from: usize) {
        let (mut at, mut lines) = (from, 0);
        while let Some(c) = char_at(self.text, at).filter(|c| c.is_whitespace()) {
            at += c.len_utf8();
            if c == '\n' {
                lines += 1;
                self.line = at;
            }
        }
        self.start = at;
        self.resume = at;
        if lines > 1 {
            self.list = None;
        }
        if let Some((item, end)) = item::read(self.text, at) {
            self.resume = end;
            self.item = Some(item);
            self.list = Some(item);
        }
    }

    /// A character of several bytes: a stop of its own, or a bullet.
    fn other(&mut self, at: usize) {
        let Some(c) = char_at(self.text, at) else {
            return;
        };
        let behind = at + c.len_utf8();
        match c {
            '…' => self.ellipsis_sign(at, behind),
            '‼' | '⁇' | '⁈' | '⁉' => self.mark(at, behind),
            '。' | '｡' | '．' | '！' | '？' => self.wide_stop(at, behind),
            '\u{2029}' => {
                self.end_before_space(at);
                self.list = None;
            }
            _ if item::is_bullet(c) && at > self.start => {
                let before = char_before(self.text, at).is_some_and(char::is_whitespace);
                if before && !matches!(char_at(self.text, behind), None | Some('\n')) {
                    self.end_before_space(at);
                }
            }
            _ => {}
        }
    }

    /// The stops of Chinese and Japanese, behind which there is no white space.
    fn wide_stop(&mut self, at: usize, behind: usize) {
        let c = char_at(self.text, at);
        let stop = |c| matches!(c, '。' | '｡' | '．' | '！' | '？' | '!' | '?' | '…');
        if char_at(self.text, behind).is_some_and(stop) {
            return;
        }
        if c == Some('．') {
            let digit = |c: Option<char>| c.is_some_and(char::is_numeric);
            if digit(char_before(self.text, at)) || digit(char_at(self.text, behind)) {
                return;
            }
        }
        let closed = self.sight.closers(behind);
        // "「行くよ。」と言った。": the sentence goes on behind the quotation.
        let rest = &self.text[closed.end..];
        let asked = matches!(c, Some('！' | '？' | '!' | '?'));
        let quoted =
            closed.end > behind && self.traits.after_quote.iter().any(|w| rest.starts_with(w));
        // "《为什么？》这本书": a title.
        let title = matches!(char_before(self.text, closed.end), Some('》' | '〉'));
        if quoted || title || (asked && (rest.starts_with('と') || rest.starts_with("って"))) {
            return;
        }
        if matches!(char_at(self.text, closed.end), Some(c) if matches!(c, '，' | '、' | ',' | '：' | '；' | '）'))
        {
            return;
        }
        self.end(closed.end);
    }

    /// A digit before a closing bracket: the next item of a list that goes on in its line.
    fn bracketed_number(&mut self, at: usize) {
        let digits = self.text.as_bytes()[self.start..=at].iter().rev();
        let count = digits.take(4).take_while(|b| b.is_ascii_digit()).count();
        let mut first = at + 1 - count;
        if first > self.start && self.text.as_bytes()[first - 1] == b'(' {
            first -= 1;
        }
        self.next_item(first);
    }

    /// Begins a new sentence at `at` if the sentence is an item of a list, and the next item begins there. Says whether it does.
    fn next_item(&mut self, at: usize) -> bool {
        let Some(last) = self.item.filter(|_| at > self.start) else {
            return false;
        };
        if !char_before(self.text, at).is_some_and(char::is_whitespace) {
            return false;
        }
        // "A. B. Smith": initials.
        if item::read(self.text, self.start).is_some_and(|(_, end)| at <= end) {
            return false;
        }
        match item::read(self.text, at) {
            Some((next, end)) if next.follows(&last) && !space_at(self.text, end) => {
                let lower = char_at(self.text, end).is_some_and(char::is_lowercase);
                if lower && !next.bracketed() {
                    return false;
                }
                self.end_before_space(at);
                true
            }
            _ => false,
        }
    }
}
