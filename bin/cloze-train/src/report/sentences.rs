//! What a reader in a hurry takes away.

use cloze_cli::format;
use cloze_train::eval::EvalReport;
use cloze_train::record::{Record, StepRecord, ValidationRecord};

use super::{Run, pair};

/// The last logged step.
fn last_step(records: &[Record]) -> Option<&StepRecord> {
    records.iter().rev().find_map(|r| match r {
        Record::Train(step) => Some(step),
        _ => None,
    })
}

fn validations(records: &[Record]) -> Vec<&ValidationRecord> {
    let all = records.iter().filter_map(|r| match r {
        Record::Validation(v) if v.report.mlm_loss.is_some() => Some(v),
        _ => None,
    });
    all.collect()
}

/// What was trained, for how long, and where it came to.
pub fn lead(run: &Run<'_>, records: &[Record]) -> String {
    let steps = format::count(run.summary.steps);
    let tokens = last_step(records).map_or(0, |s| s.tokens);
    let names: Vec<String> = run
        .datasets
        .iter()
        .map(|d| d.display().to_string())
        .collect();
    let mut text = format!(
        "{steps} steps on {} tokens of {}.",
        format::count(tokens),
        names.join(", ")
    );
    if run.summary.stopped {
        let of = format::count(run.config.steps);
        text += &format!(" It was stopped before its last step, {of}; --resume goes on.");
    }
    let validations = validations(records);
    if let (Some(first), Some(last)) = (validations.first(), validations.last()) {
        text += &format!(" {}", came_to(&first.report, &last.report));
        let best = validations
            .iter()
            .min_by(|a, b| loss(a).total_cmp(&loss(b)));
        if let Some(best) = best
            && best.step != last.step
        {
            let step = format::count(best.step);
            text += &format!(
                " The best was {:.3}, after step {step}; it is in best/.",
                loss(best)
            );
        }
    } else {
        text += " It was not measured on validation rows: there are none.";
    }
    if run.summary.skipped > 0 {
        let skipped = format::count(run.summary.skipped);
        text += &format!(" {skipped} steps were not made, because their gradient was not finite.");
    }
    text
}

fn loss(record: &ValidationRecord) -> f64 {
    record.report.mlm_loss.unwrap_or(f64::INFINITY)
}

fn came_to(first: &EvalReport, last: &EvalReport) -> String {
    let (Some(before), Some(after)) = (first.mlm_loss, last.mlm_loss) else {
        return String::new();
    };
    let mut text = format!(
        "On {} validation rows the MLM loss went from {before:.3} to {after:.3} nats (perplexity {:.1} to {:.1})",
        format::count(last.rows),
        before.exp(),
        after.exp()
    );
    if let (Some((_, _, before)), Some((name, _, after))) = (pair(first), pair(last)) {
        let (before, after) = (format::percent(before), format::percent(after));
        text += &format!(", the accuracy of {name} from {before} to {after}");
    }
    text + "."
}

/// Figures that matter most.
pub fn figures(run: &Run<'_>, records: &[Record]) -> Vec<(&'static str, String)> {
    let mut figures = vec![("steps", format::count(run.summary.steps))];
    if let Some(step) = last_step(records) {
        figures.push(("tokens", format::count(step.tokens)));
    }
    if let Some(last) = validations(records).last() {
        let report = &last.report;
        if let Some(loss) = report.mlm_loss {
            figures.push(("validation MLM loss", format!("{loss:.3}")));
        }
        if let Some(accuracy) = report.mlm_accuracy {
            figures.push(("masked tokens right", format::percent(accuracy)));
        }
        if let Some((name, _, accuracy)) = pair(report) {
            let name = if name == "SOP" {
                "order right (SOP)"
            } else {
                "pairs right (NSP)"
            };
            figures.push((name, format::percent(accuracy)));
        }
    }
    let mut speeds: Vec<f64> = records
        .iter()
        .filter_map(|r| match r {
            Record::Train(step) => Some(step.tokens_per_second),
            _ => None,
        })
        .collect();
    speeds.sort_by(f64::total_cmp);
    if let Some(median) = speeds.get(speeds.len() / 2) {
        figures.push(("tokens a second, median", format::count(*median as u64)));
    }
    figures
}
