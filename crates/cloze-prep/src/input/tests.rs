//! The same documents, however they are written down.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::json;

use super::{
    Document, Format, InputError, InputOptions, InputPlan, LONGEST_TEXT, OnBadInput, SourceReader,
};
use crate::Config;
use crate::progress::Silent;

mod found;
mod limits;

/// Texts that every way of writing must keep: quotes, line ends, other scripts.
const TEXTS: [&str; 5] = [
    "A plain text.",
    "Two lines,\nand \"quotes\", and a comma.",
    "Ärger in Übersee; naïve façade.",
    "\"\"",
    "a\r\nb",
];

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }
}

fn options() -> InputOptions {
    InputOptions::of(&Config {
        id_field: Some("id".into()),
        ..Config::default()
    })
}

type Read = (
    Vec<Document>,
    u64,
    std::collections::BTreeMap<String, u64>,
    Option<&'static str>,
);

fn read(path: &Path, options: &InputOptions) -> Result<Read, InputError> {
    let plan = InputPlan::resolve(&[path.into()], options)?;
    let [source] = plan.sources.as_slice() else {
        panic!("{plan:?}");
    };
    let mut reader = SourceReader::open(source, 0, &plan.options, &Silent);
    let mut documents = Vec::new();
    while let Some(document) = reader.next_document()? {
        documents.push(document);
    }
    let (cut, encoding) = (reader.cut(), reader.encoding());
    let record = reader.finish()?;
    assert_eq!(record.bytes, fs::metadata(path).unwrap().len());
    let digest = cloze_shard::atomic::digest(path).unwrap().blake3;
    assert_eq!(record.blake3, digest);
    assert_eq!(record.documents, documents.len() as u64);
    Ok((documents, cut, record.skipped, encoding))
}

/// Ids and texts.
fn pairs(path: &Path, options: &InputOptions) -> Vec<(Option<String>, String)> {
    let (documents, ..) = read(path, options).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    documents.into_iter().map(|d| (d.id, d.text)).collect()
}

fn expected() -> Vec<(Option<String>, String)> {
    (0..)
        .zip(TEXTS)
        .map(|(i, t): (i32, _)| (Some(i.to_string()), t.to_owned()))
        .collect()
}

fn jsonl() -> String {
    let row = |(i, text)| format!("{}\n", json!({"other": 1, "id": i, "text": text}));
    (0..).zip(TEXTS).map(row).collect()
}

fn csv_of(delimiter: u8) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new()
        .delimiter(delimiter)
        .from_writer(Vec::new());
    writer.write_record(["id", "other", "text"]).unwrap();
    for (i, text) in TEXTS.iter().enumerate() {
        writer.write_record([&i.to_string(), "x,y", text]).unwrap();
    }
    writer.into_inner().unwrap()
}

/// Ids are numbers, or texts; rows in groups of two.
fn parquet_of(number: bool, bytes: bool) -> Vec<u8> {
    packed_parquet_of(number, bytes, Compression::UNCOMPRESSED)
}

fn packed_parquet_of(number: bool, bytes: bool, compression: Compression) -> Vec<u8> {
    let id = if number {
        "required int64 id"
    } else {
        "optional binary id (STRING)"
    };
    let kind = if bytes { "" } else { "(STRING)" };
    let schema =
        format!("message m {{ required int64 other; {id}; required binary text {kind}; }}");
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let properties = WriterProperties::builder().set_compression(compression);
    let mut writer =
        SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties.build())).unwrap();
    for (group, texts) in TEXTS.chunks(2).enumerate() {
        let mut rows = writer.next_row_group().unwrap();
        let ids: Vec<i64> = (0..texts.len()).map(|i| (2 * group + i) as i64).collect();
        for column in 0..3 {
            let mut to = rows.next_column().unwrap().unwrap();
            let text = |text: &String| ByteArray::from(text.as_str());
            let names: Vec<ByteArray> = ids.iter().map(|i| text(&i.to_string())).collect();
            match column {
                1 if !number => {
                    let levels = vec![1; ids.len()];
                    to.typed::<ByteArrayType>()
                        .write_batch(&names, Some(&levels), None)
                }
                2 => {
                    let texts: Vec<ByteArray> = texts.iter().map(|t| ByteArray::from(*t)).collect();
                    to.typed::<ByteArrayType>().write_batch(&texts, None, None)
                }
                _ => to.typed::<Int64Type>().write_batch(&ids, None, None),
            }
            .unwrap();
            to.close().unwrap();
        }
        rows.close().unwrap();
    }
    writer.into_inner().unwrap()
}

pub fn compressed(bytes: &[u8]) -> [(&'static str, Vec<u8>); 4] {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(bytes).unwrap();
    let mut xz =
        lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
    xz.write_all(bytes).unwrap();
    let mut bz = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bz.write_all(bytes).unwrap();
    let mut zst = zstd::Encoder::new(Vec::new(), 1).unwrap();
    zst.include_checksum(true).unwrap();
    zst.write_all(bytes).unwrap();
    [
        ("gz", gz.finish().unwrap()),
        ("zst", zst.finish().unwrap()),
        ("xz", xz.finish().unwrap()),
        ("bz2", bz.finish().unwrap()),
    ]
}

#[test]
fn the_same_documents_of_every_format() {
    let folder = Folder::new();
    let options = options();
    let files = [
        folder.write("a.jsonl", jsonl()),
        folder.write("a.csv", csv_of(b',')),
        folder.write("number.parquet", parquet_of(true, false)),
        folder.write("text.parquet", parquet_of(false, false)),
        folder.write("bytes.parquet", parquet_of(true, true)),
    ];
    for file in files {
        assert_eq!(pairs(&file, &options), expected(), "{}", file.display());
    }
    for compression in [
        Compression::SNAPPY,
        Compression::GZIP(Default::default()),
        Compression::ZSTD(Default::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::BROTLI(Default::default()),
    ] {
        let packed = packed_parquet_of(true, false, compression);
        let file = folder.write("packed.parquet", packed);
        assert_eq!(pairs(&file, &options), expected(), "{compression}");
    }
    // Cells of TSV are as they are; a line end cannot be in one.
    let tsv = folder.write("a.tsv", "id\ttext\n7\t\"as\" it, is\r\n8\t\"\n");
    let found = [("7", "\"as\" it, is"), ("8", "\"")].map(|(i, t)| (Some(i.into()), t.into()));
    assert_eq!(pairs(&tsv, &options), found);
    // Names are not asked where it is said what a file is.
    let odd = folder.write("odd.data", csv_of(b','));
    let said = InputOptions {
        format: Some(Format::Csv),
        ..options
    };
    assert_eq!(pairs(&odd, &said), expected());
}

#[test]
fn the_same_documents_of_every_compression() {
    let folder = Folder::new();
    for (name, bytes) in [("a.jsonl", jsonl().into_bytes()), ("a.csv", csv_of(b','))] {
        for (ending, packed) in compressed(&bytes) {
            let file = folder.write(&format!("{name}.{ending}"), &packed);
            assert_eq!(pairs(&file, &options()), expected(), "{name}.{ending}");
            // Of several streams, one after another, the text is one.
            let (half, rest) = bytes.split_at(bytes.len() / 2);
            let packed = |part: &[u8]| {
                let all = compressed(part);
                all.into_iter().find(|(e, _)| *e == ending).unwrap().1
            };
            let several = [packed(half), packed(rest)].concat();
            let file = folder.write(&format!("{name}.{ending}"), &several);
            assert_eq!(pairs(&file, &options()), expected(), "{name}.{ending}");
            // Cut short, damaged, or with something behind it.
            let whole = packed(&bytes);
            let mut damaged = whole.clone();
            damaged[whole.len() / 2] ^= 0x55;
            let behind = [whole.as_slice(), b"something else"].concat();
            for (bad, what) in [
                (&whole[..whole.len() - 5], "cut"),
                (&damaged, "damaged"),
                (&behind, "behind"),
            ] {
                let file = folder.write(&format!("{name}.{ending}"), bad);
                let error = read(&file, &options()).unwrap_err();
                // Damage may be seen in the text before it is in the checksum.
                let is = matches!(error, InputError::Compressed { .. });
                assert!(is || what == "damaged", "{what}: {error}");
                let said = match what {
                    "cut" => "cut short".into(),
                    "behind" => format!("ends after byte {}", whole.len()),
                    _ => continue,
                };
                assert!(error.to_string().contains(&said), "{ending}: {error}");
            }
            // What only begins as a stream does is none either; zeros mean nothing, and another stream may come after them.
            let begun = [&whole[..], &whole[..1], b"thing that is none"].concat();
            let zeros = [&whole[..], &[0; 700]].concat();
            let padded = [&packed(half)[..], &[0; 3], &packed(rest), &[0]].concat();
            let error = read(
                &folder.write(&format!("{name}.{ending}"), begun),
                &options(),
            );
            let said = error.unwrap_err().to_string();
            assert!(said.contains("something else follows"), "{said}");
            // A later stream that is damaged from its first bytes on is no stranger's.
            let mut later = packed(rest);
            let at = if ending == "bz2" { 12 } else { later.len() / 2 };
            later[at] ^= 0x55;
            let later = [&packed(half)[..], &later].concat();
            let error = read(
                &folder.write(&format!("{name}.{ending}"), later),
                &options(),
            );
            let said = error.unwrap_err().to_string();
            assert!(!said.contains("something else follows"), "{said}");
            for good in [zeros, padded] {
                let file = folder.write(&format!("{name}.{ending}"), good);
                assert_eq!(pairs(&file, &options()), expected(), "{name}.{ending}");
            }
            for none in [&bytes[..], &[0; 9]] {
                let file = folder.write(&format!("{name}.{ending}"), none);
                let said = read(&file, &options()).unwrap_err().to_string();
                assert!(said.contains("though its name says so"), "{said}");
            }
        }
    }
}

#[test]
fn bytes_are_text_as_their_encoding_says() {
    use encoding_rs::{SHIFT_JIS, WINDOWS_1251, WINDOWS_1252};
    let folder = Folder::new();
    let with = |label: &str| {
        InputOptions::of(&Config {
            encoding: label.into(),
            ..Config::default()
        })
    };
    let western =
        "Die Straße führt über die Brücke zur Universität, wo schöne alte Häuser stehen.\n";
    let russian =
        "Предложения разделяются точками. Это второе предложение, и оно длиннее первого.\n";
    let japanese = "これは日本語の文章です。形態素解析は難しいです。二つ目の文があります。\n";
    for (text, encoding, label) in [
        (western, WINDOWS_1252, "latin1"),
        (russian, WINDOWS_1251, "cp1251"),
        (japanese, SHIFT_JIS, "shift_jis"),
    ] {
        // Longer than what is decoded at a time.
        let long = text.repeat(5_000);
        let file = folder.write("a.txt", encoding.encode(&long).0);
        for label in [label, "detect"] {
            let (documents, _, _, found) = read(&file, &with(label)).unwrap();
            assert_eq!(documents[0].text, long, "{label}");
            assert_eq!(found, Some(encoding.name()));
        }
        let error = read(&file, &with("utf-8")).unwrap_err();
        assert!(error.to_string().contains("line 1, byte"), "{error}");
        assert!(error.hint().unwrap().contains("--encoding"));
        // UTF-8 is found out as well, where a character crosses the end of what is looked at too.
        let shift = format!("{}{}", "x".repeat(3), text.repeat(20_000));
        let file = folder.write("b.txt", &shift);
        let (documents, _, _, found) = read(&file, &with("detect")).unwrap();
        assert!(documents[0].text == shift && found.is_none());
        // A byte order mark has the last word.
        for (mark, bytes) in [
            (
                &b"\xff\xfe"[..],
                text.encode_utf16()
                    .flat_map(u16::to_le_bytes)
                    .collect::<Vec<u8>>(),
            ),
            (
                b"\xfe\xff",
                text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            ),
            (b"\xef\xbb\xbf", text.as_bytes().to_vec()),
        ] {
            let file = folder.write("c.txt", [mark, bytes.as_slice()].concat());
            for label in ["utf-8", "latin1", "detect"] {
                assert_eq!(pairs(&file, &with(label))[0].1, text, "{label} {mark:?}");
            }
        }
    }
    // What is wrong in an encoding is an error with its place, or is passed over.
    let file = folder.write("d.txt", b"one\n\x83\nthree \x82\xb1\n");
    let error = read(&file, &with("shift_jis")).unwrap_err();
    assert!(
        error.to_string().ends_with("d.txt: line 2, not Shift_JIS"),
        "{error}"
    );
    let mut skip = with("shift_jis");
    skip.on_bad_input = OnBadInput::Skip;
    let (documents, _, skipped, _) = read(&file, &skip).unwrap();
    assert_eq!(documents[0].text, "one\nthree こ\n");
    assert_eq!(skipped.values().sum::<u64>(), 1);
}

#[test]
fn a_page_is_its_text() {
    let folder = Folder::new();
    let long = "word ".repeat(400);
    let page = format!(
        "<html><head><title>No</title><style>p {{}}</style><script>x = '<p>';</script></head><body><h1>Caf\u{e9}s</h1>\
         <p>One <b>bold</b> &amp; {long}end.</p><ul><li>first</li><li>second</li></ul></body></html>"
    );
    let file = folder.write("a.html", &page);
    let text = &pairs(&file, &InputOptions::of(&Config::default()))[0].1;
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    let paragraph = format!("One bold & {long}end.");
    assert!(
        lines.contains(&"Caf\u{e9}s") && lines.contains(&paragraph.as_str()),
        "{lines:?}"
    );
    assert!(
        text.contains("first") && !text.contains("x =") && !text.contains("p {"),
        "{text}"
    );
    // A page may say what it is encoded in.
    let page = page.replace("<title>", "<meta charset=\"windows-1252\"><title>");
    let file = folder.write("b.htm", encoding_rs::WINDOWS_1252.encode(&page).0);
    let (documents, _, _, encoding) = read(&file, &InputOptions::of(&Config::default())).unwrap();
    assert!(documents[0].text.contains("Caf\u{e9}s") && encoding == Some("windows-1252"));
}

#[test]
fn tables_that_are_broken_are_refused_with_their_place() {
    let folder = Folder::new();
    let mut skip = options();
    skip.on_bad_input = OnBadInput::Skip;
    for (name, bytes, says, left) in [
        (
            "a.csv",
            &b"id,text\n1,a\n2,b,c\n3,d\n"[..],
            "line 3: has 3 cells",
            2,
        ),
        (
            "a.csv",
            b"id,text\n1,a\n2,\xff\n3,d\n",
            "line 3, byte 1 of the line: not UTF-8",
            2,
        ),
        (
            "a.csv",
            b"id,text\n1,a\n2,\"b\" c\n3,d\n",
            "line 3: has a cell that goes on behind its closing quote",
            2,
        ),
        (
            "a.csv",
            b"id,text\n1,a\n2,\"b\n3,d\n4,e\n",
            "line 3: has a cell whose quote is not closed",
            1,
        ),
        (
            "a.jsonl",
            b"{\"id\": 1, \"text\": \"a\"}\n{\"id\": 1.5, \"text\": \"a\"}\n",
            "line 2: \"id\" is neither",
            1,
        ),
    ] {
        let file = folder.write(name, bytes);
        let error = read(&file, &options()).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert!(error.hint().is_some());
        let (documents, _, skipped, _) = read(&file, &skip).unwrap();
        assert_eq!(
            (documents.len(), skipped.values().sum::<u64>()),
            (left, 1),
            "{name}"
        );
        if says.contains("quote") {
            let reason = skipped.keys().next().unwrap();
            let lost = reason.contains("rest lost");
            assert_eq!(lost, says.contains("not closed"), "{reason}");
            assert!(lost || reason.contains("joined"), "{reason}");
        }
    }
    // Without its columns none of a table can be read, whatever is to be skipped.
    for (name, bytes, says) in [
        (
            "a.csv",
            &b"id,body\n1,a\n"[..],
            "no column \"text\"; it has [id, body]",
        ),
        ("a.tsv", b"text\na\n", "no column \"id\"; it has [text]"),
        ("a.csv", b"id,text,text\n1,a,b\n", "two columns \"text\""),
    ] {
        let file = folder.write(name, bytes);
        let error = read(&file, &skip).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert!(error.hint().unwrap().contains("--"), "{error}");
    }
    let other = parquet_of(true, false);
    let file = folder.write("a.parquet", &other);
    let mut named = options();
    named.text_field = "body".into();
    let error = read(&file, &named).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no column \"body\"; it has [other, id, text]"),
        "{error}"
    );
    named.text_field = "other".into();
    let error = read(&file, &named).unwrap_err();
    assert!(
        error.to_string().contains("row 1: \"other\" is not text"),
        "{error}"
    );
    // Whatever is wrong with a file, it is an error or other documents, and never worse.
    for cut in (0..other.len()).step_by(7) {
        let file = folder.write("a.parquet", &other[..cut]);
        assert!(read(&file, &options()).is_err(), "{cut}");
        let mut changed = other.clone();
        changed[cut] ^= 0x15;
        let file = folder.write("a.parquet", &changed);
        let _ = read(&file, &options());
    }
}

#[test]
fn what_is_kept_beside_a_document() {
    let folder = Folder::new();
    let mut options = options();
    options.meta_fields = vec!["other".into(), "id".into(), "none".into()];
    let file = folder.write("a.jsonl", jsonl());
    let (documents, ..) = read(&file, &options).unwrap();
    assert_eq!(documents[3].meta.as_deref(), Some("{\"other\":1,\"id\":3}"));
    // A table has a column in all of its rows or in none.
    for (name, bytes, expected) in [
        ("a.csv", csv_of(b','), "{\"other\":\"x,y\",\"id\":\"3\"}"),
        (
            "a.parquet",
            parquet_of(true, false),
            "{\"other\":3,\"id\":3}",
        ),
    ] {
        let file = folder.write(name, bytes);
        let error = read(&file, &options).unwrap_err();
        assert!(error.to_string().contains("no column \"none\""), "{error}");
        assert!(error.hint().unwrap().contains("--meta-field"));
        let mut known = options.clone();
        known.meta_fields.pop();
        let (documents, ..) = read(&file, &known).unwrap();
        assert_eq!(documents[3].meta.as_deref(), Some(expected), "{name}");
        known.meta_fields.clear();
        assert!(
            read(&file, &known)
                .unwrap()
                .0
                .iter()
                .all(|d| d.meta.is_none())
        );
    }
    let plain = folder.write("a.txt", "Some text.");
    assert_eq!(read(&plain, &options).unwrap().0[0].meta, None);
}
