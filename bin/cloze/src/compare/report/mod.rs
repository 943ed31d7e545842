//! What people are shown: a page, tables in Markdown, and the same as JSON.

mod charts;
mod tables;
mod words;

use std::path::{Path, PathBuf};

use cloze_cli::table;
use cloze_page::Page;
use cloze_page::chart::{Chart, Lines};
use cloze_shard::atomic;
use serde_json::json;

use super::args::Start;
use super::data::{Datasets, TaskFiles};
use super::outcome::Outcome;
use super::plan::{Arm, Plan, Settled};
use super::verdict::Verdict;
use tables::contrasts;

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

/// What there is to tell.
struct Told<'a> {
    plan: &'a Plan,
    settled: &'a Settled,
    datasets: &'a Datasets,
    task: Option<&'a TaskFiles>,
    outcome: &'a Outcome,
    verdict: &'a Verdict,
}

const STARTS: [Start; 2] = [Start::Checkpoint, Start::Scratch];

/// A table: its header and its rows.
type Cells = (Vec<String>, Vec<Vec<String>>);

const TITLE: &str = "Does further pre-training help?";

/// The differences, for a terminal.
pub fn terminal(outcome: &Outcome) -> String {
    let (header, rows) = contrasts(outcome);
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    table(&header, &rows)
}

impl Told<'_> {
    fn arms(&self) -> Vec<Arm> {
        self.outcome.arms.iter().filter_map(|a| a.arm).collect()
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
                let charts: Vec<Lines> = STARTS
                    .into_iter()
                    .filter_map(|start| self.by_budget(start))
                    .collect();
                page.charts(&charts.iter().map(|c| c as &dyn Chart).collect::<Vec<_>>());
            }
        }
        page.section("On text that was held out");
        let (header, rows) = self.measures();
        put(&mut page, &header, &rows);
        for remark in self.of_measures() {
            page.remark(&remark);
        }
        let curves: Vec<Lines> = STARTS.into_iter().filter_map(|s| self.curves(s)).collect();
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
}

fn put(page: &mut Page, header: &[String], rows: &[Vec<String>]) {
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    page.table(&header, rows);
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
