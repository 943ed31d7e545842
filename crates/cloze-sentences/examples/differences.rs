//! Where our rules and those of `sentencex` part: a sample, to be judged by a person.
//!
//!     cargo run --release -p cloze-sentences --example differences -- FILE.txt [LANGUAGE [COUNT [SEED]]]
//!
//! `+` is a boundary that only we see, `-` one that only `sentencex` sees, at `|`.

#![allow(clippy::unwrap_used, reason = "an example")]

use std::collections::BTreeSet;
use std::ops::Range;

use cloze_sentences::Segmenter;

/// Where sentences end.
fn ours(segmenter: &Segmenter, text: &str) -> BTreeSet<usize> {
    let mut out: Vec<Range<usize>> = vec![];
    segmenter.sentences(text, &mut out);
    out.into_iter().map(|range| range.end).collect()
}

fn theirs(language: &str, text: &str) -> BTreeSet<usize> {
    let sentences = sentencex::segment(language, text).into_iter();
    let ends = sentences.filter(|s| !s.trim().is_empty()).map(|s| {
        let start = s.as_ptr() as usize - text.as_ptr() as usize;
        start + s.trim_end().len()
    });
    ends.collect()
}

fn main() {
    let mut args = std::env::args().skip(1);
    let text = std::fs::read_to_string(args.next().expect("a file of text")).unwrap();
    let language = args.next().unwrap_or("en".into());
    let count: usize = args.next().map_or(200, |s| s.parse().unwrap());
    let mut seed: u64 = args.next().map_or(1, |s| s.parse().unwrap());
    let segmenter = Segmenter::rules(&language).unwrap();
    let mut found = vec![];
    let (mut all, mut only) = (0, [0, 0]);
    for paragraph in text.split("\n\n") {
        let (a, b) = (ours(&segmenter, paragraph), theirs(&language, paragraph));
        all += a.len();
        for (place, sign) in a
            .difference(&b)
            .map(|p| (p, '+'))
            .chain(b.difference(&a).map(|p| (p, '-')))
        {
            only[usize::from(sign == '-')] += 1;
            let before: Vec<char> = paragraph[..*place].chars().rev().take(60).collect();
            let before: String = before.into_iter().rev().collect();
            let after: String = paragraph[*place..].chars().take(40).collect();
            found.push(format!("{sign} {before}|{after}").replace('\n', "\\n"));
        }
    }
    println!(
        "{all} sentences; {} boundaries only here, {} only there",
        only[0], only[1]
    );
    for _ in 0..count.min(found.len()) {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        println!("{}", found.swap_remove((seed >> 33) as usize % found.len()));
    }
}
