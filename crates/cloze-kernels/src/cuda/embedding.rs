//! Looking rows of tables up, and adding gradients to them in the order of tokens.

use super::{Arguments, Cuda, Machine, Result};
use crate::ops::{Embedding, View};

/// Keys that a block sorts.
const TILE: usize = 1_024;
/// Sorted keys whose rows a block sums.
const SEGMENT: usize = 64;

impl<M: Machine> Cuda<M> {
    pub(super) fn look_up(&mut self, e: &Embedding, sum: View) -> Result<()> {
        let tokens = e.input_ids.len();
        let h = sum.len() / tokens.max(1);
        let arguments = Arguments::default()
            .at(self.at(e.input_ids))
            .at(self.at(e.token_type_ids))
            .at(self.at(e.position_ids))
            .at(self.at(e.words))
            .at(self.at(e.positions))
            .at(self.at(e.types))
            .at(self.at(sum))
            .word(tokens)
            .word(h);
        self.spread("embed", tokens * h / 8, arguments)
    }

    /// `table[ids[t]] += d[t]`: a stable radix sort by eight bits at a time, then sums of runs.
    pub(super) fn scatter(&mut self, ids: View, d: View, table: View) -> Result<()> {
        let n = ids.len();
        if n == 0 {
            return Ok(());
        }
        let h = d.len() / n;
        let rows = table.len() / h;
        let (tiles, chunks) = (n.div_ceil(TILE), n.div_ceil(SEGMENT));
        let list = n.next_multiple_of(64) * 4;
        let counts = (256 * tiles * 4).next_multiple_of(256);
        let room = self.scratch(4 * list + counts + chunks * h * 4)?;
        let lists = [0, 1, 2, 3].map(|i| room + (i * list) as u64);
        let counts_at = room + (4 * list) as u64;
        let partial = counts_at + counts as u64;

        let bits = (usize::BITS - (rows - 1).leading_zeros()) as usize;
        let (mut keys, mut values) = (self.at(ids), 0);
        for pass in 0..bits.div_ceil(8).max(1) {
            let to = &lists[2 * (pass % 2)..][..2];
            let sort = || {
                Arguments::default()
                    .at(keys)
                    .at(values)
                    .at(to[0])
                    .at(to[1])
                    .at(counts_at)
                    .word(n)
                    .word(8 * pass)
            };
            self.launch("sort_count", [tiles, 1, 1], 256, 256 * 4, sort())?;
            let scan = Arguments::default().at(counts_at).word(256 * tiles).word(0);
            self.launch("sort_scan", [1, 1, 1], 1_024, 1_024 * 4, scan)?;
            self.launch("sort_move", [tiles, 1, 1], 1_024, TILE * 4, sort())?;
            (keys, values) = (to[0], to[1]);
        }
        let segments = || {
            Arguments::default()
                .at(keys)
                .at(values)
                .at(self.at(d))
                .at(self.at(table))
                .at(partial)
                .word(n)
                .word(h)
        };
        let (sum, join) = (segments(), segments());
        self.launch("segment_sum", [chunks, 1, 1], 128, 2 * SEGMENT * 4, sum)?;
        self.launch("segment_join", [chunks - 1, 1, 1], 128, 0, join)
    }
}
