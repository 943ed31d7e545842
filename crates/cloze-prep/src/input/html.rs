//! HTML: the text of a page, which is a document.
//!
//! A page may be made so that the tree of it is far larger than itself, or takes for ever: formatting that is never closed is opened anew in each paragraph, and each of ten
//! thousand lists in one another is laid out in all the others. So a page is taken apart into tags and text first, which takes one pass; what says nothing about
//! the text is left out, and the rest goes on to the library.

use std::cell::RefCell;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};

use html2text::render::TrivialDecorator;
use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::RawKind;
use html5ever::tokenizer::{
    BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts,
};

use super::bytes::{self, From, Known};
use super::resolve::Source;
use super::stream::utf8;
use super::{Found, InputError, InputOptions};
use crate::Progress;

/// Columns of a page that is not to be broken into lines.
const WIDE: usize = 1 << 24;
/// Bytes of a page.
const LONGEST: usize = 64 << 20;
/// Tags of a page.
const MOST_TAGS: usize = 1_000_000;
/// Elements in one another; those that are deeper are passed over, and their text is not.
const DEEPEST: usize = 200;

/// Tags that do nothing to the text.
const FORMATTING: [&str; 20] = [
    "a",
    "b",
    "big",
    "code",
    "del",
    "em",
    "font",
    "i",
    "ins",
    "nobr",
    "optgroup",
    "option",
    "plaintext",
    "s",
    "small",
    "span",
    "strike",
    "strong",
    "tt",
    "u",
];
/// Elements that have no end, or of which none is in another without a table, or something else that is counted.
const SHALLOW: [&str; 27] = [
    "area", "base", "body", "br", "caption", "col", "colgroup", "embed", "head", "hr", "html",
    "img", "input", "link", "meta", "p", "param", "source", "tbody", "td", "tfoot", "th", "thead",
    "title", "tr", "track", "wbr",
];
/// Elements that end where the next of the same kind begins.
const ITEMS: [&[&str]; 2] = [&["dd", "dt"], &["li"]];
/// What holds no text.
const SILENT: [&str; 5] = ["iframe", "noembed", "noframes", "script", "style"];

/// A page.
pub struct Page<'a> {
    source: &'a Source,
    reader: Option<Box<dyn std::io::BufRead + 'a>>,
    pub known: Known,
}

impl<'a> Page<'a> {
    pub fn open(
        source: &'a Source,
        options: &InputOptions,
        progress: &'a dyn Progress,
        from: From<'a>,
    ) -> Result<Self, InputError> {
        let (reader, known) = bytes::open(source, options.encoding, progress, from)?;
        Ok(Self {
            source,
            reader: Some(reader),
            known,
        })
    }

    pub fn next(&mut self) -> Result<Option<Found>, InputError> {
        let Some(reader) = self.reader.take() else {
            return Ok(None);
        };
        let mut page = Vec::new();
        let read = reader.take(LONGEST as u64 + 1).read_to_end(&mut page);
        read.map_err(|e| self.known.error(self.source, 0, e))?;
        let broken = |why: String| InputError::Row {
            path: self.source.path.clone(),
            unit: "page",
            number: 1,
            why,
            hint: "convert the page to text",
            reason: "broken row",
        };
        if page.len() > LONGEST {
            return Err(broken(format!("is longer than {} MiB", LONGEST >> 20)));
        }
        let text = utf8_of_page(self.source, &self.known, &page)?;
        let plain = plain(text).ok_or_else(|| broken(format!("has over {MOST_TAGS} tags")))?;
        drop(page);
        // The library panics on some pages.
        let read = catch_unwind(AssertUnwindSafe(|| {
            html2text::config::with_decorator(TrivialDecorator::new())
                .allow_width_overflow()
                .no_table_borders()
                .raw_mode(true)
                .string_from_read(plain.as_bytes(), WIDE)
        }));
        match read {
            Ok(Ok(text)) => Ok(Some(Found::of(text))),
            Ok(Err(e)) => Err(broken(e.to_string())),
            Err(_) => Err(broken("is broken".into())),
        }
    }
}

fn utf8_of_page<'p>(source: &Source, known: &Known, page: &'p [u8]) -> Result<&'p str, InputError> {
    if let Ok(text) = std::str::from_utf8(page) {
        return Ok(text);
    }
    for (line, number) in page.split_inclusive(|&b| b == b'\n').zip(1..) {
        utf8(source, known, number, line)?;
    }
    // Lines end between characters, so one of them was wrong.
    utf8(source, known, 0, page)
}

/// A page without what says nothing about its text; `None` where it has too many tags.
fn plain(page: &str) -> Option<String> {
    let tokenizer = Tokenizer::new(Plain::default(), TokenizerOpts::default());
    let input = BufferQueue::default();
    // Pieces, because the tokenizer cuts off what it has done with.
    let mut rest = page;
    while !rest.is_empty() {
        let mut end = rest.len().min(1 << 16);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        input.push_back(StrTendril::from_slice(&rest[..end]));
        let _ = tokenizer.feed(&input);
        rest = &rest[end..];
        if tokenizer.sink.0.borrow().tags > MOST_TAGS {
            return None;
        }
    }
    tokenizer.end();
    let made = tokenizer.sink.0.into_inner();
    (made.tags <= MOST_TAGS).then_some(made.out)
}

/// Takes tags and text from the tokenizer.
#[derive(Default)]
struct Plain(RefCell<Made>);

#[derive(Default)]
struct Made {
    out: String,
    tags: usize,
    /// Elements that are open, and those beyond [`DEEPEST`] that were passed over.
    open: Vec<String>,
    passed: Vec<String>,
    /// The element whose content is left out.
    silent: bool,
}

impl TokenSink for Plain {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        let mut made = self.0.borrow_mut();
        match token {
            Token::TagToken(tag) => made.tag(&tag),
            Token::CharacterTokens(text) => {
                if !made.silent {
                    made.text(&text);
                }
                TokenSinkResult::Continue
            }
            _ => TokenSinkResult::Continue,
        }
    }
}

impl Made {
    fn text(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '"' => self.out.push_str("&quot;"),
                c => self.out.push(c),
            }
        }
    }

    fn tag(&mut self, tag: &Tag) -> TokenSinkResult<()> {
        self.tags += 1;
        let name = &*tag.name;
        let begins = tag.kind == TagKind::StartTag;
        if SILENT.contains(&name) {
            self.silent = begins;
            return match (begins, name) {
                (false, _) => TokenSinkResult::Continue,
                (true, "script") => TokenSinkResult::RawData(RawKind::ScriptData),
                (true, _) => TokenSinkResult::RawData(RawKind::Rawtext),
            };
        }
        if FORMATTING.contains(&name) {
            return TokenSinkResult::Continue;
        }
        if !SHALLOW.contains(&name) && !self.is_seen(name, begins) {
            return TokenSinkResult::Continue;
        }
        self.out.push_str(if begins { "<" } else { "</" });
        self.out.push_str(name);
        if begins && name == "img" {
            for attribute in &tag.attrs {
                match &*attribute.name.local {
                    "alt" => {
                        self.out.push_str(" alt=\"");
                        self.text(&attribute.value);
                        self.out.push('"');
                    }
                    // A picture without one is none.
                    "src" if !attribute.value.is_empty() => self.out.push_str(" src=x"),
                    _ => {}
                }
            }
        }
        self.out.push('>');
        match name {
            "title" | "textarea" if begins => TokenSinkResult::RawData(RawKind::Rcdata),
            _ => TokenSinkResult::Continue,
        }
    }

    /// Whether the tag is of an element that is not too deep.
    fn is_seen(&mut self, name: &str, begins: bool) -> bool {
        let last = |names: &[String]| names.iter().rposition(|n| n == name);
        if begins {
            let group = |n: &str| ITEMS.iter().position(|items| items.contains(&n));
            let same = |above: &String| group(name).is_some() && group(name) == group(above);
            let names = match self.passed.is_empty() {
                true => &mut self.open,
                false => &mut self.passed,
            };
            names.pop_if(|above| same(above));
            let deep = !self.passed.is_empty() || self.open.len() >= DEEPEST;
            let names = if deep {
                &mut self.passed
            } else {
                &mut self.open
            };
            // What is passed over is remembered only as far as that is of use.
            if names.len() < DEEPEST {
                names.push(name.to_owned());
            }
            return !deep;
        }
        if let Some(at) = last(&self.passed) {
            self.passed.truncate(at);
            return false;
        }
        if let Some(at) = last(&self.open) {
            self.open.truncate(at);
        }
        true
    }
}
