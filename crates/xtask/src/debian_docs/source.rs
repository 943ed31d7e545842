//! The paragraphs of what is no page: reStructuredText, Perl's documentation, dictionaries, novels.

use std::io::Read;
use std::path::Path;

use flate2::read::{MultiGzDecoder, ZlibDecoder};

/// Bytes of entries that make a document of a dictionary.
const ENTRIES: usize = 8_000;
/// Bytes in which a novel is told from a table of its names.
const NOVEL: usize = 100_000;

/// A file as text, unpacked where its name says that it is packed.
pub fn read(path: &Path) -> std::io::Result<String> {
    let mut bytes = std::fs::read(path)?;
    if path.extension().is_some_and(|e| e == "gz" || e == "dz") {
        let mut unpacked = Vec::new();
        MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut unpacked)?;
        bytes = unpacked;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What stands between blank lines.
fn blocks(text: &str) -> Vec<String> {
    let (mut all, mut now) = (Vec::new(), String::new());
    for line in text.lines() {
        if line.trim().is_empty() {
            all.push(std::mem::take(&mut now));
        } else {
            now.push_str(line);
            now.push('\n');
        }
    }
    all.push(now);
    all.retain(|block| !block.is_empty());
    all
}

/// Prose of reStructuredText, without directives, fields, underlines and blocks of code.
pub fn rst(text: &str) -> Vec<String> {
    let paragraph = |block: String| -> Option<String> {
        let lines: Vec<&str> = block.lines().filter(|line| !is_markup(line)).collect();
        let joined = lines.join(" ");
        let indented = lines.iter().all(|line| line.starts_with([' ', '\t']));
        if lines.is_empty() || (indented && joined.contains(['{', '}', ';', '=', '|'])) {
            return None;
        }
        let trimmed = joined.trim_end();
        let prose = trimmed
            .strip_suffix("::")
            .map_or(trimmed.to_owned(), |head| format!("{head}:"));
        Some(without_roles(&prose).replace("``", ""))
    };
    blocks(text).into_iter().filter_map(paragraph).collect()
}

fn is_markup(line: &str) -> bool {
    let bare = line.trim();
    let ruled = bare.len() >= 3 && bare.bytes().all(|b| b"=-~^\"'*#+`:.".contains(&b));
    let field = bare.strip_prefix(':').and_then(|rest| rest.split_once(':'));
    bare.starts_with(".. ")
        || ruled
        || field.is_some_and(|(name, _)| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        })
}

/// `` :role:`text <target>` `` is its text.
fn without_roles(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(":`") {
        let head = &rest[..at];
        let role = head.len()
            - head
                .trim_end_matches(|c: char| c.is_alphanumeric() || c == '_')
                .len();
        let inside = &rest[at + 2..];
        let colon = head[..at - role].ends_with(':');
        match inside.find('`') {
            Some(close) if role > 0 && colon => {
                out.push_str(&head[..at - role - 1]);
                let said = inside[..close].trim_start_matches('~');
                out.push_str(said.split('<').next().unwrap_or(said).trim_end());
                rest = &inside[close + 1..];
            }
            _ => {
                out.push_str(&rest[..at + 2]);
                rest = inside;
            }
        }
    }
    out.push_str(rest);
    out
}

/// Prose and headings of Perl's documentation.
pub fn pod(text: &str) -> Vec<String> {
    let paragraph = |block: String| -> Option<String> {
        if block.starts_with([' ', '\t']) {
            return None;
        }
        let Some(command) = block.strip_prefix('=') else {
            return Some(without_codes(&block));
        };
        let (name, rest) = command.split_once(char::is_whitespace)?;
        (name.starts_with("head") || name == "item").then(|| without_codes(rest))
    };
    blocks(text).into_iter().filter_map(paragraph).collect()
}

/// `B<text>` and `L<text|target>` are their text, and so are `C<< text >>`; `E<gt>` is a sign.
fn without_codes(text: &str) -> String {
    // For each code that is open: how many brackets, and where its text begins.
    let (mut out, mut open) = (String::new(), Vec::<(usize, usize, char)>::new());
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let run = |byte: u8, from: usize| bytes[from..].iter().take_while(|b| **b == byte).count();
        let opens = matches!(c, 'B' | 'C' | 'E' | 'F' | 'I' | 'L' | 'S' | 'X' | 'Z')
            && bytes.get(at + 1) == Some(&b'<');
        if opens {
            let count = run(b'<', at + 1);
            // Only those with white space inside have several brackets.
            let spaced = bytes
                .get(at + 1 + count)
                .is_some_and(u8::is_ascii_whitespace);
            let count = if spaced { count } else { 1 };
            open.push((count, out.len(), c));
            at += 1 + count;
        } else if let Some(&(count, from, code)) = open.last()
            && c == '>'
            && run(b'>', at) >= count
        {
            open.pop();
            let inside = out.split_off(from);
            let inside = if count > 1 { inside.trim() } else { &inside };
            match (code, inside) {
                ('E', "gt") => out.push('>'),
                ('E', "lt") => out.push('<'),
                ('E', "verbar") => out.push('|'),
                ('E', "sol") => out.push('/'),
                ('X' | 'Z', _) => {}
                ('L', link) => out.push_str(link.split('|').next().unwrap_or(link)),
                (_, said) => out.push_str(said),
            }
            at += count;
        } else {
            out.push(c);
            at += c.len_utf8();
        }
    }
    out
}

/// Some entries at a time, each as its paragraphs. An entry begins with a line that is not indented.
pub fn dictionary(text: &str) -> Vec<Vec<String>> {
    let mut text = text.to_owned();
    for source in ["[1913 Webster]", "[PJC]", "[WordNet 1.5]", "{", "}"] {
        text = text.replace(source, "");
    }
    let (mut all, mut now, mut entry, mut size) = (Vec::new(), Vec::new(), String::new(), 0);
    for line in text.split_inclusive('\n') {
        if !line.starts_with(char::is_whitespace) && !entry.is_empty() {
            size += entry.len();
            now.append(&mut blocks(&entry));
            entry.clear();
            if size > ENTRIES {
                all.push(std::mem::take(&mut now));
                size = 0;
            }
        }
        entry.push_str(line);
    }
    now.append(&mut blocks(&entry));
    all.push(now);
    all
}

/// Chapters of the novels in a database of R, each with a name: zlib streams of strings with their lengths.
pub fn novels(bytes: &[u8]) -> Vec<(String, Vec<String>)> {
    let (mut all, mut at, mut book) = (Vec::new(), 0, 0);
    while let Some(found) = bytes[at..].iter().position(|&b| b == 0x78) {
        at += found;
        let mut stream = ZlibDecoder::new(&bytes[at..]);
        let mut data = Vec::new();
        if stream.read_to_end(&mut data).is_err() {
            at += 1;
            continue;
        }
        at += stream.total_in() as usize;
        let lines = strings(&data);
        if lines.iter().map(String::len).sum::<usize>() < NOVEL {
            continue;
        }
        book += 1;
        let mut chapters = vec![String::new()];
        for line in lines {
            if line.starts_with("CHAPTER ") || line.starts_with("Chapter ") {
                chapters.push(String::new());
            }
            if let Some(chapter) = chapters.last_mut() {
                chapter.push_str(&line);
                chapter.push('\n');
            }
        }
        for (number, chapter) in chapters.iter().enumerate() {
            all.push((format!("book{book}-{number:03}"), blocks(chapter)));
        }
    }
    all
}

/// The strings of R's format: a mark, the length in four bytes, and the string.
fn strings(data: &[u8]) -> Vec<String> {
    const MARK: [u8; 4] = [0, 4, 0, 9];
    let (mut all, mut at) = (Vec::new(), 0);
    while let Some(found) = data[at..].windows(4).position(|window| window == MARK) {
        let from = at + found + 8;
        let Some(length) = data.get(from - 4..from) else {
            break;
        };
        let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
        let end = from.saturating_add(usize::try_from(length).unwrap_or(0));
        let Some(string) = data.get(from..end) else {
            break;
        };
        all.push(String::from_utf8_lossy(string).into_owned());
        at = end;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn prose_of_restructured_text() {
        let text = "Title\n=====\n\n.. note:: hidden\n\nSee :ref:`the page <page>` and ``x``::\n\n    int x = 1;\n\nTime: 3:`4`.\n\n:Author: me\n";
        let expected = ["Title", "See the page and x:", "Time: 3:`4`."];
        assert_eq!(rst(text), expected);
    }

    #[test]
    fn prose_of_perl() {
        let text = "=head1 NAME\n\nUse B<bold I<both>> and C<< a->b >> in L<the page|perlop/Quote>, E<lt>x.\n\n  code\n\n=over 4\n\n=item One\n";
        let expected = [
            "NAME\n",
            "Use bold both and a->b in the page, <x.\n",
            "One\n",
        ];
        assert_eq!(pod(text), expected);
    }

    #[test]
    fn entries_go_together() {
        let entry = format!("word\n   {{Noun}}. [PJC]\n\n   {}\n", "said ".repeat(900));
        let all = dictionary(&entry.repeat(5));
        assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 2]);
        assert_eq!(all[0][0], "word\n   Noun. \n");
    }

    #[test]
    fn strings_in_a_stream() {
        let line =
            "It is said that nobody reads such long lines of text as this one is. ".repeat(40);
        let mut data = vec![1, 2, 3];
        for text in ["CHAPTER 1"].into_iter().chain([line.as_str(); 50]) {
            data.extend([0, 4, 0, 9]);
            data.extend((text.len() as i32).to_be_bytes());
            data.extend(text.as_bytes());
        }
        let mut packed = b"head x\x78".to_vec();
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&data).unwrap();
        packed.extend(encoder.finish().unwrap());
        let chapters = novels(&packed);
        assert_eq!(chapters.len(), 2);
        assert_eq!(chapters[1].0, "book1-001");
        assert!(chapters[1].1[0].starts_with("CHAPTER 1\nIt is said"));
    }
}
