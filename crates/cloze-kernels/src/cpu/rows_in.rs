//! Rows as they are sent, unpacked and masked.

use rayon::prelude::*;

use super::rows::Shared;
use crate::dropout::block;
use crate::ops::NONE;

/// Ids, segments and indices of each token.
pub fn unpack(
    wire: &[u32],
    narrow: bool,
    cu_seqlens: &[u32],
    b_start: &[u32],
    [ids, types, positions]: [&mut [u32]; 3],
) {
    let id = |t: usize| match narrow {
        true => (wire[t / 2] >> (16 * (t % 2))) & 0xFFFF,
        false => wire[t],
    };
    let end = cu_seqlens.last().map_or(0, |&n| n as usize);
    for (bounds, &b) in cu_seqlens.windows(2).zip(b_start) {
        for (i, t) in (bounds[0] as usize..bounds[1] as usize).enumerate() {
            (ids[t], types[t], positions[t]) = (id(t), u32::from(i as u32 >= b), i as u32);
        }
    }
    for all in [ids, types, positions] {
        all[end..].fill(0);
    }
}

/// What masks are drawn by.
#[derive(Clone, Copy)]
pub struct Drawing<'a> {
    pub cu_seqlens: &'a [u32],
    pub numbers: &'a [u32],
    pub starts: &'a [u32],
    pub epoch: u32,
    pub special: &'a [u32],
    pub key: [u32; 2],
    pub mask_id: u32,
    pub replacements: u32,
    pub below: [u64; 2],
}

/// Masks `ids` in place.
pub fn mask(d: Drawing<'_>, ids: &mut [u32], positions: &mut [u32], labels: &mut [u32]) {
    let rows = d.cu_seqlens.len() - 1;
    let end = d.starts[rows] as usize;
    let fits = |bounds: &[u32], most: usize| {
        bounds.windows(2).all(|w| w[0] <= w[1]) && bounds[rows] as usize <= most
    };
    assert!(
        fits(d.cu_seqlens, ids.len()) && fits(d.starts, positions.len()),
        "masks do not fit the tokens"
    );
    positions[end..].fill(NONE);
    labels[end..].fill(NONE);
    let (ids, positions, labels) = (
        Shared(ids.as_mut_ptr()),
        Shared(positions.as_mut_ptr()),
        Shared(labels.as_mut_ptr()),
    );
    (0..rows).into_par_iter().for_each(|row| {
        let (first, to) = (d.cu_seqlens[row] as usize, d.starts[row] as usize);
        let (n, count) = (
            d.cu_seqlens[row + 1] as usize - first,
            d.starts[row + 1] as usize - to,
        );
        // SAFETY: rows are apart, as are their places.
        let (ids, positions, labels) = unsafe {
            (
                ids.part(first, n),
                positions.part(to, count),
                labels.part(to, count),
            )
        };
        let draw = |i: usize| {
            block(
                d.key,
                [
                    d.numbers[2 * row],
                    d.numbers[2 * row + 1],
                    d.epoch,
                    i as u32,
                ],
            )
        };
        let may: Vec<usize> = (0..n)
            .filter(|&i| d.special.binary_search(&ids[i]).is_err())
            .collect();
        assert!(count <= may.len(), "more masks than tokens");
        let mut taken = vec![false; may.len()];
        for (t, last) in (may.len() - count..may.len()).enumerate() {
            let at = (u64::from(draw(t)[0]) * (last as u64 + 1)) >> 32;
            let at = at as usize;
            let at = if taken[at] { last } else { at };
            taken[at] = true;
        }
        let chosen = may.into_iter().zip(taken).filter(|&(_, taken)| taken);
        for (k, (i, _)) in chosen.enumerate() {
            (positions[k], labels[k]) = ((first + i) as u32, ids[i]);
            let [_, action, pick, _] = draw(k);
            if u64::from(action) < d.below[0] {
                ids[i] = d.mask_id;
            } else if u64::from(action) < d.below[1] {
                let mut id = ((u64::from(pick) * u64::from(d.replacements)) >> 32) as u32;
                d.special
                    .iter()
                    .filter(|&&s| s != NONE)
                    .for_each(|&s| id += u32::from(s <= id));
                ids[i] = id;
            }
        }
    });
}
