//! Greedy longest-match in linear time: LinMaxMatch (Song et al., "Fast WordPiece Tokenization", EMNLP 2021, algorithms 1 and 2).
//!
//! A trie of the vocabulary whose nodes also say, for when no child matches, which tokens are settled by then (*pops*) and where to go on (the *link*), so that no
//! byte is looked at twice.

use std::collections::VecDeque;

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

/// A node as it is put together.
struct Node {
    byte: u8,
    id: Option<u32>,
    /// Its children, ascending by their bytes: the first, and the one after this node among those of its parent.
    first: u32,
    last: u32,
    next: u32,
}

impl Node {
    fn new(byte: u8) -> Self {
        Self {
            byte,
            id: None,
            first: NONE,
            last: NONE,
            next: NONE,
        }
    }
}

fn children(nodes: &[Node], node: u32) -> impl Iterator<Item = (u8, u32)> {
    let there = |child: u32| (child != NONE).then_some(child);
    let first = there(nodes[node as usize].first);
    let all = std::iter::successors(first, move |&child| there(nodes[child as usize].next));
    all.map(|child| (nodes[child as usize].byte, child))
}

/// A bit for each place.
struct Bits(Vec<u64>);

impl Bits {
    fn ones(len: usize) -> Self {
        Self(vec![u64::MAX; len / 64])
    }

    fn grow(&mut self, len: usize) {
        self.0.resize(len / 64, u64::MAX);
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

impl Trie {
    /// The trie of `tokens` with their ids, each once; those that begin with `prefix` continue a word. `None` where it would be too large.
    pub fn new<'a>(tokens: impl Iterator<Item = (&'a str, u32)>, prefix: &str) -> Option<Self> {
        let mut tokens: Vec<(&[u8], u32)> = tokens.map(|(t, id)| (t.as_bytes(), id)).collect();
        // In order, so that what two have in common is what was put in last.
        tokens.sort();
        // A word may begin with the prefix too, where that is no punctuation.
        let whole = tokens.iter().map(|(token, id)| (ROOT, *token, *id));
        let rest = |(token, id): &(&'a [u8], u32)| {
            let rest = token.strip_prefix(prefix.as_bytes())?;
            Some((CONTINUATION, rest, *id))
        };
        let ways = whole.chain(tokens.iter().filter_map(rest));
        let mut nodes = vec![Node::new(0), Node::new(0)];
        let mut path = vec![ROOT];
        let mut before: &[u8] = &[];
        for (root, text, id) in ways.filter(|(_, text, _)| !text.is_empty()) {
            if path[0] != root {
                (path, before) = (vec![root], &[]);
            }
            let common = text.iter().zip(before).take_while(|(a, b)| a == b).count();
            path.truncate(common + 1);
            for &byte in &text[common..] {
                let child = nodes.len() as u32;
                let parent = &mut nodes[path[path.len() - 1] as usize];
                let last = std::mem::replace(&mut parent.last, child);
                match last {
                    NONE => parent.first = child,
                    last => nodes[last as usize].next = child,
                }
                nodes.push(Node::new(byte));
                path.push(child);
            }
            nodes[path[path.len() - 1] as usize].id = Some(id);
            before = text;
            if nodes.len() > MOST {
                return None;
            }
        }
        let (cells, places) = Self::places(&nodes)?;
        let mut trie = Self {
            turns: vec![DEAD; cells.len()],
            cells,
            popped: Vec::new(),
        };
        trie.link(&nodes, &places).then_some(trie)
    }

    /// Finds each node, but the first two, a cell: the one that its parent's base and its byte give.
    fn places(nodes: &[Node]) -> Option<(Vec<Cell>, Vec<u32>)> {
        let mut cells = vec![FREE; 1_024];
        let mut places = vec![NONE; nodes.len()];
        (places[0], places[1]) = (ROOT, CONTINUATION);
        // A bit for each cell that no node has, and for each that is no node's base.
        let (mut free, mut no_base) = (Bits::ones(cells.len()), Bits::ones(cells.len()));
        // No parent reaches the cells of the two roots, nor takes them.
        let mut first_free = 512;
        let mut queue = VecDeque::from([ROOT, CONTINUATION]);
        let mut bytes = Vec::new();
        while let Some(node) = queue.pop_front() {
            bytes.clear();
            bytes.extend(children(nodes, node).map(|(byte, _)| usize::from(byte)));
            let Some(&lowest) = bytes.first() else {
                continue;
            };
            // The first place for the lowest child where all have one, 64 at a time.
            let mut from = first_free;
            let at = loop {
                if from + 1_024 > cells.len() {
                    let len = cells.len() * 2;
                    cells.resize(len, FREE);
                    free.grow(len);
                    no_base.grow(len);
                }
                let base = from - lowest;
                let fits = |fits: u64, &byte: &usize| fits & free.from(base + byte);
                let fits = bytes.iter().fold(no_base.from(base), fits);
                if fits != 0 {
                    break from + fits.trailing_zeros() as usize;
                }
                from += 64;
            };
            // What is this full is not looked through again.
            if at > first_free + 64 {
                first_free = at;
            }
            if cells.len() > MOST {
                return None;
            }
            let base = at - lowest;
            no_base.clear(base);
            let parent = &mut cells[places[node as usize] as usize];
            *parent = Cell((base as u32) << 8 | u32::from(parent.byte()));
            for (byte, child) in children(nodes, node) {
                let place = base + usize::from(byte);
                cells[place] = Cell(u32::from(byte));
                free.clear(place);
                places[child as usize] = place as u32;
                queue.push_back(child);
            }
        }
        Some((cells, places))
    }

    /// Sets links and pops (algorithm 2); `false` where they would be too many.
    fn link(&mut self, nodes: &[Node], places: &[u32]) -> bool {
        let mut queue = VecDeque::from([ROOT, CONTINUATION]);
        while let Some(node) = queue.pop_front() {
            let parent = self.turns[places[node as usize] as usize];
            for (byte, child) in children(nodes, node) {
                queue.push_back(child);
                let place = places[child as usize] as usize;
                if let Some(id) = nodes[child as usize].id {
                    (self.turns[place].link, self.turns[place].pops) = (CONTINUATION, id | LAST);
                    continue;
                }
                let mut link = parent.link;
                let mut passed = Vec::new();
                while link != NONE && self.child(link, byte).is_none() {
                    passed.push(self.turns[link as usize].pops);
                    link = self.turns[link as usize].link;
                }
                // The roots have no pops, but no links either.
                let Some(next) = (link != NONE).then(|| self.child(link, byte)).flatten() else {
                    continue;
                };
                self.turns[place].link = next;
                self.turns[place].pops = match passed.as_slice() {
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
                if self.popped.len() > MOST {
                    return false;
                }
            }
        }
        true
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
            let trie = Trie::new(vocabulary.iter().map(|(t, id)| (t.as_str(), *id)), "##").unwrap();
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
            let trie = Trie::new(vocabulary.iter().map(|(t, id)| (t.as_str(), *id)), "##").unwrap();
            for word in words {
                agree(&trie, &vocabulary, &word);
            }
        }
    }
}
