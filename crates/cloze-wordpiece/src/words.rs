//! Words of up to 16 bytes by one masked key: what is in the vocabulary, and what was met before.

use crate::trie::Trie;

/// What a word is: a token, or several, or unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    key: u128,
    value: u32,
    _pad: u32,
}

/// Marks a value that names several ids: five bits of their number, then where they begin.
const SEVERAL: u32 = 1 << 31;
/// Words that are learned before all that was learned is forgotten: bounds memory.
const LEARNED: usize = 1 << 16;

/// A table by word.
#[derive(Clone, Debug)]
pub struct Words {
    entries: Vec<Entry>,
    shift: u32,
    learned: usize,
    several: Vec<u32>,
}

/// Spreads a key: two multiplications fold all of its bits into the upper ones.
#[inline(always)]
fn hash(key: u128) -> u64 {
    let (low, high) = (key as u64, (key >> 64) as u64);
    (low.wrapping_mul(0x9E37_79B9_7F4A_7C15)
        ^ high.wrapping_mul(0xC2B2_AE3D_27D4_EB4F).rotate_left(29))
    .wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

impl Words {
    /// The whole words of at most 16 bytes among `tokens`.
    pub fn new<'a>(tokens: impl Iterator<Item = (&'a str, u32)> + Clone) -> Self {
        let short = tokens.filter(|(t, _)| (1..=16).contains(&t.len()));
        let slots = (3 * (short.clone().count() + LEARNED)).next_power_of_two();
        let empty = Entry {
            key: 0,
            value: 0,
            _pad: 0,
        };
        let mut words = Self {
            entries: vec![empty; slots],
            shift: 64 - slots.trailing_zeros(),
            learned: 0,
            several: Vec::new(),
        };
        for (token, id) in short {
            words.put(key(token.as_bytes()), id);
        }
        words
    }

    #[inline(always)]
    fn slot(&self, key: u128) -> usize {
        (hash(key) >> self.shift) as usize
    }

    fn put(&mut self, key: u128, value: u32) {
        let mut slot = self.slot(key);
        while self.entries[slot].key != 0 && self.entries[slot].key != key {
            slot = (slot + 1) & (self.entries.len() - 1);
        }
        self.entries[slot] = Entry {
            key,
            value,
            _pad: 0,
        };
    }

    /// The value of a word that is here.
    #[inline(always)]
    pub fn get(&self, key: u128) -> Option<u32> {
        let mut slot = self.slot(key);
        let mask = self.entries.len() - 1;
        loop {
            // SAFETY: a slot is a hash shifted to less bits than the table has, or masked by one less than its length, a power of two.
            let entry = unsafe { self.entries.get_unchecked(slot & mask) };
            if entry.key == key {
                return Some(entry.value);
            }
            if entry.key == 0 {
                return None;
            }
            slot += 1;
        }
    }

    /// Whether a value is one id.
    #[inline(always)]
    pub fn is_one(value: u32) -> bool {
        value & SEVERAL == 0
    }

    /// The ids of a value that is not one.
    pub fn several(&self, value: u32) -> &[u32] {
        let (count, begin) = ((value >> 26 & 31) as usize, (value & 0x3FF_FFFF) as usize);
        &self.several[begin..begin + count]
    }

    /// Learns a word of at most 16 bytes that is not here: its value.
    pub fn learn(&mut self, key: u128, base: &Self, trie: &Trie, unknown: u32) -> u32 {
        if self.learned == LEARNED {
            self.entries.copy_from_slice(&base.entries);
            self.several.clear();
            self.learned = 0;
        }
        self.learned += 1;
        let bytes = key.to_le_bytes();
        let len = 16 - key.leading_zeros() as usize / 8;
        let begin = self.several.len();
        let value = if trie.matches(&bytes[..len], &mut self.several) {
            match self.several.len() - begin {
                1 => self.several.pop().unwrap_or(unknown),
                count => SEVERAL | (count as u32) << 26 | begin as u32,
            }
        } else {
            unknown
        };
        self.put(key, value);
        value
    }
}

/// The key of a word of at most 16 bytes: its bytes, and zeros.
pub fn key(word: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    bytes[..word.len()].copy_from_slice(word);
    u128::from_le_bytes(bytes)
}
