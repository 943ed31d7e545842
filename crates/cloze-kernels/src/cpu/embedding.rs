//! Looking rows of tables up, and adding gradients to them in an order that does not depend on the number of threads.

use rayon::prelude::*;

use super::isa::Isa;
use super::pointwise::add;
use super::rows::Shared;
use crate::ops::NONE;

/// `sum[t] = words[ids[t]] + positions[at[t]] + types[kinds[t]]`.
#[allow(clippy::too_many_arguments)]
pub fn look_up(
    ids: &[u32],
    kinds: &[u32],
    at: &[u32],
    words: &[f32],
    positions: &[f32],
    types: &[f32],
    h: usize,
    sum: &mut [f32],
) {
    sum.par_chunks_mut(h)
        .enumerate()
        .with_min_len(16)
        .for_each(|(t, sum)| {
            let (w, p, k) = (
                &words[ids[t] as usize * h..][..h],
                &positions[at[t] as usize * h..][..h],
                &types[kinds[t] as usize * h..][..h],
            );
            for i in 0..h {
                sum[i] = w[i] + p[i] + k[i];
            }
        });
}

/// `table[ids[t]] += d[t]`, for each row of the table in the order of tokens.
pub fn scatter(isa: Isa, ids: &[u32], d: &[f32], h: usize, table: &mut [f32]) {
    let rows = table.len() / h;
    let mut order: Vec<(u32, u32)> = ids.iter().zip(0..).map(|(&id, t)| (id, t)).collect();
    order.par_sort_unstable();
    assert!(
        order.last().is_none_or(|&(id, _)| (id as usize) < rows),
        "an id beyond the table"
    );
    let groups: Vec<&[(u32, u32)]> = order.chunk_by(|a, b| a.0 == b.0).collect();
    let to = Shared(table.as_mut_ptr());
    groups.par_iter().with_min_len(4).for_each(|group| {
        // SAFETY: each group is of another id, which lies in the table, so each row is one task's alone.
        let row = unsafe { to.part(group[0].0 as usize * h, h) };
        // Long groups (a frequent word, a segment) in blocks, so that errors grow slowly and order stays fixed.
        if group.len() <= 64 {
            group
                .iter()
                .for_each(|&(_, t)| add(isa, &d[t as usize * h..][..h], row));
            return;
        }
        let partial: Vec<Vec<f32>> = group
            .par_chunks(64)
            .map(|part| {
                let mut sum = vec![0f32; h];
                part.iter()
                    .for_each(|&(_, t)| add(isa, &d[t as usize * h..][..h], &mut sum));
                sum
            })
            .collect();
        partial.iter().for_each(|p| add(isa, p, row));
    });
}

/// `y[i] = x[rows[i]]`, or zeros.
pub fn gather(x: &[f32], rows: &[u32], y: &mut [f32], width: usize) {
    let pairs = y.par_chunks_mut(width).zip(rows);
    pairs.for_each(|(y, &r)| match r {
        NONE => y.fill(0.0),
        r => y.copy_from_slice(&x[r as usize * width..][..width]),
    });
}

/// `x[rows[i]] += y[i]`, one after another.
pub fn scatter_add(isa: Isa, y: &[f32], rows: &[u32], x: &mut [f32], width: usize) {
    for (y, &r) in y.chunks(width).zip(rows).filter(|(_, r)| **r != NONE) {
        add(isa, y, &mut x[r as usize * width..][..width]);
    }
}
