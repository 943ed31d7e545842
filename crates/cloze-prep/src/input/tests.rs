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

/// What programs keep in folders of their own is not what somebody means who gives the folder around them.
#[test]
fn hidden_folders_are_passed_over() {
    let folder = Folder::new();
    let text = folder.write("in/a.txt", "A river.");
    for hidden in [
        "in/.git/b.txt",
        "in/c/.ipynb_checkpoints/c.txt",
        "in/.d.txt",
    ] {
        folder.write(hidden, "A bridge.");
    }
    let options = InputOptions::of(&Config::default());
    let around = text.parent().unwrap().to_path_buf();
    let plan = InputPlan::resolve(std::slice::from_ref(&around), &options).unwrap();
    let read: Vec<_> = plan.sources.iter().map(|s| s.path.clone()).collect();
    assert_eq!((read, plan.ignored.len()), (vec![text], 3));
    // One that is named is meant.
    let named = InputPlan::resolve(&[around.join(".git")], &options).unwrap();
    assert_eq!(named.sources.len(), 1);
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
            let error = read(&folder.write(&format!("{name}.{ending}"), begun), &options());
            let said = error.unwrap_err().to_string();
            assert!(said.contains("something else follows"), "{said}");
            for good in [zeros, padded] {
                let file = folder.write(&format!("{name}.{ending}"), good);
                assert_eq!(pairs(&file, &options()), expected(), "{name}.{ending}");
            }
            for none in [&bytes[..], &[0; 9]] {
                let file = folder.write(&format!("{name}.{ending}"), none);
                let said = read(&file, &options()).unwrap_err().to_string();
                assert!(said.contains("it is not "), "{said}");
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

/// A document of any size is read in bounded memory: a text is cut after a line or a word, and other forms are refused.
#[test]
fn what_is_too_long_is_cut_or_refused() {
    let folder = Folder::new();
    let plain = InputOptions::of(&Config::default());
    for (line, count) in [
        ("some words of a line\n", 7_000_000),
        ("wörter ohne Ende ", 8_000_000),
        ("é", 70_000_000),
    ] {
        let text = line.repeat(count);
        let file = folder.write("long.txt", &text);
        let (documents, cut, _, _) = read(&file, &plain).unwrap();
        assert!(
            cut > 0 && documents.len() as u64 == cut + 1,
            "{cut} {}",
            documents.len()
        );
        let pieces: Vec<&str> = documents.iter().map(|d| d.text.as_str()).collect();
        assert!(pieces.concat() == text, "nothing is lost");
        assert!(pieces.iter().all(|p| p.len() <= LONGEST_TEXT + line.len()));
        let last = line.chars().last().unwrap();
        assert!(
            pieces.iter().all(|p| p.ends_with(last)),
            "cut after a line, or a word"
        );
        fs::remove_file(file).unwrap();
    }
    let long = format!("{{\"id\": 1, \"text\": \"{}\"}}\n", "x".repeat(super::MOST));
    let row = "{\"id\": 2, \"text\": \"short\"}\n";
    let file = folder.write("long.jsonl", [row, &long, row].concat());
    let error = read(&file, &options()).unwrap_err();
    assert!(
        error.to_string().contains("line 2: longer than 256 MiB"),
        "{error}"
    );
    let mut skip = options();
    skip.on_bad_input = OnBadInput::Skip;
    let (documents, _, skipped, _) = read(&file, &skip).unwrap();
    assert_eq!((documents.len(), skipped["too long"]), (2, 1));
    fs::remove_file(file).unwrap();
    // A quotation mark that is not closed makes all that follows one cell.
    let open = format!(
        "id,text\n1,a\n2,\"{}",
        "3,b\n".repeat(super::MOST / 4 + (1 << 20))
    );
    let file = folder.write("open.csv", open);
    let error = read(&file, &options()).unwrap_err();
    assert!(error.to_string().contains("longer than 256 MiB"), "{error}");
    let (documents, _, skipped, _) = read(&file, &skip).unwrap();
    assert_eq!((documents.len(), skipped["too long"]), (1, 1));
}

#[test]
fn a_decompression_bomb_is_stopped() {
    let folder = Folder::new();
    let mut bomb = zstd::Encoder::new(Vec::new(), 1).unwrap();
    let part = vec![b'a'; 1 << 20];
    for _ in 0..1_100 {
        bomb.write_all(&part).unwrap();
    }
    let file = folder.write("bomb.txt.zst", bomb.finish().unwrap());
    let error = read(&file, &InputOptions::of(&Config::default())).unwrap_err();
    assert!(
        error.to_string().contains("more than 200 times its size"),
        "{error}"
    );
    let hint = error.hint().unwrap();
    assert!(hint.contains("decompress it"), "{hint}");
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

/// A row of nothing but commas takes memory, too: a place for each cell.
#[test]
fn a_row_of_too_many_cells_is_refused() {
    let folder = Folder::new();
    let commas = ",".repeat(17 << 20);
    let file = folder.write("wide.csv", ["id,text\n1,a\n", &commas, "\n2,b\n"].concat());
    let error = read(&file, &options()).unwrap_err();
    assert!(error.to_string().contains("longer than 256 MiB"), "{error}");
    let file = folder.write("header.csv", &commas);
    let error = read(&file, &options()).unwrap_err();
    assert!(error.to_string().contains("longer than 256 MiB"), "{error}");
    // Commas of a text are no cells, but there are never as many.
    let text = "one, two, ".repeat(1 << 20);
    let file = folder.write("text.csv", format!("id,text\n1,\"{text}\"\n"));
    assert_eq!(pairs(&file, &options()), [(Some("1".into()), text)]);
}

/// Of what is kept of a line of JSON there is a limit; what is not asked for is looked at as before.
#[test]
fn lines_of_json_that_hold_much() {
    let folder = Folder::new();
    let mut kept = options();
    kept.meta_fields = vec!["a".into()];
    let line = |a: &str| format!("{{\"a\": {a}, \"id\": 1, \"text\": \"t\", \"b\": {a}}}\n");
    let many = format!("[{}0]", "0,".repeat(1 << 20));
    let long = format!("\"{}\"", "x".repeat(1 << 20));
    let file = folder.write(
        "a.jsonl",
        [line(&many), line(&long), line("[1, {\"c\": null}]")].concat(),
    );
    assert_eq!(pairs(&file, &options()).len(), 3);
    let error = read(&file, &kept).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("line 1: what is to be kept beside the text is longer than 1 MiB"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("--meta-field"));
    kept.on_bad_input = OnBadInput::Skip;
    let (documents, _, skipped, _) = read(&file, &kept).unwrap();
    assert_eq!((documents.len(), skipped.values().sum::<u64>()), (1, 2));
    assert_eq!(
        documents[0].meta.as_deref(),
        Some("{\"a\":[1,{\"c\":null}]}")
    );
    let file = folder.write("id.jsonl", format!("{{\"id\": {long}, \"text\": \"t\"}}\n"));
    assert!(read(&file, &options()).is_err());
    // Broken is broken, asked for or not.
    for bad in [
        "[1,]",
        "1e999",
        "\"\\ud800\"",
        "nul",
        "{\"x\" 1}",
        &"[".repeat(200),
    ] {
        let file = folder.write(
            "bad.jsonl",
            format!("{{\"id\": 1, \"text\": \"t\", \"other\": {bad}}}\n"),
        );
        let error = read(&file, &options()).unwrap_err();
        assert!(
            error.to_string().contains("line 1: broken JSON at column"),
            "{error}"
        );
    }
    let deep = format!(
        "{{\"id\": 1, \"text\": \"t\", \"other\": {}{}}}\n",
        "[".repeat(100),
        "]".repeat(100)
    );
    assert_eq!(
        pairs(&folder.write("deep.jsonl", deep), &options()).len(),
        1
    );
    // The last of two counts; a name may be all that is asked for.
    let twice = "{\"text\": 7, \"id\": \"a\", \"text\": \"t\", \"id\": 2}\n{\"text\": \"t\", \"id\": 1, \"text\": 7}\n";
    let file = folder.write("twice.jsonl", twice);
    let error = read(&file, &options()).unwrap_err();
    assert!(
        error.to_string().ends_with("line 2: \"text\" is not text"),
        "{error}"
    );
    kept.meta_fields = vec!["text".into(), "id".into(), "id".into()];
    let (documents, ..) = read(&file, &kept).unwrap();
    let found = (documents[0].id.as_deref(), documents[0].meta.as_deref());
    assert_eq!(found, (Some("2"), Some("{\"text\":\"t\",\"id\":2}")));
}

/// Whatever a file of Parquet claims, it is refused before anything makes room for it.
#[test]
fn a_parquet_file_whose_footer_lies() {
    let folder = Folder::new();
    let whole = parquet_of(true, false);
    let tail = whole.len() - 8;
    let length = u32::from_le_bytes(*whole[tail..].first_chunk().unwrap()) as usize;
    let footer = |footer: &[u8]| {
        let length = (footer.len() as u32).to_le_bytes();
        [&whole[..tail - length_of(&whole)], footer, &length, b"PAR1"].concat()
    };
    fn length_of(whole: &[u8]) -> usize {
        u32::from_le_bytes(*whole[whole.len() - 8..].first_chunk().unwrap()) as usize
    }
    let theirs = &whole[tail - length..tail];
    let file = folder.write("a.parquet", footer(theirs));
    assert_eq!(pairs(&file, &options()), expected());
    // Two thousand million row groups, and a schema of a hundred thousand levels.
    let groups = [
        &[0x49, 0xFC, 0xFF, 0xFF, 0xFF, 0xFF, 0x07, 0x1C][..],
        theirs,
    ]
    .concat();
    let levels = [
        vec![0x29, 0xFC, 0xA0, 0x8D, 0x06],
        [0x48, 1, b'a', 0x15, 2, 0].repeat(100_000),
        vec![0],
    ]
    .concat();
    for (bad, says) in [(groups, "claims more than there is"), (levels, "levels")] {
        let file = folder.write("bad.parquet", footer(&bad));
        let error = read(&file, &options()).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert!(error.hint().is_some());
    }
}

/// A small page whose tree would be large, or is laid out for ever.
#[test]
fn a_page_that_grows_is_read_as_it_is() {
    let folder = Folder::new();
    let options = InputOptions::of(&Config::default());
    let words = |page: String| {
        let file = folder.write("a.html", page);
        let text = pairs(&file, &options)[0].1.clone();
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let begun = std::time::Instant::now();
    let many =
        |count: usize, piece: &dyn Fn(usize) -> String| (0..count).map(piece).collect::<String>();
    // Each paragraph opens all formatting before it anew.
    let page = many(20_000, &|i| format!("<p><b id={i}><font size={i}>w{i}"));
    assert_eq!(words(page).len(), 20_000);
    for nested in [
        "<div>",
        "<ul><li>",
        "<dl><dd><li>",
        "<blockquote>",
        "<table><tr><td>",
        "<pre>",
        "<custom>",
    ] {
        let page = nested.repeat(20_000) + "deep <p>down";
        assert_eq!(words(page), ["deep", "down"], "{nested}");
    }
    let page = "<table><tr><td colspan=1000000000>one<td rowspan=4000000000>two</table>three";
    assert_eq!(words(page.into()), ["one", "two", "three"]);
    // What is closed is not deep, nor is what ends where the next begins.
    let page = many(5_000, &|i| {
        format!("<ul><li>a<li>b{i}</ul><dl><dt>c<dd>d</dl><div>e</div>")
    });
    let found = pairs(&folder.write("b.html", page), &options)[0].1.clone();
    assert_eq!(
        found.lines().filter(|l| !l.trim().is_empty()).count(),
        25_000
    );
    let found = words("<p>a &lt;b&gt; &amp;amp; <del>gone</del> <s>struck</s> <img src='y' alt='a \"x\" > &lt;'> <script>if (a < b) {}</script><style>p</style><xmp>x</xmp>end".into());
    assert_eq!(
        found,
        [
            "a", "<b>", "&amp;", "gone", "struck", "a", "\"x\"", ">", "<", "xend"
        ]
    );
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
    let file = folder.write("c.html", "<p>".repeat(1_000_001));
    let error = read(&file, &options).unwrap_err();
    assert!(
        error.to_string().contains("page 1: has over 1000000 tags"),
        "{error}"
    );
    assert!(error.hint().is_some());
    let file = folder.write("d.html", "x".repeat((64 << 20) + 1));
    let error = read(&file, &options).unwrap_err();
    assert!(
        error.to_string().contains("page 1: is longer than 64 MiB"),
        "{error}"
    );
}
