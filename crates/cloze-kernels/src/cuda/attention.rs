//! Attention.

use super::{Arguments, Cuda, Machine, Result};
use crate::ops::{Attention, View};

/// Queries that a block of the plain kernels takes.
const WARPS: usize = 4;

impl<M: Machine> Cuda<M> {
    /// What both directions are given.
    fn attention_arguments(&self, a: &Attention, back: Option<(View, View)>) -> Arguments {
        let (tokens, size) = Self::attention_shape(a);
        Arguments::default()
            .at(self.at(a.qkv))
            .at(self.at(a.cu_seqlens))
            .at(self.at(a.context))
            .at(self.at(a.log_sums))
            .at(back.map_or(0, |(d, _)| self.at(d)))
            .at(back.map_or(0, |(_, d)| self.at(d)))
            .drop(self.site(a.dropout))
            .word(a.cu_seqlens.len() - 1)
            .word(tokens)
            .word(a.heads)
            .word(size)
            .float(1.0 / (size as f32).sqrt())
            .word(a.longest)
    }

    /// Tokens, and features of a head.
    fn attention_shape(a: &Attention) -> (usize, usize) {
        let tokens = a.log_sums.len() / a.heads;
        (tokens, a.context.len() / (tokens * a.heads).max(1))
    }

    pub(super) fn attend(&mut self, a: &Attention) -> Result<()> {
        let (tokens, _) = Self::attention_shape(a);
        let blocks = [tokens.div_ceil(WARPS), a.heads, 1];
        let arguments = self.attention_arguments(a, None);
        self.launch("attention_forward", blocks, 128, 0, arguments)
    }

    pub(super) fn attend_back(&mut self, a: &Attention, dcontext: View, dqkv: View) -> Result<()> {
        let (tokens, _) = Self::attention_shape(a);
        let blocks = [tokens.div_ceil(WARPS), a.heads, 1];
        let arguments = self.attention_arguments(a, Some((dcontext, dqkv)));
        self.launch("attention_backward", blocks, 128, 0, arguments)
    }
}
