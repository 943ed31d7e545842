//! Tables of a comparison: differences, scores, losses, costs.

use cloze_cli::format;

use super::super::args::{Budget, Objective};
use super::super::outcome::{Contrast, Outcome, is_share};
use super::super::settle::time;
use super::super::statistics::spread;
use super::super::verdict;
use super::{Cells, Told};

/// The differences that are judged.
pub fn contrasts(outcome: &Outcome) -> Cells {
    let judge = &outcome.judge;
    let header = [
        "",
        &format!("better by,{}", verdict::points(judge)),
        "seeds",
        "",
    ]
    .map(str::to_owned)
    .into();
    let rows = outcome.contrasts.iter().map(|c| {
        let d = &c.difference;
        let seen = match (d.is_seen(), d.knows_seeds) {
            (true, _) => "seen",
            (false, true) => "not seen",
            (false, false) => "one seed: not known",
        };
        vec![
            name(c),
            verdict::interval(judge, c),
            d.seeds.to_string(),
            seen.to_owned(),
        ]
    });
    (header, rows.collect())
}

fn name(c: &Contrast) -> String {
    match (c.of.start == c.to.start, c.to.objective) {
        (true, Objective::None) => format!(
            "{}, against the checkpoint as it is",
            c.of.objective.words()
        ),
        (true, _) => format!(
            "{}, against {}, from {}",
            c.of.objective.words(),
            c.to.objective.words(),
            c.of.start.name()
        ),
        (false, _) => format!(
            "{}, from the checkpoint against from scratch",
            c.of.objective.words()
        ),
    }
}

/// A mean over seeds, with its deviation.
fn cell(values: &[(u32, f64)], share: bool) -> String {
    if values.is_empty() {
        return "–".into();
    }
    let (mean, sd) = spread(&values.iter().map(|v| v.1).collect::<Vec<_>>());
    let show = |v: f64| match share {
        true => format!("{:.1}", 100.0 * v),
        false => format!("{v:.3}"),
    };
    match sd {
        Some(sd) => format!("{} ± {}", show(mean), show(sd)),
        None => show(mean),
    }
}

/// How many labelled examples there are.
pub fn examples(budget: Budget, rows: u64) -> String {
    match budget {
        Budget::All => format!("all ({})", format::count(rows)),
        Budget::Some(_) => format::count(rows),
    }
}

impl Told<'_> {
    /// Scores of every arm by number of labelled examples.
    pub(super) fn scores(&self) -> Cells {
        let judge = &self.outcome.judge;
        let mut header = vec!["arm".to_owned()];
        header.extend(
            self.outcome
                .budgets
                .iter()
                .map(|b| examples(b.budget, b.rows)),
        );
        let arms = self.arms();
        let rows = arms.iter().enumerate().map(|(i, arm)| {
            let scores = self
                .outcome
                .budgets
                .iter()
                .map(|b| cell(&b.scores[i], judge.is_share()));
            std::iter::once(arm.words()).chain(scores).collect()
        });
        (header, rows.collect())
    }

    /// What was measured on held-out text and queries.
    pub(super) fn measures(&self) -> Cells {
        let known = [
            ("mlm_loss", "MLM loss"),
            ("mlm_accuracy", "MLM accuracy, %"),
            ("mlm_loss_on_pairs", "MLM loss on pairs"),
            ("nsp_accuracy", "NSP accuracy, %"),
            ("sop_accuracy", "SOP accuracy, %"),
            ("ndcg_at_10", "nDCG@10"),
            ("mrr_at_10", "MRR@10"),
        ];
        let there = known.iter().filter(|(name, _)| {
            self.outcome
                .arms
                .iter()
                .any(|a| a.figures.contains_key(*name))
        });
        let there: Vec<_> = there.collect();
        let mut header = vec!["arm".to_owned()];
        header.extend(there.iter().map(|(_, words)| (*words).to_owned()));
        let rows = self
            .outcome
            .arms
            .iter()
            .filter_map(|a| Some((a, a.arm?)))
            .map(|(a, arm)| {
                let values = there.iter().map(|(name, _)| {
                    cell(
                        a.figures.get(*name).map_or(&[], Vec::as_slice),
                        is_share(name),
                    )
                });
                std::iter::once(arm.words()).chain(values).collect()
            });
        (header, rows.collect())
    }

    /// What each arm cost.
    pub(super) fn costs(&self) -> Cells {
        let header = [
            "arm",
            "seeds",
            "tokens each",
            "time each",
            "tokens a second",
        ]
        .map(str::to_owned)
        .into();
        let rows = self
            .outcome
            .arms
            .iter()
            .filter_map(|a| Some((a, a.arm?)))
            .filter(|(a, _)| !a.tokens.is_empty())
            .map(|(a, arm)| {
                let n = a.tokens.len();
                let tokens = a.tokens.iter().sum::<u64>() as f64 / n as f64;
                let seconds = a.seconds.iter().sum::<f64>() / n as f64;
                vec![
                    arm.words(),
                    n.to_string(),
                    format::short(tokens),
                    time(seconds),
                    format::short(tokens / seconds.max(1e-9)),
                ]
            });
        (header, rows.collect())
    }
}
