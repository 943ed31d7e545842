//! Strangers' text on a terminal: what would steer it is shown, not obeyed.

use std::borrow::Cow;

/// `text` with every character escaped that a terminal obeys or does not show: control characters (line ends and `ESC` too), what turns the direction of
/// writing around, and what has no width. Escapes are those of Rust: `\n`, `\u{1b}`.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, is_unseen)
}

/// The same, but for line ends: for text of several lines of our own with strangers' words in them.
#[must_use]
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c != '\n' && is_unseen(c))
}

/// `json` as it means the same, with such characters escaped as JSON has it. Only line ends may stand outside its strings.
#[must_use]
pub fn visible_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c != '\n' && is_unseen(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

fn escaped(text: &str, unseen: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&unseen) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            c if !unseen(c) => out.push(c),
            '\n' | '\r' | '\t' => out.extend(c.escape_default()),
            c => out.extend(c.escape_unicode()),
        }
    }
    out.into()
}

/// Whether a terminal obeys `c`, or does not show it.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_shown() {
        let evil = "a\x1b[31m\u{9b}2J\r\n\t\u{202e}gnp\u{2066}\u{200b}\u{7f}\u{e0041}z";
        assert_eq!(
            visible(evil),
            "a\\u{1b}[31m\\u{9b}2J\\r\\n\\t\\u{202e}gnp\\u{2066}\\u{200b}\\u{7f}\\u{e0041}z"
        );
        assert_eq!(visible_lines("a\nb\x07\u{2029}"), "a\nb\\u{7}\\u{2029}");
    }

    #[test]
    fn what_is_seen_stays() {
        for text in [
            "",
            "naïve — Ελλάδα, עברית, 日本語 🙂 e\u{301}",
            "back\\slash",
        ] {
            assert!(matches!(visible(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn json_means_the_same() {
        let text = "{\n  \"a\": \"x\u{9b}\u{202e}\u{7f}\u{e0041}é\"\n}";
        assert_eq!(
            visible_json(text),
            "{\n  \"a\": \"x\\u009b\\u202e\\u007f\\udb40\\udc41é\"\n}"
        );
    }
}
