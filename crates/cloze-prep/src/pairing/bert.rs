//! The rules of BERT's own instance creation (Devlin et al. 2019, section 3.1, and the script that was
//! published with it), faults included, for those who must reproduce it.
//!
//! - A target length T is drawn once a document pass: `max_tokens`, or with `short_seq_prob` uniform in `2..=max_tokens`.
//! - Sentences are gathered until they hold T tokens or the document ends. A takes a random number of them.
//! - With probability `random_next_ratio`, or always when one sentence was gathered, B is random: from a document drawn
//!   uniformly, ten times over while it is A's own, from a sentence drawn uniformly, on until B holds T − |A| tokens.
//!   The sentences that were gathered for B go back.
//! - A pair that is too long loses tokens one by one from the longer segment (B when equal), front or back by a coin.

use super::{Documents, Draws, PairingCounts, PairingRule, Recipe, Span, sentence_start};

/// Draws of a random document before giving up on finding another than A's own.
const TRIES: usize = 10;

/// Makes the instances of document `index` and hands each to `emit`, in order.
pub fn pair(
    documents: &impl Documents,
    index: u64,
    rule: &PairingRule,
    draws: &mut impl Draws,
    counts: &mut PairingCounts,
    emit: &mut impl FnMut(Recipe),
) {
    let document = documents.get(index);
    let ends = document.sentence_ends;
    let span = |first: usize, end: usize| {
        let start = sentence_start(ends, first);
        Span {
            document: index,
            start,
            len: ends[end - 1] - start,
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
        let mut b = if random {
            let b = random_segment(
                documents,
                index,
                target.saturating_sub(a.len as usize),
                draws,
            );
            if documents.get(b.document).doc == document.doc {
                counts.random_from_own_document += 1;
            }
            first += a_count;
            b
        } else {
            let b = span(first + a_count, i + 1);
            first = i + 1;
            b
        };
        counts.truncated_tokens += truncate(&mut a, &mut b, rule.max_tokens, draws);
        emit(Recipe {
            a,
            b: Some((b, random)),
        });
        i = first;
    }
}

fn random_segment(
    documents: &impl Documents,
    own: u64,
    target: usize,
    draws: &mut impl Draws,
) -> Span {
    let last = (documents.len() - 1) as usize;
    let mut index = own;
    for _ in 0..TRIES {
        index = draws.between(0, last) as u64;
        if index != own {
            break;
        }
    }
    let ends = documents.get(index).sentence_ends;
    let first = draws.between(0, ends.len() - 1);
    let start = sentence_start(ends, first);
    let end = ends[first..]
        .iter()
        .find(|&&end| (end - start) as usize >= target);
    let end = end.or(ends.last()).copied().unwrap_or(start);
    Span {
        document: index,
        start,
        len: end - start,
    }
}

/// Cuts the pair down to `max_tokens`; the number of tokens that were cut.
fn truncate(a: &mut Span, b: &mut Span, max_tokens: usize, draws: &mut impl Draws) -> u64 {
    let mut cut = 0;
    while (a.len + b.len) as usize > max_tokens {
        let longer = if a.len > b.len { &mut *a } else { &mut *b };
        longer.len -= 1;
        if draws.unit() < 0.5 {
            longer.start += 1;
        }
        cut += 1;
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pairing::tests_support::InMemory;
    use cloze_shard::random::{Key, Stage};

    /// Answers with what it was told to, and checks every question.
    struct Script(std::vec::IntoIter<Draw>);

    #[derive(Debug)]
    enum Draw {
        Unit(f64),
        Between(usize, usize, usize),
    }
    use Draw::{Between, Unit};

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
    }

    fn run(
        lengths: &[Vec<u32>],
        max_tokens: usize,
        script: Vec<Draw>,
    ) -> (Vec<Recipe>, PairingCounts) {
        let documents = InMemory::new(lengths);
        let rule = PairingRule {
            max_tokens,
            short_seq_prob: 0.1,
            random_next_ratio: 0.5,
        };
        let mut script = Script(script.into_iter());
        let (mut recipes, mut counts) = (vec![], PairingCounts::default());
        pair(&documents, 0, &rule, &mut script, &mut counts, &mut |r| {
            recipes.push(r);
        });
        assert_eq!(
            script.0.next().map(|d| format!("{d:?}")),
            None,
            "the whole script is used"
        );
        (recipes, counts)
    }

    fn span(document: u64, start: u32, len: u32) -> Span {
        Span {
            document,
            start,
            len,
        }
    }

    #[test]
    fn next_takes_the_rest_of_the_chunk() {
        // T = 10; sentences 4 + 4 + 4 reach it; A takes one of them; the coin says "next".
        let (recipes, counts) = run(
            &[vec![4, 4, 4, 3], vec![5]],
            12,
            vec![
                Unit(0.05),
                Between(2, 12, 10),
                Between(1, 2, 1),
                Unit(0.5),
                // One sentence is left: random without a coin; own document first, then the other.
                Between(0, 1, 0),
                Between(0, 1, 1),
                Between(0, 0, 0),
            ],
        );
        assert_eq!(
            recipes,
            [
                Recipe {
                    a: span(0, 0, 4),
                    b: Some((span(0, 4, 8), false))
                },
                Recipe {
                    a: span(0, 12, 3),
                    b: Some((span(1, 0, 5), true))
                },
            ]
        );
        assert_eq!(counts, PairingCounts::default());
    }

    #[test]
    fn random_puts_unused_sentences_back() {
        // T = 12: all three sentences; A takes one, the coin says "random": two go back.
        let (recipes, counts) = run(
            &[vec![4, 4, 4], vec![2, 3, 9, 9]],
            12,
            vec![
                Unit(0.1),
                Between(1, 2, 1),
                Unit(0.49),
                Between(0, 1, 1),
                Between(0, 3, 1),
                // B needs 12 - 4 = 8 tokens: its second sentence holds 3, so it takes the third. 16 tokens are cut to 12.
                Unit(0.5),
                Unit(0.7),
                Unit(0.49),
                Unit(0.9),
                // From the second sentence again: A takes one, the coin says "next".
                Between(1, 1, 1),
                Unit(0.51),
            ],
        );
        assert_eq!(
            recipes,
            [
                Recipe {
                    a: span(0, 0, 4),
                    b: Some((span(1, 3, 8), true))
                },
                Recipe {
                    a: span(0, 4, 4),
                    b: Some((span(0, 8, 4), false))
                },
            ]
        );
        assert_eq!(counts.truncated_tokens, 4);
    }

    #[test]
    fn truncation_pops_from_the_longer_front_or_back() {
        let (mut a, mut b) = (span(0, 10, 5), span(1, 20, 5));
        // Equal: B first (back), then A is longer (front), then B (front).
        let mut script = Script(vec![Unit(0.5), Unit(0.49), Unit(0.0)].into_iter());
        assert_eq!(truncate(&mut a, &mut b, 7, &mut script), 3);
        assert_eq!((a, b), (span(0, 11, 4), span(1, 21, 3)));
    }

    #[test]
    fn a_lone_document_labels_its_own_text_random() {
        let mut script = vec![Unit(0.9)];
        script.extend((0..10).map(|_| Between(0, 0, 0)));
        script.push(Between(0, 0, 0));
        let (recipes, counts) = run(&[vec![4]], 12, script);
        assert_eq!(
            recipes,
            [Recipe {
                a: span(0, 0, 4),
                b: Some((span(0, 0, 4), true))
            }]
        );
        assert_eq!(counts.random_from_own_document, 1);
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
            let rule = PairingRule {
                max_tokens: 125,
                short_seq_prob: 0.1,
                random_next_ratio: 0.5,
            };
            let (mut random, mut all) = (0f64, 0f64);
            for i in 0..documents.len() {
                let mut draws = Key::new(6, Stage::Pairing).stream(i, 0);
                pair(
                    &documents,
                    i,
                    &rule,
                    &mut draws,
                    &mut PairingCounts::default(),
                    &mut |r| {
                        all += 1.0;
                        random += f64::from(u8::from(r.b.is_some_and(|(_, random)| random)));
                    },
                );
            }
            let share = random / all;
            assert!(
                (share - expected).abs() < 0.012,
                "{low}–{high} sentences: {share:.3}, expected {expected:.3}"
            );
        }
    }
}
