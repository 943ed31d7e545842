//! LDDL's Parquet, written by its schema.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Int64Array, RecordBatch, StringArray, UInt16Array,
};
use cloze_convert::import::Format;
use cloze_shard::{NextSentenceLabel, Row};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use super::{Place, row, rows_of, threads_change_nothing, token};

/// As `numpy.save` writes an array of u16.
fn npy(positions: &[u16]) -> Vec<u8> {
    let shape = positions.len();
    let mut header = format!("{{'descr': '<u2', 'fortran_order': False, 'shape': ({shape},), }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let length = (header.len() as u16).to_le_bytes();
    let data: Vec<u8> = positions.iter().flat_map(|p| p.to_le_bytes()).collect();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), &data].concat()
}

fn text(ids: &[u32]) -> String {
    let words: Vec<&str> = ids.iter().map(|&id| token(id)).collect();
    words.join(" ")
}

type Table = Vec<(&'static str, ArrayRef)>;

fn table(rows: &[Row], bin: bool) -> Table {
    let all = |f: &dyn Fn(&Row) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(rows.iter().map(f)))
    };
    let b = |r: &Row| usize::from(r.b_start);
    let random = |r: &Row| r.next_sentence_label == Some(NextSentenceLabel::NotNext);
    let lengths = rows.iter().map(|r| r.input_ids.len() as u16);
    let random: Vec<bool> = rows.iter().map(random).collect();
    let mut columns: Table = vec![
        ("A", all(&|r| text(&r.input_ids[1..b(r) - 1]))),
        (
            "B",
            all(&|r| text(&r.input_ids[b(r)..r.input_ids.len() - 1])),
        ),
        ("is_random_next", Arc::new(BooleanArray::from(random))),
        (
            "num_tokens",
            Arc::new(UInt16Array::from_iter_values(lengths)),
        ),
    ];
    if rows[0].masks.is_some() {
        let masks = |r: &Row| r.masks.clone().unwrap();
        let positions = rows.iter().map(|r| npy(&masks(r).positions));
        columns.push((
            "masked_lm_positions",
            Arc::new(BinaryArray::from_iter_values(positions)),
        ));
        columns.push(("masked_lm_labels", all(&|r| text(&masks(r).labels))));
    }
    if bin {
        columns.push(("bin_id", Arc::new(Int64Array::from(vec![0; rows.len()]))));
    }
    columns
}

fn file(columns: Table) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let snappy = WriterProperties::builder().set_compression(Compression::SNAPPY);
    let mut bytes = Vec::new();
    let mut writer =
        ArrowWriter::try_new(&mut bytes, batch.schema(), Some(snappy.build())).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn rows_come_back() {
    for masks in [false, true] {
        let place = Place::new();
        let rows: Vec<Row> = (0..250).map(|i| row(i, masks)).collect();
        place.write("in/part.0.parquet_0", &file(table(&rows[..130], true)));
        place.write("in/part.0.parquet_1", &file(table(&rows[130..220], true)));
        place.write("in/z/shard-1.parquet", &file(table(&rows[220..], false)));
        place.write("in/.num_samples_cache.json", b"{}");
        let options = place.options(Format::Lddl, &["in"]);
        assert_eq!(place.import(&options, "data"), Ok(vec![]));
        assert_eq!(rows_of(&place.path("data"), "train"), rows);
        let manifest = cloze_shard::Manifest::read(&place.path("data")).unwrap();
        let longest = rows.iter().map(|r| r.input_ids.len()).max().unwrap();
        assert_eq!(usize::from(manifest.max_seq_length), longest);
        let shards = manifest.splits["train"].shards.iter().map(|s| s.rows);
        assert_eq!(shards.collect::<Vec<_>>(), [100, 30, 90, 30]);
        threads_change_nothing(&place, &options);
    }
}

fn with(column: usize, values: ArrayRef) -> Table {
    let mut columns = table(&[row(1, true), row(4, true)], false);
    columns[column].1 = values;
    columns
}

#[test]
fn rows_that_are_none_are_named_or_counted() {
    let strings =
        |values: [Option<&str>; 2]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
    let good = text(&row(4, true).input_ids[1..usize::from(row(4, true).b_start) - 1]);
    let arrays = |first: &[u8]| -> ArrayRef {
        let second = npy(&row(4, true).masks.unwrap().positions);
        Arc::new(BinaryArray::from_iter_values([first, &second]))
    };
    let cases: [(Table, &str); 8] = [
        (
            with(0, strings([Some("unheard"), Some(&good)])),
            "\"unheard\" is not in the vocabulary",
        ),
        (
            with(0, strings([Some("river [SEP]"), Some(&good)])),
            "a special token inside",
        ),
        (with(0, strings([None, Some(&good)])), "null"),
        (
            with(
                3,
                Arc::new(UInt16Array::from(vec![
                    3,
                    row(4, true).input_ids.len() as u16,
                ])),
            ),
            "num_tokens says 3",
        ),
        (with(4, arrays(b"no array")), "not an array of NumPy"),
        (with(4, arrays(&npy(&[1, 2, 3, 4]))), "masked_lm_positions"),
        (with(4, arrays(&npy(&[900])[..])), "row 0"),
        (
            with(
                5,
                strings([
                    Some("[CLS]"),
                    Some(&text(&row(4, true).masks.unwrap().labels)),
                ]),
            ),
            "row 0",
        ),
    ];
    for (columns, says) in cases {
        let place = Place::new();
        place.write("x.parquet", &file(columns));
        let mut options = place.options(Format::Lddl, &["x.parquet"]);
        let why = place.import(&options, "data").unwrap_err();
        assert!(
            why.contains("row 0: ") && why.contains(says),
            "{says}: {why}"
        );
        options.skip_bad_rows = true;
        let warnings = place.import(&options, "data").unwrap();
        assert!(warnings[0].contains("1 rows passed over"), "{warnings:?}");
        assert_eq!(rows_of(&place.path("data"), "train"), [row(4, true)]);
    }
}

#[test]
fn other_files_are_refused() {
    let place = Place::new();
    let rows = [row(1, false)];
    let mut renamed = table(&rows, false);
    renamed[1].0 = "sentence_b";
    let mut typed = table(&rows, false);
    typed[2].1 = Arc::new(Int64Array::from(vec![1]));
    place.write("renamed.parquet", &file(renamed));
    place.write("typed.parquet", &file(typed));
    place.write("plain.parquet", &file(table(&rows, false)));
    place.write("masked.parquet", &file(table(&[row(1, true)], false)));
    place.write("text.parquet", b"PAR1 this is no Parquet PAR1");
    place.write("empty/notes.txt", b"");
    for (names, says) in [
        (&["renamed.parquet"][..], "no column B"),
        (
            &["typed.parquet"],
            "is_random_next is Int64, expected Boolean",
        ),
        (&["plain.parquet", "masked.parquet"], "masks are not static"),
        (&["text.parquet"], "text.parquet"),
        (&["empty"], "no file below it"),
        (&["absent"], "absent"),
    ] {
        let options = place.options(Format::Lddl, names);
        let why = place.import(&options, "data").unwrap_err();
        assert!(why.contains(says), "{names:?}: {why}");
    }
}

/// Parquet has no checksums here: a file that was changed is an error or other rows, and never a panic.
#[test]
fn damage_is_no_panic() {
    let place = Place::new();
    let whole = file(table(&[row(1, true), row(2, true)], false));
    let mut options = place.options(Format::Lddl, &["x.parquet"]);
    options.skip_bad_rows = true;
    let mut refused = 0;
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= if at % 2 == 0 { 0x80 } else { 0x7F };
        place.write("x.parquet", &bytes);
        match place.import(&options, "data") {
            Ok(_) => std::fs::remove_dir_all(place.path("data")).unwrap(),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > whole.len() / 28, "{refused} of {}", whole.len());
}
