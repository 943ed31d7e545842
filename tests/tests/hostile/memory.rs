//! What a file claims, or holds in one piece, is not what it takes in memory.
//!
//! Peaks are what Linux says of the process (`VmHWM`), asked for again and again while it runs.

#![cfg(target_os = "linux")]

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use cloze_tests::{Place, executable};

/// How a run ended, what it said, and the MiB that it took.
struct Run {
    code: Option<i32>,
    said: String,
    peak: u64,
}

/// Runs `cloze` in the place, with what `feed` writes on its standard input.
fn run(place: &Place, line: &str, feed: impl FnOnce(&mut dyn Write) + Send) -> Run {
    let said = place.path("said");
    let mut child = Command::new(executable("cloze"))
        .args(line.split_whitespace())
        .current_dir(place.path("."))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&said).unwrap())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut stdin = child.stdin.take().unwrap();
    let mut peak = 0;
    let code = std::thread::scope(|scope| {
        scope.spawn(move || feed(&mut stdin));
        loop {
            let text = fs::read_to_string(&status).unwrap_or_default();
            let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
            let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
            peak = peak.max(kib.unwrap_or(0) >> 10);
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    let said = fs::read_to_string(said).unwrap();
    println!("{line}: {peak} MiB");
    Run { code, said, peak }
}

/// Writes `piece` again and again, so many MiB; whoever reads may stop.
fn much(to: &mut dyn Write, piece: &[u8], mib: usize) {
    let block = piece.repeat((1 << 20) / piece.len());
    (0..mib).all(|_| to.write_all(&block).is_ok());
}

const PREPARE: &str = "prepare - --tokenizer tokenizer --validation-fraction 0 --jobs 2";

/// A text without end, in one line and in many: what is held is one document that was cut, and the one after it.
#[test]
fn a_text_of_one_line() {
    let place = Place::new();
    let mut peaks = Vec::new();
    for (mib, out) in [(90, "short"), (300, "long")] {
        let line = format!("{PREPARE} --out {out}");
        let ran = run(&place, &line, |to| much(to, b"x", mib));
        assert_eq!(ran.code, Some(0), "{}", ran.said);
        assert!(ran.said.contains("over 64 MiB were cut"), "{}", ran.said);
        peaks.push(ran.peak);
    }
    // Three times the text is no more memory.
    assert!(peaks[1] < peaks[0] + 160 && peaks[1] < 450, "{peaks:?} MiB");
}

/// Sentences that a blank line never ends are cut as well.
#[test]
fn a_document_of_lines() {
    let place = Place::new();
    let line = format!("{PREPARE} --text-form sentence-per-line --out out");
    let ran = run(&place, &line, |to| {
        much(to, &[&[b'x'; 4095][..], b"\n"].concat(), 300);
    });
    assert_eq!(ran.code, Some(0), "{}", ran.said);
    assert!(ran.said.contains("over 64 MiB were cut"), "{}", ran.said);
    assert!(ran.peak < 400, "{} MiB", ran.peak);
}

/// A line of JSON that is read whole, of values that nobody asked for.
#[test]
fn a_line_of_many_values() {
    let place = Place::new();
    let line = format!("{PREPARE} --input-format jsonl --out out");
    let values = |to: &mut dyn Write| {
        let _ = to.write_all(b"{\"text\": \"old stone\", \"a\": [0");
        much(to, b",0", 48);
        let _ = to.write_all(b"]}\n{\"text\": \"quiet market walks.\"}\n");
    };
    let ran = run(&place, &line, values);
    assert_eq!(ran.code, Some(0), "{}", ran.said);
    assert!(ran.peak < 300, "{} MiB", ran.peak);
    let kept = format!("{PREPARE} --input-format jsonl --meta-field a --out kept");
    let ran = run(&place, &kept, values);
    assert_eq!(ran.code, Some(2), "{}", ran.said);
    assert!(
        ran.said
            .contains("line 1: what is to be kept beside the text is longer than 1 MiB"),
        "{}",
        ran.said
    );
    assert!(ran.peak < 300, "{} MiB", ran.peak);
}

/// A line of JSON that is longer than what is read is passed over as it comes.
#[test]
fn a_line_that_is_too_long() {
    let place = Place::new();
    let line = format!("{PREPARE} --input-format jsonl --on-bad-input skip --out out");
    let ran = run(&place, &line, |to| {
        let _ = to.write_all(b"{\"text\": \"old stone\"}\n{\"text\": \"");
        much(to, b"x", 700);
        let _ = to.write_all(b"\"}\n{\"text\": \"quiet market walks.\"}\n");
    });
    assert_eq!(ran.code, Some(0), "{}", ran.said);
    assert!(ran.said.contains("longer than 256 MiB"), "{}", ran.said);
    // The line as far as it is read, and twice that where its memory grows.
    assert!(ran.peak < 600, "{} MiB", ran.peak);
}
