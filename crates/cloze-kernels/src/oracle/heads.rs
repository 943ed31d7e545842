//! Losses, sums, rows that move.

use super::{Bench, EXACT, rounded, sums, wide};
use crate::ops::{CrossEntropy, NONE, Ops};

impl<O: Ops> Bench<O> {
    /// Cross-entropy, its gradient in place, padding in both directions.
    pub fn cross_entropies(&mut self) {
        for (n, classes, width) in [
            (1, 1, 1),
            (3, 2, 64),
            (5, 61, 61),
            (4, 1_000, 1_024),
            (3, 5_000, 5_003),
        ] {
            let width = self.size(width);
            let mut logits = self.numbers(n * width);
            let mut labels = self.below(classes, n);
            logits[0] = 60.0;
            // Two equal ones: the first is what is predicted.
            for (r, right) in [(n - 1, 0), (n / 2, classes - 1)] {
                if classes > 2 && r > 1 {
                    logits[r * width + 1] = 9.0;
                    logits[r * width + classes - 1] = 9.0;
                    labels[r] = if right == 0 { 1 } else { right as u32 };
                }
            }
            if n > 2 {
                labels[1] = NONE;
            }
            let what = format!("cross-entropy {n} × {classes} of {width}");
            let (vl, losses) = (self.put(&logits), self.put_single(&vec![9.0; n]));
            let (labels_view, hits) = (self.put_words(&labels), self.put_single(&vec![9.0; n]));
            let scale = self.put_single(&[0.25]);
            let mut expected = [vec![0.0; n], vec![0.0; n]];
            let mut gradient = vec![0.0; n * width];
            for (r, &label) in labels.iter().enumerate().filter(|(_, l)| **l != NONE) {
                let row = wide(&logits[r * width..][..classes]);
                let most = row.iter().copied().fold(f64::MIN, f64::max);
                let total: f64 = row.iter().map(|x| (x - most).exp()).sum();
                let right = label as usize;
                expected[0][r] = total.ln() + most - row[right];
                expected[1][r] =
                    f64::from(u8::from(row.iter().position(|&x| x == most) == Some(right)));
                for (i, x) in row.iter().enumerate() {
                    let own = f64::from(u8::from(i == right));
                    gradient[r * width + i] = 0.25 * ((x - most).exp() / total - own);
                }
            }
            for scale in [None, Some(scale)] {
                let c = CrossEntropy {
                    logits: vl,
                    labels: labels_view,
                    classes,
                    losses,
                    hits,
                    scale,
                };
                self.ops.cross_entropy(&c).unwrap();
                self.compare(losses, &expected[0], sums(2e-6), &format!("{what}, losses"));
                self.compare(hits, &expected[1], EXACT, &format!("{what}, hits"));
                if scale.is_some() {
                    self.compare(vl, &gradient, rounded(1e-6), &format!("{what}, gradient"));
                } else {
                    self.compare(vl, &wide(&logits), EXACT, &format!("{what}, given"));
                }
            }
            self.clear();
        }
        self.loss_without_end();
    }

    /// A loss that is no finite number has a gradient that is none, although what softmax gives is finite.
    fn loss_without_end(&mut self) {
        let width = self.size(5);
        let mut logits = vec![0.0; 2 * width];
        (logits[0], logits[1]) = (3e38, -3e38);
        let logits = self.put(&logits);
        let (losses, hits) = (self.put_single(&[0.0; 2]), self.put_single(&[0.0; 2]));
        let c = CrossEntropy {
            logits,
            labels: self.put_words(&[1, 1]),
            classes: 5,
            losses,
            hits,
            scale: Some(self.put_single(&[0.25])),
        };
        self.ops.cross_entropy(&c).unwrap();
        let (losses, gradient) = (self.get(losses), self.get(logits));
        assert!(
            losses[0].is_infinite() && losses[1].is_finite(),
            "{losses:?}"
        );
        let none: Vec<usize> = (0..2 * width).filter(|&i| gradient[i].is_nan()).collect();
        assert_eq!(none, [1], "{gradient:?}");
        self.clear();
    }

    /// Sums of columns and of all, norms, rows picked and put back.
    pub fn sums_and_moves(&mut self) {
        let n = self.size(13);
        let (x, old) = (self.numbers(1_100 * n), self.numbers(n));
        let (vx, vs) = (self.put(&x), self.put_single(&old));
        self.ops.column_sum(vx, vs).unwrap();
        let mut expected = wide(&old);
        let all = x.iter().enumerate();
        all.for_each(|(i, v)| expected[i % n] += f64::from(*v));
        self.compare(vs, &expected, sums(1e-6), "sums of columns");

        let single = self.put_single(&x);
        let out = self.put_single(&[2.0, 2.0]);
        self.ops.norm_of(single, out.part(0, 1)).unwrap();
        let half = self.put_single(&[0.5]);
        self.ops.total(single, None, out.part(1, 1)).unwrap();
        self.ops.total(single, Some(half), out.part(1, 1)).unwrap();
        let squares: f64 = x.iter().map(|v| f64::from(*v).powi(2)).sum();
        let sum: f64 = wide(&x).iter().sum::<f64>() * 1.5 + 2.0;
        self.compare(out, &[squares.sqrt(), sum], sums(1e-6), "norm and total");

        let rows = [1_099, NONE, 0, 3];
        let (names, picked) = (self.put_words(&rows), self.put(&vec![4.0; 4 * n]));
        self.ops.gather(vx, names, picked, n).unwrap();
        let row = |r: u32| match r {
            NONE => vec![0.0; n],
            r => wide(&x[r as usize * n..][..n]),
        };
        let expected: Vec<f64> = rows.iter().flat_map(|r| row(*r)).collect();
        self.compare(picked, &expected, EXACT, "gathered");
        self.ops.scatter_add(picked, names, vx, n).unwrap();
        let mut doubled = wide(&x);
        for r in rows.iter().filter(|r| **r != NONE) {
            doubled[*r as usize * n..][..n]
                .iter_mut()
                .for_each(|v| *v *= 2.0);
        }
        self.compare(vx, &doubled, EXACT, "scattered");
        let dirty = self.put(&vec![3.0; 5 * n]);
        self.ops.zero(dirty.part(n, 3 * n)).unwrap();
        let expected: Vec<f64> = (0..5 * n)
            .map(|i| if (n..4 * n).contains(&i) { 0.0 } else { 3.0 })
            .collect();
        self.compare(dirty, &expected, EXACT, "zeroed");
        self.clear();
    }
}
