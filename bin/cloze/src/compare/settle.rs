//! What is found out before training: how fast it is, how many steps each arm is given, and what all of it will cost.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context;
use cloze_cli::{format, table};
use cloze_text::Tokenizer;
use serde_json::Value;

use super::args::{Budget, Objective};
use super::cells::{Machine, Stage, epochs, record};
use super::data::{Datasets, Kind, Rows, TASK_FILES, TaskFiles, tokens_a_step};
use super::plan::{Cell, Plan, Settled};
use super::process::{Run, Signals};
use crate::hand_over::trainer;

/// Steps of the trial; the first ones, in which memory is touched for the first time, do not count.
const TRIAL: u64 = 12;

/// Finds out what is to be known, with real steps on the real data.
pub fn settle(
    plan: &Plan,
    out: &Path,
    datasets: &Datasets,
    machine: &Machine,
    signals: &Signals,
) -> anyhow::Result<Settled> {
    let asked = &plan.key.asked;
    let (tokens_per_second, device) = trial(plan, out, datasets, machine, signals)?;
    let (task_rows, task_tokens) = task(plan)?;
    let mut settled = Settled {
        tokens: 0,
        steps: BTreeMap::new(),
        tokens_per_second,
        machine: device,
        task_rows,
        task_tokens,
        left_out: datasets.left_out.clone(),
    };
    let whole = datasets
        .manifest(Kind::Nsp)?
        .and_then(|m| m.splits.get("train").map(|s| s.tokens));
    settled.tokens = match (asked.tokens, asked.hours) {
        (Some(tokens), _) => tokens,
        (None, Some(hours)) => tokens_for(plan, &settled, hours)?,
        (None, None) => whole.unwrap_or(1),
    };
    for kind in datasets.kinds() {
        let manifest = datasets.manifest(kind)?;
        let split = manifest.as_ref().and_then(|m| m.splits.get("train"));
        let lengths = split.map(|s| s.lengths()).unwrap_or_default();
        let steps = settled.tokens as f64 / tokens_a_step(&lengths, asked.batch_tokens);
        settled
            .steps
            .insert(kind.name().into(), (steps.round() as u64).max(1));
    }
    Ok(settled)
}

/// Tokens a second, and what computes.
fn trial(
    plan: &Plan,
    out: &Path,
    datasets: &Datasets,
    machine: &Machine,
    signals: &Signals,
) -> anyhow::Result<(f64, String)> {
    let asked = &plan.key.asked;
    let folder = out.join("trial");
    match fs::remove_dir_all(&folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(anyhow::Error::new(e).context(folder.display().to_string()));
        }
        _ => fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?,
    }
    let mut run = Run::new(trainer()?, "pretrain", folder.join("trial.log"));
    run.values([datasets
        .folder(Kind::Nsp)
        .context("a dataset that is not there")?]);
    run.option("--init", &plan.key.init);
    run.option("--out", folder.join("run"));
    run.option("--steps", TRIAL.to_string());
    run.option("--batch-tokens", asked.batch_tokens.to_string());
    run.values([
        "--log-every",
        "1",
        "--eval-every",
        "0",
        "--eval-rows",
        "1",
        "--checkpoint-every",
        "0",
        "--view",
        "plain",
    ]);
    machine.tell(&mut run);
    run.quietly(signals, &mut || ())?;
    let path = folder.join("run/train.jsonl");
    let log = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let lines: Vec<Value> = log
        .lines()
        .filter_map(|l| serde_json::from_str(l).ok())
        .collect();
    let steps: Vec<(f64, f64)> = lines
        .iter()
        .filter(|l| l["kind"] == "train")
        .filter_map(|l| Some((l["tokens"].as_f64()?, l["step_seconds"].as_f64()?)))
        .collect();
    let counted = steps.get(2..).unwrap_or_default();
    let seconds: f64 = counted.iter().map(|s| s.1).sum();
    let tokens = steps.last().map_or(0.0, |s| s.0) - steps.get(1).map_or(0.0, |s| s.0);
    anyhow::ensure!(
        seconds > 0.0 && tokens > 0.0,
        "{}: says nothing of speed",
        path.display()
    );
    let said = fs::read_to_string(folder.join("trial.log")).unwrap_or_default();
    let device = said
        .lines()
        .find_map(|l| l.strip_prefix("device"))
        .unwrap_or_default();
    let device = device.trim().to_owned();
    // Its model is not needed.
    let _ = fs::remove_dir_all(folder.join("run"));
    Ok((tokens / seconds, device))
}

/// Labelled examples, and how long they are on the average.
fn task(plan: &Plan) -> anyhow::Result<(Option<[usize; 3]>, f64)> {
    let Some(folder) = &plan.key.task else {
        return Ok((None, 0.0));
    };
    let tokenizer = Tokenizer::open(&plan.key.init)?;
    let mut encoder = tokenizer.encoder();
    let (mut counts, mut mean) = ([0; 3], 0.0);
    for (i, name) in TASK_FILES.iter().enumerate() {
        let rows = Rows::read(&folder.join(name))?;
        counts[i] = rows.len();
        if i == 0 {
            let (mut ids, mut tokens, mut texts) = (Vec::new(), 0, 0);
            for text in rows.texts().take(1_000) {
                ids.clear();
                encoder.encode_into(&text, &mut ids)?;
                tokens += (ids.len() as u64 + 2).min(plan.key.asked.max_length);
                texts += 1;
            }
            mean = tokens as f64 / f64::from(texts.max(1));
        }
    }
    Ok((Some(counts), mean))
}

/// Examples of a budget.
fn budget_rows(budget: Budget, settled: &Settled) -> u64 {
    let all = settled.task_rows.map_or(0, |r| r[0] as u64);
    match budget {
        Budget::All => all,
        Budget::Some(n) => n.min(all),
    }
}

/// What a stage costs, as tokens of training: a forward pass alone is a third of a step.
fn cost(plan: &Plan, settled: &Settled, cell: Cell, stage: Stage) -> f64 {
    let asked = &plan.key.asked;
    let at_most = |most: usize, all: usize| if most == 0 { all } else { most.min(all) };
    match stage {
        Stage::Pretrain if cell.arm.objective == Objective::None => 0.0,
        // Ten evaluations of a quarter of the rows.
        Stage::Pretrain => {
            settled.tokens as f64 + 2.5 * f64::from(asked.seq_len) * asked.eval_rows as f64 / 3.0
        }
        Stage::Measure => 2.0 * f64::from(asked.seq_len) * asked.eval_rows as f64 / 3.0,
        Stage::Finetune(budget) => {
            let rows = budget_rows(budget, settled);
            let [_, dev, test] = settled.task_rows.unwrap_or_default();
            let learned = epochs(asked.epochs, asked.batch_size, rows) * rows;
            let looked_at = 7 * at_most(asked.dev_rows, dev) + at_most(asked.test_rows, test);
            settled.task_tokens * (learned as f64 + looked_at as f64 / 3.0)
        }
        // Not known before the texts are read; seldom much.
        Stage::Retrieve => 0.0,
    }
}

/// Seconds of what is not done yet.
pub fn seconds_left(plan: &Plan, settled: &Settled, out: &Path, cells: &[Cell]) -> f64 {
    let left = cells.iter().flat_map(|&cell| {
        let folder = cell.folder(out);
        let open = plan
            .stages(cell)
            .into_iter()
            .filter(move |s| record(&folder, *s).is_none());
        open.map(move |stage| cost(plan, settled, cell, stage))
    });
    left.sum::<f64>() / settled.tokens_per_second
}

/// Tokens for each model, so that everything takes so many hours.
fn tokens_for(plan: &Plan, settled: &Settled, hours: f64) -> anyhow::Result<u64> {
    let cells = plan.cells();
    let rest: f64 = cells
        .iter()
        .flat_map(|&c| plan.stages(c).into_iter().map(move |s| (c, s)))
        .map(|(c, s)| cost(plan, settled, c, s))
        .sum();
    let trained = cells
        .iter()
        .filter(|c| c.arm.objective != Objective::None)
        .count();
    // One part in twenty is for what is not known: processes that start, texts that are read.
    let all = hours * 3_600.0 * settled.tokens_per_second * 0.95;
    let tokens = (all - rest) / trained.max(1) as f64;
    let least = 20.0 * plan.key.asked.batch_tokens as f64;
    if tokens < least {
        let needed = (rest + least * trained as f64) / settled.tokens_per_second / 3_600.0 / 0.95;
        // Rounded up: what is said is enough.
        let needed = (needed * 1_000.0).ceil() / 1_000.0;
        return Err(super::Refused {
            why: format!("--hours {hours}: measuring and fine-tuning alone take most of it; {needed} hours are the least"),
            hint: "give more hours, or fewer --objectives, --seeds, --budgets or --test-rows".into(),
        }
        .into());
    }
    Ok(tokens as u64)
}

/// What it will cost, as a table.
pub fn stated(
    plan: &Plan,
    settled: &Settled,
    out: &Path,
    files: Option<&TaskFiles>,
    cells: &[Cell],
) -> String {
    let mut rows = Vec::new();
    let arms = plan.arms();
    for arm in arms
        .into_iter()
        .filter(|arm| cells.iter().any(|c| c.arm == *arm))
    {
        let own: Vec<Cell> = cells.iter().copied().filter(|c| c.arm == arm).collect();
        let (steps, tokens) = match Kind::of(arm.objective) {
            None => ("–".to_owned(), "–".to_owned()),
            Some(kind) => (
                settled
                    .steps
                    .get(kind.name())
                    .map_or_else(|| "–".to_owned(), |s| format::count(*s)),
                format::short(settled.tokens as f64),
            ),
        };
        let seconds = seconds_left(plan, settled, out, &own);
        rows.push(vec![
            arm.name(),
            own.len().to_string(),
            steps,
            tokens,
            time(seconds),
        ]);
    }
    let left = seconds_left(plan, settled, out, cells);
    let mut text = table(&["arm", "seeds", "steps", "tokens", "time left"], &rows);
    let flops = cells
        .iter()
        .filter(|c| c.arm.objective != Objective::None)
        .count() as f64
        * settled.tokens as f64;
    text += &format!(
        "\n{} tokens of pre-training in all; {} of training a second in a trial on {}.\nAbout {} left{}.\n",
        format::short(flops),
        format::short(settled.tokens_per_second),
        settled.machine,
        time(left),
        if files.is_some() {
            ", fine-tuning included"
        } else {
            ""
        }
    );
    for (objective, why) in &settled.left_out {
        text += &format!("left out: {objective}: {why}\n");
    }
    text
}

/// Seconds, in words.
pub fn time(seconds: f64) -> String {
    format::duration(std::time::Duration::from_secs_f64(seconds.max(0.0)))
}
