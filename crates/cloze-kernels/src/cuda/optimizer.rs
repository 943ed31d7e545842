//! AdamW and LAMB.

use super::{Address, Arguments, Cuda, Machine, Result};
use crate::ops::{AdamW, Lamb, View};

/// Elements of a block, as a power of two.
///
/// # Panics
/// Where there is none: a mistake in the program, never in data.
fn shift(n: usize, blocks: usize) -> usize {
    let block = n / blocks.max(1);
    let fits = block.is_power_of_two() && (4..=128).contains(&block) && block * blocks == n;
    assert!(fits, "{n} elements in {blocks} blocks");
    block.trailing_zeros() as usize
}

impl<M: Machine> Cuda<M> {
    /// The copy of parameters that products read, or 0; it is said to be new.
    fn copy_of(&mut self, parameters: View) -> Address {
        let copy = self
            .memory
            .copy(parameters)
            .filter(|_| parameters.start == 0);
        self.renewed = copy.map(|_| parameters);
        copy.unwrap_or(0)
    }

    pub(super) fn adamw_step(&mut self, s: &AdamW) -> Result<()> {
        let n = s.parameters.len();
        let shift = shift(n, s.groups.len());
        let copy = self.copy_of(s.parameters);
        let arguments = Arguments::default()
            .at(self.at(s.parameters))
            .at(self.at(s.m))
            .at(self.at(s.v))
            .at(self.at(s.gradients))
            .at(self.at(s.groups))
            .at(self.at(s.rates))
            .at(self.at(s.root2))
            .at(self.at(s.norm))
            .at(self.at(s.skipped))
            .at(copy)
            .long(n)
            .word(shift)
            .float(s.beta1)
            .float(s.beta2)
            .float(s.eps)
            .float(s.clip)
            .word(0);
        self.spread("adamw", n / 4, arguments)
    }

    pub(super) fn lamb_step(&mut self, s: &Lamb) -> Result<()> {
        let (n, blocks, groups) = (s.parameters.len(), s.groups.len(), s.starts.len() - 1);
        let partial = self.scratch((2 * blocks + groups) * 4)?;
        let shift = shift(n, blocks);
        let copy = self.copy_of(s.parameters);
        let arguments = || {
            Arguments::default()
                .at(self.at(s.parameters))
                .at(self.at(s.m))
                .at(self.at(s.v))
                .at(self.at(s.gradients))
                .at(self.at(s.groups))
                .at(self.at(s.starts))
                .at(self.at(s.rates))
                .at(self.at(s.corrections))
                .at(self.at(s.norm))
                .at(self.at(s.skipped))
                .at(partial)
                .at(partial + (2 * blocks * 4) as u64)
                .at(copy)
                .long(n)
                .word(shift)
                .float(s.beta1)
                .float(s.beta2)
                .float(s.eps)
                .float(s.clip)
                .word(0)
        };
        let [update, ratios, apply] = [arguments(), arguments(), arguments()];
        self.spread("lamb_update", n / 4, update)?;
        self.launch("lamb_ratios", [groups, 1, 1], 256, 256 * 8, ratios)?;
        self.spread("lamb_apply", n / 4, apply)
    }
}
