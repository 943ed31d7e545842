//! Rows as they are sent, unpacked and masked.

use super::{Arguments, Cuda, Machine, Result};
use crate::ops::{LONGEST_MASKED, Masks, Unpack};

impl<M: Machine> Cuda<M> {
    pub(super) fn unpack_rows(&mut self, u: &Unpack) -> Result<()> {
        let tokens = u.input_ids.len();
        let arguments = Arguments::default()
            .at(self.at(u.wire))
            .at(self.at(u.cu_seqlens))
            .at(self.at(u.b_start))
            .at(self.at(u.input_ids))
            .at(self.at(u.token_type_ids))
            .at(self.at(u.position_ids))
            .word(usize::from(u.narrow))
            .word(u.cu_seqlens.len() - 1)
            .word(tokens)
            .word(0);
        self.spread("unpack", tokens, arguments)
    }

    pub(super) fn mask_rows(&mut self, m: &Masks) -> Result<()> {
        // A room that once held longer rows says so for good; those of this batch are no longer.
        let longest = m.longest.min(LONGEST_MASKED);
        let rows = m.cu_seqlens.len() - 1;
        let arguments = Arguments::default()
            .at(self.at(m.input_ids))
            .at(self.at(m.cu_seqlens))
            .at(self.at(m.numbers))
            .at(self.at(m.starts))
            .at(self.at(m.epoch))
            .at(self.at(m.special))
            .at(self.at(m.positions))
            .at(self.at(m.labels))
            .long(m.mask_below as usize)
            .long(m.random_below as usize)
            .word(m.key[0] as usize)
            .word(m.key[1] as usize)
            .word(m.mask_id as usize)
            .word(m.replacements as usize)
            .word(rows)
            .word(m.special.len())
            .word(m.positions.len())
            .word(longest);
        let blocks = [rows + 1, 1, 1];
        // Three words a token.
        self.launch("mask_rows", blocks, 128, longest * 12, arguments)
    }
}
