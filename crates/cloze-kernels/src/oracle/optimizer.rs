//! AdamW and LAMB.

use super::{Bench, EXACT, sums, wide};
use crate::ops::{AdamW, Lamb, Ops};

impl<O: Ops> Bench<O> {
    /// AdamW, clipped and not, by groups; nothing where the norm is not finite.
    pub fn adamw(&mut self) {
        for (blocks, clip, norm) in [
            (1, 0.0, 3.0),
            (33, 1.5, 3.0),
            (300, 5.0, 3.0),
            (7, 1.0, f32::INFINITY),
            (7, 0.0, f32::NAN),
        ] {
            let n = blocks * 64;
            let (p, m, g) = (self.numbers(n), self.numbers(n), self.numbers(n));
            let v: Vec<f32> = self.numbers(n).iter().map(|x| x * x).collect();
            let groups: Vec<u32> = (0..blocks as u32).map(|i| i / 3 % 3).collect();
            let rates = [0.99, 0.1, 1.0, 0.2, 1.0, 0.0];
            let views = [&p, &m, &v, &g].map(|x| self.put_single(x));
            let step = AdamW {
                parameters: views[0],
                m: views[1],
                v: views[2],
                gradients: views[3],
                groups: self.put_words(&groups),
                rates: self.put_single(&rates),
                root2: self.put_single(&[0.3]),
                norm: self.put_single(&[norm]),
                skipped: self.put_single(&[4.0]),
                beta1: 0.9,
                beta2: 0.99,
                eps: 1e-3,
                clip,
            };
            self.ops.adamw(&step).unwrap();
            let norm = f64::from(norm);
            let scale = match f64::from(clip) {
                clip if clip > 0.0 => (clip / (norm + 1e-6)).min(1.0),
                _ => 1.0,
            };
            let mut expected = [wide(&p), wide(&m), wide(&v), wide(&g)];
            for i in (0..n).filter(|_| norm.is_finite()) {
                let group = groups[i / 64] as usize;
                let (keep, rate) = (f64::from(rates[group * 2]), f64::from(rates[group * 2 + 1]));
                let g = f64::from(g[i]) * scale;
                let m = 0.9 * f64::from(m[i]) + 0.1 * g;
                let v = 0.99 * f64::from(v[i]) + 0.01 * g * g;
                expected[0][i] = f64::from(p[i]) * keep - rate * m / (v.sqrt() / 0.3 + 1e-3);
                (expected[1][i], expected[2][i]) = (m, v);
            }
            let skipped = 4.0 + f64::from(u8::from(!norm.is_finite()));
            let what = format!("AdamW {n}, norm {norm}, skipped");
            self.compare(step.skipped, &[skipped], EXACT, &what);
            for (i, name) in ["parameters", "first moment", "second moment", "gradients"]
                .into_iter()
                .enumerate()
            {
                let tolerance = if norm.is_finite() && i < 3 {
                    sums(3e-6)
                } else {
                    EXACT
                };
                let what = format!("AdamW {n}, clip {clip}, norm {norm}, {name}");
                self.compare(views[i], &expected[i], tolerance, &what);
            }
            self.clear();
        }
    }

    /// LAMB: groups that adapt and do not, one that is zero, one of many blocks.
    pub fn lamb(&mut self) {
        for (clip, norm) in [(0.0, 3.0), (1.5, 3.0), (1.0, f32::INFINITY)] {
            let starts = [0usize, 1, 4, 7, 300, 302];
            let rates = [
                [0.1, 0.01, 1.0],
                [0.2, 0.0, 0.0],
                [0.1, 0.3, 1.0],
                [0.05, 0.1, 1.0],
                [0.0, 0.1, 1.0],
            ];
            let blocks = starts[starts.len() - 1];
            let n = blocks * 64;
            let (mut p, m, g) = (self.numbers(n), self.numbers(n), self.numbers(n));
            p[4 * 64..7 * 64].fill(0.0);
            let v: Vec<f32> = self.numbers(n).iter().map(|x| x * x).collect();
            let group = |block: usize| starts.iter().rposition(|&s| s <= block).unwrap();
            let groups: Vec<u32> = (0..blocks).map(|b| group(b) as u32).collect();
            let views = [&p, &m, &v, &g].map(|x| self.put_single(x));
            let step = Lamb {
                parameters: views[0],
                m: views[1],
                v: views[2],
                gradients: views[3],
                groups: self.put_words(&groups),
                starts: self.put_words(&starts.map(|s| s as u32)),
                rates: self.put_single(&rates.concat()),
                corrections: self.put_single(&[0.5, 0.3]),
                norm: self.put_single(&[norm]),
                skipped: self.put_single(&[1.0]),
                beta1: 0.9,
                beta2: 0.99,
                eps: 1e-3,
                clip,
            };
            self.ops.lamb(&step).unwrap();
            let finite = norm.is_finite();
            let scale = match clip {
                clip if clip > 0.0 => (f64::from(clip) / (f64::from(norm) + 1e-6)).min(1.0),
                _ => 1.0,
            };
            let mut expected = [wide(&p), wide(&m), wide(&v), wide(&g)];
            let groups = (0..rates.len()).filter(|_| finite);
            for (group, rate) in groups.map(|g| (g, rates[g].map(f64::from))) {
                let part = starts[group] * 64..starts[group + 1] * 64;
                let (mut own, mut along) = (0f64, 0f64);
                for i in part.clone() {
                    let g = f64::from(g[i]) * scale;
                    let m = 0.9 * f64::from(m[i]) + 0.1 * g;
                    let v = 0.99 * f64::from(v[i]) + 0.01 * g * g;
                    let u = m / 0.5 / ((v / 0.3).sqrt() + 1e-3) + rate[1] * f64::from(p[i]);
                    own += f64::from(p[i]).powi(2);
                    along += u * u;
                    (expected[1][i], expected[2][i], expected[3][i]) = (m, v, u);
                }
                let adapts = rate[2] > 0.0 && own > 0.0 && along > 0.0;
                let ratio = if adapts { (own / along).sqrt() } else { 1.0 };
                for i in part {
                    expected[0][i] = f64::from(p[i]) - rate[0] * ratio * expected[3][i];
                }
            }
            let skipped = 1.0 + f64::from(u8::from(!finite));
            self.compare(step.skipped, &[skipped], EXACT, "LAMB, skipped");
            let names = ["parameters", "first moment", "second moment", "direction"];
            for (i, name) in names.into_iter().enumerate() {
                let tolerance = if finite { sums(1e-5) } else { EXACT };
                let what = format!("LAMB, clip {clip}, norm {norm}, {name}");
                self.compare(views[i], &expected[i], tolerance, &what);
            }
            self.clear();
        }
    }
}
