//! What rules see of a text around a place: the word before, what follows, and no further than a bounded distance.

use crate::language::{Flags, Language, Table};

/// Bytes that are looked at before a stop.
pub(crate) const BEHIND: usize = 48;

/// White space that is looked over after a stop, in bytes.
pub(crate) const GAP: usize = 256;

/// Closing or opening marks that are looked over.
pub(crate) const MARKS: usize = 8;

/// What a word before a stop looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// No word: white space, an opening mark or the beginning of the sentence.
    Empty,
    /// A closing mark.
    Closed,
    /// Digits, and no letter.
    Number,
    /// One letter.
    Letter {
        /// In upper case.
        upper: bool,
    },
    /// Single letters with full stops between.
    Dotted,
    /// Letters only.
    Plain,
    /// Anything else: names of files, versions, addresses, what is too long.
    Code,
}

/// The word before a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word<'a> {
    pub(crate) text: &'a str,
    pub(crate) start: usize,
    pub(crate) shape: Shape,
    pub(crate) flags: Flags,
}

/// What a sentence that begins after a stop would begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Nothing: the end of the text, or a blank line.
    End,
    Upper,
    Lower,
    Digit,
    /// A stop or sign that no sentence begins with.
    Inside,
    /// A sign, or a letter without case.
    Other,
}

/// What follows white space after a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Next {
    /// Where it begins.
    pub(crate) at: usize,
    /// Where its first word begins, behind opening marks.
    pub(crate) word: usize,
    pub(crate) class: Class,
}

/// Closing marks after a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) end: usize,
    /// One of them is a quotation mark.
    pub(crate) quote: bool,
    /// One of them is a bracket.
    pub(crate) bracket: bool,
}

/// Eyes for the rules. There are two pairs: these are fast, those of the tests are plain.
pub(crate) trait Sight<'a> {
    /// The word that ends at `end`, in a sentence that begins at `floor`.
    fn before(&self, end: usize, floor: usize) -> Word<'a>;
    /// What follows at `at`, where white space may be.
    fn after(&self, at: usize) -> Next;
    /// The closing marks at `at`.
    fn closers(&self, at: usize) -> Closed;
    /// What the language says of a word.
    fn flags(&self, word: &str) -> Flags;
    /// Whether a word of two small letters of ASCII or more, of which the language says nothing, stands between a space and `end`, in a sentence that begins at `floor`.
    /// A sight without this short cut says no.
    fn is_common(&self, _end: usize, _floor: usize) -> bool {
        false
    }
    /// Whether rules may leave out what surely comes to nothing.
    fn takes_short_cuts(&self) -> bool {
        false
    }
}

/// The character at a place, if the text goes so far.
#[inline]
pub(crate) fn char_at(text: &str, at: usize) -> Option<char> {
    let byte = *text.as_bytes().get(at)?;
    if byte < 0x80 {
        Some(byte as char)
    } else {
        text.get(at..)?.chars().next()
    }
}

/// The character that ends at a place.
#[inline]
pub(crate) fn char_before(text: &str, end: usize) -> Option<char> {
    let byte = *text.as_bytes().get(end.checked_sub(1)?)?;
    if byte < 0x80 {
        Some(byte as char)
    } else {
        text.get(..end)?.chars().next_back()
    }
}

/// Whether the text ends or white space begins there.
#[inline]
pub(crate) fn space_at(text: &str, at: usize) -> bool {
    char_at(text, at).is_none_or(char::is_whitespace)
}

/// Marks that close a quotation, right after a stop.
pub(crate) fn is_quote(c: char) -> bool {
    matches!(
        c,
        '"' | '\'' | '`' | '”' | '’' | '“' | '‘' | '»' | '«' | '›' | '‹' | '」' | '』' | '｣'
    )
}

/// Marks that close, right after a stop.
pub(crate) fn is_closer(c: char) -> bool {
    is_quote(c)
        || matches!(
            c,
            ')' | ']' | '}' | '*' | '_' | '）' | '】' | '》' | '〉' | '］' | '〕'
        )
}

/// Marks that words are cut at.
pub(crate) fn is_break(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '(' | '[' | '{' | '<' | '>' | ')' | ']' | '}' | '"' | '`' | '*' | '~' | '-' | '|'
        )
        || matches!(c, '‐'..='―' | '‘' | '“'..='‟' | '…' | '«' | '»' | '‹' | '›' | '¿' | '¡' | '•')
        || matches!(c, '、'..='】' | '（' | '）' | '，' | '：')
}

/// Marks that a word may begin with, which are no part of it.
pub(crate) fn is_prefix(c: char) -> bool {
    matches!(c, '\'' | '’' | '.' | '_')
}

/// Marks that open what comes after them.
pub(crate) fn is_opener(c: char) -> bool {
    matches!(
        c,
        '"' | '\'' | '`' | '(' | '[' | '{' | '*' | '_' | '¿' | '¡' | '«' | '»' | '‹' | '›'
    ) || matches!(c, '‘'..='‟' | '「' | '『' | '（' | '【' | '《')
}

/// Dashes, which may stand before a sentence with white space between.
pub(crate) fn is_dash(c: char) -> bool {
    matches!(c, '-' | '–' | '—' | '―')
}

/// Letters of Chinese and Japanese, which are written without spaces.
pub(crate) fn is_wide(c: char) -> bool {
    matches!(c, '\u{3041}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}')
}

pub(crate) fn class_of(c: char) -> Class {
    match c {
        _ if c.is_uppercase() => Class::Upper,
        _ if c.is_lowercase() => Class::Lower,
        _ if c.is_numeric() => Class::Digit,
        '.' | '!' | '?' | '…' | '&' | ',' | ';' | ':' | '=' | '+' | '>' | ')' | ']' | '}' => {
            Class::Inside
        }
        _ => Class::Other,
    }
}

/// The shape of a word that is not empty, from counts of its characters.
pub(crate) fn shape(
    letters: usize,
    digits: usize,
    dots: usize,
    others: usize,
    first: char,
    pairs: bool,
) -> Shape {
    if letters == 0 {
        if digits > 0 {
            Shape::Number
        } else {
            Shape::Code
        }
    } else if digits + others > 0 {
        Shape::Code
    } else if dots == 0 {
        if letters == 1 {
            Shape::Letter {
                upper: first.is_uppercase(),
            }
        } else {
            Shape::Plain
        }
    } else if pairs || dots + 1 != letters {
        Shape::Code
    } else {
        Shape::Dotted
    }
}

/// The fast eyes.
pub(crate) struct Keen<'a> {
    text: &'a str,
    table: &'a Table,
}

impl<'a> Keen<'a> {
    pub(crate) fn new(text: &'a str, language: &'static Language) -> Self {
        Self {
            text,
            table: language.table(),
        }
    }
}

/// What an ASCII character is, as bits.
const SPACE: u8 = 1;
const BREAK: u8 = 2;
const LETTER: u8 = 4;
const DIGIT: u8 = 8;
const CLOSER: u8 = 16;
const OPENER: u8 = 32;
const HIGH: u8 = 64;

static ASCII: [u8; 256] = ascii();

const fn ascii() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'\t'..=b'\r' | b' ' => SPACE | BREAK,
            b'a'..=b'z' | b'A'..=b'Z' => LETTER,
            b'0'..=b'9' => DIGIT,
            b'(' | b'[' | b'{' => BREAK | OPENER,
            b')' | b']' | b'}' => BREAK | CLOSER,
            b'"' | b'`' | b'*' => BREAK | OPENER | CLOSER,
            b'\'' | b'_' => OPENER | CLOSER,
            b'<' | b'>' | b'~' | b'-' | b'|' => BREAK,
            0x80..=0xff => HIGH,
            _ => 0,
        };
        byte += 1;
    }
    table
}

impl<'a> Sight<'a> for Keen<'a> {
    #[inline]
    fn before(&self, end: usize, floor: usize) -> Word<'a> {
        let bytes = self.text.as_bytes();
        if let Some(last) = bytes[floor..end].last_chunk() {
            let letters = last_letters(last, SMALL) as usize;
            if (1..AT_ONCE).contains(&letters) {
                let sign = last[AT_ONCE - 1 - letters];
                if ASCII[sign as usize] & BREAK == 0 || (letters == 1 && sign == b'-') {
                    return before_slowly(self.text, end, floor, |word| self.table.flags(word));
                }
                let start = end - letters;
                let upper = bytes[start].is_ascii_uppercase();
                return Word {
                    text: &self.text[start..end],
                    start,
                    shape: match letters {
                        1 => Shape::Letter { upper },
                        _ => Shape::Plain,
                    },
                    flags: self.table.flags_of_letters(last, letters),
                };
            }
        }
        let lowest = floor.max(end.saturating_sub(BEHIND));
        let mut start = end;
        // Letters as long as there is nothing else: most words.
        while start > lowest && ASCII[bytes[start - 1] as usize] == LETTER {
            start -= 1;
        }
        if start < end && start > lowest && ASCII[bytes[start - 1] as usize] & BREAK == 0 {
            return before_slowly(self.text, end, floor, |word| self.table.flags(word));
        }
        let odd = start == end || (start == lowest && start > floor);
        if odd || (end - start == 1 && start > floor && bytes[start - 1] == b'-') {
            return before_slowly(self.text, end, floor, |word| self.table.flags(word));
        }
        let text = &self.text[start..end];
        let shape = if end - start == 1 {
            Shape::Letter {
                upper: bytes[start].is_ascii_uppercase(),
            }
        } else {
            Shape::Plain
        };
        Word {
            text,
            start,
            shape,
            flags: self.table.flags(text),
        }
    }

    #[inline]
    fn after(&self, at: usize) -> Next {
        let bytes = self.text.as_bytes();
        if let [b' ', letter, ..] = bytes[at..] {
            let class = match letter {
                b'A'..=b'Z' => Class::Upper,
                b'a'..=b'z' => Class::Lower,
                b'0'..=b'9' => Class::Digit,
                _ => return after_slowly(self.text, at),
            };
            return Next {
                at: at + 1,
                word: at + 1,
                class,
            };
        }
        after_slowly(self.text, at)
    }

    #[inline]
    fn closers(&self, at: usize) -> Closed {
        match self.text.as_bytes().get(at) {
            Some(&byte) if ASCII[byte as usize] & (CLOSER | OPENER | HIGH | SPACE) != 0 => {
                if byte == b' ' && self.text.as_bytes().get(at + 1) != Some(&0xc2) {
                    Closed {
                        end: at,
                        quote: false,
                        bracket: false,
                    }
                } else {
                    closers_slowly(self.text, at)
                }
            }
            _ => Closed {
                end: at,
                quote: false,
                bracket: false,
            },
        }
    }

    #[inline]
    fn flags(&self, word: &str) -> Flags {
        self.table.flags(word)
    }

    #[inline]
    fn takes_short_cuts(&self) -> bool {
        true
    }

    #[inline]
    fn is_common(&self, end: usize, floor: usize) -> bool {
        let Some(last) = self.text.as_bytes()[floor..end].last_chunk() else {
            return false;
        };
        let letters = last_letters(last, 0) as usize;
        (2..AT_ONCE).contains(&letters)
            && last[AT_ONCE - 1 - letters] == b' '
            && self.table.flags_of_letters(last, letters) == Flags::default()
    }
}

/// Bytes that are looked at together.
const AT_ONCE: usize = 16;

/// The bit that makes a letter of ASCII small.
const SMALL: u8 = 0x20;

/// How many small letters of ASCII stand at the end, of bytes in which the bits of `set` are set: letters of any case where that is [`SMALL`].
#[inline]
fn last_letters(bytes: &[u8; AT_ONCE], set: u8) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{
            _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128,
            _mm_set1_epi8, _mm_sub_epi8,
        };
        // SAFETY: there are 16 bytes, and every processor of this architecture has these instructions.
        let small = unsafe {
            let bytes = _mm_loadu_si128(bytes.as_ptr().cast());
            let bytes = _mm_or_si128(bytes, _mm_set1_epi8(set.cast_signed()));
            let from_a = _mm_sub_epi8(bytes, _mm_set1_epi8(b'a'.cast_signed()));
            let most = _mm_min_epu8(from_a, _mm_set1_epi8(25));
            _mm_movemask_epi8(_mm_cmpeq_epi8(most, from_a))
        };
        (small as u16).leading_ones()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let last = bytes.iter().rev();
        last.take_while(|&byte| (byte | set).is_ascii_lowercase())
            .count() as u32
    }
}

/// The word before a place, character by character.
#[inline(never)]
pub(crate) fn before_slowly<'a>(
    text: &'a str,
    end: usize,
    floor: usize,
    flags: impl Fn(&str) -> Flags,
) -> Word<'a> {
    let nothing = |shape| Word {
        text: "",
        start: end,
        shape,
        flags: Flags::default(),
    };
    match char_before(text, end) {
        Some(c) if end > floor && is_closer(c) && c != '’' && c != '\'' && c != '_' => {
            return nothing(Shape::Closed);
        }
        _ => {}
    }
    let (mut letters, mut digits, mut dots, mut others) = (0, 0, 0, 0);
    let (mut start, mut cut, mut pairs, mut first) = (end, false, false, ' ');
    for c in text[floor..end].chars().rev() {
        if is_break(c) {
            cut = true;
            break;
        }
        if end - start + c.len_utf8() > BEHIND {
            break;
        }
        start -= c.len_utf8();
        match c {
            '.' => dots += 1,
            '\'' | '’' => {}
            _ if c.is_alphabetic() => letters += 1,
            _ if c.is_numeric() => digits += 1,
            _ => others += 1,
        }
        pairs |= c.is_alphabetic() && first.is_alphabetic();
        first = c;
    }
    if !cut && start > floor {
        return nothing(Shape::Code);
    }
    while let Some(c) = char_at(text, start).filter(|&c| start < end && is_prefix(c)) {
        match c {
            '.' => dots -= 1,
            '_' => others -= 1,
            _ => {}
        }
        start += c.len_utf8();
    }
    let Some(first) = char_at(text, start).filter(|_| start < end) else {
        return nothing(Shape::Empty);
    };
    let word = &text[start..end];
    let mut shape = shape(letters, digits, dots, others, first, pairs);
    let sign = char_before(text, start).filter(|c| start > floor && matches!(c, '-' | '‐' | '‑'));
    let joined = sign.is_some_and(|c| {
        char_before(text, start - c.len_utf8()).is_some_and(char::is_alphanumeric)
    });
    if joined && matches!(shape, Shape::Letter { .. }) {
        shape = Shape::Plain;
    }
    // "l'art."
    let behind = word.rsplit(['\'', '’']).next().unwrap_or(word);
    let flags = match flags(word) {
        none if none == Flags::default() && behind.len() < word.len() => flags(behind),
        flags => flags,
    };
    Word {
        text: word,
        start,
        shape,
        flags,
    }
}

/// What follows a place, character by character.
#[inline(never)]
pub(crate) fn after_slowly(text: &str, from: usize) -> Next {
    let (mut at, mut lines) = (from, 0);
    let end = |at| Next {
        at,
        word: at,
        class: Class::End,
    };
    loop {
        match char_at(text, at) {
            None => return end(at),
            Some('\n') if lines == 1 => return end(at),
            Some('\u{2029}') => return end(at),
            Some(c) if c.is_whitespace() && at - from < GAP => {
                lines += usize::from(c == '\n');
                at += c.len_utf8();
            }
            Some(c) if c.is_whitespace() => {
                return Next {
                    at,
                    word: at,
                    class: Class::Other,
                };
            }
            Some(_) => break,
        }
    }
    let (mut word, mut marks) = (at, 0);
    while let Some(c) = char_at(text, word).filter(|_| marks < MARKS) {
        let behind = word + c.len_utf8();
        if is_opener(c) && !space_at(text, behind) {
            word = behind;
        } else if is_dash(c) && char_at(text, behind) == Some(' ') {
            word = behind + 1;
        } else if is_dash(c) && c != '-' && char_at(text, behind).is_some_and(char::is_alphabetic) {
            // "—¡No! —gritó él."
            word = behind;
        } else {
            break;
        }
        marks += 1;
    }
    let class = match char_at(text, word) {
        None => Class::Other,
        Some(c) if c.is_whitespace() => Class::Other,
        Some(c) => class_of(c),
    };
    // ".NET", "./configure"
    let named = char_at(text, word) == Some('.')
        && char_at(text, word + 1).is_some_and(|c| c.is_alphanumeric() || c == '/');
    let class = if named {
        Class::Other
    } else if class == Class::Lower && elided(text, word) {
        Class::Upper
    } else {
        class
    };
    Next { at, word, class }
}

/// Whether a word that lost its beginning stands there, before the one that has the capital: "'s Avonds", "’t Is".
fn elided(text: &str, word: usize) -> bool {
    let rest = text.as_bytes().get(word + 1..).unwrap_or_default();
    matches!(char_before(text, word), Some('\'' | '’'))
        && text.as_bytes()[word].is_ascii_lowercase()
        && rest.first() == Some(&b' ')
        && rest.get(1).is_some_and(u8::is_ascii_uppercase)
}

/// The closing marks at a place, character by character.
#[inline(never)]
pub(crate) fn closers_slowly(text: &str, at: usize) -> Closed {
    let mut closed = Closed {
        end: at,
        quote: false,
        bracket: false,
    };
    for _ in 0..MARKS {
        let Some(c) = char_at(text, closed.end) else {
            break;
        };
        let behind = closed.end + c.len_utf8();
        if is_closer(c) {
            closed.end = behind;
            closed.quote |= is_quote(c);
            closed.bracket |= matches!(c, ')' | ']' | '}' | '）' | '］');
        } else if c == '[' {
            // A note: "[12]", "[note 3]".
            let note = text.as_bytes()[behind..].iter().take(12);
            let inside =
                note.take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b',' | b' ' | b'-'));
            let close = behind + inside.count();
            if close == behind || char_at(text, close) != Some(']') {
                break;
            }
            closed.end = close + 1;
        } else if matches!(c, ' ' | '\u{a0}' | '\u{202f}') && char_at(text, behind) == Some('»') {
            let end = behind + '»'.len_utf8();
            if !(space_at(text, end) || matches!(char_at(text, end), Some(',' | '.' | ')'))) {
                break;
            }
            closed.end = end;
            closed.quote = true;
        } else {
            break;
        }
    }
    closed
}
