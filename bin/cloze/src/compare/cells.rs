//! Making a model and measuring it: stages, each a process or some, each with a record when it is done.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use cloze_cli::format;
use cloze_cli::progress::{Unit, Work};
use cloze_shard::atomic;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::args::{Budget, Objective, Start};
use super::data::{Datasets, Kind, Rows, TaskFiles};
use super::plan::{Cell, Plan, Settled};
use super::process::{Failed, Run, Signals, Stopped};
use crate::hand_over::trainer;

/// Everything that stages need.
pub struct Workshop<'a> {
    pub plan: &'a Plan,
    pub settled: &'a Settled,
    pub datasets: &'a Datasets,
    pub task: Option<&'a TaskFiles>,
    pub out: &'a Path,
    pub machine: &'a Machine,
    pub signals: &'a Signals,
}

/// Where and how it is computed: not part of what is compared.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    pub device: String,
    pub precision: Option<String>,
    pub jobs: Option<usize>,
}

impl Machine {
    /// As options of the trainer.
    pub fn tell(&self, run: &mut Run) {
        run.option("--device", &self.device);
        if let Some(precision) = &self.precision {
            run.option("--precision", precision);
        }
        if let Some(jobs) = self.jobs {
            run.option("--jobs", jobs.to_string());
        }
    }
}

/// The record of a stage: it is there if and only if the stage is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Seconds that it took, over all tries that came to an end of their own.
    pub seconds: f64,
    /// What came out, if it is not in files of its own.
    pub found: Value,
}

/// How making a model ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All of its stages are done.
    Done,
    /// Another process is making it.
    Elsewhere,
    /// A stage failed. It is tried again when the comparison is gone on with.
    Failed(String),
}

/// The stages of a model, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Pretrain,
    Measure,
    Finetune(Budget),
    Retrieve,
}

impl Stage {
    /// The name of its record.
    pub fn name(self) -> String {
        match self {
            Self::Pretrain => "pretrain".into(),
            Self::Measure => "measure".into(),
            Self::Finetune(budget) => format!("finetune-{budget}"),
            Self::Retrieve => "retrieve".into(),
        }
    }

    fn words(self) -> String {
        match self {
            Self::Pretrain => "pre-trained".into(),
            Self::Measure => "measured".into(),
            Self::Finetune(Budget::All) => "fine-tuned on all examples".into(),
            Self::Finetune(budget) => format!("fine-tuned on {budget} examples"),
            Self::Retrieve => "asked to find texts".into(),
        }
    }
}

/// Steps that fine-tuning has at least, where epochs allow.
const FEWEST_STEPS: u64 = 150;
/// Epochs that it has at most for that.
const MOST_EPOCHS: u64 = 30;

/// Epochs with `rows` examples.
pub fn epochs(asked: u64, batch_size: u64, rows: u64) -> u64 {
    let steps = rows.div_ceil(batch_size.max(1)).max(1);
    asked.max(FEWEST_STEPS.div_ceil(steps).min(MOST_EPOCHS))
}

/// What is known of a stage: `None` where it is not done.
pub fn record(cell: &Path, stage: Stage) -> Option<Record> {
    let bytes = fs::read(cell.join(format!("{}.json", stage.name()))).ok()?;
    serde_json::from_slice(&bytes).ok()
}

impl Plan {
    /// What a model goes through.
    pub fn stages(&self, cell: Cell) -> Vec<Stage> {
        let trained = cell.arm.objective != Objective::None || cell.arm.start == Start::Scratch;
        // The checkpoint as it is says the same for every seed.
        let once = cell.arm.objective != Objective::None || cell.seed == 0;
        let mut stages = Vec::new();
        if trained {
            stages.push(Stage::Pretrain);
        }
        if once {
            stages.push(Stage::Measure);
        }
        if self.key.retrieval.is_some() && (once || cell.arm.start == Start::Scratch) {
            stages.push(Stage::Retrieve);
        }
        if self.key.task.is_some() {
            stages.extend(self.key.asked.budgets.iter().map(|b| Stage::Finetune(*b)));
        }
        stages
    }
}

impl Workshop<'_> {
    /// Makes a model, or what is missing of it.
    pub fn make(&self, cell: Cell) -> anyhow::Result<Ended> {
        let folder = cell.folder(self.out);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let stages = self.plan.stages(cell);
        if stages.iter().all(|s| record(&folder, *s).is_some()) {
            tidy(&folder, Stage::Pretrain)?;
            return Ok(Ended::Done);
        }
        let path = folder.join("lock");
        let lock = File::create(&path).with_context(|| path.display().to_string())?;
        if let Err(TryLockError::WouldBlock) = lock.try_lock() {
            return Ok(Ended::Elsewhere);
        }
        for stage in stages {
            if record(&folder, stage).is_some() {
                tidy(&folder, stage)?;
                continue;
            }
            let begun = Instant::now();
            let before = self.seconds_before(&folder, stage);
            let found = self.stage(cell, &folder, stage);
            let seconds = before + begun.elapsed().as_secs_f64();
            let found = match found {
                Ok(found) => found,
                Err(error) if error.is::<Stopped>() => {
                    atomic::write(&spent(&folder, stage), seconds.to_string().as_bytes())?;
                    return Err(error);
                }
                // Others are to go on.
                Err(error) => match error.downcast_ref::<Failed>() {
                    // Of a comparison that was killed, a model's own process may live on.
                    Some(failed) if failed.said.contains("another process is training") => {
                        return Ok(Ended::Elsewhere);
                    }
                    Some(failed) => return Ok(Ended::Failed(failed.to_string())),
                    None => return Err(error),
                },
            };
            self.write(&folder, stage, &Record { seconds, found })?;
            tidy(&folder, stage)?;
            self.say(&format!(
                "          {}, seed {}: {} in {}",
                cell.arm.name(),
                cell.seed,
                stage.words(),
                format::duration(begun.elapsed())
            ));
        }
        Ok(Ended::Done)
    }

    fn say(&self, text: &str) {
        use std::io::Write;
        // Progress that cannot be shown is not worth stopping for.
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    fn write(&self, folder: &Path, stage: Stage, record: &Record) -> anyhow::Result<()> {
        let path = folder.join(format!("{}.json", stage.name()));
        let text = format!("{:#}\n", serde_json::to_value(record)?);
        atomic::write(&path, text.as_bytes())?;
        // It is part of the record now.
        let _ = fs::remove_file(spent(folder, stage));
        Ok(())
    }

    /// Seconds of tries that were stopped.
    fn seconds_before(&self, folder: &Path, stage: Stage) -> f64 {
        let text = fs::read_to_string(spent(folder, stage)).unwrap_or_default();
        text.trim().parse().unwrap_or(0.0)
    }

    fn stage(&self, cell: Cell, folder: &Path, stage: Stage) -> anyhow::Result<Value> {
        match stage {
            Stage::Pretrain => self.pretrain(cell, folder),
            Stage::Measure => self.measure(cell, folder),
            Stage::Finetune(budget) => self.finetune(cell, folder, budget),
            Stage::Retrieve => self.retrieve(cell, folder),
        }
    }

    fn run(&self, verb: &str, folder: &Path, log: &str) -> anyhow::Result<Run> {
        Ok(Run::new(trainer()?, verb, folder.join(log)))
    }

    /// The model that pre-training leaves.
    fn model(&self, cell: Cell, folder: &Path) -> PathBuf {
        match (cell.arm.start, cell.arm.objective) {
            (Start::Checkpoint, Objective::None) => self.plan.key.init.clone(),
            _ => folder.join("run/model"),
        }
    }

    fn pretrain(&self, cell: Cell, folder: &Path) -> anyhow::Result<Value> {
        let asked = &self.plan.key.asked;
        let mut run = self.run("pretrain", folder, "pretrain.log")?;
        let kind = Kind::of(cell.arm.objective).unwrap_or(Kind::Nsp);
        let dataset = self
            .datasets
            .folder(kind)
            .context("a dataset that is not there")?;
        run.values([dataset]);
        let rate = match cell.arm.start {
            Start::Checkpoint => {
                run.option("--init", &self.plan.key.init);
                asked.learning_rate
            }
            Start::Scratch => {
                run.option("--config", self.plan.key.init.join("config.json"));
                asked.scratch_learning_rate
            }
        };
        let objective = match cell.arm.objective {
            Objective::MlmNsp => "mlm+nsp",
            Objective::MlmSop => "mlm+sop",
            _ => "mlm",
        };
        run.option("--objective", objective);
        let steps = match cell.arm.objective {
            Objective::None => 0,
            _ => self.settled.steps.get(kind.name()).copied().unwrap_or(1),
        };
        run.option("--steps", steps.to_string());
        run.option("--batch-tokens", asked.batch_tokens.to_string());
        run.option("--learning-rate", rate.to_string());
        run.option("--mask-rate", asked.mask_rate.to_string());
        run.option("--seed", cell.seed.to_string());
        run.option("--eval-every", (steps / 10).max(1).to_string());
        run.option("--eval-rows", (asked.eval_rows / 4).max(1).to_string());
        run.option("--checkpoint-every", (steps / 10).max(100).to_string());
        run.option("--log-every", (steps / 200).max(1).to_string());
        run.values(["--keep", "1", "--view", "plain", "--resume", "auto"]);
        run.option("--out", folder.join("run"));
        self.machine.tell(&mut run);
        let log = folder.join("run/train.jsonl");
        let bar = Work::begin("pretrain", Unit::Things("steps"), steps);
        let mut shown = last_step(&log);
        bar.was_done(shown);
        run.quietly(self.signals, &mut || {
            let step = last_step(&log);
            bar.advance(step.saturating_sub(shown));
            shown = shown.max(step);
        })?;
        drop(bar);
        Ok(Value::Null)
    }

    /// Losses on what was held out: the same rows with the same masks for all models.
    fn measure(&self, cell: Cell, folder: &Path) -> anyhow::Result<Value> {
        let asked = &self.plan.key.asked;
        let mut found = serde_json::Map::new();
        for kind in self.datasets.kinds() {
            let of_order = cell.arm.objective == Objective::MlmSop;
            // Rows of pairs in order say something of sentence order alone; and rows with random ones nothing of it.
            if (kind == Kind::Pairs && !of_order)
                || (kind == Kind::Nsp
                    && of_order
                    && self.datasets.folder(Kind::Pairs) != self.datasets.folder(kind))
            {
                continue;
            }
            let mut run = self.run("eval", folder, "measure.log")?;
            run.values([self
                .datasets
                .folder(kind)
                .context("a dataset that is not there")?]);
            run.option("--model", self.model(cell, folder));
            run.option("--rows", asked.eval_rows.to_string());
            run.option("--mask-rate", asked.mask_rate.to_string());
            run.values(["--json"]);
            // Pairs that all are measured on are given as they lie; of those that are turned around, only what is said of their order counts.
            if of_order && kind == Kind::Nsp {
                run.values(["--mlm-only"]);
            }
            self.machine.tell(&mut run);
            let report = match run.quietly(self.signals, &mut || ()) {
                Ok(text) => {
                    serde_json::from_str(&text).context("what `cloze eval` printed is no JSON")?
                }
                // A checkpoint without heads has no loss: that is no failure of the comparison.
                Err(error) if cell.arm.objective == Objective::None && error.is::<Failed>() => {
                    json!({"not_measured": error.to_string()})
                }
                Err(error) => return Err(error),
            };
            found.insert(kind.name().into(), report);
        }
        Ok(found.into())
    }

    fn finetune(&self, cell: Cell, folder: &Path, budget: Budget) -> anyhow::Result<Value> {
        let asked = &self.plan.key.asked;
        let task = self.task.context("no task was given")?;
        let train = task.train(budget, cell.seed);
        let rows = Rows::read(&train)?.len() as u64;
        let epochs = epochs(asked.epochs, asked.batch_size, rows);
        let steps = epochs * rows.div_ceil(asked.batch_size);
        let out = folder.join(Stage::Finetune(budget).name());
        match fs::remove_dir_all(&out) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(anyhow::Error::new(e).context(out.display().to_string()));
            }
            _ => {}
        }
        let mut run = self.run("finetune", folder, &format!("finetune-{budget}.log"))?;
        run.option("--model", self.model(cell, folder));
        run.option("--train", train);
        run.option("--dev", task.dev());
        run.option("--test", task.test());
        run.option("--out", &out);
        run.option("--epochs", epochs.to_string());
        run.option("--batch-size", asked.batch_size.to_string());
        run.option("--learning-rate", asked.finetune_learning_rate.to_string());
        run.option("--max-length", asked.max_length.to_string());
        run.option("--eval-every", (steps / 6).max(1).to_string());
        run.option("--seed", cell.seed.to_string());
        if let Some(metric) = &asked.metric {
            run.option("--metric", metric);
        }
        run.values(["--json"]);
        self.machine.tell(&mut run);
        run.quietly(self.signals, &mut || ())?;
        // What a comparison needs are the answers.
        let weights = out.join("model.safetensors");
        fs::remove_file(&weights).with_context(|| weights.display().to_string())?;
        Ok(json!({"rows": rows, "epochs": epochs, "steps": steps}))
    }

    fn retrieve(&self, cell: Cell, folder: &Path) -> anyhow::Result<Value> {
        let retrieval = self
            .plan
            .key
            .retrieval
            .as_ref()
            .context("no queries were given")?;
        let mut run = self.run("embed", folder, "retrieve.log")?;
        run.values([retrieval.join("docs.jsonl")]);
        run.option("--model", self.model(cell, folder));
        run.option("--retrieval", retrieval.join("queries.jsonl"));
        run.option("--max-length", self.plan.key.asked.max_length.to_string());
        run.values(["--json"]);
        self.machine.tell(&mut run);
        let text = run.quietly(self.signals, &mut || ())?;
        let mut answer: BTreeMap<String, Value> =
            serde_json::from_str(&text).context("what `cloze embed` printed is no JSON")?;
        Ok(answer.remove("retrieval").unwrap_or(Value::Null))
    }
}

/// Removes what only going on needs, which is large, once a stage is on record: before, a process that is killed would find nothing to go on from.
fn tidy(folder: &Path, stage: Stage) -> anyhow::Result<()> {
    if stage != Stage::Pretrain {
        return Ok(());
    }
    let checkpoints = folder.join("run/checkpoints");
    match fs::remove_dir_all(&checkpoints) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(anyhow::Error::new(e).context(checkpoints.display().to_string()))
        }
        _ => Ok(()),
    }
}

fn spent(folder: &Path, stage: Stage) -> PathBuf {
    folder.join(format!("{}.seconds", stage.name()))
}

/// The last step that a run has logged.
fn last_step(log: &Path) -> u64 {
    let text = fs::read_to_string(log).unwrap_or_default();
    let last = text.lines().rev().find_map(|line| {
        let value: Value = serde_json::from_str(line).ok()?;
        value.get("step")?.as_u64()
    });
    last.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_examples_are_learned_from_more_often() {
        assert_eq!(epochs(3, 32, 100), 30);
        assert_eq!(epochs(3, 32, 1_000), 5);
        assert_eq!(epochs(3, 32, 100_000), 3);
        assert_eq!(epochs(40, 32, 10), 40);
    }
}
