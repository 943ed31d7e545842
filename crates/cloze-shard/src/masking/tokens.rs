//! Masks of tokens, fast: the same as [`Masker::mask`] makes, which is the definition. Words and spans: `units.rs`.
//!
//! What may be predicted is a bit each, and so is what is, first by its number among those that may be and then by its position. All draws of a row are made at once.

use std::hint::select_unpredictable;

use super::spans::pick;
use super::{FATES, MaskKey, Masker, Unit};
use crate::random::{Begun, LANES as GROUP};
use crate::row::Id;
use crate::wide::wide;

/// Tokens whose bits are in one word.
pub(super) const BITS: usize = u64::BITS as usize;

/// Memory to mask in.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    /// A bit for each token: whether it may be predicted.
    maskable: Vec<u64>,
    /// A bit for each token that may be, whether it is.
    taken: Vec<u64>,
    pub(super) chosen: Vec<u32>,
    /// Words of blocks: by tokens what chooses one, and then, for each that is chosen, what becomes of it and which random token it would be.
    words: [Vec<u32>; 3],
    /// By words a draw for each position.
    pub(super) draws: Vec<u32>,
    pub(super) units: super::units::Scratch,
}

/// A bit for each of `ids` that is not one of `special`, and none behind them. How many there are.
fn maskable<T: Id>(ids: &[T], special: &[T; 5], bits: &mut [u64]) -> usize {
    #[cfg(target_arch = "x86_64")]
    if let crate::row::Ids::U16(ids) = T::view(ids) {
        let special = special.map(|id| id.id() as u16);
        let counts = is_x86_feature_detected!("popcnt");
        if counts && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") {
            // SAFETY: the processor has these instructions.
            return unsafe { super::x86::maskable_avx512(ids, special, bits) };
        }
        if counts && is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            return unsafe { super::x86::maskable_avx2(ids, special, bits) };
        }
    }
    plainly(ids, special, bits)
}

/// [`maskable`], id by id.
fn plainly<T: Id>(ids: &[T], special: &[T; 5], bits: &mut [u64]) -> usize {
    let mut count = 0;
    for (bits, ids) in bits.iter_mut().zip(ids.chunks(BITS)) {
        let plain = |bit: u32, id: &T| u64::from(!is_one_of(special, *id)) << bit;
        *bits = (0..).zip(ids).fold(0, |all, (i, id)| all | plain(i, id));
        count += bits.count_ones() as usize;
    }
    count
}

/// The bits of `numbers`, each moved to the place of the set bit of `places` that has its number; those that are too many are left out.
#[inline(always)]
fn deposit(numbers: u64, places: u64) -> u64 {
    let mut bits = numbers;
    // Few places are none, and most of these lie behind a row's end, where nothing is moved.
    let mut gaps = !places & below(BITS as u32 - places.leading_zeros());
    while gaps != 0 {
        let before = (gaps & gaps.wrapping_neg()) - 1;
        bits = (bits & before) | (bits & !before) << 1;
        gaps &= gaps - 1;
    }
    bits & places
}

/// The lowest `count` bits.
#[inline(always)]
fn below(count: u32) -> u64 {
    u64::MAX.checked_shr(BITS as u32 - count).unwrap_or(0)
}

/// Whether `id` is one of `special`, without a branch.
#[inline(always)]
pub(super) fn is_one_of<T: Id>(special: &[T; 5], id: T) -> bool {
    special.iter().fold(false, |is, &s| is | (s == id))
}

impl Masker {
    /// Special tokens, some repeated so that there are five.
    pub(super) fn five<T: Id>(&self) -> [T; 5] {
        self.five.map(T::of)
    }

    /// As [`Masker::mask`], for a row that begins at `start` of a batch: what it appends are places in the batch.
    ///
    /// `ids` must hold at most 65,536 tokens.
    #[allow(clippy::too_many_arguments)]
    pub fn mask_in<T: Id>(
        &self,
        scratch: &mut Scratch,
        key: MaskKey,
        row: u64,
        start: u32,
        ids: &mut [T],
        places: &mut Vec<u32>,
        labels: &mut Vec<T>,
    ) {
        let begun = key.key.begin(row, key.epoch);
        match &self.unit {
            Unit::Token => {
                let out = Out {
                    start,
                    ids,
                    places,
                    labels,
                };
                return mask_tokens(self, scratch, &begun, out);
            }
            Unit::Word(pieces) => self.words_in(scratch, pieces, &begun, ids),
            Unit::Span(pieces, lengths) => {
                return self.spans_in(
                    scratch,
                    (pieces, lengths),
                    (key, row),
                    (start, ids),
                    places,
                    labels,
                );
            }
        }
        let Scratch { chosen, words, .. } = scratch;
        let [_, actions, replacements] = words;
        begun.pairs(FATES, chosen, [actions, replacements]);
        meet(
            self,
            scratch,
            Out {
                start,
                ids,
                places,
                labels,
            },
        );
    }

    /// How many tokens of a row may be predicted; a bit for each of its tokens says whether it may.
    pub(super) fn find<T: Id>(&self, scratch: &mut Scratch, ids: &[T]) -> usize {
        let blocks = ids.len().div_ceil(BITS);
        scratch.maskable.resize(blocks, 0);
        maskable(ids, &self.five(), &mut scratch.maskable)
    }
}

/// A row, and where what is predicted of it goes: see [`Masker::mask_in`].
struct Out<'a, T> {
    start: u32,
    ids: &'a mut [T],
    places: &'a mut Vec<u32>,
    labels: &'a mut Vec<T>,
}

wide! {
    /// Draws for a row, chooses tokens, and says and does what becomes of them.
    fn mask_tokens<T: Id>(masker: &Masker, scratch: &mut Scratch, begun: &Begun, out: Out<'_, T>) {
        let n = masker.find(scratch, out.ids);
        let k = masker.rule.count(n);
        let Scratch { maskable, taken, chosen, words, .. } = &mut *scratch;
        begun.blocks(k, words);
        taken.clear();
        // One more than there are blocks, for what is read beyond the last.
        taken.resize(maskable.len() + 1, 0);
        choose(&words[0][..k], n, taken);
        collect(maskable, taken, k, chosen);
        meet(masker, scratch, out);
    }
}

/// What becomes of a token that stays: no id is this.
const STAYS: u32 = u32::MAX;

/// Says which tokens are chosen, and does with them what their words decide.
#[inline(always)]
fn meet<T: Id>(masker: &Masker, scratch: &mut Scratch, out: Out<'_, T>) {
    let Scratch { chosen, words, .. } = scratch;
    let Out {
        start,
        ids,
        places,
        labels,
    } = out;
    places.extend(chosen.iter().map(|&position| start + position));
    let [_, actions, replacements] = words;
    // By whole groups, so that there are no single ones: what is after the last means nothing.
    let groups = chosen.len().next_multiple_of(GROUP);
    let actions = &mut actions[..groups];
    fates(masker, actions, &replacements[..groups]);
    labels.extend(chosen.iter().zip(&*actions).map(|(&position, &fate)| {
        let at = &mut ids[position as usize];
        let id = *at;
        *at = select_unpredictable(fate == STAYS, id, T::of(fate));
        id
    }));
}

/// What becomes of tokens, in the place of the words that decide it: an id, or [`STAYS`].
#[inline(always)]
fn fates(masker: &Masker, actions: &mut [u32], draws: &[u32]) {
    let groups = actions.as_chunks_mut::<GROUP>().0.iter_mut();
    for (actions, draws) in groups.zip(draws.as_chunks::<GROUP>().0) {
        for (action, draw) in actions.iter_mut().zip(draws) {
            let word = u64::from(*action);
            let drawn = match word < masker.random_below {
                true => masker.replacement(*draw),
                false => STAYS,
            };
            *action = match word < masker.mask_below {
                true => masker.mask_id,
                false => drawn,
            };
        }
    }
}

/// Sets a bit of `taken`, which has none, for each of `draws`: the numbers that are chosen of those below `n`.
#[inline(always)]
fn choose(draws: &[u32], n: usize, taken: &mut [u64]) {
    if let Some(two) = taken.first_chunk_mut()
        && n <= 2 * BITS
    {
        return *two = choose_of_few(draws, n);
    }
    let first = n - draws.len();
    for (t, &draw) in draws.iter().enumerate() {
        let last = first + t;
        let at = pick(last + 1, draw);
        let is_taken = taken[at / BITS] >> (at % BITS) & 1 == 1;
        let at = select_unpredictable(is_taken, last, at);
        taken[at / BITS] |= 1 << (at % BITS);
    }
}

/// [`choose`], of so few that their bits stay in registers: each draw waits for what the one before took.
#[inline(always)]
fn choose_of_few(draws: &[u32], n: usize) -> [u64; 2] {
    let first = n - draws.len();
    let [mut low, mut high] = [0u64; 2];
    // A bit, and all bits where it is of the upper word.
    let place = |at: usize| (1u64 << (at % BITS), 0u64.wrapping_sub((at / BITS) as u64));
    for (t, &draw) in draws.iter().enumerate() {
        let last = first + t;
        let at = pick(last + 1, draw);
        let (bit, upper) = place(at);
        let is_taken = (low ^ (low ^ high) & upper) & bit != 0;
        let (bit, upper) = place(select_unpredictable(is_taken, last, at));
        low |= bit & !upper;
        high |= bit & upper;
    }
    [low, high]
}

/// Puts the places of those that are `taken` by their number into `chosen`, `count` of them: the places that `maskable` has bits for are numbered.
#[inline(always)]
fn collect(maskable: &[u64], taken: &[u64], count: usize, chosen: &mut Vec<u32>) {
    #[cfg(target_arch = "x86_64")]
    if super::x86::has_places() {
        chosen.resize(count + BITS, 0);
        // SAFETY: the processor has these instructions.
        unsafe { super::x86::places(maskable, taken, chosen) };
        return chosen.truncate(count);
    }
    collect_plainly(maskable, taken, count, chosen);
}

/// [`collect`], place by place.
#[inline(always)]
fn collect_plainly(maskable: &[u64], taken: &[u64], count: usize, chosen: &mut Vec<u32>) {
    chosen.resize(count, 0);
    let mut to = chosen.iter_mut();
    let mut before = 0;
    for (begin, &places) in (0u32..).step_by(BITS).zip(maskable) {
        let mut bits = deposit(numbers(taken, before), places);
        while bits != 0
            && let Some(to) = to.next()
        {
            *to = begin + bits.trailing_zeros();
            bits &= bits - 1;
        }
        before += places.count_ones() as usize;
    }
}

/// The bits of `taken` from `before` on.
#[inline(always)]
pub(super) fn numbers(taken: &[u64], before: usize) -> u64 {
    let (block, bit) = (before / BITS, before % BITS);
    // Twice, because a shift by all bits is none.
    taken[block] >> bit | taken[block + 1] << 1 << (BITS - 1 - bit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_go_where_their_numbers_are(numbers: u64, places: u64, all in 0u8..3) {
            // Where few places are none, too.
            let places = match all {
                0 => places,
                1 => places | places.rotate_left(7) | places.rotate_left(31),
                _ => u64::MAX >> (places % 64),
            };
            let mut expected = 0;
            let there = (0..64).filter(|place| places >> place & 1 == 1);
            for (number, place) in there.enumerate() {
                expected |= (numbers >> number & 1) << place;
            }
            prop_assert_eq!(deposit(numbers, places), expected);
        }

        /// Also where more are maskable than fit into registers, and with each set of instructions that the processor has.
        #[test]
        fn those_that_are_taken_are_chosen(
            maskable in prop::collection::vec(prop_oneof![any::<u64>(), Just(0), Just(u64::MAX), Just(1 << 63)], 1..5),
            share in 0u32..=100,
            seed: u64,
        ) {
            let places: Vec<u32> = (0u32..).take(maskable.len() * BITS).filter(|&at| maskable[at as usize / BITS] >> (at as usize % BITS) & 1 == 1).collect();
            let n = places.len();
            let k = n * share as usize / 100;
            let mut stream = crate::random::Key::new(seed, crate::random::Stage::Sample).stream(0, 0);
            let draws: Vec<u32> = (0..k).map(|_| stream.next_u32()).collect();
            // Floyd's sampling, as it is written down.
            let mut numbers = std::collections::BTreeSet::new();
            for (last, &draw) in (n - k..n).zip(&draws) {
                let at = pick(last + 1, draw);
                numbers.insert(if numbers.contains(&at) { last } else { at });
            }
            let expected: Vec<u32> = numbers.into_iter().map(|number| places[number]).collect();
            let mut taken = vec![0; maskable.len() + 1];
            choose(&draws, n, &mut taken);
            let (mut chosen, mut plain) = (vec![7; 3], vec![]);
            collect(&maskable, &taken, k, &mut chosen);
            collect_plainly(&maskable, &taken, k, &mut plain);
            prop_assert_eq!(&chosen, &expected);
            prop_assert_eq!(plain, expected);
        }

        /// With each set of instructions that the processor has.
        #[test]
        fn a_bit_for_each_that_is_not_special(ids in prop::collection::vec(0u16..9, 0..300), special: [u16; 5]) {
            let wide: Vec<u32> = ids.iter().map(|&id| id.into()).collect();
            for special in [[3, 4, 0, 0, 0], [8, 7, 6, 5, 1], special] {
                let plain = |id: &u16| !special.contains(id);
                let count = ids.iter().filter(|id| plain(id)).count();
                let with = |maskable: &dyn Fn(&mut [u64]) -> usize| {
                    let mut bits = vec![u64::MAX; ids.len().div_ceil(BITS)];
                    (maskable(&mut bits), bits)
                };
                let mut all = vec![
                    with(&|bits| maskable(&ids, &special, bits)),
                    with(&|bits| maskable(&wide, &special.map(u32::from), bits)),
                    with(&|bits| plainly(&ids, &special, bits)),
                ];
                #[cfg(target_arch = "x86_64")]
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt") {
                    // SAFETY: the processor has these instructions.
                    all.push(with(&|bits| unsafe { super::super::x86::maskable_avx2(&ids, special, bits) }));
                }
                for (counted, bits) in all {
                    prop_assert_eq!(counted, count);
                    for at in 0..bits.len() * BITS {
                        let bit = bits[at / BITS] >> (at % BITS) & 1 == 1;
                        prop_assert_eq!(bit, ids.get(at).is_some_and(plain), "{}", at);
                    }
                }
            }
        }
    }
}
