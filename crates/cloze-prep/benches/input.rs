//! Reading, beside what the machine does in the same time: see `cloze_bench`. Files are read from the system's cache.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use cloze_bench::Bench;
use cloze_prep::input::{InputOptions, InputPlan, SourceReader};
use cloze_prep::{Config, Silent};

fn read(path: &Path) -> usize {
    let config = Config::default();
    let plan = InputPlan::resolve(&[path.into()], &InputOptions::of(&config)).unwrap();
    let mut bytes = 0;
    for source in &plan.sources {
        let mut reader = SourceReader::open(source, 0, &plan.options, &Silent);
        while let Some(document) = reader.next_document().unwrap() {
            bytes += document.text.len();
        }
        reader.finish().unwrap();
    }
    bytes
}

fn main() {
    let bench = Bench::new();
    let documents = cloze_bench::documents();
    let bytes: usize = documents.iter().map(String::len).sum();
    let bytes = bytes as f64;
    let folder = tempfile::tempdir().unwrap();
    let line = |(id, text): (usize, &String)| {
        let mut line = serde_json::json!({"id": id, "text": text}).to_string();
        line.push('\n');
        line
    };
    let lines: String = documents.iter().enumerate().map(line).collect();
    let escaped: String = (lines.chars())
        .map(|c| {
            if c.is_ascii() {
                c.to_string()
            } else {
                format!("\\u{:04x}", c as u32)
            }
        })
        .collect();
    let text = documents.join("\n\x0c\n");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(lines.as_bytes()).unwrap();
    let zstd = zstd::encode_all(lines.as_bytes(), 3).unwrap();
    let files: [(&str, Vec<u8>); 5] = [
        ("a.jsonl", lines.clone().into()),
        ("escaped.jsonl", escaped.into()),
        ("a.txt", text.into()),
        ("a.jsonl.zst", zstd.clone()),
        ("a.jsonl.gz", gzip.finish().unwrap()),
    ];
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        bench.time(&format!("documents of {name}"), bytes, "bytes", || {
            read(&path)
        });
    }
    let path = folder.path().join("a.jsonl");
    let of_lines = lines.len() as f64;
    bench.time("machine: read a file", of_lines, "bytes", || {
        let (mut file, mut buffer) = (fs::File::open(&path).unwrap(), vec![0; 256 << 10]);
        let mut all = 0;
        while let Ok(n @ 1..) = file.read(&mut buffer) {
            all += n;
        }
        all
    });
    bench.time("machine: copy", of_lines, "bytes", || lines.clone());
    bench.time("machine: validate UTF-8", of_lines, "bytes", || {
        str::from_utf8(lines.as_bytes()).is_ok()
    });
    bench.time("machine: find line ends", of_lines, "bytes", || {
        memchr::memchr_iter(b'\n', lines.as_bytes()).count()
    });
    bench.time("machine: blake3", of_lines, "bytes", || {
        blake3::hash(lines.as_bytes())
    });
    let mut room = vec![0; lines.len()];
    bench.time("machine: zstd, decompress", of_lines, "bytes", || {
        zstd::bulk::decompress_to_buffer(&zstd, &mut room).unwrap()
    });
}
