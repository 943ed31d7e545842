//! Plots of a comparison.

use cloze_page::chart::{Axis, Interval, Intervals, Lines, Mark, Series};

use super::super::args::{Objective, Start};
use super::super::outcome::Contrast;
use super::super::statistics::spread;
use super::super::verdict;
use super::Told;

fn short(c: &Contrast) -> String {
    match (c.of.start == c.to.start, c.to.objective) {
        (true, Objective::None) => format!("{} − none", c.of.objective.name()),
        (true, to) => format!(
            "{} − {}, {}",
            c.of.objective.name(),
            to.name(),
            c.of.start.name()
        ),
        (false, _) => format!("{}: checkpoint − scratch", c.of.objective.name()),
    }
}

impl Told<'_> {
    pub(super) fn intervals(&self) -> Intervals {
        let judge = &self.outcome.judge;
        let scale = if judge.is_share() { 100.0 } else { 1.0 };
        let unit = verdict::points(judge).trim();
        let rows = self.outcome.contrasts.iter().map(|c| {
            let d = &c.difference;
            Interval {
                name: short(c),
                middle: scale * d.mean,
                low: scale * d.low,
                high: scale * d.high,
                points: d.by_seed.iter().map(|v| scale * v).collect(),
            }
        });
        Intervals {
            title: format!("How much better, in {}", verdict::metric(judge)),
            x: Axis::new(&format!("better by, {unit}; small dots are seeds")),
            reference: Some(0.0),
            rows: rows.collect(),
        }
    }

    /// Scores of the arms that begin there by amounts of labels; `None` where none is done.
    pub(super) fn by_budget(&self, start: Start) -> Option<Lines> {
        let judge = &self.outcome.judge;
        let scale = if judge.is_share() { 100.0 } else { 1.0 };
        let arms = self.arms();
        let own = arms
            .iter()
            .enumerate()
            .filter(|(_, arm)| arm.start == start);
        let series = own.map(|(i, arm)| Series {
            name: arm.objective.name().to_owned(),
            mark: Mark::Dots,
            points: (self.outcome.budgets.iter())
                .filter(|b| !b.scores[i].is_empty())
                .map(|b| {
                    let (mean, _) = spread(&b.scores[i].iter().map(|v| v.1).collect::<Vec<_>>());
                    (b.rows as f64, scale * mean)
                })
                .collect(),
        });
        let series: Vec<Series> = series.collect();
        let is_some = series.iter().any(|s| !s.points.is_empty());
        is_some.then(|| Lines {
            title: format!(
                "{} by labelled examples, from {}",
                verdict::metric(judge),
                start.words()
            ),
            x: Axis::new("labelled examples").log(),
            y: Axis::new(if judge.is_share() { "%" } else { "" }),
            series,
        })
    }

    pub(super) fn curves(&self, start: Start) -> Option<Lines> {
        let own = self
            .outcome
            .arms
            .iter()
            .filter(|a| a.arm.is_some_and(|arm| arm.start == start) && !a.curve.is_empty());
        let series: Vec<Series> = own
            .map(|a| Series {
                name: a
                    .arm
                    .map(|arm| arm.objective.name().to_owned())
                    .unwrap_or_default(),
                mark: Mark::Dots,
                points: a.curve.clone(),
            })
            .collect();
        (!series.is_empty()).then(|| Lines {
            title: format!("From {}", start.words()),
            x: Axis::new("tokens"),
            y: Axis::new("MLM loss, nats"),
            series,
        })
    }
}
