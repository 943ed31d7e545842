//! Inputs that lie elsewhere: the dataset is that of the same files on the disk, or there is none and an error says why.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

mod faults;
mod read;

use cloze_tests::server::{Bucket, Request, Response, Server};
use cloze_tests::{Place, Ran, document};

/// Nothing that this machine says of itself shall matter.
const PLAIN: [(&str, &str); 2] = [("NO_PROXY", "127.0.0.1"), ("no_proxy", "127.0.0.1")];

const OPTIONS: &str = "--tokenizer tokenizer --validation-fraction 0.1 --seq-len 32";

fn prepare(place: &Place, inputs: &str, out: &str, variables: &[(&str, &str)]) -> Ran {
    let variables = [&PLAIN, variables].concat();
    place.cloze_with(
        &format!("prepare {inputs} --out {out} {OPTIONS}"),
        &variables,
    )
}

/// Demands that two datasets are the same but for what their sources are called.
fn same(place: &Place, [a, b]: [&str; 2], named: &[(String, String)]) {
    let files = |dataset: &str| -> BTreeMap<_, _> { place.files(dataset).into_iter().collect() };
    let (mut left, mut right) = (files(a), files(b));
    let manifest = |files: &mut BTreeMap<std::path::PathBuf, Vec<u8>>| {
        String::from_utf8(files.remove(std::path::Path::new("manifest.json")).unwrap()).unwrap()
    };
    let (mut left_manifest, right_manifest) = (manifest(&mut left), manifest(&mut right));
    assert!(left.len() > 4 && left == right, "{a} {b}");
    for (url, file) in named {
        assert!(left_manifest.contains(url), "{url}: {left_manifest}");
        left_manifest = left_manifest.replace(url, file);
    }
    assert_eq!(left_manifest, right_manifest);
}

fn jsonl(documents: std::ops::Range<usize>) -> Vec<u8> {
    let line = |i| format!("{}\n", serde_json::json!({"id": i, "text": document(i)}));
    documents.map(line).collect::<String>().into_bytes()
}

/// The files of a corpus in every way that it is read, by name.
fn corpus() -> Vec<(&'static str, Vec<u8>)> {
    let lines = jsonl(0..60);
    let csv: String = (60..90)
        .map(|i| format!("{i},\"{}\"\n", document(i)))
        .collect();
    let texts: Vec<String> = (90..120).map(document).collect();
    vec![
        ("a.jsonl", lines.clone()),
        (
            "b.jsonl.zst",
            zstd::encode_all(&jsonl(120..200)[..], 1).unwrap(),
        ),
        ("c.csv", format!("id,text\n{csv}").into_bytes()),
        ("d.txt", texts.join("\n\u{c}\n").into_bytes()),
        ("e.html", format!("<p>{}</p>", document(7)).into_bytes()),
        ("empty.txt", Vec::new()),
    ]
}

fn serve(files: Vec<(&'static str, Vec<u8>)>) -> Server {
    let files: BTreeMap<String, Vec<u8>> = files
        .into_iter()
        .map(|(n, b)| (format!("/{n}"), b))
        .collect();
    Server::start(move |request| match files.get(&request.path()) {
        Some(bytes) => Response::part(request, bytes),
        None => Response::status(404),
    })
}

/// What S3 asks for, as the environment says it.
fn s3(server: &Server) -> Vec<(&'static str, String)> {
    vec![
        ("AWS_ENDPOINT", format!("http://{}", server.at())),
        ("AWS_ALLOW_HTTP", "true".into()),
        ("AWS_ACCESS_KEY_ID", "AKIDPUBLIC".into()),
        ("AWS_SECRET_ACCESS_KEY", "THESECRETKEY".into()),
        ("AWS_REGION", "eu-test-1".into()),
    ]
}

fn as_str<'a>(variables: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    variables.iter().map(|(n, v)| (*n, v.as_str())).collect()
}

fn bucket() -> Bucket {
    let files = corpus();
    let mut objects: Vec<(String, &[u8])> = Vec::new();
    for (name, bytes) in &files {
        objects.push((format!("texts/{name}"), bytes));
    }
    let more = jsonl(500..510);
    objects.push(("texts/more words/ü (1).jsonl".into(), &more));
    objects.push(("texts/picture.png".into(), b"\x89PNG"));
    objects.push(("texts/more words".into(), b""));
    objects.push(("textsnot/a.txt".into(), b"Not below it."));
    let objects: Vec<(&str, &[u8])> = objects.iter().map(|(k, b)| (k.as_str(), *b)).collect();
    Bucket {
        page: 2,
        ..Bucket::new("corpora", &objects)
    }
}
