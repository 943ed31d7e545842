//! Words and spans against their definitions, and what they refuse.

use proptest::prelude::*;

use super::*;
use crate::row::Id;

/// 5 special tokens, words, a word that is `##` alone, and from 600 on pieces.
pub fn vocabulary() -> Vocabulary {
    let name = |id: usize| match id {
        0 => "[PAD]".into(),
        100 => "[UNK]".into(),
        101 => "[CLS]".into(),
        102 => "[SEP]".into(),
        103 => "[MASK]".into(),
        599 => "##".into(),
        600.. => format!("##p{id}"),
        _ => format!("w{id}"),
    };
    Vocabulary::new((0..1_000).map(name), None).unwrap()
}

pub fn by(unit: MaskUnit, rate: f64) -> Masker {
    let rule = MaskingRule {
        rate,
        unit,
        ..MaskingRule::default()
    };
    Masker::of(rule, &vocabulary()).unwrap()
}

/// Ids as the model sees them, positions, labels.
pub type Masked = (Vec<u32>, Vec<u16>, Vec<u32>);

pub fn masked(m: &Masker, key: MaskKey, row: u64, ids: &[u32]) -> Masked {
    let (mut masked, mut positions, mut labels) = (ids.to_vec(), vec![], vec![]);
    m.mask(key, row, &mut masked, &mut positions, &mut labels);
    (masked, positions, labels)
}

fn is_special(id: u32) -> bool {
    [0, 100, 101, 102, 103].contains(&id)
}

/// A position goes on with a word if it holds a piece and what is before it is in a word.
fn words_by_definition(ids: &[u32]) -> Vec<Vec<usize>> {
    let mut words: Vec<Vec<usize>> = Vec::new();
    for p in (0..ids.len()).filter(|&p| !is_special(ids[p])) {
        let goes_on = p > 0 && !is_special(ids[p - 1]) && ids[p] >= 600;
        match words.last_mut() {
            Some(word) if goes_on => word.push(p),
            _ => words.push(vec![p]),
        }
    }
    words
}

fn budget(m: &Masker, ids: &[u32]) -> usize {
    let n = ids.iter().filter(|&&id| !is_special(id)).count();
    ((m.rule.rate * n as f64).round() as usize).max(1).min(n)
}

/// BERT's `create_masked_lm_predictions`, with a draw for each word in place of a shuffle.
fn words_oracle(m: &Masker, key: MaskKey, row: u64, ids: &[u32]) -> Masked {
    let mut words = words_by_definition(ids);
    let draws = |block: usize| key.key.block(row, key.epoch, block as u32);
    words.sort_by_key(|w| (draws(w[0] / 4)[w[0] % 4], w[0]));
    let k = budget(m, ids);
    let mut predicted: Vec<usize> = Vec::new();
    for word in &words {
        if predicted.len() + word.len() <= k {
            predicted.extend(word);
        }
    }
    if predicted.is_empty() && !words.is_empty() {
        predicted.extend(&words[0]);
    }
    predicted.sort();
    let fate = |p: usize| draws(65_536 + p);
    finish(m, ids, &predicted, |p| fate(p)[0], |p| fate(p)[1])
}

/// Every try looks at every word anew.
fn spans_oracle(m: &Masker, key: MaskKey, row: u64, ids: &[u32]) -> Masked {
    let words = words_by_definition(ids);
    let k = budget(m, ids);
    let draws = |block: u32| key.key.block(row, key.epoch, block);
    let share = |draw: u32| f64::from(draw) / 4_294_967_296.0;
    // The try that took each position.
    let mut taken: Vec<Option<u32>> = vec![None; ids.len()];
    for number in 0.. {
        let covered = taken.iter().flatten().count();
        let free = |w: &usize| taken[words[*w][0]].is_none() && covered + words[*w].len() <= k;
        let mut starts: Vec<usize> = (0..words.len()).filter(free).collect();
        let alone = starts.is_empty() && covered == 0;
        if alone {
            starts = (0..words.len()).collect();
        }
        if starts.is_empty() {
            break;
        }
        let [length, start, ..] = draws(131_072 + number);
        // The smallest length whose share of all, with those below it, exceeds the draw.
        let sum = |l: i32| (1.0 - 0.8f64.powi(l)) / (1.0 - 0.8f64.powi(10));
        let length = (1..=10).find(|&l| share(length) < sum(l)).unwrap();
        let first = starts[(share(start) * starts.len() as f64) as usize];
        let mut span = words[first].clone();
        for word in words.iter().skip(first + 1).take(length as usize - 1) {
            let follows = word[0] == span.last().unwrap() + 1;
            let free = taken[word[0]].is_none() && covered + span.len() + word.len() <= k;
            if alone || !follows || !free {
                break;
            }
            span.extend(word);
        }
        for p in span {
            taken[p] = Some(number);
        }
        if alone {
            break;
        }
    }
    let predicted: Vec<usize> = (0..ids.len()).filter(|&p| taken[p].is_some()).collect();
    finish(
        m,
        ids,
        &predicted,
        |p| draws(131_072 + taken[p].unwrap())[2],
        |p| draws(65_536 + p as u32)[1],
    )
}

fn finish(
    m: &Masker,
    ids: &[u32],
    predicted: &[usize],
    action: impl Fn(usize) -> u32,
    other: impl Fn(usize) -> u32,
) -> Masked {
    let ordinary: Vec<u32> = (0..1_000).filter(|&id| !is_special(id)).collect();
    let share = |draw: u32| f64::from(draw) / 4_294_967_296.0;
    let mut masked = ids.to_vec();
    for &p in predicted {
        let action = share(action(p));
        if action < m.rule.mask_share {
            masked[p] = 103;
        } else if action < m.rule.mask_share + m.rule.random_share {
            masked[p] = ordinary[(share(other(p)) * ordinary.len() as f64) as usize];
        }
    }
    let positions = predicted.iter().map(|&p| p as u16).collect();
    (
        masked,
        positions,
        predicted.iter().map(|&p| ids[p]).collect(),
    )
}

fn rows() -> impl Strategy<Value = Vec<u32>> {
    let id = prop_oneof![
        4 => 104u32..600,
        3 => 600u32..1_000,
        1 => prop::sample::select(vec![0u32, 100, 101, 102, 103]),
    ];
    prop_oneof![
        8 => prop::collection::vec(id, 0..300),
        // Long words, that may not fit.
        2 => prop::collection::vec(prop_oneof![1 => 104u32..600, 9 => 600u32..1_000], 0..60),
        1 => prop::collection::vec(600u32..1_000, 0..40),
        1 => prop::collection::vec(100u32..104, 0..9),
    ]
}

fn agree(ids: &[u32], key: MaskKey, row: u64, rate: f64) {
    let by_word = by(MaskUnit::Word, rate);
    let found = masked(&by_word, key, row, ids);
    assert_eq!(found, words_oracle(&by_word, key, row, ids), "{ids:?}");
    assert_eq!(by_word.count(key, row, ids), found.1.len());
    let by_span = by(MaskUnit::SPAN, rate);
    let found = masked(&by_span, key, row, ids);
    assert_eq!(found, spans_oracle(&by_span, key, row, ids), "{ids:?}");
    assert_eq!(by_span.count(key, row, ids), found.1.len());
}

/// As [`masked`], by [`Masker::mask_in`], in memory that may have held other rows.
pub fn masked_in<T: Id>(
    m: &Masker,
    scratch: &mut Scratch,
    key: MaskKey,
    row: u64,
    ids: &[u32],
) -> Masked {
    let start = 1_000_000 + row as u32 % 1_000;
    let mut masked: Vec<T> = ids.iter().map(|&id| T::of(id)).collect();
    let (mut places, mut labels) = (vec![7], vec![T::of(9)]);
    m.mask_in(
        scratch,
        key,
        row,
        start,
        &mut masked,
        &mut places,
        &mut labels,
    );
    let ids = |ids: &[T]| ids.iter().map(|id| id.id()).collect();
    let positions = places[1..].iter().map(|&place| (place - start) as u16);
    (ids(&masked), positions.collect(), ids(&labels[1..]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Rows of any length and any share of special tokens, low and high rates, ids of both widths, in memory that held other rows before.
    #[test]
    fn are_masked_fast_as_by_mask(
        rows in prop::collection::vec(rows(), 1..4),
        seed: u64, epoch: u32, row: u64,
        rate in prop_oneof![2 => Just(0.15), 1 => 1e-4f64..1.0, 1 => Just(1.0)],
        words_only: bool,
    ) {
        let key = MaskKey::new(seed, Stage::DynamicMask, epoch);
        let mut scratch = Scratch::default();
        for (i, ids) in (0u64..).zip(&rows) {
            // Without pieces, every token is a word, and the budget is met at once.
            let ids: Vec<u32> = ids.iter().map(|&id| if words_only && id > 599 { id - 450 } else { id }).collect();
            let row = row.wrapping_add(i);
            for unit in [MaskUnit::Token, MaskUnit::Word, MaskUnit::SPAN, MaskUnit::Span { p: 0.9, longest: 2 }] {
                let m = by(unit, rate);
                let expected = masked(&m, key, row, &ids);
                prop_assert_eq!(&masked_in::<u32>(&m, &mut scratch, key, row, &ids), &expected, "{:?}", unit);
                prop_assert_eq!(&masked_in::<u16>(&m, &mut scratch, key, row, &ids), &expected, "{:?}", unit);
            }
        }
    }
}

proptest! {
    #[test]
    fn agree_with_their_definitions(ids in rows(), seed: u64, epoch: u32, row: u64, rate in prop_oneof![0.01f64..1.0, Just(0.15), Just(1.0)]) {
        agree(&ids, MaskKey::new(seed, Stage::DynamicMask, epoch), row, rate);
    }

    /// What holds of every row, whatever the draws.
    #[test]
    fn keep_to_words_and_to_the_budget(ids in rows(), seed: u64, rate in 0.01f64..1.0) {
        let words = words_by_definition(&ids);
        for unit in [MaskUnit::Word, MaskUnit::SPAN] {
            let m = by(unit, rate);
            let key = MaskKey::new(seed, Stage::StaticMask, 0);
            let (after, positions, labels) = masked(&m, key, 1, &ids);
            prop_assert!(positions.windows(2).all(|p| p[0] < p[1]));
            let places: Vec<usize> = positions.iter().map(|&p| usize::from(p)).collect();
            prop_assert!(places.iter().zip(&labels).all(|(&p, &label)| ids[p] == label && !is_special(label)));
            for p in 0..ids.len() {
                prop_assert!(after[p] == ids[p] || (places.contains(&p) && (after[p] == 103 || !is_special(after[p]))));
            }
            let (whole, none): (Vec<&Vec<usize>>, Vec<_>) =
                words.iter().partition(|w| w.iter().all(|p| places.contains(p)));
            prop_assert!(none.iter().all(|w| w.iter().all(|p| !places.contains(p))), "half a word");
            prop_assert_eq!(whole.is_empty(), words.is_empty(), "at least one");
            let k = budget(&m, &ids);
            if places.len() > k {
                prop_assert!(whole.len() == 1 && words.iter().all(|w| w.len() > k));
            } else {
                prop_assert!(none.iter().all(|w| w.len() > k - places.len()), "room was left");
            }
        }
    }
}

/// Rows of whole words of bits and of one more or less, to the longest there is, in memory that held longer ones.
#[test]
fn rows_of_any_length_are_masked_alike() {
    let mut scratch = Scratch::default();
    for n in [65_536, 4_096, 129, 128, 127, 65, 64, 63, 1, 0] {
        let ids: Vec<u32> = (0..n)
            .map(|i| if i % 97 == 5 { 102 } else { 200 + i % 399 })
            .collect();
        for rate in [0.15, 1.0] {
            let (m, key) = (
                by(MaskUnit::Token, rate),
                MaskKey::new(9, Stage::StaticMask, 4),
            );
            let expected = masked(&m, key, 3, &ids);
            assert_eq!(masked_in::<u32>(&m, &mut scratch, key, 3, &ids), expected);
            assert_eq!(masked_in::<u16>(&m, &mut scratch, key, 3, &ids), expected);
        }
    }
}

#[test]
fn awkward_rows() {
    let long: Vec<u32> = std::iter::once(200).chain(700..730).collect();
    let two_long = [&[101], &long[..], &[102], &long[..], &[102]].concat();
    let rows: [&[u32]; 9] = [
        &[],
        &[101, 102],
        &[101, 200, 102],
        &[101, 700, 102],
        &[700, 701, 200, 702],
        &[101, 700, 701, 102, 702, 703, 102],
        &[200, 100, 700, 101, 701],
        &long,
        &two_long,
    ];
    for ids in rows {
        for (seed, rate) in [(1, 0.15), (2, 1.0), (3, 1e-9), (4, 0.5)] {
            agree(ids, MaskKey::new(seed, Stage::DynamicMask, 1), seed, rate);
        }
    }
    // Worked out by hand: one word of 31 tokens, with a budget of 5, is taken as a whole.
    for unit in [MaskUnit::Word, MaskUnit::SPAN] {
        let key = MaskKey::new(9, Stage::DynamicMask, 0);
        let predicted = |ids: &[u32], rate| masked(&by(unit, rate), key, 0, ids).1;
        assert_eq!(predicted(&long, 0.15), (0..31).collect::<Vec<u16>>());
        let one = predicted(&two_long, 0.15);
        assert!(one[0] == 1 || one[0] == 33);
        assert_eq!(one, (one[0]..one[0] + 31).collect::<Vec<u16>>());
        let all = predicted(&[101, 700, 701, 102, 702, 200, 102], 1.0);
        assert_eq!(all, [1, 2, 4, 5]);
        assert!(predicted(&[101, 102, 102], 1.0).is_empty());
    }
}

/// Any order of rows on any thread gives the same masks; another row, epoch or seed gives others.
#[test]
fn masks_depend_on_their_key_alone() {
    let ids: Vec<u32> = (0..120)
        .map(|i| if i % 3 == 2 { 700 } else { 200 + i })
        .collect();
    for unit in [MaskUnit::Word, MaskUnit::SPAN] {
        let m = by(unit, 0.15);
        let key = MaskKey::new(5, Stage::DynamicMask, 1);
        let row = |row: u64| masked(&m, key, row, &ids);
        let forward: Vec<Masked> = (0..40).map(row).collect();
        let mut backward: Vec<Masked> = std::thread::scope(|scope| {
            let halves = [20..40, 0..20].map(|rows: std::ops::Range<u64>| {
                scope.spawn(move || rows.rev().map(row).collect::<Vec<_>>())
            });
            halves.map(|half| half.join().unwrap()).concat()
        });
        backward.reverse();
        assert!(forward == backward);
        let same = (0..40)
            .filter(|&i| i > 0 && forward[i] == forward[i - 1])
            .count();
        assert_eq!(same, 0);
        for other in [
            (6, Stage::DynamicMask, 1),
            (5, Stage::StaticMask, 1),
            (5, Stage::DynamicMask, 2),
        ] {
            let key = MaskKey::new(other.0, other.1, other.2);
            assert!(masked(&m, key, 0, &ids) != forward[0]);
        }
        let half = m.at_rate(0.5);
        assert_eq!(
            masked(&half, key, 3, &ids),
            masked(&by(unit, 0.5), key, 3, &ids)
        );
    }
}

#[test]
fn words_need_a_vocabulary_that_says_where_they_begin() {
    let rule = |unit| MaskingRule {
        unit,
        ..MaskingRule::default()
    };
    let names = [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Ġthe", "ing", "##",
    ];
    let without = Vocabulary::new(names, None).unwrap();
    for unit in [MaskUnit::Word, MaskUnit::SPAN] {
        let error = Masker::of(rule(unit), &without).unwrap_err();
        let name = format!("--mask-unit {}", unit.name());
        assert!(error.to_string().contains(&name), "{error}");
        assert!(error.hint().unwrap().contains("--mask-unit token"));
        assert!(Masker::new(rule(unit), &without.special(), 8).is_err());
    }
    assert!(Masker::of(rule(MaskUnit::Token), &without).is_ok());
    for (p, longest) in [(0.0, 10), (1.1, 10), (f64::NAN, 10), (0.2, 0)] {
        assert!(Masker::of(rule(MaskUnit::Span { p, longest }), &vocabulary()).is_err());
    }
}

/// A rule by tokens is written as it always was, one by another unit names it, and what is not known is refused.
#[test]
fn rules_as_json() {
    let rule = |unit| MaskingRule {
        unit,
        ..MaskingRule::default()
    };
    let text = |rule: &MaskingRule| serde_json::to_string(rule).unwrap();
    let plain = r#"{"rate":0.15,"mask_share":0.8,"random_share":0.1}"#;
    assert_eq!(text(&rule(MaskUnit::Token)), plain);
    assert_eq!(
        text(&rule(MaskUnit::Word)),
        plain.replace('}', r#","unit":"word"}"#)
    );
    let span = r#","unit":{"span":{"p":0.2,"longest":10}}}"#;
    assert_eq!(text(&rule(MaskUnit::SPAN)), plain.replace('}', span));
    for unit in [MaskUnit::Token, MaskUnit::Word, MaskUnit::SPAN] {
        let read: MaskingRule = serde_json::from_str(&text(&rule(unit))).unwrap();
        assert_eq!(read, rule(unit));
    }
    for unknown in [r#","unit":"sentence"}"#, r#","form":"word"}"#] {
        assert!(serde_json::from_str::<MaskingRule>(&plain.replace('}', unknown)).is_err());
    }
}
