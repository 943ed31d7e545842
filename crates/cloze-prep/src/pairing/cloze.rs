//! The default pairing: BERT's idea of a pair without its faults.
//!
//! - *Units* are sentences; a sentence longer than half a pair is cut, after a clause where one ends near, else at word starts, into units that are
//!   not. Two units therefore always fit, and nothing is ever truncated away.
//! - The target length T is drawn for each instance. A chunk takes units while they fit T, but at least two.
//! - The label comes first, from [`PermutedBlocks`], so the ratio of random pairs is met, not merely expected. It does not
//!   depend on how many sentences are left.
//! - *Next*: the chunk is cut in two at a drawn unit. *Random*: A is the first part; the rest goes back, and B is
//!   text that starts at a sentence drawn uniformly from all sentences of the split, in a document of another id. (Drawing a
//!   document first, as BERT does, would make random text come from short documents more often than next text does.)
//! - A last lone unit that is to be labelled "next" is paired with the unit before it.
//! - A document of one unit becomes a single-segment row without a label.
//!
//! Every unit of every document is in at least one row, as A or as a true next B.

use cloze_shard::random::{Key, Stage};

use super::labels::PermutedBlocks;
use super::{
    DocumentView, Draft, Draws, PairingCounts, Recipe, Setting, Span, TokenKinds, Totals, Wanted,
    sentence_start,
};
use crate::Result;

/// Random sentences that are looked at before any other document is taken.
const TRIES: u32 = 64;

/// Makes the instances of `document`, which is number `index`, and hands each to `emit`, in order.
pub fn pair(
    document: &DocumentView<'_>,
    index: u64,
    setting: &Setting<'_>,
    labels: &mut PermutedBlocks,
    draws: &mut impl Draws,
    counts: &mut PairingCounts,
    emit: &mut impl FnMut(Draft) -> Result<()>,
) -> Result<()> {
    let rule = &setting.rule;
    let units = units(setting.kinds, document, rule.max_tokens / 2, counts);
    let span = |first: usize, end: usize| {
        let start = unit_start(&units, first);
        Span {
            document: index,
            start,
            len: units[end - 1].end - start,
            sentence: Some(units[first].sentence),
        }
    };
    let n = units.len();
    if n == 1 {
        let a = span(0, 1);
        return emit(Recipe { a, b: None }.into());
    }
    let last_sentence = setting.totals.sentences.saturating_sub(1) as usize;
    let mut first = 0;
    while first < n {
        let target = rule.target(draws);
        let mut random = labels.draw();
        let lone = first + 1 == n;
        let mut end = (first + 2).min(n);
        while end < n && span(first, end + 1).len as usize <= target {
            end += 1;
        }
        let middle = if lone {
            n
        } else {
            draws.between(first + 1, end - 1)
        };
        let a = span(first, middle);
        if random && setting.totals.other.is_none() {
            counts.random_unavailable += 1;
            random = false;
        }
        if random {
            let wanted = Wanted {
                place: draws.between(0, last_sentence) as u64,
                own: document.doc,
                seed: draws.seed(),
                // At most the sequence length, a u16.
                budget: target.saturating_sub(a.len as usize) as u16,
                longest: (rule.max_tokens - a.len as usize) as u16,
            };
            emit(Draft {
                recipe: Recipe { a, b: None },
                wanted: Some(wanted),
            })?;
            first = middle;
        } else {
            let (a, b) = if lone {
                (span(n - 2, n - 1), span(n - 1, n))
            } else {
                (a, span(middle, end))
            };
            let b = Some((b, false));
            emit(Recipe { a, b }.into())?;
            first = end;
        }
    }
    Ok(())
}

/// A sentence, or a piece of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    /// One past the last token.
    pub end: u32,
    /// The number of the sentence.
    pub sentence: u32,
}

/// Start of unit `i`.
pub(super) fn unit_start(units: &[Unit], i: usize) -> u32 {
    if i == 0 { 0 } else { units[i - 1].end }
}

/// The document's units.
pub(super) fn units(
    kinds: &TokenKinds,
    document: &DocumentView<'_>,
    longest: usize,
    counts: &mut PairingCounts,
) -> Vec<Unit> {
    // Mostly a sentence gives no more than one unit for each time that it holds the longest.
    let most = document.sentence_ends.len() + document.input_ids.len() / longest.max(1);
    let mut units = Vec::with_capacity(most);
    let mut start = 0;
    for (sentence, &end) in (0u32..).zip(document.sentence_ends) {
        if (end - start) as usize > longest {
            counts.sentences_cut += 1;
        }
        while (end - start) as usize > longest {
            // Even pieces: the last one is not a stump.
            let pieces = ((end - start) as usize).div_ceil(longest);
            let even = ((end - start) as usize).div_ceil(pieces);
            start += clause(kinds, document, start, even, longest)
                .unwrap_or_else(|| word_prefix(kinds, document, start, even));
            let end = start;
            units.push(Unit { end, sentence });
        }
        units.push(Unit { end, sentence });
        start = end;
    }
    units
}

/// The tokens from `start`, half of `longest` at least and `longest` at most, that end a clause: as near to `even` as there are, or none.
fn clause(
    kinds: &TokenKinds,
    document: &DocumentView<'_>,
    start: u32,
    even: usize,
    longest: usize,
) -> Option<u32> {
    let at = |len: usize| document.input_ids.get(start as usize + len);
    let ends = |len: usize| {
        at(len - 1).is_some_and(|id| kinds.is_clause_end(id))
            && !at(len).is_some_and(|id| kinds.is_clause_end(id) || kinds.is_continuation(id))
    };
    let lens = longest.div_ceil(2).max(1)..=longest;
    // The nearest are looked at first, of two that are as near the shorter.
    for by in 0..=longest {
        let near = [even.wrapping_sub(by), even + by];
        if let Some(len) = near
            .into_iter()
            .find(|len| lens.contains(len) && ends(*len))
        {
            return Some(len as u32);
        }
    }
    None
}

/// The most tokens from `start`, at most `longest`, that end where a word does; `longest` if no word starts there.
fn word_prefix(kinds: &TokenKinds, document: &DocumentView<'_>, start: u32, longest: usize) -> u32 {
    let continues = |len: usize| {
        let next = document.input_ids.get(start as usize + len);
        next.is_some_and(|id| kinds.is_continuation(id))
    };
    let len = (1..=longest)
        .rev()
        .find(|&len| !continues(len))
        .unwrap_or(longest);
    len as u32
}

/// Where text is looked for when `tries` places were in documents of A's own id: another sentence that is drawn, and after [`TRIES`] the first of all that is not.
pub(super) fn again(totals: &Totals, wanted: &Wanted, tries: u32) -> u64 {
    if tries < TRIES {
        let key = Key::new(wanted.seed, Stage::Elsewhere);
        return key.stream(0, tries).below(totals.sentences);
    }
    match totals.other {
        Some(other) if wanted.own == totals.first => other,
        _ => 0,
    }
}

/// Text that starts with sentence `first` of `document`, which is number `index`: whole sentences while they fit the budget; at least the first, of at most
/// `longest` tokens. `None` where the document has A's id.
pub(super) fn second(
    kinds: &TokenKinds,
    wanted: &Wanted,
    index: u64,
    document: &DocumentView<'_>,
    first: usize,
) -> Option<Span> {
    if document.doc == wanted.own {
        return None;
    }
    let (budget, longest) = (usize::from(wanted.budget), usize::from(wanted.longest));
    let ends = document.sentence_ends;
    let start = sentence_start(ends, first);
    let fits = ends[first..]
        .iter()
        .take_while(|&&end| (end - start) as usize <= budget.min(longest))
        .last();
    let len = match fits {
        Some(end) => end - start,
        None if (ends[first] - start) as usize <= longest => ends[first] - start,
        None => word_prefix(kinds, document, start, longest),
    };
    Some(Span {
        document: index,
        start,
        len,
        sentence: Some(first as u32),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pairing;
    use crate::pairing::tests_support::InMemory;
    use crate::pairing::{Documents, PairingRule, elsewhere};
    use proptest::prelude::*;

    fn run(documents: &InMemory, rule: &PairingRule, seed: u64) -> (Vec<Recipe>, PairingCounts) {
        let mut labels = PermutedBlocks::new(
            rule.random_next_ratio,
            Key::new(seed, Stage::Label).stream(0, 0),
        );
        let setting = documents.setting(*rule);
        let (mut recipes, mut counts) = (vec![], PairingCounts::default());
        let mut more = PairingCounts::default();
        let (mut together, mut at_once) = (elsewhere::Together::default(), vec![]);
        let mut counts_together = PairingCounts::default();
        let mut look_up = |together: &mut elsewhere::Together| {
            let (pairing, counts) = (Pairing::Cloze, &mut counts_together);
            let mut emit = |recipe| {
                at_once.push(recipe);
                Ok(())
            };
            together.look_up(pairing, &setting, &mut &*documents, counts, &mut emit)
        };
        let mut emit = |draft| {
            let (pairing, counts) = (Pairing::Cloze, &mut more);
            let cursor = &mut &*documents;
            let recipe = elsewhere::look_up(pairing, &setting, cursor, draft, counts)?;
            recipes.push(recipe);
            if together.hold(draft) {
                look_up(&mut together)?;
            }
            Ok(())
        };
        for i in 0..documents.len() {
            let mut draws = Key::new(seed, Stage::Pairing).stream(i, 0);
            let document = documents.get(i);
            pair(
                &document,
                i,
                &setting,
                &mut labels,
                &mut draws,
                &mut counts,
                &mut emit,
            )
            .unwrap();
        }
        look_up(&mut together).unwrap();
        assert_eq!(at_once, recipes, "looked up together or one by one");
        assert_eq!(counts_together, more);
        counts += more;
        (recipes, counts)
    }

    fn corpora() -> impl Strategy<Value = Vec<Vec<u32>>> {
        let sentence = prop_oneof![8 => 1u32..40, 1 => 40u32..400];
        prop::collection::vec(prop::collection::vec(sentence, 1..12), 1..12)
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_is_too_long(
            lengths in corpora(), seed: u64, max_tokens in 5usize..140, short in 0.0f64..1.0, ratio in 0.0f64..=1.0,
        ) {
            let documents = InMemory::new(&lengths);
            let rule = PairingRule { max_tokens, short_seq_prob: short, random_next_ratio: ratio };
            let (recipes, counts) = run(&documents, &rule, seed);
            let mut covered: Vec<Vec<bool>> =
                lengths.iter().map(|s| vec![false; s.iter().sum::<u32>() as usize]).collect();
            for r in &recipes {
                let mut cover = |s: Span| {
                    let sentence = documents.get(s.document).sentence_of(s.start) as u32;
                    assert_eq!(s.sentence, Some(sentence));
                    (s.start..s.end()).for_each(|t| covered[s.document as usize][t as usize] = true);
                };
                prop_assert!(r.a.len > 0);
                cover(r.a);
                if let Some((b, random)) = r.b {
                    prop_assert!(b.len > 0 && (r.a.len + b.len) as usize <= max_tokens);
                    prop_assert_eq!(random, documents.get(r.a.document).doc != documents.get(b.document).doc);
                    prop_assert!(b.end() <= documents.get(b.document).input_ids.len() as u32);
                    if !random {
                        prop_assert_eq!((b.document, b.start), (r.a.document, r.a.end()));
                        cover(b);
                    }
                } else {
                    prop_assert!(r.a.len as usize <= max_tokens / 2);
                }
            }
            prop_assert!(covered.iter().flatten().all(|&c| c), "every token is in a row");
            prop_assert_eq!(counts.truncated_tokens, 0);
            prop_assert_eq!(counts.random_from_own_document, 0);
        }

        #[test]
        fn units_are_short_and_cut_at_word_starts(lengths in corpora(), longest in 8usize..70) {
            let documents = InMemory::new(&lengths);
            for i in 0..documents.len() {
                let document = documents.get(i);
                let units = units(documents.kinds(), &document, longest, &mut PairingCounts::default());
                let ends: Vec<u32> = units.iter().map(|unit| unit.end).collect();
                prop_assert!(document.sentence_ends.iter().all(|e| ends.contains(e)));
                let mut start = 0;
                for Unit { end, sentence } in units {
                    prop_assert_eq!(document.sentence_of(start), sentence as usize);
                    prop_assert!(end > start && (end - start) as usize <= longest);
                    // In these documents every word is at most two tokens, so a word start is always near.
                    let sentence_end = document.sentence_ends.contains(&end);
                    prop_assert!(sentence_end || !documents.kinds().is_continuation(end));
                    start = end;
                }
            }
        }
    }

    /// A long sentence is cut after the clause that ends nearest to where even pieces would, in the second half of what fits.
    #[test]
    fn long_sentences_are_cut_after_clauses() {
        // 30 tokens in pieces of at most 20: even ones would be of 15.
        let cuts = |clause: u32| {
            let documents = InMemory::new(&[vec![30]]).with_clause_end(clause);
            units(
                documents.kinds(),
                &documents.get(0),
                20,
                &mut PairingCounts::default(),
            )
        };
        for (clause, first) in [
            (10, 11),
            (12, 13),
            (19, 20),
            (8, 15),
            (20, 15),
            (16, 15),
            (9, 15),
        ] {
            // Tokens 10 and 17 go on with a word, so the ones before end none.
            assert_eq!(cuts(clause)[0].end, first, "{clause}");
        }
    }

    /// The ratio holds for documents of one to three sentences, where a coin with forced labels would give 60 to 100 %.
    #[test]
    fn the_ratio_is_met_whatever_the_documents() {
        for (sentences, ratio) in [(2, 0.5), (3, 0.5), (3, 0.2), (10, 0.5), (40, 0.8)] {
            let documents = InMemory::new(&vec![vec![20; sentences]; 12_000 / sentences]);
            let rule = PairingRule {
                max_tokens: 125,
                short_seq_prob: 0.1,
                random_next_ratio: ratio,
            };
            let (recipes, _) = run(&documents, &rule, 1);
            let random = recipes
                .iter()
                .filter(|r| r.b.is_some_and(|(_, random)| random))
                .count();
            let share = random as f64 / recipes.len() as f64;
            assert!(
                (share - ratio).abs() < 0.003,
                "{sentences} sentences: {share}, asked {ratio}"
            );
        }
    }

    #[test]
    fn documents_of_one_id_are_never_random_to_each_other() {
        let twins = InMemory::new(&[vec![5, 5, 5], vec![5, 5, 5]]).with_doc(1, 0);
        let rule = PairingRule {
            max_tokens: 29,
            short_seq_prob: 0.0,
            random_next_ratio: 1.0,
        };
        let (recipes, counts) = run(&twins, &rule, 1);
        assert!(
            recipes
                .iter()
                .all(|r| r.b.is_some_and(|(_, random)| !random))
        );
        assert_eq!(counts.random_unavailable, recipes.len() as u64);

        let mut lengths = vec![vec![9u32; 500]; 1];
        lengths.push(vec![3]);
        let (recipes, counts) = run(&InMemory::new(&lengths), &rule, 1);
        assert_eq!(
            counts.random_unavailable, 0,
            "the one other document is found, however rare"
        );
        assert!(
            recipes
                .iter()
                .all(|r| r.b.is_none_or(|(b, _)| b.document == 1))
        );
    }

    /// Random text comes from long documents as often as text does.
    #[test]
    fn random_text_is_drawn_by_sentence() {
        let mut lengths = vec![vec![10u32; 300]; 10];
        lengths.extend(vec![vec![10u32; 2]; 500]);
        let documents = InMemory::new(&lengths);
        let rule = PairingRule {
            max_tokens: 61,
            short_seq_prob: 0.0,
            random_next_ratio: 0.5,
        };
        let (recipes, _) = run(&documents, &rule, 3);
        let random: Vec<u64> = recipes
            .iter()
            .filter_map(|r| r.b)
            .filter(|b| b.1)
            .map(|b| b.0.document)
            .collect();
        let from_long = random.iter().filter(|&&d| d < 10).count() as f64 / random.len() as f64;
        // 3,000 of 4,000 sentences; a third of the pairs come from each long document at most, so own ids hardly count.
        assert!((from_long - 0.75).abs() < 0.05, "{from_long}");
    }
}
