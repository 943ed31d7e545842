//! What a reader in a hurry takes away.

use std::time::Duration;

use cloze_cli::format;
use cloze_train::eval::EvalReport;
use cloze_train::record::{Record, StepRecord, ValidationRecord};
use cloze_train::{PretrainConfig, Summary};

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

/// Steps that the log tells of, and those of them that were not made.
fn logged(records: &[Record]) -> (u64, u64) {
    let steps = records.iter().map(Record::step).max();
    let skipped = records.iter().rev().find_map(|r| match r {
        Record::Skipped(s) => Some(s.skipped_total),
        _ => None,
    });
    (steps.unwrap_or(0), skipped.unwrap_or(0))
}

/// Before what a run was stopped.
pub fn stopped_before(config: &PretrainConfig, summary: &Summary) -> String {
    match config.hours {
        _ if summary.steps >= config.steps => "its last evaluation".into(),
        Some(hours) => format!("its {hours} hours were over"),
        None => format!("its last step, {}", format::count(config.steps)),
    }
}

/// How long the steps took, in all processes one after another, without evaluations and checkpoints.
fn training_time(records: &[Record]) -> Option<Duration> {
    let (mut seconds, mut before) = (0.0, 0);
    for record in records {
        if let Record::Train(step) = record {
            seconds += step.step.saturating_sub(before) as f64 * step.step_seconds;
            before = step.step;
        }
    }
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|t| !t.is_zero())
}

/// What was trained, for how long, and where it came to. `model` is its `config.json`.
pub fn lead(run: &Run<'_>, model: &serde_json::Value, records: &[Record]) -> String {
    let (steps, skipped) = match run.end {
        Ok(summary) => (summary.steps, summary.skipped),
        Err(_) => logged(records),
    };
    let steps = format::counted(steps, "step");
    let tokens = last_step(records).map_or(0, |s| s.tokens);
    let names: Vec<String> = run
        .datasets
        .iter()
        .map(|d| d.display().to_string())
        .collect();
    let size = |name: &str, old: &str| model.get(name).or_else(|| model.get(old))?.as_u64();
    let size = size("num_hidden_layers", "n_layers").zip(size("hidden_size", "dim"));
    let what = size.map_or_else(String::new, |(layers, width)| {
        let s = if layers == 1 { "" } else { "s" };
        format!("A model of {layers} layer{s}, {width} wide: ")
    });
    let time = training_time(records);
    let time = time.map_or_else(String::new, |t| format!(" in {}", format::duration(t)));
    let mut text = format!(
        "{what}{steps} on {} tokens of {}{time}.",
        format::count(tokens),
        names.join(", ")
    );
    match run.end {
        Ok(summary) if summary.stopped => {
            let before = stopped_before(run.config, summary);
            text += &format!(" It was stopped before {before}; --resume goes on.");
        }
        Ok(_) => {}
        Err(error) => {
            let why = error.to_string();
            text += &format!(
                " It could not go on: {}.",
                why.trim_end_matches(['…', ',', ' '])
            );
        }
    }
    let validations = validations(records);
    if let (Some(first), Some(last)) = (validations.first(), validations.last()) {
        text += &match first.step == last.step {
            true => format!(" {}", was(last)),
            false => format!(" {}", came_to(&first.report, &last.report)),
        };
        // As the trainer has it: by the weighted sum, and after a step.
        let sum = |v: &ValidationRecord| weighted(run.config, &v.report);
        let after = validations.iter().filter(|v| v.step > 0);
        let best = after.min_by(|a, b| sum(a).total_cmp(&sum(b)));
        if let Some(best) = best
            && best.step != last.step
        {
            let step = format::count(best.step);
            text += &format!(
                " The best was {:.3}, after step {step}; it is in best/.",
                loss(best)
            );
        }
        if let Some(best) = best
            && first.step == 0
            && sum(first) < sum(best)
        {
            text += &format!(" No step made it better than it began, {:.3}.", loss(first));
        }
    } else {
        text += " It was not measured on validation rows: there are none.";
    }
    if skipped > 0 {
        let skipped = format::counted(skipped, "step");
        text += &format!(" Not made, because the gradient was not finite: {skipped}.");
    }
    text
}

/// The sum that a run's best model is chosen by; what is none is worse than all.
fn weighted(config: &PretrainConfig, report: &EvalReport) -> f64 {
    config.weighted(report).unwrap_or(f64::INFINITY)
}

/// What to say where a run ends worse than it began, by its evaluations before the first step and after the last.
pub fn became_worse(config: &PretrainConfig, records: &[Record]) -> Option<String> {
    let validations = validations(records);
    let (first, last) = (validations.first()?, validations.last()?);
    let is_worse = weighted(config, &last.report) > weighted(config, &first.report);
    (first.step == 0 && last.step > 0 && is_worse).then(|| {
        format!(
            "the model is worse on validation rows than it was at the beginning (mlm {:.3}, was {:.3}): try a smaller --learning-rate or a longer --warmup-steps",
            loss(last),
            loss(first)
        )
    })
}

fn loss(record: &ValidationRecord) -> f64 {
    record.report.mlm_loss.unwrap_or(f64::INFINITY)
}

/// The only evaluation.
fn was(only: &ValidationRecord) -> String {
    let loss = only.report.mlm_loss.unwrap_or(f64::NAN);
    format!(
        "On {} validation rows the MLM loss was {loss:.3} nats (perplexity {:.1}) after step {}; it was not measured again.",
        format::count(only.report.rows),
        loss.exp(),
        format::count(only.step)
    )
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
    let steps = run.end.map_or_else(|_| logged(records).0, |s| s.steps);
    let mut figures = vec![("steps", format::count(steps))];
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_worse_than_it_began_is_told() {
        let line = |step: u64, mlm: f64, nsp: f64| -> Record {
            let line = serde_json::json!({"kind": "validation", "step": step, "mlm_loss": mlm, "mlm_accuracy": 0.1, "perplexity": 9.0, "nsp_loss": nsp,
                "nsp_accuracy": 0.5, "sop_loss": null, "sop_accuracy": null, "rows": 9, "tokens": 99, "masked_tokens": 9, "labelled_rows": 9});
            serde_json::from_value(line).unwrap()
        };
        let config = PretrainConfig::default();
        let told = |lines: &[Record]| became_worse(&config, lines);
        let worse = told(&[line(0, 6.4, 0.7), line(10, 5.0, 0.6), line(20, 7.7, 0.6)]).unwrap();
        assert!(worse.contains("(mlm 7.700, was 6.400)"), "{worse}");
        assert_eq!(told(&[line(0, 6.4, 0.7), line(20, 6.3, 0.7)]), None);
        assert_eq!(
            told(&[line(10, 6.4, 0.7), line(20, 9.0, 0.7)]),
            None,
            "the beginning is not known"
        );
        assert_eq!(told(&[line(0, 6.4, 0.7)]), None);
        // The sum is what counts, where there are two.
        assert!(told(&[line(0, 6.4, 0.7), line(20, 6.3, 1.7)]).is_some());
        let alone = PretrainConfig {
            objective: cloze_train::engine::Objective::Mlm,
            ..config.clone()
        };
        assert_eq!(
            became_worse(&alone, &[line(0, 6.4, 0.7), line(20, 6.3, 1.7)]),
            None
        );
        assert!(
            told(&[line(0, 6.4, 0.7), line(20, f64::NAN, 0.7)]).is_none_or(|w| w.contains("NaN"))
        );
    }

    #[test]
    fn time_is_that_of_all_steps_not_only_of_logged_ones() {
        let line = |step: u64, seconds: f64| {
            let line = serde_json::json!({"kind": "train", "step": step, "epoch": 0, "loss": 1.0, "mlm_loss": 1.0, "nsp_loss": null, "learning_rate": 0.1,
                "grad_norm": 1.0, "tokens": 9, "tokens_per_second": 1.0, "data_wait_fraction": 0.0, "step_seconds": seconds});
            serde_json::from_value(line).unwrap()
        };
        let time = training_time(&[line(2, 0.5), line(12, 3.0), line(13, 4.0)]);
        assert_eq!(time, Some(Duration::from_secs(35)));
        assert_eq!(training_time(&[]), None);
        assert_eq!(training_time(&[line(2, -1.0)]), None);
    }
}
