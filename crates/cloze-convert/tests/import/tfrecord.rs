//! TFRecord, written by the definitions: framing, checksums, Protocol Buffers.

use std::io::Write;

use cloze_convert::import::Format;
use cloze_shard::Row;
use cloze_shard::row::Masks;
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::{Place, row, rows_of, threads_change_nothing};

fn masked_crc(bytes: &[u8]) -> [u8; 4] {
    let mut crc = !0u32;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 };
        }
    }
    let crc = !crc;
    crc.rotate_right(15).wrapping_add(0xA282_EAD8).to_le_bytes()
}

pub fn frame(record: &[u8]) -> Vec<u8> {
    let length = (record.len() as u64).to_le_bytes();
    [
        &length[..],
        &masked_crc(&length),
        record,
        &masked_crc(record),
    ]
    .concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// A field that holds bytes.
fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    [
        varint(number << 3 | 2),
        varint(bytes.len() as u64),
        bytes.to_vec(),
    ]
    .concat()
}

#[derive(Clone, Debug)]
enum Values {
    Ints(Vec<i64>),
    Floats(Vec<f32>),
}

fn feature(values: &Values, packed: bool) -> Vec<u8> {
    let (number, list) = match (values, packed) {
        (Values::Ints(v), true) => {
            let all: Vec<u8> = v.iter().flat_map(|&x| varint(x as u64)).collect();
            (3, field(1, &all))
        }
        (Values::Ints(v), false) => {
            let each = v
                .iter()
                .flat_map(|&x| [varint(1 << 3), varint(x as u64)].concat());
            (3, each.collect())
        }
        (Values::Floats(v), true) => {
            let all: Vec<u8> = v.iter().flat_map(|x| x.to_le_bytes()).collect();
            (2, field(1, &all))
        }
        (Values::Floats(v), false) => {
            let each = v
                .iter()
                .flat_map(|x| [&varint(1 << 3 | 5)[..], &x.to_le_bytes()].concat());
            (2, each.collect())
        }
    };
    field(number, &list)
}

fn example(features: &[(&str, Values)], packed: bool) -> Vec<u8> {
    let entries = features.iter().flat_map(|(name, values)| {
        let entry = [
            field(1, name.as_bytes()),
            field(2, &feature(values, packed)),
        ]
        .concat();
        field(1, &entry)
    });
    let entries: Vec<u8> = entries.collect();
    field(1, &entries)
}

/// What BERT's script writes of a row, filled up to 16 tokens and 6 predictions.
fn features(row: &Row) -> Vec<(&'static str, Values)> {
    let n = row.input_ids.len();
    let fill = |values: Vec<i64>, to: usize| {
        let zeros = vec![0; to - values.len()];
        Values::Ints([values, zeros].concat())
    };
    let masks = row.masks.clone().unwrap_or_default();
    let wide = |ids: &[u32]| ids.iter().map(|&id| i64::from(id)).collect();
    let segments = (0..n).map(|i| i64::from(i >= usize::from(row.b_start)));
    let mut weights = vec![1.0; masks.positions.len()];
    weights.resize(6, 0.0);
    vec![
        ("input_ids", fill(wide(&row.input_ids), 16)),
        ("input_mask", fill(vec![1; n], 16)),
        ("segment_ids", fill(segments.collect(), 16)),
        (
            "masked_lm_positions",
            fill(masks.positions.iter().map(|&p| i64::from(p)).collect(), 6),
        ),
        ("masked_lm_ids", fill(wide(&masks.labels), 6)),
        ("masked_lm_weights", Values::Floats(weights)),
        (
            "next_sentence_labels",
            Values::Ints(vec![row.next_sentence_label.map_or(0, |l| l as i64)]),
        ),
    ]
}

fn file(rows: &[Row], packed: bool) -> Vec<u8> {
    let record = |row: &Row| frame(&example(&features(row), packed));
    rows.iter().flat_map(record).collect()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn rows_come_back() {
    let place = Place::new();
    let rows: Vec<Row> = (0..250).map(|i| row(i, true)).collect();
    place.write("in/a.tfrecord", &file(&rows[..130], true));
    place.write("in/b.tfrecord", &file(&rows[130..200], false));
    let members = [
        gz(&file(&rows[200..210], true)),
        gz(&file(&rows[210..240], true)),
    ]
    .concat();
    place.write("in/c/d.tfrecord.gz", &members);
    place.write("in/notes.txt", b"no record");
    place.write("held", &file(&rows[240..], true));
    let mut options = place.options(Format::TfRecord, &["in"]);
    options.validation = vec![place.path("held")];
    assert_eq!(place.import(&options, "data"), Ok(vec![]));
    assert_eq!(rows_of(&place.path("data"), "train"), rows[..240]);
    assert_eq!(rows_of(&place.path("data"), "validation"), rows[240..]);
    let manifest = cloze_shard::Manifest::read(&place.path("data")).unwrap();
    assert_eq!(manifest.max_seq_length, 16, "the room that rows had");
    let shards = manifest.splits["train"].shards.iter().map(|s| s.rows);
    assert_eq!(shards.collect::<Vec<_>>(), [100, 30, 70, 40]);
    assert_eq!(manifest.sources.len(), 4);
    threads_change_nothing(&place, &options);
}

#[test]
fn one_segment_has_no_label() {
    let place = Place::new();
    let mut one = row(3, true);
    one.input_ids = vec![2, 6, 4, 7, 3];
    (one.b_start, one.next_sentence_label) = (5, None);
    one.masks = Some(Masks {
        positions: vec![2],
        labels: vec![9],
    });
    place.write("x.tfrecord", &file(std::slice::from_ref(&one), true));
    let options = place.options(Format::TfRecord, &["x.tfrecord"]);
    place.import(&options, "data").unwrap();
    assert_eq!(rows_of(&place.path("data"), "train"), [one]);
}

#[test]
fn damage_is_an_error() {
    let place = Place::new();
    let whole = file(&[row(1, true), row(2, true)], true);
    let options = place.options(Format::TfRecord, &["x"]);
    let first = frame(&example(&features(&row(1, true)), true)).len();
    for at in (0..whole.len()).step_by(3).chain([first]) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        place.write("x", &bytes);
        let why = place.import(&options, "data").unwrap_err();
        assert!(why.contains("checksum"), "{at}: {why}");
        place.write("x", &whole[..at]);
        match place.import(&options, "data") {
            // Whole records are all that the format can tell.
            Ok(_) => {
                assert_eq!(at, first);
                std::fs::remove_dir_all(place.path("data")).unwrap();
            }
            Err(why) if at == 0 => assert!(why.contains("no row"), "{why}"),
            Err(why) => assert!(why.contains("cut short"), "{at}: {why}"),
        }
    }
    let zipped = gz(&whole);
    place.write("x", &zipped[..zipped.len() - 12]);
    assert!(place.import(&options, "data").is_err());
}

/// A length that nobody has the bytes for, under a good checksum, takes no memory.
#[test]
fn lengths_are_not_believed() {
    let place = Place::new();
    let options = place.options(Format::TfRecord, &["x"]);
    for (length, says) in [(1u64 << 62, "at most"), (15 << 20, "cut short")] {
        let length = length.to_le_bytes();
        place.write("x", &[&length[..], &masked_crc(&length), b"abc"].concat());
        let why = place.import(&options, "data").unwrap_err();
        assert!(why.contains("record 0") && why.contains(says), "{why}");
    }
    // A field of 2⁶³ bytes in a message of 11.
    let hostile = [&[0x0A][..], &varint(1 << 63)].concat();
    place.write("x", &frame(&hostile));
    let why = place.import(&options, "data").unwrap_err();
    assert!(why.contains("longer than its message"), "{why}");
}

#[test]
fn rows_that_are_none_are_named_or_counted() {
    type Change = fn(&mut Vec<(&'static str, Values)>);
    fn ints<'a>(features: &'a mut [(&'static str, Values)], at: usize) -> &'a mut Vec<i64> {
        match &mut features[at].1 {
            Values::Ints(values) => values,
            Values::Floats(_) => panic!("no ints"),
        }
    }
    let cases: [(Change, &str); 13] = [
        (|f| drop(f.remove(0)), "no feature \"input_ids\""),
        (|f| drop(f.remove(5)), "no feature \"masked_lm_weights\""),
        (
            |f| f[0].1 = Values::Floats(vec![1.0]),
            "input_ids are no whole",
        ),
        (|f| f[5].1 = Values::Ints(vec![1]), "weights are no floats"),
        (|f| ints(f, 1).truncate(15), "not of one length"),
        (|f| ints(f, 1)[15] = 1, "not ones, then zeros"),
        (|f| ints(f, 2)[1] = 1, "not zeros, then ones"),
        (|f| ints(f, 0)[1] = -1, "an id is -1"),
        (|f| ints(f, 0)[1] = 16, "the vocabulary has 16"),
        (|f| ints(f, 0)[0] = 7, "expected [CLS]"),
        (|f| ints(f, 6)[0] = 2, "next_sentence_labels are [2]"),
        (|f| ints(f, 3)[0] = 1 << 40, "outside of any row"),
        (|f| ints(f, 3)[0] = 15, "ascending"),
    ];
    for (change, says) in cases {
        let place = Place::new();
        let mut changed = features(&row(9, true));
        change(&mut changed);
        let good = row(4, true);
        let records = [
            frame(&example(&features(&good), true)),
            frame(&example(&changed, true)),
            frame(&example(&features(&good), true)),
        ];
        place.write("x", &records.concat());
        let mut options = place.options(Format::TfRecord, &["x"]);
        let why = place.import(&options, "data").unwrap_err();
        assert!(
            why.contains("row 1: ") && why.contains(says),
            "{says}: {why}"
        );
        options.skip_bad_rows = true;
        let warnings = place.import(&options, "data").unwrap();
        assert!(warnings[0].contains("1 rows passed over") && warnings[0].contains(says));
        assert_eq!(rows_of(&place.path("data"), "train"), [good.clone(), good]);
        let manifest = cloze_shard::Manifest::read(&place.path("data")).unwrap();
        assert_eq!(manifest.counts["skipped"], 1);
        assert_eq!(manifest.sources[0].skipped["bad row"], 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// Whatever a record with a good checksum holds, it is a row, or an error, and never a panic.
    #[test]
    fn nothing_panics(at in 0usize..200, change: u8, length in 0usize..300, noise: Vec<u8>) {
        let place = Place::new();
        let mut record = example(&features(&row(9, true)), true);
        let at = at.min(record.len() - 1);
        record[at] ^= change;
        record.truncate(length);
        place.write("x", &[frame(&record), frame(&noise)].concat());
        let mut options = place.options(Format::TfRecord, &["x"]);
        options.skip_bad_rows = true;
        let _ = place.import(&options, "data");
    }
}
