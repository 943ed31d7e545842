//! Attention.

use super::machine::{Address, Format};
use super::{Arguments, Cuda, Machine, Result};
use crate::dropout::CHUNK;
use crate::ops::{Attention, View};

/// Queries that a block of the plain kernels takes.
const WARPS: usize = 4;
/// Tokens of a row that a block of the others takes.
const SIDE: usize = 64;
/// Bytes in which keys are told about two tiles of queries.
const TOLD: usize = 2 * SIDE * (16 + 8);

/// For heads of 32 and 64 features.
const FORWARD: [&str; 2] = ["attention_forward_mma_32", "attention_forward_mma_64"];
/// What belongs to queries, then what belongs to keys.
const BACK: [[&str; 2]; 2] = [
    ["attention_queries_mma_32", "attention_keys_mma_32"],
    ["attention_queries_mma_64", "attention_keys_mma_64"],
];

impl<M: Machine> Cuda<M> {
    /// What both directions are given.
    fn attention_arguments(
        &self,
        a: &Attention,
        back: Option<(View, View)>,
        room: [Address; 2],
    ) -> Arguments {
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
            .at(room[0])
            .at(room[1])
    }

    /// Which of the kernels by matrix instructions knows such heads.
    fn fast_attention(&self, a: &Attention) -> Option<usize> {
        let (_, size) = Self::attention_shape(a);
        match size {
            _ if self.plain_attention || self.machine.format() != Format::Bf16 => None,
            32 => Some(0),
            64 => Some(1),
            _ => None,
        }
    }

    /// Launches one of them, `more` bytes of shared memory for it besides.
    fn launch_fast(
        &mut self,
        kernel: &'static str,
        a: &Attention,
        arguments: Arguments,
        more: usize,
    ) -> Result<()> {
        let (tokens, size) = Self::attention_shape(a);
        // See `work_of`: as many as may be needed whatever the rows' lengths, padding being one more row.
        let blocks = tokens / SIDE + a.cu_seqlens.len();
        // Two pairs of tiles, their rows 16 bytes apart from a multiple of the banks.
        let shared = 4 * SIDE * (size + 8) * 2 + more;
        self.launch(kernel, [blocks, a.heads, 1], 128, shared, arguments)
    }

    /// Tokens, and features of a head.
    fn attention_shape(a: &Attention) -> (usize, usize) {
        let tokens = a.log_sums.len() / a.heads;
        (tokens, a.context.len() / (tokens * a.heads).max(1))
    }

    pub(super) fn attend(&mut self, a: &Attention) -> Result<()> {
        let arguments = self.attention_arguments(a, None, [0; 2]);
        if let Some(i) = self.fast_attention(a) {
            return self.launch_fast(FORWARD[i], a, arguments, 0);
        }
        let (tokens, _) = Self::attention_shape(a);
        let blocks = [tokens.div_ceil(WARPS), a.heads, 1];
        self.launch("attention_forward", blocks, 128, 0, arguments)
    }

    pub(super) fn attend_back(&mut self, a: &Attention, dcontext: View, dqkv: View) -> Result<()> {
        let (tokens, _) = Self::attention_shape(a);
        if let Some(i) = self.fast_attention(a) {
            // Which keys each query keeps: 128 to 16 bytes. Then its sum and delta.
            let chunks = a.dropout.map_or(0, |_| a.longest.div_ceil(CHUNK));
            let kept = a.heads * tokens * chunks * 16;
            let room = self.scratch(kept + a.heads * tokens * 8)?;
            let room = [room + kept as Address, room];
            let arguments = self.attention_arguments(a, Some((dcontext, dqkv)), room);
            self.launch_fast(BACK[i][0], a, arguments.clone(), 0)?;
            return self.launch_fast(BACK[i][1], a, arguments, TOLD);
        }
        let blocks = [tokens.div_ceil(WARPS), a.heads, 1];
        let arguments = self.attention_arguments(a, Some((dcontext, dqkv)), [0; 2]);
        self.launch("attention_backward", blocks, 128, 0, arguments)
    }
}
