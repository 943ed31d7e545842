//! TFRecord files of BERT's `create_pretraining_data.py`: padded rows with static masks.

use std::fs::File;
use std::io::{BufReader, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use cloze_shard::row::Masks;
use cloze_shard::{NextSentenceLabel, Row};
use flate2::read::MultiGzDecoder;

use super::crc::masked;
use super::example::{Feature, features};
use super::{Input, Plan, Sink};
use crate::{Error, Result};

/// Bytes of the longest record: a row of 65,535 tokens takes a few million.
const LONGEST: u64 = 16 << 20;

/// Reads a file, plain or gzip.
pub fn read(_plan: &Plan<'_>, input: &Input, sink: &mut Sink<'_>) -> Result<()> {
    let path = &input.path;
    let file = File::open(path).map_err(cloze_shard::Error::io(path))?;
    let count = AtomicU64::new(0);
    let mut reader = BufReader::with_capacity(
        1 << 18,
        Counted {
            file,
            count: &count,
        },
    );
    let mut head = Vec::new();
    (reader.by_ref().take(12).read_to_end(&mut head)).map_err(cloze_shard::Error::io(path))?;
    // A record's length may begin as a gzip file does, but then its checksum says so.
    let plain = head.len() == 12 && header(&head).is_ok();
    let whole = head.as_slice().chain(reader);
    let mut records: Box<dyn Read> = match (plain, head.starts_with(&[0x1F, 0x8B])) {
        (false, true) => Box::new(BufReader::new(MultiGzDecoder::new(whole))),
        _ => Box::new(whole),
    };
    let (mut record, mut example, mut row) = (Vec::new(), Example::default(), Row::default());
    for number in 0u64.. {
        let fail = |why: String| Error::input(path, format!("record {number}: "), why);
        match next(&mut records, &mut record) {
            Ok(false) => break,
            Ok(true) => {}
            Err(Broken::Io(e)) if e.raw_os_error().is_some() => {
                return Err(cloze_shard::Error::io(path)(e).into());
            }
            Err(Broken::Io(e)) => return Err(fail(e.to_string())),
            Err(Broken::Frame(why)) => return Err(fail(why)),
        }
        let made = example.read(&record).and_then(|()| example.fill(&mut row));
        if made.is_ok() {
            sink.room(example.input_ids.len());
        }
        sink.push(made.map(|()| &mut row))?;
        if number % 256 == 0 {
            sink.at(count.load(Ordering::Relaxed));
        }
    }
    Ok(())
}

/// Counts what is read, for progress.
struct Counted<'a> {
    file: File,
    count: &'a AtomicU64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.count.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

enum Broken {
    Io(std::io::Error),
    Frame(String),
}

/// The length that a record's first 12 bytes give.
fn header(head: &[u8]) -> Result<u64, String> {
    let (Some(length), Some(crc)) = (head.first_chunk::<8>(), head.last_chunk::<4>()) else {
        return Err("the file is cut short".into());
    };
    if masked(length) != u32::from_le_bytes(*crc) {
        return Err(
            "the checksum of its length is wrong: the file is damaged, or no TFRecord".into(),
        );
    }
    match u64::from_le_bytes(*length) {
        length if length > LONGEST => {
            Err(format!("{length} bytes, at most {LONGEST} are possible"))
        }
        length => Ok(length),
    }
}

/// Reads the next record; false at the end of the file.
fn next(reader: &mut dyn Read, record: &mut Vec<u8>) -> Result<bool, Broken> {
    let mut part = |bytes: u64, to: &mut Vec<u8>| {
        to.clear();
        // Memory grows with what is there, not with what was announced.
        let read = reader.take(bytes).read_to_end(to).map_err(Broken::Io)?;
        Ok(read as u64)
    };
    let mut head = Vec::with_capacity(12);
    match part(12, &mut head)? {
        0 => return Ok(false),
        12 => {}
        _ => return Err(Broken::Frame("the file is cut short".into())),
    }
    let length = header(&head).map_err(Broken::Frame)?;
    let body = part(length, record)?;
    let mut tail = Vec::with_capacity(4);
    if body < length || part(4, &mut tail)? < 4 {
        return Err(Broken::Frame("the file is cut short".into()));
    }
    if masked(record).to_le_bytes() != tail[..] {
        return Err(Broken::Frame(
            "its checksum is wrong: the file is damaged".into(),
        ));
    }
    Ok(true)
}

/// What BERT's script writes of a row.
#[derive(Default)]
struct Example {
    input_ids: Vec<i64>,
    input_mask: Vec<i64>,
    segment_ids: Vec<i64>,
    masked_lm_positions: Vec<i64>,
    masked_lm_ids: Vec<i64>,
    masked_lm_weights: Vec<f32>,
    next_sentence_labels: Vec<i64>,
}

impl Example {
    fn read(&mut self, record: &[u8]) -> Result<(), String> {
        *self = Self::default();
        let mut found = 0;
        features(record, &mut |name, feature| {
            let ints = match name {
                "input_ids" => &mut self.input_ids,
                "input_mask" => &mut self.input_mask,
                "segment_ids" => &mut self.segment_ids,
                "masked_lm_positions" => &mut self.masked_lm_positions,
                "masked_lm_ids" => &mut self.masked_lm_ids,
                "next_sentence_labels" => &mut self.next_sentence_labels,
                "masked_lm_weights" => {
                    found |= 1 << 6;
                    let Feature::Floats(floats) = feature else {
                        return Err("masked_lm_weights are no floats".into());
                    };
                    self.masked_lm_weights = floats;
                    return Ok(());
                }
                _ => return Ok(()),
            };
            let Feature::Ints(values) = feature else {
                return Err(format!("{name} are no whole numbers"));
            };
            *ints = values;
            let place = NAMES.iter().position(|&n| n == name);
            found |= 1 << place.unwrap_or(0);
            Ok(())
        })?;
        match (0..NAMES.len()).find(|i| found >> i & 1 == 0) {
            Some(missing) => Err(format!("has no feature {:?}", NAMES[missing])),
            None => Ok(()),
        }
    }

    /// The row, without what fills it up.
    fn fill(&self, row: &mut Row) -> Result<(), String> {
        let width = self.input_ids.len();
        if self.input_mask.len() != width || self.segment_ids.len() != width {
            return Err("input_ids, input_mask and segment_ids are not of one length".into());
        }
        let n = self.input_mask.iter().take_while(|&&m| m == 1).count();
        if self.input_mask[n..].iter().any(|&m| m != 0) {
            return Err("input_mask is not ones, then zeros".into());
        }
        let b_start = self.segment_ids[..n]
            .iter()
            .take_while(|&&s| s == 0)
            .count();
        if self.segment_ids[b_start..n].iter().any(|&s| s != 1) {
            return Err("segment_ids are not zeros, then ones".into());
        }
        let id = |&id: &i64| u32::try_from(id).map_err(|_| format!("an id is {id}"));
        row.input_ids.clear();
        for token in &self.input_ids[..n] {
            row.input_ids.push(id(token)?);
        }
        let too_long = |_| format!("{n} tokens, at most {} are allowed", u16::MAX);
        row.b_start = u16::try_from(b_start).map_err(too_long)?;
        row.next_sentence_label = match (b_start < n, self.next_sentence_labels.as_slice()) {
            (false, _) => None,
            (true, [0]) => Some(NextSentenceLabel::IsNext),
            (true, [1]) => Some(NextSentenceLabel::NotNext),
            (true, other) => return Err(format!("next_sentence_labels are {other:?}")),
        };
        let predictions = self.masked_lm_weights.len();
        if self.masked_lm_positions.len() != predictions || self.masked_lm_ids.len() != predictions
        {
            return Err("masked_lm_positions, _ids and _weights are not of one length".into());
        }
        let masks = row.masks.get_or_insert_with(Masks::default);
        masks.positions.clear();
        masks.labels.clear();
        for (i, _) in (self.masked_lm_weights.iter().enumerate()).filter(|(_, w)| **w > 0.0) {
            let position = self.masked_lm_positions[i];
            let position = u16::try_from(position);
            masks
                .positions
                .push(position.map_err(|_| "a masked position is outside of any row")?);
            masks.labels.push(id(&self.masked_lm_ids[i])?);
        }
        Ok(())
    }
}

const NAMES: [&str; 7] = [
    "input_ids",
    "input_mask",
    "segment_ids",
    "masked_lm_positions",
    "masked_lm_ids",
    "next_sentence_labels",
    "masked_lm_weights",
];
