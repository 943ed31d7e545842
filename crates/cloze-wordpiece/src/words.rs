//! What runs of up to 16 bytes are: one masked key each, and up to four ids beside it.
//!
//! A cache, two ways to a set and a set to a cache line, that starts with the vocabulary's own words. A key is compared in full, so a hit is exact; what is not there
//! is spelt and put there.

use std::mem::MaybeUninit;

/// What has more ids than this is spelt each time.
pub const MOST_IDS: usize = 4;
/// Where the number of ids begins, above the first of them.
pub const COUNT: u32 = 28;
/// The bits of an id.
pub const ID: u32 = (1 << COUNT) - 1;
/// 4 MB of them.
const SETS: usize = 1 << 16;
const SET: usize = size_of::<Set>();

/// The ids of a key, and their number above the first.
pub type Ids = [u32; MOST_IDS];

/// Two keys and what they stand for.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Set {
    pub keys: [u128; 2],
    pub ids: [Ids; 2],
}

/// A set where nothing is remembered: no text has the byte 0xFF. Nor is the key of nothing there, which runs have that are too long.
const EMPTY: Set = Set {
    keys: [u128::MAX; 2],
    ids: [[0; MOST_IDS]; 2],
};

/// The sets, in whole large pages of 2 MiB: they are asked for in no order, and of smaller pages there are more than the processor knows the addresses of.
#[derive(Debug)]
#[repr(C, align(0x20_0000))]
struct Sets([Set; SETS]);

/// A cache by run.
#[derive(Debug)]
pub struct Words {
    sets: Box<Sets>,
}

impl Words {
    /// A cache of nothing.
    pub fn new() -> Self {
        let mut sets = Box::<Sets>::new_uninit();
        in_large_pages(&mut sets);
        let first = sets.as_mut_ptr().cast::<Set>();
        for i in 0..SETS {
            // SAFETY: there is room for so many, one after another.
            unsafe { first.add(i).write(EMPTY) };
        }
        // SAFETY: all of them are there now.
        let sets = unsafe { sets.assume_init() };
        Self { sets }
    }

    /// Remembers some runs that are one id each.
    pub fn with(mut self, known: &[(u128, u32)]) -> Self {
        for (key, id) in known {
            self.put(*key, &[*id]);
        }
        self
    }

    /// Where the set of a key is, in bytes: two multiplications spread all of its bits into the upper ones.
    #[inline(always)]
    pub fn slot([low, high]: [u64; 2]) -> u32 {
        let mixed = low ^ high.wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
        let spread = mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (spread >> (64 - SETS.trailing_zeros() - SET.trailing_zeros())) as u32 & !(SET as u32 - 1)
    }

    /// The set of a slot.
    #[inline(always)]
    pub fn set(&self, slot: u32) -> &Set {
        &self.sets.0[(slot as usize / SET) & (SETS - 1)]
    }

    /// Has the set of a slot brought near.
    #[inline(always)]
    pub fn prefetch(&self, slot: u32) {
        crate::prefetch(self.set(slot));
    }

    /// Remembers the ids of a run: at most [`MOST_IDS`], none over [`ID`]. The first key of a set keeps its place; words that came first are the frequent ones.
    pub fn put(&mut self, key: u128, ids: &[u32]) {
        let slot = Self::slot([key as u64, (key >> 64) as u64]);
        let set = &mut self.sets.0[(slot as usize / SET) & (SETS - 1)];
        let way = usize::from(set.keys[0] != u128::MAX && set.keys[0] != key);
        set.keys[way] = key;
        set.ids[way] = [0; MOST_IDS];
        set.ids[way][..ids.len()].copy_from_slice(ids);
        set.ids[way][0] |= (ids.len() as u32) << COUNT;
    }
}

/// Asks the system for large pages, before there are any. It may give others.
fn in_large_pages<T>(there: &mut MaybeUninit<T>) {
    #[cfg(target_os = "linux")]
    // SAFETY: the memory is there, and stays what it is.
    unsafe {
        libc::madvise(
            there.as_mut_ptr().cast(),
            size_of::<T>(),
            libc::MADV_HUGEPAGE,
        );
    }
    #[cfg(not(target_os = "linux"))]
    let _ = there;
}

/// The key of a run of 1 to 16 bytes: its bytes, and zeros. Zeros in a run mean nothing to the normaliser either.
pub fn key(run: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    bytes[..run.len()].copy_from_slice(run);
    u128::from_le_bytes(bytes)
}
