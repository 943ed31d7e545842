//! Which activations are dropped: a function of (key, site, token, feature) and of nothing else.
//!
//! 128 features (or, for attention weights, keys) of a token are one chunk, drawn from sixteen blocks of Philox4x32-10 (Salmon et al., SC
//! 2011) that a vector unit computes side by side: feature `16 j + l` of a chunk takes the `j`-th 16 bits of block `l`. It is dropped where
//! they are below `p · 2¹⁶`, rounded; what is kept is multiplied by the inverse of the share that is kept.

use crate::ops::View;

/// Features of a chunk.
pub const CHUNK: usize = 128;
/// Blocks of a chunk.
const LANES: usize = 16;

/// A place in the network where something is dropped, at whatever step is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// The stage's key.
    pub key: [u32; 2],
    /// Which one: under 2¹².
    pub number: u32,
    /// What is dropped: draws of 16 bits below this.
    pub below: u32,
    /// `[2]`: the step, and how many tokens of the step's batch came before the first.
    pub draw: View,
}

impl Site {
    /// Drops each feature with probability `p`, to the nearest 2⁻¹⁶.
    #[must_use]
    pub fn new(key: [u32; 2], number: u32, p: f64, draw: View) -> Self {
        let below = (p * 65_536.0).round() as u32;
        Self {
            key,
            number,
            below,
            draw,
        }
    }

    /// What is dropped there, for what `draw` holds.
    pub(crate) fn at(&self, draw: &[u32]) -> Dropout {
        Dropout {
            key: self.key,
            place: u64::from(draw[0]) << 24 | u64::from(self.number) << 12,
            first_token: draw[1],
            below: self.below,
        }
    }
}

/// Keys one site of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dropout {
    /// The stage's key.
    pub key: [u32; 2],
    /// The step and the site.
    pub place: u64,
    /// Added to a token's index.
    pub first_token: u32,
    /// What is dropped: draws of 16 bits below this.
    pub below: u32,
}

impl Dropout {
    /// Multiplies what is kept.
    #[must_use]
    pub fn kept(&self) -> f32 {
        (65_536.0 / (65_536.0 - f64::from(self.below))) as f32
    }

    /// The same site for one attention head.
    #[must_use]
    pub fn head(self, head: u64) -> Self {
        Self {
            place: self.place | head,
            ..self
        }
    }

    /// Fills `mask` with 0 or [`Dropout::kept`], from feature 0 of `token` on.
    #[inline(always)]
    pub(crate) fn fill(&self, token: u32, mask: &mut [f32]) {
        let kept = self.kept();
        for (chunk, mask) in mask.chunks_mut(CHUNK).enumerate() {
            let token = self.first_token.wrapping_add(token);
            let words = blocks(self.key, self.place, token, chunk as u32 * LANES as u32);
            let mut all = [0f32; CHUNK];
            for (j, all) in all.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
                for l in 0..LANES {
                    let draw = (words[j / 2][l] >> (16 * (j % 2) as u32)) & 0xFFFF;
                    all[l] = if draw < self.below { 0.0 } else { kept };
                }
            }
            mask.copy_from_slice(&all[..mask.len()]);
        }
    }
}

/// One block of Philox4x32-10.
pub(crate) fn block(mut key: [u32; 2], mut c: [u32; 4]) -> [u32; 4] {
    for _ in 0..10 {
        let (p0, p1) = (0xD251_1F53 * u64::from(c[0]), 0xCD9E_8D57 * u64::from(c[2]));
        c = [
            (p1 >> 32) as u32 ^ c[1] ^ key[0],
            p1 as u32,
            (p0 >> 32) as u32 ^ c[3] ^ key[1],
            p0 as u32,
        ];
        key = [
            key[0].wrapping_add(0x9E37_79B9),
            key[1].wrapping_add(0xBB67_AE85),
        ];
    }
    c
}

/// Sixteen blocks side by side: `[word][block]`.
#[inline(always)]
fn blocks(key: [u32; 2], place: u64, token: u32, first: u32) -> [[u32; LANES]; 4] {
    const M0: u64 = 0xD251_1F53;
    const M1: u64 = 0xCD9E_8D57;
    let mut c = [
        [place as u32; LANES],
        [(place >> 32) as u32; LANES],
        [token; LANES],
        [0; LANES],
    ];
    for (l, c) in c[3].iter_mut().enumerate() {
        *c = first + l as u32;
    }
    let [mut k0, mut k1] = key;
    for _ in 0..10 {
        let mut next = [[0; LANES]; 4];
        for l in 0..LANES {
            let p0 = M0 * u64::from(c[0][l]);
            let p1 = M1 * u64::from(c[2][l]);
            next[0][l] = (p1 >> 32) as u32 ^ c[1][l] ^ k0;
            next[1][l] = p1 as u32;
            next[2][l] = (p0 >> 32) as u32 ^ c[3][l] ^ k1;
            next[3][l] = p0 as u32;
        }
        c = next;
        k0 = k0.wrapping_add(0x9E37_79B9);
        k1 = k1.wrapping_add(0xBB67_AE85);
    }
    c
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors that Random123 publishes for Philox4x32-10.
    #[test]
    fn known_answers() {
        let pi = [0x243F_6A88, 0x85A3_08D3, 0x1319_8A2E, 0x0370_7344];
        let words = blocks(
            [0xA409_3822, 0x299F_31D0],
            u64::from(pi[1]) << 32 | u64::from(pi[0]),
            pi[2],
            pi[3],
        );
        assert_eq!(
            words.map(|w| w[0]),
            [0xD16C_FE09, 0x94FD_CCEB, 0x5001_E420, 0x2412_6EA1]
        );
        assert_eq!(block([0xA409_3822, 0x299F_31D0], pi), words.map(|w| w[0]));
        assert_eq!(
            blocks([0, 0], 0, 0, 0).map(|w| w[0]),
            [0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8]
        );
    }

    #[test]
    fn shares_are_as_asked_and_a_mask_does_not_depend_on_its_length() {
        let dropout = Dropout {
            key: [1, 2],
            place: 77 << 12,
            first_token: 0,
            below: (0.3f64 * 65_536.0).round() as u32,
        };
        let (mut dropped, mut short) = (0, vec![0.0; 200]);
        for token in 0..1_000 {
            let mut mask = vec![9.0; 300];
            dropout.fill(token, &mut mask);
            dropout.fill(token, &mut short);
            assert_eq!(short, mask[..200]);
            assert!(mask.iter().all(|&m| m == 0.0 || m == dropout.kept()));
            dropped += mask.iter().filter(|&&m| m == 0.0).count();
        }
        let (n, share) = (300_000.0, dropped as f64 / 300_000.0);
        assert!(
            (share - 0.3).abs() < 4.0 * (0.3f64 * 0.7 / n).sqrt(),
            "{share}"
        );
        let later = Dropout {
            first_token: 990,
            ..dropout
        };
        let mut other = vec![0.0; 200];
        later.fill(9, &mut other);
        assert_eq!(other, short);
        dropout.head(3).fill(999, &mut other);
        assert_ne!(other, short);
    }
}
