//! Text of any origin as text of a page.

/// `text` as it may stand between tags and in quoted attributes. Characters that would not show, or would turn what follows around, are shown by their names.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if is_unseen(c) => out.push_str(&format!("⟨U+{:04X}⟩", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// Controls, line separators, and marks of direction.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn characters_by_hand() {
        assert_eq!(
            escape("a<b> & 'c' \"d\""),
            "a&lt;b&gt; &amp; &#39;c&#39; &quot;d&quot;"
        );
        assert_eq!(
            escape("é\u{7}\u{202e}\u{2028}"),
            "é⟨U+0007⟩⟨U+202E⟩⟨U+2028⟩"
        );
    }

    proptest! {
        #[test]
        fn a_parser_reads_text_and_attributes(text in "\\PC*|[<>&\"'\\x00-\\x1f\u{2028}\u{ffff}a]*") {
            let escaped = escape(&text);
            let xml = format!("<a t=\"{escaped}\">{escaped}</a>");
            let document = roxmltree::Document::parse(&xml).unwrap();
            let root = document.root_element();
            prop_assert!(root.children().all(|c| c.is_text()));
            if !text.chars().any(|c| is_unseen(c) || c == '\r') {
                prop_assert_eq!(root.text().unwrap_or_default(), text);
            }
        }
    }
}
