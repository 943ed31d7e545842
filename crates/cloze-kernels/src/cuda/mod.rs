//! The operations in CUDA's terms: kernels in a subset of C, launched on a [`Machine`].
//!
//! What runs kernels is behind [`Machine`]: a GPU through its driver, or the host, where the threads of a block are fibres. Everything else
//! (which kernel, how many blocks, what it is given, what is recorded) is the same code, so it is tested where there is no GPU.
//!
//! Widths (hidden and inner sizes, columns of logits) are multiples of 8, hidden sizes at most 2,048. Sums over rows or tokens are made in
//! blocks of a fixed size and added up in order: results do not depend on the device, nor on which block runs first.

mod arguments;
mod attention;
#[cfg(feature = "cuda")]
pub mod driver;
mod embedding;
#[cfg(feature = "host")]
pub mod host;
#[cfg(feature = "nvrtc")]
mod libraries;
mod losses;
pub mod machine;
mod memory;
#[cfg(feature = "cuda")]
pub mod nccl;
mod norm;
#[cfg(feature = "nvrtc")]
pub mod nvrtc;
mod optimizer;
mod pointwise;
mod rows;
#[cfg(feature = "nvrtc")]
mod sources;

pub use machine::Machine;

use arguments::Arguments;
use machine::{Address, Factor, Format, Grid, Product};
use memory::{Memory, to_bf16};

use crate::dropout::Site;
use crate::ops::{
    AdamW, Attention, CrossEntropy, Embedding, Gelu, Kind, Lamb, Masks, Norm, NormBackward, Ops,
    Unpack, View,
};
use crate::{Error, Result};

/// Widest row that a norm takes.
pub const WIDEST: usize = 2_048;

/// A device that speaks CUDA.
#[derive(Debug)]
pub struct Cuda<M: Machine> {
    machine: M,
    memory: Memory,
    /// Room for sums of blocks; grows when more is asked for.
    scratch: (Address, usize),
    /// Parameters whose copy was renewed by the optimizer.
    renewed: Option<View>,
    /// Whether the room is filled with what is not a number each time that it is asked for.
    poisons: bool,
    /// Whether attention is computed by the plain kernels everywhere.
    plain_attention: bool,
}

impl<M: Machine> Cuda<M> {
    /// The operations on `machine`.
    pub fn new(machine: M) -> Self {
        Self {
            machine,
            memory: Memory::default(),
            scratch: (0, 0),
            renewed: None,
            poisons: false,
            plain_attention: false,
        }
    }

    /// For tests: what is read of the room for sums before it is written becomes not a number. Nothing may be recorded.
    #[must_use]
    pub fn poisoned(mut self) -> Self {
        self.poisons = true;
        self
    }

    /// Whether attention is computed by the plain kernels, also where there are faster ones.
    pub fn plain_attention(&mut self, plain: bool) {
        self.plain_attention = plain;
    }

    /// What runs them.
    pub fn machine(&mut self) -> &mut M {
        &mut self.machine
    }

    /// Whether a model of these sizes can be computed.
    pub fn check(hidden: usize, inner: usize) -> Result<()> {
        for (what, size) in [("hidden size", hidden), ("intermediate size", inner)] {
            if !size.is_multiple_of(8) || (what == "hidden size" && size > WIDEST) {
                return Err(Error::Shape { what, size });
            }
        }
        Ok(())
    }

    fn at(&self, view: View) -> Address {
        self.memory.at(view, self.machine.format())
    }

    fn weights(&self, view: View) -> Address {
        self.memory.weights_at(view, self.machine.format())
    }

    fn site(&self, site: Option<Site>) -> Option<(Site, Address)> {
        site.map(|site| (site, self.at(site.draw)))
    }

    /// At least `bytes` of room, in which nothing lasts from one operation to the next.
    fn scratch(&mut self, bytes: usize) -> Result<Address> {
        if self.scratch.1 < bytes {
            if self.scratch.1 > 0 {
                self.machine.release(self.scratch.0)?;
                self.scratch = (0, 0);
            }
            let bytes = bytes.next_power_of_two();
            self.scratch = (self.machine.allocate(bytes)?, bytes);
        }
        if self.poisons {
            self.machine.write(self.scratch.0, &vec![0xFF; bytes])?;
        }
        Ok(self.scratch.0)
    }

    fn launch(
        &mut self,
        kernel: &'static str,
        blocks: [usize; 3],
        threads: u32,
        shared: usize,
        arguments: Arguments,
    ) -> Result<()> {
        if blocks.contains(&0) {
            return Ok(());
        }
        let grid = Grid {
            blocks: blocks.map(|n| n as u32),
            threads,
            shared: shared as u32,
        };
        self.machine.launch(kernel, grid, &arguments.bytes())
    }

    /// A kernel whose threads each take one of `n` things.
    fn spread(&mut self, kernel: &'static str, n: usize, arguments: Arguments) -> Result<()> {
        self.launch(kernel, [n.div_ceil(256), 1, 1], 256, 0, arguments)
    }
}

impl<M: Machine> Ops for Cuda<M> {
    fn describe(&self) -> String {
        self.machine.describe()
    }

    fn allocate(&mut self, kind: Kind, len: usize) -> Result<View> {
        self.memory.allocate(&mut self.machine, kind, len)
    }

    fn release(&mut self, view: View) -> Result<()> {
        self.memory.release(&mut self.machine, view)
    }

    fn upload_words(&mut self, to: View, from: &[u32]) -> Result<()> {
        assert!(to.kind == Kind::Word && to.len == from.len(), "{to:?}");
        let bytes: Vec<u8> = from.iter().flat_map(|w| w.to_le_bytes()).collect();
        self.machine.write(self.at(to), &bytes)
    }

    fn upload(&mut self, to: View, from: &[f32]) -> Result<()> {
        assert!(to.kind != Kind::Word && to.len == from.len(), "{to:?}");
        self.renewed = None;
        let rounds = to.kind == Kind::Activation && self.machine.format() == Format::Bf16;
        let bytes: Vec<u8> = if rounds {
            let words = from.iter().map(|&x| to_bf16(x));
            words.flat_map(u16::to_le_bytes).collect()
        } else {
            from.iter().flat_map(|x| x.to_le_bytes()).collect()
        };
        self.machine.write(self.at(to), &bytes)
    }

    fn download(&mut self, from: View, to: &mut [f32]) -> Result<()> {
        assert!(from.kind != Kind::Word && from.len == to.len(), "{from:?}");
        let each = Memory::bytes(from.kind, self.machine.format());
        let mut bytes = vec![0; to.len() * each];
        self.machine.read(self.at(from), &mut bytes)?;
        for (x, b) in to.iter_mut().zip(bytes.chunks_exact(each)) {
            *x = match *b {
                [a, b, c, d] => f32::from_le_bytes([a, b, c, d]),
                [a, b] => f32::from_bits(u32::from(u16::from_le_bytes([a, b])) << 16),
                _ => f32::NAN,
            };
        }
        Ok(())
    }

    fn download_words(&mut self, from: View, to: &mut [u32]) -> Result<()> {
        assert!(from.kind == Kind::Word && from.len == to.len(), "{from:?}");
        let mut bytes = vec![0; to.len() * 4];
        self.machine.read(self.at(from), &mut bytes)?;
        for (word, b) in to.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*b);
        }
        Ok(())
    }

    fn zero(&mut self, view: View) -> Result<()> {
        let bytes = view.len * Memory::bytes(view.kind, self.machine.format());
        self.machine.zero(self.at(view), bytes)
    }

    fn parameters_changed(&mut self, parameters: View) -> Result<()> {
        if self.machine.format() == Format::F32 || self.renewed.take() == Some(parameters) {
            return Ok(());
        }
        let (copy, len) = self.memory.make_copy(&mut self.machine, parameters)?;
        let arguments = Arguments::default()
            .at(self.at(View {
                start: 0,
                len,
                ..parameters
            }))
            .at(copy)
            .long(len / 8);
        self.spread("round_weights", len / 8, arguments)
    }

    fn unpack(&mut self, rows: &Unpack) -> Result<()> {
        self.unpack_rows(rows)
    }

    fn mask(&mut self, masks: &Masks) -> Result<()> {
        self.mask_rows(masks)
    }

    fn embed(&mut self, e: &Embedding, sum: View) -> Result<()> {
        self.look_up(e, sum)
    }

    fn embed_backward(&mut self, e: &Embedding, dsum: View) -> Result<()> {
        for (ids, table) in [
            (e.input_ids, e.words),
            (e.position_ids, e.positions),
            (e.token_type_ids, e.types),
        ] {
            self.scatter(ids, dsum, table)?;
        }
        Ok(())
    }

    fn norm(&mut self, norm: &Norm) -> Result<()> {
        self.norm_forward(norm)
    }

    fn norm_backward(&mut self, norm: &NormBackward) -> Result<()> {
        self.norm_back(norm)
    }

    fn linear(&mut self, x: View, w: View, b: View, y: View, out: usize) -> Result<()> {
        let (rows, width) = (y.len() / out, w.len() / out);
        self.machine.product(&Product {
            m: rows,
            n: out,
            k: width,
            a: plain(self.at(x), width),
            b: turned(self.weights(w), width),
            c: self.at(y),
            single: false,
            accumulate: false,
            bias: Some(self.weights(b)),
        })
    }

    fn linear_backward_input(
        &mut self,
        dy: View,
        w: View,
        dx: View,
        out: usize,
        accumulate: bool,
    ) -> Result<()> {
        let (rows, width) = (dy.len() / out, w.len() / out);
        self.machine.product(&Product {
            m: rows,
            n: width,
            k: out,
            a: plain(self.at(dy), out),
            b: plain(self.weights(w), width),
            c: self.at(dx),
            single: false,
            accumulate,
            bias: None,
        })
    }

    fn linear_backward_weight(&mut self, dy: View, x: View, dw: View, out: usize) -> Result<()> {
        let (rows, width) = (dy.len() / out, dw.len() / out);
        self.machine.product(&Product {
            m: out,
            n: width,
            k: rows,
            a: turned(self.at(dy), out),
            b: plain(self.at(x), width),
            c: self.at(dw),
            single: true,
            accumulate: true,
            bias: None,
        })
    }

    fn column_sum(&mut self, x: View, sum: View) -> Result<()> {
        self.sum_columns(None, x, sum)
    }

    fn gelu(&mut self, kind: Gelu, x: View, y: View, _: bool) -> Result<()> {
        // The way back computes the derivative of `x` again: one write of [T, F] less.
        self.gelu_forward(kind, x, y)
    }

    fn gelu_backward(&mut self, kind: Gelu, kept: View, dy: View, dbias: View) -> Result<()> {
        self.sum_columns(Some((kind, kept)), dy, dbias)
    }

    fn attention(&mut self, a: &Attention) -> Result<()> {
        self.attend(a)
    }

    fn attention_backward(&mut self, a: &Attention, dcontext: View, dqkv: View) -> Result<()> {
        self.attend_back(a, dcontext, dqkv)
    }

    fn gather(&mut self, x: View, rows: View, y: View, width: usize) -> Result<()> {
        self.move_rows("gather", x, rows, y, width)
    }

    fn scatter_add(&mut self, y: View, rows: View, x: View, width: usize) -> Result<()> {
        self.move_rows("scatter_add", y, rows, x, width)
    }

    fn tanh(&mut self, x: View) -> Result<()> {
        let arguments = Arguments::default().at(0).at(self.at(x)).long(x.len() / 8);
        self.spread("tanh_forward", x.len() / 8, arguments)
    }

    fn tanh_backward(&mut self, y: View, dy: View) -> Result<()> {
        let (y, n) = (self.at(y), dy.len() / 8);
        let arguments = Arguments::default().at(y).at(self.at(dy)).long(n);
        self.spread("tanh_backward", n, arguments)
    }

    fn cross_entropy(&mut self, c: &CrossEntropy) -> Result<()> {
        self.losses(c)
    }

    fn total(&mut self, x: View, scale: Option<View>, sum: View) -> Result<()> {
        let scale = scale.map_or(0, |s| self.at(s));
        self.sum_of(x, sum, scale, false)
    }

    fn norm_of(&mut self, x: View, norm: View) -> Result<()> {
        self.sum_of(x, norm, 0, true)
    }

    fn adamw(&mut self, step: &AdamW) -> Result<()> {
        self.adamw_step(step)
    }

    fn lamb(&mut self, step: &Lamb) -> Result<()> {
        self.lamb_step(step)
    }

    fn place(&self, view: View) -> Option<(u64, u64)> {
        Some((self.at(view), self.machine.stream()?))
    }

    fn records(&self) -> bool {
        true
    }

    fn replay(&mut self, key: u64) -> Result<bool> {
        self.machine.replay(key)
    }

    fn begin(&mut self, key: u64) -> Result<()> {
        self.machine.begin(key)
    }

    fn end(&mut self, whole: bool) -> Result<()> {
        self.machine.end(whole)
    }
}

fn plain(at: Address, stride: usize) -> Factor {
    Factor {
        at,
        stride,
        transposed: false,
    }
}

fn turned(at: Address, stride: usize) -> Factor {
    Factor {
        transposed: true,
        ..plain(at, stride)
    }
}
