//! Estimates with their uncertainty.

use super::{Axis, Chart, END, Frame};
use crate::escape;
use crate::scale::label;

/// An estimate.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// Of what.
    pub name: String,
    /// The estimate.
    pub middle: f64,
    /// Where it may lie.
    pub low: f64,
    /// Where it may lie.
    pub high: f64,
    /// What it was made from, shown as small dots.
    pub points: Vec<f64>,
}

/// A chart of estimates, one below the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Intervals {
    /// What it shows.
    pub title: String,
    /// What is estimated.
    pub x: Axis,
    /// A value that others are compared with.
    pub reference: Option<f64>,
    /// From above.
    pub rows: Vec<Interval>,
}

const ROW: f64 = 26.0;

impl Chart for Intervals {
    fn figure(&self) -> String {
        let longest = self
            .rows
            .iter()
            .map(|r| r.name.chars().count())
            .max()
            .unwrap_or(0);
        let frame = Frame {
            width: 600.0,
            height: 54.0 + ROW * self.rows.len() as f64,
            left: (longest as f64 * 7.2 + 14.0).clamp(60.0, 300.0),
            bottom: 34.0,
        };
        let all = self
            .rows
            .iter()
            .flat_map(|r| r.points.iter().copied().chain([r.low, r.middle, r.high]));
        let x = self.x.scale(all.chain(self.reference), false);
        let mut svg = frame.open(&self.title, "");
        svg += &frame.x_axis(&x, &self.x.name);
        if let Some(at) = self.reference.and_then(|r| x.place(r)) {
            let at = frame.x(at);
            svg += &format!(
                "<line class=\"axis d1\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"10\" y2=\"{:.1}\"/>\n",
                frame.y(0.0)
            );
        }
        for (i, row) in self.rows.iter().enumerate() {
            let y = 18.0 + ROW * (i as f64 + 0.5);
            let place = |v: f64| x.place(v).map(|at| frame.x(at));
            svg += &format!(
                "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                frame.left - 8.0,
                y + 4.0,
                escape(&row.name)
            );
            for point in row.points.iter().filter_map(|p| place(*p)) {
                svg += &format!(
                    "<circle class=\"f5\" opacity=\".55\" cx=\"{point:.1}\" cy=\"{y:.1}\" r=\"2\"/>\n"
                );
            }
            if let (Some(low), Some(high)) = (place(row.low), place(row.high)) {
                svg += &format!(
                    "<line class=\"line s0\" x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\n"
                );
                for end in [low, high] {
                    svg += &format!(
                        "<line class=\"line s0\" x1=\"{end:.1}\" x2=\"{end:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\n",
                        y - 4.0,
                        y + 4.0
                    );
                }
            }
            if let Some(middle) = place(row.middle) {
                let number = |v: f64| label(v, row.middle.abs().max(1e-9) * 1e-3);
                let said = format!(
                    "{}: {} ({} to {})",
                    row.name,
                    number(row.middle),
                    number(row.low),
                    number(row.high)
                );
                svg += &format!(
                    "<circle class=\"f0\" cx=\"{middle:.1}\" cy=\"{y:.1}\" r=\"4\"><title>{}</title></circle>\n",
                    escape(&said)
                );
            }
        }
        svg + END
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_lies_around_its_middle() {
        let row = |name: &str, middle, low, high| Interval {
            name: name.into(),
            middle,
            low,
            high,
            points: vec![middle, f64::NAN],
        };
        let chart = Intervals {
            title: "difference".into(),
            x: Axis::new("F1"),
            reference: Some(0.0),
            rows: vec![
                row("a & b", 0.5, 0.25, 1.0),
                row("none", f64::NAN, f64::NAN, f64::NAN),
            ],
        };
        let figure = chart.figure();
        let document = roxmltree::Document::parse(&figure).unwrap();
        let number = |n: roxmltree::Node<'_, '_>, name: &str| {
            n.attribute(name).unwrap().parse::<f64>().unwrap()
        };
        let bar = document
            .descendants()
            .find(|n| n.attribute("class") == Some("line s0"))
            .unwrap();
        let dot = document
            .descendants()
            .find(|n| n.attribute("class") == Some("f0"))
            .unwrap();
        let (low, high, middle) = (number(bar, "x1"), number(bar, "x2"), number(dot, "cx"));
        assert!(((middle - low) / (high - low) - 1.0 / 3.0).abs() < 0.01);
        assert_eq!(figure.matches("class=\"name\"").count(), 2);
        let none = Intervals {
            rows: vec![],
            reference: None,
            ..chart
        };
        roxmltree::Document::parse(&none.figure()).unwrap();
    }
}
