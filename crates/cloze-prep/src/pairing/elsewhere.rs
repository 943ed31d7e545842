//! Text from elsewhere: what becomes of a pair whose second segment was only wanted.
//!
//! A place is looked at ([`settle`]); where that is A's own text, [`again`] says where to look next; and [`finish`] makes the row. These can be called in the
//! order of the rows ([`Together`]) or in that of the places: what comes out is the same.

use cloze_shard::prefetch;

use super::{
    Cursor, DocumentView, Draft, PairingCounts, Recipe, Setting, Span, Totals, Wanted, bert, cloze,
};
use crate::{Pairing, Result};

/// The second segment in `document`, which is number `index`, from sentence `sentence` on (`cloze`) or from one that is drawn (`bert`); `None` where it is
/// to be looked for [`again`].
pub fn settle(
    pairing: Pairing,
    setting: &Setting<'_>,
    wanted: &Wanted,
    (index, sentence): (u64, usize),
    document: &DocumentView<'_>,
    counts: &mut PairingCounts,
) -> Option<Span> {
    match pairing {
        Pairing::Cloze => cloze::second(setting.kinds, wanted, index, document, sentence),
        Pairing::Bert => {
            counts.random_from_own_document += u64::from(document.doc == wanted.own);
            Some(bert::second(wanted, index, document))
        }
    }
}

/// The place to look at when `tries` were of no use.
pub fn again(totals: &Totals, wanted: &Wanted, tries: u32) -> u64 {
    cloze::again(totals, wanted, tries)
}

/// The document, and the sentence in it, that a place is.
pub fn find(pairing: Pairing, cursor: &mut impl Cursor, place: u64) -> Result<Found> {
    match pairing {
        Pairing::Cloze => cursor.nth_sentence(place),
        Pairing::Bert => Ok((place, 0)),
    }
}

/// The row whose second segment was wanted with the key `seed`, and is `b`.
pub fn finish(
    pairing: Pairing,
    setting: &Setting<'_>,
    mut recipe: Recipe,
    seed: u64,
    mut b: Span,
    counts: &mut PairingCounts,
) -> Recipe {
    if pairing == Pairing::Bert {
        let max_tokens = setting.rule.max_tokens;
        let mut draws = bert::coins(seed);
        counts.truncated_tokens += bert::truncate(&mut recipe.a, &mut b, max_tokens, &mut draws);
    }
    recipe.b = Some((b, true));
    recipe
}

/// Drafts whose text from elsewhere is looked up together: it lies far apart, in memory that no cache holds, and is waited for at one time.
#[derive(Default)]
pub struct Together(Vec<(Draft, Option<Found>)>);

/// The document, and the sentence in it, where text is looked for.
type Found = (u64, usize);

impl Together {
    const MOST: usize = 64;

    /// Holds a draft, and whether these are as many as are looked up together.
    pub fn hold(&mut self, draft: Draft) -> bool {
        self.0.push((draft, None));
        self.0.len() == Self::MOST
    }

    /// The rows of the drafts that are held, in their order, into `emit`.
    pub fn look_up(
        &mut self,
        pairing: Pairing,
        setting: &Setting<'_>,
        cursor: &mut impl Cursor,
        counts: &mut PairingCounts,
        emit: &mut impl FnMut(Recipe) -> Result<()>,
    ) -> Result<()> {
        for (draft, found) in &mut self.0 {
            let Some(wanted) = &draft.wanted else {
                continue;
            };
            let (index, sentence) = find(pairing, cursor, wanted.place)?;
            *found = Some((index, sentence));
            let ends = cursor.get(index)?.sentence_ends;
            let first = sentence.min(ends.len()).saturating_sub(1);
            prefetch(&ends[first..ends.len().min(first + 8)]);
        }
        for (draft, found) in self.0.drain(..) {
            emit(look_up_from(
                pairing, setting, cursor, draft, found, counts,
            )?)?;
        }
        Ok(())
    }
}

/// The row of a draft, at once.
#[cfg(test)]
pub fn look_up(
    pairing: Pairing,
    setting: &Setting<'_>,
    cursor: &mut impl Cursor,
    draft: Draft,
    counts: &mut PairingCounts,
) -> Result<Recipe> {
    look_up_from(pairing, setting, cursor, draft, None, counts)
}

/// As [`look_up`], where the first place may be known already.
fn look_up_from(
    pairing: Pairing,
    setting: &Setting<'_>,
    cursor: &mut impl Cursor,
    draft: Draft,
    mut known: Option<Found>,
    counts: &mut PairingCounts,
) -> Result<Recipe> {
    let Some(wanted) = draft.wanted else {
        return Ok(draft.recipe);
    };
    let (mut place, mut tries) = (wanted.place, 0);
    loop {
        let found = match known.take() {
            Some(found) => found,
            None => find(pairing, cursor, place)?,
        };
        let document = cursor.get(found.0)?;
        match settle(pairing, setting, &wanted, found, &document, counts) {
            Some(b) => {
                let recipe = finish(pairing, setting, draft.recipe, wanted.seed, b, counts);
                return Ok(recipe);
            }
            None => {
                tries += 1;
                place = again(&setting.totals, &wanted, tries);
            }
        }
    }
}
