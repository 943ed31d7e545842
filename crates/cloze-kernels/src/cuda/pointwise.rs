//! GELU, sums of columns, rows that move.

use super::{Address, Arguments, Cuda, Machine, Result};
use crate::ops::{Gelu, View};

/// Rows whose columns a block sums.
const ROWS: usize = 64;

fn tanh_form(kind: Gelu) -> usize {
    usize::from(kind == Gelu::Tanh)
}

impl<M: Machine> Cuda<M> {
    pub(super) fn gelu_forward(&mut self, kind: Gelu, x: View, y: View) -> Result<()> {
        let eights = x.len() / 8;
        let arguments = Arguments::default()
            .at(self.at(x))
            .at(self.at(y))
            .long(eights)
            .word(tanh_form(kind))
            .word(0);
        self.spread("gelu_forward", eights, arguments)
    }

    /// The sum of columns of `dy`, which first is multiplied by GELU's derivative at `x`.
    pub(super) fn sum_columns(
        &mut self,
        gelu: Option<(Gelu, View)>,
        dy: View,
        sum: View,
    ) -> Result<()> {
        let n = sum.len();
        let rows = dy.len() / n;
        let strips = rows.div_ceil(ROWS);
        let partial = self.scratch(strips * n * 4)?;
        let arguments = Arguments::default()
            .at(gelu.map_or(0, |(_, x)| self.at(x)))
            .at(self.at(dy))
            .at(partial)
            .word(rows)
            .word(n)
            .word(gelu.map_or(0, |(kind, _)| tanh_form(kind)))
            .word(0);
        let blocks = [n.div_ceil(256), strips, 1];
        self.launch("gelu_backward", blocks, 256, 8 * 256 * 4, arguments)?;
        self.add_columns(partial, strips, n, [Some(sum)])
    }

    /// Adds the sums of `count` rows at `partial` to vectors of `n`, which stand one after another in each row.
    pub(super) fn add_columns<const V: usize>(
        &mut self,
        partial: Address,
        count: usize,
        n: usize,
        to: [Option<View>; V],
    ) -> Result<()> {
        let mut arguments = Arguments::default().at(partial);
        for i in 0..3 {
            let view = to.get(i).copied().flatten();
            arguments = arguments.at(view.map_or(0, |v| self.at(v)));
        }
        let arguments = arguments.word(count).word(V * n).word(n).word(0);
        self.launch(
            "columns",
            [(V * n).div_ceil(32), 1, 1],
            512,
            512 * 4,
            arguments,
        )
    }

    pub(super) fn move_rows(
        &mut self,
        kernel: &'static str,
        from: View,
        rows: View,
        to: View,
        width: usize,
    ) -> Result<()> {
        let count = rows.len();
        let arguments = Arguments::default()
            .at(self.at(from))
            .at(self.at(rows))
            .at(self.at(to))
            .word(count)
            .word(width);
        self.spread(kernel, count * width / 8, arguments)
    }
}
