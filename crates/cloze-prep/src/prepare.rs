//! The whole road: text → token store → recipes → shards → manifest.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use cloze_shard::documents::{self, DocumentRecord};
use cloze_shard::manifest::{
    FileRecord, Manifest, Masking, SplitRecord, TOKENIZER_FOLDER, TokenizerRecord,
};
use cloze_shard::masking::Masker;
use cloze_shard::{Vocabulary, atomic};
use cloze_text::Tokenizer;

use crate::input::{InputOptions, InputPlan};
use crate::pairing::PairingCounts;
use crate::plan::{Plan, plan};
use crate::progress::{Progress, Stage};
use crate::shards::{RowMaker, write_split};
use crate::split::{Assignment, SplitDocuments, assign};
use crate::tokenize::{TokenizeReport, tokenize};
use crate::{CleanReport, Config, Error, MaskingKind, Result, TokenStore};

/// The folder of unfinished work in the output folder; gone when the dataset is whole.
const WORK_FOLDER: &str = ".work";
const SPLITS: [&str; 2] = ["train", "validation"];

/// What preparation came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The manifest that was written.
    pub manifest: Manifest,
    /// What cleaning did, where it was asked for; otherwise, how many documents there were.
    pub cleaning: CleanReport,
    /// Things a person should know, each a sentence.
    pub warnings: Vec<String>,
}

/// Makes the dataset `out` from `inputs`.
///
/// `out` must not exist, or be an empty folder. When this fails, everything it wrote is removed; when the process is
/// killed, what is left has no manifest and so is no dataset.
pub fn prepare(
    inputs: &[PathBuf],
    tokenizer: &Path,
    out: &Path,
    config: &Config,
    progress: &dyn Progress,
) -> Result<Report> {
    config.check()?;
    let sources = InputPlan::resolve(inputs, &InputOptions::of(config))?;
    let vocabulary = Vocabulary::read(tokenizer)?;
    // Refuses masks that this vocabulary does not allow before any work is done.
    if let Masking::Static { rule } = config.masking_record() {
        Masker::of(rule, &vocabulary)?;
    }
    let tokenizer = Tokenizer::open(tokenizer)?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(config.jobs.unwrap_or(0))
        .build()
        .map_err(|e| Error::Threads(e.to_string()))?;
    let output = Output::begin(out)?;
    let report =
        pool.install(|| write(&sources, &vocabulary, &tokenizer, out, config, progress))?;
    output.keep();
    Ok(report)
}

fn write(
    sources: &InputPlan,
    vocabulary: &Vocabulary,
    tokenizer: &Tokenizer,
    out: &Path,
    config: &Config,
    progress: &dyn Progress,
) -> Result<Report> {
    let work = out.join(WORK_FOLDER);
    let tokens = work.join("tokens.arrow");
    let tokenized = tokenize(sources, tokenizer, config, &tokens, progress)?;
    let store = TokenStore::open(&tokens)?;
    if store.is_empty() {
        let files = tokenized.sources.len();
        let s = if files == 1 { "" } else { "s" };
        let mut why = vec![format!("no document with text in {files} file{s}")];
        why.extend(tokenized.dropped());
        why.extend(tokenized.warnings());
        return Err(Error::NothingToWrite {
            why: why.join("; "),
        });
    }
    let docs = (0..store.len()).map(|i| store.document(i).doc);
    let assignment = assign(docs, config.seed, config.validation_fraction);

    let (splits, paired) = write_splits(&store, &assignment, vocabulary, out, config, progress)?;
    let tokenizer_files = write_tokenizer(tokenizer, out)?;
    let records = (0..store.len()).map(|i| document_record(&store, i));
    let table = documents::write(&out.join(documents::FILE_NAME), records)?;
    drop(store);
    fs::remove_dir_all(&work).map_err(cloze_shard::Error::io(&work))?;
    atomic::sync_folder(out)?;

    let mut resolved = config.clone();
    resolved.clean.exclude_blake3 = tokenized.exclude_blake3.clone();
    let manifest = Manifest {
        format: Manifest::format_name(),
        format_version: config.masking_record().format_version(),
        created_by: concat!("cloze ", env!("CARGO_PKG_VERSION")).into(),
        objective: config.objective_record(),
        max_seq_length: config.seq_len,
        masking: config.masking_record(),
        seed: config.seed,
        tokenizer: TokenizerRecord::new(vocabulary, tokenizer_files),
        config: serde_json::to_value(&resolved).map_err(|e| Error::Threads(e.to_string()))?,
        counts: counts(&tokenized, &paired),
        sources: tokenized.sources.clone(),
        documents: FileRecord {
            path: documents::FILE_NAME.into(),
            bytes: table.bytes,
            blake3: table.blake3,
        },
        splits,
    };
    manifest.write(out)?;
    let warnings = warnings(&manifest, &tokenized, &paired, config);
    let cleaning = tokenized.cleaning(|ids| vocabulary.decode(ids.iter().copied()));
    Ok(Report {
        manifest,
        cleaning,
        warnings,
    })
}

fn write_splits(
    store: &TokenStore,
    assignment: &Assignment,
    vocabulary: &Vocabulary,
    out: &Path,
    config: &Config,
    progress: &dyn Progress,
) -> Result<(BTreeMap<String, SplitRecord>, PairingCounts)> {
    let numbers = [&assignment.train, &assignment.validation];
    let documents = numbers.map(|n| SplitDocuments::new(store, n, vocabulary));
    let spill = |split: usize| {
        out.join(WORK_FOLDER)
            .join(format!("{}.recipes", SPLITS[split]))
    };

    progress.begin(Stage::Pair, store.len() * u64::from(config.dupe_factor));
    let mut paired = PairingCounts::default();
    for (split, documents) in documents.iter().enumerate() {
        paired += plan(documents, config, &spill(split), progress)?;
    }
    progress.end();

    let plans = [Plan::open(&spill(0))?, Plan::open(&spill(1))?];
    progress.begin(Stage::Write, plans.iter().map(Plan::rows).sum());
    let mut splits = BTreeMap::new();
    for (i, (documents, plan)) in documents.iter().zip(&plans).enumerate() {
        let split = i as u32;
        let maker = RowMaker::new(documents, vocabulary, config, split)?;
        let shards = write_split(&maker, plan, SPLITS[i], split, out, config, progress)?;
        splits.insert(
            SPLITS[i].to_owned(),
            SplitRecord::new(shards, numbers[i].len() as u64),
        );
    }
    progress.end();
    Ok((splits, paired))
}

fn document_record(store: &TokenStore, i: u64) -> DocumentRecord {
    let document = store.document(i);
    DocumentRecord {
        doc: document.doc,
        source: document.source,
        index: document.index,
        id: document.id.map(str::to_owned),
        sentences: document.sentence_ends.len() as u32,
        tokens: document.input_ids.len() as u32,
    }
}

fn write_tokenizer(tokenizer: &Tokenizer, out: &Path) -> Result<Vec<FileRecord>> {
    let folder = out.join(TOKENIZER_FOLDER);
    fs::create_dir(&folder).map_err(cloze_shard::Error::io(&folder))?;
    let mut records = Vec::new();
    for (name, bytes) in tokenizer.files() {
        let written = atomic::write(&folder.join(name), bytes)?;
        let path = format!("{TOKENIZER_FOLDER}/{name}");
        records.push(FileRecord {
            path,
            bytes: written.bytes,
            blake3: written.blake3,
        });
    }
    Ok(records)
}

fn counts(tokenized: &TokenizeReport, paired: &PairingCounts) -> BTreeMap<String, u64> {
    let mut counts = tokenized.counts();
    for (name, count) in [
        ("truncated_tokens", paired.truncated_tokens),
        ("random_unavailable", paired.random_unavailable),
        ("random_from_own_document", paired.random_from_own_document),
        ("sentences_cut", paired.sentences_cut),
    ] {
        counts.insert(name.into(), count);
    }
    counts
}

fn warnings(
    manifest: &Manifest,
    tokenized: &TokenizeReport,
    paired: &PairingCounts,
    config: &Config,
) -> Vec<String> {
    let mut warnings = tokenized.warnings();
    let usual = Config::default();
    let asked_of_masks = |c: &Config| (c.mask_rate, c.mask_share, c.random_share, c.mask_unit);
    if config.masking == MaskingKind::Dynamic && asked_of_masks(config) != asked_of_masks(&usual) {
        warnings.push(
            "what is asked of masks has no effect: the trainer draws them; give the options to `cloze pretrain`, or \
             --masking static here"
                .into(),
        );
    }
    if paired.random_from_own_document > 0 {
        warnings.push(format!(
            "{} rows are labelled random although B comes from A's own document: a fault of --pairing bert on few \
             documents; `cloze verify` will list them",
            paired.random_from_own_document
        ));
    }
    if paired.random_unavailable > 0 {
        warnings.push(format!(
            "{} pairs that were to be random are labelled next: the split has no other document to draw from",
            paired.random_unavailable
        ));
    }
    for (name, split) in &manifest.splits {
        if split.rows == 0 && !(name == "validation" && config.validation_fraction == 0.0) {
            warnings.push(format!(
                "split {name} is empty: the corpus has too few documents"
            ));
        }
        let labels = split.labels;
        let share = labels.none as f64 / split.rows.max(1) as f64;
        if share > 0.5 {
            warnings.push(format!(
                "{:.0} % of the rows of split {name} have one segment and no label: most documents hold one sentence",
                100.0 * share
            ));
        }
    }
    warnings
}

/// The output folder, removed again unless it is kept.
struct Output {
    path: PathBuf,
    created: bool,
    keep: bool,
}

impl Output {
    fn begin(path: &Path) -> Result<Self> {
        let exists = |why: &str, hint| {
            Err(Error::OutputExists {
                path: path.into(),
                why: why.into(),
                hint,
            })
        };
        let created = !path.exists();
        if !created {
            if !path.is_dir() {
                return exists("is a file", "give a folder that does not exist yet");
            }
            if path.join(cloze_shard::manifest::FILE_NAME).exists() {
                return exists(
                    "holds a dataset already",
                    "give another --out, or delete this dataset first",
                );
            }
            if path.join(WORK_FOLDER).exists() {
                return exists(
                    "holds the remains of a preparation that was stopped, or of one that is still running",
                    "if none is running, delete the folder and prepare again",
                );
            }
            let mut entries = fs::read_dir(path).map_err(cloze_shard::Error::io(path))?;
            if entries.next().is_some() {
                return exists(
                    "is not empty",
                    "give a folder that does not exist yet, or an empty one",
                );
            }
        }
        let work = path.join(WORK_FOLDER);
        fs::create_dir_all(&work).map_err(cloze_shard::Error::io(&work))?;
        Ok(Self {
            path: path.into(),
            created,
            keep: false,
        })
    }

    fn keep(mut self) {
        self.keep = true;
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        // What cannot be removed has no manifest, so it is no dataset; the error that led here is the one to show.
        if self.created {
            let _ = fs::remove_dir_all(&self.path);
        } else if let Ok(entries) = fs::read_dir(&self.path) {
            for entry in entries.flatten() {
                let path = entry.path();
                let _ = if path.is_dir() {
                    fs::remove_dir_all(&path)
                } else {
                    fs::remove_file(&path)
                };
            }
        }
    }
}
