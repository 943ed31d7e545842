//! Embeddings, norms, linear layers, activations.

use super::{Bench, EXACT, Site, kept, rounded, sums, wide};
use crate::ops::{Embedding, Gelu, Norm, NormBackward, Ops};

impl<O: Ops> Bench<O> {
    /// Looking up, and adding gradients to tables.
    pub fn embeddings(&mut self) {
        for (tokens, h) in [(1, 1), (7, 5), (300, 33), (129, 64), (2_500, 16)] {
            let h = self.size(h);
            let mut lists = [11, 9, 2].map(|n| self.below(n, tokens));
            // One id more often than the others, as words are.
            lists[0].iter_mut().step_by(3).for_each(|id| *id = 4);
            let tables = [11, 9, 2].map(|n| self.numbers(n * h));
            let views = [0, 1, 2].map(|i| self.put_parameters(&tables[i]));
            let words = [0, 2, 1].map(|i| self.put_words(&lists[i]));
            let e = Embedding {
                input_ids: words[0],
                token_type_ids: words[1],
                position_ids: words[2],
                words: views[0],
                positions: views[1],
                types: views[2],
            };
            let sum = self.put(&vec![9.0; tokens * h]);
            self.ops.embed(&e, sum).unwrap();
            let look = |t: usize, i: usize| -> f64 {
                [0, 1, 2]
                    .map(|n: usize| f64::from(tables[n][lists[n][t] as usize * h + i]))
                    .iter()
                    .sum()
            };
            let expected: Vec<f64> = (0..tokens * h).map(|k| look(k / h, k % h)).collect();
            let what = format!("embedding {tokens} × {h}");
            self.compare(sum, &expected, rounded(1e-6), &what);
            let d = self.numbers(tokens * h);
            let dsum = self.put(&d);
            self.ops.embed_backward(&e, dsum).unwrap();
            for n in 0..3 {
                let mut expected = wide(&tables[n]);
                for (t, &r) in lists[n].iter().enumerate() {
                    (0..h).for_each(|i| expected[r as usize * h + i] += f64::from(d[t * h + i]));
                }
                let what = format!("{what}, gradient of table {n}");
                self.compare(views[n], &expected, sums(1e-5), &what);
            }
            self.clear();
        }
    }

    /// Dropout, residual and LayerNorm, and back.
    pub fn norms(&mut self) {
        for (tokens, h) in [(1, 2), (3, 17), (70, 32), (33, 130), (5, 384), (3, 1_024)] {
            let h = self.size(h);
            for (before, after, with) in [
                (false, false, false),
                (true, false, true),
                (false, true, false),
                (false, false, true),
            ] {
                let site = self.site();
                let [before, after] = [before, after].map(|on| on.then_some(site));
                self.norm_case(tokens, h, before, after, with);
                self.clear();
            }
        }
    }

    fn norm_case(
        &mut self,
        tokens: usize,
        h: usize,
        before: Option<Site>,
        after: Option<Site>,
        with: bool,
    ) {
        let dropped = [before, after].map(|s| s.map_or("-", |_| "d"));
        let what = format!(
            "norm {tokens} × {h} {}{}{}",
            dropped[0],
            dropped[1],
            if with { "r" } else { "-" }
        );
        let [x, r, dy] = [(); 3].map(|()| self.numbers(tokens * h));
        let (w, s) = (self.numbers(h), self.numbers(h));
        let norm = Norm {
            x: self.put(&x),
            residual: with.then(|| self.put(&r)),
            weight: self.put_parameters(&w),
            bias: self.put_parameters(&s),
            stats: self.put_single(&vec![0.0; 2 * tokens]),
            y: self.put(&vec![0.0; tokens * h]),
            eps: 1e-3,
            before,
            after,
        };
        self.ops.norm(&norm).unwrap();
        let mask = |site: Option<Site>, t: usize| kept(site.map(|s| s.at(&super::DRAW)), t, h);
        let mut expected_sums = Vec::new();
        for t in 0..tokens {
            let mask = mask(before, t);
            expected_sums.extend((0..h).map(|i| {
                f64::from(x[t * h + i]) * mask[i] + if with { f64::from(r[t * h + i]) } else { 0.0 }
            }));
        }
        self.compare(
            norm.x,
            &expected_sums,
            rounded(1e-6),
            &format!("{what}, sum"),
        );
        // What is normalised is the sum as it is kept.
        let kept_sums = wide(&self.get(norm.x));
        let (mut y, mut stats) = (Vec::new(), Vec::new());
        for (t, row) in kept_sums.chunks(h).enumerate() {
            let mean = row.iter().sum::<f64>() / h as f64;
            let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / h as f64;
            let scale = 1.0 / (variance + 1e-3).sqrt();
            let mask = mask(after, t);
            let one =
                |i: usize| mask[i] * ((row[i] - mean) * scale * f64::from(w[i]) + f64::from(s[i]));
            y.extend((0..h).map(one));
            stats.extend([mean, scale]);
        }
        self.compare(norm.y, &y, rounded(3e-6), &what);
        self.compare(
            norm.stats,
            &stats,
            sums(3e-6),
            &format!("{what}, statistics"),
        );

        let first = self.numbers(h);
        let grads = [(); 3].map(|()| self.put_single(&first));
        let d = self.put(&dy);
        let dx = before.map(|_| self.put(&vec![5.0; tokens * h]));
        let back = NormBackward {
            forward: norm,
            dy: d,
            dx,
            dweight: grads[0],
            dbias: grads[1],
            dx_bias: Some(grads[2]),
        };
        self.ops.norm_backward(&back).unwrap();
        let (mut dsum, mut ddx) = (Vec::new(), Vec::new());
        let mut expected = [wide(&first), wide(&first), wide(&first)];
        for t in 0..tokens {
            let (mean, scale) = (stats[2 * t], stats[2 * t + 1]);
            let (after, before) = (mask(after, t), mask(before, t));
            let g: Vec<f64> = (0..h)
                .map(|i| f64::from(dy[t * h + i]) * after[i])
                .collect();
            let hat: Vec<f64> = (0..h)
                .map(|i| (kept_sums[t * h + i] - mean) * scale)
                .collect();
            let gw: Vec<f64> = (0..h).map(|i| g[i] * f64::from(w[i])).collect();
            let m = gw.iter().sum::<f64>() / h as f64;
            let along = gw.iter().zip(&hat).map(|(a, b)| a * b).sum::<f64>() / h as f64;
            for i in 0..h {
                let ds = (gw[i] - m - hat[i] * along) * scale;
                let dx = ds * before[i];
                expected[0][i] += g[i] * hat[i];
                expected[1][i] += g[i];
                expected[2][i] += dx;
                dsum.push(ds);
                ddx.push(dx);
            }
        }
        self.compare(d, &dsum, rounded(1e-5), &format!("{what}, back"));
        if let Some(dx) = dx {
            self.compare(dx, &ddx, rounded(1e-5), &format!("{what}, back, dropped"));
        }
        for (n, (view, expected)) in grads.into_iter().zip(&expected).enumerate() {
            let name = ["weight", "bias", "bias before"][n];
            self.compare(view, expected, sums(1e-5), &format!("{what}, {name}"));
        }
    }

    /// Products with weights, and their gradients.
    pub fn linear_layers(&mut self) {
        for (t, n, k) in [(1, 1, 1), (5, 3, 7), (37, 65, 33), (64, 128, 64)] {
            let [t, n, k] = [t, n, k].map(|n| self.size(n));
            let (x, w, s) = (self.numbers(t * k), self.numbers(n * k), self.numbers(n));
            let (dy, old, dw_old) = (
                self.numbers(t * n),
                self.numbers(t * k),
                self.numbers(n * k),
            );
            let (vx, vdy) = (self.put(&x), self.put(&dy));
            let (vw, vs) = (self.put_parameters(&w), self.put_parameters(&s));
            let (y, dx, dw) = (
                self.put(&vec![1.0; t * n]),
                self.put(&old),
                self.put_single(&dw_old),
            );
            self.ops.linear(vx, vw, vs, y, n).unwrap();
            self.ops
                .linear_backward_input(vdy, vw, dx, n, true)
                .unwrap();
            self.ops.linear_backward_weight(vdy, vx, dw, n).unwrap();
            let f = |v: &[f32], i: usize| f64::from(v[i]);
            let sum = |n: usize, term: &dyn Fn(usize) -> f64| (0..n).map(term).sum::<f64>();
            let ey: Vec<f64> = (0..t * n)
                .map(|i| f(&s, i % n) + sum(k, &|p| f(&x, i / n * k + p) * f(&w, i % n * k + p)))
                .collect();
            let edx: Vec<f64> = (0..t * k)
                .map(|i| f(&old, i) + sum(n, &|j| f(&dy, i / k * n + j) * f(&w, j * k + i % k)))
                .collect();
            let edw: Vec<f64> = (0..n * k)
                .map(|i| f(&dw_old, i) + sum(t, &|r| f(&dy, r * n + i / k) * f(&x, r * k + i % k)))
                .collect();
            let what = format!("linear {t} × {n} × {k}");
            self.compare(y, &ey, rounded(2e-6), &what);
            self.compare(dx, &edx, rounded(2e-6), &format!("{what}, input added to"));
            self.compare(dw, &edw, sums(2e-6), &format!("{what}, weight"));
            self.ops
                .linear_backward_input(vdy, vw, dx, n, false)
                .unwrap();
            let fresh: Vec<f64> = edx
                .iter()
                .zip(&old)
                .map(|(e, o)| e - f64::from(*o))
                .collect();
            self.compare(dx, &fresh, rounded(2e-6), &format!("{what}, input"));
            self.clear();
        }
    }

    /// GELU by both formulas, and tanh; and back.
    pub fn activations(&mut self) {
        let erf = |x: f64| x * normal(x);
        let form = |x: f64| {
            0.5 * x
                * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
        };
        let slope = |f: &dyn Fn(f64) -> f64, x: f64| (f(x + 1e-5) - f(x - 1e-5)) / 2e-5;
        for (t, n) in [(1, 1), (65, 7), (40, 33), (300, 72)] {
            let n = self.size(n);
            for (kind, f) in [
                (Gelu::Erf, &erf as &dyn Fn(f64) -> f64),
                (Gelu::Tanh, &form),
            ] {
                let (x, d, old) = (self.numbers(t * n), self.numbers(t * n), self.numbers(n));
                let (vx, y, dy) = (self.put(&x), self.put(&vec![0.0; t * n]), self.put(&d));
                let dbias = self.put_single(&old);
                let expected: Vec<f64> = wide(&x).into_iter().map(f).collect();
                let what = format!("GELU {kind:?} {t} × {n}");
                self.ops.gelu(kind, vx, y, false).unwrap();
                self.compare(y, &expected, rounded(1e-6), &what);
                self.compare(vx, &wide(&x), EXACT, &format!("{what}, given"));
                self.ops.gelu(kind, vx, y, true).unwrap();
                self.compare(
                    y,
                    &expected,
                    rounded(1e-6),
                    &format!("{what}, for the way back"),
                );
                self.ops.gelu_backward(kind, vx, dy, dbias).unwrap();
                let pairs = x.iter().zip(&d);
                let expected: Vec<f64> = pairs
                    .map(|(x, d)| f64::from(*d) * slope(f, f64::from(*x)))
                    .collect();
                let mut columns = wide(&old);
                let all = expected.iter().enumerate();
                all.for_each(|(i, e)| columns[i % n] += e);
                self.compare(dy, &expected, rounded(2e-6), &format!("{what}, back"));
                self.compare(dbias, &columns, sums(1e-5), &format!("{what}, bias"));
            }
            let (x, d) = (self.numbers(t * n), self.numbers(t * n));
            let (y, dy) = (self.put(&x), self.put(&d));
            self.ops.tanh(y).unwrap();
            let right: Vec<f64> = wide(&x).into_iter().map(f64::tanh).collect();
            let what = format!("tanh {t} × {n}");
            self.compare(y, &right, rounded(1e-6), &what);
            self.ops.tanh_backward(y, dy).unwrap();
            let back: Vec<f64> = wide(&self.get(y))
                .iter()
                .zip(&d)
                .map(|(y, d)| f64::from(*d) * (1.0 - y * y))
                .collect();
            self.compare(dy, &back, rounded(1e-6), &format!("{what}, back"));
            self.clear();
        }
    }
}

/// Φ by its series, in double precision; |x| is small here.
fn normal(x: f64) -> f64 {
    let (mut term, mut sum, mut k) = (x, x, 1.0);
    while term.abs() > 1e-18 {
        term *= x * x / (2.0 * k + 1.0);
        sum += term;
        k += 1.0;
    }
    0.5 + sum * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
}
