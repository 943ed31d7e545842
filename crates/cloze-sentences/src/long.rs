//! Sentences that are too long to be of use, in parts.

use std::ops::Range;

use crate::sight::{char_before, space_at};

/// How long a part may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// In bytes; at least four, so that every character fits.
    pub bytes: usize,
    /// In words: runs of what is not white space.
    pub words: usize,
}

impl Limit {
    /// So many bytes, and any number of words.
    #[must_use]
    pub const fn bytes(bytes: usize) -> Self {
        Self {
            bytes,
            words: usize::MAX,
        }
    }

    /// So many words, and any number of bytes.
    #[must_use]
    pub const fn words(words: usize) -> Self {
        Self {
            bytes: usize::MAX,
            words,
        }
    }
}

/// Appends the parts of the sentence `span` of `text`, none longer than `limit`, and returns how often it was cut.
///
/// A part ends as late as the limit lets it, but behind the end of a clause (`;`, `:`, `,`, a dash) with white space after it where there
/// is one in the part's second half; else before white space; else, in a word longer than the limit, between two characters. Together the
/// parts hold every character of the sentence that is not white space, and begin and end with one.
pub fn split_long(
    text: &str,
    span: Range<usize>,
    limit: Limit,
    out: &mut Vec<Range<usize>>,
) -> usize {
    let (bytes, words) = (limit.bytes.max(4), limit.words.max(1));
    let mut start = span.start;
    let mut cuts = 0;
    loop {
        let rest = &text[start..span.end];
        let whole = rest.trim_end();
        let Some(reach) = reach(whole, bytes, words) else {
            if !whole.is_empty() {
                out.push(start..start + whole.len());
            }
            return cuts;
        };
        let cut = start + cut(whole, reach);
        out.push(start..start + text[start..cut].trim_end().len());
        let behind = &text[cut..span.end];
        start = cut + (behind.len() - behind.trim_start().len());
        cuts += 1;
    }
}

/// How far a part of `text` may go, or `None` if all of it is short enough.
fn reach(text: &str, bytes: usize, words: usize) -> Option<usize> {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    if words < usize::MAX {
        let mut count = 0;
        let mut space = true;
        for (at, c) in text[..end].char_indices() {
            if space && !c.is_whitespace() {
                if count == words {
                    return Some(at);
                }
                count += 1;
            }
            space = c.is_whitespace();
        }
    }
    (end < text.len()).then_some(end)
}

/// Where a part ends that may go as far as `reach`.
fn cut(text: &str, reach: usize) -> usize {
    let mut space = None;
    let mut end = reach;
    while let Some(c) = char_before(text, end) {
        if space_at(text, end) && !c.is_whitespace() {
            if end >= reach / 2
                && matches!(c, ';' | ':' | ',' | '–' | '—' | '，' | '；' | '：' | '、')
            {
                return end;
            }
            space = space.or(Some(end));
        }
        // Chinese and Japanese have no white space behind the end of a clause.
        if end >= reach / 2 && matches!(c, '，' | '；' | '：' | '、') {
            return end;
        }
        if end < reach / 2 && space.is_some() {
            break;
        }
        end -= c.len_utf8();
    }
    space.unwrap_or(reach)
}
