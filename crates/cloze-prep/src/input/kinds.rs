//! What a file is by its first bytes, where its name says something else or nothing.

use super::json;
use super::resolve::Source;
use super::{InputError, InputOptions};

/// The name of the format, and the beginning of the first page's header.
const PARQUET: &[u8] = b"PAR1\x15";
/// What stands at this byte of a tar archive.
const TAR: &[u8] = b"ustar";
const TAR_AT: usize = 257;
/// Bytes of a TFRecord before its data: their number, and a CRC of that.
const TFRECORD_HEAD: usize = 12;

/// What the first bytes of a file that is not UTF-8 say it is.
pub fn looks(first: &[u8], is_stdin: bool) -> Option<&'static str> {
    match first {
        // It has no name that could say so.
        [0x1F, 0x8B, ..] if is_stdin => Some("it looks like gzip: send it through zcat"),
        [0x28, 0xB5, 0x2F, 0xFD, ..] if is_stdin => {
            Some("it looks like zstd: send it through zstdcat")
        }
        [0xFD, b'7', b'z', b'X', b'Z', ..] if is_stdin => {
            Some("it looks like xz: send it through xzcat")
        }
        [0x1F, 0x8B, ..] => Some("it looks like gzip: let its name end in .gz"),
        [0x28, 0xB5, 0x2F, 0xFD, ..] => Some("it looks like zstd: let its name end in .zst"),
        [0xFD, b'7', b'z', b'X', b'Z', ..] => Some("it looks like xz: let its name end in .xz"),
        [b'P', b'A', b'R', b'1', ..] => Some("it looks like Parquet: let its name end in .parquet"),
        _ if first.iter().take(512).any(|&b| b == 0) => {
            Some("it looks like a binary file, not text: leave it out of the inputs")
        }
        _ => None,
    }
}

/// Refuses what is no text at all where plain text is expected, because of its name.
pub fn refuse(source: &Source, options: &InputOptions, first: &[u8]) -> Result<(), InputError> {
    if options.format.is_some() {
        return Ok(());
    }
    let (why, hint) = if is_tfrecord(source, first) {
        (
            "a file of TFRecords, which are no text",
            "`cloze convert --from tfrecord` imports rows that BERT's create_pretraining_data.py wrote; of text in TFRecords write JSONL first",
        )
    } else if first.get(TAR_AT..TAR_AT + TAR.len()) == Some(TAR) {
        (
            "a tar archive, which holds files, and is none that is read itself",
            "unpack it (`tar xf FILE -C FOLDER`), and give the folder",
        )
    } else if first.starts_with(PARQUET) && source.is_stream() {
        (
            "it looks like Parquet, which is read from its end: a pipe does not allow that",
            "write it to a file first, whose name ends in .parquet",
        )
    } else if first.starts_with(PARQUET) {
        (
            "it looks like Parquet, not text",
            "let its name end in .parquet",
        )
    } else {
        return Ok(());
    };
    Err(InputError::Header {
        path: source.path.clone(),
        why: why.into(),
        hint: hint.into(),
    })
}

/// What plain text in truth seems to be: what is to be said about it, after the name of the file.
pub fn misread(options: &InputOptions, first: &[u8]) -> Option<String> {
    if options.format.is_some() {
        return None;
    }
    let start = first.trim_ascii_start();
    let begins = |tag: &[u8]| {
        let there = start.get(..tag.len());
        let ends = start
            .get(tag.len())
            .is_none_or(|b| !b.is_ascii_alphanumeric());
        there.is_some_and(|there| there.eq_ignore_ascii_case(tag)) && ends
    };
    let (found, format) = if begins(b"<!doctype html") || begins(b"<html") {
        ("a page of HTML".to_owned(), "html")
    } else {
        let names = json::begins(first).filter(|names| !names.is_empty())?;
        (format!("a JSON object of [{}]", names.join(", ")), "jsonl")
    };
    Some(format!(
        "begins with {found}, and is read as plain text because of its name: --input-format {format} reads all inputs as such"
    ))
}

/// Whether it is named so, or begins with a length that has the right checksum.
fn is_tfrecord(source: &Source, first: &[u8]) -> bool {
    let name = source.path.file_name().unwrap_or_default();
    let name = name.to_string_lossy().to_lowercase();
    if name.ends_with(".tfrecord") || name.ends_with(".tfrecords") {
        return true;
    }
    let Some((length, crc)) = first
        .get(..TFRECORD_HEAD)
        .and_then(|h| h.split_at_checked(8))
    else {
        return false;
    };
    let masked = crc32c(length).rotate_right(15).wrapping_add(0xA282_EAD8);
    crc == masked.to_le_bytes()
}

/// CRC-32C, bit by bit: it is for eight bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use crate::input::{Compression, Format};

    fn source(name: &str) -> Source {
        Source {
            path: name.into(),
            format: Format::Text,
            compression: Compression::None,
            bytes: 100,
            object: None,
        }
    }

    #[test]
    fn what_is_no_text_is_refused_by_its_first_bytes() {
        let options = InputOptions::of(&Config::default());
        let as_text = InputOptions {
            format: Some(Format::Text),
            ..options.clone()
        };
        // A record of 24 bytes, and of one with a wrong checksum.
        let record = b"\x18\0\0\0\0\0\0\0\xa3\x7f\x4b\x22 and so on";
        assert_eq!(crc32c(b"123456789"), 0xE306_9283, "the known check value");
        let mut wrong = *record;
        wrong[9] ^= 1;
        let refused = |name: &str, first: &[u8], options: &InputOptions| {
            let error = refuse(&source(name), options, first).err()?;
            Some(error.to_string() + &error.hint().unwrap())
        };
        let why = refused("a.bin", record, &options).unwrap();
        assert!(why.contains("cloze convert --from tfrecord"), "{why}");
        assert!(refused("a.TFRecord", b"x", &options).is_some());
        assert!(refused("a.bin", record, &as_text).is_none());
        assert!(refused("a.bin", &wrong, &options).is_none());
        assert!(refused("a.txt", b"text", &options).is_none());
        let mut tar = [b'a'; 512];
        assert!(refused("a.txt.gz", &tar, &options).is_none());
        tar[257..262].copy_from_slice(b"ustar");
        let why = refused("a.txt.gz", &tar, &options).unwrap();
        assert!(why.contains("tar xf"), "{why}");
        let why = refused("-", b"PAR1\x15\x04", &options).unwrap();
        assert!(why.contains("write it to a file first"), "{why}");
        let why = refused("a.txt", b"PAR1\x15\x04", &options).unwrap();
        assert!(why.contains("end in .parquet"), "{why}");
        assert!(refused("a.txt", b"PAR1 is a receptor.", &options).is_none());
    }

    #[test]
    fn text_that_is_in_truth_something_else_is_told_of() {
        let options = InputOptions::of(&Config::default());
        let told = |first: &str| misread(&options, first.as_bytes());
        for (first, format) in [
            ("{\"id\": 1, \"text\": \"a\"}\n{", "jsonl"),
            ("\n<!DOCTYPE HTML PUBLIC>", "html"),
            ("<html lang=en>", "html"),
        ] {
            let said = told(first).unwrap();
            assert!(said.contains(&format!("--input-format {format}")), "{said}");
        }
        for first in [
            "",
            "Text.",
            "{}\n",
            "{a set}",
            "<html5 is a name>",
            "<p>",
            "[1]",
        ] {
            assert_eq!(told(first), None, "{first}");
        }
        let as_text = InputOptions {
            format: Some(crate::input::Format::Text),
            ..options.clone()
        };
        assert_eq!(misread(&as_text, b"<html>"), None);
    }
}
