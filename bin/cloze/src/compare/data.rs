//! What models are trained and measured on: datasets that share one token store, and labelled examples.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use cloze_shard::Dataset;
use cloze_shard::manifest::{FILE_NAME, Manifest};
use cloze_shard::random::{Key, Permutation, Stage};
use serde_json::Value;

use super::Refused;
use super::args::{Budget, Objective};
use super::plan::Plan;
use super::process::{Run, Signals, own};

/// The files of a task.
pub const TASK_FILES: [&str; 3] = ["train.jsonl", "dev.jsonl", "test.jsonl"];

/// Whether a path is a dataset that `cloze prepare` made.
pub fn is_dataset(path: &Path) -> bool {
    path.join(FILE_NAME).is_file()
}

/// A dataset of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Pairs, half of them random: MLM, MLM + NSP.
    Nsp,
    /// Pairs that follow one another: MLM + SOP, whose trainer turns them around.
    Pairs,
    /// Whole sentences: MLM on full sentences, and what MLM losses of all models are measured on.
    FullSentences,
}

impl Kind {
    /// Its folder's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nsp => "nsp",
            Self::Pairs => "pairs",
            Self::FullSentences => "full-sentences",
        }
    }

    /// What an objective is trained on.
    pub fn of(objective: Objective) -> Option<Self> {
        match objective {
            Objective::None => None,
            Objective::Mlm | Objective::MlmNsp => Some(Self::Nsp),
            Objective::MlmSop => Some(Self::Pairs),
            Objective::FullSentences => Some(Self::FullSentences),
        }
    }

    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Nsp => &["--objective", "nsp"],
            Self::Pairs => &["--objective", "nsp", "--random-next-ratio", "0"],
            Self::FullSentences => &["--objective", "full-sentences"],
        }
    }
}

/// The datasets that there are.
#[derive(Clone, Debug)]
pub struct Datasets {
    folders: BTreeMap<Kind, PathBuf>,
    /// Objectives that have none, and why.
    pub left_out: BTreeMap<String, String>,
}

impl Datasets {
    /// Prepares what is missing.
    pub fn prepare(
        plan: &Plan,
        out: &Path,
        jobs: Option<usize>,
        signals: &Signals,
    ) -> anyhow::Result<Self> {
        if let Some(dataset) = plan.key.inputs.iter().find(|i| is_dataset(i)) {
            return Self::given(plan, dataset);
        }
        let mut folders = BTreeMap::new();
        let wanted = plan
            .arms()
            .into_iter()
            .filter_map(|a| Kind::of(a.objective));
        // What all models are measured on is made whatever they are trained on.
        for kind in wanted.chain([Kind::Nsp, Kind::FullSentences]) {
            if folders.contains_key(&kind) {
                continue;
            }
            let folder = out.join("data").join(kind.name());
            prepare(plan, out, kind, &folder, jobs, signals)?;
            folders.insert(kind, folder);
        }
        Ok(Self {
            folders,
            left_out: BTreeMap::new(),
        })
    }

    /// A dataset that was prepared before: there is no text to make others of.
    fn given(plan: &Plan, dataset: &Path) -> anyhow::Result<Self> {
        if plan.key.inputs.len() > 1 {
            return Err(Refused {
                why: "one dataset can be compared on, or any number of texts".into(),
                hint: "give the text that all of it was prepared from".into(),
            }
            .into());
        }
        let opened = Dataset::open(dataset)?;
        let manifest = opened.manifest();
        let validation = manifest
            .splits
            .get("validation")
            .is_some_and(|s| s.rows > 0);
        let labels = manifest
            .splits
            .get("train")
            .map(|s| s.labels)
            .unwrap_or_default();
        if !validation || labels.is_next == 0 {
            return Err(Refused {
                why: format!(
                    "{}: has {}",
                    dataset.display(),
                    if validation {
                        "no pairs that follow one another"
                    } else {
                        "no validation split"
                    }
                ),
                hint: "give the text it was prepared from: all that is compared is then made of it"
                    .into(),
            }
            .into());
        }
        let mut folders = BTreeMap::from([(Kind::Nsp, dataset.to_path_buf())]);
        let mut left_out = BTreeMap::new();
        if labels.not_next == 0 {
            left_out.insert(
                Objective::MlmNsp.name().to_owned(),
                "the dataset has no random pairs".to_owned(),
            );
        }
        // Of its pairs those that follow one another have an order to predict.
        folders.insert(Kind::Pairs, dataset.to_path_buf());
        left_out.insert(
            Objective::FullSentences.name().to_owned(),
            "a dataset of pairs was given, not its text".to_owned(),
        );
        Ok(Self { folders, left_out })
    }

    /// A dataset's folder.
    pub fn folder(&self, kind: Kind) -> Option<&Path> {
        self.folders.get(&kind).map(PathBuf::as_path)
    }

    /// A dataset's manifest.
    pub fn manifest(&self, kind: Kind) -> anyhow::Result<Option<Manifest>> {
        let open = |folder: &Path| Ok(Dataset::open(folder)?.manifest().clone());
        self.folder(kind).map(open).transpose()
    }

    /// All of them.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> + '_ {
        self.folders.keys().copied()
    }
}

fn prepare(
    plan: &Plan,
    out: &Path,
    kind: Kind,
    folder: &Path,
    jobs: Option<usize>,
    signals: &Signals,
) -> anyhow::Result<()> {
    if is_dataset(folder) {
        return Ok(());
    }
    let asked = &plan.key.asked;
    fs::create_dir_all(out.join("data")).with_context(|| out.display().to_string())?;
    let mut run = Run::new(
        own()?,
        "prepare",
        out.join("data").join(format!("{}.log", kind.name())),
    );
    run.values(&plan.key.inputs);
    run.option("--tokenizer", &plan.key.init);
    run.option("--out", folder);
    run.option("--tokens", out.join("tokens"));
    run.option("--seq-len", asked.seq_len.to_string());
    run.option(
        "--validation-fraction",
        asked.validation_fraction.to_string(),
    );
    run.option("--text-field", &asked.text_field);
    run.values(kind.options());
    run.values(["--resume"]);
    if let Some(task) = plan.key.task.as_ref().filter(|_| !asked.keep_overlap) {
        let excluded = out.join("task").join(EXCLUDED);
        exclude(task, &excluded)?;
        run.option("--exclude", &excluded);
    }
    if let Some(jobs) = jobs {
        run.option("--jobs", jobs.to_string());
    }
    run.to_its_end(signals)
}

/// The texts of dev and test examples, which are left out of what models are trained on.
const EXCLUDED: &str = "exclude.jsonl";

/// Writes them: each text, or list of words, of a row by itself.
fn exclude(task: &Path, path: &Path) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    for file in ["dev.jsonl", "test.jsonl"] {
        for text in Rows::read(&task.join(file))?.each_text() {
            writeln!(bytes, "{}", serde_json::json!({ "text": text }))?;
        }
    }
    cloze_shard::atomic::write(path, &bytes)?;
    Ok(())
}

/// Mean tokens of a step: rows are taken in random order while they fit into the budget. Found by doing so, with rows of these lengths.
pub fn tokens_a_step(lengths: &BTreeMap<u16, u64>, batch_tokens: usize) -> f64 {
    let mut ends = Vec::with_capacity(lengths.len());
    let mut rows = 0;
    for (&length, &n) in lengths {
        rows += n;
        ends.push((rows, u64::from(length)));
    }
    let budget = batch_tokens as u64;
    let mut draws = Key::new(0, Stage::Sample).stream(0, 3);
    let (mut steps, mut now, mut all) = (0u64, 0, 0u64);
    for _ in 0..ENOUGH_ROWS * u64::from(rows > 0) {
        let row = draws.below(rows);
        let length = ends[ends.partition_point(|e| e.0 <= row)].1;
        if now + length > budget {
            (steps, now, all) = (steps + 1, 0, all + now);
        }
        now += length;
    }
    match steps {
        0 => budget as f64,
        _ => all as f64 / steps as f64,
    }
}

/// Rows after which a mean is known well.
const ENOUGH_ROWS: u64 = 200_000;

/// Labelled examples, a line each.
pub struct Rows {
    lines: Vec<String>,
    parsed: Vec<Value>,
}

impl Rows {
    /// Reads a file of JSONL. What `cloze finetune` refuses is refused there.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let (mut lines, mut parsed) = (Vec::new(), Vec::new());
        for (line, number) in text.lines().zip(1..) {
            if line.trim().is_empty() {
                continue;
            }
            let value: Value = serde_json::from_str(line)
                .with_context(|| format!("{}: line {number}: broken JSON", path.display()))?;
            lines.push(line.to_owned());
            parsed.push(value);
        }
        anyhow::ensure!(!lines.is_empty(), "{}: holds no examples", path.display());
        Ok(Self { lines, parsed })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Texts, words joined by blanks.
    pub fn texts(&self) -> impl Iterator<Item = String> + '_ {
        self.parsed.iter().map(|row| texts_of(row).join(" "))
    }

    /// Each text of the rows by itself, of pairs both.
    fn each_text(&self) -> impl Iterator<Item = String> + '_ {
        let all = self.parsed.iter().flat_map(texts_of);
        all.filter(|text| !text.is_empty())
    }

    /// `n` of the rows, in keyed order. Rows that bring a label not seen before come first, so that few examples know as many labels as can be; more are
    /// those that fewer are, and some others.
    pub fn choose(&self, n: usize, seed: u64) -> Vec<usize> {
        let order = Permutation::new(Key::new(seed, Stage::Sample), 0, 0, self.len() as u64);
        let order: Vec<usize> = (0..order.len()).map(|i| order.at(i) as usize).collect();
        let mut seen = HashSet::new();
        let (mut new, mut rest) = (Vec::new(), Vec::new());
        for row in order {
            // Every label is looked at, also after one that is new.
            let fresh = atoms(&self.parsed[row])
                .into_iter()
                .filter(|a| seen.insert(a.clone()))
                .count();
            match fresh {
                0 => rest.push(row),
                _ => new.push(row),
            }
        }
        new.into_iter().chain(rest).take(n).collect()
    }

    /// The labels that there are.
    pub fn labels(&self) -> HashSet<String> {
        self.parsed.iter().flat_map(atoms).collect()
    }

    /// Leaves out rows that have a label which is not among `known`; how many these are.
    fn leave_out_others(&mut self, known: &HashSet<String>) -> usize {
        let all = self.len();
        let keep = |row: &Value| atoms(row).iter().all(|label| known.contains(label));
        let (lines, parsed) = (self.lines.drain(..))
            .zip(self.parsed.drain(..))
            .filter(|(_, row)| keep(row))
            .unzip();
        (self.lines, self.parsed) = (lines, parsed);
        all - self.len()
    }

    /// Writes some of the rows, in the order of the file.
    pub fn write(&self, path: &Path, mut rows: Vec<usize>) -> anyhow::Result<()> {
        rows.sort_unstable();
        let mut bytes = Vec::new();
        for row in rows {
            writeln!(bytes, "{}", self.lines[row])?;
        }
        cloze_shard::atomic::write(path, &bytes)?;
        Ok(())
    }
}

/// Text, second text, and words of a row; what it does not have is empty.
fn texts_of(row: &Value) -> [String; 3] {
    ["text", "text_pair", "tokens"].map(|name| match row.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(words)) => {
            let words = words.iter().filter_map(Value::as_str);
            words.collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    })
}

/// The labels of a row, those of a list one by one. Numbers that are no labels are none.
fn atoms(row: &Value) -> Vec<String> {
    let label = row.get("label").or_else(|| row.get("tags"));
    let is_label = |v: &&Value| !v.is_f64() && !v.is_null();
    let of = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    match label {
        Some(Value::Array(all)) => all.iter().filter(is_label).map(of).collect(),
        Some(one) => Some(one).filter(is_label).map(of).into_iter().collect(),
        None => Vec::new(),
    }
}

/// The examples that a model learns from, chooses by and is measured on.
#[derive(Clone, Debug)]
pub struct TaskFiles {
    folder: PathBuf,
    /// Files of which rows were left out, as training has none of their labels, and how many.
    left_out: Vec<(&'static str, usize)>,
}

impl TaskFiles {
    /// Writes them into `out/task`. Smaller budgets are parts of larger ones with the same seed.
    pub fn write(plan: &Plan, out: &Path) -> anyhow::Result<Option<Self>> {
        let Some(task) = &plan.key.task else {
            return Ok(None);
        };
        let asked = &plan.key.asked;
        let mut files = Self {
            folder: out.join("task"),
            left_out: Vec::new(),
        };
        fs::create_dir_all(&files.folder).with_context(|| files.folder.display().to_string())?;
        let train = Rows::read(&task.join("train.jsonl"))?;
        let known = train.labels();
        let labels = known.len();
        for &budget in &asked.budgets {
            let n = files.size(budget, train.len());
            if n < labels {
                return Err(Refused {
                    why: format!("--budgets {budget}: the task has {labels} labels, so a model cannot learn them from {n} examples"),
                    hint: format!("give budgets of at least {labels}"),
                }
                .into());
            }
            for seed in 0..asked.seeds.max(asked.other_seeds.unwrap_or(0)) {
                let path = files.train(budget, seed);
                if !path.exists() {
                    train.write(&path, train.choose(n, u64::from(seed)))?;
                }
            }
        }
        for (file, most) in [
            ("dev.jsonl", asked.dev_rows),
            ("test.jsonl", asked.test_rows),
        ] {
            let path = task.join(file);
            let mut rows = Rows::read(&path)?;
            let others = rows.leave_out_others(&known);
            if rows.len() == 0 {
                return Err(Refused {
                    why: format!(
                        "{}: no row has a label that train.jsonl has",
                        path.display()
                    ),
                    hint: "see that the files belong together, and that labels are spelled alike"
                        .into(),
                }
                .into());
            }
            if others > 0 {
                files.left_out.push((file, others));
            }
            let n = if most == 0 {
                rows.len()
            } else {
                most.min(rows.len())
            };
            rows.write(&files.folder.join(file), rows.choose(n, 0))?;
        }
        Ok(Some(files))
    }

    fn size(&self, budget: Budget, all: usize) -> usize {
        match budget {
            Budget::All => all,
            Budget::Some(n) => all.min(usize::try_from(n).unwrap_or(usize::MAX)),
        }
    }

    /// Examples to learn from.
    pub fn train(&self, budget: Budget, seed: u32) -> PathBuf {
        self.folder
            .join(format!("train-{budget}-seed-{seed}.jsonl"))
    }

    /// What of it is not looked at, in words.
    pub fn left_out(&self) -> Vec<String> {
        let words = |(file, rows): &(&str, usize)| {
            format!(
                "{rows} of the rows of {file}: training has no example of their labels, which no model can know then"
            )
        };
        self.left_out.iter().map(words).collect()
    }

    /// Examples to choose by.
    pub fn dev(&self) -> PathBuf {
        self.folder.join("dev.jsonl")
    }

    /// Examples to measure on.
    pub fn test(&self) -> PathBuf {
        self.folder.join("test.jsonl")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(labels: &[Value]) -> Rows {
        let parsed: Vec<Value> = labels
            .iter()
            .map(|l| serde_json::json!({"text": "t", "label": l}))
            .collect();
        Rows {
            lines: parsed.iter().map(ToString::to_string).collect(),
            parsed,
        }
    }

    #[test]
    fn few_examples_know_all_labels_and_are_part_of_more() {
        let labels: Vec<Value> = (0..500)
            .map(|i| if i == 77 { "rare" } else { ["a", "b"][i % 2] }.into())
            .collect();
        let rows = rows(&labels);
        assert_eq!(rows.labels().len(), 3);
        for seed in 0..20 {
            let few = rows.choose(3, seed);
            assert!(few.contains(&77));
            let more = rows.choose(50, seed);
            assert_eq!(more[..3], few);
            let distinct: HashSet<usize> = rows.choose(1_000, seed).into_iter().collect();
            assert_eq!(distinct.len(), 500);
        }
        assert_ne!(rows.choose(50, 0), rows.choose(50, 1));
    }

    #[test]
    fn labels_of_lists_count_one_by_one_and_numbers_do_not() {
        assert_eq!(
            rows(&[serde_json::json!(["a", "b"]), serde_json::json!(["b"])])
                .labels()
                .len(),
            2
        );
        assert!(rows(&[0.5.into(), 0.25.into()]).labels().is_empty());
        assert_eq!(rows(&[1.into(), 0.into(), 1.into()]).labels().len(), 2);
    }

    #[test]
    fn rows_of_labels_that_training_lacks_are_left_out() {
        let known = rows(&["a".into(), "b".into()]).labels();
        let mut some = rows(&[
            "a".into(),
            "c".into(),
            serde_json::json!(["b", "a"]),
            serde_json::json!(["b", "c"]),
            0.5.into(),
        ]);
        assert_eq!(some.leave_out_others(&known), 2);
        assert_eq!((some.len(), some.parsed.len()), (3, 3));
        assert_eq!(some.lines[1], some.parsed[1].to_string());
    }

    #[test]
    fn tokens_of_a_step_are_what_fits() {
        let of = |lengths: &[(u16, u64)], budget| {
            tokens_a_step(&lengths.iter().copied().collect(), budget)
        };
        assert_eq!(of(&[(128, 9)], 4_096), 4_096.0);
        assert_eq!(of(&[(100, 9)], 4_096), 4_000.0);
        assert_eq!(of(&[], 4_096), 4_096.0);
        assert_eq!(of(&[(64, 1)], 64), 64.0);
        // By hand: of rows of 1 and 3 tokens into 4, a step is 4, unless it begins with 1 and 1 and 1 and 3, or 3 and 3, and so on.
        let seen = of(&[(1, 1), (3, 1)], 4);
        let exact = {
            // Chains of what is in a step when it ends: a step begins with a row drawn, or with the one that did not fit.
            let (mut sum, mut n) = (0.0, 0.0);
            // Begun by 3: next 1 → full, and the step after begins anew; next 3 → ends with 3, begins with 3.
            // Begun by 1: 3 → 4; 1, 3 → ends with 2, begins with 3; 1, 1, 3 → ends with 3, begins with 3; 1, 1, 1 → 4.
            let from = [
                [(4.0, 0.5, None), (3.0, 0.5, Some(3))].to_vec(),
                [
                    (4.0, 0.5, None),
                    (2.0, 0.25, Some(3)),
                    (3.0, 0.125, Some(3)),
                    (4.0, 0.125, None),
                ]
                .to_vec(),
            ];
            let mut share = [0.5, 0.5];
            for _ in 0..200 {
                let mut next = [0.0; 2];
                for (which, ends) in from.iter().enumerate() {
                    for &(tokens, p, first) in ends {
                        let weight = share[which] * p;
                        (sum, n) = (sum + weight * tokens, n + weight);
                        match first {
                            Some(_) => next[0] += weight,
                            None => {
                                (next[0], next[1]) =
                                    (next[0] + weight / 2.0, next[1] + weight / 2.0);
                            }
                        }
                    }
                }
                share = next;
            }
            sum / n
        };
        assert!((seen - exact).abs() < 0.01, "{seen} {exact}");
    }
}
