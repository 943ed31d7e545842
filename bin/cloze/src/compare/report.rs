//! What people are shown: a page, tables in Markdown, and the same as JSON.

use std::path::{Path, PathBuf};

use cloze_cli::{format, table};
use cloze_page::Page;
use cloze_page::chart::{Axis, Chart, Interval, Intervals, Lines, Mark, Series};
use cloze_shard::atomic;
use serde_json::json;

use super::args::{Budget, Objective, Start};
use super::data::{Datasets, Kind, TaskFiles};
use super::outcome::{Contrast, Outcome, is_share};
use super::plan::{Arm, Plan, Settled};
use super::settle::time;
use super::statistics::{RESAMPLES, spread};
use super::verdict::{self, Verdict};

/// Writes `report.html`, `report.md` and `results.json`; returns the first.
pub fn write(
    plan: &Plan,
    settled: &Settled,
    datasets: &Datasets,
    task: Option<&TaskFiles>,
    outcome: &Outcome,
    verdict: &Verdict,
    out: &Path,
) -> anyhow::Result<PathBuf> {
    let told = Told {
        plan,
        settled,
        datasets,
        task,
        outcome,
        verdict,
    };
    let results =
        json!({"verdict": [&verdict.lead], "also": verdict.rest, "plan": plan, "outcome": outcome});
    atomic::write(
        &out.join("results.json"),
        format!("{results:#}\n").as_bytes(),
    )?;
    atomic::write(&out.join("report.md"), told.markdown()?.as_bytes())?;
    let path = out.join("report.html");
    atomic::write(&path, told.page()?.html().as_bytes())?;
    Ok(path)
}

struct Told<'a> {
    plan: &'a Plan,
    settled: &'a Settled,
    datasets: &'a Datasets,
    task: Option<&'a TaskFiles>,
    outcome: &'a Outcome,
    verdict: &'a Verdict,
}

/// A table: its header and its rows.
type Cells = (Vec<String>, Vec<Vec<String>>);

const TITLE: &str = "Does further pre-training help?";

/// The differences, for a terminal.
pub fn terminal(outcome: &Outcome) -> String {
    let (header, rows) = contrasts(outcome);
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    table(&header, &rows)
}

fn contrasts(outcome: &Outcome) -> Cells {
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

impl Told<'_> {
    fn arms(&self) -> Vec<Arm> {
        self.outcome.arms.iter().filter_map(|a| a.arm).collect()
    }

    /// Scores of every arm by number of labelled examples.
    fn scores(&self) -> Cells {
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
    fn measures(&self) -> Cells {
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
    fn costs(&self) -> Cells {
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

    fn page(&self) -> anyhow::Result<Page> {
        let mut page = Page::new(TITLE, &self.verdict.lead);
        page.section("The answer");
        for sentence in &self.verdict.rest {
            page.paragraph(sentence);
        }
        if !self.outcome.contrasts.is_empty() {
            page.chart(&self.intervals());
            let (header, rows) = contrasts(self.outcome);
            put(&mut page, &header, &rows);
            page.remark(&self.how_sure());
        }
        if !self.outcome.budgets.is_empty() {
            page.section("Scores by labelled examples");
            let (header, rows) = self.scores();
            put(&mut page, &header, &rows);
            page.remark(&self.scores_are());
            if self.outcome.budgets.len() > 1 {
                page.chart(&self.by_budget());
            }
        }
        page.section("On text that was held out");
        let (header, rows) = self.measures();
        put(&mut page, &header, &rows);
        for remark in self.of_measures() {
            page.remark(&remark);
        }
        let curves: Vec<Lines> = [Start::Checkpoint, Start::Scratch]
            .into_iter()
            .filter_map(|s| self.curves(s))
            .collect();
        if !curves.is_empty() {
            page.section("Learning curves");
            page.charts(&curves.iter().map(|c| c as &dyn Chart).collect::<Vec<_>>());
            page.remark("MLM loss on validation rows while training, of the first seed of each arm. Each arm is measured on rows of its own kind, so curves of full sentences and of pairs are not on one scale; the table above is.");
        }
        page.section("What it cost");
        let (header, rows) = self.costs();
        put(&mut page, &header, &rows);
        page.remark(&format!(
            "Evaluations on the way are in the time. {}.",
            self.settled.machine
        ));
        page.section("What was not tested");
        for limit in self.limits() {
            page.paragraph(&limit);
        }
        page.section("How it was made");
        page.pairs(self.provenance()?);
        let options = format!("{:#}", serde_json::to_value(&self.plan.key.asked)?);
        page.details("All options", |page| page.verbatim(&options));
        page.remark("Every model's folder under arms/ holds its records, its predictions, and a log with each command as it was run.");
        Ok(page)
    }

    fn markdown(&self) -> anyhow::Result<String> {
        let mut text = format!("# {TITLE}\n\n**{}**\n\n", self.verdict.lead);
        for sentence in &self.verdict.rest {
            text += &format!("- {sentence}\n");
        }
        let mut section = |title: &str, cells: &Cells, remarks: &[String]| {
            if cells.1.is_empty() {
                return;
            }
            text += &format!("\n## {title}\n\n{}\n", markdown_table(cells));
            for remark in remarks {
                text += &format!("{remark}\n\n");
            }
        };
        section("Differences", &contrasts(self.outcome), &[self.how_sure()]);
        if !self.outcome.budgets.is_empty() {
            section(
                "Scores by labelled examples",
                &self.scores(),
                &[self.scores_are()],
            );
        }
        section(
            "On text that was held out",
            &self.measures(),
            &self.of_measures(),
        );
        section("What it cost", &self.costs(), &[]);
        text += "\n## What was not tested\n\n";
        for limit in self.limits() {
            text += &format!("- {limit}\n");
        }
        text += "\n## How it was made\n\n";
        for (what, how) in self.provenance()? {
            text += &format!("- {what}: {how}\n");
        }
        Ok(text)
    }

    fn intervals(&self) -> Intervals {
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

    fn by_budget(&self) -> Lines {
        let judge = &self.outcome.judge;
        let scale = if judge.is_share() { 100.0 } else { 1.0 };
        let arms = self.arms();
        let series = arms.iter().enumerate().map(|(i, arm)| Series {
            name: arm.name(),
            mark: Mark::Dots,
            points: (self.outcome.budgets.iter())
                .filter(|b| !b.scores[i].is_empty())
                .map(|b| {
                    let (mean, _) = spread(&b.scores[i].iter().map(|v| v.1).collect::<Vec<_>>());
                    (b.rows as f64, scale * mean)
                })
                .collect(),
        });
        Lines {
            title: format!("{} by labelled examples", verdict::metric(judge)),
            x: Axis::new("labelled examples").log(),
            y: Axis::new(if judge.is_share() { "%" } else { "" }),
            series: series.collect(),
        }
    }

    fn curves(&self, start: Start) -> Option<Lines> {
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
            title: format!(
                "From {}",
                if start == Start::Checkpoint {
                    "the checkpoint"
                } else {
                    "scratch"
                }
            ),
            x: Axis::new("tokens"),
            y: Axis::new("MLM loss, nats"),
            series,
        })
    }

    fn how_sure(&self) -> String {
        let noise = match self.outcome.noise {
            Some((deviation, freedom)) => format!(
                "what seeds change has a standard deviation of {} ({freedom} degrees of freedom, pooled over arms)",
                verdict::value(&self.outcome.judge, deviation)
            ),
            None => "what seeds change is not known".into(),
        };
        match self.outcome.budgets.is_empty() {
            true => format!(
                "Differences are paired by seed; {noise}. A difference is seen where its interval does not hold 0."
            ),
            false => format!(
                "Differences are paired by seed and by test example ({} of them, drawn again {} times); {noise}. A difference is seen where its interval does not hold 0.",
                format::count(self.outcome.test_rows as u64),
                format::count(RESAMPLES as u64)
            ),
        }
    }

    fn scores_are(&self) -> String {
        let unit = if self.outcome.judge.is_share() {
            ", in %"
        } else {
            ""
        };
        let grown: Vec<String> = (self.outcome.budgets.iter())
            .filter_map(|b| {
                Some(format!(
                    "{} with {}",
                    verdict::signed(&self.outcome.judge, b.second_half?),
                    examples(b.budget, b.rows)
                ))
            })
            .collect();
        let grown = match grown.is_empty() {
            true => String::new(),
            false => format!(
                " What models still gained on dev in the second half of fine-tuning, on the mean{}: {} labelled examples.",
                match verdict::points(&self.outcome.judge) {
                    "" => String::new(),
                    unit => format!(", in{unit}"),
                },
                grown.join(", ")
            ),
        };
        format!(
            "{}{unit}: mean and standard deviation over seeds, on {} test examples. Each seed has labelled examples of its own, the same ones for all arms.{grown}",
            capital(&verdict::metric(&self.outcome.judge)),
            format::count(self.outcome.test_rows as u64)
        )
    }

    fn of_measures(&self) -> Vec<String> {
        let on = match self.datasets.folder(Kind::FullSentences) {
            Some(_) => "whole sentences of held-out documents, with the same masks for all models",
            None => "pairs of held-out documents, with the same masks for all models",
        };
        let mut remarks = vec![format!(
            "Losses are in nats a masked token, on {on}. NSP accuracy of a model that was not trained for it is that of the head in its checkpoint, if there is one."
        )];
        let not = self
            .outcome
            .arms
            .iter()
            .filter_map(|a| Some((a.arm?, a.not_measured.as_ref()?)));
        remarks.extend(
            not.map(|(arm, why)| format!("{}: not measured. {why}", capital(&arm.words()))),
        );
        remarks
    }

    /// What this comparison says nothing about.
    fn limits(&self) -> Vec<String> {
        let asked = &self.plan.key.asked;
        let mut limits = vec![
            format!(
                "More training. Every model saw {} tokens; what helps little after few may help more after many, and the other way round.",
                format::short(self.settled.tokens as f64)
            ),
            format!(
                "Other learning rates. All arms of a start have the same ({} from the checkpoint, {} from scratch), which may suit some better than others.",
                asked.learning_rate, asked.scratch_learning_rate
            ),
            format!(
                "Other lengths and batches: rows of up to {} tokens, steps of {}.",
                asked.seq_len, asked.batch_tokens
            ),
            "Other checkpoints, other corpora, other tasks.".into(),
        ];
        let left = [
            Objective::Mlm,
            Objective::FullSentences,
            Objective::MlmNsp,
            Objective::MlmSop,
        ];
        for objective in left {
            if let Some(why) = self.settled.left_out.get(objective.name()) {
                limits.push(format!("{}: {why}.", objective.words()));
            } else if !asked.objectives.contains(&objective) {
                limits.push(format!("{}: was not asked for.", objective.words()));
            }
        }
        for start in [Start::Checkpoint, Start::Scratch] {
            if !asked.starts.contains(&start) {
                limits.push(format!(
                    "Starting from {}: was not asked for.",
                    start.name()
                ));
            }
        }
        limits.extend(
            self.task
                .iter()
                .flat_map(|task| task.left_out())
                .map(|rows| capital(&rows) + "."),
        );
        if self.plan.key.task.is_none() {
            limits.push("A task: without --task, losses are all there is to judge by, and a lower loss need not mean a better model for a task.".into());
        }
        if self.plan.key.task.is_some() && asked.keep_overlap {
            limits.push(
                "Whether text that the corpus shares with the test examples mattered: it was kept."
                    .into(),
            );
        }
        if let Some(few) = self
            .outcome
            .arms
            .iter()
            .filter_map(|a| a.arm)
            .map(|a| self.plan.seeds(a))
            .min()
            .filter(|n| *n < 5)
        {
            limits.push(format!(
                "More seeds: some arms have {few}. Small differences need more to be seen."
            ));
        }
        if !self.outcome.missing.0.is_empty() {
            limits.push(format!(
                "Models that are not done yet: {}.",
                self.outcome.missing.0.join("; ")
            ));
        }
        limits
    }

    fn provenance(&self) -> anyhow::Result<Vec<(String, String)>> {
        let key = &self.plan.key;
        let paths = |all: &[PathBuf]| {
            all.iter()
                .map(|p| p.display().to_string())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let mut pairs = vec![
            ("text".to_owned(), paths(&key.inputs)),
            ("checkpoint".to_owned(), key.init.display().to_string()),
        ];
        if let (Some(task), Some([train, dev, test])) = (&key.task, self.settled.task_rows) {
            let count = |n: usize| format::count(n as u64);
            pairs.push((
                "task".into(),
                format!(
                    "{}: {} examples to learn from, {} dev, {} test",
                    task.display(),
                    count(train),
                    count(dev),
                    count(test)
                ),
            ));
        }
        for kind in self.datasets.kinds() {
            let Some(manifest) = self.datasets.manifest(kind)? else {
                continue;
            };
            let train = manifest
                .splits
                .get("train")
                .map_or((0, 0), |s| (s.rows, s.tokens));
            let held_out = manifest.splits.get("validation").map_or(0, |s| s.rows);
            pairs.push((
                format!("rows, {}", kind.name()),
                format!(
                    "{} of {} tokens; {} held out",
                    format::count(train.0),
                    format::short(train.1 as f64),
                    format::count(held_out)
                ),
            ));
            if let Some(dropped) = manifest
                .counts
                .iter()
                .find(|(name, _)| name.starts_with("dropped") && name.contains("exclu"))
            {
                pairs.push((
                    format!("left out, {}", kind.name()),
                    format!(
                        "{} documents that share text with the task's dev and test examples",
                        format::count(*dropped.1)
                    ),
                ));
            }
        }
        pairs.push(("written by".into(), self.plan.created_by.clone()));
        Ok(pairs)
    }
}

fn put(page: &mut Page, header: &[String], rows: &[Vec<String>]) {
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    page.table(&header, rows);
}

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

fn examples(budget: Budget, rows: u64) -> String {
    match budget {
        Budget::All => format!("all ({})", format::count(rows)),
        Budget::Some(_) => format::count(rows),
    }
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(characters).collect()
    })
}

fn markdown_table((header, rows): &Cells) -> String {
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|c| c.replace('|', "\\|")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let rule: Vec<String> = header.iter().map(|_| "---".to_owned()).collect();
    let rows: String = rows.iter().map(|r| line(r)).collect();
    format!("{}{}{rows}", line(header), line(&rule))
}
