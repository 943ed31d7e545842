//! Values along an axis.

use super::{Axis, Chart, END, Frame, STYLES, legend};
use crate::scale::label;

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A line.
    Line,
    /// A faint line of the style of the series after it: what that one smooths.
    Faint,
    /// A line with a dot at each value.
    Dots,
}

/// A series of values.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What it is; may be empty.
    pub name: String,
    /// Places and values, by ascending place.
    pub points: Vec<(f64, f64)>,
    /// How it is drawn.
    pub mark: Mark,
}

/// A chart of lines.
#[derive(Clone, Debug, PartialEq)]
pub struct Lines {
    /// What it shows.
    pub title: String,
    /// The level axis.
    pub x: Axis,
    /// The upright axis.
    pub y: Axis,
    /// What is drawn, the last on top.
    pub series: Vec<Series>,
}

/// Values along the level axis that can be told apart.
const COLUMNS: usize = 600;

impl Chart for Lines {
    fn figure(&self) -> String {
        let frame = Frame {
            width: 460.0,
            height: 226.0,
            left: 46.0,
            bottom: 34.0,
        };
        let points = || self.series.iter().flat_map(|s| s.points.iter());
        let x = self.x.scale(points().map(|p| p.0), true);
        let y = self.y.scale(points().map(|p| p.1), false);
        let mut style = 0;
        let styles: Vec<usize> = (self.series.iter())
            .map(|series| {
                let own = style % STYLES;
                style += usize::from(series.mark != Mark::Faint);
                own
            })
            .collect();
        let named = self
            .series
            .iter()
            .zip(&styles)
            .filter(|(s, _)| s.mark != Mark::Faint && !s.points.is_empty());
        let legend = legend(named.map(|(s, style)| (*style, s.name.as_str())), |i| {
            format!("<line class=\"line s{i} d{i}\" x1=\"1\" x2=\"25\" y1=\"5\" y2=\"5\"/>")
        });
        let mut svg = frame.open(&self.title, &legend);
        svg += &frame.y_axis(&y, &self.y.name);
        svg += &frame.x_axis(&x, &self.x.name);
        for (series, style) in self.series.iter().zip(styles) {
            let class = match series.mark {
                Mark::Faint => format!("thin s{style}"),
                _ => format!("line s{style} d{style}"),
            };
            let thinned = thin(&series.points, COLUMNS);
            let places = thinned
                .iter()
                .map(|&(px, py)| Some((frame.x(x.place(px)?), frame.y(y.place(py)?))));
            let places: Vec<Option<(f64, f64)>> = places.collect();
            for run in places.split(Option::is_none) {
                let path: Vec<String> = run
                    .iter()
                    .flatten()
                    .map(|(x, y)| format!("{x:.1},{y:.1}"))
                    .collect();
                if path.len() > 1 {
                    svg += &format!(
                        "<polyline class=\"{class}\" points=\"{}\"/>\n",
                        path.join(" ")
                    );
                } else if let [one] = path.as_slice()
                    && series.mark == Mark::Line
                {
                    let (cx, cy) = one.split_once(',').unwrap_or_default();
                    svg += &format!(
                        "<circle class=\"f{style}\" cx=\"{cx}\" cy=\"{cy}\" r=\"2.2\"/>\n"
                    );
                }
            }
            if series.mark == Mark::Dots {
                for (place, point) in places.iter().zip(&thinned) {
                    let Some((cx, cy)) = place else { continue };
                    let said = format!(
                        "{}, {}",
                        label(point.0, 1.0),
                        label(point.1, point.1.abs() * 1e-3)
                    );
                    svg += &format!(
                        "<circle class=\"f{style}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3\"><title>{said}</title></circle>\n"
                    );
                }
            }
        }
        svg + END
    }
}

/// At most some four points for each of `columns`: first, lowest, highest, last, so that no peak is lost. What is not finite in `y` stays as a gap.
#[must_use]
pub fn thin(points: &[(f64, f64)], columns: usize) -> Vec<(f64, f64)> {
    if points.len() <= 4 * columns {
        return points.to_vec();
    }
    let mut kept = Vec::with_capacity(4 * columns);
    for column in 0..columns {
        let at = |c: usize| c * points.len() / columns;
        let part = &points[at(column)..at(column + 1)];
        let by = |a: &usize, b: &usize| part[*a].1.total_cmp(&part[*b].1);
        let finite = || (0..part.len()).filter(|i| part[*i].1.is_finite());
        let gap = (0..part.len()).find(|i| !part[*i].1.is_finite());
        let mut chosen: Vec<usize> = [
            Some(0),
            finite().min_by(by),
            finite().max_by(by),
            gap,
            Some(part.len() - 1),
        ]
        .into_iter()
        .flatten()
        .collect();
        chosen.sort_unstable();
        chosen.dedup();
        kept.extend(chosen.into_iter().map(|i| part[i]));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chart(points: Vec<(f64, f64)>) -> Lines {
        let series = |mark, points: &[(f64, f64)]| Series {
            name: "a < b".into(),
            points: points.to_vec(),
            mark,
        };
        Lines {
            title: "loss & \"more\"".into(),
            x: Axis::new("step"),
            y: Axis::new("nats"),
            series: vec![
                series(Mark::Faint, &points),
                series(Mark::Line, &points),
                series(Mark::Dots, &points),
            ],
        }
    }

    #[test]
    fn gaps_stay_gaps() {
        let figure = chart(vec![
            (0.0, 1.0),
            (1.0, 2.0),
            (2.0, f64::NAN),
            (3.0, 2.0),
            (4.0, f64::INFINITY),
            (5.0, 1.0),
            (6.0, 0.5),
        ])
        .figure();
        assert_eq!(figure.matches("<polyline").count(), 6);
        // A value alone is a dot in the line, and five values of the third series are dots.
        assert_eq!(figure.matches("<circle").count(), 1 + 5);
        assert!(!figure.contains("NaN") && !figure.contains("inf"));
    }

    #[test]
    fn a_gap_survives_thinning() {
        let mut points: Vec<(f64, f64)> = (0..10_000)
            .map(|i| (f64::from(i), f64::from(i % 7)))
            .collect();
        points[5_551].1 = f64::NAN;
        let gaps: Vec<f64> = (thin(&points, 100).iter())
            .filter(|p| p.1.is_nan())
            .map(|p| p.0)
            .collect();
        assert_eq!(gaps, [5_551.0]);
    }

    #[test]
    fn a_million_points_are_as_much_as_can_be_seen() {
        let points: Vec<(f64, f64)> = (0..1_000_000)
            .map(f64::from)
            .map(|x| (x, (x * 0.01).sin()))
            .collect();
        let mut million = chart(points);
        million.series.truncate(2);
        let figure = million.figure();
        assert!(figure.len() < 100_000, "{} bytes", figure.len());
        assert_eq!(figure, million.figure());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn any_values_give_a_drawing(points in prop::collection::vec((prop::num::f64::ANY, prop::num::f64::ANY), 0..40), log: bool) {
            let mut chart = chart(points);
            (chart.x.log, chart.y.log) = (log, log);
            let figure = chart.figure();
            roxmltree::Document::parse(&figure).unwrap();
            prop_assert!(!figure.contains("NaN") && !figure.contains("inf"));
        }

        #[test]
        fn peaks_survive_thinning(mut values in prop::collection::vec(-1e6f64..1e6, 4_000..9_000), at: prop::sample::Index, columns in 20usize..200) {
            let place = at.index(values.len());
            values[place] = 2e6;
            let points: Vec<(f64, f64)> = values.iter().enumerate().map(|(i, v)| (i as f64, *v)).collect();
            let thinned = thin(&points, columns);
            prop_assert!(thinned.len() <= 5 * columns);
            prop_assert!(thinned.windows(2).all(|p| p[0].0 < p[1].0));
            prop_assert!(thinned.contains(&(place as f64, 2e6)));
            let lowest = |p: &[(f64, f64)]| p.iter().map(|p| p.1).fold(f64::INFINITY, f64::min);
            prop_assert_eq!(lowest(&thinned), lowest(&points));
            prop_assert_eq!((thinned[0], thinned[thinned.len() - 1]), (points[0], points[points.len() - 1]));
        }
    }
}
