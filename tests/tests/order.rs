//! Where rows come to lie: shuffled over the whole dataset, in shards of the same size.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::HashMap;

use cloze_shard::{Dataset, RowRef};
use cloze_tests::{Place, document};

const DOCUMENTS: usize = 4_000;

/// Ranks from 0 up, ties sharing their mean.
fn ranks(values: &[u64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by_key(|&i| values[i]);
    let mut ranks = vec![0.0; values.len()];
    for tied in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let first = order.partition_point(|&i| values[i] < values[tied[0]]);
        let mean = first as f64 + (tied.len() - 1) as f64 / 2.0;
        tied.iter().for_each(|&i| ranks[i] = mean);
    }
    ranks
}

/// Spearman's coefficient: Pearson's of the ranks.
fn rank_correlation(a: &[u64], b: &[u64]) -> f64 {
    let (a, b) = (ranks(a), ranks(b));
    let mean = (a.len() - 1) as f64 / 2.0;
    let sum = |x: &[f64], y: &[f64]| -> f64 {
        let products = x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean));
        products.sum()
    };
    sum(&a, &b) / (sum(&a, &a) * sum(&b, &b)).sqrt()
}

fn prepared(options: &str) -> (Place, Dataset) {
    let place = Place::new();
    let line = |i| serde_json::json!({"id": i, "text": document(i)}).to_string();
    let lines: Vec<String> = (0..DOCUMENTS).map(line).collect();
    place.write("many.jsonl", lines.join("\n"));
    place.prepare("many.jsonl", "data", &format!("--id-field id {options}"));
    let dataset = Dataset::open(&place.path("data")).unwrap();
    (place, dataset)
}

/// Neither over the split, nor inside a shard, nor in steps of one shard, does the place of a row say where in the source it comes from.
#[test]
fn the_shuffle_is_global() {
    for options in [
        "--shard-rows 700",
        "--shard-rows 700 --dupe-factor 3 --masking static",
    ] {
        let (_place, dataset) = prepared(options);
        let documents = dataset.documents().unwrap();
        let source: HashMap<i64, u64> = documents.hashes().zip(0..).collect();
        assert_eq!(source.len(), DOCUMENTS);
        let train = dataset.split("train").unwrap();
        let of = |row: RowRef<'_>| source[&row.doc_a] << 32 | u64::from(row.sentence_a);
        let from: Vec<u64> = train.iter().map(of).collect();
        let bound = |n: usize| 4.0 / (n as f64).sqrt();
        let places: Vec<u64> = (0..from.len() as u64).collect();
        let rho = rank_correlation(&places, &from);
        assert!(
            rho.abs() < bound(from.len()),
            "{options}: {rho} over {}",
            from.len()
        );
        assert!(train.shards().len() > 4, "several shards");
        let mut start = 0;
        let mut means = Vec::new();
        for shard in train.shards() {
            let rows = start..start + shard.rows() as usize;
            let rho = rank_correlation(&places[rows.clone()], &from[rows.clone()]);
            assert!(
                rho.abs() < bound(rows.len()),
                "{options}: {rho} in {rows:?}"
            );
            let share: f64 = rows
                .clone()
                .map(|i| (from[i] >> 32) as f64 / DOCUMENTS as f64)
                .sum();
            means.push(share / rows.len() as f64);
            start = rows.end;
        }
        // Each shard holds rows of the whole source: uniform draws have the variance 1/12.
        for mean in &means {
            let error = (1.0 / 12.0 / 500.0_f64).sqrt();
            assert!((mean - 0.5).abs() < 4.0 * error, "{options}: {means:?}");
        }
    }
}

/// With bins too, the shards of a bin differ by one row at most, and rows lie in the bin of their length.
#[test]
fn shards_are_balanced() {
    let (_place, dataset) =
        prepared("--shard-rows 300 --bins 16,32,64,128 --validation-fraction 0.1");
    let mut several = 0;
    for (_, split) in dataset.splits() {
        let mut bins: HashMap<_, Vec<u64>> = HashMap::new();
        for shard in split.shards() {
            let longest = (0..shard.rows()).map(|i| shard.row(i).len()).max().unwrap();
            let bin = [16, 32, 64, 128]
                .into_iter()
                .find(|&edge| longest <= edge)
                .unwrap();
            bins.entry(bin).or_default().push(shard.rows());
        }
        for (bin, rows) in bins {
            let (least, most) = (rows.iter().min().unwrap(), rows.iter().max().unwrap());
            assert!(most - least <= 1 && *most <= 300, "{bin}: {rows:?}");
            several += usize::from(rows.len() > 1);
        }
    }
    assert!(several > 1, "bins of several shards");
}
