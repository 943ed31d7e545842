//! The fields of a line, without a value for anything else in it.
//!
//! What this is not sure of is `None`, and then the library is asked: errors of any kind, wanted fields that stand there twice or under an escaped name, numbers
//! that may not fit, depths that the library may refuse. What it gives is what the library would have given.

use memchr::memchr2;
use serde_json::Value;

use super::{copy, metadata};
use crate::input::{Found, InputOptions};

/// Values in values that are looked through; the library goes down to 128.
const DEPTH: u32 = 64;
/// Bytes of a field beside the text.
const MOST_KEPT: usize = 4_096;
/// Digits and signs of a number that surely is one: no exponent of two digits makes so many too large.
const DIGITS: usize = 40;

/// The document of `line`, or `None` where the library has to look.
pub(super) fn document(line: &str, options: &InputOptions) -> Option<Found> {
    let line = line.trim_end_matches(['\r', '\n']);
    let mut wanted = Wanted::of(options)?;
    let mut scan = Scan { line, at: 0 };
    scan.spaces();
    scan.take(b'{')?;
    loop {
        scan.spaces();
        let name = scan.name()?;
        scan.colon()?;
        wanted.field(name, &mut scan)?;
        scan.spaces();
        match scan.next()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    scan.spaces();
    if scan.at < line.len() {
        return None;
    }
    wanted.found()
}

/// The fields that are wanted, and those that were there.
struct Wanted<'o> {
    options: &'o InputOptions,
    text: Option<String>,
    id: Option<String>,
    meta: Vec<Option<Value>>,
}

impl<'o> Wanted<'o> {
    /// `None` where a field is wanted twice.
    fn of(options: &'o InputOptions) -> Option<Self> {
        let (text, id) = (&options.text_field, options.id_field.as_ref());
        let meta = &options.meta_fields;
        let mut more = meta.iter().enumerate();
        if id == Some(text)
            || more.any(|(i, m)| m == text || Some(m) == id || meta[..i].contains(m))
        {
            return None;
        }
        Some(Self {
            options,
            text: None,
            id: None,
            meta: vec![None; options.meta_fields.len()],
        })
    }

    /// Takes the value of a field, or passes over it.
    fn field(&mut self, name: &str, scan: &mut Scan<'_>) -> Option<()> {
        if name == self.options.text_field {
            let text = scan.text()?;
            return self.text.replace(text).is_none().then_some(());
        }
        if Some(name) == self.options.id_field.as_deref() {
            let id = scan.id().filter(|id| id.len() <= MOST_KEPT)?;
            return self.id.replace(id).is_none().then_some(());
        }
        if let Some(i) = self.options.meta_fields.iter().position(|m| m == name) {
            let from = scan.at;
            scan.value(DEPTH)?;
            // How much is kept is counted by the library.
            if scan.at - from > MOST_KEPT {
                return None;
            }
            let value = serde_json::from_str(&scan.line[from..scan.at]).ok()?;
            return self.meta[i].replace(value).is_none().then_some(());
        }
        scan.value(DEPTH)
    }

    fn found(mut self) -> Option<Found> {
        if self.options.id_field.is_some() && self.id.is_none() {
            return None;
        }
        let names = &self.options.meta_fields;
        let values = &mut self.meta;
        let meta = metadata(names, |name| {
            let i = names.iter().position(|n| n == name)?;
            values[i].take()
        });
        Some(Found {
            id: self.id,
            meta,
            text: self.text?,
        })
    }
}

/// Where a string goes.
pub(super) trait Out {
    fn piece(&mut self, piece: &str);
    fn char(&mut self, c: char);
}

impl Out for Vec<u8> {
    fn piece(&mut self, piece: &str) {
        self.extend_from_slice(piece.as_bytes());
    }

    fn char(&mut self, c: char) {
        if c.is_ascii() {
            self.push(c as u8);
        } else {
            self.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

/// Nowhere.
impl Out for () {
    fn piece(&mut self, _: &str) {}

    fn char(&mut self, _: char) {}
}

/// Whether there are control characters, which no string must hold as they are.
fn has_control(text: &str) -> bool {
    text.bytes().fold(false, |any, byte| any | (byte < b' '))
}

/// The first quote or backslash among eight bytes: escapes often stand together, and a search is a call.
fn near(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let eight = u64::from_le_bytes(*bytes.first_chunk()?);
    // The high bit of each byte that is 0, and of some above the first such.
    let zeros = |x: u64| x.wrapping_sub(ONES) & !x & (ONES << 7);
    let found = zeros(eight ^ (ONES * u64::from(b'"'))) | zeros(eight ^ (ONES * u64::from(b'\\')));
    (found != 0).then(|| found.trailing_zeros() as usize / 8)
}

/// A place in a line.
pub(super) struct Scan<'l> {
    pub line: &'l str,
    pub at: usize,
}

impl<'l> Scan<'l> {
    fn peek(&self) -> Option<u8> {
        self.line.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn spaces(&mut self) {
        while self.peek() == Some(b' ') {
            self.at += 1;
        }
    }

    /// What stands between a name and its value.
    fn colon(&mut self) -> Option<()> {
        self.spaces();
        self.take(b':')?;
        self.spaces();
        Some(())
    }

    /// The name of a field: one without escapes, and none that the library has a meaning for.
    fn name(&mut self) -> Option<&'l str> {
        self.take(b'"')?;
        let rest = &self.line[self.at..];
        let end = memchr2(b'"', b'\\', rest.as_bytes())?;
        let name = &rest[..end];
        self.at += end;
        self.take(b'"')?;
        (!name.starts_with('$') && !has_control(name)).then_some(name)
    }

    /// A string.
    fn text(&mut self) -> Option<String> {
        self.take(b'"')?;
        // Nothing grows when it is read.
        let mut text = Vec::with_capacity(self.line.len() - self.at + copy::BEYOND);
        copy::string(self, &mut text)?;
        if text.capacity() > 2 * text.len() {
            text.shrink_to_fit();
        }
        // SAFETY: it is made of characters, and of pieces of a text between bytes of ASCII.
        Some(unsafe { String::from_utf8_unchecked(text) })
    }

    /// An id: a string or an integer.
    fn id(&mut self) -> Option<String> {
        if self.peek()? == b'"' {
            return self.text();
        }
        let from = self.at;
        self.value(0)?;
        let id = &self.line[from..self.at];
        let digits = id.strip_prefix('-').unwrap_or(id);
        let whole = digits.bytes().all(|b| b.is_ascii_digit()) && digits.len() < 19;
        (whole && id != "-0").then(|| id.to_owned())
    }

    /// What is left of a string, by pieces: as they are, or a character that was escaped.
    pub fn string(&mut self, out: &mut impl Out) -> Option<()> {
        loop {
            let rest = &self.line[self.at..];
            let end = match near(rest.as_bytes()) {
                Some(end) => end,
                None => memchr2(b'"', b'\\', rest.as_bytes())?,
            };
            let piece = &rest[..end];
            if has_control(piece) {
                return None;
            }
            out.piece(piece);
            self.at += end + 1;
            if rest.as_bytes()[end] == b'"' {
                return Some(());
            }
            out.char(self.escape()?);
        }
    }

    /// What follows a backslash.
    pub fn escape(&mut self) -> Option<char> {
        Some(match self.next()? {
            b'n' => '\n',
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b't' => '\t',
            b'r' => '\r',
            b'b' => '\x08',
            b'f' => '\x0c',
            b'u' => return self.code(),
            _ => return None,
        })
    }

    /// A character by its number, or by two halves.
    fn code(&mut self) -> Option<char> {
        let first = self.hex()?;
        if !(0xD800..0xDC00).contains(&first) {
            return char::from_u32(first);
        }
        self.take(b'\\')?;
        self.take(b'u')?;
        let second = self.hex()?;
        let second = (0xDC00..0xE000).contains(&second).then_some(second)?;
        char::from_u32(0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00))
    }

    fn hex(&mut self) -> Option<u32> {
        let mut number = 0;
        for _ in 0..4 {
            number = number << 4 | char::from(self.next()?).to_digit(16)?;
        }
        Some(number)
    }

    /// Passes over a value, which may hold others down to `depth`.
    fn value(&mut self, depth: u32) -> Option<()> {
        let rest = &self.line.as_bytes()[self.at..];
        let word = |word: &[u8]| rest.starts_with(word).then_some(word.len());
        match self.peek()? {
            b'"' => {
                self.at += 1;
                self.string(&mut ())
            }
            b'{' => self.members(b'}', depth.checked_sub(1)?, |scan| {
                scan.name()?;
                scan.colon()
            }),
            b'[' => self.members(b']', depth.checked_sub(1)?, |_| Some(())),
            first => {
                self.at += match first {
                    b't' => word(b"true")?,
                    b'f' => word(b"false")?,
                    b'n' => word(b"null")?,
                    b'-' | b'0'..=b'9' => number(rest)?,
                    _ => return None,
                };
                Some(())
            }
        }
    }

    /// Passes over what stands between brackets: values, each after its `head`.
    fn members(
        &mut self,
        close: u8,
        depth: u32,
        head: impl Fn(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.at += 1;
        self.spaces();
        if self.peek()? == close {
            self.at += 1;
            return Some(());
        }
        loop {
            self.spaces();
            head(self)?;
            self.value(depth)?;
            self.spaces();
            match self.next()? {
                b',' => {}
                byte => return (byte == close).then_some(()),
            }
        }
    }
}

/// How long the number is that `bytes` begin with.
fn number(bytes: &[u8]) -> Option<usize> {
    let digits = |from: usize| {
        bytes[from..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count()
    };
    let mut end = usize::from(bytes[0] == b'-');
    let whole = digits(end);
    if whole == 0 || (whole > 1 && bytes[end] == b'0') {
        return None;
    }
    end += whole;
    if bytes.get(end) == Some(&b'.') {
        let fraction = digits(end + 1);
        end += (fraction > 0).then_some(1 + fraction)?;
    }
    if end > DIGITS {
        return None;
    }
    if let Some(b'e' | b'E') = bytes.get(end) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + sign);
        end += (1..=2).contains(&exponent).then_some(1 + sign + exponent)?;
    }
    Some(end)
}
