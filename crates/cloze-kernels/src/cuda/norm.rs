//! Norms.

use super::{Arguments, Cuda, Machine, Result};
use crate::ops::{Norm, NormBackward};

/// Warps of a block, and rows that each takes on the way back.
const WARPS: usize = 4;
const ROWS_EACH: usize = 16;

/// The kernel for rows of `h`.
fn named(h: usize, kernels: [&'static str; 3]) -> &'static str {
    match h {
        ..=512 => kernels[0],
        513..=1024 => kernels[1],
        _ => kernels[2],
    }
}

impl<M: Machine> Cuda<M> {
    pub(super) fn norm_forward(&mut self, n: &Norm) -> Result<()> {
        let h = n.weight.len();
        let rows = n.x.len() / h;
        let changed = n.before.is_some() || n.residual.is_some();
        let arguments = Arguments::default()
            .at(self.at(n.x))
            .at(n.residual.map_or(0, |r| self.at(r)))
            .at(self.at(n.weight))
            .at(self.at(n.bias))
            .at(self.at(n.stats))
            .at(self.at(n.y))
            .drop(self.site(n.before))
            .drop(self.site(n.after))
            .word(rows)
            .word(h)
            .float(n.eps)
            .word(usize::from(changed));
        let kernel = named(
            h,
            ["norm_forward_512", "norm_forward_1024", "norm_forward_2048"],
        );
        self.launch(kernel, [rows.div_ceil(WARPS), 1, 1], 128, 0, arguments)
    }

    pub(super) fn norm_back(&mut self, b: &NormBackward) -> Result<()> {
        let n = &b.forward;
        let h = n.weight.len();
        let rows = n.x.len() / h;
        let blocks = rows.div_ceil(WARPS * ROWS_EACH);
        let partial = self.scratch(blocks * 3 * h * 4)?;
        let arguments = Arguments::default()
            .at(self.at(n.x))
            .at(self.at(n.weight))
            .at(self.at(n.stats))
            .at(self.at(b.dy))
            .at(b.dx.map_or(0, |dx| self.at(dx)))
            .at(partial)
            .drop(self.site(n.before))
            .drop(self.site(n.after))
            .word(rows)
            .word(h)
            .word(ROWS_EACH)
            .word(0);
        let kernel = named(
            h,
            [
                "norm_backward_512",
                "norm_backward_1024",
                "norm_backward_2048",
            ],
        );
        self.launch(kernel, [blocks, 1, 1], 128, 3 * h * 4, arguments)?;
        let to = [Some(b.dweight), Some(b.dbias), b.dx_bias];
        self.add_columns(partial, blocks, h, to)
    }
}
