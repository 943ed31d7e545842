//! What docs/bench/dedup.md tells: how near near-duplicates are, how fast documents are looked at, and what deciding takes.
//!
//!     dedup_bench planted | pairs CORPUS.jsonl | speed CORPUS.jsonl | decide DOCUMENTS MEMORY_MIB

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a measurement that cannot go on stops"
)]

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use cloze_clean::exclude::Builder;
use cloze_clean::minhash::{self, Bands};
use cloze_clean::{
    CleanOptions, Cleaner, Decision, Dedup, Keys, Ledger, ParagraphKind, UnicodeForm, canonical,
    words,
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["planted"] => planted(),
        ["pairs", corpus] => pairs(&read(corpus)),
        ["speed", corpus] => speed(&read(corpus)),
        ["decide", documents, memory] => {
            decide(documents.parse().unwrap(), memory.parse().unwrap());
        }
        _ => eprintln!("planted | pairs CORPUS | speed CORPUS | decide DOCUMENTS MEMORY_MIB"),
    }
}

fn read(path: &str) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let row = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    text.lines()
        .map(|line| row(line)["text"].as_str().unwrap().to_owned())
        .collect()
}

fn shingles(text: &str) -> Vec<u64> {
    let (mut found, mut out) = (Vec::new(), Vec::new());
    words::words(&canonical::canonical(text), &mut found);
    minhash::shingles(&found, &mut out);
    out.sort_unstable();
    out.dedup();
    out
}

fn draw(seed: &mut u64, n: u64) -> u64 {
    *seed += 1;
    words::run(&[*seed, 77]) % n
}

/// Pairs of texts of which one is the other with words replaced; how often they share a band, by how similar they are.
fn planted() {
    let thresholds = [0.5, 0.7, 0.8, 0.9];
    let cleaners = thresholds.map(cleaner);
    let bands = thresholds.map(Bands::of);
    // Similarity in twentieths: pairs, pairs found at each threshold, expected.
    let mut table = vec![(0u64, [0u64; 4], [0f64; 4]); 21];
    let mut seed = 1 << 40;
    for _ in 0..40_000 {
        let n = 60 + draw(&mut seed, 400);
        let mut text: Vec<String> = (0..n)
            .map(|_| format!("w{}", draw(&mut seed, 20_000)))
            .collect();
        let one = text.join(" ");
        for _ in 0..draw(&mut seed, n / 4) {
            let at = draw(&mut seed, n) as usize;
            text[at] = format!("x{}", draw(&mut seed, 20_000));
        }
        let other = text.join(" ");
        let s = cloze_clean::naive::jaccard(&one, &other);
        let row = &mut table[(s * 20.0) as usize];
        row.0 += 1;
        for (t, cleaner) in cleaners.iter().enumerate() {
            let [a, b] = [&one, &other].map(|text| cleaner.look(text).keys.bands);
            row.1[t] += u64::from(a.iter().any(|key| b.contains(key)));
            row.2[t] += bands[t].found(s);
        }
    }
    let heads = std::array::from_fn::<_, 4, _>(|t| {
        let Bands { bands, rows } = bands[t];
        format!("{} ({bands} × {rows})", thresholds[t])
    });
    println!("| Jaccard | pairs | {} |", heads.join(" | "));
    for (i, (pairs, found, expected)) in table.iter().enumerate().filter(|r| r.1.0 > 0) {
        let share = |n: f64| format!("{:.3}", n / *pairs as f64);
        let cells: Vec<String> = (0..4)
            .map(|t| format!("{} ({})", share(found[t] as f64), share(expected[t])))
            .collect();
        let range = match i {
            20 => "1".to_owned(),
            _ => format!("{:.2}–{:.2}", i as f64 / 20.0, (i + 1) as f64 / 20.0),
        };
        println!("| {range} | {pairs} | {} |", cells.join(" | "));
    }
}

fn cleaner(threshold: f64) -> Cleaner {
    let options = CleanOptions {
        dedup: Dedup::Near,
        dedup_threshold: threshold,
        ..CleanOptions::default()
    };
    Cleaner::new(&options, None).unwrap()
}

/// All pairs of a corpus that have a shingle in common, by their true similarity; and what goes, document by document.
fn pairs(texts: &[String]) {
    let sets: Vec<Vec<u64>> = texts.iter().map(|t| shingles(t)).collect();
    let mut holders: HashMap<u64, Vec<u32>> = HashMap::new();
    for (i, set) in sets.iter().enumerate() {
        set.iter()
            .for_each(|&x| holders.entry(x).or_default().push(i as u32));
    }
    for threshold in [0.7, 0.8, 0.9] {
        let cleaner = cleaner(threshold);
        let keys: Vec<Vec<u128>> = texts.iter().map(|t| cleaner.look(t).keys.bands).collect();
        let (mut similar, mut found, mut both, mut close) = (0u64, 0u64, 0u64, 0u64);
        let (mut kept, mut dropped, mut right, mut nearly, mut left) = (HashSet::new(), 0, 0, 0, 0);
        let mut taken: HashSet<u128> = HashSet::new();
        for (i, set) in sets.iter().enumerate() {
            let mut common: HashMap<u32, usize> = HashMap::new();
            for x in set {
                for &j in holders[x].iter().take_while(|&&j| (j as usize) < i) {
                    *common.entry(j).or_default() += 1;
                }
            }
            let mut nearest = 0f64;
            for (&j, &n) in &common {
                let s = n as f64 / (set.len() + sets[j as usize].len() - n) as f64;
                let is_found = keys[i].iter().any(|key| keys[j as usize].contains(key));
                similar += u64::from(s >= threshold);
                found += u64::from(is_found);
                both += u64::from(is_found && s >= threshold);
                close += u64::from(is_found && s >= threshold - 0.1);
                if kept.contains(&j) {
                    nearest = nearest.max(s);
                }
            }
            if keys[i].iter().any(|key| taken.contains(key)) {
                dropped += 1;
                right += u64::from(nearest >= threshold);
                nearly += u64::from(nearest >= threshold - 0.1);
            } else {
                kept.insert(i as u32);
                taken.extend(&keys[i]);
                left += u64::from(nearest >= threshold);
            }
        }
        println!(
            "| {threshold} | {similar} | {found} | {:.3} | {:.3} | {:.3} | {dropped} | {left} | {:.3} | {:.3} |",
            both as f64 / similar as f64,
            both as f64 / found as f64,
            close as f64 / found as f64,
            right as f64 / dropped as f64,
            nearly as f64 / dropped as f64
        );
    }
}

/// Seconds that the thread ran.
fn clock() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

/// MB of text a second on the core, best of several rounds that take turns.
fn speed(texts: &[String]) {
    let plain = CleanOptions::default;
    let with = |change: fn(&mut CleanOptions)| {
        let mut options = plain();
        change(&mut options);
        options
    };
    let all = [
        (
            "--tidy-space --strip-control --unicode nfc",
            with(|o| {
                (o.tidy_space, o.strip_control, o.unicode) = (true, true, UnicodeForm::Nfc);
            }),
        ),
        (
            "--min-words 5 --max-repeated-lines 0.3",
            with(|o| {
                (o.min_words, o.max_repeated_lines) = (Some(5), Some(0.3));
            }),
        ),
        (
            "--gopher, thresholds that keep all",
            with(|o| {
                (o.gopher, o.min_words, o.max_repeated_lines) = (true, Some(1), Some(1.0));
            }),
        ),
        ("--dedup exact", with(|o| o.dedup = Dedup::Exact)),
        ("--dedup near", with(|o| o.dedup = Dedup::Near)),
        (
            "--dedup-paragraphs line",
            with(|o| o.dedup_paragraphs = ParagraphKind::Line),
        ),
        (
            "--exclude, 10,000 texts",
            with(|o| o.exclude = vec!["x".into()]),
        ),
    ];
    let bytes: usize = texts.iter().map(String::len).sum();
    let mut best = vec![f64::INFINITY; all.len()];
    for _ in 0..5 {
        for (i, (_, options)) in all.iter().enumerate() {
            let mut builder = Builder::new(13);
            builder.set("x");
            for (row, text) in texts.iter().step_by(texts.len() / 10_000).enumerate() {
                // Of other words, so that all of every document is looked through.
                builder.add(row as u64, &text.replace('e', "q").replace('a', "z"));
            }
            let exclusion = (!options.exclude.is_empty()).then(|| builder.finish());
            let cleaner = Cleaner::new(options, exclusion).unwrap();
            let (start, mut n) = (clock(), 0);
            for text in texts {
                n += usize::from(cleaner.look(text).dropped.is_some());
            }
            std::hint::black_box(n);
            best[i] = best[i].min(clock() - start);
        }
    }
    for ((name, _), seconds) in all.iter().zip(best) {
        println!("| `{name}` | {:.0} |", bytes as f64 / 1e6 / seconds);
    }
}

/// Deciding about made-up documents of nine bands, a third of them duplicates; the time, and the memory at its highest.
fn decide(documents: u64, memory: usize) {
    let folder = tempfile::tempdir_in(".").unwrap();
    let mut ledger = Ledger::with_memory(folder.path(), true, true, memory << 20).unwrap();
    let mut seed = 5;
    let start = Instant::now();
    for i in 0..documents {
        let like = if draw(&mut seed, 3) == 0 {
            draw(&mut seed, i + 1)
        } else {
            i
        };
        let key =
            |k: u64| u128::from(words::run(&[like, k])) << 64 | u128::from(words::run(&[k, like]));
        let keys = Keys {
            text: Some(key(99)),
            bands: (0..9).map(key).collect(),
        };
        let paragraphs: Vec<(u128, u32)> =
            (10..14).map(|k| (key(k) ^ u128::from(i % 2), 3)).collect();
        let head = "eighty characters of a text that nobody reads, over and over, for each of them";
        ledger.push(&keys, paragraphs.into_iter(), head).unwrap();
    }
    let pushed = start.elapsed();
    let mut decisions = ledger.resolve().unwrap();
    let mut kept = 0;
    while let Some(decision) = decisions.next_decision().unwrap() {
        kept += u64::from(decision != Decision::Drop);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    println!(
        "{documents} documents, {memory} MiB: {kept} kept; pushed in {:.1} s, decided in {:.1} s; {peak}",
        pushed.as_secs_f64(),
        (start.elapsed() - pushed).as_secs_f64()
    );
}
