//! The rules of BERT's own instance creation (Devlin et al. 2019, section 3.1, and the script that was
//! published with it), faults included, for those who must reproduce it.
//!
//! - A target length T is drawn once a document pass: `max_tokens`, or with `short_seq_prob` uniform in `2..=max_tokens`.
//! - Sentences are gathered until they hold T tokens or the document ends. A takes a random number of them.
//! - With probability `random_next_ratio`, or always when one sentence was gathered, B is random: from a document drawn
//!   uniformly, ten times over while it is A's own, from a sentence drawn uniformly, on until B holds T − |A| tokens.
//!   The sentences that were gathered for B go back.
//! - A pair that is too long loses tokens one by one from the longer segment (B when equal), front or back by a coin.

use cloze_shard::random::{Key, Stage, Stream};

use super::{
    DocumentView, Draft, Draws, PairingCounts, Recipe, Setting, Span, Wanted, sentence_start,
};
use crate::Result;

/// Draws of a random document before giving up on finding another than A's own.
const TRIES: usize = 10;

/// Makes the instances of `document`, which is number `index`, and hands each to `emit`, in order.
pub fn pair(
    document: &DocumentView<'_>,
    index: u64,
    setting: &Setting<'_>,
    draws: &mut impl Draws,
    counts: &mut PairingCounts,
    emit: &mut impl FnMut(Draft) -> Result<()>,
) -> Result<()> {
    let rule = &setting.rule;
    let ends = document.sentence_ends;
    let span = |first: usize, end: usize| {
        let start = sentence_start(ends, first);
        Span {
            document: index,
            start,
            len: ends[end - 1] - start,
            sentence: Some(first as u32),
        }
    };
    let target = rule.target(draws);
    let mut first = 0;
    let mut i = 0;
    while i < ends.len() {
        let gathered = span(first, i + 1).len as usize;
        if i + 1 < ends.len() && gathered < target {
            i += 1;
            continue;
        }
        let count = i + 1 - first;
        let a_count = if count >= 2 {
            draws.between(1, count - 1)
        } else {
            1
        };
        let mut a = span(first, first + a_count);
        let random = count == 1 || draws.unit() < rule.random_next_ratio;
        if random {
            let wanted = Wanted {
                place: other_document(setting.totals.documents, index, draws),
                own: document.doc,
                seed: draws.seed(),
                // At most the sequence length, a u16.
                budget: target.saturating_sub(a.len as usize) as u16,
                longest: rule.max_tokens as u16,
            };
            emit(Draft {
                recipe: Recipe { a, b: None },
                wanted: Some(wanted),
            })?;
            first += a_count;
        } else {
            let mut b = span(first + a_count, i + 1);
            first = i + 1;
            counts.truncated_tokens += truncate(&mut a, &mut b, rule.max_tokens, draws);
            let b = Some((b, false));
            emit(Recipe { a, b }.into())?;
        }
        i = first;
    }
    Ok(())
}

fn other_document(documents: u64, own: u64, draws: &mut impl Draws) -> u64 {
    let last = documents.saturating_sub(1) as usize;
    let mut index = own;
    for _ in 0..TRIES {
        index = draws.between(0, last) as u64;
        if index != own {
            break;
        }
    }
    index
}

/// Text of `document`, which is number `index`, from a sentence that is drawn on, until it has as many tokens as are wanted.
pub(super) fn second(wanted: &Wanted, index: u64, document: &DocumentView<'_>) -> Span {
    let ends = document.sentence_ends;
    let mut draws = Key::new(wanted.seed, Stage::Elsewhere).stream(0, 0);
    let first = Draws::between(&mut draws, 0, ends.len() - 1);
    let start = sentence_start(ends, first);
    let enough = |&&end: &&u32| end - start >= u32::from(wanted.budget);
    let end = ends[first..].iter().find(enough);
    let end = end.or(ends.last()).copied().unwrap_or(start);
    Span {
        document: index,
        start,
        len: end - start,
        sentence: Some(first as u32),
    }
}

/// The coins of a pair whose second segment was wanted with this seed.
pub(super) fn coins(seed: u64) -> Stream {
    Key::new(seed, Stage::Elsewhere).stream(1, 0)
}

/// Cuts the pair down to `max_tokens`; the number of tokens that were cut.
pub(super) fn truncate(
    a: &mut Span,
    b: &mut Span,
    max_tokens: usize,
    draws: &mut impl Draws,
) -> u64 {
    let mut cut = 0;
    while (a.len + b.len) as usize > max_tokens {
        let longer = if a.len > b.len { &mut *a } else { &mut *b };
        longer.len -= 1;
        if draws.unit() < 0.5 {
            longer.start += 1;
            longer.sentence = None;
        }
        cut += 1;
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pairing;
    use crate::pairing::tests_support::InMemory;
    use crate::pairing::{Documents, PairingRule, elsewhere};

    /// Answers with what it was told to, and checks every question.
    struct Script(std::vec::IntoIter<Draw>);

    #[derive(Debug)]
    enum Draw {
        Unit(f64),
        Between(usize, usize, usize),
        Seed(u64),
    }
    use Draw::{Between, Seed, Unit};

    impl Draws for Script {
        fn unit(&mut self) -> f64 {
            match self.0.next() {
                Some(Unit(u)) => u,
                other => panic!("asked for a unit draw, the script has {other:?}"),
            }
        }

        fn between(&mut self, low: usize, high: usize) -> usize {
            match self.0.next() {
                Some(Between(l, h, answer)) if (l, h) == (low, high) => answer,
                other => panic!("asked for {low}..={high}, the script has {other:?}"),
            }
        }

        fn seed(&mut self) -> u64 {
            match self.0.next() {
                Some(Seed(seed)) => seed,
                other => panic!("asked for a seed, the script has {other:?}"),
            }
        }
    }

    fn rule(max_tokens: usize) -> PairingRule {
        PairingRule {
            max_tokens,
            short_seq_prob: 0.1,
            random_next_ratio: 0.5,
        }
    }

    /// The drafts of the first document.
    fn run(
        documents: &InMemory,
        max_tokens: usize,
        script: Vec<Draw>,
    ) -> (Vec<Draft>, PairingCounts) {
        let setting = documents.setting(rule(max_tokens));
        let mut script = Script(script.into_iter());
        let (mut drafts, mut counts) = (vec![], PairingCounts::default());
        let mut emit = |draft| {
            drafts.push(draft);
            Ok(())
        };
        let document = documents.get(0);
        pair(&document, 0, &setting, &mut script, &mut counts, &mut emit).unwrap();
        assert_eq!(
            script.0.next().map(|d| format!("{d:?}")),
            None,
            "the whole script is used"
        );
        (drafts, counts)
    }

    /// Text from sentence `sentence` on.
    fn span(document: u64, start: u32, len: u32, sentence: u32) -> Span {
        Span {
            document,
            start,
            len,
            sentence: Some(sentence),
        }
    }

    fn next(a: Span, b: Span) -> Draft {
        let b = Some((b, false));
        Recipe { a, b }.into()
    }

    fn wanted(a: Span, place: u64, seed: u64, budget: u16, longest: u16) -> Draft {
        let wanted = Wanted {
            place,
            own: 0,
            seed,
            budget,
            longest,
        };
        Draft {
            recipe: Recipe { a, b: None },
            wanted: Some(wanted),
        }
    }

    #[test]
    fn next_takes_the_rest_of_the_chunk() {
        // T = 10; sentences 4 + 4 + 4 reach it; A takes one of them; the coin says "next".
        let documents = InMemory::new(&[vec![4, 4, 4, 3], vec![5]]);
        let (drafts, counts) = run(
            &documents,
            12,
            vec![
                Unit(0.05),
                Between(2, 12, 10),
                Between(1, 2, 1),
                Unit(0.5),
                // One sentence is left: random without a coin; own document first, then the other.
                Between(0, 1, 0),
                Between(0, 1, 1),
                Seed(77),
            ],
        );
        let last = wanted(span(0, 12, 3, 3), 1, 77, 7, 12);
        assert_eq!(drafts, [next(span(0, 0, 4, 0), span(0, 4, 8, 1)), last]);
        assert_eq!(counts, PairingCounts::default());
        let setting = documents.setting(rule(12));
        let mut counts = counts;
        let found = elsewhere::look_up(Pairing::Bert, &setting, &mut &documents, last, &mut counts)
            .unwrap();
        assert_eq!(found.b, Some((span(1, 0, 5, 0), true)));
        assert_eq!(
            (found.a, counts),
            (span(0, 12, 3, 3), PairingCounts::default())
        );
    }

    #[test]
    fn random_puts_unused_sentences_back() {
        // T = 12: all three sentences; A takes one, the coin says "random": two go back.
        let documents = InMemory::new(&[vec![4, 4, 4], vec![2, 3, 9, 9]]);
        let (drafts, counts) = run(
            &documents,
            12,
            vec![
                Unit(0.1),
                Between(1, 2, 1),
                Unit(0.49),
                Between(0, 1, 1),
                Seed(5),
                // From the second sentence again: A takes one, the coin says "next".
                Between(1, 1, 1),
                Unit(0.51),
            ],
        );
        let first = wanted(span(0, 0, 4, 0), 1, 5, 8, 12);
        assert_eq!(drafts, [first, next(span(0, 4, 4, 1), span(0, 8, 4, 2))]);
        assert_eq!(counts, PairingCounts::default());
    }

    /// From a drawn sentence on until there is enough, or to the end; then cut, from either end, by other draws.
    #[test]
    fn text_from_elsewhere_is_cut_to_fit() {
        let documents = InMemory::new(&[vec![4, 4, 4], vec![2, 3, 9, 9]]);
        let setting = documents.setting(rule(12));
        let (mut starts, mut cuts) = ([0; 4], [0; 5]);
        for seed in 0..4_000 {
            let draft = wanted(span(0, 0, 4, 0), 1, seed, 8, 12);
            let b = second(&draft.wanted.unwrap(), 1, &documents.get(1));
            let all = [
                span(1, 0, 14, 0),
                span(1, 2, 12, 1),
                span(1, 5, 9, 2),
                span(1, 14, 9, 3),
            ];
            let which = all.iter().position(|&s| s == b).unwrap();
            starts[which] += 1;
            let mut counts = PairingCounts::default();
            let found =
                elsewhere::look_up(Pairing::Bert, &setting, &mut &documents, draft, &mut counts)
                    .unwrap();
            let (cut, _) = found.b.unwrap();
            assert_eq!((found.a, cut.len), (span(0, 0, 4, 0), 8));
            assert_eq!(counts.truncated_tokens, u64::from(b.len - 8));
            // The sentence is known as long as nothing was cut from the front.
            let sentence = (cut.start == b.start).then_some(b.sentence).flatten();
            assert_eq!(cut.sentence, sentence);
            if which == 1 {
                cuts[(cut.start - b.start) as usize] += 1;
            }
        }
        assert!(
            starts.iter().all(|&n| (880..1_120).contains(&n)),
            "{starts:?}"
        );
        // Four coins.
        let share = |n: i32| f64::from(n) / f64::from(cuts.iter().sum::<i32>());
        assert!((share(cuts[2]) - 0.375).abs() < 0.06, "{cuts:?}");
        assert!((share(cuts[0]) - 0.0625).abs() < 0.03, "{cuts:?}");
    }

    #[test]
    fn truncation_pops_from_the_longer_front_or_back() {
        let (mut a, mut b) = (span(0, 10, 5, 3), span(1, 20, 5, 4));
        // Equal: B first (back), then A is longer (front), then B (front).
        let mut script = Script(vec![Unit(0.5), Unit(0.49), Unit(0.0)].into_iter());
        assert_eq!(truncate(&mut a, &mut b, 7, &mut script), 3);
        let place = |span: Span| (span.document, span.start, span.len, span.sentence);
        assert_eq!((place(a), place(b)), ((0, 11, 4, None), (1, 21, 3, None)));
    }

    #[test]
    fn a_lone_document_labels_its_own_text_random() {
        let mut script = vec![Unit(0.9)];
        script.extend((0..10).map(|_| Between(0, 0, 0)));
        script.push(Seed(3));
        let documents = InMemory::new(&[vec![4]]);
        let (drafts, mut counts) = run(&documents, 12, script);
        let setting = documents.setting(rule(12));
        let found = elsewhere::look_up(
            Pairing::Bert,
            &setting,
            &mut &documents,
            drafts[0],
            &mut counts,
        );
        let b = Some((span(0, 0, 4, 0), true));
        assert_eq!(
            found.unwrap(),
            Recipe {
                a: span(0, 0, 4, 0),
                b
            }
        );
        assert_eq!((drafts.len(), counts.random_from_own_document), (1, 1));
    }

    /// Shares of random labels measured with the published script at sequence length 128 on synthetic
    /// documents of sentences of about 20 tokens.
    #[test]
    fn label_balance_is_that_of_the_published_script() {
        for (low, high, expected) in [
            (1, 1, 1.000),
            (2, 2, 0.678),
            (3, 8, 0.596),
            (10, 40, 0.558),
            (100, 300, 0.525),
        ] {
            let mut draws = Key::new(5, Stage::Sample).stream(low, high as u32);
            let lengths: Vec<Vec<u32>> = (0..(60_000 / (low + high)).max(200))
                .map(|_| {
                    let sentences = draws.between(low, high);
                    (0..sentences)
                        .map(|_| draws.between(12, 28) as u32)
                        .collect()
                })
                .collect();
            let documents = InMemory::new(&lengths);
            let setting = documents.setting(rule(125));
            let (mut random, mut all) = (0f64, 0f64);
            for i in 0..documents.len() {
                let mut draws = Key::new(6, Stage::Pairing).stream(i, 0);
                let mut emit = |draft: Draft| {
                    all += 1.0;
                    random += f64::from(u8::from(draft.wanted.is_some()));
                    Ok(())
                };
                let mut counts = PairingCounts::default();
                let document = documents.get(i);
                pair(&document, i, &setting, &mut draws, &mut counts, &mut emit).unwrap();
            }
            let share = random / all;
            assert!(
                (share - expected).abs() < 0.012,
                "{low}–{high} sentences: {share:.3}, expected {expected:.3}"
            );
        }
    }
}
