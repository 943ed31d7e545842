//! What text looks like: Unicode form, white space, control characters. Nothing is changed unless it is asked for.

use std::borrow::Cow;

use unicode_normalization::{UnicodeNormalization, is_nfc, is_nfkc};

use crate::{CleanOptions, UnicodeForm};

/// What is done to a text, in this order: characters removed, Unicode form, white space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Normalizer {
    /// The Unicode form.
    pub form: UnicodeForm,
    /// White space is tidied, and characters without width are removed.
    pub tidy_space: bool,
    /// Control characters are removed.
    pub strip_control: bool,
}

/// What was removed from a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Control characters.
    pub control: u64,
    /// Characters without width.
    pub invisible: u64,
}

/// Control characters that are not white space: C0 without tab and line ends, DEL, C1 without NEL.
#[must_use]
pub fn is_control(c: char) -> bool {
    c.is_control() && !c.is_whitespace()
}

/// Characters that show nothing and mean nothing to a reader: zero-width space, word joiner, byte order mark, soft hyphen. The
/// joiners U+200C and U+200D are not among them: they tell words apart in Persian and join emoji.
#[must_use]
pub fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}' | '\u{2060}' | '\u{feff}' | '\u{ad}')
}

impl Normalizer {
    /// What `options` ask for.
    #[must_use]
    pub fn of(options: &CleanOptions) -> Self {
        Self {
            form: options.unicode,
            tidy_space: options.tidy_space,
            strip_control: options.strip_control,
        }
    }

    /// Whether no text is changed.
    #[must_use]
    pub fn is_off(&self) -> bool {
        *self == Self::default()
    }

    /// `text` as it shall be; borrowed where that is how it is.
    #[must_use]
    pub fn apply<'a>(&self, text: &'a str, removed: &mut Removed) -> Cow<'a, str> {
        if self.is_off() {
            return Cow::Borrowed(text);
        }
        let mut out = Cow::Borrowed(text);
        let unwanted =
            |c: char| (self.strip_control && is_control(c)) || (self.tidy_space && is_invisible(c));
        if may_hold_unwanted(text) && text.contains(unwanted) {
            let mut kept = String::with_capacity(text.len());
            for c in text.chars() {
                if !unwanted(c) {
                    kept.push(c);
                } else if is_control(c) {
                    removed.control += 1;
                } else {
                    removed.invisible += 1;
                }
            }
            out = Cow::Owned(kept);
        }
        let changed = match self.form {
            _ if out.is_ascii() => None,
            UnicodeForm::Keep => None,
            // These look at each character's properties first, and compose only where those leave it open.
            UnicodeForm::Nfc if is_nfc(&out) => None,
            UnicodeForm::Nfkc if is_nfkc(&out) => None,
            UnicodeForm::Nfc => Some(out.nfc().collect()),
            UnicodeForm::Nfkc => Some(out.nfkc().collect()),
        };
        if let Some(changed) = changed {
            out = Cow::Owned(changed);
        }
        if self.tidy_space {
            let tidied = tidy(&out);
            if tidied != *out {
                out = Cow::Owned(tidied);
            }
        }
        out
    }
}

/// Most text is printable ASCII and line ends, which a loop over bytes sees at once.
fn may_hold_unwanted(text: &str) -> bool {
    let plain = |b: u8| matches!(b, b' '..=b'~' | b'\t' | b'\n' | b'\r');
    !text.bytes().all(plain)
}

/// White space as a person would type it: a run is one space, or one line end, or two (a blank line) where it holds as many or more; none at
/// either end of the text. A line end is any of LF, CR LF, CR, VT, FF, NEL, U+2028; U+2029 is two.
fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut white, mut ends, mut after_cr) = (false, 0, false);
    for c in text.chars() {
        if c.is_whitespace() {
            white = true;
            ends += match c {
                '\n' if after_cr => 0,
                '\n' | '\r' | '\x0b' | '\x0c' | '\u{85}' | '\u{2028}' => 1,
                '\u{2029}' => 2,
                _ => 0,
            };
        } else {
            if white && !out.is_empty() {
                out.push_str(match ends {
                    0 => " ",
                    1 => "\n",
                    _ => "\n\n",
                });
            }
            (white, ends) = (false, 0);
            out.push(c);
        }
        after_cr = c == '\r';
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apply(normalizer: Normalizer, text: &str) -> (String, Removed) {
        let mut removed = Removed::default();
        (normalizer.apply(text, &mut removed).into_owned(), removed)
    }

    const ALL: Normalizer = Normalizer {
        form: UnicodeForm::Nfkc,
        tidy_space: true,
        strip_control: true,
    };

    #[test]
    fn each_part_does_its_own() {
        let text = "\u{feff} e\u{301}\u{fb01}\u{a0}\u{a0}x\u{7}\r\n\r\n\r\ny\tz \u{200b}\n";
        let off = Normalizer::default();
        assert_eq!(apply(off, text).0, text);
        let nfc = Normalizer {
            form: UnicodeForm::Nfc,
            ..off
        };
        assert_eq!(apply(nfc, text).0, text.replace("e\u{301}", "é"));
        let control = Normalizer {
            strip_control: true,
            ..off
        };
        assert_eq!(apply(control, text).0, text.replace('\u{7}', ""));
        let tidy = Normalizer {
            tidy_space: true,
            ..off
        };
        assert_eq!(apply(tidy, text).0, "e\u{301}\u{fb01} x\u{7}\n\ny z");
        let (all, removed) = apply(ALL, text);
        assert_eq!(all, "éfi x\n\ny z");
        let expected = Removed {
            control: 1,
            invisible: 2,
        };
        assert_eq!(removed, expected);
    }

    #[test]
    fn line_ends_of_all_kinds() {
        assert_eq!(tidy("a\r\nb\rc\u{2028}d\x0ce\u{85}f"), "a\nb\nc\nd\ne\nf");
        assert_eq!(tidy("a\r\rb\n\rc\u{2029}d \n e"), "a\n\nb\n\nc\n\nd\ne");
        assert_eq!(tidy(" \n "), "");
    }

    #[test]
    fn a_control_character_between_letter_and_accent_is_no_obstacle() {
        assert_eq!(apply(ALL, "e\u{1}\u{301}").0, "é");
        assert_eq!(apply(ALL, "e\u{200b}\u{301}").0, "é");
    }

    proptest! {
        #[test]
        fn twice_is_once(
            text in "([a-z \\t\\r\\n\u{a0}\u{a8}\u{301}\u{feff}\u{7}\u{ad}\u{2026}ﬁé\u{2029}\u{1100}\u{1161}]|\\PC){0,40}",
            form in 0..3, tidy_space: bool, strip_control: bool,
        ) {
            let form = [UnicodeForm::Keep, UnicodeForm::Nfc, UnicodeForm::Nfkc][form as usize];
            let normalizer = Normalizer { form, tidy_space, strip_control };
            let (once, _) = apply(normalizer, &text);
            let (twice, removed) = apply(normalizer, &once);
            prop_assert_eq!(&twice, &once);
            prop_assert_eq!(removed, Removed::default());
            // What is not white space is all there, in the same order.
            if form == UnicodeForm::Keep {
                let seen = |t: &str| t.chars().filter(|&c| {
                    let gone = c.is_whitespace() || (strip_control && is_control(c)) || (tidy_space && is_invisible(c));
                    !gone
                }).collect::<String>();
                prop_assert_eq!(seen(&once), seen(&text));
            }
        }
    }
}
