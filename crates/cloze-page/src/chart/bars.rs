//! Amounts of categories.

use super::{Axis, Chart, END, Frame, STYLES, legend};
use crate::escape;
use crate::scale::label;

/// A chart of upright bars; those of several series stand side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct Bars {
    /// What it shows.
    pub title: String,
    /// What categories are.
    pub x: String,
    /// What is counted.
    pub y: Axis,
    /// Categories in order.
    pub categories: Vec<String>,
    /// Names, and an amount for each category.
    pub series: Vec<(String, Vec<f64>)>,
}

impl Chart for Bars {
    fn figure(&self) -> String {
        let frame = Frame {
            width: 540.0,
            height: 226.0,
            left: 48.0,
            bottom: 34.0,
        };
        let values = self.series.iter().flat_map(|s| s.1.iter().copied());
        let axis = self.y.clone().from_zero();
        let y = axis.scale(values, false);
        let names = self
            .series
            .iter()
            .enumerate()
            .map(|(i, s)| (i % STYLES, s.0.as_str()));
        let legend = legend(names, |i| {
            format!("<rect class=\"f{i}\" x=\"8\" y=\"0\" width=\"10\" height=\"10\"/>")
        });
        let mut svg = frame.open(&self.title, &legend);
        svg += &frame.y_axis(&y, &self.y.name);
        let count = self.categories.len().max(1) as f64;
        let slot = (frame.x(1.0) - frame.x(0.0)) / count;
        let width = 0.8 * slot / self.series.len().max(1) as f64;
        let floor = frame
            .y(y.place(if axis.log { f64::MIN_POSITIVE } else { 0.0 })
                .unwrap_or(0.0)
                .max(0.0));
        for (i, (name, values)) in self.series.iter().enumerate() {
            for (category, value) in values.iter().take(self.categories.len()).enumerate() {
                let Some(at) = y.place(*value) else { continue };
                let (x, top) = (
                    frame.left + slot * (category as f64 + 0.1) + width * i as f64,
                    frame.y(at),
                );
                let of = if name.is_empty() {
                    String::new()
                } else {
                    format!("{name}, ")
                };
                let said = format!(
                    "{of}{}: {}",
                    self.categories[category],
                    label(*value, value.abs() * 1e-3)
                );
                svg += &format!(
                    "<rect class=\"f{}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"><title>{}</title></rect>\n",
                    i % STYLES,
                    top.min(floor),
                    (width - 0.6).max(0.4),
                    (floor - top).abs(),
                    escape(&said)
                );
            }
        }
        svg += &frame.x_line(&self.x);
        // As many names as there is room for.
        let longest = self
            .categories
            .iter()
            .map(|c| c.chars().count())
            .max()
            .unwrap_or(1);
        let every = ((longest as f64 * 7.0 + 8.0) / slot).ceil().max(1.0) as usize;
        for (i, name) in self.categories.iter().enumerate().step_by(every) {
            svg += &format!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
                frame.left + slot * (i as f64 + 0.5),
                frame.height - frame.bottom + 15.0,
                escape(name)
            );
        }
        svg + END
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_high_as_their_values() {
        let bars = Bars {
            title: "rows".into(),
            x: "tokens".into(),
            y: Axis::new("rows"),
            categories: (0..3).map(|i| format!("{i} <")).collect(),
            series: vec![
                ("a".into(), vec![1.0, 2.0, f64::NAN]),
                ("b".into(), vec![4.0, 0.0, 3.0, 9.0]),
            ],
        };
        let figure = bars.figure();
        let document = roxmltree::Document::parse(&figure).unwrap();
        let heights: Vec<f64> = (document.descendants())
            .filter(|n| n.has_tag_name("rect") && n.children().any(|c| c.has_tag_name("title")))
            .map(|n| n.attribute("height").unwrap().parse().unwrap())
            .collect();
        assert_eq!(heights.len(), 5);
        assert!(
            (heights[1] - 2.0 * heights[0]).abs() < 0.2
                && (heights[2] - 4.0 * heights[0]).abs() < 0.4
        );
        assert_eq!(heights[3], 0.0);
        for empty in [vec![], vec![("".to_owned(), vec![])]] {
            let none = Bars {
                categories: vec![],
                series: empty,
                ..bars.clone()
            };
            roxmltree::Document::parse(&none.figure()).unwrap();
        }
    }
}
