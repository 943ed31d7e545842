//! Where the rows of one file go: its shards.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cloze_shard::manifest::ShardRecord;
use cloze_shard::{NextSentenceLabel, Row, ShardWriter};

use super::{Input, Plan};
use crate::{Error, Result};

/// What became of a file.
pub struct Written {
    pub path: PathBuf,
    pub bytes: u64,
    pub digest: String,
    pub shards: Vec<ShardRecord>,
    /// Tokens of the longest row, or those that there is room for.
    pub longest: u16,
    pub skipped: BTreeMap<String, u64>,
    pub first_skipped: Option<String>,
}

/// Takes the rows of a file, in order.
pub struct Sink<'a> {
    plan: &'a Plan<'a>,
    split: &'a str,
    input: &'a Input,
    rows: u64,
    /// The shard that is written, its name, and its rows.
    open: Option<(ShardWriter, String, u64)>,
    written: Written,
    /// Bytes of the file that progress was told of.
    told: u64,
}

impl<'a> Sink<'a> {
    pub fn new(plan: &'a Plan<'a>, split: &'a str, input: &'a Input) -> Self {
        Self {
            plan,
            split,
            input,
            rows: 0,
            open: None,
            written: Written {
                path: input.path.clone(),
                bytes: input.bytes,
                digest: String::new(),
                shards: Vec::new(),
                longest: 0,
                skipped: BTreeMap::new(),
                first_skipped: None,
            },
            told: 0,
        }
    }

    /// Rows have room for that many tokens.
    pub fn room(&mut self, tokens: usize) {
        let tokens = u16::try_from(tokens).unwrap_or(u16::MAX);
        self.written.longest = self.written.longest.max(tokens);
    }

    /// That many of the file's bytes were read.
    pub fn at(&mut self, bytes: u64) {
        let bytes = bytes.min(self.input.bytes);
        if bytes > self.told {
            (self.plan.progress)(bytes - self.told);
            self.told = bytes;
        }
    }

    /// Takes the next row, or what is wrong with it. Documents are filled in: a row's own, and another one for a random B.
    pub fn push(&mut self, row: Result<&mut Row, String>) -> Result<()> {
        let number = self.rows;
        self.rows += 1;
        let checked = row.and_then(|row| {
            let document = (self.input.number << 41 | number << 1) as i64;
            let random = row.next_sentence_label == Some(NextSentenceLabel::NotNext);
            (row.doc_a, row.doc_b) = (document, document | i64::from(random));
            self.plan.rules.check(&row.view()).map(|()| row)
        });
        let row = match checked {
            Ok(row) => row,
            Err(why) => return self.bad(number, why),
        };
        self.written.longest = self.written.longest.max(row.input_ids.len() as u16);
        let (writer, _, rows) = match &mut self.open {
            Some(open) => open,
            None => self
                .open
                .insert(begin(self.plan, self.split, self.input, &self.written)?),
        };
        writer.push(&row.view())?;
        *rows += 1;
        if *rows == self.plan.options.shard_rows {
            self.close()?;
        }
        Ok(())
    }

    fn bad(&mut self, number: u64, why: String) -> Result<()> {
        if !self.plan.options.skip_bad_rows {
            return Err(Error::Input {
                path: self.input.path.clone(),
                place: format!("row {number}: "),
                why,
                hint: Some(
                    "give the tokenizer that the rows were made with; --on-bad-row skip passes over such rows and counts them"
                        .into(),
                ),
            });
        }
        let path = self.input.path.display();
        let first = || format!("{path}: row {number}: {why}");
        self.written.first_skipped.get_or_insert_with(first);
        *self.written.skipped.entry("bad row".into()).or_default() += 1;
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        if let Some((writer, name, _)) = self.open.take() {
            self.written.shards.push(writer.finish(&name)?);
        }
        Ok(())
    }

    pub fn finish(mut self) -> Result<Written> {
        self.close()?;
        self.at(self.input.bytes);
        Ok(self.written)
    }
}

/// Begins the next shard of a file: `part-00012.arrow`, then `part-00012-1.arrow`.
fn begin(
    plan: &Plan<'_>,
    split: &str,
    input: &Input,
    written: &Written,
) -> Result<(ShardWriter, String, u64)> {
    let more = match written.shards.len() {
        0 => String::new(),
        n => format!("-{n}"),
    };
    let name = format!("{split}/part-{:05}{more}.arrow", input.number);
    let path = plan.output.place(&name)?;
    let masks = plan.rules.static_masks();
    let writer = ShardWriter::create(&path, plan.id_type, masks, plan.rules.clone())?;
    Ok((writer, name, 0))
}
