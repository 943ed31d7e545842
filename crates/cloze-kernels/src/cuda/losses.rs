//! Cross-entropy, sums, norms.

use super::{Address, Arguments, Cuda, Machine, Result};
use crate::ops::{CrossEntropy, View};

/// Elements that a block sums, at least, and blocks, at most.
const SPAN: usize = 1 << 13;
const BLOCKS: usize = 1 << 11;

impl<M: Machine> Cuda<M> {
    pub(super) fn losses(&mut self, c: &CrossEntropy) -> Result<()> {
        let rows = c.labels.len();
        let arguments = Arguments::default()
            .at(self.at(c.logits))
            .at(self.at(c.labels))
            .at(self.at(c.losses))
            .at(self.at(c.hits))
            .at(c.scale.map_or(0, |s| self.at(s)))
            .word(c.logits.len() / rows.max(1))
            .word(c.classes);
        self.launch("cross_entropy", [rows, 1, 1], 512, 512 * 12, arguments)
    }

    /// The sum of `x`, added to `to`; or the root of the sum of squares, put there.
    pub(super) fn sum_of(
        &mut self,
        x: View,
        to: View,
        scale: Address,
        squares: bool,
    ) -> Result<()> {
        let n = x.len();
        let each = SPAN.max(n.div_ceil(BLOCKS).next_multiple_of(256));
        let blocks = n.div_ceil(each);
        let partial = self.scratch(blocks.max(1) * 8)?;
        let arguments = Arguments::default()
            .at(self.at(x))
            .at(partial)
            .long(n)
            .long(each)
            .word(usize::from(squares))
            .word(0);
        self.launch("total", [blocks, 1, 1], 256, 256 * 8, arguments)?;
        let arguments = Arguments::default()
            .at(partial)
            .at(scale)
            .at(self.at(to))
            .word(blocks)
            .word(usize::from(squares));
        self.launch("total_finish", [1, 1, 1], 256, 256 * 8, arguments)
    }
}
