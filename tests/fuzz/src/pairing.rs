//! Pairing: of any documents, under any options that are accepted, for every objective,
//!
//! - rows keep the rules of rows, and labels are what the audit of labels says;
//! - a label of 0 is true (B goes on where A ends; with `bert`, which cuts, later at most), and so is one of 1 (B is of another document, or stood before A);
//!   only `bert` takes a document's own text for random, and counts it;
//! - with `cloze`, every token of every document is in a row of each duplicate; without pairs, in exactly one.

use arbitrary::{Arbitrary, Result, Unstructured};
use cloze_prep::pairing::{DocumentView, Documents, Recipe, Span, Totals, packed};
use cloze_prep::{Config, MaskUnitKind, MaskingKind, ObjectiveKind, Pairing, rows};
use cloze_shard::rules::audit_label;
use cloze_shard::{Ids, Vocabulary};

/// The special tokens, then words; every third of these goes on with one, and a few end clauses.
const ENTRIES: u32 = 64;

struct Given {
    /// Hash id, tokens, ends of sentences.
    documents: Vec<(i64, Vec<u32>, Vec<u32>)>,
    /// Number of the first sentence of each, then that of all.
    first: Vec<u64>,
}

impl Documents for Given {
    fn get(&self, i: u64) -> DocumentView<'_> {
        let (doc, ids, ends) = &self.documents[i as usize];
        DocumentView {
            doc: *doc,
            input_ids: Ids::U32(ids),
            sentence_ends: ends,
        }
    }

    fn nth_sentence(&self, n: u64) -> (u64, usize) {
        let document = self.first.partition_point(|&first| first <= n) - 1;
        (document as u64, (n - self.first[document]) as usize)
    }
}

impl Given {
    fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for (doc, _, ends) in &self.documents {
            totals.add(*doc, ends.len() as u64);
        }
        totals
    }
}

fn vocabulary() -> Vocabulary {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned);
    let word = |id: u32| match id {
        9 => ",".into(),
        25 => ";".into(),
        57 => ")".into(),
        _ if id % 3 == 2 => format!("##w{id}"),
        _ => format!("w{id}"),
    };
    let tokens = special.into_iter().chain((5..ENTRIES).map(word));
    Vocabulary::new(tokens, None).expect("it has the special tokens")
}

fn config(u: &mut Unstructured<'_>) -> Result<Config> {
    use ObjectiveKind::*;
    let objective = *u.choose(&[Nsp, Nsp, Sop, FullSentences, DocSentences])?;
    let seq_len = match u.ratio(1, 20)? {
        true => u.int_in_range(8..=65_535)?,
        false => u.int_in_range(8..=70)?,
    };
    let share = |u: &mut Unstructured<'_>| Ok(f64::from(u.int_in_range(0..=20)?) / 20.0);
    let mut bins: Vec<u16> = (0..u.int_in_range(0..=2)?)
        .map(|_| u.int_in_range(8..=seq_len))
        .collect::<Result<_>>()?;
    bins.sort_unstable();
    bins.dedup();
    Ok(Config {
        objective,
        seq_len,
        seed: u.arbitrary()?,
        dupe_factor: u.int_in_range(1..=3)?,
        short_seq_prob: if u.arbitrary()? {
            Some(share(u)?)
        } else {
            None
        },
        random_next_ratio: share(u)?,
        pairing: if objective == Nsp && u.arbitrary()? {
            Pairing::Bert
        } else {
            Pairing::Cloze
        },
        masking: if u.arbitrary()? {
            MaskingKind::Static
        } else {
            MaskingKind::Dynamic
        },
        mask_rate: share(u)?,
        mask_unit: *u.choose(&[MaskUnitKind::Token, MaskUnitKind::Word, MaskUnitKind::Span])?,
        bins,
        ..Config::default()
    })
}

fn documents(u: &mut Unstructured<'_>) -> Result<Given> {
    let mut given = Given {
        documents: Vec::new(),
        first: vec![0],
    };
    let same: i64 = u.int_in_range(0..=5)?;
    let mut sentences = 0;
    while given.documents.len() < 40 {
        let (mut ids, mut ends) = (Vec::new(), Vec::new());
        for _ in 0..u.int_in_range(1..=9)? {
            let length = match u8::arbitrary(u)? {
                n @ ..200 => 1 + u32::from(n) % 24,
                n => 1 + (u32::from(n) - 200) * 7,
            };
            // One draw says what all of its tokens are: there may be many.
            let (from, step) = (u8::arbitrary(u)?, u8::arbitrary(u)?);
            let token = |i: u32| 5 + (u32::from(from) + i * u32::from(step)) % (ENTRIES - 5);
            ids.extend((0..length).map(token));
            ends.push(ids.len() as u32);
        }
        sentences += ends.len() as u64;
        // Documents of equal text are one to labels.
        let number = given.documents.len() as i64;
        let doc = if same > 0 { number % same } else { number };
        given.documents.push((doc, ids, ends));
        given.first.push(sentences);
        if u.is_empty() {
            break;
        }
    }
    Ok(given)
}

/// Reads documents and options out of `data`.
pub fn check(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let Ok((config, given)) = config(&mut u).and_then(|c| Ok((c, documents(&mut u)?))) else {
        return;
    };
    if config.check().is_err() {
        return;
    }
    let vocabulary = vocabulary();
    let whole: Vec<Vec<u32>> = given
        .documents
        .iter()
        .map(|(_, ids, _)| vec![0; ids.len()])
        .collect();
    let mut held = vec![whole; config.dupe_factor as usize];
    let mut own = 0;
    let about = || format!("{config:?} {:?}", given.documents);
    let paired = rows(
        &given,
        given.totals(),
        &vocabulary,
        &config,
        &mut |duplicate, recipe, row, rules| {
            let view = row.view();
            rules
                .check(&view)
                .unwrap_or_else(|why| panic!("{why}: {row:?} of {recipe:?}: {}", about()));
            let doc = |span: Span| given.get(span.document).doc;
            let held = &mut held[duplicate as usize];
            let mut hold = |span: Span| {
                assert!(span.len > 0, "{recipe:?}: {}", about());
                held[span.document as usize][span.start as usize..span.end() as usize]
                    .iter_mut()
                    .for_each(|n| *n += 1);
            };
            let claims_own = match recipe.b {
                Some((b, true)) if config.objective == ObjectiveKind::Nsp => {
                    doc(b) == doc(recipe.a)
                }
                _ => false,
            };
            own += u64::from(claims_own);
            match audit_label(config.objective_record(), &view) {
                Ok(()) => assert!(!claims_own),
                Err(why) => assert!(
                    claims_own && config.pairing == Pairing::Bert,
                    "{why}: {recipe:?}: {}",
                    about()
                ),
            }
            match recipe.b {
                None => packed::parts(&given, recipe.a).for_each(&mut hold),
                Some((b, other)) => {
                    hold(recipe.a);
                    assert!(b.len > 0);
                    let (first, second) = match (other, config.objective) {
                        (true, ObjectiveKind::Sop) => (b, recipe.a),
                        _ => (recipe.a, b),
                    };
                    let follows = match config.pairing {
                        Pairing::Cloze => second.start == first.end(),
                        Pairing::Bert => second.start >= first.end(),
                    };
                    let together = first.document == second.document && follows;
                    let random = other && config.objective != ObjectiveKind::Sop;
                    assert!(random || together, "{recipe:?}: {}", about());
                    if !random {
                        hold(b);
                    }
                }
            }
            made(recipe, row.input_ids.len(), &config);
        },
    );
    let counts = match paired {
        Ok(counts) => counts,
        Err(error) => panic!("{error}: {}", about()),
    };
    assert_eq!(counts.random_from_own_document, own, "{}", about());
    if config.pairing == Pairing::Bert {
        return;
    }
    assert_eq!(counts.truncated_tokens, 0);
    let often = held.iter().flatten().flatten();
    match config.objective.has_pairs() {
        true => assert!(often.clone().all(|&n| n > 0), "{}", about()),
        false => assert!(often.clone().all(|&n| n == 1), "{}", about()),
    }
}

/// The tokens of a row are those of its recipe and what stands around them.
fn made(recipe: &Recipe, tokens: usize, config: &Config) {
    let text = recipe.a.len as usize + recipe.b.map_or(0, |(b, _)| b.len as usize);
    let frame = tokens - text;
    assert!(tokens <= usize::from(config.seq_len));
    match config.objective {
        ObjectiveKind::FullSentences => assert!(frame >= 2),
        _ => assert_eq!(frame, if recipe.b.is_some() { 3 } else { 2 }),
    }
}
