//! What the items of lists begin with: "1.", "2)", "(3)", "a.", "iv.", "•".

use crate::sight::{char_at, space_at};

/// What an item begins with. What cannot be told apart ("i." is a letter and a number) is all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    number: Option<u32>,
    letter: Option<u8>,
    roman: Option<u32>,
    form: Form,
}

/// What stands around the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Bullet,
    Period,
    Bracket,
    PeriodBracket,
    Brackets,
}

impl Item {
    /// Whether this item comes right after another.
    pub(crate) fn follows(&self, last: &Self) -> bool {
        let next =
            |a: Option<u32>, b: Option<u32>| matches!((a, b), (Some(a), Some(b)) if b == a + 1);
        let letters = (last.letter.map(u32::from), self.letter.map(u32::from));
        self.form == last.form
            && (next(last.number, self.number)
                || next(last.roman, self.roman)
                || next(letters.0, letters.1))
    }

    /// Whether a list may begin with it.
    pub(crate) fn first(&self) -> bool {
        self.form == Form::Bullet
            || self.number == Some(1)
            || self.roman == Some(1)
            || matches!(self.letter, Some(b'a' | b'A'))
    }

    /// A sign without number.
    pub(crate) fn bullet(&self) -> bool {
        self.form == Form::Bullet
    }

    /// A number, not a letter that may be an initial.
    pub(crate) fn numbered(&self) -> bool {
        self.number.is_some()
    }

    /// Whether a bracket stands behind the number.
    pub(crate) fn bracketed(&self) -> bool {
        self.form != Form::Period
    }
}

/// Signs before items, besides those that are punctuation.
pub(crate) fn is_bullet(c: char) -> bool {
    matches!(c, '•' | '‣' | '⁃' | '◦' | '▪' | '▫' | '●' | '○' | '■' | '□')
}

/// The beginning of an item at `at`, and where its text begins.
pub(crate) fn read(text: &str, at: usize) -> Option<(Item, usize)> {
    let bytes = text.as_bytes();
    match *bytes.get(at)? {
        b'0'..=b'9' | b'(' | b'a'..=b'z' | b'A'..=b'Z' => numbered(text, at),
        b'-' | b'*' | b'+' if matches!(bytes.get(at + 1), Some(b' ' | b'\t')) => {
            Some(bulleted(text, at + 1))
        }
        0xe2 => {
            let c = char_at(text, at).filter(|&c| is_bullet(c))?;
            Some(bulleted(text, at + c.len_utf8()))
        }
        _ => None,
    }
}

/// What follows a bullet: a number may.
fn bulleted(text: &str, behind: usize) -> (Item, usize) {
    let bullet = Item {
        number: None,
        letter: None,
        roman: None,
        form: Form::Bullet,
    };
    let spaces = text.as_bytes()[behind..].iter().take(8);
    let at = behind + spaces.take_while(|&&b| b == b' ' || b == b'\t').count();
    let end = match text.as_bytes().get(at) {
        Some(b'0'..=b'9') => numbered(text, at).map_or(at, |(_, end)| end),
        _ => at,
    };
    (bullet, end)
}

fn numbered(text: &str, at: usize) -> Option<(Item, usize)> {
    let bytes = text.as_bytes();
    let open = bytes[at] == b'(';
    let from = at + usize::from(open);
    // Most words are no numerals.
    if let [first, second, ..] = bytes[from..]
        && first.is_ascii_alphabetic()
        && second.is_ascii_alphabetic()
        && !(is_numeral(first) && is_numeral(second))
    {
        return None;
    }
    let most = &bytes[from..bytes.len().min(from + 6)];
    let digits = most.iter().take_while(|b| b.is_ascii_digit()).count();
    let letters = most.iter().take_while(|b| b.is_ascii_alphabetic());
    let letters = letters.count();
    let end = from + digits.max(letters);
    if !matches!(bytes.get(end), Some(b'.' | b')')) {
        return None;
    }
    let label = &text[from..end];
    let mut item = Item {
        number: None,
        letter: None,
        roman: roman(label),
        form: Form::Period,
    };
    match (digits, letters) {
        (1..=3, _) => item.number = label.parse().ok(),
        (_, 1) => item.letter = Some(label.as_bytes()[0]),
        _ if item.roman.is_some() => {}
        _ => return None,
    }
    let length;
    (item.form, length) = match (open, &bytes[end..bytes.len().min(end + 2)]) {
        (true, [b')', ..]) => (Form::Brackets, 1),
        (false, [b'.', b')']) => (Form::PeriodBracket, 2),
        (false, [b'.', ..]) => (Form::Period, 1),
        (false, [b')', ..]) => (Form::Bracket, 1),
        _ => return None,
    };
    let end = end + length;
    if !space_at(text, end) {
        return None;
    }
    let spaces = bytes[end..].iter().take(8);
    let end = end + spaces.take_while(|&&b| b == b' ' || b == b'\t').count();
    // Nothing behind it in its line: no item.
    (!space_at(text, end)).then_some((item, end))
}

/// Whether small numbers in Roman numerals are made of this letter.
fn is_numeral(byte: u8) -> bool {
    matches!(byte, b'i' | b'v' | b'x' | b'I' | b'V' | b'X')
}

/// A small number in Roman numerals, of one case.
fn roman(label: &str) -> Option<u32> {
    const NUMERALS: [&str; 20] = [
        "i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii", "xiii", "xiv",
        "xv", "xvi", "xvii", "xviii", "xix", "xx",
    ];
    let bytes = label.as_bytes();
    let upper = bytes.first()?.is_ascii_uppercase();
    let of_case = |b: &u8| b.is_ascii_uppercase() == upper && is_numeral(*b);
    if !bytes.iter().all(of_case) {
        return None;
    }
    let place = NUMERALS
        .iter()
        .position(|n| n.as_bytes().eq_ignore_ascii_case(bytes))?;
    Some(place as u32 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_read_and_follow_one_another() {
        for (first, then) in [
            ("1. A", "2. B"),
            ("9) A", "10) B"),
            ("(1) A", "(2) B"),
            ("1.) A", "2.) B"),
            ("a. A", "b. B"),
            ("i. A", "ii. B"),
            ("iv) A", "v) B"),
            ("h) A", "i) B"),
        ] {
            let (a, end) = read(first, 0).unwrap();
            let (b, _) = read(then, 0).unwrap();
            assert_eq!(&first[end..], "A");
            assert!(
                b.follows(&a) && !a.follows(&b) && !a.follows(&a),
                "{first} {then}"
            );
        }
        assert!(
            !read("2. B", 0)
                .unwrap()
                .0
                .follows(&read("1) A", 0).unwrap().0)
        );
        assert_eq!(read("• 9. The", 0).unwrap().1, "• 9. ".len());
        assert_eq!(read("⁃9. The", 0).unwrap().1, "⁃9. ".len());
        for text in [
            "1.5 A", "1990. A", "1.", "1. ", "1.\nA", "(a A", "Mr. A", "-a", "ivi. A", "Ii. A",
        ] {
            assert_eq!(read(text, 0), None, "{text}");
        }
    }
}
