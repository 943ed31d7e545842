//! Attention.

use super::{Bench, DRAW, Tolerance, kept, wide};
use crate::ops::{Attention, Kind, Ops};

/// On devices that round, weights are rounded before they multiply values, and every result once more.
const ATTENTION: Tolerance = Tolerance {
    single: 1e-5,
    rounded: 1e-2,
};

impl<O: Ops> Bench<O> {
    /// Attention within rows, padding after them, and back.
    pub fn attention(&mut self) {
        for (heads, size, lengths) in [
            (1, 1, &[1usize, 2][..]),
            (2, 32, &[3, 17, 1, 40]),
            (3, 5, &[13, 129]),
            (1, 64, &[33, 128, 0, 0]),
            (1, 64, &[300, 64, 1]),
            (2, 32, &[128, 5, 127]),
            (3, 32, &[200, 1, 65, 129]),
            (2, 64, &[64, 65, 130]),
            (1, 32, &[3; 40]),
        ] {
            for (dropped, padding) in [(false, 71), (true, 0)] {
                let size = self.size(size);
                self.attention_case(heads, size, lengths, dropped, padding);
                self.clear();
            }
        }
    }

    fn attention_case(
        &mut self,
        heads: usize,
        size: usize,
        lengths: &[usize],
        dropped: bool,
        padding: usize,
    ) {
        let with = if dropped { ", dropout" } else { "" };
        let what = format!("attention {heads} × {size} {lengths:?} + {padding}{with}");
        let (tokens, h) = (lengths.iter().sum::<usize>() + padding, heads * size);
        let mut cu = vec![0u32];
        for n in lengths {
            cu.push(cu[cu.len() - 1] + *n as u32);
        }
        let (qkv, dcontext) = (self.numbers(tokens * 3 * h), self.numbers(tokens * h));
        let site = self.site();
        let attention = Attention {
            qkv: self.put(&qkv),
            cu_seqlens: self.put_words(&cu),
            longest: lengths.iter().copied().max().unwrap_or(0),
            heads,
            context: self.put(&vec![3.0; tokens * h]),
            log_sums: self.room(Kind::Float, tokens * heads),
            dropout: dropped.then_some(site),
        };
        self.ops.attention(&attention).unwrap();
        let at = |part: usize, token: usize, head: usize, i: usize| {
            token * 3 * h + part * h + head * size + i
        };
        let (mut context, mut log_sums) = (vec![0.0; tokens * h], vec![0.0; tokens * heads]);
        let mut dqkv = vec![0.0; tokens * 3 * h];
        let q = wide(&qkv);
        let scale = 1.0 / (size as f64).sqrt();
        let dot = |a: usize, b: usize| (0..size).map(|i| q[a + i] * q[b + i]).sum::<f64>();
        for (row, head) in (0..lengths.len()).flat_map(|r| (0..heads).map(move |h| (r, h))) {
            let row = cu[row] as usize..cu[row + 1] as usize;
            let dropout = attention.dropout.map(|s| s.at(&DRAW).head(head as u64));
            for t in row.clone() {
                let scores: Vec<f64> = row
                    .clone()
                    .map(|s| scale * dot(at(0, t, head, 0), at(1, s, head, 0)))
                    .collect();
                let most = scores.iter().copied().fold(f64::MIN, f64::max);
                let total: f64 = scores.iter().map(|s| (s - most).exp()).sum();
                log_sums[head * tokens + t] = total.ln() + most;
                let p: Vec<f64> = scores.iter().map(|s| (s - most).exp() / total).collect();
                let m = kept(dropout, t, p.len());
                let own = |i: usize| f64::from(dcontext[t * h + head * size + i]);
                let mut dp = vec![0.0; p.len()];
                for (j, s) in row.clone().enumerate() {
                    for i in 0..size {
                        context[t * h + head * size + i] += p[j] * m[j] * q[at(2, s, head, i)];
                        dqkv[at(2, s, head, i)] += p[j] * m[j] * own(i);
                        dp[j] += own(i) * q[at(2, s, head, i)] * m[j];
                    }
                }
                let turned: f64 = p.iter().zip(&dp).map(|(p, d)| p * d).sum();
                for (j, s) in row.clone().enumerate() {
                    let ds = p[j] * (dp[j] - turned) * scale;
                    for i in 0..size {
                        dqkv[at(0, t, head, i)] += ds * q[at(1, s, head, i)];
                        dqkv[at(1, s, head, i)] += ds * q[at(0, t, head, i)];
                    }
                }
            }
        }
        self.compare(attention.context, &context, ATTENTION, &what);
        self.compare(
            attention.log_sums,
            &log_sums,
            ATTENTION,
            &format!("{what}, log sums"),
        );
        let (d, out) = (self.put(&dcontext), self.put(&vec![7.0; tokens * 3 * h]));
        self.ops.attention_backward(&attention, d, out).unwrap();
        self.compare(out, &dqkv, ATTENTION, &format!("{what}, back"));
    }
}
