//! What came out: figures of every arm, and differences between arms.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::answers::{self, Said};
use super::args::{Budget, Objective, Start};
use super::cells::{Stage, record};
use super::data::{Datasets, Kind};
use super::plan::{Arm, Cell, Plan, Settled};
use super::statistics::{Difference, Model, RESAMPLES, Table, spread};

/// Everything that came out.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// What arms are judged by.
    pub judge: Judge,
    /// Arm by arm.
    pub arms: Vec<ArmOutcome>,
    /// Scores by budget, the smallest first.
    pub budgets: Vec<BudgetOutcome>,
    /// The differences that are judged, all at once.
    pub contrasts: Vec<Contrast>,
    /// Standard deviation of what seeds change in the scores that are judged, and its degrees of freedom.
    pub noise: Option<(f64, u32)>,
    /// Differences that were planned, of which [`contrasts`](Self::contrasts) are there: the level of their intervals is for all of these.
    pub planned: usize,
    /// Models that are not made yet, and the number of all.
    pub missing: (Vec<String>, usize),
    /// Test examples.
    pub test_rows: usize,
}

/// What arms are judged by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judge {
    /// A metric of the task, or `mlm_loss`.
    pub name: String,
    /// With how many examples.
    pub budget: Option<Budget>,
}

/// An arm's figures, each by seed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ArmOutcome {
    /// Its name.
    pub name: String,
    /// Which.
    #[serde(skip)]
    pub arm: Option<Arm>,
    /// Figures by name: `mlm_loss`, `nsp_accuracy`, `ndcg_at_10`, …
    pub figures: BTreeMap<String, Vec<(u32, f64)>>,
    /// Why there are none of the held-out text, if so.
    pub not_measured: Option<String>,
    /// Tokens that each seed was trained on.
    pub tokens: Vec<u64>,
    /// Seconds of pre-training, evaluations included, of each seed.
    pub seconds: Vec<f64>,
    /// Validation losses on the way: tokens and the MLM loss on the arm's own kind of rows, of the first seed.
    pub curve: Vec<(f64, f64)>,
}

/// Scores with a number of examples.
#[derive(Clone, Debug, Serialize)]
pub struct BudgetOutcome {
    /// How many.
    pub budget: Budget,
    /// Examples that is.
    pub rows: u64,
    /// Scores of each arm, in the order of arms, by seed.
    pub scores: Vec<Vec<(u32, f64)>>,
    /// Difference of each arm to the checkpoint as it is, by itself, with 95 %.
    pub to_none: Vec<Option<Difference>>,
    /// How much better models became on dev in the second half of fine-tuning, on the mean: much where it was too short.
    pub second_half: Option<f64>,
}

/// A difference that answers a question.
#[derive(Clone, Debug, Serialize)]
pub struct Contrast {
    /// Which.
    pub question: Question,
    /// This arm …
    pub of: Arm,
    /// … less this one.
    pub to: Arm,
    /// The difference, turned so that above 0 is better.
    pub difference: Difference,
}

/// What is asked of two arms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Question {
    /// Does further pre-training help?
    Further,
    /// Does another objective than MLM alone help?
    Objective,
    /// Does it help to start from the checkpoint?
    Start,
}

impl Judge {
    /// 1, or −1 where less is better.
    pub fn sign(&self) -> f64 {
        match self.name.as_str() {
            "mlm_loss" | "mse" | "loss" => -1.0,
            _ => 1.0,
        }
    }

    /// Whether it is a share, shown in percent.
    pub fn is_share(&self) -> bool {
        is_share(&self.name)
    }
}

/// Whether a figure is a share of something.
pub fn is_share(name: &str) -> bool {
    name.contains("accuracy")
        || name.contains("f1")
        || name.starts_with("recall")
        || name.starts_with("entity")
}

impl Outcome {
    /// Reads all records and answers that there are.
    pub fn gather(
        plan: &Plan,
        settled: &Settled,
        datasets: &Datasets,
        out: &Path,
    ) -> anyhow::Result<Self> {
        let arms = plan.arms();
        let cells = plan.cells();
        let is_done = |cell: &Cell| {
            let folder = cell.folder(out);
            plan.stages(*cell)
                .into_iter()
                .all(|s| record(&folder, s).is_some())
        };
        let missing: Vec<String> = (cells.iter())
            .filter(|c| !is_done(c))
            .map(|c| format!("{}, seed {}", c.arm.name(), c.seed))
            .collect();
        let figures: Vec<ArmOutcome> = arms
            .iter()
            .map(|arm| figures(*arm, &cells, datasets, out))
            .collect();
        let mut outcome = Self {
            judge: Judge {
                name: "mlm_loss".into(),
                budget: None,
            },
            arms: figures,
            budgets: Vec::new(),
            contrasts: Vec::new(),
            noise: None,
            planned: 0,
            missing: (missing, cells.len()),
            test_rows: 0,
        };
        let questions = questions(&arms);
        outcome.planned = questions.len();
        let level = 1.0 - 0.05 / questions.len().max(1) as f64;
        let groups: Vec<usize> = arms.iter().map(|a| a.start as usize).collect();
        let mut budgets = plan.key.asked.budgets.clone();
        budgets.sort();
        budgets.dedup();
        let mut judged = None;
        if plan.key.task.is_some() {
            for budget in budgets {
                let Some(scores) = scores(&arms, &cells, budget, out)? else {
                    continue;
                };
                let table = scores.table;
                outcome.judge = Judge {
                    name: scores.metric,
                    budget: Some(budget),
                };
                outcome.test_rows = scores.rows;
                let sign = outcome.judge.sign();
                let none = arms
                    .iter()
                    .position(|a| (a.start, a.objective) == (Start::Checkpoint, Objective::None));
                let to_none = |i: usize| {
                    none.filter(|n| *n != i)
                        .and_then(|n| table.difference(i, n, 0.95))
                };
                outcome.budgets.push(BudgetOutcome {
                    budget,
                    rows: match budget {
                        Budget::Some(n) => n.min(settled.task_rows.map_or(n, |r| r[0] as u64)),
                        Budget::All => settled.task_rows.map_or(0, |r| r[0] as u64),
                    },
                    scores: (0..arms.len()).map(|i| table.values(i)).collect(),
                    to_none: (0..arms.len()).map(to_none).collect(),
                    second_half: scores.second_half.map(|gain| sign * gain),
                });
                judged = Some(table);
            }
        } else {
            let mut all: Vec<(usize, u32, f64)> = Vec::new();
            for (i, arm) in arms.iter().enumerate() {
                let measured = outcome.arms[i].figures.get("mlm_loss");
                let measured = measured.map_or(&[][..], Vec::as_slice);
                match measured {
                    // What no seed has changed was measured once, and is the same with each.
                    [(_, once)] if arm.objective == Objective::None => {
                        all.extend((0..plan.seeds(*arm)).map(|seed| (i, seed, *once)));
                    }
                    _ => all.extend(measured.iter().map(|v| (i, v.0, v.1))),
                }
            }
            judged = Some(Table::of_numbers(&all, &groups, RESAMPLES, 0));
        }
        if let Some(table) = judged {
            outcome.noise = table.noise().map(|n| (n.deviation, n.freedom));
            let judge = outcome.judge.clone();
            for (question, of, to) in questions {
                let difference = table.difference(of, to, level);
                outcome
                    .contrasts
                    .extend(difference.map(|difference| Contrast {
                        question,
                        of: arms[of],
                        to: arms[to],
                        difference: possible(turned(difference, judge.sign()), &judge),
                    }));
            }
        }
        Ok(outcome)
    }

    /// Mean scores of two arms over the seeds that both have, with the budget that is judged, or the losses.
    pub fn means(&self, a: Arm, b: Arm) -> Option<(f64, f64)> {
        let (a, b) = (self.judged(a), self.judged(b));
        let both = a
            .iter()
            .filter_map(|x| Some((x.1, b.iter().find(|y| y.0 == x.0)?.1)));
        let (a, b): (Vec<f64>, Vec<f64>) = both.unzip();
        (!a.is_empty()).then(|| (spread(&a).0, spread(&b).0))
    }

    /// Scores of an arm by seed, with the budget that is judged, or the losses.
    fn judged(&self, arm: Arm) -> Vec<(u32, f64)> {
        let place = self.arms.iter().position(|a| a.arm == Some(arm));
        let Some(place) = place else {
            return Vec::new();
        };
        let values = match self.budgets.last() {
            Some(budget) => budget.scores.get(place),
            None => self.arms[place].figures.get("mlm_loss"),
        };
        values.into_iter().flatten().copied().collect()
    }

    /// A contrast.
    pub fn contrast(&self, of: Arm, to: Arm) -> Option<&Contrast> {
        self.contrasts.iter().find(|c| c.of == of && c.to == to)
    }
}

fn turned(d: Difference, sign: f64) -> Difference {
    match sign > 0.0 {
        true => d,
        false => Difference {
            mean: -d.mean,
            low: -d.high,
            high: -d.low,
            by_seed: d.by_seed.iter().map(|v| -v).collect(),
            ..d
        },
    }
}

/// An interval without what cannot be: shares differ by 1 at most, whatever the t distribution of one degree of freedom says.
fn possible(d: Difference, judge: &Judge) -> Difference {
    match judge.is_share() {
        false => d,
        true => Difference {
            low: d.low.max(-1.0),
            high: d.high.min(1.0),
            ..d
        },
    }
}

/// The pairs of arms that are compared: those that a question is about, and no others, since each costs all others certainty.
fn questions(arms: &[Arm]) -> Vec<(Question, usize, usize)> {
    let find = |start, objective| arms.iter().position(|a| *a == Arm { start, objective });
    let mut all = Vec::new();
    for (i, arm) in arms.iter().enumerate() {
        if arm.objective == Objective::None {
            continue;
        }
        if arm.start == Start::Checkpoint {
            all.extend(find(arm.start, Objective::None).map(|none| (Question::Further, i, none)));
            all.extend(
                find(Start::Scratch, arm.objective).map(|scratch| (Question::Start, i, scratch)),
            );
        }
        if arm.objective != Objective::Mlm {
            all.extend(find(arm.start, Objective::Mlm).map(|mlm| (Question::Objective, i, mlm)));
        }
    }
    all
}

/// What models said that learned from so many examples.
struct Scores {
    table: Table,
    metric: String,
    /// Test examples.
    rows: usize,
    /// How much the metric of dev grew in the second half of fine-tuning, on the mean.
    second_half: Option<f64>,
}

/// The answers of all models that learned from so many examples.
fn scores(
    arms: &[Arm],
    cells: &[Cell],
    budget: Budget,
    out: &Path,
) -> anyhow::Result<Option<Scores>> {
    let groups: Vec<usize> = arms.iter().map(|a| a.start as usize).collect();
    let (mut models, mut first) = (Vec::new(), None::<(String, Vec<u64>)>);
    let mut grown = Vec::new();
    for cell in cells {
        let folder = cell.folder(out);
        let stage = Stage::Finetune(budget);
        let Some(arm) = arms.iter().position(|a| *a == cell.arm) else {
            continue;
        };
        if record(&folder, stage).is_none() {
            continue;
        }
        let Said {
            metric,
            answers,
            rows,
            second_half,
        } = answers::read(&folder.join(stage.name()))?;
        let (name, of) = first.get_or_insert_with(|| (metric.clone(), rows.clone()));
        anyhow::ensure!(
            *name == metric && *of == rows,
            "{}: is about other test examples, or judged by another metric, than the models before it",
            folder.display()
        );
        grown.extend(second_half);
        models.push(Model {
            arm,
            seed: cell.seed,
            answers,
        });
    }
    Ok(first.map(|(metric, rows)| Scores {
        table: Table::new(&models, &groups, RESAMPLES, 0),
        metric,
        rows: rows.len(),
        second_half: (!grown.is_empty()).then(|| spread(&grown).0),
    }))
}

/// What was measured of an arm on held-out text and queries, and what it cost.
fn figures(arm: Arm, cells: &[Cell], datasets: &Datasets, out: &Path) -> ArmOutcome {
    let mut found = ArmOutcome {
        name: arm.name(),
        arm: Some(arm),
        ..ArmOutcome::default()
    };
    for cell in cells.iter().filter(|c| c.arm == arm) {
        let folder = cell.folder(out);
        if let Some(measured) = record(&folder, Stage::Measure) {
            take_measures(&mut found, cell.seed, &measured.found, datasets);
        }
        if let Some(retrieved) = record(&folder, Stage::Retrieve) {
            for name in ["ndcg_at_10", "mrr_at_10"] {
                if let Some(value) = retrieved.found[name].as_f64() {
                    found
                        .figures
                        .entry(name.into())
                        .or_default()
                        .push((cell.seed, value));
                }
            }
        }
        if let Some(trained) =
            record(&folder, Stage::Pretrain).filter(|_| arm.objective != Objective::None)
        {
            let (tokens, curve) = curve(&folder.join("run/train.jsonl"));
            found.tokens.push(tokens);
            found.seconds.push(trained.seconds);
            if found.curve.is_empty() {
                found.curve = curve;
            }
        }
    }
    found
}

fn take_measures(found: &mut ArmOutcome, seed: u32, measured: &Value, datasets: &Datasets) {
    let mut push = |name: &str, value: Option<f64>| {
        if let Some(value) = value {
            found
                .figures
                .entry(name.to_owned())
                .or_default()
                .push((seed, value));
        }
    };
    // Whole sentences are what all models can be measured on alike; a dataset that was given has pairs alone.
    let common = match datasets.folder(Kind::FullSentences) {
        Some(_) => Kind::FullSentences,
        None => Kind::Nsp,
    };
    for name in ["mlm_loss", "mlm_accuracy"] {
        push(name, measured[common.name()][name].as_f64());
    }
    if common != Kind::Nsp {
        push("mlm_loss_on_pairs", measured["nsp"]["mlm_loss"].as_f64());
    }
    push("nsp_accuracy", measured["nsp"]["nsp_accuracy"].as_f64());
    push("sop_accuracy", measured["pairs"]["sop_accuracy"].as_f64());
    if let Some(why) = measured[common.name()]["not_measured"].as_str() {
        found.not_measured = Some(why.to_owned());
    }
}

/// Tokens that a run was trained on, and its validation losses by tokens.
fn curve(log: &Path) -> (u64, Vec<(f64, f64)>) {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<Value> = text
        .lines()
        .filter_map(|l| serde_json::from_str(l).ok())
        .collect();
    let trained = || lines.iter().filter(|l| l["kind"] == "train");
    let tokens = trained()
        .filter_map(|l| l["tokens"].as_u64())
        .max()
        .unwrap_or(0);
    let steps = trained()
        .filter_map(|l| l["step"].as_u64())
        .max()
        .unwrap_or(1);
    // Evaluations are logged by step; a step has as many tokens as another, nearly.
    let each = tokens as f64 / steps.max(1) as f64;
    let validated = lines.iter().filter(|l| l["kind"] == "validation");
    let curve =
        validated.filter_map(|l| Some((l["step"].as_f64()? * each, l["mlm_loss"].as_f64()?)));
    (tokens, curve.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(start: Start, objective: Objective) -> Arm {
        Arm { start, objective }
    }

    #[test]
    fn questions_are_asked_once_and_of_the_right_arms() {
        let all = [Objective::None, Objective::Mlm, Objective::MlmNsp];
        let arms: Vec<Arm> = [Start::Checkpoint, Start::Scratch]
            .into_iter()
            .flat_map(|s| all.map(|o| arm(s, o)))
            .collect();
        let asked: Vec<(Question, String, String)> = questions(&arms)
            .into_iter()
            .map(|(q, a, b)| (q, arms[a].name(), arms[b].name()))
            .collect();
        let expect = |q, a: &str, b: &str| (q, a.to_owned(), b.to_owned());
        assert_eq!(
            asked,
            [
                expect(Question::Further, "checkpoint-mlm", "checkpoint-none"),
                expect(Question::Start, "checkpoint-mlm", "scratch-mlm"),
                expect(Question::Further, "checkpoint-mlm+nsp", "checkpoint-none"),
                expect(Question::Start, "checkpoint-mlm+nsp", "scratch-mlm+nsp"),
                expect(Question::Objective, "checkpoint-mlm+nsp", "checkpoint-mlm"),
                expect(Question::Objective, "scratch-mlm+nsp", "scratch-mlm"),
            ]
        );
    }

    #[test]
    fn less_loss_is_better() {
        let judge = |name: &str| Judge {
            name: name.into(),
            budget: None,
        };
        assert_eq!(judge("mlm_loss").sign(), -1.0);
        assert_eq!(judge("accuracy").sign(), 1.0);
        let d = Difference {
            mean: -0.2,
            low: -0.3,
            high: -0.1,
            level: 0.95,
            seeds: 2,
            by_seed: vec![-0.2, -0.2],
            knows_seeds: true,
        };
        let t = turned(d, -1.0);
        assert_eq!((t.mean, t.low, t.high), (0.2, 0.1, 0.3));
    }
}
