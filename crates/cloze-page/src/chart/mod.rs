//! Charts as inline SVG: [`Lines`], [`Bars`], [`Intervals`].
//!
//! Series differ by colour (after Okabe and Ito's palette, which the colour-blind tell apart) and by dashes. Values that are not finite are gaps.

mod bars;
mod intervals;
mod lines;

pub use bars::Bars;
pub use intervals::{Interval, Intervals};
pub use lines::{Lines, Mark, Series, thin};

use crate::escape;
use crate::scale::{Scale, label};

/// Something that is drawn.
pub trait Chart {
    /// A `<figure>`.
    fn figure(&self) -> String;
}

/// An axis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Axis {
    /// What it shows, with its unit.
    pub name: String,
    /// Whether it is logarithmic.
    pub log: bool,
    /// Whether it begins at zero, whatever the values.
    pub from_zero: bool,
}

impl Axis {
    /// A linear axis.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// The same axis, logarithmic.
    #[must_use]
    pub fn log(mut self) -> Self {
        self.log = true;
        self
    }

    /// The same axis, from zero.
    #[must_use]
    pub fn from_zero(mut self) -> Self {
        self.from_zero = true;
        self
    }

    fn scale(&self, values: impl Iterator<Item = f64>, tight: bool) -> Scale {
        let scale = Scale::of(values, self.log, tight);
        if self.from_zero && !self.log {
            scale.from(0.0)
        } else {
            scale
        }
    }
}

/// Colours and dashes that there are.
const STYLES: usize = 6;

/// The place that values are drawn in, and around it room for numbers.
#[derive(Clone, Copy, Debug)]
struct Frame {
    width: f64,
    height: f64,
    left: f64,
    bottom: f64,
}

const TOP: f64 = 24.0;
const RIGHT: f64 = 14.0;

impl Frame {
    fn x(&self, at: f64) -> f64 {
        self.left + at * (self.width - self.left - RIGHT)
    }

    fn y(&self, at: f64) -> f64 {
        self.height - self.bottom - at * (self.height - self.bottom - TOP)
    }

    /// Opens the figure and its drawing.
    fn open(&self, title: &str, legend: &str) -> String {
        let title = escape(title);
        format!(
            "<figure>\n<figcaption>{title}</figcaption>\n{legend}<svg viewBox=\"0 0 {:.0} {:.0}\" role=\"img\" aria-label=\"{title}\">\n<title>{title}</title>\n",
            self.width, self.height
        )
    }

    /// Numbers and lines of the upright axis, and its name above.
    fn y_axis(&self, scale: &Scale, name: &str) -> String {
        let mut svg = String::new();
        let (ticks, step) = numbers(scale, 5);
        for tick in ticks {
            let Some(at) = scale.place(tick) else {
                continue;
            };
            let y = self.y(at);
            svg += &format!(
                "<line class=\"grid\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                self.left,
                self.width - RIGHT,
                self.left - 6.0,
                y + 3.5,
                label(tick, step(tick))
            );
        }
        svg + &format!("<text x=\"2\" y=\"10\">{}</text>\n", escape(name))
    }

    /// Numbers of the level axis, and its name below.
    fn x_axis(&self, scale: &Scale, name: &str) -> String {
        let mut svg = self.x_line(name);
        let (ticks, step) = numbers(scale, 6);
        for tick in ticks {
            let Some(at) = scale.place(tick) else {
                continue;
            };
            svg += &format!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
                self.x(at),
                self.height - self.bottom + 15.0,
                label(tick, step(tick))
            );
        }
        svg
    }

    fn x_line(&self, name: &str) -> String {
        let (y, right) = (self.y(0.0), self.width - RIGHT);
        format!(
            "<line class=\"axis\" x1=\"{:.1}\" x2=\"{right:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"{right:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
            self.left,
            self.height - 4.0,
            escape(name)
        )
    }
}

const END: &str = "</svg>\n</figure>\n";

/// Round numbers of a scale, and how far apart they are where a number stands.
fn numbers(scale: &Scale, count: usize) -> (Vec<f64>, impl Fn(f64) -> f64 + use<>) {
    let ticks = scale.ticks(count);
    let even = ticks.len() > 1 && {
        let step = ticks[1] - ticks[0];
        ticks
            .windows(2)
            .all(|t| ((t[1] - t[0]) - step).abs() < 1e-6 * step)
    };
    let step = if even {
        Some(ticks[1] - ticks[0])
    } else {
        None
    };
    (ticks, move |tick: f64| step.unwrap_or(tick.abs()))
}

/// What each style stands for; nothing for a single series.
fn legend<'a>(
    names: impl Iterator<Item = (usize, &'a str)>,
    swatch: impl Fn(usize) -> String,
) -> String {
    let items: Vec<String> = names
        .filter(|(_, name)| !name.is_empty())
        .map(|(i, name)| {
            format!(
                "<li><svg viewBox=\"0 0 26 10\" aria-hidden=\"true\">{}</svg>{}</li>",
                swatch(i),
                escape(name)
            )
        })
        .collect();
    match items.len() {
        0 | 1 => String::new(),
        _ => format!("<ul class=\"legend\">{}</ul>\n", items.join("")),
    }
}
