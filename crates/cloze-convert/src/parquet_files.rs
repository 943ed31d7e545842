//! To Parquet: every column of every table, and nothing else.

use std::path::Path;

use cloze_shard::manifest::{FileRecord, Manifest};
use serde_json::json;

use crate::output::Output;
use crate::source::Source;
use crate::table::TableWriter;
use crate::{Container, ContainerFile, FilesFormat, Report, Result, by_shard};

/// Writes the folder of Parquet files.
pub fn write(
    source: &Source<'_>,
    output: &Output,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Report> {
    let about = about(&source.manifest);
    let table = &source.manifest.documents.path;
    let name = parquet_name(table);
    let mut writer =
        TableWriter::create(&output.place(&name)?, &source.documents_schema(), &about)?;
    source.documents(&mut |batch| writer.write(&batch))?;
    let mut files = vec![file(table, name, writer)?];
    files.extend(by_shard(source, |shard| {
        let name = parquet_name(&shard.file.path);
        let path = output.place(&name)?;
        let mut writer = TableWriter::create(&path, &source.schema(), &about)?;
        source.batches(shard, &mut |batch| {
            writer.write(&batch)?;
            progress(batch.num_rows() as u64);
            Ok(())
        })?;
        file(&shard.file.path, name, writer)
    })?);
    let bytes_after = files.iter().map(|f| f.file.bytes).sum();
    Container::new(FilesFormat::Parquet, None, files, source.manifest.clone())
        .write(output.folder())?;
    Ok(Report {
        bytes_after,
        ..Report::default()
    })
}

/// Finishes the file `path`, made from `of`.
pub fn file(of: &str, path: String, writer: TableWriter) -> Result<ContainerFile> {
    let written = writer.finish()?;
    Ok(ContainerFile {
        of: of.into(),
        file: FileRecord {
            path,
            bytes: written.bytes,
            blake3: written.blake3,
        },
    })
}

/// `train/part-00000.arrow` as `train/part-00000.parquet`. Names that differ stay different.
pub fn parquet_name(arrow: &str) -> String {
    match arrow.strip_suffix(".arrow") {
        Some(stem) if !Path::new(stem).as_os_str().is_empty() => format!("{stem}.parquet"),
        _ => format!("{arrow}.parquet"),
    }
}

/// What a file says of itself, for whoever finds it alone.
pub fn about(manifest: &Manifest) -> String {
    let tokenizer = &manifest.tokenizer;
    json!({
        "format": manifest.format,
        "format_version": manifest.format_version,
        "objective": manifest.objective,
        "max_seq_length": manifest.max_seq_length,
        "masking": manifest.masking,
        "vocab_size": tokenizer.vocab_size,
        "vocab_digest": tokenizer.vocab_digest,
        "special_tokens": tokenizer.special_tokens,
    })
    .to_string()
}
