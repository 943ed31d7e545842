//! The whole road: text → token store → recipes → shards → manifest.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use cloze_shard::documents::{self, DocumentRecord};
use cloze_shard::manifest::{
    FileRecord, Manifest, Masking, SplitRecord, TOKENIZER_FOLDER, TokenizerRecord,
};
use cloze_shard::masking::Masker;
use cloze_shard::schema::IdType;
use cloze_shard::{Vocabulary, atomic};
use cloze_text::Tokenizer;

use serde::{Deserialize, Serialize};

use crate::disk::{self, Needed, megabytes};
use crate::input::{InputOptions, InputPlan, only_a_file};
use crate::key::{self, Key};
use crate::output::{Output, WORK_FOLDER};
use crate::pairing::{Documents, PairingCounts};
use crate::plan::{Plan, Planned, plan};
use crate::progress::{Progress, Stage};
use crate::shards::{Kept, RowMaker, write_split};
use crate::split::{Assignment, SplitDocuments, SplitIndex};
use crate::tokenize::{TokenizeReport, tokenize};
use crate::tokens::TokenFolder;
use crate::{CleanReport, Config, Error, MaskingKind, Result, TokenStore};

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

/// How preparation goes about it. Nothing of this changes what comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
pub struct Work {
    /// Go on with what an earlier run left in the output folder, or begin; what comes out is the same, byte for byte
    #[cfg_attr(feature = "clap", arg(long))]
    pub resume: bool,
    /// Folder that keeps the tokens: made, gone on with, or used again by any preparation of the same text with the same tokenizer
    #[cfg_attr(feature = "clap", arg(long, value_name = "DIR"))]
    pub tokens: Option<PathBuf>,
    /// Text after which the tokens so far are safe from a stop
    #[cfg_attr(feature = "clap", arg(long, default_value_t = 256, value_name = "MB", value_parser = clap::value_parser!(u64).range(1..=65_536)))]
    pub save_every: u64,
}

impl Default for Work {
    fn default() -> Self {
        Self {
            resume: false,
            tokens: None,
            save_every: 256,
        }
    }
}

/// What everything is made with.
struct Preparation<'a> {
    sources: InputPlan,
    vocabulary: Vocabulary,
    tokenizer: Tokenizer,
    config: Config,
    key: Key,
    out: &'a Path,
    work: &'a Work,
    progress: &'a dyn Progress,
}

/// Makes the dataset `out` from `inputs`.
///
/// `out` must not exist, or be an empty folder; with `work.resume` it may hold what an earlier run left. When this fails before any part of the tokens was
/// safe, everything it wrote is removed; otherwise it stays, without a manifest, so it is no dataset.
pub fn prepare(
    inputs: &[PathBuf],
    tokenizer: &Path,
    out: &Path,
    config: &Config,
    work: &Work,
    progress: &dyn Progress,
) -> Result<Report> {
    config.check()?;
    let mut config = config.resolved();
    for path in &config.clean.exclude {
        only_a_file(path, "an evaluation set (--exclude)")?;
        let digest = atomic::digest(path)?.blake3;
        config.clean.exclude_blake3.push(digest);
    }
    let sources = InputPlan::resolve(inputs, &InputOptions::of(&config))?;
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
    let preparation = Preparation {
        key: Key::of_dataset(&config, &tokenizer, &vocabulary)?,
        sources,
        vocabulary,
        tokenizer,
        config,
        out,
        work,
        progress,
    };
    let Some(output) = Output::begin(out, &preparation.key, work.resume)? else {
        return preparation.is_there();
    };
    match pool.install(|| preparation.run()) {
        Ok(report) => {
            output.finish()?;
            Ok(report)
        }
        Err(error) if preparation.has_begun() => {
            output.leave();
            Err(Error::Stopped {
                source: Box::new(error),
                out: out.into(),
            })
        }
        Err(error) => Err(error),
    }
}

/// What shards were made of, beside the key.
#[derive(PartialEq, Serialize, Deserialize)]
struct PlanNote {
    /// Digest of what was counted of the tokens, sources included.
    tokens: String,
    planned: [Planned; 2],
}

impl Preparation<'_> {
    fn at(&self, name: &str) -> PathBuf {
        self.out.join(WORK_FOLDER).join(name)
    }

    fn token_folder(&self) -> PathBuf {
        self.work
            .tokens
            .clone()
            .unwrap_or_else(|| self.at("tokens"))
    }

    /// Whether there is something to go on from.
    fn has_begun(&self) -> bool {
        self.at("plan.json").exists() || self.at("tokens/part-00000.json").exists()
    }

    /// The report of a dataset that is whole already.
    fn is_there(&self) -> Result<Report> {
        let manifest = Manifest::read(self.out)?;
        let now = serde_json::to_value(&self.config).map_err(|e| Error::Threads(e.to_string()))?;
        let of = |config: &serde_json::Value, digest: &str| Key::of(config, digest);
        let then = of(&manifest.config, &manifest.tokenizer.vocab_digest);
        let differences = then.differences(&of(&now, &self.vocabulary.digest()));
        if !differences.is_empty() {
            return Err(Error::OtherConfig {
                path: self.out.into(),
                differences,
                hint: "it is whole: give another --out",
            });
        }
        let warnings = vec!["the dataset was whole already: nothing was done".into()];
        Ok(Report {
            manifest,
            cleaning: CleanReport::default(),
            warnings,
        })
    }

    fn run(&self) -> Result<Report> {
        let (config, progress) = (&self.config, self.progress);
        let mut folder = TokenFolder::open(
            &self.token_folder(),
            &self.key.of_tokens(),
            &self.sources.sources,
        )?;
        self.state_disk(&folder)?;
        if folder.whole {
            let all = format!("tokens   as they are in {}", self.token_folder().display());
            progress.say(&all);
        } else if folder.place.parts > 0 {
            progress.say(&format!(
                "tokens   going on after {} documents in {}",
                folder.place.report.documents(),
                self.token_folder().display()
            ));
        }
        let part_bytes = self.work.save_every << 20;
        let tokenized = tokenize(
            &self.sources,
            &self.tokenizer,
            config,
            &mut folder,
            part_bytes,
            progress,
        )?;
        let store = folder.store()?;
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
        let assignment = Assignment::new(docs, config.seed, config.validation_fraction);
        let index = |split: usize| {
            let path = self.at(&format!("{}.documents", SPLITS[split]));
            SplitIndex::write(&store, &path, |doc| {
                assignment.is_validation(doc) == (split == 1)
            })
        };
        let indexes = [index(0)?, index(1)?];
        let documents = indexes
            .each_ref()
            .map(|index| SplitDocuments::new(&store, index, &self.vocabulary));
        let planned = self.plan(&documents, &folder)?;
        let mut paired = planned[0].counts;
        paired += planned[1].counts;
        let splits = self.write_splits(&documents, &indexes)?;

        let tokenizer_files = write_tokenizer(&self.tokenizer, self.out)?;
        let records = (0..store.len()).map(|i| document_record(&store, i));
        let with_meta = !config.meta_field.is_empty();
        let path = self.out.join(documents::FILE_NAME);
        let table = documents::write(&path, with_meta, records)?;
        atomic::sync_folder(self.out)?;
        let manifest = Manifest {
            format: Manifest::format_name(),
            format_version: Manifest::version_of(
                config.objective_record(),
                &config.masking_record(),
                &config.meta_field,
            ),
            created_by: concat!("cloze ", env!("CARGO_PKG_VERSION")).into(),
            objective: config.objective_record(),
            max_seq_length: config.seq_len,
            masking: config.masking_record(),
            seed: config.seed,
            tokenizer: TokenizerRecord::new(&self.vocabulary, tokenizer_files),
            config: serde_json::to_value(config).map_err(|e| Error::Threads(e.to_string()))?,
            counts: counts(&tokenized, &paired),
            sources: tokenized.sources.clone(),
            metadata: config.meta_field.clone(),
            documents: FileRecord {
                path: documents::FILE_NAME.into(),
                bytes: table.bytes,
                blake3: table.blake3,
            },
            splits,
        };
        manifest.write(self.out)?;
        let warnings = warnings(&manifest, &tokenized, &paired, config);
        let cleaning = tokenized.cleaning(|ids| self.vocabulary.decode(ids.iter().copied()));
        Ok(Report {
            manifest,
            cleaning,
            warnings,
        })
    }

    /// Says how much room is needed, and refuses to begin where there is none for half of it.
    fn state_disk(&self, folder: &TokenFolder) -> Result<()> {
        let id_type = IdType::for_vocab_size(self.vocabulary.len());
        let mut needed = Needed::guess(&self.sources, id_type, &self.config);
        if folder.whole {
            needed.tokens = 0;
        }
        let free = disk::free(self.out);
        let of_free = free.map_or_else(String::new, |f| format!("; {} are free", megabytes(f)));
        self.progress.say(&format!(
            "disk     about {} while it works, {} when it is done{of_free}",
            megabytes(needed.all()),
            megabytes(needed.dataset),
        ));
        disk::refuse(self.out, needed.all() / 2, free)
    }

    fn bins(&self) -> usize {
        self.config.bins().len()
    }

    fn recipes(&self, split: usize) -> Vec<PathBuf> {
        let name = |bin| self.at(&format!("{}-{bin}.recipes", SPLITS[split]));
        (0..self.bins()).map(name).collect()
    }

    /// Writes the recipes of both splits, unless they are there.
    fn plan(
        &self,
        documents: &[SplitDocuments<'_>; 2],
        folder: &TokenFolder,
    ) -> Result<[Planned; 2]> {
        let path = self.at("plan.json");
        let tokens = folder.place.digest()?;
        let there = key::read::<PlanNote>(&path)?;
        let planned = match there.filter(|note| note.tokens == tokens) {
            Some(note) => note.planned,
            None => {
                self.forget_shards()?;
                let all: u64 = documents.iter().map(Documents::len).sum();
                let all = all * u64::from(self.config.dupe_factor);
                self.progress.begin(Stage::Pair, all);
                let mut planned = [Planned::default(); 2];
                for (split, documents) in documents.iter().enumerate() {
                    planned[split] =
                        plan(documents, &self.config, &self.recipes(split), self.progress)?;
                }
                self.progress.end();
                key::write(&path, &PlanNote { tokens, planned })?;
                planned
            }
        };
        // Now it is known what is needed; what is written already is counted again, so half suffices where that is much.
        if !self.out.join(SPLITS[0]).exists() {
            let id_type = IdType::for_vocab_size(self.vocabulary.len());
            let needed = planned
                .iter()
                .map(|p| disk::shards(p, id_type, &self.config));
            disk::refuse(self.out, needed.sum(), disk::free(self.out))?;
        }
        Ok(planned)
    }

    /// Removes what was made of other tokens.
    fn forget_shards(&self) -> Result<()> {
        let work = self.out.join(WORK_FOLDER);
        for split in SPLITS {
            let folder = self.out.join(split);
            if folder.exists() {
                fs::remove_dir_all(&folder).map_err(cloze_shard::Error::io(&folder))?;
            }
            for entry in fs::read_dir(&work).map_err(cloze_shard::Error::io(&work))? {
                let path = entry.map_err(cloze_shard::Error::io(&work))?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if name.starts_with(split) && name.ends_with(".json") {
                    fs::remove_file(&path).map_err(cloze_shard::Error::io(&path))?;
                }
            }
        }
        Ok(())
    }

    fn write_splits(
        &self,
        documents: &[SplitDocuments<'_>; 2],
        indexes: &[SplitIndex; 2],
    ) -> Result<BTreeMap<String, SplitRecord>> {
        let (config, edges) = (&self.config, self.config.bins());
        let plans = |split| -> Result<Vec<Plan>> {
            let paths = self.recipes(split);
            paths.iter().map(|path| Plan::open(path)).collect()
        };
        let plans = [plans(0)?, plans(1)?];
        let rows = plans.iter().flatten().map(Plan::rows).sum();
        self.progress.begin(Stage::Write, rows);
        let mut splits = BTreeMap::new();
        for (i, (documents, plans)) in documents.iter().zip(&plans).enumerate() {
            let split = i as u32;
            let folder = self.out.join(SPLITS[i]);
            fs::create_dir_all(&folder).map_err(cloze_shard::Error::io(&folder))?;
            let maker = RowMaker::new(documents, &self.vocabulary, config, split)?;
            let name = |bin: usize, shard: u64| match edges.len() {
                1 => format!("{}/part-{shard:05}.arrow", SPLITS[i]),
                _ => format!("{}/to-{:05}-part-{shard:05}.arrow", SPLITS[i], edges[bin]),
            };
            let kept = Kept::new(self.out.join(WORK_FOLDER));
            let shards = write_split(&maker, plans, name, self.out, config, &kept, self.progress)?;
            let record = SplitRecord::new(shards, indexes[i].len());
            splits.insert(SPLITS[i].to_owned(), record);
        }
        self.progress.end();
        Ok(splits)
    }
}

fn document_record(store: &TokenStore, i: u64) -> DocumentRecord {
    let document = store.document(i);
    DocumentRecord {
        doc: document.doc,
        source: document.source,
        index: document.index,
        id: document.id.map(str::to_owned),
        meta: document.meta.map(str::to_owned),
        sentences: document.sentence_ends.len() as u32,
        tokens: document.input_ids.len() as u32,
    }
}

fn write_tokenizer(tokenizer: &Tokenizer, out: &Path) -> Result<Vec<FileRecord>> {
    let folder = out.join(TOKENIZER_FOLDER);
    fs::create_dir_all(&folder).map_err(cloze_shard::Error::io(&folder))?;
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
        if share > 0.5 && config.objective.has_pairs() {
            warnings.push(format!(
                "{:.0} % of the rows of split {name} have one segment and no label: most documents hold one sentence",
                100.0 * share
            ));
        }
    }
    warnings
}
