//! What BERT's normaliser and pre-tokenizer make of each character.
//!
//! Both look at one character at a time, but for one thing: stripping accents decomposes text canonically, which orders combining marks. Marks that are stripped
//! (non-spacing ones) do not matter for that. Characters that leave other marks are [`Class::Ordered`], and text with them is normalised as a whole.

use std::sync::OnceLock;

use unicode_categories::UnicodeCategories;
use unicode_normalization_alignments::UnicodeNormalization;
use unicode_normalization_alignments::char::canonical_combining_class;

use crate::Settings;

/// What becomes of a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A part of a word, as it is.
    Same,
    /// Nothing.
    Gone,
    /// Ends a word.
    Space,
    /// A word of its own, as it is.
    Alone,
    /// Other characters: pieces from here, so many.
    Other(u16, u8),
    /// Decomposes into marks that have an order.
    Ordered,
}

/// What stands for a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The character.
    pub c: char,
    /// What it is to words: `Same`, `Space` or `Alone`.
    pub class: Class,
}

/// The classes of all characters, a block of 256 at a time when one of it is met first.
#[derive(Debug)]
pub struct Table {
    settings: Settings,
    blocks: Vec<OnceLock<Box<Block>>>,
}

#[derive(Debug)]
struct Block {
    classes: [Class; 256],
    pieces: Vec<Piece>,
}

/// Ideographs that are words of their own, as BERT has it.
fn is_ideograph(c: char) -> bool {
    matches!(
        u32::from(c),
        0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2A6DF | 0x2A700..=0x2B73F | 0x2B740..=0x2B81F | 0x2B920..=0x2CEAF | 0xF900..=0xFAFF | 0x2F800..=0x2FA1F
    )
}

/// What a character is to words once it is normalised.
pub fn of_normal(c: char) -> Class {
    if c.is_whitespace() {
        Class::Space
    } else if c.is_ascii_punctuation() || c.is_punctuation() {
        Class::Alone
    } else {
        Class::Same
    }
}

/// Whether clean-up leaves a character out.
fn is_removed(c: char) -> bool {
    !matches!(c, '\t' | '\n' | '\r') && (c == '\0' || c == '\u{fffd}' || c.is_other())
}

/// All characters that text of `settings` has in place of `text`: clean-up, ideographs, accents, case, one after another.
pub fn normalize(text: &str, settings: &Settings) -> String {
    let cleaned = text.chars().filter(|c| !is_removed(*c));
    let cleaned = cleaned.map(|c| if c.is_whitespace() { ' ' } else { c });
    let mut out = String::with_capacity(text.len() + 16);
    for c in cleaned {
        if settings.tokenize_chinese_chars && is_ideograph(c) {
            out.extend([' ', c, ' ']);
        } else {
            out.push(c);
        }
    }
    if settings.strips_accents() {
        out = out
            .nfd()
            .map(|(c, _)| c)
            .filter(|c| !c.is_mark_nonspacing())
            .collect();
    }
    if settings.lowercase {
        out = out.chars().flat_map(char::to_lowercase).collect();
    }
    out
}

impl Table {
    /// The table for `settings`.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            blocks: (0..0x1100).map(|_| OnceLock::new()).collect(),
        }
    }

    #[inline]
    fn block(&self, c: char) -> &Block {
        let number = u32::from(c) >> 8;
        self.blocks[number as usize].get_or_init(|| Box::new(Block::new(number, &self.settings)))
    }

    /// What becomes of `c`.
    #[inline]
    pub fn class(&self, c: char) -> Class {
        self.block(c).classes[u32::from(c) as usize & 255]
    }

    /// What stands for `c`, which is of [`Class::Other`].
    #[inline]
    pub fn pieces(&self, c: char, begin: u16, count: u8) -> &[Piece] {
        &self.block(c).pieces[usize::from(begin)..usize::from(begin) + usize::from(count)]
    }
}

impl Block {
    fn new(number: u32, settings: &Settings) -> Self {
        let mut block = Self {
            classes: [Class::Gone; 256],
            pieces: Vec::new(),
        };
        for i in 0..256 {
            if let Some(c) = char::from_u32(number << 8 | i) {
                block.classes[i as usize] = block.class_of(c, settings);
            }
        }
        block
    }

    fn class_of(&mut self, c: char, settings: &Settings) -> Class {
        if settings.strips_accents() {
            let mut decomposed = String::from(c);
            decomposed = decomposed.nfd().map(|(c, _)| c).collect();
            let is_ordered = |d: char| canonical_combining_class(d) > 0 && !d.is_mark_nonspacing();
            if decomposed.chars().any(is_ordered) {
                return Class::Ordered;
            }
        }
        let mut buffer = [0; 4];
        let normal = normalize(c.encode_utf8(&mut buffer), settings);
        let pieces = normal.chars().map(|c| Piece {
            c,
            class: of_normal(c),
        });
        match pieces.clone().collect::<Vec<_>>().as_slice() {
            [] => Class::Gone,
            [one] if one.class == Class::Space => Class::Space,
            [one] if one.c == c => one.class,
            _ if normal.trim_matches(' ').chars().eq([c]) => Class::Alone,
            all => {
                // 256 characters of at most some twenty each.
                let begin = self.pieces.len() as u16;
                self.pieces.extend_from_slice(all);
                Class::Other(begin, all.len() as u8)
            }
        }
    }
}
