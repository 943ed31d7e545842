//! Every operation against its definition in double precision, on awkward sizes: for tests of any device, and for reports.
//!
//! Numbers are such that a device which rounds activations holds them exactly, so what is seen is the error of the operation alone.

#![allow(
    clippy::unwrap_used,
    reason = "a device that fails cannot be compared, and the caller is a test"
)]

mod attention;
mod heads;
mod layers;
mod optimizer;
mod rows;

use crate::dropout::{Dropout, Site};
use crate::ops::{Kind, Ops, View};

/// One comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Which operation, of what size, and which result.
    pub what: String,
    /// The largest |found − definition|, over one plus the largest of the definition; NaN where something is not a number.
    pub error: f64,
    /// What it must not exceed.
    pub tolerance: f64,
}

impl Finding {
    /// Whether it is within the tolerance.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.error <= self.tolerance
    }
}

/// How far results may lie off: where activations are in single precision, and where they are rounded to bf16.
#[derive(Clone, Copy, Debug)]
struct Tolerance {
    single: f64,
    rounded: f64,
}

/// What is kept in single precision wherever it is computed: nearly as exact on any device.
const fn sums(single: f64) -> Tolerance {
    Tolerance {
        single,
        rounded: 4.0 * single,
    }
}

/// What is rounded once, to 8 bits, on devices that round: half of 2⁻⁸ relative, and as much again for what it was made of.
const fn rounded(single: f64) -> Tolerance {
    Tolerance {
        single,
        rounded: 4e-3,
    }
}

/// A device that is looked at.
#[derive(Debug)]
pub struct Bench<O: Ops> {
    ops: O,
    rounds: bool,
    multiple: usize,
    state: u64,
    views: Vec<View>,
    findings: Vec<Finding>,
}

impl<O: Ops> Bench<O> {
    /// Sizes of matrices are rounded up to a `multiple`.
    pub fn new(ops: O, multiple: usize) -> Self {
        let mut bench = Self {
            ops,
            rounds: false,
            multiple,
            state: 0x9E37_79B9_7F4A_7C15,
            views: Vec::new(),
            findings: Vec::new(),
        };
        let fine = 1.0 + 1.0 / 4096.0;
        let view = bench.put(&[fine; 8]);
        bench.rounds = bench.get(view)[0] != fine;
        bench
    }

    /// All operations.
    pub fn all(&mut self) -> Vec<Finding> {
        self.rows();
        self.embeddings();
        self.norms();
        self.linear_layers();
        self.activations();
        self.attention();
        self.cross_entropies();
        self.sums_and_moves();
        self.adamw();
        self.lamb();
        self.take()
    }

    /// What was found since the last call.
    pub fn take(&mut self) -> Vec<Finding> {
        self.clear();
        std::mem::take(&mut self.findings)
    }

    fn clear(&mut self) {
        for view in self.views.drain(..) {
            self.ops.release(view).unwrap();
        }
    }

    fn size(&self, n: usize) -> usize {
        n.next_multiple_of(self.multiple)
    }

    fn number(&mut self) -> f32 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let bits = if self.rounds { 8 } else { 24 };
        (self.state >> (64 - bits)) as f32 / (1u32 << (bits - 2)) as f32 - 2.0
    }

    fn numbers(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.number()).collect()
    }

    fn below(&mut self, n: usize, len: usize) -> Vec<u32> {
        (0..len)
            .map(|_| {
                self.number();
                (self.state >> 20) as u32 % n as u32
            })
            .collect()
    }

    fn room(&mut self, kind: Kind, len: usize) -> View {
        let view = self.ops.allocate(kind, len).unwrap();
        self.views.push(view);
        view
    }

    /// Activations.
    fn put(&mut self, values: &[f32]) -> View {
        let view = self.room(Kind::Activation, values.len());
        self.ops.upload(view, values).unwrap();
        view
    }

    /// What is in single precision everywhere.
    fn put_single(&mut self, values: &[f32]) -> View {
        let view = self.room(Kind::Float, values.len());
        self.ops.upload(view, values).unwrap();
        view
    }

    fn put_parameters(&mut self, values: &[f32]) -> View {
        let view = self.put_single(values);
        self.ops.parameters_changed(view).unwrap();
        view
    }

    fn put_words(&mut self, values: &[u32]) -> View {
        let view = self.room(Kind::Word, values.len());
        self.ops.upload_words(view, values).unwrap();
        view
    }

    fn site(&mut self) -> Site {
        Site {
            key: [7, 9],
            number: 3,
            below: 13_107,
            draw: self.put_words(&DRAW),
        }
    }

    fn get(&mut self, view: View) -> Vec<f32> {
        let mut values = vec![0.0; view.len()];
        self.ops.download(view, &mut values).unwrap();
        values
    }

    /// What must be the same and is not, so often.
    fn count(&mut self, what: &str, wrong: usize) {
        self.findings.push(Finding {
            what: what.to_owned(),
            error: wrong as f64,
            tolerance: 0.0,
        });
    }

    fn compare(&mut self, view: View, expected: &[f64], tolerance: Tolerance, what: &str) {
        let found = self.get(view);
        assert_eq!(found.len(), expected.len(), "{what}");
        let largest = expected.iter().fold(0f64, |m, x| m.max(x.abs()));
        let off = found.iter().zip(expected);
        // `max` would pass over what is not a number.
        let error = off
            .map(|(a, b)| (f64::from(*a) - b).abs())
            .fold(0f64, |m, x| if x <= m { m } else { x });
        self.findings.push(Finding {
            what: what.to_owned(),
            error: error / (1.0 + largest),
            tolerance: if self.rounds {
                tolerance.rounded
            } else {
                tolerance.single
            },
        });
    }
}

/// The step, and tokens before the first.
const DRAW: [u32; 2] = [0x0123_4567, 1_000];

/// What is exact.
const EXACT: Tolerance = Tolerance {
    single: 0.0,
    rounded: 0.0,
};

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// What a site does to features of tokens, drawn a row at a time.
fn kept(dropout: Option<Dropout>, token: usize, features: usize) -> Vec<f64> {
    let mut mask = vec![1.0; features];
    if let Some(dropout) = dropout {
        dropout.fill(token as u32, &mut mask);
    }
    wide(&mask)
}
