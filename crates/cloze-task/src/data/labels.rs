//! What is asked, and what is right.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Input, Names, Table, kind_of};
use crate::{Error, Result};

/// What kind of thing is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskKind {
    /// One label of several, for a text or a pair.
    Classification,
    /// A number.
    Regression,
    /// Any number of labels.
    MultiLabel,
    /// A label for each word.
    TokenClassification,
}

impl std::fmt::Display for TaskKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Classification => "classification",
            Self::Regression => "regression",
            Self::MultiLabel => "multi-label",
            Self::TokenClassification => "token-classification",
        })
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its kind.
    pub kind: TaskKind,
    /// The labels by id; none for a regression. Integers are in their own order, others in that of their bytes.
    pub labels: Vec<String>,
    ids: HashMap<String, u32>,
    /// Whether rows hold a 0 or 1 for each label, in their order, instead of the labels that they have.
    multi_hot: bool,
}

/// What is right for an example.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// The id of its label.
    Class(u32),
    /// A number.
    Number(f64),
    /// The ids of its labels, ascending.
    Set(Vec<u32>),
    /// The id of each word's label.
    Tags(Vec<u32>),
}

const FEW: usize = 12;

impl Task {
    /// A task with these labels.
    #[must_use]
    pub fn new(kind: TaskKind, labels: BTreeSet<String>) -> Self {
        let mut labels: Vec<String> = labels.into_iter().collect();
        if let Ok(numbers) = labels
            .iter()
            .map(|l| l.parse::<i64>())
            .collect::<Result<Vec<_>, _>>()
        {
            let mut pairs: Vec<(i64, String)> = numbers.into_iter().zip(labels).collect();
            pairs.sort();
            labels = pairs.into_iter().map(|(_, label)| label).collect();
        }
        let ids = labels.iter().cloned().zip(0..).collect();
        Self {
            kind,
            labels,
            ids,
            multi_hot: false,
        }
    }

    /// How many numbers a head gives for an example, or for a word.
    #[must_use]
    pub fn outputs(&self) -> usize {
        match self.kind {
            TaskKind::Regression => 1,
            _ => self.labels.len(),
        }
    }

    /// What the training file asks, and how it was found out.
    pub(super) fn of(
        table: &Table,
        names: &Names,
        asked: Option<TaskKind>,
    ) -> Result<(Self, String)> {
        let name = &names.label;
        let mut values = Vec::with_capacity(table.rows.len());
        for (number, row) in &table.rows {
            values.push((*number, table.field(*number, row, name, "--label-field")?));
        }
        let words = (table.rows[0].1.get(&names.text)).is_some_and(Value::is_array);
        let (kind, why) = match asked {
            Some(kind) => (kind, "as asked for".to_owned()),
            None => {
                if let Some((number, value)) = odd_one(words, table.typed, &values) {
                    return Err(table.fail(
                        number,
                        format!("its {name:?} is {value}, and nearly all others are numbers with a fraction"),
                        "mend the row, or say what is asked: --task regression or --task classification",
                    ));
                }
                guess(words, table.typed, name, &values)
            }
        };
        if kind == TaskKind::MultiLabel
            && let Some(n) = multi_hot(&values)
        {
            let mut task = Self::new(kind, (0..n).map(|i| i.to_string()).collect());
            task.multi_hot = true;
            return Ok((task, format!("{why}, a 0 or 1 for each label")));
        }
        let mut labels = BTreeSet::new();
        for (number, value) in &values {
            match (kind, value) {
                (TaskKind::Regression, _) => break,
                (TaskKind::Classification, value) => {
                    labels.insert(table.label(*number, name, value)?);
                }
                (_, Value::Array(several)) => {
                    for (i, value) in several.iter().enumerate() {
                        let twice = value.is_number() && several[..i].contains(value);
                        let odd = value.is_boolean() || value.is_f64();
                        if kind == TaskKind::MultiLabel && (twice || odd) {
                            return Err(table.no_set(*number, name, value));
                        }
                        labels.insert(table.label(*number, name, value)?);
                    }
                }
                (_, other) => return Err(table.no_list(*number, kind, name, other)),
            }
        }
        let fewest = match kind {
            TaskKind::Regression => 0,
            TaskKind::MultiLabel => 1,
            _ => 2,
        };
        if labels.len() < fewest {
            return Err(Error::Data {
                path: table.path.clone(),
                place: String::new(),
                why: format!(
                    "its {name:?} holds {} different labels: there is nothing to learn",
                    labels.len()
                ),
                hint: "give rows of at least two labels, or name another field with --label-field"
                    .into(),
            });
        }
        Ok((Self::new(kind, labels), why))
    }

    /// What is right for a row.
    pub(super) fn target(
        &self,
        table: &Table,
        names: &Names,
        number: u64,
        input: &Input,
        value: &Value,
    ) -> Result<Target> {
        let words = match input {
            Input::Words(words) => Some(words.len()),
            _ => None,
        };
        if words.is_some() != (self.kind == TaskKind::TokenClassification) {
            return Err(match words {
                None => table.fail(
                    number,
                    "holds a text, expected a list of words",
                    "name the list of words with --text-field, or give another --task",
                ),
                Some(_) => table.fail(
                    number,
                    format!("holds a list of words, expected a text for {}", self.kind),
                    "name the text with --text-field, or give --task token-classification",
                ),
            });
        }
        let id = |value: &Value| self.id(table, names, number, value);
        Ok(match (self.kind, value) {
            (TaskKind::Classification, value) => Target::Class(id(value)?),
            (TaskKind::Regression, value) => Target::Number(number_of(value).ok_or_else(|| {
                table.fail(
                    number,
                    format!("its label is {value}, expected a number"),
                    "give numbers, or --task classification",
                )
            })?),
            (TaskKind::MultiLabel, Value::Array(several)) if self.multi_hot => {
                let has: Option<Vec<bool>> = several.iter().map(hot).collect();
                let has = has.filter(|has| has.len() == self.labels.len());
                let has = has.ok_or_else(|| {
                    let why = format!(
                        "its labels are not {} numbers that are 0 or 1, as those of the training file are",
                        self.labels.len()
                    );
                    table.fail(number, why, "give a 0 or 1 for each label, in the same order everywhere")
                })?;
                let ids = (0..).zip(has).filter(|(_, has)| *has);
                Target::Set(ids.map(|(id, _)| id).collect())
            }
            (TaskKind::MultiLabel, Value::Array(several)) => {
                let mut ids = several.iter().map(id).collect::<Result<Vec<_>>>()?;
                ids.sort_unstable();
                ids.dedup();
                Target::Set(ids)
            }
            (TaskKind::TokenClassification, Value::Array(tags)) => {
                let words = words.unwrap_or_default();
                if tags.len() != words {
                    return Err(table.fail(
                        number,
                        format!("has {words} words and {} tags", tags.len()),
                        "give one tag a word",
                    ));
                }
                Target::Tags(tags.iter().map(id).collect::<Result<_>>()?)
            }
            (kind, other) => return Err(table.no_list(number, kind, "label", other)),
        })
    }

    fn id(&self, table: &Table, names: &Names, number: u64, value: &Value) -> Result<u32> {
        let label = table.label(number, "label", value)?;
        self.ids.get(&label).copied().ok_or_else(|| {
            let few = |labels: &mut dyn Iterator<Item = &String>| {
                let mut few: Vec<&str> = labels.take(FEW + 1).map(String::as_str).collect();
                if few.len() > FEW {
                    few[FEW] = "…";
                }
                few.join(", ")
            };
            let (rows, unknown) = self.unknown(table, &names.label);
            let rows = match rows {
                1 => "no other row has one".to_owned(),
                rows => format!("{rows} rows have such labels ({})", few(&mut unknown.iter())),
            };
            table.fail(
                number,
                format!(
                    "its label is {label:?}, which the training file does not have; {rows}; it has {}: {}",
                    self.labels.len(),
                    few(&mut self.labels.iter())
                ),
                "add rows with them to the training file, or leave these rows out",
            )
        })
    }

    /// How many rows of `table` have a label that is none of the task's, and these labels.
    fn unknown(&self, table: &Table, name: &str) -> (usize, BTreeSet<String>) {
        let (mut rows, mut unknown) = (0, BTreeSet::new());
        for (number, row) in &table.rows {
            let mut has = false;
            let values = match row.get(name) {
                Some(Value::Array(several)) => several.as_slice(),
                Some(one) => std::slice::from_ref(one),
                None => &[],
            };
            for label in values
                .iter()
                .filter_map(|v| table.label(*number, name, v).ok())
            {
                if !self.ids.contains_key(&label) {
                    has = true;
                    unknown.insert(label);
                }
            }
            rows += usize::from(has);
        }
        (rows, unknown)
    }
}

impl Table {
    /// A single label as text.
    fn label(&self, number: u64, name: &str, value: &Value) -> Result<String> {
        match value {
            Value::String(label) if label.trim().is_empty() => Err(self.fail(
                number,
                format!("its {name:?} is empty, expected a label"),
                "give it a label, or leave the row out",
            )),
            Value::String(label) => Ok(label.clone()),
            Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
            other => Err(self.fail(
                number,
                format!("its {name:?} is or holds {}, expected a label", kind_of(other)),
                "give labels as text or numbers; for several labels a row, a list and --task multi-label",
            )),
        }
    }

    fn no_set(&self, number: u64, name: &str, value: &Value) -> Error {
        let what = match value {
            Value::Number(_) if !value.is_f64() => "more than once",
            _ => "and not as a label",
        };
        self.fail(
            number,
            format!("its {name:?} holds {value} {what}, expected the labels that the row has"),
            "give each label once; or a 0 or 1 for each label, as many in every row",
        )
    }

    fn no_list(&self, number: u64, kind: TaskKind, name: &str, value: &Value) -> Error {
        let hint = match self.typed {
            true => format!("give a list, or another --task than {kind}"),
            false => "give JSONL or Parquet: CSV and TSV hold no lists".into(),
        };
        self.fail(
            number,
            format!(
                "its {name:?} is {}, expected a list of labels",
                kind_of(value)
            ),
            hint,
        )
    }
}

/// Whether a row has the label, where there is a 0 or 1 for each.
fn hot(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(has) => Some(*has),
        Value::Number(n) => match n.as_f64() {
            Some(0.0) => Some(false),
            Some(1.0) => Some(true),
            _ => None,
        },
        _ => None,
    }
}

/// How many labels there are, where rows hold a 0 or 1 for each: as many in every row. Lists without equal elements may be sets of the labels 0 and 1,
/// which they are where they hold one; two that are always there would tell nothing.
fn multi_hot(values: &[(u64, &Value)]) -> Option<usize> {
    let n = values.first()?.1.as_array()?.len();
    let typed = |v: &Value| v.is_boolean() || v.is_f64();
    let mut told = n > 1;
    for (_, value) in values {
        let list = value.as_array().filter(|list| list.len() == n)?;
        if !list.iter().all(|v| hot(v).is_some()) {
            return None;
        }
        told |= list.iter().any(typed);
    }
    told.then_some(n).filter(|n| *n > 0)
}

/// A finite number, also where it is written as text.
fn number_of(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(n) => n.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|n| n.is_finite() && (*n as f32).is_finite())
}

/// The first label that is no number, where nearly all are, and some have a fraction: they are hardly the names of classes.
fn odd_one<'v>(words: bool, typed: bool, values: &[(u64, &'v Value)]) -> Option<(u64, &'v Value)> {
    let number = |v: &Value| number_of(v).filter(|_| !typed || v.is_number());
    let fractions = values
        .iter()
        .any(|(_, v)| number(v).is_some_and(|n| n.fract() != 0.0));
    let mut others = values.iter().filter(|(_, v)| number(v).is_none());
    let first = others.next()?;
    let few = 10 * (1 + others.count()) <= values.len();
    (!words && fractions && few).then_some(*first)
}

fn guess(words: bool, typed: bool, name: &str, values: &[(u64, &Value)]) -> (TaskKind, String) {
    let fractions = |v: &Value| number_of(v).is_some_and(|n| n.fract() != 0.0);
    // What a file without types holds may be a number; what one with types holds as text is text.
    let number = |v: &Value| number_of(v).is_some() && (!typed || v.is_number());
    // A number with a point is one, even where nothing follows it: so programs write columns of numbers of which some were missing.
    let pointed = |v: &Value| !typed && v.as_str().is_some_and(|t| t.contains(['.', 'e', 'E']));
    let float = |v: &Value| fractions(v) || v.is_f64() || pointed(v);
    let all_numbers = values.iter().all(|(_, v)| number(v));
    let (kind, what) = if words {
        (
            TaskKind::TokenClassification,
            "the inputs are lists of words".to_owned(),
        )
    } else if values.iter().all(|(_, v)| v.is_array()) {
        (TaskKind::MultiLabel, format!("{name:?} holds lists"))
    } else if all_numbers && values.iter().any(|(_, v)| float(v)) {
        (
            TaskKind::Regression,
            format!("{name:?} holds numbers that are no integers"),
        )
    } else if all_numbers {
        (TaskKind::Classification, format!("{name:?} holds integers"))
    } else {
        (TaskKind::Classification, format!("{name:?} holds text"))
    };
    (kind, format!("chosen because {what}"))
}
