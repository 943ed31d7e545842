//! What a comparison consists of, settled once and kept in its folder.
//!
//! `plan.json` holds what was asked for and what follows from it. Whoever comes later, after a stop or on another machine, must have asked for the same.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::Context;
use cloze_prep::input::is_pipe;
use cloze_shard::atomic;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::args::{Asked, CompareArgs, Objective, Start};
use super::process::{Signals, Stopped};
use super::{Refused, data};

/// A way to train.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Arm {
    /// What it starts from.
    pub start: Start,
    /// What it is trained for.
    pub objective: Objective,
}

/// An arm with a seed: a model that is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    /// Its arm.
    pub arm: Arm,
    /// Its seed.
    pub seed: u32,
}

/// What identifies a comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Key {
    /// Text or a dataset.
    pub inputs: Vec<PathBuf>,
    /// The checkpoint.
    pub init: PathBuf,
    /// The task's folder.
    pub task: Option<PathBuf>,
    /// The folder of queries.
    pub retrieval: Option<PathBuf>,
    /// Digests of the files of checkpoint, task and queries, and of a dataset's manifest.
    pub files: BTreeMap<String, String>,
    /// The options.
    pub asked: Asked,
}

/// Program and version.
const CREATED_BY: &str = concat!("cloze ", env!("CARGO_PKG_VERSION"));

/// A comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Program and version.
    pub created_by: String,
    /// What identifies it.
    pub key: Key,
    /// What was found out before training; none yet in a new folder.
    pub settled: Option<Settled>,
}

/// What was found out before training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settled {
    /// Tokens that each model is trained on, or as near as whole steps come.
    pub tokens: u64,
    /// Optimizer steps with each dataset, by its name.
    pub steps: BTreeMap<String, u64>,
    /// Tokens of training a second, in the trial.
    pub tokens_per_second: f64,
    /// What computed there.
    pub machine: String,
    /// Labelled examples there are: train, dev, test.
    pub task_rows: Option<[usize; 3]>,
    /// Mean tokens of a labelled example.
    pub task_tokens: f64,
    /// Objectives that could not be compared, and why.
    pub left_out: BTreeMap<String, String>,
}

impl Arm {
    /// Its name, and that of its folder.
    pub fn name(self) -> String {
        format!("{}-{}", self.start.name(), self.objective.name())
    }

    /// As people say it.
    pub fn words(self) -> String {
        match (self.start, self.objective) {
            (Start::Checkpoint, Objective::None) => "the checkpoint as it is".into(),
            (Start::Scratch, Objective::None) => "no pre-training at all".into(),
            (start, objective) => format!("{}, from {}", objective.words(), start.words()),
        }
    }

    /// Whether its seeds are as many as those of the main arms.
    pub fn is_main(self) -> bool {
        let main = [Objective::None, Objective::Mlm, Objective::MlmNsp];
        self.start == Start::Checkpoint && main.contains(&self.objective)
    }
}

impl Cell {
    /// Its folder.
    pub fn folder(self, out: &Path) -> PathBuf {
        let seed = format!("seed-{}", self.seed);
        out.join("arms").join(self.arm.name()).join(seed)
    }
}

impl Plan {
    /// The arms, checkpoint first.
    pub fn arms(&self) -> Vec<Arm> {
        let asked = &self.key.asked;
        let (mut starts, mut objectives) = (asked.starts.clone(), asked.objectives.clone());
        starts.sort();
        starts.dedup();
        objectives.sort();
        objectives.dedup();
        let left_out = |o: &Objective| {
            let settled = self.settled.as_ref();
            settled.is_some_and(|s| s.left_out.contains_key(o.name()))
        };
        objectives.retain(|o| !left_out(o));
        let arm = |start| {
            let with = move |&objective: &Objective| Arm { start, objective };
            objectives.iter().map(with).collect::<Vec<_>>()
        };
        starts.into_iter().flat_map(arm).collect()
    }

    /// Seeds of an arm.
    pub fn seeds(&self, arm: Arm) -> u32 {
        let asked = &self.key.asked;
        match arm.is_main() {
            true => asked.seeds,
            false => asked.other_seeds.unwrap_or(asked.seeds),
        }
    }

    /// Everything that is made, seed by seed, so that what is there is a whole comparison as early as can be.
    pub fn cells(&self) -> Vec<Cell> {
        let arms = self.arms();
        let most = arms.iter().map(|a| self.seeds(*a)).max().unwrap_or(0);
        let mut cells = Vec::new();
        for seed in 0..most {
            let with = arms.iter().filter(|a| seed < self.seeds(**a));
            cells.extend(with.map(|&arm| Cell { arm, seed }));
        }
        cells
    }

    /// Opens the plan of `out`, or begins one. What was asked for before and is not asked for now, or the other way round, is an error.
    ///
    /// The lock that comes with it keeps other processes from preparing and settling the same comparison, as long as it is held.
    pub fn open(args: &CompareArgs, signals: &Signals) -> anyhow::Result<(Self, File)> {
        let key = key(args)?;
        let path = args.out.join(PLAN);
        if !path.exists() {
            match refuse_foreign(&args.out) {
                // Another process has begun it just now.
                Err(_) if path.exists() => {}
                looked => looked?,
            }
            fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
        }
        let lock = lock(&args.out, signals)?;
        match fs::read(&path) {
            Ok(bytes) => {
                let mut plan: Self = serde_json::from_slice(&bytes)
                    .with_context(|| format!("{}: is no plan of a comparison", path.display()))?;
                let differs = differences(&plan.key.identity()?, &key.identity()?);
                if let Some(first) = differs.first() {
                    return Err(Refused {
                        why: format!("{}: holds another comparison: {first}", args.out.display()),
                        hint: "ask for the same to go on with it, or give another --out".into(),
                    }
                    .into());
                }
                // Where things lie may have changed.
                plan.key = key;
                if plan.created_by != CREATED_BY {
                    eprintln!(
                        "warning: {} was begun by {}, this is {CREATED_BY}: what is still to be trained may be masked otherwise than what is there",
                        args.out.display(),
                        plan.created_by
                    );
                }
                Ok((plan, lock))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let plan = Self {
                    created_by: CREATED_BY.into(),
                    key,
                    settled: None,
                };
                plan.write(&args.out)?;
                Ok((plan, lock))
            }
            Err(e) => Err(anyhow::Error::new(e).context(path.display().to_string())),
        }
    }

    /// Writes it.
    pub fn write(&self, out: &Path) -> anyhow::Result<()> {
        let text = format!("{:#}\n", serde_json::to_value(self)?);
        atomic::write(&out.join(PLAN), text.as_bytes())?;
        Ok(())
    }
}

const PLAN: &str = "plan.json";
const LOCK: &str = "plan.lock";

/// Keeps other processes from what one does at a time, for as long as the file is open; waits for one that does it.
pub fn lock(out: &Path, signals: &Signals) -> anyhow::Result<File> {
    let path = out.join(LOCK);
    let lock = File::create(&path).with_context(|| path.display().to_string())?;
    let mut told = false;
    loop {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) if signals.asked() => return Err(Stopped.into()),
            Err(TryLockError::WouldBlock) => {
                if !std::mem::replace(&mut told, true) {
                    super::say("another process prepares this comparison; waiting for it …");
                }
                std::thread::sleep(std::time::Duration::from_millis(200));
            }
            // A file system without locks cannot keep anybody out.
            Err(TryLockError::Error(e)) if e.kind() != std::io::ErrorKind::Unsupported => {
                return Err(anyhow::Error::new(e).context(path.display().to_string()));
            }
            _ => return Ok(lock),
        }
    }
}

fn refuse_foreign(out: &Path) -> anyhow::Result<()> {
    let entries = match fs::read_dir(out) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| out.display().to_string())?,
    };
    // What a process that came to its end before the plan was written may have left.
    let other = entries
        .flatten()
        .find(|e| e.file_name() != "plan.json.partial" && e.file_name() != LOCK);
    match other {
        None => Ok(()),
        Some(other) => Err(Refused {
            why: format!(
                "{}: holds files already, and no plan.json",
                other.path().display()
            ),
            hint: "give --out a new folder".into(),
        }
        .into()),
    }
}

fn key(args: &CompareArgs) -> anyhow::Result<Key> {
    check(&args.asked)?;
    let is_stream = |path: &&PathBuf| path.as_os_str() == "-" || is_pipe(path);
    if let Some(stream) = args.inputs.iter().find(is_stream) {
        return Err(Refused {
            why: format!(
                "{}: the corpus is read more than once, which a pipe does not allow",
                stream.display()
            ),
            hint: "write it to a file first".into(),
        }
        .into());
    }
    let named = [
        Some(&args.init),
        args.task.as_ref(),
        args.retrieval.as_ref(),
    ];
    for path in named.into_iter().flatten().chain(&args.inputs) {
        utf8(path)?;
    }
    let whole = |path: &PathBuf| {
        let missing = || format!("{}: cannot be read", path.display());
        let whole = path.canonicalize().with_context(missing)?;
        utf8(&whole).map(|()| whole)
    };
    let mut files = BTreeMap::new();
    let init = whole(&args.init)?;
    for entry in fs::read_dir(&init)
        .with_context(|| init.display().to_string())?
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let counts = [".json", ".txt", ".safetensors", ".bin"];
        if entry.path().is_file() && counts.iter().any(|end| name.ends_with(end)) {
            files.insert(
                format!("init/{name}"),
                atomic::digest(&entry.path())?.blake3,
            );
        }
    }
    if !init.join("config.json").is_file() {
        return Err(Refused {
            why: format!("--init {}: has no config.json", args.init.display()),
            hint: "give the Hugging Face folder of a BERT, with its tokenizer".into(),
        }
        .into());
    }
    let mut of_folder = |option: &str, folder: &Option<PathBuf>, names: &[&str]| {
        let Some(folder) = folder else {
            return Ok(None);
        };
        let folder = whole(folder)?;
        for name in names {
            let path = folder.join(name);
            if !path.is_file() {
                return Err(anyhow::Error::from(Refused {
                    why: format!("{option} {}: has no {name}", folder.display()),
                    hint: format!("the folder must hold {}", names.join(", ")),
                }));
            }
            files.insert(
                format!("{}/{name}", &option[2..]),
                atomic::digest(&path)?.blake3,
            );
        }
        Ok(Some(folder))
    };
    let task = of_folder("--task", &args.task, &data::TASK_FILES)?;
    let retrieval = of_folder(
        "--retrieval",
        &args.retrieval,
        &["docs.jsonl", "queries.jsonl"],
    )?;
    // A pattern is no path; `prepare` says what is wrong with it.
    let input = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
    let inputs: Vec<PathBuf> = args.inputs.iter().map(input).collect();
    inputs.iter().try_for_each(|path| utf8(path))?;
    for input in inputs.iter().filter(|i| data::is_dataset(i)) {
        let path = input.join(cloze_shard::manifest::FILE_NAME);
        files.insert(
            "dataset/manifest.json".into(),
            atomic::digest(&path)?.blake3,
        );
    }
    Ok(Key {
        inputs,
        init,
        task,
        retrieval,
        files,
        asked: args.asked.clone(),
    })
}

impl Key {
    /// What must be the same to go on: of checkpoint, task and queries their bytes, wherever they lie, as on another machine.
    fn identity(&self) -> anyhow::Result<Value> {
        let mut key = serde_json::to_value(self)?;
        for folder in ["init", "task", "retrieval"] {
            let is_given = !key[folder].is_null();
            key[folder] = is_given.into();
        }
        Ok(key)
    }
}

/// Refuses names that the plan, which is JSON, cannot hold.
fn utf8(path: &Path) -> anyhow::Result<()> {
    match path.to_str() {
        Some(_) => Ok(()),
        None => Err(Refused {
            why: format!("{}: the name is not UTF-8", path.display()),
            hint: "a comparison keeps names as JSON: rename it, and the folders that it lies in"
                .into(),
        }
        .into()),
    }
}

fn check(asked: &Asked) -> anyhow::Result<()> {
    let refuse = |why: &str, hint: &str| {
        Err(Refused {
            why: why.into(),
            hint: hint.into(),
        }
        .into())
    };
    if asked.hours.is_some_and(|h| !(h.is_finite() && h > 0.0)) {
        return refuse("--hours must be a number above 0", "such as --hours 8");
    }
    if !(asked.validation_fraction > 0.0 && asked.validation_fraction < 0.5) {
        return refuse(
            "--validation-fraction must be above 0 and below 0.5",
            "losses are measured on these documents",
        );
    }
    let trains = asked.objectives.iter().any(|o| *o != Objective::None);
    if !trains {
        return refuse(
            "--objectives none alone compares nothing",
            "name at least one way to train",
        );
    }
    Ok(())
}

/// Where two values differ, in words.
fn differences(then: &Value, now: &Value) -> Vec<String> {
    fn walk(place: &str, then: &Value, now: &Value, found: &mut Vec<String>) {
        match (then, now) {
            (Value::Object(a), Value::Object(b)) => {
                let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
                names.sort();
                names.dedup();
                for name in names {
                    let of = |m: &serde_json::Map<String, Value>| {
                        m.get(name).cloned().unwrap_or(Value::Null)
                    };
                    let place = match place {
                        "" | "asked" => name.clone(),
                        place => format!("{place}/{name}"),
                    };
                    walk(&place, &of(a), &of(b), found);
                }
            }
            (a, b) if a != b => {
                found.push(match place.strip_prefix("files/") {
                    Some(file) => format!("{file} has changed since"),
                    None => format!("{place} was {a} there, and is {b} now"),
                });
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk("", then, now, &mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: CompareArgs,
    }

    fn plan(line: &str) -> Plan {
        let line = format!("x corpus --init i --out o {line}");
        let args = Line::parse_from(line.split_whitespace()).args;
        Plan {
            created_by: String::new(),
            key: Key {
                inputs: args.inputs,
                init: args.init,
                task: None,
                retrieval: None,
                files: BTreeMap::new(),
                asked: args.asked,
            },
            settled: None,
        }
    }

    #[test]
    fn the_grid_is_every_start_with_every_objective() {
        let plan = plan("--seeds 2 --other-seeds 1");
        let names: Vec<String> = plan.arms().iter().map(|a| a.name()).collect();
        assert_eq!(names.len(), 10);
        assert_eq!(names[..2], ["checkpoint-none", "checkpoint-mlm"]);
        let cells = plan.cells();
        assert_eq!(cells.len(), 10 + 3);
        // The first seed of all arms comes before the second of any.
        assert!(cells[..10].iter().all(|c| c.seed == 0));
        let again: Vec<String> = cells[10..].iter().map(|c| c.arm.name()).collect();
        assert_eq!(
            again,
            ["checkpoint-none", "checkpoint-mlm", "checkpoint-mlm+nsp"]
        );
    }

    #[cfg(unix)]
    #[test]
    fn names_that_json_cannot_hold_are_refused_by_name() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        let odd = folder
            .path()
            .join(std::ffi::OsStr::from_bytes(b"t\xff.txt"));
        fs::write(&odd, "text").unwrap();
        let Plan {
            key: Key { asked, .. },
            ..
        } = plan("");
        let args = |inputs: Vec<PathBuf>, init: PathBuf| CompareArgs {
            inputs,
            init,
            asked: asked.clone(),
            ..Line::parse_from(["x", "corpus", "--init", "i", "--out", "o"]).args
        };
        for args in [
            args(vec![odd.clone()], folder.path().into()),
            args(vec![folder.path().into()], odd.clone()),
        ] {
            let error = key(&args).unwrap_err().to_string();
            assert!(error.contains("not UTF-8"), "{error}");
        }
    }

    #[test]
    fn what_is_typed_twice_is_made_once() {
        let plan = plan("--objectives mlm,none,mlm --starts checkpoint,checkpoint --seeds 1");
        let names: Vec<String> = plan.arms().iter().map(|a| a.name()).collect();
        assert_eq!(names, ["checkpoint-none", "checkpoint-mlm"]);
    }

    #[test]
    fn another_comparison_is_named_by_what_differs() {
        let value = |line| serde_json::to_value(plan(line).key).unwrap();
        assert!(differences(&value(""), &value("")).is_empty());
        assert_eq!(
            differences(&value(""), &value("--seeds 5 --budgets 10,all")),
            [
                r#"budgets was ["100","1000","all"] there, and is ["10","all"] now"#,
                "seeds was 3 there, and is 5 now"
            ]
        );
        let mut files = value("");
        files["files"]["task/test.jsonl"] = "b".into();
        assert_eq!(
            differences(&value(""), &files),
            ["task/test.jsonl has changed since"]
        );
    }
}
