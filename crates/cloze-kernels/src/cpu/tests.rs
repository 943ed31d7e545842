//! Every operation against its definition in double precision, on awkward sizes, with every set of instructions that this processor has.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use super::*;
use crate::Dropout;

/// A device, and numbers without pattern.
struct Bench {
    cpu: Cpu,
    state: u64,
}

impl Bench {
    fn new(isa: Isa) -> Self {
        Self {
            cpu: Cpu::with(isa, Precision::F32).unwrap(),
            state: 0x9E37_79B9_7F4A_7C15,
        }
    }

    fn number(&mut self) -> f32 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 40) as f32 / (1 << 22) as f32 - 2.0
    }

    fn numbers(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.number()).collect()
    }

    fn below(&mut self, n: usize, len: usize) -> Vec<u32> {
        (0..len)
            .map(|_| ((self.number() + 2.0) / 4.0 * n as f32) as u32 % n as u32)
            .collect()
    }

    fn put(&mut self, values: &[f32]) -> View {
        let view = self.cpu.allocate(Kind::Float, values.len()).unwrap();
        self.cpu.upload(view, values).unwrap();
        view
    }

    fn put_words(&mut self, values: &[u32]) -> View {
        let view = self.cpu.allocate(Kind::Word, values.len()).unwrap();
        self.cpu.upload_words(view, values).unwrap();
        view
    }

    fn get(&mut self, view: View) -> Vec<f32> {
        let mut values = vec![0.0; view.len()];
        self.cpu.download(view, &mut values).unwrap();
        values
    }

    /// Compares with the definition: |a − b| ≤ tolerance · (1 + the largest).
    fn equal(&mut self, view: View, expected: &[f64], tolerance: f64, what: &str) {
        let found = self.get(view);
        assert_eq!(found.len(), expected.len(), "{what}");
        let largest = expected.iter().fold(0f64, |m, x| m.max(x.abs()));
        for (i, (a, b)) in found.iter().zip(expected).enumerate() {
            let off = (f64::from(*a) - b).abs();
            assert!(
                off <= tolerance * (1.0 + largest),
                "{what} [{i}]: {a}, not {b} (of {largest})"
            );
        }
    }
}

fn each(test: impl Fn(&mut Bench, Isa)) {
    for isa in Isa::ALL.into_iter().filter(|&isa| isa <= Isa::best()) {
        test(&mut Bench::new(isa), isa);
    }
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// What a dropout does to feature `i` of `token`, drawn one at a time.
fn kept(dropout: Option<Dropout>, token: usize, i: usize) -> f64 {
    dropout.map_or(1.0, |dropout| {
        let mut mask = vec![0.0; i + 1];
        dropout.fill(token as u32, &mut mask);
        f64::from(mask[i])
    })
}

const SITE: Dropout = Dropout {
    key: [7, 9],
    place: 5 << 24 | 3 << 12,
    below: 13_107,
};

#[test]
fn embeddings() {
    each(|b, isa| {
        for (tokens, h) in [(1, 1), (7, 5), (300, 33), (129, 64)] {
            let (ids, at, kinds) = (b.below(11, tokens), b.below(9, tokens), b.below(2, tokens));
            let tables = [11, 9, 2].map(|n| b.numbers(n * h));
            let views = [&tables[0], &tables[1], &tables[2]].map(|t| b.put(t));
            let words = [&ids, &kinds, &at].map(|w| b.put_words(w));
            let e = Embedding {
                input_ids: words[0],
                token_type_ids: words[1],
                position_ids: words[2],
                words: views[0],
                positions: views[1],
                types: views[2],
            };
            let sum = b.put(&vec![9.0; tokens * h]);
            b.cpu.embed(&e, sum).unwrap();
            let look = |t: usize, i: usize| {
                [(0, ids[t]), (1, at[t]), (2, kinds[t])]
                    .map(|(n, r)| f64::from(tables[n][r as usize * h + i]))
                    .iter()
                    .sum()
            };
            let expected: Vec<f64> = (0..tokens * h).map(|k| look(k / h, k % h)).collect();
            b.equal(sum, &expected, 1e-6, &format!("{isa} sum"));
            let d = b.numbers(tokens * h);
            let dsum = b.put(&d);
            b.cpu.embed_backward(&e, dsum).unwrap();
            for (n, (rows, names)) in [(11, &ids), (9, &at), (2, &kinds)].into_iter().enumerate() {
                let mut expected = wide(&tables[n]);
                for (t, &r) in names.iter().enumerate() {
                    (0..h).for_each(|i| expected[r as usize * h + i] += f64::from(d[t * h + i]));
                }
                b.equal(
                    views[n],
                    &expected,
                    1e-5,
                    &format!("{isa} table {n} of {rows}"),
                );
            }
        }
    });
}

#[test]
fn norms() {
    each(|b, isa| {
        for (tokens, h) in [(1, 2), (3, 17), (70, 32), (33, 130), (5, 384)] {
            for (before, after, with) in [
                (None, None, false),
                (Some(SITE), None, true),
                (None, Some(SITE), false),
                (None, None, true),
            ] {
                norm_case(b, isa, tokens, h, before, after, with);
            }
        }
    });
}

#[allow(clippy::too_many_arguments)]
fn norm_case(
    b: &mut Bench,
    isa: Isa,
    tokens: usize,
    h: usize,
    before: Option<Dropout>,
    after: Option<Dropout>,
    with: bool,
) {
    let what = format!(
        "{isa} {tokens} × {h}, {} {} {with}",
        before.is_some(),
        after.is_some()
    );
    let (x, r, w, s, dy) = (
        b.numbers(tokens * h),
        b.numbers(tokens * h),
        b.numbers(h),
        b.numbers(h),
        b.numbers(tokens * h),
    );
    let norm = Norm {
        x: b.put(&x),
        residual: with.then(|| b.put(&r)),
        weight: b.put(&w),
        bias: b.put(&s),
        stats: b.put(&vec![0.0; 2 * tokens]),
        y: b.put(&vec![0.0; tokens * h]),
        eps: 1e-3,
        before,
        after,
    };
    b.cpu.norm(&norm).unwrap();
    let (mut sums, mut y, mut stats) = (Vec::new(), Vec::new(), Vec::new());
    for t in 0..tokens {
        let row: Vec<f64> = (0..h)
            .map(|i| {
                f64::from(x[t * h + i]) * kept(before, t, i)
                    + if with { f64::from(r[t * h + i]) } else { 0.0 }
            })
            .collect();
        let mean = row.iter().sum::<f64>() / h as f64;
        let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / h as f64;
        let scale = 1.0 / (variance + 1e-3).sqrt();
        y.extend((0..h).map(|i| {
            kept(after, t, i) * ((row[i] - mean) * scale * f64::from(w[i]) + f64::from(s[i]))
        }));
        stats.extend([mean, scale]);
        sums.extend(row);
    }
    b.equal(norm.x, &sums, 1e-6, &what);
    b.equal(norm.y, &y, 3e-6, &what);
    b.equal(norm.stats, &stats, 3e-6, &what);

    let first = b.numbers(h);
    let grads = [b.put(&first), b.put(&first), b.put(&first)];
    let (d, dx) = (b.put(&dy), before.map(|_| b.put(&vec![5.0; tokens * h])));
    let back = NormBackward {
        forward: norm,
        dy: d,
        dx,
        dweight: grads[0],
        dbias: grads[1],
        dx_bias: Some(grads[2]),
    };
    b.cpu.norm_backward(&back).unwrap();
    let (mut dsum, mut ddx) = (Vec::new(), Vec::new());
    let mut expected = [wide(&first), wide(&first), wide(&first)];
    for t in 0..tokens {
        let (mean, scale) = (stats[2 * t], stats[2 * t + 1]);
        let g: Vec<f64> = (0..h)
            .map(|i| f64::from(dy[t * h + i]) * kept(after, t, i))
            .collect();
        let hat: Vec<f64> = (0..h).map(|i| (sums[t * h + i] - mean) * scale).collect();
        let gw: Vec<f64> = (0..h).map(|i| g[i] * f64::from(w[i])).collect();
        let m = gw.iter().sum::<f64>() / h as f64;
        let along = gw.iter().zip(&hat).map(|(a, b)| a * b).sum::<f64>() / h as f64;
        for i in 0..h {
            let ds = (gw[i] - m - hat[i] * along) * scale;
            let dx = ds * kept(before, t, i);
            expected[0][i] += g[i] * hat[i];
            expected[1][i] += g[i];
            expected[2][i] += dx;
            dsum.push(ds);
            ddx.push(dx);
        }
    }
    b.equal(d, &dsum, 5e-6, &what);
    if let Some(dx) = dx {
        b.equal(dx, &ddx, 5e-6, &what);
    }
    for (view, expected) in grads.into_iter().zip(&expected) {
        b.equal(view, expected, 1e-5, &what);
    }
}

#[test]
fn linear_layers() {
    each(|b, isa| {
        for (t, n, k) in [(1, 1, 1), (5, 3, 7), (37, 65, 33)] {
            let (x, w, s, dy, old) = (
                b.numbers(t * k),
                b.numbers(n * k),
                b.numbers(n),
                b.numbers(t * n),
                b.numbers(t * k),
            );
            let dw_old = b.numbers(n * k);
            let (vx, vw, vs, vdy) = (b.put(&x), b.put(&w), b.put(&s), b.put(&dy));
            let (y, dx, dw) = (b.put(&vec![1.0; t * n]), b.put(&old), b.put(&dw_old));
            b.cpu.linear(vx, vw, vs, y, n).unwrap();
            b.cpu.linear_backward_input(vdy, vw, dx, n, true).unwrap();
            b.cpu.linear_backward_weight(vdy, vx, dw, n).unwrap();
            let f = |v: &[f32], i: usize| f64::from(v[i]);
            let ey: Vec<f64> = (0..t * n)
                .map(|i| {
                    f(&s, i % n)
                        + (0..k)
                            .map(|p| f(&x, i / n * k + p) * f(&w, i % n * k + p))
                            .sum::<f64>()
                })
                .collect();
            let edx: Vec<f64> = (0..t * k)
                .map(|i| {
                    f(&old, i)
                        + (0..n)
                            .map(|j| f(&dy, i / k * n + j) * f(&w, j * k + i % k))
                            .sum::<f64>()
                })
                .collect();
            let edw: Vec<f64> = (0..n * k)
                .map(|i| {
                    f(&dw_old, i)
                        + (0..t)
                            .map(|r| f(&dy, r * n + i / k) * f(&x, r * k + i % k))
                            .sum::<f64>()
                })
                .collect();
            b.equal(y, &ey, 2e-6, &format!("{isa} y"));
            b.equal(dx, &edx, 2e-6, &format!("{isa} dx"));
            b.equal(dw, &edw, 2e-6, &format!("{isa} dw"));
            b.cpu.linear_backward_input(vdy, vw, dx, n, false).unwrap();
            let fresh: Vec<f64> = edx
                .iter()
                .zip(&old)
                .map(|(e, o)| e - f64::from(*o))
                .collect();
            b.equal(dx, &fresh, 2e-6, &format!("{isa} dx anew"));
        }
    });
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

#[test]
fn activations() {
    let erf = |x: f64| x * normal(x);
    let form = |x: f64| {
        0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
    };
    let slope = |f: &dyn Fn(f64) -> f64, x: f64| (f(x + 1e-5) - f(x - 1e-5)) / 2e-5;
    each(|b, isa| {
        for (t, n) in [(1, 1), (65, 7), (40, 33)] {
            for (kind, f) in [
                (Gelu::Erf, &erf as &dyn Fn(f64) -> f64),
                (Gelu::Tanh, &form),
            ] {
                let (x, d, old) = (b.numbers(t * n), b.numbers(t * n), b.numbers(n));
                let (vx, y, dy, dbias) =
                    (b.put(&x), b.put(&vec![0.0; t * n]), b.put(&d), b.put(&old));
                let expected: Vec<f64> = wide(&x).into_iter().map(f).collect();
                b.cpu.gelu(kind, vx, y, false).unwrap();
                b.equal(y, &expected, 1e-6, &format!("{isa} {kind:?}"));
                b.equal(vx, &wide(&x), 0.0, "without a slope, x stays");
                b.cpu.gelu(kind, vx, y, true).unwrap();
                b.equal(y, &expected, 1e-6, &format!("{isa} {kind:?}"));
                b.cpu.gelu_backward(vx, dy, dbias).unwrap();
                let expected: Vec<f64> = x
                    .iter()
                    .zip(&d)
                    .map(|(x, d)| f64::from(*d) * slope(f, f64::from(*x)))
                    .collect();
                let mut sums = wide(&old);
                expected
                    .iter()
                    .enumerate()
                    .for_each(|(i, e)| sums[i % n] += e);
                b.equal(dy, &expected, 2e-6, &format!("{isa} {kind:?} back"));
                b.equal(dbias, &sums, 1e-5, &format!("{isa} {kind:?} bias"));
            }
            let (x, d) = (b.numbers(t * n), b.numbers(t * n));
            let (y, dy) = (b.put(&x), b.put(&d));
            b.cpu.tanh(y).unwrap();
            b.cpu.tanh_backward(y, dy).unwrap();
            let right: Vec<f64> = wide(&x).into_iter().map(f64::tanh).collect();
            b.equal(y, &right, 1e-6, &format!("{isa} tanh"));
            let back: Vec<f64> = right
                .iter()
                .zip(&d)
                .map(|(y, d)| f64::from(*d) * (1.0 - y * y))
                .collect();
            b.equal(dy, &back, 1e-6, &format!("{isa} tanh back"));
        }
    });
}

#[test]
fn attention_by_definition() {
    each(|b, isa| {
        for (heads, size, lengths) in [
            (1, 1, &[1usize, 2][..]),
            (2, 32, &[3, 17, 1, 40]),
            (3, 5, &[13, 129]),
            (1, 64, &[33]),
        ] {
            for dropout in [None, Some(SITE)] {
                attention_case(b, isa, heads, size, lengths, dropout);
            }
        }
    });
}

fn attention_case(
    b: &mut Bench,
    isa: Isa,
    heads: usize,
    size: usize,
    lengths: &[usize],
    dropout: Option<Dropout>,
) {
    let what = format!(
        "{isa} {heads} × {size}, {lengths:?}, dropout {}",
        dropout.is_some()
    );
    let (tokens, h) = (lengths.iter().sum::<usize>(), heads * size);
    let mut cu = vec![0u32];
    lengths
        .iter()
        .for_each(|n| cu.push(cu[cu.len() - 1] + *n as u32));
    let (qkv, dcontext) = (b.numbers(tokens * 3 * h), b.numbers(tokens * h));
    let attention = Attention {
        qkv: b.put(&qkv),
        cu_seqlens: b.put_words(&cu),
        longest: 0,
        heads,
        context: b.put(&vec![3.0; tokens * h]),
        log_sums: b.put(&vec![3.0; tokens * heads]),
        dropout,
    };
    b.cpu.attention(&attention).unwrap();
    let at = |part: usize, token: usize, head: usize, i: usize| {
        token * 3 * h + part * h + head * size + i
    };
    let (mut context, mut sums, mut dqkv) = (
        vec![0.0; tokens * h],
        vec![0.0; tokens * heads],
        vec![0.0; tokens * 3 * h],
    );
    let q = wide(&qkv);
    let scale = 1.0 / (size as f64).sqrt();
    for row in 0..lengths.len() {
        let row = cu[row] as usize..cu[row + 1] as usize;
        for head in 0..heads {
            let site = dropout.map(|d| d.head(head as u64));
            for t in row.clone() {
                let scores: Vec<f64> = row
                    .clone()
                    .map(|s| {
                        scale
                            * (0..size)
                                .map(|i| q[at(0, t, head, i)] * q[at(1, s, head, i)])
                                .sum::<f64>()
                    })
                    .collect();
                let total: f64 = scores.iter().map(|s| s.exp()).sum();
                sums[head * tokens + t] = total.ln();
                let p: Vec<f64> = scores.iter().map(|s| s.exp() / total).collect();
                let m: Vec<f64> = (0..p.len()).map(|i| kept(site, t, i)).collect();
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
    }
    b.equal(attention.context, &context, 5e-6, &what);
    b.equal(attention.log_sums, &sums, 5e-6, &what);
    let (d, out) = (b.put(&dcontext), b.put(&vec![7.0; tokens * 3 * h]));
    b.cpu.attention_backward(&attention, d, out).unwrap();
    b.equal(out, &dqkv, 1e-5, &format!("{what}, back"));
}

/// Boundaries that do not cover the tokens never reach memory.
#[test]
fn attention_refuses_rows_that_do_not_fit() {
    for cu in [&[0u32, 50, 10, 20][..], &[1, 20], &[0, 10, 10, 20], &[]] {
        let run = || {
            let mut b = Bench::new(Isa::best());
            let attention = Attention {
                qkv: b.put(&[1.0; 20 * 6]),
                cu_seqlens: b.put_words(cu),
                longest: 20,
                heads: 1,
                context: b.put(&[0.0; 40]),
                log_sums: b.put(&[0.0; 20]),
                dropout: None,
            };
            b.cpu.attention(&attention).unwrap();
        };
        assert!(std::panic::catch_unwind(run).is_err(), "{cu:?}");
    }
}

#[test]
fn cross_entropies() {
    each(|b, isa| {
        for (n, classes) in [(1, 1), (3, 2), (5, 61), (4, 1000)] {
            let (mut logits, labels) = (b.numbers(n * classes), b.below(classes, n));
            logits[0] = 60.0;
            let views = (
                b.put(&logits),
                b.put_words(&labels),
                b.put(&vec![9.0; n]),
                b.put(&vec![9.0; n]),
            );
            let (mut losses, mut hits, mut gradient) = (Vec::new(), Vec::new(), Vec::new());
            for (row, &label) in wide(&logits).chunks(classes).zip(&labels) {
                let most = row.iter().copied().fold(f64::MIN, f64::max);
                let total: f64 = row.iter().map(|x| (x - most).exp()).sum();
                losses.push(total.ln() + most - row[label as usize]);
                hits.push(f64::from(u8::from(
                    row.iter().position(|&x| x == most) == Some(label as usize),
                )));
                gradient.extend(row.iter().enumerate().map(|(i, x)| {
                    0.25 * ((x - most).exp() / total - f64::from(u8::from(i == label as usize)))
                }));
            }
            for scale in [None, Some(0.25)] {
                b.cpu
                    .cross_entropy(views.0, views.1, views.2, views.3, scale)
                    .unwrap();
                b.equal(views.2, &losses, 2e-6, &format!("{isa} losses"));
                b.equal(views.3, &hits, 0.0, &format!("{isa} hits"));
                let expected = if scale.is_some() {
                    gradient.clone()
                } else {
                    wide(&logits)
                };
                b.equal(views.0, &expected, 1e-6, &format!("{isa} logits"));
            }
        }
    });
}

#[test]
fn sums_and_moves() {
    each(|b, isa| {
        let (x, old) = (b.numbers(700 * 13), b.numbers(13));
        let (vx, vs) = (b.put(&x), b.put(&old));
        b.cpu.column_sum(vx, vs).unwrap();
        let mut expected = wide(&old);
        x.iter()
            .enumerate()
            .for_each(|(i, v)| expected[i % 13] += f64::from(*v));
        b.equal(vs, &expected, 1e-6, &format!("{isa} columns"));
        let squares: f64 = x.iter().map(|v| f64::from(*v).powi(2)).sum();
        assert!((b.cpu.sum_of_squares(vx).unwrap() - squares).abs() < 1e-9 * squares);
        let rows = b.put_words(&[699, 0, 3]);
        let picked = b.put(&[0.0; 39]);
        b.cpu.gather(vx, rows, picked, 13).unwrap();
        let expected: Vec<f64> = [699, 0, 3]
            .iter()
            .flat_map(|r| wide(&x[r * 13..][..13]))
            .collect();
        b.equal(picked, &expected, 0.0, "gathered");
        b.cpu.scatter_add(picked, rows, vx, 13).unwrap();
        let mut doubled = wide(&x);
        [699, 0, 3]
            .iter()
            .for_each(|r| doubled[r * 13..][..13].iter_mut().for_each(|v| *v *= 2.0));
        b.equal(vx, &doubled, 0.0, "scattered");
    });
}

#[test]
fn adamw_by_definition() {
    let step = AdamW {
        gradient_scale: 0.5,
        keep: 0.99,
        rate: 0.1,
        beta1: 0.9,
        beta2: 0.99,
        root2: 0.3,
        eps: 1e-3,
    };
    each(|b, isa| {
        for n in [1, 31, 9_000] {
            let (p, m, g) = (b.numbers(n), b.numbers(n), b.numbers(n));
            let v: Vec<f32> = b.numbers(n).iter().map(|x| x * x).collect();
            let views = [&p, &m, &v, &g].map(|x| b.put(x));
            b.cpu
                .adamw(&step, views[0], views[1], views[2], views[3])
                .unwrap();
            let mut expected = [Vec::new(), Vec::new(), Vec::new()];
            for i in 0..n {
                let g = f64::from(g[i]) * 0.5;
                let m = 0.9 * f64::from(m[i]) + 0.1 * g;
                let v = 0.99 * f64::from(v[i]) + 0.01 * g * g;
                let p = f64::from(p[i]) * 0.99 - 0.1 * m / (v.sqrt() / 0.3 + 1e-3);
                [p, m, v]
                    .into_iter()
                    .zip(&mut expected)
                    .for_each(|(x, e)| e.push(x));
            }
            for (view, expected) in views.into_iter().zip(&expected) {
                b.equal(view, expected, 3e-6, &format!("{isa} {n}"));
            }
        }
    });
}

#[test]
fn instructions_that_are_not_there_are_refused() {
    if Isa::best() < Isa::Amx {
        let error = Cpu::with(Isa::Amx, Precision::F32).unwrap_err();
        assert!(error.to_string().contains("AMX"), "{error}");
    }
    assert!(Cpu::with(Isa::Scalar, Precision::Bf16).is_ok());
}
