//! Checking a dataset whose rows lie in other files than Arrow's.

use std::collections::BTreeMap;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::Int8Type;
use cloze_shard::manifest::ShardRecord;
use cloze_shard::rules::RowRules;
use cloze_shard::verify::{
    Check, Held, Looked, Report, check_bytes, check_shard, check_sums, check_surplus, check_table,
    check_tokenizer, other_lengths,
};
use rayon::prelude::*;

use crate::source::Source;
use crate::table::read_table;
use crate::{Error, FilesFormat, Result, arrow, pool, transformers};

/// Checks the dataset at `path`; `progress` is told rows as they are done, out of [`crate::rows`].
///
/// Parquet files are made into Arrow files again, one at a time and thread, and these are checked as any. Of files for
/// `transformers`, which hold less, sums are compared. An error means that checking could not begin.
pub fn verify(path: &Path, jobs: Option<usize>, progress: &(dyn Fn(u64) + Sync)) -> Result<Report> {
    let source = Source::open(path)?;
    let Some(container) = &source.container else {
        return Err(Error::Format {
            path: path.into(),
            why: "its files are Arrow".into(),
            hint: "cloze_shard::verify checks them".into(),
        });
    };
    let mut report = Report::default();
    let mut digested = 0;
    for record in &source.manifest.tokenizer.files {
        digested += u64::from(check_bytes(path, record, &mut report));
    }
    check_tokenizer(path, &source.manifest, &mut report);
    check_sums(path, &source.manifest, &mut report);
    let named = container.files.iter().map(|f| &f.file);
    let named = named.chain(&source.manifest.tokenizer.files);
    check_surplus(path, named.map(|f| f.path.as_str()), &mut report);
    let mut files = source.manifest.tokenizer.files.len() as u64;
    if container.files_format == FilesFormat::Parquet {
        files += 1;
        let (seen, found) = check_documents(&source)?;
        digested += u64::from(seen);
        report.merge(found);
    }
    let shards: Vec<&ShardRecord> = source
        .manifest
        .splits
        .values()
        .flat_map(|s| &s.shards)
        .collect();
    let rules = RowRules::of(&source.manifest);
    let looked: Vec<(bool, u64, Report)> = pool(jobs)?.install(|| {
        let check = |shard: &&ShardRecord| match container.files_format {
            FilesFormat::Parquet => check_parquet(&source, shard, &rules, progress),
            FilesFormat::Transformers => check_export(&source, shard, progress),
        };
        shards.par_iter().map(check).collect::<Result<_>>()
    })?;
    let mut rows_read = 0;
    for (seen, rows, found) in looked {
        files += 1;
        digested += u64::from(seen);
        rows_read += rows;
        report.merge(found);
    }
    let all = |done, of, unit| Looked { done, of, unit };
    report.ran(Check::Files, Looked::all(files, "files"));
    report.ran(Check::Digests, all(digested, files, "files"));
    let checks: &[Check] = match container.files_format {
        FilesFormat::Parquet => &[Check::Rows, Check::Labels, Check::Totals],
        FilesFormat::Transformers => &[Check::Totals],
    };
    for &check in checks {
        report.ran(check, all(rows_read, source.rows(), "rows"));
    }
    Ok(report)
}

/// Size and digest of the file that was made from `of`; whether it is as the manifest says, and so may be opened.
fn bytes_are_good(source: &Source<'_>, of: &str, report: &mut Report) -> Result<(bool, bool)> {
    let Some(container) = &source.container else {
        return Ok((false, false));
    };
    let record = container.file(source.path, of)?;
    let seen = check_bytes(source.path, record, report);
    Ok((seen, report.is_clean()))
}

fn check_documents(source: &Source<'_>) -> Result<(bool, Report)> {
    let mut report = Report::default();
    let of = &source.manifest.documents;
    let (seen, good) = bytes_are_good(source, &of.path, &mut report)?;
    if good {
        let work = temporary()?;
        let table = work.path().join("documents.arrow");
        let checked = arrow::write_documents(source, &table).and_then(|_| {
            let manifest = &source.manifest;
            Ok(check_table(source.path, manifest, &table, &mut report)?)
        });
        if let Err(error) = checked {
            report.add(Check::Files, source.path, None, error.to_string());
        }
    }
    Ok((seen, report))
}

fn check_parquet(
    source: &Source<'_>,
    shard: &ShardRecord,
    rules: &RowRules,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<(bool, u64, Report)> {
    let mut report = Report::default();
    let (seen, good) = bytes_are_good(source, &shard.file.path, &mut report)?;
    if !good {
        progress(shard.rows);
        return Ok((seen, 0, report));
    }
    let work = temporary()?;
    let mut again = shard.clone();
    again.file.path = "shard.arrow".into();
    let path = work.path().join(&again.file.path);
    let rows = match arrow::write_shard(source, shard, &path, rules, progress) {
        Ok(written) => {
            let written = ShardRecord {
                file: cloze_shard::manifest::FileRecord {
                    path: again.file.path,
                    ..written.file.clone()
                },
                ..written
            };
            check_shard(work.path(), &source.manifest, &written, rules, &mut report)
        }
        Err(error) => {
            report.add(Check::Rows, source.path, None, error.to_string());
            0
        }
    };
    let name = source
        .container
        .as_ref()
        .map(|c| c.file(source.path, &shard.file.path));
    if let Some(Ok(name)) = name {
        for problem in &mut report.problems {
            if problem.path == path {
                problem.path = source.path.join(&name.path);
            }
        }
    }
    Ok((seen, rows, report))
}

/// Rows, tokens, labels and lengths of a file for `transformers`.
fn check_export(
    source: &Source<'_>,
    shard: &ShardRecord,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<(bool, u64, Report)> {
    let mut report = Report::default();
    let (seen, good) = bytes_are_good(source, &shard.file.path, &mut report)?;
    let Some(container) = source.container.as_ref().filter(|_| good) else {
        progress(shard.rows);
        return Ok((seen, 0, report));
    };
    let record = container.file(source.path, &shard.file.path)?;
    let path = source.path.join(&record.path);
    let mut held = Held::default();
    let mut lengths: BTreeMap<u16, u64> = BTreeMap::new();
    let (mut rows, mut uneven) = (0, 0u64);
    let read = read_table(
        &path,
        &transformers::schema(source.static_masks()),
        &mut |batch| {
            let list = |c: usize| batch.column(c).as_list::<i32>();
            let there = list(2).values().as_primitive::<Int8Type>().values();
            for i in 0..batch.num_rows() {
                let range = |c: usize| {
                    let offsets = list(c).value_offsets();
                    offsets[i] as usize..offsets[i + 1] as usize
                };
                let n = there[range(2)].iter().filter(|&&x| x != 0).count();
                held.tokens += n as u64;
                *lengths
                    .entry(n.min(usize::from(u16::MAX)) as u16)
                    .or_default() += 1;
                let wanted = container.padded_to.map_or(n, usize::from);
                let lists = (0..batch.num_columns()).filter(|&c| c != 3);
                uneven += u64::from(lists.map(|c| range(c).len()).any(|n| n != wanted));
            }
            for label in batch.column(3).as_primitive::<Int8Type>().values() {
                *match label {
                    0 => &mut held.labels.is_next,
                    1 => &mut held.labels.not_next,
                    _ => &mut held.labels.none,
                } += 1;
            }
            rows += batch.num_rows() as u64;
            progress(batch.num_rows() as u64);
            Ok(())
        },
    );
    if let Err(error) = read {
        report.add(Check::Files, &path, None, error.to_string());
        return Ok((seen, rows, report));
    }
    if uneven > 0 {
        let why = format!("{uneven} rows whose columns are not all as long as they should be");
        report.add(Check::Totals, &path, None, why);
    }
    if rows != shard.rows {
        let why = format!("rows: the manifest says {}, found {rows}", shard.rows);
        report.add(Check::Totals, &path, None, why);
    }
    let lengths = other_lengths(&shard.lengths, &lengths);
    for why in held.differences(shard).into_iter().chain(lengths) {
        report.add(Check::Totals, &path, None, why);
    }
    Ok((seen, rows, report))
}

fn temporary() -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir();
    Ok(folder.map_err(cloze_shard::Error::io(&std::env::temp_dir()))?)
}
