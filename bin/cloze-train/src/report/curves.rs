//! Curves from the log.

use cloze_page::Page;
use cloze_page::chart::{Axis, Chart, Lines, Mark, Series};
use cloze_train::record::{Record, StepRecord};

use super::pair;

type Points = Vec<(f64, f64)>;

fn steps(records: &[Record], value: impl Fn(&StepRecord) -> Option<f64>) -> Points {
    let steps = records.iter().filter_map(|r| match r {
        Record::Train(step) => Some((step.step as f64, value(step)?)),
        _ => None,
    });
    steps.collect()
}

/// A running mean over a fortieth of the points, weighted alike, that begins with the first.
fn smooth(points: &[(f64, f64)]) -> Points {
    let half = points.len() / 80;
    let mean = |i: usize| {
        let near = &points[i.saturating_sub(half)..(i + half + 1).min(points.len())];
        let finite: Vec<f64> = near.iter().map(|p| p.1).filter(|v| v.is_finite()).collect();
        finite.iter().sum::<f64>() / finite.len() as f64
    };
    (0..points.len()).map(|i| (points[i].0, mean(i))).collect()
}

fn lines(title: &str, y: Axis, series: Vec<Series>) -> Lines {
    Lines {
        title: title.into(),
        x: Axis::new("step"),
        y,
        series,
    }
}

fn series(name: &str, mark: Mark, points: Points) -> Series {
    Series {
        name: name.into(),
        points,
        mark,
    }
}

/// The loss in training, and smoothed, and on validation rows.
fn loss(title: &str, training: Points, validation: Points) -> Lines {
    let smoothed = smooth(&training);
    let mut all = vec![
        series("", Mark::Faint, training),
        series("training", Mark::Line, smoothed),
    ];
    if !validation.is_empty() {
        all.push(series("validation", Mark::Dots, validation));
    }
    lines(title, Axis::new("nats"), all)
}

/// Adds the charts.
pub fn fill(page: &mut Page, records: &[Record]) {
    let validation = |value: &dyn Fn(&cloze_train::eval::EvalReport) -> Option<f64>| -> Points {
        let all = records.iter().filter_map(|r| match r {
            Record::Validation(v) => Some((v.step as f64, value(&v.report)?)),
            _ => None,
        });
        all.collect()
    };
    let mlm = steps(records, |s| Some(s.mlm_loss));
    let mut charts: Vec<Lines> = vec![loss("MLM loss", mlm, validation(&|r| r.mlm_loss))];
    let pairs = steps(records, |s| s.sop_loss.or(s.nsp_loss));
    if !pairs.is_empty() {
        let of = |r: &cloze_train::eval::EvalReport| pair(r).map(|p| p.1);
        let order = records
            .iter()
            .any(|r| matches!(r, Record::Train(s) if s.sop_loss.is_some()));
        let title = if order { "SOP loss" } else { "NSP loss" };
        charts.push(loss(title, pairs, validation(&of)));
    }
    let percent =
        |points: Points| -> Points { points.into_iter().map(|(x, y)| (x, 100.0 * y)).collect() };
    let right = percent(validation(&|r| r.mlm_accuracy));
    if right.len() > 1 {
        let mut all = vec![series("masked tokens", Mark::Dots, right)];
        let of_pairs = percent(validation(&|r| pair(r).map(|p| p.2)));
        if !of_pairs.is_empty() {
            all.push(series("pairs", Mark::Dots, of_pairs));
        }
        charts.push(lines(
            "Right on validation rows",
            Axis::new("%").from_zero(),
            all,
        ));
    }
    let speed = steps(records, |s| Some(s.tokens_per_second));
    charts.push(lines(
        "Throughput",
        Axis::new("tokens a second").from_zero(),
        vec![series("", Mark::Line, speed)],
    ));
    let rate = steps(records, |s| Some(s.learning_rate));
    charts.push(lines(
        "Learning rate",
        Axis::new("").from_zero(),
        vec![series("", Mark::Line, rate)],
    ));
    let norm = steps(records, |s| Some(s.grad_norm));
    let smoothed = smooth(&norm);
    let norms = vec![
        series("", Mark::Faint, norm),
        series("", Mark::Line, smoothed),
    ];
    charts.push(lines(
        "Norm of the gradient, before clipping",
        Axis::new("").log(),
        norms,
    ));
    let waiting = percent(steps(records, |s| Some(s.data_wait_fraction)));
    charts.push(lines(
        "Time spent waiting for data",
        Axis::new("% of a step").from_zero(),
        vec![series("", Mark::Line, waiting)],
    ));
    let all: Vec<&dyn Chart> = charts.iter().map(|c| c as &dyn Chart).collect();
    page.charts(&all);
    let skipped: Vec<String> = records
        .iter()
        .filter_map(|r| match r {
            Record::Skipped(s) => Some(format!("{} after step {}", s.skipped, s.step)),
            _ => None,
        })
        .collect();
    if !skipped.is_empty() {
        let shown = skipped
            .iter()
            .take(20)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        page.paragraph(&format!(
            "Steps that were not made, because their gradient was not finite: {shown}."
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_is_a_mean_of_neighbours() {
        let points: Points = (0..160).map(|i| (f64::from(i), f64::from(i % 2))).collect();
        let smoothed = smooth(&points);
        assert_eq!(smoothed.len(), 160);
        // Five neighbours: two or three of them are one.
        assert!(smoothed[2..158].iter().all(|p| (p.1 - 0.5).abs() < 0.11));
        let few = [(1.0, 5.0), (2.0, 7.0)];
        assert_eq!(smooth(&few), few);
    }
}
