//! Parquet files of LDDL: segments as WordPieces with spaces between them, and masks where they are static.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt16Type;
use arrow_array::{Array, BinaryArray, BooleanArray, RecordBatch, StringArray, UInt16Array};
use arrow_schema::{DataType, Schema};
use cloze_shard::parquet_footer;
use cloze_shard::row::Masks;
use cloze_shard::{NextSentenceLabel, Row};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Input, Plan, Sink, npy};
use crate::error::parquet;
use crate::{Error, Result, table};

const MASKS: [&str; 2] = ["masked_lm_positions", "masked_lm_labels"];

/// Types by Parquet's own account, whatever the program that wrote them called them.
fn options() -> ArrowReaderOptions {
    ArrowReaderOptions::new().with_skip_arrow_metadata(true)
}

fn load(path: &Path) -> Result<ArrowReaderMetadata> {
    parquet_footer::check(path)?;
    let file = File::open(path).map_err(cloze_shard::Error::io(path))?;
    // The library panics on some broken files.
    let load = AssertUnwindSafe(|| ArrowReaderMetadata::load(&file, options()));
    let loaded = catch_unwind(load).map_err(|_| Error::input(path, "", "is broken"))?;
    loaded.map_err(parquet(path))
}

/// Whether the files have static masks: all of them, or none.
pub fn have_masks<'a>(inputs: impl Iterator<Item = &'a Input>) -> Result<bool> {
    let mut first: Option<(&Path, bool)> = None;
    for input in inputs {
        let path = &input.path;
        let loaded = load(path)?;
        let masks = MASKS.map(|name| loaded.schema().index_of(name).is_ok());
        match first {
            Some((other, there)) if there != masks[0] => {
                let why = format!(
                    "its masks are not static as those of {} are, or the other way around",
                    other.display()
                );
                return Err(Error::input(path, "", why));
            }
            _ => first = Some((path, masks[0])),
        }
    }
    Ok(first.is_some_and(|(_, there)| there))
}

/// Reads a file.
pub fn read(plan: &Plan<'_>, input: &Input, sink: &mut Sink<'_>) -> Result<()> {
    let path = &input.path;
    let vocabulary = plan.vocabulary;
    let ids: HashMap<&str, u32> = (0..vocabulary.len() as u32)
        .filter_map(|id| vocabulary.token(id).map(|token| (token, id)))
        .collect();
    let masks = plan.rules.static_masks();
    let fits = |schema: &Schema| columns(schema, masks);
    let mut row = Row::default();
    let mut done = 0;
    let rows = load(path)?.metadata().file_metadata().num_rows().max(1) as u64;
    table::read(path, options(), &fits, &mut |batch| {
        let columns = Columns::new(&batch, masks).map_err(|why| Error::input(path, "", why))?;
        for i in 0..batch.num_rows() {
            let made = columns.fill(i, &ids, plan, &mut row).map(|()| &mut row);
            sink.push(made)?;
        }
        done += batch.num_rows() as u64;
        let share = done as f64 / rows as f64;
        sink.at((share * input.bytes as f64) as u64);
        Ok(())
    })
}

fn columns(schema: &Schema, masks: bool) -> Result<(), String> {
    let mut needed = vec![
        ("A", DataType::Utf8),
        ("B", DataType::Utf8),
        ("is_random_next", DataType::Boolean),
    ];
    if masks {
        needed.push((MASKS[0], DataType::Binary));
        needed.push((MASKS[1], DataType::Utf8));
    }
    for (name, wanted) in needed {
        match schema.field_with_name(name) {
            Err(_) => {
                let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
                let names = names.join(", ");
                return Err(format!(
                    "has no column {name}, only {names}: not a file of LDDL"
                ));
            }
            Ok(field) if *field.data_type() != wanted => {
                let found = field.data_type();
                return Err(format!("column {name} is {found}, expected {wanted}"));
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

struct Columns<'a> {
    a: &'a StringArray,
    b: &'a StringArray,
    is_random: &'a BooleanArray,
    /// Only compared: what it says is seen from the segments. Other widths than LDDL's are passed over.
    num_tokens: Option<&'a UInt16Array>,
    masks: Option<(&'a BinaryArray, &'a StringArray)>,
}

impl<'a> Columns<'a> {
    /// [`columns`] saw that they are there.
    fn new(batch: &'a RecordBatch, masks: bool) -> Result<Self, String> {
        let column = |name: &str| {
            let found = batch.column_by_name(name);
            found.ok_or_else(|| format!("has no column {name}"))
        };
        let num_tokens = batch.column_by_name("num_tokens");
        Ok(Self {
            a: column("A")?.as_string(),
            b: column("B")?.as_string(),
            is_random: column("is_random_next")?.as_boolean(),
            num_tokens: num_tokens.and_then(|c| c.as_primitive_opt::<UInt16Type>()),
            masks: match masks {
                true => Some((column(MASKS[0])?.as_binary(), column(MASKS[1])?.as_string())),
                false => None,
            },
        })
    }

    fn fill(
        &self,
        i: usize,
        ids: &HashMap<&str, u32>,
        plan: &Plan<'_>,
        row: &mut Row,
    ) -> Result<(), String> {
        let nulls = [
            self.a.is_null(i),
            self.b.is_null(i),
            self.is_random.is_null(i),
        ];
        if nulls.contains(&true) {
            return Err("A, B or is_random_next is null".into());
        }
        let special = plan.vocabulary.special();
        row.input_ids.clear();
        row.input_ids.push(special.cls);
        append(self.a.value(i), ids, &mut row.input_ids)?;
        row.input_ids.push(special.sep);
        let b_start = row.input_ids.len();
        append(self.b.value(i), ids, &mut row.input_ids)?;
        let has_b = row.input_ids.len() > b_start;
        if has_b {
            row.input_ids.push(special.sep);
        }
        let n = row.input_ids.len();
        let fits = u16::try_from(n).is_ok();
        row.b_start = u16::try_from(b_start).unwrap_or(u16::MAX);
        if !fits {
            return Err(format!("{n} tokens, at most {} are allowed", u16::MAX));
        }
        row.next_sentence_label = has_b.then(|| match self.is_random.value(i) {
            true => NextSentenceLabel::NotNext,
            false => NextSentenceLabel::IsNext,
        });
        if let Some(num_tokens) = self.num_tokens.filter(|c| c.is_valid(i)) {
            let said = usize::from(num_tokens.value(i));
            if has_b && said != n {
                return Err(format!("{n} tokens, num_tokens says {said}"));
            }
        }
        row.masks = match self.masks {
            Some((positions, labels)) if positions.is_valid(i) && labels.is_valid(i) => {
                let positions = npy::positions(positions.value(i))?;
                let mut masks = Masks {
                    positions,
                    labels: Vec::new(),
                };
                append(labels.value(i), ids, &mut masks.labels)?;
                Some(masks)
            }
            Some(_) => return Err("its masks are null".into()),
            None => None,
        };
        Ok(())
    }
}

/// Appends the ids of WordPieces with spaces between them.
fn append(text: &str, ids: &HashMap<&str, u32>, out: &mut Vec<u32>) -> Result<(), String> {
    for token in text.split_ascii_whitespace() {
        let id = ids.get(token);
        out.push(*id.ok_or_else(|| {
            let token: String = token.chars().take(40).collect();
            format!("{token:?} is not in the vocabulary")
        })?);
    }
    Ok(())
}
