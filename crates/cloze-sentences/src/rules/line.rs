//! What the end of a line ends: blank lines, headings, rulers, entries of a table of contents, and what items begin.

use super::{Walk, item};
use crate::sight::{Sight, char_at, char_before};

/// Signs that headings are underlined with and parts are divided by.
const RULES: &[u8] = b"=-~*_^#+";

/// White space at the end of a line that is looked over, in bytes.
const TRAILING: usize = 64;

/// The longest ruler that is known as one, in bytes.
const RULER: usize = 200;

impl<'a, S: Sight<'a>> Walk<'a, '_, S> {
    /// The end of a line.
    pub(super) fn newline(&mut self, at: usize) {
        let line = self.line;
        self.line = at + 1;
        let bytes = self.text.as_bytes();
        // A line that goes on with a letter, after a line that begins with one: most lines.
        let ahead = bytes.get(at + 1).copied().unwrap_or(b'\n');
        let mut next = at + 1;
        if !ahead.is_ascii_alphanumeric() {
            while let Some(c) = char_at(self.text, next).filter(|&c| c.is_whitespace() && c != '\n')
            {
                next += c.len_utf8();
            }
            self.resume = next;
            if matches!(char_at(self.text, next), None | Some('\n')) {
                self.end_before_space(next);
                self.list = self.item;
                return;
            }
        }
        if self.whole_line(line, at) || self.item_begins(at, next) {
            self.end_before_space(at + 1);
        }
    }

    /// Whether a line is one that ends where it ends.
    fn whole_line(&self, line: usize, end: usize) -> bool {
        let bytes = self.text.as_bytes();
        let first = bytes.get(line).copied().unwrap_or(b' ');
        if first == b'#' {
            let level = bytes[line..end]
                .iter()
                .take(7)
                .take_while(|&&b| b == b'#')
                .count();
            if level < 7 && bytes[line + level] == b' ' {
                return true;
            }
        }
        if RULES.contains(&first) && end - line >= 3 && end - line <= RULER {
            let ruler = self.text[line..end].trim_end();
            if ruler.len() >= 3 && ruler.bytes().all(|b| b == first) {
                return true;
            }
        }
        // "Introduction ........ 4"
        let behind = self.leader.max(line);
        self.leader > line
            && end - behind < TRAILING
            && self.text.get(behind..end).is_some_and(|page| {
                let page = page.trim();
                !page.is_empty()
                    && page
                        .bytes()
                        .all(|b| b.is_ascii_digit() || b"ivxlc".contains(&b))
            })
    }

    /// Whether an item of a list begins at `next`, in the line behind `at`.
    fn item_begins(&self, at: usize, next: usize) -> bool {
        let bytes = self.text.as_bytes();
        let heading = bytes[next] == b'#'
            && bytes[next..].iter().take(7).find(|&&b| b != b'#') == Some(&b' ');
        if heading {
            return true;
        }
        let Some((item, _)) = item::read(self.text, next) else {
            return false;
        };
        if item.bullet() || self.list.is_some_and(|last| item.follows(&last)) {
            return true;
        }
        let mut end = at;
        while let Some(c) =
            char_before(self.text, end).filter(|c| c.is_whitespace() && at - end < TRAILING)
        {
            end -= c.len_utf8();
        }
        let ended = matches!(
            char_before(self.text, end),
            Some('.' | '!' | '?' | ':' | ';' | ')' | '"' | '…')
        );
        if item.numbered() {
            item.first() || ended
        } else {
            item.first() && ended
        }
    }
}
