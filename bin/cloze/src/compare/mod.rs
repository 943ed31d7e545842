//! `cloze compare`: does further pre-training help, and which?
//!
//! Data flow: options → [`plan::Plan`] → datasets and labelled examples ([`data`]) → a trial ([`settle`]) → models, a stage and a process at a time ([`cells`]) → answers
//! ([`answers`]) → differences with their intervals ([`statistics`], [`outcome`]) → what to do ([`verdict`]) → page and tables ([`report`]).

mod answers;
mod args;
mod cells;
mod data;
mod outcome;
mod plan;
mod process;
mod report;
mod settle;
mod statistics;
mod verdict;

use std::io::Write;
use std::time::Instant;

use cloze_cli::{Status, format};

pub use args::CompareArgs;
pub use process::Failed;

use cells::{Ended, Machine, Workshop};
use data::{Datasets, TaskFiles};
use plan::{Cell, Plan};
use process::{Signals, Stopped};

/// What was asked for cannot be done.
#[derive(Debug)]
pub struct Refused {
    why: String,
    hint: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Refused {}

impl Refused {
    pub fn hint(&self) -> String {
        self.hint.clone()
    }
}

pub fn run(args: &CompareArgs) -> anyhow::Result<Status> {
    let begun = Instant::now();
    // Said before anything is done.
    crate::hand_over::trainer()?;
    let signals = Signals::listen()?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.jobs.unwrap_or(0));
    // Others may have made one before.
    let _ = pool.build_global();
    // One process at a time prepares and settles what all of them make models by.
    let (mut plan, lock) = match Plan::open(args, &signals) {
        Err(error) if error.is::<Stopped>() => return Ok(stopped(args)),
        opened => opened?,
    };
    let chosen = chosen(&plan, &args.arm)?;
    let machine = Machine {
        device: args.device.clone(),
        precision: args.precision.clone(),
        jobs: args.jobs,
    };
    let task = TaskFiles::write(&plan, &args.out)?;
    for left_out in task.iter().flat_map(TaskFiles::left_out) {
        say(&format!("left out: {left_out}"));
    }
    let datasets = match Datasets::prepare(&plan, &args.out, args.jobs, &signals) {
        Err(error) if error.is::<Stopped>() => return Ok(stopped(args)),
        datasets => datasets?,
    };
    if plan.settled.is_none() {
        say("a trial of some steps …");
        match settle::settle(&plan, &args.out, &datasets, &machine, &signals) {
            Err(error) if error.is::<Stopped>() => return Ok(stopped(args)),
            settled => plan.settled = Some(settled?),
        }
        plan.write(&args.out)?;
    }
    drop(lock);
    let Some(settled) = plan.settled.clone() else {
        anyhow::bail!("{}: the plan is not settled", args.out.display());
    };
    let cells: Vec<Cell> = plan
        .cells()
        .into_iter()
        .filter(|c| chosen.is_empty() || chosen.contains(&c.arm.name()))
        .collect();
    let stated = settle::stated(&plan, &settled, &args.out, task.as_ref(), &cells);
    if args.dry_run {
        write!(std::io::stdout(), "{stated}")?;
        return Ok(Status::Done);
    }
    write!(std::io::stderr(), "{stated}")?;
    let workshop = Workshop {
        plan: &plan,
        settled: &settled,
        datasets: &datasets,
        task: task.as_ref(),
        out: &args.out,
        machine: &machine,
        signals: &signals,
    };
    let made = make(&workshop, &cells)?;
    let outcome = outcome::Outcome::gather(&plan, &settled, &datasets, &args.out)?;
    let verdict = verdict::of(&outcome);
    // Nor do two write the report at once.
    let lock = match plan::lock(&args.out, &signals) {
        Err(error) if error.is::<Stopped>() => return Ok(stopped(args)),
        lock => lock?,
    };
    let paths = report::write(
        &plan,
        &settled,
        &datasets,
        task.as_ref(),
        &outcome,
        &verdict,
        &args.out,
    )?;
    drop(lock);
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}\n", verdict.text())?;
    write!(out, "{}", report::terminal(&outcome))?;
    writeln!(
        out,
        "\n{} ({})",
        paths.display(),
        format::duration(begun.elapsed())
    )?;
    drop(out);
    for failed in &made.failed {
        say(&format!("failed: {failed}"));
    }
    Ok(match (made.stopped, made.failed.is_empty()) {
        (true, _) => stopped(args),
        (false, true) => Status::Done,
        (false, false) => Status::Problems,
    })
}

/// What came of making models.
#[derive(Default)]
struct Made {
    failed: Vec<String>,
    stopped: bool,
}

fn make(workshop: &Workshop<'_>, cells: &[Cell]) -> anyhow::Result<Made> {
    let mut made = Made::default();
    let mut any = false;
    for (number, &cell) in (1..).zip(cells) {
        let left = settle::seconds_left(
            workshop.plan,
            workshop.settled,
            workshop.out,
            &cells[number - 1..],
        );
        if left > 0.0 {
            say(&format!(
                "{number:>4} of {} {}, seed {}; about {} left",
                cells.len(),
                cell.arm.name(),
                cell.seed,
                settle::time(left)
            ));
        }
        match workshop.make(cell) {
            Ok(Ended::Done) => any = true,
            Ok(Ended::Elsewhere) => say(&format!(
                "          {}, seed {}: another process makes it",
                cell.arm.name(),
                cell.seed
            )),
            // Where nothing has ever worked, nothing else will.
            Ok(Ended::Failed(why)) if !any => {
                anyhow::bail!("{}, seed {}: {why}", cell.arm.name(), cell.seed)
            }
            Ok(Ended::Failed(why)) => {
                say(&format!(
                    "          {}, seed {}: {why}",
                    cell.arm.name(),
                    cell.seed
                ));
                made.failed
                    .push(format!("{}, seed {}: {why}", cell.arm.name(), cell.seed));
            }
            Err(error) if error.is::<Stopped>() => {
                made.stopped = true;
                return Ok(made);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(made)
}

/// The arms that were named; none for all.
fn chosen(plan: &Plan, named: &[String]) -> anyhow::Result<Vec<String>> {
    let known: Vec<String> = plan.arms().iter().map(|a| a.name()).collect();
    match named.iter().find(|n| !known.contains(n)) {
        None => Ok(named.to_vec()),
        Some(unknown) => Err(Refused {
            why: format!("--arm {unknown}: is no arm of this comparison"),
            hint: format!("its arms are {}", known.join(", ")),
        }
        .into()),
    }
}

fn stopped(args: &CompareArgs) -> Status {
    say(&format!(
        "stopped; the same command goes on: {}",
        args.out.display()
    ));
    Status::Interrupted
}

fn say(text: &str) {
    // Nothing can be done about a standard error that is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}
