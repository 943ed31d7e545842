//! Greedy longest-match in linear time: LinMaxMatch (Song et al., "Fast WordPiece Tokenization", EMNLP 2021, algorithms 1 and 2).
//!
//! A trie of the vocabulary whose nodes also say, for when no child matches, which tokens are settled by then (*pops*) and where to go on (the *link*), so that no
//! byte is looked at twice.

use std::collections::HashMap;

use crate::Id;

/// No node.
const NONE: u32 = u32::MAX;

/// Trie nodes by number; node 0 is the root, node 1 that of continuations.
#[derive(Debug)]
pub struct Trie {
    /// Children by (node, byte): open addressing, keys are never 0.
    children: Vec<(u32, u8, u32)>,
    mask: usize,
    links: Vec<u32>,
    /// Range of each node's pops in `popped`.
    pops: Vec<(u32, u32)>,
    popped: Vec<u32>,
}

const ROOT: u32 = 0;
const CONTINUATION: u32 = 1;

fn hash(node: u32, byte: u8) -> usize {
    let key = u64::from(node) << 8 | u64::from(byte);
    (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 29) as usize
}

impl Trie {
    /// The trie of `tokens` with their ids; those that begin with `prefix` continue a word.
    pub fn new<'a>(tokens: impl Iterator<Item = (&'a str, u32)>, prefix: &str) -> Self {
        let mut edges: Vec<HashMap<u8, u32>> = vec![HashMap::new(), HashMap::new()];
        let mut ends: Vec<u32> = vec![NONE, NONE];
        for (token, id) in tokens {
            // A word may begin with the prefix too, where that is no punctuation.
            let goes_on = token.strip_prefix(prefix).map(|rest| (CONTINUATION, rest));
            let ways = [Some((ROOT, token)), goes_on].into_iter().flatten();
            for (start, text) in ways.filter(|(_, text)| !text.is_empty()) {
                let mut node = start;
                for &byte in text.as_bytes() {
                    let new = edges.len() as u32;
                    let next = *edges[node as usize].entry(byte).or_insert(new);
                    if next == new {
                        edges.push(HashMap::new());
                        ends.push(NONE);
                    }
                    node = next;
                }
                ends[node as usize] = id;
            }
        }
        let (mut links, mut pops) = (vec![NONE; edges.len()], vec![Vec::new(); edges.len()]);
        let mut queue = std::collections::VecDeque::from([ROOT, CONTINUATION]);
        while let Some(parent) = queue.pop_front() {
            let mut children: Vec<(u8, u32)> = edges[parent as usize]
                .iter()
                .map(|(b, c)| (*b, *c))
                .collect();
            children.sort_unstable();
            for (byte, child) in children {
                if ends[child as usize] != NONE {
                    links[child as usize] = CONTINUATION;
                    pops[child as usize] = vec![ends[child as usize]];
                } else {
                    let mut settled: Vec<u32> = pops[parent as usize].clone();
                    let mut link = links[parent as usize];
                    while link != NONE && !edges[link as usize].contains_key(&byte) {
                        settled.extend_from_slice(&pops[link as usize]);
                        link = links[link as usize];
                    }
                    if link != NONE {
                        links[child as usize] = edges[link as usize][&byte];
                        pops[child as usize] = settled;
                    }
                }
                queue.push_back(child);
            }
        }
        Self::flat(&edges, links, &pops)
    }

    fn flat(edges: &[HashMap<u8, u32>], links: Vec<u32>, pops: &[Vec<u32>]) -> Self {
        let slots = (2 * edges.len()).next_power_of_two();
        let mut trie = Self {
            children: vec![(0, 0, NONE); slots],
            mask: slots - 1,
            links,
            pops: Vec::with_capacity(pops.len()),
            popped: Vec::new(),
        };
        for (node, children) in edges.iter().enumerate() {
            for (&byte, &child) in children {
                let mut slot = hash(node as u32, byte) & trie.mask;
                while trie.children[slot].2 != NONE {
                    slot = (slot + 1) & trie.mask;
                }
                trie.children[slot] = (node as u32, byte, child);
            }
        }
        for settled in pops {
            let begin = trie.popped.len() as u32;
            trie.popped.extend_from_slice(settled);
            trie.pops.push((begin, trie.popped.len() as u32));
        }
        trie
    }

    fn child(&self, node: u32, byte: u8) -> u32 {
        let mut slot = hash(node, byte) & self.mask;
        loop {
            let (n, b, child) = self.children[slot];
            if child == NONE || (n == node && b == byte) {
                return child;
            }
            slot = (slot + 1) & self.mask;
        }
    }

    fn pop<T: Id>(&self, node: u32, ids: &mut Vec<T>) {
        let (begin, end) = self.pops[node as usize];
        let settled = &self.popped[begin as usize..end as usize];
        ids.extend(settled.iter().map(|id| T::of(*id)));
    }

    /// Appends the ids of a word; `false`, with nothing appended, where the vocabulary cannot spell it.
    pub fn matches<T: Id>(&self, word: &[u8], ids: &mut Vec<T>) -> bool {
        if word.is_empty() {
            return true;
        }
        let before = ids.len();
        let mut node = ROOT;
        for &byte in word {
            loop {
                let child = self.child(node, byte);
                if child != NONE {
                    node = child;
                    break;
                }
                let link = self.links[node as usize];
                if link == NONE {
                    ids.truncate(before);
                    return false;
                }
                self.pop(node, ids);
                node = link;
            }
        }
        // As if something followed that is in no token.
        while node != CONTINUATION {
            let link = self.links[node as usize];
            if link == NONE {
                ids.truncate(before);
                return false;
            }
            self.pop(node, ids);
            node = link;
        }
        true
    }
}

#[cfg(test)]
mod tests {
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn equals_the_definition(
            tokens in prop::collection::hash_set("(##)?[abcé]{1,5}|##?#?a?", 1..40),
            words in prop::collection::vec("[abcé#]{1,14}", 1..12),
        ) {
            let vocabulary: HashMap<String, u32> = tokens.into_iter().filter(|t| !t.is_empty()).zip(7..).collect();
            let trie = Trie::new(vocabulary.iter().map(|(t, id)| (t.as_str(), *id)), "##");
            for word in words {
                let mut ids = vec![1u32];
                let found = trie.matches(word.as_bytes(), &mut ids).then(|| ids[1..].to_vec());
                if found.is_none() {
                    prop_assert_eq!(&ids, &[1]);
                }
                prop_assert_eq!(found, longest(&vocabulary, &word), "{} of {:?}", word, vocabulary);
            }
        }
    }
}
