//! What the draws of words and spans amount to. Bounds are in standard errors.

use super::unit_tests::{by, masked};
use super::*;

/// `seen` of `n` trials of probability `p`, in standard errors.
fn z(seen: f64, n: f64, p: f64) -> f64 {
    (seen - n * p) / (n * p * (1.0 - p)).sqrt()
}

/// A hundred words of two tokens.
fn pairs() -> Vec<u32> {
    (0..200)
        .map(|i| if i % 2 == 1 { 700 } else { 200 })
        .collect()
}

/// Which third of BERT's 80/10/10 happened: masked, another token, kept. A random token is the old one once in 995.
fn action(before: u32, after: u32) -> usize {
    match after {
        103 => 0,
        after if after != before => 1,
        _ => 2,
    }
}

const SHARES: [f64; 3] = [0.8, 0.1 * 994.0 / 995.0, 0.1 + 0.1 / 995.0];

/// Words of one length meet a budget that is a multiple of it, each is chosen equally often, and each token has its own action.
#[test]
fn words() {
    let (m, ids, rows) = (by(MaskUnit::Word, 0.15), pairs(), 8_000u32);
    let mut per_word = [0f64; 100];
    let (mut actions, mut both) = ([0f64; 3], 0f64);
    for row in 0..u64::from(rows) {
        let key = MaskKey::new(21, Stage::DynamicMask, 0);
        let (after, positions, _) = masked(&m, key, row, &ids);
        assert_eq!(positions.len(), 30, "15 % of 200");
        for word in positions.chunks(2).map(|w| usize::from(w[0])) {
            per_word[word / 2] += 1.0;
            let pair = [word, word + 1].map(|p| action(ids[p], after[p]));
            pair.iter().for_each(|&a| actions[a] += 1.0);
            both += f64::from(u8::from(pair == [0, 0]));
        }
    }
    let rows = f64::from(rows);
    for seen in per_word {
        assert!(z(seen, rows, 0.15).abs() < 4.5, "{per_word:?}");
    }
    for (seen, p) in actions.into_iter().zip(SHARES) {
        assert!(z(seen, rows * 30.0, p).abs() < 4.0, "{actions:?}");
    }
    assert!(z(both, rows * 15.0, 0.64).abs() < 4.0, "{both}");
}

/// Words of unequal lengths: the budget is met exactly as long as words of one token are left, and missed by less than the shortest word
/// that is left otherwise. Long words are rarer, because they are passed over at the end: here the budget is 12 of 80 tokens, in 20 words of
/// three and 20 of one. Taken one by one a word would be predicted with probability 0.15; a long one loses at most 2 of the 12 tokens of a
/// row (a sixth of its chance), and what long words lose, short ones gain.
#[test]
fn long_words_are_rarer() {
    let ids: Vec<u32> = (0..20).flat_map(|_| [200, 201, 700, 701]).collect();
    let rows = 20_000u32;
    for unit in [MaskUnit::Word, MaskUnit::SPAN] {
        let m = by(unit, 0.15);
        let [mut long, mut short] = [0f64; 2];
        for row in 0..u64::from(rows) {
            let key = MaskKey::new(22, Stage::DynamicMask, 0);
            let (_, positions, _) = masked(&m, key, row, &ids);
            assert_eq!(positions.len(), 12);
            short += positions.iter().filter(|&p| p % 4 == 0).count() as f64;
            long += positions.iter().filter(|&p| p % 4 == 1).count() as f64;
        }
        let [long, short] = [long, short].map(|n| n / f64::from(20 * rows));
        assert!((3.0 * long + short - 4.0 * 0.15).abs() < 1e-9);
        // The standard error of either is under 0.001.
        let bounds = 0.15 * 5.0 / 6.0 - 0.004..0.15 - 0.004;
        assert!(bounds.contains(&long), "{unit:?}: {long} {short}");
    }
}

/// Every length has the probability of its definition, over all draws there are: the bounds are where they are to be.
#[test]
fn lengths_are_geometric() {
    let lengths = Lengths::new(0.2, 10);
    let all = 1.0 - 0.8f64.powi(10);
    let (mut below, mut mean) = (0.0, 0.0);
    for n in 1..=10i32 {
        let share = 0.2 * 0.8f64.powi(n - 1) / all;
        mean += f64::from(n) * share;
        let edge = |share: f64| (share * 4_294_967_296.0) as i64;
        let (first, last) = (edge(below) + 2, edge(below + share) - 2);
        for draw in [first, (first + last) / 2, last] {
            assert_eq!(lengths.of(draw as u32), n as usize);
        }
        below += share;
    }
    assert!((mean - 3.8).abs() < 0.005, "SpanBERT's mean, {mean}");
    assert_eq!((lengths.of(0), lengths.of(u32::MAX)), (1, 10));
    let one = Lengths::new(1.0, 7);
    assert_eq!((one.of(0), one.of(u32::MAX)), (1, 1));
}

/// The first span of a row of n words of two tokens has ℓ words where that was drawn and it begins before the last ℓ − 1, or where more were
/// drawn and it begins at the ℓ-th from the end. All starts are equally likely. What becomes of a span becomes of all its tokens.
#[test]
fn spans() {
    let (ids, rows, n) = (pairs(), 20_000u32, 100);
    let (m, key) = (
        by(MaskUnit::SPAN, 0.15),
        MaskKey::new(23, Stage::DynamicMask, 0),
    );
    let Unit::Span(pieces, lengths) = &m.unit else {
        panic!("asked for spans");
    };
    let words = pieces.words(&ids, |id| m.is_special(id));
    let mut per_length = [0f64; 11];
    let mut per_start = vec![0f64; n];
    let (mut actions, mut spans_seen) = ([0f64; 3], 0f64);
    for row in 0..u64::from(rows) {
        let draw = |number| key.key.block(row, key.epoch, FIRST_SPAN + number);
        let spans = choose_spans(&words, 30, lengths, draw);
        let first = spans.iter().find(|s| s.number == 0).unwrap();
        per_length[first.tokens.len() / 2] += 1.0;
        per_start[first.tokens.start as usize / 2] += 1.0;
        let (after, positions, _) = masked(&m, key, row, &ids);
        assert_eq!(positions.len(), 30, "15 % of 200");
        for span in &spans {
            let place = |p: u32| action(ids[p as usize], after[p as usize]);
            let first = place(span.tokens.start);
            // A random token may be the old one.
            let alike = |p: u32| place(p) == first || (first > 0 && place(p) > 0);
            assert!(span.tokens.clone().all(alike), "a span is replaced alike");
            spans_seen += 1.0;
            actions[first] += 1.0;
        }
    }
    let rows = f64::from(rows);
    let share = |l: usize| 0.2 * 0.8f64.powi(l as i32 - 1) / (1.0 - 0.8f64.powi(10));
    for (l, &seen) in per_length.iter().enumerate().skip(1) {
        let more: f64 = (l + 1..=10).map(share).sum();
        let p = (share(l) * (n - l + 1) as f64 + more) / n as f64;
        assert!(z(seen, rows, p).abs() < 4.0, "{l}: {per_length:?}");
    }
    for &seen in &per_start {
        assert!(z(seen, rows, 0.01).abs() < 4.5, "{per_start:?}");
    }
    for (seen, p) in actions.into_iter().zip(SHARES) {
        assert!(z(seen, spans_seen, p).abs() < 4.0, "{actions:?}");
    }
}

/// A token near the beginning of a segment is predicted less often than one in the middle, because spans go on to the right: the first word of a
/// segment is in a span only where one begins with it. The share of all tokens is the rate all the same.
#[test]
fn spans_cover_beginnings_less() {
    let ids: Vec<u32> = (0..100).map(|i| 200 + i).collect();
    let (m, rows) = (by(MaskUnit::SPAN, 0.1), 20_000u32);
    let mut per_position = [0f64; 100];
    for row in 0..u64::from(rows) {
        let key = MaskKey::new(24, Stage::DynamicMask, 0);
        let (_, positions, _) = masked(&m, key, row, &ids);
        assert_eq!(positions.len(), 10);
        positions
            .iter()
            .for_each(|&p| per_position[usize::from(p)] += 1.0);
    }
    let rate = |range: std::ops::Range<usize>| {
        let n = range.len() as f64;
        per_position[range].iter().sum::<f64>() / n / f64::from(rows)
    };
    // The standard error of a single position is 0.002.
    assert!((0.02..0.05).contains(&rate(0..1)), "{}", rate(0..1));
    assert!((0.095..0.11).contains(&rate(20..80)), "{}", rate(20..80));
}
