//! The paragraphs of a page, in HTML or as GNOME writes them.

use html5gum::{StartTag, Token, Tokenizer};

/// What holds text that is read, in HTML: headings, paragraphs, items of lists.
pub const HTML: [&str; 8] = ["p", "h1", "h2", "h3", "h4", "dt", "dd", "li"];
/// The same in GNOME's pages.
pub const MALLARD: [&str; 2] = ["p", "title"];
/// Of these, the ones that hold blocks.
const ITEMS: [&str; 3] = ["dt", "dd", "li"];
/// What else ends a paragraph.
const BLOCKS: [&str; 16] = [
    "div",
    "ul",
    "ol",
    "dl",
    "section",
    "article",
    "main",
    "body",
    "blockquote",
    "form",
    "figure",
    "details",
    "hr",
    "h5",
    "h6",
    "page",
];
/// What is left out with everything in it.
const LEFT_OUT: [&str; 10] = [
    "script", "style", "nav", "pre", "header", "footer", "table", "screen", "info", "svg",
];
/// Classes of elements that are left out.
const LEFT_OUT_CLASSES: [&str; 4] = ["headerlink", "sidebar", "navheader", "navfooter"];

/// The paragraphs in the elements `kept`, as they stand there, white space and all.
pub fn paragraphs(text: &str, kept: &[&str]) -> Vec<String> {
    let mut out = Vec::new();
    let mut paragraph = String::new();
    let (mut inside, mut item) = (false, false);
    // The element that is left out, and how many of its name are open.
    let mut skipped: Option<(Vec<u8>, usize)> = None;
    for Ok(token) in Tokenizer::new(text) {
        match token {
            Token::StartTag(tag) => {
                if let Some((name, depth)) = &mut skipped {
                    *depth += usize::from(!tag.self_closing && **name == **tag.name);
                } else if leaves_out(&tag) {
                    if !tag.self_closing {
                        skipped = Some((tag.name.to_vec(), 1));
                    }
                } else if is(kept, &tag.name) || is(&BLOCKS, &tag.name) {
                    out.push(std::mem::take(&mut paragraph));
                    // Items hold blocks; paragraphs and headings end where one begins.
                    item = is(&ITEMS, &tag.name) || (item && !is(kept, &tag.name));
                    inside = is(kept, &tag.name) || item;
                } else if *tag.name == b"br"[..] {
                    paragraph.push(' ');
                }
            }
            Token::EndTag(tag) => {
                if let Some((name, depth)) = &mut skipped {
                    *depth -= usize::from(**name == **tag.name);
                    if *depth == 0 {
                        skipped = None;
                    }
                } else if is(kept, &tag.name) || is(&BLOCKS, &tag.name) {
                    out.push(std::mem::take(&mut paragraph));
                    item = item && *tag.name == b"div"[..];
                    inside = item;
                }
            }
            Token::String(string) if inside && skipped.is_none() => {
                paragraph.push_str(&String::from_utf8_lossy(&string));
            }
            _ => {}
        }
    }
    out.push(paragraph);
    out.retain(|p| !p.trim().is_empty());
    out
}

fn is(names: &[&str], name: &[u8]) -> bool {
    names.iter().any(|known| known.as_bytes() == name)
}

fn leaves_out(tag: &StartTag<()>) -> bool {
    let class = tag.attributes.get(&b"class"[..]);
    is(&LEFT_OUT, &tag.name)
        || class.is_some_and(|class| {
            let mut classes = class.split(u8::is_ascii_whitespace);
            classes.any(|class| is(&LEFT_OUT_CLASSES, class))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_paragraphs_and_items_are_kept() {
        let page = "<html><head><title>No</title></head><body><nav><p>No</p></nav>\
             <h1>Title<a class=\"headerlink\" href=\"#\">¶</a></h1>stray<p>One &amp;\n<b>two</b><p>Three<br>four</p>\
             <ul><li>First<ul><li>Inner</li></ul></li><li><p>Second</p></li></ul>\
             <table><tr><td><table></table><p>No</p></td></tr></table><pre>No</pre><dl><dt>Term<dd><div>Said</div> twice</dl>stray<p>Last<div>stray</div></body></html>";
        let expected = [
            "Title",
            "One &\ntwo",
            "Three four",
            "First",
            "Inner",
            "Second",
            "Term",
            "Said",
            " twice",
            "Last",
        ];
        assert_eq!(paragraphs(page, &HTML), expected);
    }
}
