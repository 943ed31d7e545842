//! A curve of any length in bounded memory.

/// Spans that a curve is kept in; of each, four points.
const SPANS: usize = 1_024;

/// Values beyond this have no place on an axis.
const LARGEST: f64 = 1e30;

/// A step, and a value there.
pub type Point = (f64, f64);

/// Neighbouring points of which those are kept that a line through all of them shows: the ends and the extremes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    first: Point,
    low: Point,
    high: Point,
    last: Point,
}

impl Span {
    fn of(point: Point) -> Self {
        Self {
            first: point,
            low: point,
            high: point,
            last: point,
        }
    }

    /// This and what comes after it. Of equal extremes the earlier one stays.
    fn and(self, next: Self) -> Self {
        Self {
            first: self.first,
            low: if next.low.1 < self.low.1 {
                next.low
            } else {
                self.low
            },
            high: if next.high.1 > self.high.1 {
                next.high
            } else {
                self.high
            },
            last: next.last,
        }
    }

    /// The points that are kept, by step.
    fn points(&self) -> impl Iterator<Item = Point> + use<> {
        let (a, b) = if self.low.0 <= self.high.0 {
            (self.low, self.high)
        } else {
            (self.high, self.low)
        };
        let all = [self.first, a, b, self.last];
        (0..4)
            .filter(move |&i| i == 0 || all[i] != all[i - 1])
            .map(move |i| all[i])
    }
}

/// A curve: all of its points at first, then of each span of as many points as needed the first, lowest, highest and last.
#[derive(Clone, Debug)]
pub struct Curve {
    spans: Vec<Span>,
    /// Points of a full span.
    stride: u64,
    /// Points of the last span.
    filled: u64,
}

impl Default for Curve {
    fn default() -> Self {
        Self {
            spans: Vec::new(),
            stride: 1,
            filled: 1,
        }
    }
}

impl Curve {
    /// Adds a point after all others; one that has no place on an axis is left out.
    pub fn push(&mut self, step: u64, value: f64) {
        if !value.is_finite() || value.abs() > LARGEST {
            return;
        }
        let span = Span::of((step as f64, value));
        match self.spans.last_mut() {
            Some(last) if self.filled < self.stride => {
                *last = last.and(span);
                self.filled += 1;
            }
            _ => {
                if self.spans.len() == SPANS {
                    self.halve();
                }
                self.spans.push(span);
                self.filled = 1;
            }
        }
    }

    fn halve(&mut self) {
        let pairs = self.spans.chunks(2);
        self.spans = pairs
            .map(|pair| pair.iter().copied().reduce(Span::and).unwrap_or(pair[0]))
            .collect();
        self.stride *= 2;
    }

    /// What is kept, by step.
    pub fn points(&self) -> Vec<Point> {
        self.spans.iter().flat_map(Span::points).collect()
    }
}

/// A mean that forgets: each value weighs a tenth, the first ones more.
#[derive(Clone, Copy, Debug, Default)]
pub struct Smooth {
    sum: f64,
    weight: f64,
}

impl Smooth {
    /// The mean with `value`, and without one that is not finite; `None` before the first.
    pub fn push(&mut self, value: f64) -> Option<f64> {
        if value.is_finite() {
            self.sum = 0.9 * self.sum + 0.1 * value;
            self.weight = 0.9 * self.weight + 0.1;
        }
        self.mean()
    }

    /// The mean so far.
    pub fn mean(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}

/// An axis that holds all values, of which there may be none, one, or many that are alike.
pub fn axis(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
        (low.min(v), high.max(v))
    });
    if low > high {
        return [0.0, 1.0];
    }
    let least = (low.abs().max(high.abs()) * 1e-3).max(1e-6);
    if high - low >= least {
        return [low, high];
    }
    let middle = low + (high - low) / 2.0;
    [middle - least / 2.0, middle + least / 2.0]
}

/// A place on an axis of that span, in as many digits as tell its ends apart.
pub fn label(value: f64, span: f64) -> String {
    let span = span.abs().max(1e-9);
    if value.abs() >= 1e5 {
        return format!("{value:.1e}");
    }
    let digits = (1.0 - span.log10().floor()).clamp(1.0, 5.0) as usize;
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is kept by its definition: all points in chunks, and of each chunk the first, lowest, highest, last.
    fn naive(all: &[Point], stride: usize) -> Vec<Point> {
        let mut kept = Vec::new();
        for chunk in all.chunks(stride) {
            let mut low = chunk[0];
            let mut high = chunk[0];
            for &p in chunk {
                if p.1 < low.1 {
                    low = p;
                }
                if p.1 > high.1 {
                    high = p;
                }
            }
            let mut four = vec![chunk[0], low, high, chunk[chunk.len() - 1]];
            four.sort_by(|a, b| a.0.total_cmp(&b.0));
            four.dedup();
            kept.extend(four);
        }
        kept
    }

    fn noisy(step: u64) -> f64 {
        let noise = (step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64 / 16_777_216.0;
        10.0 / (1.0 + step as f64 / 900.0) + noise
    }

    #[test]
    fn thinning_keeps_what_its_definition_keeps() {
        for n in [
            0, 1, 2, 1_023, 1_024, 1_025, 2_047, 2_048, 2_049, 5_000, 70_001,
        ] {
            let all: Vec<Point> = (0..n).map(|i| (i as f64 * 10.0, noisy(i))).collect();
            let mut curve = Curve::default();
            for i in 0..n {
                curve.push(i * 10, noisy(i));
            }
            let mut stride = 1;
            while all.len().div_ceil(stride) > SPANS {
                stride *= 2;
            }
            assert_eq!(curve.points(), naive(&all, stride), "{n} points");
            assert!(curve.points().len() <= 4 * SPANS);
        }
    }

    #[test]
    fn a_spike_survives_a_million_points() {
        let mut curve = Curve::default();
        for i in 0..1_000_000 {
            curve.push(i, if i == 333_333 { 50.0 } else { 1.0 });
        }
        assert!(curve.points().contains(&(333_333.0, 50.0)));
        assert!(curve.spans.capacity() <= 2 * SPANS);
    }

    #[test]
    fn what_has_no_place_is_left_out() {
        let mut curve = Curve::default();
        for (i, v) in [1.0, f64::NAN, f64::INFINITY, -f64::INFINITY, 1e300, 2.0]
            .into_iter()
            .enumerate()
        {
            curve.push(i as u64, v);
        }
        assert_eq!(curve.points(), [(0.0, 1.0), (5.0, 2.0)]);
        let mut smooth = Smooth::default();
        assert_eq!(smooth.push(f64::NAN), None);
        assert_eq!(smooth.push(4.0), Some(4.0));
        assert_eq!(smooth.push(f64::INFINITY), Some(4.0));
        let mean = smooth.push(2.0).expect("two values");
        assert!((mean - (0.9 * 4.0 + 2.0) / 1.9).abs() < 1e-12);
    }

    #[test]
    fn an_axis_is_never_empty() {
        assert_eq!(axis([].into_iter()), [0.0, 1.0]);
        assert_eq!(axis([2.0, 8.0, 4.0].into_iter()), [2.0, 8.0]);
        for same in [0.0, 7.0, -3.0, 1e30] {
            let [low, high] = axis([same].into_iter());
            assert!(low < same && same < high, "{low} {same} {high}");
        }
        assert_eq!(
            [label(10.4, 8.0), label(7.123, 0.02), label(2e7, 1e7)],
            ["10.4", "7.123", "2.0e7"]
        );
    }
}
