//! Labelled examples from files: JSONL, CSV, TSV and Parquet.

mod columns;
mod labels;
mod lines;
mod table;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::{Error, Result};

pub use labels::{Target, Task, TaskKind};

/// The fields that hold what; `None` for those of the first row that go by the usual names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// The text, or a list of words: `text`, else `tokens`.
    pub text: Option<String>,
    /// The second text of a pair: `text_pair`, where there is one.
    pub text_pair: Option<String>,
    /// The label: `label`, for words also `tags`.
    pub label: Option<String>,
}

/// What a model is given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// One text.
    Text(String),
    /// Two.
    Pair(String, String),
    /// A sentence, as its words.
    Words(Vec<String>),
}

/// An example, and what is right.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Its line in the file, or its row, from 1.
    pub number: u64,
    /// What the model is given.
    pub input: Input,
    /// What it should say.
    pub target: Target,
}

/// A task: what is asked, and examples.
#[derive(Clone, Debug)]
pub struct Data {
    /// What is asked.
    pub task: Task,
    /// How the task was chosen, for a person.
    pub why: String,
    /// To learn from.
    pub train: Vec<Example>,
    /// To choose the best model by.
    pub dev: Vec<Example>,
    /// To measure it on, once.
    pub test: Vec<Example>,
}

/// A file as it was read.
pub(crate) struct Table {
    path: PathBuf,
    /// What its rows are numbered by: `line` or `row`.
    unit: &'static str,
    /// Whether numbers, lists and text are told apart in the file; in CSV everything is text.
    typed: bool,
    rows: Vec<(u64, Map<String, Value>)>,
}

/// The usual name of the field of second texts.
const PAIR: &str = "text_pair";

/// The fields' names, once they are settled.
struct Names {
    text: String,
    pair: Option<String>,
    label: String,
}

impl Data {
    /// Reads what there is. The task and the names of fields are settled by the training file.
    pub fn read(
        train: &Path,
        dev: Option<&Path>,
        test: Option<&Path>,
        fields: &Fields,
        kind: Option<TaskKind>,
    ) -> Result<Self> {
        let table = Table::read(train)?;
        let names = Names::settle(&table, fields)?;
        let (task, why) = Task::of(&table, &names, kind)?;
        let examples = |table: &Table| table.examples(&names, &task);
        let others = |path: Option<&Path>| match path {
            Some(path) => examples(&Table::read(path)?),
            None => Ok(Vec::new()),
        };
        let train = examples(&table)?;
        drop(table);
        Ok(Self {
            dev: others(dev)?,
            test: others(test)?,
            train,
            task,
            why,
        })
    }
}

impl Data {
    /// What a person should know of the examples before a model learns them.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let learned: HashSet<&Input> = self.train.iter().map(|e| &e.input).collect();
        for (name, set) in [("dev", &self.dev), ("test", &self.test)] {
            let known = set.iter().filter(|e| learned.contains(&e.input)).count();
            if known > 0 {
                warnings.push(format!(
                    "{} of {} {name} rows have the text of a training row: what is measured on them is memory",
                    known,
                    set.len()
                ));
            }
        }
        let all = self.train.iter().chain(&self.dev).chain(&self.test);
        let empty = all.filter(|e| e.input.is_empty()).count();
        if empty > 0 {
            warnings.push(format!("{empty} rows hold no text"));
        }
        let labels = self.task.labels.iter();
        let spaced: Vec<&String> = labels
            .filter(|l| l.trim() != *l && self.task.labels.iter().any(|o| o == l.trim()))
            .collect();
        if let Some(one) = spaced.first() {
            warnings.push(format!(
                "the labels {one:?} and {:?} differ by spaces alone, and are learned as two",
                one.trim()
            ));
        }
        warnings
    }
}

impl Input {
    fn is_empty(&self) -> bool {
        match self {
            Self::Text(a) => a.trim().is_empty(),
            Self::Pair(a, b) => a.trim().is_empty() && b.trim().is_empty(),
            Self::Words(words) => words.is_empty(),
        }
    }
}

impl Names {
    fn settle(table: &Table, fields: &Fields) -> Result<Self> {
        let first = &table.rows[0].1;
        let has = |name: &&str| first.contains_key(*name);
        let find = |names: &[&'static str]| names.iter().copied().find(has).map(str::to_owned);
        let text = fields.text.clone().or_else(|| find(&["text", "tokens"]));
        let text = text.unwrap_or_else(|| "text".into());
        let words = first.get(&text).is_some_and(Value::is_array);
        let usual: &[&str] = if words {
            &["label", "tags"]
        } else {
            &["label"]
        };
        let label = fields.label.clone().or_else(|| find(usual));
        Ok(Self {
            pair: fields.text_pair.clone().or_else(|| match words {
                true => None,
                false => find(&[PAIR]),
            }),
            label: label.unwrap_or_else(|| "label".into()),
            text,
        })
    }
}

impl Table {
    /// Reads the file `path`, as its name says.
    fn read(path: &Path) -> Result<Self> {
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        let table = match extension.to_lowercase().as_str() {
            "jsonl" | "ndjson" | "json" => lines::read(path)?,
            "csv" => table::read(path, b',')?,
            "tsv" => table::read(path, b'\t')?,
            "parquet" => columns::read(path)?,
            _ => {
                return Err(Error::Data {
                    path: path.into(),
                    place: String::new(),
                    why: "is of no kind that is read".into(),
                    hint: "give a file whose name ends in .jsonl, .csv, .tsv or .parquet".into(),
                });
            }
        };
        match table.rows.is_empty() {
            true => Err(Error::Data {
                path: path.into(),
                place: String::new(),
                why: "holds no row".into(),
                hint: "give a file with at least one labelled row".into(),
            }),
            false => Ok(table),
        }
    }

    /// Something is wrong in row `number`.
    fn fail(&self, number: u64, why: impl Into<String>, hint: impl Into<String>) -> Error {
        wrong(&self.path, self.unit, number, why, hint)
    }

    fn examples(&self, names: &Names, task: &Task) -> Result<Vec<Example>> {
        let rows = self.rows.iter();
        rows.map(|(number, row)| {
            let input = self.input(*number, row, names)?;
            let label = self.field(*number, row, &names.label, "--label-field")?;
            let target = task.target(self, names, *number, &input, label)?;
            Ok(Example {
                number: *number,
                input,
                target,
            })
        })
        .collect()
    }

    /// The value of a field that must be there.
    fn field<'r>(
        &self,
        number: u64,
        row: &'r Map<String, Value>,
        name: &str,
        option: &str,
    ) -> Result<&'r Value> {
        match row.get(name) {
            Some(value) if !value.is_null() => Ok(value),
            Some(_) => Err(self.fail(
                number,
                format!("its {name:?} is null"),
                "fill it in, or leave the row out",
            )),
            None => {
                let there: Vec<&str> = row.keys().map(String::as_str).collect();
                Err(self.fail(
                    number,
                    format!("has no {name:?}; there is: {}", there.join(", ")),
                    format!("name the field with {option}"),
                ))
            }
        }
    }

    fn input(&self, number: u64, row: &Map<String, Value>, names: &Names) -> Result<Input> {
        let text = |name: &str, option: &str| match self.field(number, row, name, option)? {
            Value::String(text) => Ok(text.clone()),
            other => Err(self.fail(
                number,
                format!("its {name:?} is {}, expected text", kind_of(other)),
                format!("name the field of the text with {option}"),
            )),
        };
        if let Value::Array(words) = self.field(number, row, &names.text, "--text-field")? {
            let words = words.iter().map(|word| match word {
                Value::String(word) => Ok(word.clone()),
                other => Err(self.fail(
                    number,
                    format!(
                        "its {:?} holds {}, expected words",
                        names.text,
                        kind_of(other)
                    ),
                    "give each word as text",
                )),
            });
            return Ok(Input::Words(words.collect::<Result<_>>()?));
        }
        let a = text(&names.text, "--text-field")?;
        match &names.pair {
            Some(pair) => Ok(Input::Pair(a, text(pair, "--text-pair-field")?)),
            // What the first row lacks is in none, or nothing would be said of texts that are left out.
            None if names.text != PAIR && row.get(PAIR).is_some_and(|v| !v.is_null()) => {
                Err(self.fail(
                    number,
                    format!("has a {PAIR:?}, which the first row of the training file lacks"),
                    format!("give all rows one, or none, or name the field with --text-pair-field {PAIR}"),
                ))
            }
            None => Ok(Input::Text(a)),
        }
    }
}

/// Something is wrong at a place in a file.
fn wrong(
    path: &Path,
    unit: &str,
    number: u64,
    why: impl Into<String>,
    hint: impl Into<String>,
) -> Error {
    Error::Data {
        path: path.into(),
        place: format!("{unit} {number}: "),
        why: why.into(),
        hint: hint.into(),
    }
}

/// A JSON value's kind, for a person.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
