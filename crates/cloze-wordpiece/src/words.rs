//! What runs of up to 16 bytes are: one masked key each, and up to four ids beside it.
//!
//! A cache, two ways to a set and a set to a cache line, that starts with the vocabulary's own words. A key is compared in full, so a hit is exact; what is not there
//! is spelt and put there.

/// What has more ids than this is spelt each time.
pub const MOST_IDS: usize = 4;
/// Where the number of ids begins, above the first of them.
pub const COUNT: u32 = 28;
/// The bits of an id.
pub const ID: u32 = (1 << COUNT) - 1;
/// 2 MB of them.
const SETS: usize = 1 << 15;

/// The ids of a key, and their number above the first.
pub type Ids = [u32; MOST_IDS];

/// Two keys and what they stand for. An empty way has the key of nothing, which stands for no ids.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub struct Set {
    pub keys: [u128; 2],
    pub ids: [Ids; 2],
}

/// A cache by run.
#[derive(Clone, Debug)]
pub struct Words {
    sets: Vec<Set>,
}

impl Words {
    /// An empty cache.
    pub fn new() -> Self {
        Self {
            sets: vec![Set::default(); SETS],
        }
    }

    /// Which set a key is in: two multiplications spread all of its bits into the upper ones.
    #[inline(always)]
    fn slot(low: u64, high: u64) -> usize {
        let mixed = low ^ high.wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
        (mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - SETS.trailing_zeros())) as usize
    }

    /// The set that a key is in, if it is there.
    #[inline(always)]
    pub fn set(&self, low: u64, high: u64) -> &Set {
        // SAFETY: a slot has as many bits as number the sets, which `new` made.
        unsafe { self.sets.get_unchecked(Self::slot(low, high)) }
    }

    /// Remembers the ids of a run: at most [`MOST_IDS`], none over [`ID`]. The first key of a set keeps its place; words that came first are the frequent ones.
    pub fn put(&mut self, key: u128, ids: &[u32]) {
        let set = &mut self.sets[Self::slot(key as u64, (key >> 64) as u64)];
        let way = usize::from(set.keys[0] != 0 && set.keys[0] != key);
        set.keys[way] = key;
        set.ids[way] = [0; MOST_IDS];
        set.ids[way][..ids.len()].copy_from_slice(ids);
        set.ids[way][0] |= (ids.len() as u32) << COUNT;
    }
}

/// The key of a run of at most 16 bytes: its bytes, and zeros. Zeros in a run mean nothing to the normaliser either.
pub fn key(run: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    bytes[..run.len()].copy_from_slice(run);
    u128::from_le_bytes(bytes)
}
