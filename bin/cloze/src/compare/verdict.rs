//! What to do, in words, and how sure that is.

use super::args::{Objective, Start};
use super::outcome::{Contrast, Judge, Outcome};
use super::plan::Arm;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// One sentence that says it.
    pub lead: String,
    /// What else is asked, a sentence each.
    pub rest: Vec<String>,
}

/// What models may gain on dev in the second half of fine-tuning and still be called done: with a rate that goes to 0, the last half adds little to what was learned.
const STILL_RISING: f64 = 0.03;

impl Verdict {
    /// All of it.
    pub fn text(&self) -> String {
        let all: Vec<&str> = std::iter::once(&self.lead)
            .chain(&self.rest)
            .map(String::as_str)
            .collect();
        all.join("\n")
    }
}

/// A value as people read it.
pub fn value(judge: &Judge, value: f64) -> String {
    match judge.is_share() {
        true => format!("{:.1} %", 100.0 * value),
        false => format!("{value:.3}"),
    }
}

/// A difference, with its sign.
pub fn signed(judge: &Judge, value: f64) -> String {
    let text = match judge.is_share() {
        true => format!("{:+.1}", 100.0 * value),
        false => format!("{value:+.3}"),
    };
    text.replace('-', "−")
}

/// A difference with its interval.
pub fn interval(judge: &Judge, c: &Contrast) -> String {
    let d = &c.difference;
    format!(
        "{}, {} to {}",
        signed(judge, d.mean),
        signed(judge, d.low),
        signed(judge, d.high)
    )
}

/// The metric as people call it.
pub fn metric(judge: &Judge) -> String {
    match judge.name.as_str() {
        "mlm_loss" => "the MLM loss on held-out text".into(),
        name => name.replace('_', " "),
    }
}

/// The unit of a difference, after a blank.
pub fn points(judge: &Judge) -> &'static str {
    match (judge.is_share(), judge.name.as_str()) {
        (true, _) => " points",
        (false, "mlm_loss") => " nats",
        _ => "",
    }
}

/// The arm that is to be taken, with the reason.
fn choice(outcome: &Outcome) -> (Option<Arm>, Vec<&Contrast>) {
    let further: Vec<&Contrast> = outcome
        .contrasts
        .iter()
        .filter(|c| c.to.objective == Objective::None)
        .collect();
    let helps: Vec<&Contrast> = further
        .iter()
        .copied()
        .filter(|c| c.difference.is_seen() && c.difference.mean > 0.0)
        .collect();
    let mlm = helps.iter().find(|c| c.of.objective == Objective::Mlm);
    // MLM alone is the simplest; another has to be seen to be better.
    let better = helps.iter().filter(|c| {
        let mlm = Arm {
            objective: Objective::Mlm,
            ..c.of
        };
        let over = outcome.contrast(c.of, mlm);
        over.is_some_and(|o| o.difference.is_seen() && o.difference.mean > 0.0)
    });
    let best = |a: &&&Contrast, b: &&&Contrast| a.difference.mean.total_cmp(&b.difference.mean);
    let chosen = better
        .max_by(best)
        .or(mlm)
        .or_else(|| helps.iter().max_by(best));
    (chosen.map(|c| c.of), further)
}

/// What to do, after all that came out.
pub fn of(outcome: &Outcome) -> Verdict {
    let judge = &outcome.judge;
    let mut rest = Vec::new();
    let none = Arm {
        start: Start::Checkpoint,
        objective: Objective::None,
    };
    let (chosen, further) = choice(outcome);
    let all_of_it = format!("{}{}", metric(judge), with(judge));
    let knows = outcome.contrasts.iter().any(|c| c.difference.knows_seeds);
    let lead = if outcome.contrasts.is_empty() {
        "Nothing can be said yet: no two arms that answer a question are done.".to_owned()
    } else if outcome.contrasts.iter().all(is_nothing) {
        "Nothing can be told: all models give the same answers, as they do where the task was not learned. More labelled examples, more --epochs or a higher --finetune-learning-rate may change that.".to_owned()
    } else if !knows {
        "Nothing can be said for sure: with the seeds that are done a difference cannot be told from chance. The figures below are what there is.".to_owned()
    } else if let Some(chosen) = chosen {
        let c = further.iter().find(|c| c.of == chosen).copied();
        let said = c.map(|c| interval(judge, c)).unwrap_or_default();
        let means = outcome.means(none, chosen);
        let means = means.map(|(a, b)| (value(judge, a), value(judge, b)));
        let (before, after) = means.unwrap_or_else(|| ("–".into(), "–".into()));
        format!(
            "Pre-train further with {}: {all_of_it} goes from {before} to {after} (better by {said}{}).",
            chosen.objective.words(),
            points(judge)
        )
    } else if further.is_empty() {
        let none = outcome.arms.iter().find(|a| a.arm == Some(none));
        match none.map(|none| &none.not_measured) {
            None => "Whether further pre-training helps was not asked; what was compared follows.",
            Some(Some(_)) => "Whether further pre-training helps cannot be told: the checkpoint as it is could not be measured. What was compared follows.",
            Some(None) => "Whether further pre-training helps is not known yet: the checkpoint as it is, or what it is compared with, is not done. What was compared follows.",
        }
        .to_owned()
    } else if let Some(worse) = further.iter().find(|c| c.difference.is_seen()) {
        format!(
            "Keep the checkpoint as it is: further pre-training with {} made {all_of_it} worse ({}{}), and none was seen to make it better.",
            worse.of.objective.words(),
            interval(judge, worse),
            points(judge)
        )
    } else {
        let widest = further
            .iter()
            .map(|c| c.difference.high)
            .fold(f64::NEG_INFINITY, f64::max);
        let ruled_out = match widest {
            all if judge.is_share() && all >= 0.5 => {
                "These models say next to nothing, though: more seeds are needed.".to_owned()
            }
            _ => format!(
                "A gain of more than {}{} is ruled out.",
                signed(judge, widest.max(0.0)),
                points(judge)
            ),
        };
        format!(
            "No difference seen: none of the ways to pre-train further changed {all_of_it} by more than chance might. {ruled_out}"
        )
    };
    for c in further.iter().filter(|c| Some(c.of) != chosen) {
        rest.push(sentence(
            judge,
            c,
            &format!(
                "{} against the checkpoint as it is",
                capital(c.of.objective.words())
            ),
        ));
    }
    for c in outcome
        .contrasts
        .iter()
        .filter(|c| c.to.objective == Objective::Mlm && c.of.objective != Objective::Mlm)
    {
        let from = match c.of.start {
            Start::Checkpoint => "from the checkpoint",
            Start::Scratch => "from scratch",
        };
        rest.push(sentence(
            judge,
            c,
            &format!(
                "{} against MLM alone, {from}",
                capital(c.of.objective.words())
            ),
        ));
    }
    for c in outcome
        .contrasts
        .iter()
        .filter(|c| c.to.start == Start::Scratch && c.of.start == Start::Checkpoint)
    {
        rest.push(sentence(
            judge,
            c,
            &format!("The checkpoint against scratch, {}", c.of.objective.words()),
        ));
    }
    if knows {
        let k = outcome.contrasts.len();
        let level = outcome
            .contrasts
            .first()
            .map_or(0.95, |c| c.difference.level);
        let planned = outcome.planned.max(k);
        rest.push(match planned {
            1 => "The interval is right with 95 %.".to_owned(),
            _ if planned == k => format!("All {k} intervals together are right with 95 %, each by itself with {:.2} % (Bonferroni).", 100.0 * level),
            _ => format!(
                "Intervals are made for all {planned} differences that were planned, of which {k} {} here: those of all together are right with 95 %, each by itself with {:.2} % (Bonferroni).",
                if k == 1 { "is" } else { "are" },
                100.0 * level
            ),
        });
    }
    if let Some(gain) =
        (outcome.budgets.last()).and_then(|b| b.second_half.filter(|g| *g > STILL_RISING))
    {
        rest.push(format!(
            "Fine-tuning was short: on dev, models still became better by {}{} in its second half, so scores say how fast they learn the task more than how well they end. A higher --finetune-learning-rate or more --epochs would tell.",
            signed(judge, gain),
            points(judge)
        ));
    }
    if !outcome.missing.0.is_empty() {
        let (missing, all) = (outcome.missing.0.len(), outcome.missing.1);
        rest.push(format!(
            "This is preliminary: {missing} of {all} models are not done."
        ));
    }
    Verdict { lead, rest }
}

/// Whether two arms are the same, whatever examples and seeds are looked at.
fn is_nothing(c: &Contrast) -> bool {
    let d = &c.difference;
    d.mean == 0.0 && d.low == 0.0 && d.high == 0.0
}

fn with(judge: &Judge) -> String {
    match judge.budget {
        None => String::new(),
        Some(super::args::Budget::All) => " after fine-tuning on all labelled examples".into(),
        Some(n) => format!(" after fine-tuning on {n} labelled examples"),
    }
}

fn sentence(judge: &Judge, c: &Contrast, what: &str) -> String {
    let d = &c.difference;
    let found = match (d.is_seen(), d.mean > 0.0) {
        (false, _) => "no difference seen",
        (true, true) => "better",
        (true, false) => "worse",
    };
    format!("{what}: {found} ({}{}).", interval(judge, c), points(judge))
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_uppercase().chain(characters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::Budget;
    use super::super::outcome::{ArmOutcome, BudgetOutcome, Question};
    use super::super::statistics::Difference;
    use super::*;

    fn arm(objective: Objective) -> Arm {
        Arm {
            start: Start::Checkpoint,
            objective,
        }
    }

    fn outcome(differences: &[(Objective, Objective, f64, f64)]) -> Outcome {
        let objectives = [Objective::None, Objective::Mlm, Objective::MlmNsp];
        Outcome {
            judge: Judge {
                name: "accuracy".into(),
                budget: Some(Budget::All),
            },
            arms: objectives
                .iter()
                .map(|o| ArmOutcome {
                    arm: Some(arm(*o)),
                    ..ArmOutcome::default()
                })
                .collect(),
            budgets: vec![BudgetOutcome {
                budget: Budget::All,
                rows: 100,
                scores: vec![
                    vec![(0, 0.7), (1, 0.72)],
                    vec![(0, 0.8), (1, 0.82)],
                    vec![(0, 0.8), (1, 0.84)],
                ],
                to_none: vec![None, None, None],
                second_half: Some(0.02),
            }],
            contrasts: differences
                .iter()
                .map(|&(of, to, low, high)| Contrast {
                    question: Question::Further,
                    of: arm(of),
                    to: arm(to),
                    difference: Difference {
                        mean: (low + high) / 2.0,
                        low,
                        high,
                        level: 0.99,
                        seeds: 2,
                        by_seed: vec![],
                        knows_seeds: true,
                    },
                })
                .collect(),
            noise: None,
            planned: differences.len(),
            missing: (vec![], 6),
            test_rows: 10,
        }
    }

    #[test]
    fn mlm_alone_is_taken_unless_another_is_seen_to_be_better() {
        use Objective::{Mlm, MlmNsp, None};
        let verdict = of(&outcome(&[
            (Mlm, None, 0.05, 0.15),
            (MlmNsp, None, 0.06, 0.16),
            (MlmNsp, Mlm, -0.01, 0.03),
        ]));
        assert_eq!(
            verdict.lead,
            "Pre-train further with MLM: accuracy after fine-tuning on all labelled examples goes from 71.0 % to 81.0 % (better by +10.0, +5.0 to +15.0 points)."
        );
        assert_eq!(
            verdict.rest[1],
            "MLM + NSP against MLM alone, from the checkpoint: no difference seen (+1.0, −1.0 to +3.0 points)."
        );
        let verdict = of(&outcome(&[
            (Mlm, None, 0.05, 0.15),
            (MlmNsp, None, 0.06, 0.16),
            (MlmNsp, Mlm, 0.01, 0.03),
        ]));
        assert!(
            verdict
                .lead
                .starts_with("Pre-train further with MLM + NSP:"),
            "{}",
            verdict.lead
        );
    }

    #[test]
    fn no_difference_is_said_to_be_none() {
        use Objective::{Mlm, MlmNsp, None};
        let verdict = of(&outcome(&[
            (Mlm, None, -0.05, 0.04),
            (MlmNsp, None, -0.06, 0.02),
            (MlmNsp, Mlm, -0.01, 0.03),
        ]));
        assert!(
            verdict.lead.starts_with("No difference seen:")
                && verdict.lead.contains("more than +4.0 points is ruled out"),
            "{}",
            verdict.lead
        );
        let verdict = of(&outcome(&[(Mlm, None, -0.05, -0.04)]));
        assert!(
            verdict.lead.starts_with("Keep the checkpoint as it is"),
            "{}",
            verdict.lead
        );
    }

    #[test]
    fn what_says_nothing_is_told() {
        use Objective::{Mlm, None};
        let verdict = of(&outcome(&[(Mlm, None, -1.0, 1.0)]));
        assert!(
            verdict.lead.contains("next to nothing") && !verdict.lead.contains("ruled out"),
            "{}",
            verdict.lead
        );
        let mut short = outcome(&[(Mlm, None, -0.05, 0.04)]);
        assert!(!of(&short).text().contains("Fine-tuning was short"));
        short.budgets[0].second_half = Some(0.123);
        assert!(
            of(&short)
                .text()
                .contains("still became better by +12.3 points in its second half"),
            "{}",
            of(&short).text()
        );
    }

    #[test]
    fn equal_answers_are_no_finding() {
        let verdict = of(&outcome(&[(Objective::Mlm, Objective::None, 0.0, 0.0)]));
        assert!(
            verdict.lead.starts_with("Nothing can be told"),
            "{}",
            verdict.lead
        );
    }

    #[test]
    fn one_seed_is_not_enough_and_what_is_missing_is_said() {
        let mut one = outcome(&[(Objective::Mlm, Objective::None, 0.05, 0.15)]);
        one.contrasts[0].difference.knows_seeds = false;
        one.missing.0.push("x".into());
        let verdict = of(&one);
        assert!(
            verdict.lead.starts_with("Nothing can be said for sure"),
            "{}",
            verdict.lead
        );
        assert!(verdict.text().contains("1 of 6 models are not done"));
        let mut part = outcome(&[(Objective::Mlm, Objective::None, 0.05, 0.15)]);
        part.planned = 14;
        assert!(
            of(&part)
                .text()
                .contains("all 14 differences that were planned, of which 1 is here")
        );
        let mut alone = outcome(&[(Objective::MlmNsp, Objective::Mlm, 0.05, 0.15)]);
        assert!(
            of(&alone).lead.contains("is not known yet"),
            "{}",
            of(&alone).lead
        );
        alone.arms[0].not_measured = Some("no head".into());
        assert!(of(&alone).lead.contains("could not be measured"));
        alone.arms.remove(0);
        assert!(of(&alone).lead.contains("was not asked"));
        assert!(
            of(&outcome(&[]))
                .lead
                .starts_with("Nothing can be said yet")
        );
    }
}
