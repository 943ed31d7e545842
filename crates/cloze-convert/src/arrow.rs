//! Back to Arrow: the same files as before.

use arrow_array::Array;
use cloze_shard::documents::{self, DocumentRecord};
use cloze_shard::manifest::{FileRecord, ShardRecord, SplitRecord};
use cloze_shard::rules::RowRules;
use cloze_shard::{Error as ShardError, ShardWriter};
use std::path::Path;

use crate::output::Output;
use crate::rows::Rows;
use crate::source::Source;
use crate::{Report, Result, by_shard};

/// Writes the folder of Arrow files.
pub fn write(
    source: &Source<'_>,
    output: &Output,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Report> {
    let mut manifest = source.manifest.clone();
    let rules = RowRules::of(&manifest);
    let shards = by_shard(source, |shard| {
        let path = output.place(&shard.file.path)?;
        write_shard(source, shard, &path, &rules, progress)
    })?;
    let mut shards = shards.into_iter();
    for split in manifest.splits.values_mut() {
        let of_split = shards.by_ref().take(split.shards.len()).collect();
        *split = SplitRecord::new(of_split, split.documents);
    }
    let table = output.place(&manifest.documents.path)?;
    manifest.documents = write_documents(source, &table)?;
    let mut report = Report {
        bytes_after: manifest.documents.bytes
            + (manifest.splits.values())
                .flat_map(|s| &s.shards)
                .map(|s| s.file.bytes)
                .sum::<u64>(),
        ..Report::default()
    };
    if manifest != source.manifest {
        report.warnings.push(
            "the rows are the same, but not every byte of the files: those that they were made from were written by another \
             program than this one, or by another version"
                .into(),
        );
    }
    manifest.write(output.folder())?;
    Ok(report)
}

/// Writes the Arrow file of a shard to `path`. What it holds must be what the manifest says; its bytes may be others, where another program wrote the first.
pub fn write_shard(
    source: &Source<'_>,
    shard: &ShardRecord,
    path: &Path,
    rules: &RowRules,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<ShardRecord> {
    let id_type = source.manifest.tokenizer.id_type;
    let mut writer = ShardWriter::create(path, id_type, source.static_masks(), rules.clone())?;
    let other = |why: &str| source.other_than_manifest(&shard.file, why);
    let mut number = 0;
    source.batches(shard, &mut |batch| {
        let rows = Rows::new(&batch, id_type).map_err(|why| other(&why))?;
        for row in rows.iter() {
            writer.push(&row).map_err(|error| match error {
                ShardError::Row { why, .. } => other(&format!("row {number}: {why}")),
                error => error.into(),
            })?;
            number += 1;
        }
        progress(batch.num_rows() as u64);
        Ok(())
    })?;
    let written = writer.finish(&shard.file.path)?;
    let sums = |s: &ShardRecord| (s.rows, s.tokens, s.labels, s.lengths.clone());
    if sums(&written) != sums(shard) {
        return Err(other(
            "its rows, tokens, labels or lengths are not those in the manifest",
        ));
    }
    Ok(written)
}

/// Writes the table of documents to `path`.
pub fn write_documents(source: &Source<'_>, path: &Path) -> Result<FileRecord> {
    let record = &source.manifest.documents;
    // Batches are not kept in memory: the writer asks for a record when it has written those before.
    let (sender, receiver) = std::sync::mpsc::sync_channel::<DocumentRecord>(1 << 12);
    let written = std::thread::scope(|scope| {
        let metadata = !source.manifest.metadata.is_empty();
        let writing = scope.spawn(move || documents::write(path, metadata, receiver));
        let read = source.documents(&mut |batch| {
            if (0..batch.num_columns())
                .any(|c| !documents::may_be_null(c) && batch.column(c).null_count() > 0)
            {
                return Err(source.other_than_manifest(record, "nulls where none may be"));
            }
            // A writer that stopped has an error of its own to show.
            let _ =
                (0..batch.num_rows()).try_for_each(|i| sender.send(documents::record(&batch, i)));
            Ok(())
        });
        drop(sender);
        let written = writing.join();
        read?;
        let stopped = || source.other_than_manifest(record, "its writer stopped");
        Ok::<_, crate::Error>(written.map_err(|_| stopped())??)
    })?;
    Ok(FileRecord {
        path: record.path.clone(),
        bytes: written.bytes,
        blake3: written.blake3,
    })
}
