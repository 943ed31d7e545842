//! From values to places, and round numbers on an axis.

/// A linear or logarithmic scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    low: f64,
    high: f64,
    log: bool,
}

impl Scale {
    /// A scale that holds all finite `values`, of which a logarithmic one takes those over 0. A little room is left on both sides, unless `tight`.
    pub fn of(values: impl Iterator<Item = f64>, log: bool, tight: bool) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|v| v.is_finite() && (!log || *v > 0.0)) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = if log { (0.1, 1.0) } else { (0.0, 1.0) };
        }
        // So that widths and rooms are numbers, too.
        let least = if log { 1e-290 } else { -1e290 };
        (low, high) = (low.clamp(least, 1e290), high.clamp(least, 1e290));
        let mut scale = Self { low, high, log };
        let (a, b) = (scale.along(low), scale.along(high));
        let room = match b - a {
            0.0 if log => 0.5,
            0.0 if low == 0.0 => 0.5,
            0.0 => 0.5 * low.abs(),
            _ if tight => 0.0,
            width => 0.04 * width,
        };
        if room == 0.0 {
            return scale;
        }
        let back = |v: f64| if log { 10f64.powf(v) } else { v };
        // What is nowhere under zero has an axis that is not.
        let floor = if !log && low >= 0.0 {
            0.0
        } else {
            f64::NEG_INFINITY
        };
        (scale.low, scale.high) = (back(a - room).max(floor), back(b + room));
        scale
    }

    /// The same scale, from `low` at least.
    pub fn from(mut self, low: f64) -> Self {
        self.low = self.low.min(low);
        self
    }

    fn along(&self, value: f64) -> f64 {
        if self.log { value.log10() } else { value }
    }

    /// Where a value is, from 0 to 1; `None` where it cannot be.
    pub fn place(&self, value: f64) -> Option<f64> {
        let (a, b) = (self.along(self.low), self.along(self.high));
        let at = (self.along(value) - a) / (b - a);
        at.is_finite().then_some(at.clamp(-0.01, 1.01))
    }

    /// Round numbers along the scale, some `count`.
    pub fn ticks(&self, count: usize) -> Vec<f64> {
        if self.log {
            let (a, b) = (self.low.log10(), self.high.log10());
            let steps: &[f64] = match b - a {
                wide if wide > 3.0 => &[1.0],
                wide if wide > 0.9 => &[1.0, 2.0, 5.0],
                _ => {
                    return Self {
                        log: false,
                        ..*self
                    }
                    .ticks(count);
                }
            };
            let stride = ((b - a) / 10.0).ceil().max(1.0) as usize;
            let decades = ((a.floor() as i32)..=(b.ceil() as i32)).step_by(stride);
            let all = decades.flat_map(|d| steps.iter().map(move |s| s * 10f64.powi(d)));
            // A power is not exact: an end of the scale is on it.
            let (low, high) = (self.low * (1.0 - 1e-9), self.high * (1.0 + 1e-9));
            return all.filter(|t| (low..=high).contains(t)).collect();
        }
        let rough = (self.high - self.low) / count.max(1) as f64;
        let decade = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0]
            .map(|s| s * decade)
            .into_iter()
            .find(|s| *s >= rough * 0.999)
            .unwrap_or(10.0 * decade);
        if !(step.is_finite() && step > 0.0) {
            return Vec::new();
        }
        let first = (self.low / step).ceil();
        (0..=2 * count)
            .map(|i| (first + i as f64) * step)
            .take_while(|t| *t <= self.high * (1.0 + 1e-12) + step * 1e-9)
            .collect()
    }
}

/// A number as short as it can be told apart from others `step` away.
pub fn label(value: f64, step: f64) -> String {
    let size = value.abs();
    if size <= step * 1e-9 {
        return "0".into();
    }
    if size >= 1e4 {
        for (unit, name) in [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")] {
            if size >= unit {
                return format!("{}{name}", plain(value / unit, step / unit));
            }
        }
    }
    if size < 1e-3 {
        let decade = size.log10().floor();
        let scaled = value / 10f64.powf(decade);
        return format!("{}e{decade}", plain(scaled, 0.1)).replace('-', "−");
    }
    plain(value, step).replace('-', "−")
}

/// With as many decimals as `step` needs.
fn plain(value: f64, step: f64) -> String {
    let decimals = (0..9).find(|d| {
        let shifted = step * 10f64.powi(*d);
        (shifted - shifted.round()).abs() < 1e-6 * shifted.max(1e-9) && shifted.round() > 0.0
    });
    let text = format!("{value:.*}", decimals.unwrap_or(2) as usize);
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(low: f64, high: f64, log: bool) -> Vec<String> {
        let scale = Scale { low, high, log };
        let ticks = scale.ticks(5);
        let step = if ticks.len() > 1 && !log {
            ticks[1] - ticks[0]
        } else {
            ticks[0]
        };
        ticks
            .iter()
            .map(|t| label(*t, if log { *t } else { step }))
            .collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(labels(0.0, 10.0, false), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(
            labels(0.13, 0.62, false),
            ["0.2", "0.3", "0.4", "0.5", "0.6"]
        );
        assert_eq!(labels(-1.0, 1.0, false), ["−1", "−0.5", "0", "0.5", "1"]);
        assert_eq!(
            labels(0.0, 25_000.0, false),
            ["0", "5000", "10k", "15k", "20k", "25k"]
        );
        assert_eq!(
            labels(1e-6, 1e-4, true),
            ["1e−6", "2e−6", "5e−6", "1e−5", "2e−5", "5e−5", "1e−4"]
        );
        assert_eq!(
            labels(1.0, 1e6, true),
            ["1", "10", "100", "1000", "10k", "100k", "1M"]
        );
    }

    #[test]
    fn the_ends_of_a_tight_scale_have_numbers() {
        let ends = Scale::of([200.0, 2000.0].into_iter(), true, true);
        assert_eq!(ends.ticks(6), [200.0, 500.0, 1000.0, 2000.0]);
        let ends = Scale::of([1e-5, 2e-4].into_iter(), true, true);
        assert_eq!(
            ends.ticks(6)
                .iter()
                .map(|t| label(*t, *t))
                .collect::<Vec<_>>(),
            ["1e−5", "2e−5", "5e−5", "1e−4", "2e−4"]
        );
    }

    #[test]
    fn the_largest_numbers_have_a_place() {
        let scale = Scale::of([9e37, -1.77e308].into_iter(), false, false);
        assert!(scale.place(9e37).is_some() && scale.place(-1.77e308).is_some());
    }

    proptest! {
        #[test]
        fn ticks_lie_on_the_scale(a in -1e9f64..1e9, width in 1e-6f64..1e9, count in 2usize..9) {
            let scale = Scale { low: a, high: a + width, log: false };
            let ticks = scale.ticks(count);
            prop_assert!(ticks.len() <= 2 * count + 1);
            prop_assert!(ticks.windows(2).all(|t| t[0] < t[1]));
            for tick in &ticks {
                prop_assert!(*tick >= a - 1e-6 * width.max(a.abs()) && *tick <= a + width + 1e-6 * width.max(a.abs()));
            }
        }

        #[test]
        fn everything_has_a_place(values in prop::collection::vec(prop::num::f64::ANY, 0..20), log: bool) {
            let scale = Scale::of(values.iter().copied(), log, false);
            for value in values {
                if value.is_finite() && (!log || value > 0.0) && value.abs() < 1e100 && value.abs() > 1e-100 {
                    prop_assert!(scale.place(value).is_some());
                }
            }
            prop_assert!(scale.ticks(5).len() < 100);
        }
    }
}
