//! Datasets of what other programs prepared.
//!
//! Each file becomes shards of its own, in its order, so the bytes are the same for any number of threads. The documents
//! that rows were made from are not known: `docs/format.md` says what stands in their place.

mod crc;
mod example;
mod lddl;
mod npy;
mod sink;
mod tfrecord;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use cloze_shard::manifest::{
    FileRecord, Manifest, Masking, Objective, SourceRecord, SplitRecord, TOKENIZER_FOLDER,
    TokenizerRecord,
};
use cloze_shard::masking::MaskingRule;
use cloze_shard::rules::RowRules;
use cloze_shard::schema::IdType;
use cloze_shard::{Vocabulary, atomic, documents, regular_file};
use cloze_text::Tokenizer;
use rayon::prelude::*;
use serde_json::json;

use crate::output::Output;
use crate::{Error, Report, Result, pool};
use sink::{Sink, Written};

/// Which program prepared the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// NVIDIA's LDDL: Parquet.
    Lddl,
    /// BERT's `create_pretraining_data.py`: TFRecord.
    TfRecord,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Lddl => "lddl",
            Self::TfRecord => "tfrecord",
        }
    }

    /// Whether a file in a folder is one to read. One that is named is read whatever its name.
    fn takes(self, name: &str) -> bool {
        match self {
            // Bins are parquet_0, parquet_1, …
            Self::Lddl => name
                .rsplit_once('.')
                .is_some_and(|(_, end)| end == "parquet" || end.starts_with("parquet_")),
            Self::TfRecord => name.contains(".tfrecord"),
        }
    }
}

/// What is to be read, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which program prepared the rows.
    pub format: Format,
    /// Files and folders of the training split.
    pub train: Vec<PathBuf>,
    /// Files and folders of the validation split.
    pub validation: Vec<PathBuf>,
    /// The tokenizer that they were made with.
    pub tokenizer: PathBuf,
    /// Most rows in a shard.
    pub shard_rows: u64,
    /// Whether rows that break a rule are passed over and counted, instead of being an error.
    pub skip_bad_rows: bool,
    /// Threads; all cores where it says none.
    pub jobs: Option<usize>,
}

/// What all files have in common while they are read.
struct Plan<'a> {
    options: &'a Options,
    vocabulary: &'a Vocabulary,
    rules: RowRules,
    id_type: IdType,
    output: &'a Output,
    progress: &'a (dyn Fn(u64) + Sync),
}

/// A file to read.
struct Input {
    path: PathBuf,
    bytes: u64,
    /// Its number among all files; rows are told apart by it.
    number: u64,
}

/// Bytes of all files: what an import will advance by.
pub fn bytes(options: &Options) -> Result<u64> {
    let all = inputs(options)?;
    Ok(all.iter().flatten().map(|input| input.bytes).sum())
}

/// Makes the dataset `out`; `progress` is told bytes as they are read.
pub fn import(options: &Options, out: &Path, progress: &(dyn Fn(u64) + Sync)) -> Result<Report> {
    let inputs = inputs(options)?;
    let tokenizer = Tokenizer::open(&options.tokenizer)?;
    let vocabulary = Vocabulary::read(&options.tokenizer)?.or_lowercase(tokenizer.lowercase());
    let static_masks = match options.format {
        Format::Lddl => lddl::have_masks(inputs.iter().flatten())?,
        Format::TfRecord => true,
    };
    let output = Output::begin(out)?;
    let plan = Plan {
        options,
        vocabulary: &vocabulary,
        rules: RowRules::new(
            vocabulary.len(),
            vocabulary.special(),
            u16::MAX,
            static_masks,
        ),
        id_type: IdType::for_vocab_size(vocabulary.len()),
        output: &output,
        progress,
    };
    let read = |(split, inputs): (&str, &Vec<Input>)| {
        let work = |input: &Input| plan.file(split, input);
        inputs
            .par_iter()
            .map(work)
            .collect::<Result<Vec<Written>>>()
    };
    let names = ["train", "validation"];
    let read = || names.into_iter().zip(&inputs).map(read).collect();
    let written: Vec<Vec<Written>> = pool(options.jobs)?.install::<_, Result<_>>(read)?;
    let manifest = manifest(&plan, static_masks, &tokenizer, &written)?;
    let rows: u64 = manifest.splits.values().map(|s| s.rows).sum();
    if rows == 0 {
        let first = options.train.first().map_or(out, PathBuf::as_path);
        return Err(Error::input(first, "", "no row in any of the files"));
    }
    manifest.write(output.folder())?;
    output.commit()?;
    let shards = manifest.splits.values().flat_map(|s| &s.shards);
    let files = written.iter().flatten();
    let skipped: u64 = files.clone().flat_map(|w| w.skipped.values()).sum();
    let first = files.clone().find_map(|w| w.first_skipped.as_ref());
    let warning = first.map(|first| format!("{skipped} rows passed over; first {first}"));
    Ok(Report {
        rows,
        tokens: manifest.splits.values().map(|s| s.tokens).sum(),
        bytes_before: inputs.iter().flatten().map(|input| input.bytes).sum(),
        bytes_after: shards.map(|s| s.file.bytes).sum(),
        warnings: warning.into_iter().collect(),
    })
}

impl Plan<'_> {
    fn file(&self, split: &str, input: &Input) -> Result<Written> {
        let mut sink = Sink::new(self, split, input);
        match self.options.format {
            Format::Lddl => lddl::read(self, input, &mut sink)?,
            Format::TfRecord => tfrecord::read(self, input, &mut sink)?,
        }
        let mut written = sink.finish()?;
        written.digest = atomic::digest(&input.path)?.blake3;
        Ok(written)
    }
}

fn manifest(
    plan: &Plan<'_>,
    static_masks: bool,
    tokenizer: &Tokenizer,
    written: &[Vec<Written>],
) -> Result<Manifest> {
    let mut files = Vec::new();
    for (name, bytes) in tokenizer.files() {
        let path = format!("{TOKENIZER_FOLDER}/{name}");
        let written = atomic::write(&plan.output.place(&path)?, bytes)?;
        files.push(FileRecord {
            path,
            bytes: written.bytes,
            blake3: written.blake3,
        });
    }
    let table = documents::write(&plan.output.place(documents::FILE_NAME)?, false, [])?;
    let masking = match static_masks {
        // Files do not say how their masks were drawn; this is what both programs do where nothing else is asked for.
        true => Masking::Static {
            rule: MaskingRule::default(),
        },
        false => Masking::Dynamic,
    };
    let all = || written.iter().flatten();
    let split = |written: &[Written]| {
        let shards = written.iter().flat_map(|w| w.shards.iter().cloned());
        SplitRecord::new(shards.collect(), 0)
    };
    let skipped = all().flat_map(|w| w.skipped.values()).sum();
    let options = plan.options;
    Ok(Manifest {
        format: Manifest::format_name(),
        format_version: masking.format_version(),
        created_by: crate::CREATED_BY.into(),
        objective: Objective::Nsp,
        max_seq_length: all().map(|w| w.longest).max().unwrap_or(0),
        masking,
        seed: 0,
        tokenizer: TokenizerRecord::new(plan.vocabulary, files),
        config: json!({
            "objective": "nsp",
            "pairing": options.format.name(),
            "imported_from": options.format.name(),
            "shard_rows": options.shard_rows,
        }),
        sources: all().map(source).collect(),
        counts: BTreeMap::from([("skipped".to_owned(), skipped)]),
        metadata: Vec::new(),
        documents: FileRecord {
            path: documents::FILE_NAME.into(),
            bytes: table.bytes,
            blake3: table.blake3,
        },
        splits: BTreeMap::from([
            ("train".to_owned(), split(&written[0])),
            ("validation".to_owned(), split(&written[1])),
        ]),
    })
}

fn source(written: &Written) -> SourceRecord {
    SourceRecord {
        path: written.path.display().to_string(),
        bytes: written.bytes,
        blake3: written.digest.clone(),
        documents: 0,
        skipped: written.skipped.clone(),
    }
}

/// The files of both splits; there is at least one to train from.
fn inputs(options: &Options) -> Result<[Vec<Input>; 2]> {
    let mut number = 0;
    let mut resolve = |paths: &[PathBuf]| {
        let mut files = Vec::new();
        for path in paths {
            let before = files.len();
            walk(path, options.format, true, &mut files)?;
            if files.len() == before {
                let name = match options.format {
                    Format::Lddl => "ends in .parquet or .parquet_N",
                    Format::TfRecord => "holds .tfrecord",
                };
                let why = format!("no file below it whose name {name}");
                return Err(Error::input(path, "", why));
            }
        }
        let input = |path: PathBuf| {
            let bytes = regular_file(&path)?;
            number += 1;
            Ok(Input {
                path,
                bytes,
                number: number - 1,
            })
        };
        files.into_iter().map(input).collect::<Result<Vec<_>>>()
    };
    Ok([resolve(&options.train)?, resolve(&options.validation)?])
}

/// The files at `path`, in order of their names. Links to folders are not followed.
fn walk(path: &Path, format: Format, named: bool, files: &mut Vec<PathBuf>) -> Result<()> {
    let io = cloze_shard::Error::io;
    let is_folder = match named {
        true => fs::metadata(path).map_err(io(path))?.is_dir(),
        false => fs::symlink_metadata(path).map_err(io(path))?.is_dir(),
    };
    if !is_folder {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if named || format.takes(&name) {
            files.push(path.into());
        }
        return Ok(());
    }
    let entries = fs::read_dir(path).map_err(io(path))?;
    let entries = entries.map(|entry| entry.map(|e| e.path()).map_err(io(path)));
    let mut entries = entries.collect::<Result<Vec<_>, _>>()?;
    entries.sort();
    entries
        .iter()
        .try_for_each(|entry| walk(entry, format, false, files))
}
