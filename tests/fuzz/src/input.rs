//! Reading: of any bytes, in any format, encoding and compression,
//!
//! - documents come out or an error that is one, never a panic;
//! - how many bytes come at a time changes nothing;
//! - what is read of lines, JSON and tables is what [`naive`] reads, which has all of the bytes before it.

use std::io::{Read, Write};
use std::path::PathBuf;

use cloze_prep::Silent;
use cloze_prep::input::{
    Compression, Document, Encoding, Format, InputOptions, OnBadInput, Source, SourceReader,
    TextForm,
};

mod naive;

/// Labels of encodings; what is beyond them is UTF-8.
const ENCODINGS: [&str; 14] = [
    "utf-8",
    "detect",
    "latin1",
    "shift_jis",
    "gbk",
    "gb18030",
    "big5",
    "euc-jp",
    "euc-kr",
    "iso-2022-jp",
    "utf-16le",
    "utf-16be",
    "cp1251",
    "x-user-defined",
];

const FORMATS: [(Format, TextForm); 7] = [
    (Format::Text, TextForm::Prose),
    (Format::Text, TextForm::SentencePerLine),
    (Format::Text, TextForm::Whole),
    (Format::JsonLines, TextForm::Prose),
    (Format::Csv, TextForm::Prose),
    (Format::Tsv, TextForm::Prose),
    (Format::Html, TextForm::Prose),
];

const COMPRESSIONS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Zstd,
    Compression::Xz,
    Compression::Bzip2,
];

/// What a source gave.
#[derive(Debug, PartialEq)]
struct Given {
    documents: Vec<Document>,
    error: Option<String>,
    /// By reason.
    passed_over: Vec<(String, String)>,
    encoding: Option<&'static str>,
}

/// Gives bytes in pieces of drawn sizes; all at once where the first state is 0.
struct Pieces<'a> {
    bytes: &'a [u8],
    state: u32,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = match self.state {
            0 => usize::MAX,
            state => {
                self.state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) | 1;
                1 + (self.state >> 16) as usize
                    % [1, 2, 5, 40, 3_000][(self.state >> 8) as usize % 5]
            }
        };
        let n = most.min(self.bytes.len());
        self.bytes
            .split_at(n)
            .0
            .read(buffer)
            .inspect(|&n| self.bytes = &self.bytes[n..])
    }
}

fn read(source: &Source, options: &InputOptions, bytes: &[u8], state: u32) -> Given {
    let from = Box::new(Pieces { bytes, state });
    let mut reader = SourceReader::of(source, 3, options, &Silent, from);
    let (mut documents, mut error) = (Vec::new(), None);
    loop {
        match reader.next_document() {
            Ok(Some(document)) => documents.push(document),
            Ok(None) => break,
            Err(e) => {
                let _ = e.hint();
                error = Some(e.to_string());
                break;
            }
        }
    }
    let passed_over = reader.first_skipped().clone().into_iter().collect();
    Given {
        documents,
        error,
        passed_over,
        encoding: reader.encoding(),
    }
}

fn compressed(bytes: &[u8], compression: Compression) -> Vec<u8> {
    let written = match compression {
        Compression::None => return bytes.to_vec(),
        Compression::Gzip => {
            let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            to.write_all(bytes).and_then(|()| to.finish())
        }
        Compression::Zstd => zstd::encode_all(bytes, 1),
        Compression::Xz => {
            lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(0)).and_then(
                |mut to| {
                    to.write_all(bytes)?;
                    to.finish()
                },
            )
        }
        Compression::Bzip2 => {
            let mut to = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            to.write_all(bytes).and_then(|()| to.finish())
        }
    };
    written.expect("memory takes all")
}

/// Four bytes say what the rest is: format; whether what is bad is passed over, ids and metadata are wanted, and the rest is compressed or to be; encoding; pieces.
pub fn check(data: &[u8]) {
    let Some((&[format, flags, encoding, pieces], content)) = data.split_first_chunk() else {
        return;
    };
    let (format, text_form) = FORMATS[usize::from(format) % FORMATS.len()];
    let label = ENCODINGS
        .get(usize::from(encoding) % 32)
        .unwrap_or(&"utf-8");
    let options = InputOptions {
        format: Some(format),
        encoding: Encoding::of(label).expect("a label"),
        text_field: "text".into(),
        meta_fields: if flags & 4 == 0 {
            vec![]
        } else {
            vec!["m".into(), "id".into()]
        },
        id_field: (flags & 2 != 0).then(|| "id".into()),
        text_form,
        on_bad_input: if flags & 1 == 0 {
            OnBadInput::Fail
        } else {
            OnBadInput::Skip
        },
    };
    // Half of the time there is no compression, and half of the rest is whole.
    let compression = match flags >> 3 & 15 {
        n @ 8.. => COMPRESSIONS[1 + usize::from(n) % 4],
        _ => Compression::None,
    };
    let whole = flags & 0x80 != 0 || compression == Compression::None;
    let bytes = if whole {
        compressed(content, compression)
    } else {
        content.to_vec()
    };
    let source = Source {
        path: PathBuf::from("given"),
        format,
        compression,
        bytes: bytes.len() as u64,
        object: None,
    };
    let given = read(&source, &options, &bytes, 0);
    let again = read(&source, &options, &bytes, 1 + u32::from(pieces) * 77_777);
    let total: usize = given.documents.iter().map(|d| d.text.len()).sum();
    let told = given.documents.windows(2).all(|d| d[0].index < d[1].index);
    assert!(
        told && given
            .documents
            .iter()
            .all(|d| !d.text.trim().is_empty() && d.source == 3)
    );
    if !whole {
        // How much of a damaged stream was given before the damage is seen depends on how it comes.
        let sound = |g: &Given| g.error.is_none() && g.passed_over.is_empty();
        if sound(&given) && sound(&again) {
            assert_eq!(given, again);
        }
        return;
    }
    assert_eq!(given, again, "{source:?}");
    if compression == Compression::None
        && !matches!(format, Format::Html)
        && options.encoding == Encoding::Named(encoding_rs::UTF_8)
    {
        // No more text comes out than there was, but for characters of UTF-16 that are longer in UTF-8.
        assert!(total <= content.len() * 3 / 2 + 3);
    }
    let Some(expected) = naive::read(content, format, &options) else {
        return;
    };
    let found = (&given.documents, given.error.is_some());
    assert_eq!(
        found,
        (&expected.0, expected.1),
        "{options:?}: {:?}: {given:?}",
        String::from_utf8_lossy(content)
    );
}
