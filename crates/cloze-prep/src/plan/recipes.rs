//! Recipes in files: of a fixed size, so that any is found by its number.

use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, FixedSizeBinaryArray, RecordBatch};
use arrow_buffer::Buffer;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use cloze_shard::atomic::{AtomicFile, Postponed};
use cloze_shard::ipc::{IpcFile, IpcFileWriter, map_batches};
use cloze_shard::prefetch;

use crate::Result;
use crate::pairing::{Recipe, Span};

/// Of a recipe in a file.
pub const RECIPE_BYTES: usize = 2 * size_of::<Segment>();
/// A recipe in a file: its segments, little-endian. Two recipes are a line of the processor's cache.
pub type Encoded = [u8; RECIPE_BYTES];
const RECIPES_PER_BATCH: usize = 65_536;

/// The recipes of the rows of a bin of a split, mapped.
pub struct Plan {
    batches: Vec<FixedSizeBinaryArray>,
    rows: u64,
}

fn schema() -> SchemaRef {
    let recipe = DataType::FixedSizeBinary(RECIPE_BYTES as i32);
    Arc::new(Schema::new(vec![Field::new("recipe", recipe, false)]))
}

/// A file of recipes, as it is written.
pub struct Spill {
    writer: IpcFileWriter,
    held: Vec<u8>,
}

impl Spill {
    /// Begins the file at `path`.
    pub fn create(path: &Path, postponed: &Postponed) -> Result<Self> {
        let file = AtomicFile::unfinished(path, postponed)?;
        let writer = IpcFileWriter::of(file, &schema())?;
        Ok(Self {
            writer,
            held: Vec::new(),
        })
    }

    /// Appends a recipe.
    pub fn push(&mut self, recipe: Encoded) -> Result<()> {
        self.held.extend_from_slice(&recipe);
        if self.held.len() == RECIPES_PER_BATCH * RECIPE_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<()> {
        let room = Vec::with_capacity(self.held.len());
        let held = Buffer::from(std::mem::replace(&mut self.held, room));
        let column = FixedSizeBinaryArray::new(RECIPE_BYTES as i32, held, None);
        let batch = RecordBatch::try_new(schema(), vec![Arc::new(column)])
            .expect("the column has the schema's type");
        Ok(self.writer.write(&batch)?)
    }

    /// Gives the file its name; the blake3 of its bytes.
    pub fn finish(mut self) -> Result<String> {
        if !self.held.is_empty() {
            self.flush()?;
        }
        Ok(self.writer.finish()?.blake3)
    }
}

/// Goes through a file of recipes, a batch at a time.
pub fn each(path: &Path, mut take: impl FnMut(u64, &Encoded) -> Result<()>) -> Result<()> {
    let file = IpcFile::open(path, &schema())?;
    let mut number = 0;
    for batch in 0..file.len() {
        let batch = file.batch(batch)?;
        let recipes = batch.column(0).as_fixed_size_binary();
        for i in 0..recipes.len() {
            take(number, encoded(recipes, i))?;
            number += 1;
        }
    }
    Ok(())
}

impl Plan {
    /// Maps the recipes that [`plan`] wrote.
    pub fn open(path: &Path) -> Result<Self> {
        let batches = map_batches(path, &schema())?;
        let rows = batches.iter().map(|b| b.num_rows() as u64).sum();
        let batches = batches
            .iter()
            .map(|b| b.column(0).as_fixed_size_binary().clone())
            .collect();
        Ok(Self { batches, rows })
    }

    /// The number of rows that will be.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    fn encoded(&self, i: u64) -> &Encoded {
        let batch = &self.batches[(i / RECIPES_PER_BATCH as u64) as usize];
        encoded(batch, (i % RECIPES_PER_BATCH as u64) as usize)
    }

    /// Has the processor fetch what [`Plan::recipe`] will read.
    pub fn prefetch(&self, i: u64) {
        prefetch(self.encoded(i));
    }

    /// Recipe `i`, below [`Plan::rows`].
    pub fn recipe(&self, i: u64) -> Recipe {
        decode(self.encoded(i))
    }
}

/// The number of recipes in a file.
pub fn rows(path: &Path) -> Result<u64> {
    let file = IpcFile::open(path, &schema())?;
    let rows = (0..file.len()).map(|batch| Ok(file.rows(batch)? as u64));
    rows.sum()
}

/// A segment in a file, from its lowest bit on: the document, what the segment is to its row, the number of tokens, the first of them, and its sentence.
type Segment = u128;
const KIND: u32 = 46;
const LEN: u32 = 48;
const START: u32 = 64;
const SENTENCE: u32 = 96;

fn segment(span: Span, kind: u8) -> Segment {
    assert!(
        span.document >> KIND == 0 && u16::try_from(span.len).is_ok(),
        "{span:?} is no segment of a row"
    );
    let sentence = span.sentence.unwrap_or(u32::MAX);
    let low = span.document | u64::from(kind) << KIND | u64::from(span.len) << LEN;
    Segment::from(low) | Segment::from(span.start) << START | Segment::from(sentence) << SENTENCE
}

/// The segment that was encoded, and its kind.
fn span(segment: Segment) -> (Span, u8) {
    let low = segment as u64;
    let sentence = (segment >> SENTENCE) as u32;
    let span = Span {
        document: low & ((1 << KIND) - 1),
        start: (segment >> START) as u32,
        len: (low >> LEN) as u32,
        sentence: (sentence != u32::MAX).then_some(sentence),
    };
    (span, (low >> KIND) as u8 & 3)
}

/// A recipe as it is in files: its segments have less than 2¹⁶ tokens, as a row has, and there are less than 2⁴⁶ documents.
pub fn encode(recipe: &Recipe) -> Encoded {
    let (b, kind) = match recipe.b {
        None => (Span::default(), 0),
        Some((b, false)) => (b, 1),
        Some((b, true)) => (b, 2),
    };
    let mut bytes = [0; RECIPE_BYTES];
    let (first, second) = bytes.split_at_mut(size_of::<Segment>());
    first.copy_from_slice(&segment(recipe.a, 0).to_le_bytes());
    second.copy_from_slice(&segment(b, kind).to_le_bytes());
    bytes
}

/// The recipe that was [encoded](encode).
pub fn decode(bytes: &Encoded) -> Recipe {
    let segments = bytes.as_chunks().0;
    let [a, b] = [segments[0], segments[1]].map(|bytes| span(Segment::from_le_bytes(bytes)));
    Recipe {
        a: a.0,
        b: (b.1 != 0).then_some((b.0, b.1 == 2)),
    }
}

/// A recipe of a column, whose width the schema says.
fn encoded(recipes: &FixedSizeBinaryArray, i: usize) -> &Encoded {
    let bytes = recipes.value(i).first_chunk();
    bytes.expect("the column has the schema's type")
}
