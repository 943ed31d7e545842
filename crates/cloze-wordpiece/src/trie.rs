//! Greedy longest-match in linear time: LinMaxMatch (Song et al., "Fast WordPiece Tokenization", EMNLP 2021, algorithms 1 and 2).
//!
//! A trie of the vocabulary whose nodes also say, for when no child matches, which tokens are settled by then (*pops*) and where to go on (the *link*), so that no
//! byte is looked at twice.

use std::collections::VecDeque;
use std::ops::Range;

use crate::Id;
use crate::words::ID;

/// No cell.
const NONE: u32 = u32::MAX;
/// The cell of nothing, and that of nothing more in a word that goes on.
const ROOT: u32 = 0;
const CONTINUATION: u32 = 1;
/// Marks the last of a cell's pops.
const LAST: u32 = ID + 1;
/// More cells, or pops, than this are too many: half a million entries have a fifth of them, and a base has 24 bits.
const MOST: usize = 1 << 24;

/// A node, in a double array: its child by a byte is the cell at its base and the byte, if that cell is reached by this byte. No two nodes that have children have
/// the same base, so it is no other's child then. The base, and below it the byte: all of a vocabulary's cells lie in a cache of the second level.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cell(u32);

impl Cell {
    fn base(self) -> usize {
        (self.0 >> 8) as usize
    }

    fn byte(self) -> u8 {
        self.0 as u8
    }
}

/// What is to be done at a node when no child matches: needed once a token, not once a byte, so it lies apart.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// Where to go on; [`NONE`] where the word cannot be spelt.
    link: u32,
    /// What is settled by then: a token, marked [`LAST`], or where in `popped` several begin.
    pops: u32,
}

/// No node, or one that nothing leads to: no text has the byte 0xFF. Nor has it children, for no base is 0.
const FREE: Cell = Cell(0xFF);

const DEAD: Turn = Turn {
    link: NONE,
    pops: NONE,
};

/// The trie.
#[derive(Debug)]
pub struct Trie {
    cells: Vec<Cell>,
    /// Of each cell.
    turns: Vec<Turn>,
    popped: Vec<u32>,
}

/// What stands below a node: entries, with what they have in common left out.
#[derive(Clone, Copy)]
struct Entry<'a> {
    text: &'a [u8],
    id: u32,
    /// How many bytes it begins with as the entry before it does.
    common: u32,
}

/// A node that has children: its cell, the bytes before it, and which entries begin with these.
struct Parent {
    cell: u32,
    depth: usize,
    entries: Range<usize>,
}

/// A bit for each place.
struct Bits(Vec<u64>);

impl Bits {
    fn ones(len: usize) -> Self {
        Self(vec![u64::MAX; len / 64])
    }

    /// Has at least `len` places.
    fn grow(&mut self, len: usize) {
        if self.0.len() < len / 64 {
            self.0.resize(len / 32, u64::MAX);
        }
    }

    /// The bits of 64 places, from `at` on.
    fn from(&self, at: usize) -> u64 {
        let (word, bit) = (at / 64, at % 64);
        // Twice, because a shift by all bits is none.
        self.0[word] >> bit | self.0[word + 1] << 1 << (63 - bit)
    }

    fn clear(&mut self, at: usize) {
        self.0[at / 64] &= !(1 << (at % 64));
    }
}

/// Adds those of `tokens` that are not empty, each with what it has in common with the one before.
fn add<'a>(all: &mut Vec<Entry<'a>>, tokens: impl Iterator<Item = (&'a [u8], u32)>) {
    let mut before: &[u8] = &[];
    all.extend(
        tokens
            .filter(|(text, _)| !text.is_empty())
            .map(|(text, id)| {
                let same = text.iter().zip(before).take_while(|(a, b)| a == b);
                let common = same.count() as u32;
                before = text;
                Entry { text, id, common }
            }),
    );
}

/// Which cells are to be had.
struct Room {
    /// A bit for each cell that no node has, and for each that is no node's base.
    free: Bits,
    no_base: Bits,
    first_free: usize,
}

impl Room {
    fn of(cells: usize) -> Self {
        Self {
            free: Bits::ones(cells),
            no_base: Bits::ones(cells),
            // No parent reaches the cells of the two roots, nor takes them.
            first_free: 512,
        }
    }

    /// Takes the first base where all of `bytes`, which ascend, have a cell.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let lowest = usize::from(bytes[0]);
        // The first place for the lowest child, 64 at a time.
        let mut from = self.first_free;
        let at = loop {
            self.free.grow(from + 1_024);
            self.no_base.grow(from + 1_024);
            let base = from - lowest;
            let fits = |fits: u64, &byte: &u8| fits & self.free.from(base + usize::from(byte));
            let fits = bytes.iter().fold(self.no_base.from(base), fits);
            if fits != 0 {
                break from + fits.trailing_zeros() as usize;
            }
            from += 64;
        };
        // What is this full is not looked through again.
        if at > self.first_free + 64 {
            self.first_free = at;
        }
        let base = at - lowest;
        self.no_base.clear(base);
        bytes
            .iter()
            .for_each(|&byte| self.free.clear(base + usize::from(byte)));
        base
    }
}

impl Trie {
    /// The trie of `tokens` with their ids, each once, in order of their bytes; those that begin with `prefix` continue a word. `None` where it would be too large.
    ///
    /// Nodes are put in level by level, so that all shorter ones are there when a link is sought.
    pub fn new(tokens: &[(&str, u32)], prefix: &str) -> Option<Self> {
        let whole = tokens.iter().map(|(token, id)| (token.as_bytes(), *id));
        // A word may begin with the prefix too, where that is no punctuation.
        let rest = whole
            .clone()
            .filter_map(|(token, id)| Some((token.strip_prefix(prefix.as_bytes())?, id)));
        let mut all = Vec::with_capacity(2 * tokens.len());
        add(&mut all, whole);
        let words = all.len();
        add(&mut all, rest);
        let mut trie = Self {
            cells: vec![FREE; 1_024],
            turns: vec![DEAD; 1_024],
            popped: Vec::new(),
        };
        let mut room = Room::of(trie.cells.len());
        let root = |cell, entries| Parent {
            cell,
            depth: 0,
            entries,
        };
        let mut parents =
            VecDeque::from([root(ROOT, 0..words), root(CONTINUATION, words..all.len())]);
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        while let Some(Parent {
            cell,
            depth,
            entries,
        }) = parents.pop_front()
        {
            if entries.is_empty() {
                continue;
            }
            bytes.clear();
            ends.clear();
            for at in entries.clone() {
                if at == entries.start || all[at].common as usize == depth {
                    bytes.push(all[at].text[depth]);
                    ends.push(at);
                }
            }
            ends.push(entries.end);
            let base = room.take(&bytes);
            if base + 1_024 > trie.cells.len() {
                let len = (base + 1_024).next_power_of_two();
                trie.cells.resize(len, FREE);
                trie.turns.resize(len, DEAD);
            }
            if trie.cells.len() > MOST {
                return None;
            }
            let before = trie.cells[cell as usize].byte();
            trie.cells[cell as usize] = Cell((base as u32) << 8 | u32::from(before));
            for (&byte, ends) in bytes.iter().zip(ends.windows(2)) {
                let (place, mut entries) = (base + usize::from(byte), ends[0]..ends[1]);
                let first = all[entries.start];
                let id = (first.text.len() == depth + 1).then_some(first.id);
                entries.start += usize::from(id.is_some());
                trie.cells[place] = Cell(u32::from(byte));
                trie.turns[place] = match id {
                    Some(id) => Turn {
                        link: CONTINUATION,
                        pops: id | LAST,
                    },
                    None => trie.turn(cell, byte),
                };
                if trie.popped.len() > MOST {
                    return None;
                }
                if !entries.is_empty() {
                    let (cell, depth) = (place as u32, depth + 1);
                    parents.push_back(Parent {
                        cell,
                        depth,
                        entries,
                    });
                }
            }
        }
        Some(trie)
    }

    /// The turn of the child by `byte` of a node, where that is no token (algorithm 2).
    fn turn(&mut self, parent: u32, byte: u8) -> Turn {
        let parent = self.turns[parent as usize];
        let mut link = parent.link;
        let mut passed = Vec::new();
        let next = loop {
            // The roots have no pops, but no links either.
            if link == NONE {
                return DEAD;
            }
            if let Some(next) = self.child(link, byte) {
                break next;
            }
            let turn = self.turns[link as usize];
            passed.push(turn.pops);
            link = turn.link;
        };
        let pops = match passed.as_slice() {
            [] => parent.pops,
            passed => {
                let begin = self.popped.len();
                for pops in [parent.pops].iter().chain(passed) {
                    let (mut at, mut id) = (*pops as usize, *pops);
                    if id & LAST == 0 {
                        id = self.popped[at];
                    }
                    loop {
                        self.popped.push(id & ID);
                        if id & LAST != 0 {
                            break;
                        }
                        at += 1;
                        id = self.popped[at];
                    }
                }
                if let Some(last) = self.popped.last_mut() {
                    *last |= LAST;
                }
                begin as u32
            }
        };
        Turn { link: next, pops }
    }

    #[inline(always)]
    fn child(&self, cell: u32, byte: u8) -> Option<u32> {
        let child = self.cells[cell as usize].base() + usize::from(byte);
        (self.cells[child].byte() == byte).then_some(child as u32)
    }

    /// What is settled where no child of `cell` matches, appended, and where to go on.
    #[inline(always)]
    fn pop<T: Id>(&self, cell: u32, ids: &mut Vec<T>) -> Option<u32> {
        let Turn { link, pops } = self.turns[cell as usize];
        if link == NONE {
            return None;
        }
        if pops & LAST != 0 {
            ids.push(T::of(pops & ID));
            return Some(link);
        }
        let mut at = pops as usize;
        loop {
            let id = self.popped[at];
            ids.push(T::of(id & ID));
            if id & LAST != 0 {
                return Some(link);
            }
            at += 1;
        }
    }

    /// Appends the ids of a word; `false`, with nothing appended, where the vocabulary cannot spell it.
    pub fn matches<T: Id>(&self, word: &[u8], ids: &mut Vec<T>) -> bool {
        let before = ids.len();
        let spelt = self.spell(word, ids);
        if spelt.is_none() {
            ids.truncate(before);
        }
        spelt.is_some()
    }

    #[inline(always)]
    fn spell<T: Id>(&self, word: &[u8], ids: &mut Vec<T>) -> Option<()> {
        if word.is_empty() {
            return Some(());
        }
        let mut cell = ROOT;
        for &byte in word {
            cell = loop {
                match self.child(cell, byte) {
                    Some(child) => {
                        // Its turn may be what comes next.
                        crate::prefetch(self.turns.as_ptr().wrapping_add(child as usize));
                        break child;
                    }
                    None => cell = self.pop(cell, ids)?,
                }
            };
        }
        // As if something followed that is in no token.
        while cell != CONTINUATION {
            cell = self.pop(cell, ids)?;
        }
        Some(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use proptest::prelude::*;

    /// The definition: the longest token that fits, again and again.
    fn longest(vocabulary: &HashMap<String, u32>, word: &str) -> Option<Vec<u32>> {
        let (mut at, mut ids) = (0, Vec::new());
        while at < word.len() {
            let ends = (at + 1..=word.len())
                .rev()
                .filter(|e| word.is_char_boundary(*e));
            let prefix = if at > 0 { "##" } else { "" };
            let found = ends.into_iter().find_map(|end| {
                let id = vocabulary.get(&format!("{prefix}{}", &word[at..end]))?;
                Some((*id, end))
            });
            let (id, end) = found?;
            ids.push(id);
            at = end;
        }
        Some(ids)
    }

    fn trie_of(vocabulary: &HashMap<String, u32>) -> Trie {
        let mut tokens: Vec<_> = vocabulary.iter().map(|(t, id)| (t.as_str(), *id)).collect();
        tokens.sort_unstable();
        Trie::new(&tokens, "##").unwrap()
    }

    /// A word has the ids of the definition, behind those that were there.
    fn agree(trie: &Trie, vocabulary: &HashMap<String, u32>, word: &str) {
        let mut ids = vec![1u32];
        let is_spelt = trie.matches(word.as_bytes(), &mut ids);
        let expected = longest(vocabulary, word);
        assert_eq!(is_spelt, expected.is_some(), "{word} of {vocabulary:?}");
        assert_eq!(ids[0], 1);
        let found = &ids[1..];
        assert_eq!(
            found,
            expected.unwrap_or_default(),
            "{word} of {vocabulary:?}"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]

        /// Of so many tokens that places for them are sought far.
        #[test]
        fn large_ones_equal_the_definition(
            tokens in prop::collection::hash_set("(##)?[a-zé]{1,6}", 1_000..4_000),
            words in prop::collection::vec("[a-zé]{1,20}", 200),
        ) {
            let vocabulary: HashMap<String, u32> = tokens.into_iter().zip(7..).collect();
            let trie = trie_of(&vocabulary);
            for word in words.iter().map(String::as_str).chain(vocabulary.keys().map(String::as_str)) {
                agree(&trie, &vocabulary, word);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn equals_the_definition(
            tokens in prop::collection::hash_set("(##)?[abcé]{1,5}|##?#?a?", 1..40),
            words in prop::collection::vec("[abcé#]{1,14}", 1..12),
        ) {
            let vocabulary: HashMap<String, u32> = tokens.into_iter().filter(|t| !t.is_empty()).zip(7..).collect();
            let trie = trie_of(&vocabulary);
            for word in words {
                agree(&trie, &vocabulary, &word);
            }
        }
    }
}
