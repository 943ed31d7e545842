//! Names of the fields that a line has, for people who asked for others.

use std::cell::Cell;
use std::fmt;

use serde::de::{MapAccess, Visitor};

use super::{Passed, parse};
use crate::Silent;
use crate::input::resolve::Source;
use crate::input::stream::Lines;
use crate::input::{InputError, InputOptions};

/// Bytes of a first line that are looked at for its names.
const FIRST: usize = 1 << 20;
/// Names of fields that a person is told of, and characters of one.
const SHOWN: usize = 8;
const LONGEST: usize = 40;

/// The first names of the object that `line` is.
pub fn of(line: &str) -> Vec<String> {
    let names = Cell::new(Vec::new());
    match parse(line, Seen(&names)) {
        Ok(()) => names.into_inner(),
        Err(_) => Vec::new(),
    }
}

/// Where the first line of `bytes` is an object, or begins one that is longer than all of them: the first names that it has.
pub fn begins(bytes: &[u8]) -> Option<Vec<String>> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        // A character may be cut at the end.
        Err(e) => std::str::from_utf8(&bytes[..e.valid_up_to()]).ok()?,
    };
    let text = text.trim_start();
    let line = text.lines().next().filter(|line| line.starts_with('{'))?;
    let names = Cell::new(Vec::new());
    let read = parse(line, Seen(&names));
    let whole = line.len() < text.len();
    let is_object = match read {
        Ok(()) => true,
        Err(e) => e.is_eof() && !whole,
    };
    is_object.then(|| names.into_inner())
}

/// Whether the first line of `bytes` is only the beginning of a value, as those write JSON who write it for people.
pub fn is_pretty(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii_start();
    let end = text.iter().position(|&b| b == b'\n');
    let (line, rest) = text.split_at(end.unwrap_or(text.len()));
    match line.trim_ascii() {
        b"{" | b"[{" => begins_with_a_name(rest),
        b"[" => match rest.trim_ascii_start() {
            [b'{', rest @ ..] => begins_with_a_name(rest),
            _ => false,
        },
        // An object that goes on in the next line.
        [b'{', ..] if !rest.is_empty() => {
            let names = Cell::new(Vec::new());
            let read = std::str::from_utf8(line).map(|line| parse(line, Seen(&names)));
            read.is_ok_and(|read| read.is_err_and(|e| e.is_eof())) && !names.take().is_empty()
        }
        _ => false,
    }
}

fn begins_with_a_name(text: &[u8]) -> bool {
    let Some(text) = text.trim_ascii_start().strip_prefix(b"\"") else {
        return false;
    };
    let mut parts = text.splitn(2, |&b| b == b'"').skip(1);
    let after = parts.next().unwrap_or_default();
    after.trim_ascii_start().starts_with(b":")
}

/// The first names of the first line of a source, read for that.
pub fn first_names(
    source: &Source,
    options: &InputOptions,
) -> Result<Option<Vec<String>>, InputError> {
    let mut lines = Lines::open(source, options, &Silent, None)?;
    Ok(begins(&lines.first(FIRST)?))
}

/// Reads the first names of an object as far as there is one.
struct Seen<'n>(&'n Cell<Vec<String>>);

impl<'de> Visitor<'de> for Seen<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        while let Some(name) = object.next_key::<String>()? {
            let mut names = self.0.take();
            if names.len() < SHOWN {
                names.push(name.chars().take(LONGEST).collect());
            }
            self.0.set(names);
            object.next_value::<Passed>()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_known_by_its_beginning() {
        let known = |text: &str| begins(text.as_bytes());
        for (text, names) in [
            ("{\"text\": \"a\"}\n", "text"),
            (
                "\n \n{\"id\": 1, \"text\": [{\"x\": 2}]}\r\nmore",
                "id text",
            ),
            ("{\"a\": 1, \"text\": \"the rest is not h", "a text"),
            ("{\"a\": 1, \"te", "a"),
            ("{}\n{", ""),
        ] {
            assert_eq!(
                known(text).map(|n| n.join(" ")).as_deref(),
                Some(names),
                "{text}"
            );
        }
        for text in [
            "",
            "a\n{\"text\": 1}",
            "{\n\"text\": 1}",
            "{ is a brace\n",
            "{\"text\": \"a\"} and more\n",
            "{\"text\": \"the line ends\n\"}",
            "[1]\n",
            "\"text\"\n",
        ] {
            assert_eq!(known(text), None, "{text}");
        }
        for (text, pretty) in [
            ("{\n  \"text\": \"a\"\n}", true),
            ("[\r\n {\"text\": \"a\"}]", true),
            (" [{\n \"text\": ", true),
            ("{\"text\": \"a\"}\n", false),
            ("[1] A citation.\n", false),
            ("{\nis a brace", false),
            ("[\n\"What is this?\" she said.\n]", false),
            ("{\n\"quoted\" text in braces", false),
            ("{\"id\": 1,\n \"text\": \"a\"}", true),
            (
                "{\"id\": 1, \"text\": \"as long as what is looked at",
                false,
            ),
            ("[", false),
            ("", false),
        ] {
            assert_eq!(is_pretty(text.as_bytes()), pretty, "{text}");
        }
        // A character that is cut.
        let cut = "{\"text\": \"ä".as_bytes();
        assert!(begins(&cut[..cut.len() - 1]).is_some());
        // What is no UTF-8 is told of as a line of JSON.
        assert!(begins(b"{\"text\": \"\xff\xff\"}\n").is_some());
    }
}
