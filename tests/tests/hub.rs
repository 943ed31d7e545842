//! Models by their names, from a server on this host in the Hub's place.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use cloze_tests::Place;

/// Files by path; what was asked for.
type Files = HashMap<String, Vec<u8>>;

/// Serves files as the Hub does: by ranges, with a commit and an entity tag.
fn serve(files: Files) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (files, log) = (Arc::new(files), Arc::clone(&asked));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (files, log) = (Arc::clone(&files), Arc::clone(&log));
            std::thread::spawn(move || while answer(&stream, &files, &log).is_some() {});
        }
    });
    (address, asked)
}

/// Answers one request; nothing where there is none any more.
fn answer(mut stream: &TcpStream, files: &Files, asked: &Mutex<Vec<String>>) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut range = None;
    for line in lines {
        let line = line.ok()?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(bytes) = line.strip_prefix("range: bytes=") {
            let (from, to) = bytes.split_once('-')?;
            range = Some((from.parse::<usize>().ok()?, to.parse::<usize>().ok()));
        }
    }
    asked.lock().unwrap().push(path.clone());
    let Some(bytes) = files.get(&path) else {
        let text = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
        return stream.write_all(text.as_bytes()).ok();
    };
    let all = bytes.len();
    let (from, to) = range.map_or((0, all), |(from, to)| {
        (from, to.map_or(all, |to| (to + 1).min(all)))
    });
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nx-repo-commit: 0123abcd\r\netag: \"{}\"\r\ncontent-range: bytes {from}-{}/{all}\r\ncontent-length: {}\r\n\r\n",
        path.replace(['/', '.'], "-"),
        to.saturating_sub(1),
        to - from
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&bytes[from..to]).ok()
}

#[test]
fn a_model_is_downloaded_once_by_its_name() {
    let place = Place::new();
    place.prepare("corpus.jsonl", "data", "--seq-len 32");
    place.write_config();
    let train = "pretrain data --steps 2 --batch-tokens 256 --warmup-steps 1 --eval-rows 5";
    let _ = place
        .cloze(&format!("{train} --config config.json --out first"))
        .status(0);
    let mut files = Files::new();
    for file in ["config.json", "model.safetensors", "vocab.txt"] {
        let bytes = fs::read(place.path("first/model").join(file)).unwrap();
        files.insert(format!("/us/small-bert/resolve/main/{file}"), bytes);
    }
    let (address, asked) = serve(files);
    let home = place.path("hub").to_string_lossy().into_owned();
    let variables = [
        ("HF_ENDPOINT", address.as_str()),
        ("HF_HOME", home.as_str()),
    ];
    let run = |name: &str, out: &str| {
        place.cloze_with(&format!("{train} --init {name} --out {out}"), &variables)
    };
    let ran = run("us/small-bert", "second").status(0);
    assert!(ran.err().contains("loaded"), "{}", ran.err());
    let weights = |run: &str| fs::read(place.path(run).join("model/model.safetensors")).unwrap();
    // From the folder itself it is the same.
    let _ = place
        .cloze(&format!("{train} --init first/model --out third"))
        .status(0);
    assert!(weights("second") == weights("third"));
    let downloads = |file: &str| {
        let asked = asked.lock().unwrap();
        asked.iter().filter(|path| path.ends_with(file)).count()
    };
    let before = downloads("model.safetensors");
    assert!(before > 0);
    let _ = run("us/small-bert", "fourth").status(0);
    assert_eq!(downloads("model.safetensors"), before, "it is kept");
    let _ = run("us/nothing", "fifth").status(2).says(&[
        "us/nothing",
        "no such folder",
        "Hugging Face Hub",
    ]);
    assert!(!Path::new(&place.path("fifth")).exists());
}
