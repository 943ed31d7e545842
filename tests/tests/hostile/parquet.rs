//! Parquet files that lie: as corpora, and as the files of a dataset of version 4.

#![cfg(unix)]

use std::fs;
use std::process::Command;

use cloze_shard::atomic;
use cloze_tests::{Place, executable};
use serde_json::Value;

use crate::changed::{changes, damage};

/// A folder with `data`, and `parquet`, which was made of it.
fn place() -> Place {
    let place = Place::new();
    place.prepare("corpus.jsonl", "data", "--masking static --id-field id");
    let line = "convert data parquet --to parquet";
    let _ = place.cloze(line).status(0);
    place
}

/// Runs `cloze` with 3 GiB of addresses: what a claim of a file makes room for would not fit, and end the process.
fn bounded(place: &Place, line: &str) -> (Option<i32>, String) {
    let script = format!(
        "ulimit -v 3145728; exec '{}' {line}",
        executable("cloze").display()
    );
    let ran = Command::new("sh")
        .args(["-c", &script])
        .current_dir(place.path("."))
        .env("RAYON_NUM_THREADS", "2")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
    (ran.status.code(), said.into_owned())
}

/// Writes `bytes` as a shard of `parquet`, with a manifest that fits.
fn exchange(place: &Place, bytes: &[u8]) {
    let path = place.path("parquet/train/part-00000.parquet");
    fs::write(&path, bytes).unwrap();
    let manifest = place.path("parquet/manifest.json");
    let mut told: Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    let written = atomic::digest(&path).unwrap();
    for file in told["files"].as_array_mut().unwrap() {
        if file["path"] == "train/part-00000.parquet" {
            file["bytes"] = written.bytes.into();
            file["blake3"] = written.blake3.clone().into();
        }
    }
    fs::write(manifest, told.to_string()).unwrap();
}

#[test]
fn shards_in_parquet_files_that_lie() {
    let place = place();
    let whole = fs::read(place.path("parquet/train/part-00000.parquet")).unwrap();
    let (mut clean, mut other) = (0, 0);
    changes(120, |draws| {
        let mut bytes = whole.clone();
        damage(&mut bytes, draws);
        exchange(&place, &bytes);
        let report = cloze_convert::verify::verify(&place.path("parquet"), Some(1), &|_| ());
        match report.is_ok_and(|report| report.is_clean()) {
            true => clean += 1,
            false => other += 1,
        }
    });
    // Pages have no checksums; a good deal of a file says how its bytes are packed.
    assert!(other > 60, "{clean} {other}");
}

/// A footer of which fields are replaced by what claims much.
#[test]
fn claims_take_no_memory() {
    let place = place();
    let whole = fs::read(place.path("parquet/train/part-00000.parquet")).unwrap();
    let tail = whole.len() - 8;
    let length = u32::from_le_bytes(*whole[tail..].first_chunk().unwrap()) as usize;
    let (body, theirs) = (&whole[..tail - length], &whole[tail - length..tail]);
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
    let text = [&[0x18, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F][..], theirs].concat();
    for (number, footer) in [theirs.to_vec(), groups, levels, text]
        .into_iter()
        .enumerate()
    {
        let end = (footer.len() as u32).to_le_bytes();
        let bytes = [body, &footer, &end, b"PAR1"].concat();
        exchange(&place, &bytes);
        place.write("corpus.parquet", &bytes);
        for (line, fine) in [
            ("verify parquet", [0, 1]),
            ("convert parquet again --to arrow", [0, 2]),
            // Of a shard there is no text.
            (
                "prepare corpus.parquet --tokenizer tokenizer --out out",
                [2, 2],
            ),
            (
                "finetune --model model --train corpus.parquet --out tuned",
                [2, 2],
            ),
            (
                "convert --from lddl corpus.parquet --tokenizer tokenizer --out imported",
                [2, 2],
            ),
        ] {
            let (code, said) = bounded(&place, line);
            let expected = fine[usize::from(number > 0)];
            assert_eq!(code, Some(expected), "{number}: {line}: {said}");
            assert!(!said.contains("panicked"), "{number}: {line}: {said}");
        }
        let _ = fs::remove_dir_all(place.path("again"));
    }
}
