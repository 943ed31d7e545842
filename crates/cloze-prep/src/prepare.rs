//! The whole road: text → token store → recipes → shards → manifest.

mod made;
mod pairs;
mod room;
mod splits;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cloze_shard::Vocabulary;
use cloze_shard::atomic::{self, Postponed};
use cloze_shard::manifest::{Manifest, Masking};
use cloze_shard::masking::Masker;
use cloze_text::Tokenizer;

use self::made::Made;
use crate::amounts::Amounts;
use crate::disk::megabytes;
use crate::fields;
use crate::input::{InputOptions, InputPlan, Source, is_pipe, only_a_file};
use crate::key::Key;
use crate::memory::Memory;
use crate::output::{Output, WORK_FOLDER};
use crate::pairing::PairingCounts;
use crate::plan::Sorting;
use crate::progress::Progress;
use crate::sources;
use crate::tokenize::encoders::{self, Rooms};
use crate::tokenize::{Encoders, TokenizeReport, tokenize};
use crate::tokens::{Reuse, TokenFolder, counted};
use crate::{CleanReport, Config, Error, Result};

const SPLITS: [&str; 2] = ["train", "validation"];
/// A share of held-out rows that is this far above what was asked for is told of.
const FAR: f64 = 0.05;

/// What preparation came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The manifest that was written.
    pub manifest: Manifest,
    /// What cleaning did, where it was asked for; otherwise, how many documents there were. `None` where nothing was read, since the dataset was whole.
    pub cleaning: Option<CleanReport>,
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
    /// Where inputs are others than those that tokens were made of, make anew what was made of the first that is another and of all after it, instead of refusing
    #[cfg_attr(feature = "clap", arg(long))]
    pub replace_tokens: bool,
    /// Memory that is kept to, beside the vocabulary and the longest document, such as 1GiB, for a corpus of any size: where the tokens do not fit into half of it, they are
    /// sorted on disk, with the same result [default: half of what the machine or its control group has]
    #[cfg_attr(feature = "clap", arg(long, value_name = "SIZE", value_parser = crate::parse_memory))]
    pub memory: Option<u64>,
    /// Text after which the tokens so far are safe from a stop; with deduplication they are when all text was read
    #[cfg_attr(feature = "clap", arg(long, default_value_t = 256, value_name = "MB", value_parser = clap::value_parser!(u64).range(1..=65_536)))]
    pub save_every: u64,
}

impl Default for Work {
    fn default() -> Self {
        Self {
            resume: false,
            tokens: None,
            replace_tokens: false,
            memory: None,
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
    memory: Memory,
    /// What of the unfinished work is not on the disk yet.
    postponed: Postponed,
    out: &'a Path,
    /// The folder of unfinished work.
    folder: PathBuf,
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
        let why = match () {
            () if is_pipe(path) => "a pipe: it is read more than once, so write it to a file",
            () if path.is_dir() => {
                "a folder: name the files in it one by one, each with --exclude before it"
            }
            () => "",
        };
        if !why.is_empty() {
            return Err(Error::Config {
                option: "--exclude",
                why: format!("is {}, {why}", path.display()),
            });
        }
        let digest = atomic::digest(path)?.blake3;
        config.clean.exclude_blake3.push(digest);
    }
    sources::outside(out, inputs)?;
    if let Some(tokens) = &work.tokens {
        sources::tokens_outside(tokens, out)?;
    }
    let sources = InputPlan::resolve_and_say(inputs, &InputOptions::of(&config), progress)?;
    fields::check(&sources, &config)?;
    sources::no_vocabulary(tokenizer, &sources)?;
    for path in sources::vocabularies(&sources) {
        progress.say(&format!(
            "warning: {} is the vocabulary of a tokenizer, which lies beside it, and is read as text: name the texts by a pattern to leave it out",
            path.display()
        ));
    }
    if let Some(most) = positions(tokenizer).filter(|&most| u64::from(config.seq_len) > most) {
        progress.say(&format!(
            "warning: rows have up to {} tokens, and the model beside the tokenizer has {most} positions (config.json): it cannot be trained on them",
            config.seq_len
        ));
    }
    if !tokenizer.exists() {
        return Err(Error::NoTokenizer(tokenizer.into()));
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(config.jobs.unwrap_or(0))
        // As much as a program's first thread has: the library reads a tokenizer as deep as its JSON goes.
        .stack_size(8 << 20)
        .build()
        .map_err(|e| Error::Threads(e.to_string()))?;
    // The thread that opens the tokenizer goes on with the text: another would have to be moved to its processor, or wait there for the rest.
    pool.install(|| prepared(sources, tokenizer, out, config, work, progress))
}

/// Makes the dataset, with the threads of this pool.
fn prepared(
    sources: InputPlan,
    path: &Path,
    out: &Path,
    config: Config,
    work: &Work,
    progress: &dyn Progress,
) -> Result<Report> {
    // Where there is much text, threads have their memory when it comes.
    let much = usize::try_from(sources.bytes() >> 20).unwrap_or(usize::MAX);
    let rooms = encoders::rooms(rayon::current_num_threads().min(much));
    let tokenizer = Tokenizer::open(path)?;
    let vocabulary = vocabulary(&tokenizer, path)?;
    // Refuses masks that this vocabulary does not allow before any work is done.
    if let Masking::Static { rule } = config.masking_record() {
        Masker::of(rule, &vocabulary)?;
    }
    let preparation = Preparation {
        key: Key::of_dataset(&config, &tokenizer, &vocabulary)?,
        sources,
        vocabulary,
        tokenizer,
        config,
        memory: Memory::new(work.memory),
        postponed: Postponed::default(),
        folder: out.join(WORK_FOLDER),
        out,
        work,
        progress,
    };
    if let Some(warning) = Memory::warning(work.memory) {
        progress.say(&warning);
    }
    let Some(output) = Output::begin(out, &preparation.key, work.resume)? else {
        return preparation.is_there();
    };
    match preparation.run(rooms) {
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

/// The vocabulary of the tokenizer that was opened at `path`, by what was read then, where that says all.
fn vocabulary(opened: &Tokenizer, path: &Path) -> Result<Vocabulary> {
    let said = opened.entries();
    let said = said.and_then(|entries| Vocabulary::new(entries, None).ok());
    let vocabulary = match said {
        Some(vocabulary) => vocabulary,
        None => Vocabulary::read(path)?,
    };
    Ok(vocabulary.or_lowercase(opened.lowercase()))
}

/// How many positions the model has that lies beside a tokenizer, if one does.
fn positions(tokenizer: &Path) -> Option<u64> {
    let config = tokenizer.join("config.json");
    if !config.is_file() {
        return None;
    }
    let text = cloze_shard::read_small(&config, 1 << 20).ok()?;
    let config: serde_json::Value = serde_json::from_str(&text).ok()?;
    config["max_position_embeddings"].as_u64()
}

impl Preparation<'_> {
    fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
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
        let mut differences = then.differences(&of(&now, &self.vocabulary.digest()));
        let now = self.tokenizer.files().iter();
        let same = now.clone().count() == manifest.tokenizer.files.len()
            && now
                .zip(&manifest.tokenizer.files)
                .all(|((_, bytes), then)| blake3::hash(bytes).to_hex().as_str() == then.blake3);
        if !same && differences.is_empty() {
            differences.push("the tokenizer".into());
        }
        differences.extend(sources::other(&manifest, self.out, &self.sources)?);
        if !differences.is_empty() {
            return Err(Error::OtherConfig {
                path: self.out.into(),
                differences,
                hint: "it is whole: give another --out",
            });
        }
        let mut warnings = vec!["the dataset was whole already: nothing was done".to_owned()];
        let kept = match &self.work.tokens {
            Some(tokens) => counted(tokens, &self.key.of_tokens(), &self.sources.sources)?,
            None => None,
        };
        if let (Some(tokens), None) = (&self.work.tokens, &kept) {
            let tokens = tokens.display();
            warnings.push(match self.sources.sources.iter().any(Source::is_stream) {
                true => {
                    format!("what came through a pipe was not compared with the tokens in {tokens}")
                }
                false => format!("no tokens were made in {tokens}"),
            });
        }
        let cleaning = kept.map(|kept| self.cleaning(&kept));
        Ok(Report {
            manifest,
            cleaning,
            warnings,
        })
    }

    fn run(&self, rooms: Rooms) -> Result<Report> {
        let (config, progress) = (&self.config, self.progress);
        let mut folder = TokenFolder::open(
            &self.token_folder(),
            &self.key.of_tokens(),
            &self.sources.sources,
            Reuse {
                replace: self.work.replace_tokens,
                in_one_part: config.clean.finds_duplicates(),
                // Those that are kept are worth more than those of one dataset.
                postponed: self.work.tokens.is_none().then(|| self.postponed.clone()),
            },
        )?;
        for said in &folder.said {
            progress.say(&format!("tokens   {said}"));
        }
        let is_needed = !folder.whole && self.tokenizer.slow_because().is_none();
        let rooms = if is_needed { rooms } else { Rooms::default() };
        let encoders = Encoders::in_rooms(&self.tokenizer, rooms);
        self.state_disk(&folder, &encoders)?;
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
            encoders,
            config,
            &mut folder,
            part_bytes,
            self.memory,
            progress,
        )?;
        let files = folder.files()?;
        if files.is_empty() {
            let files = tokenized.sources.len();
            let s = if files == 1 { "" } else { "s" };
            let mut why = vec![format!("no document with text in {files} file{s}")];
            why.extend(tokenized.dropped());
            why.extend(tokenized.warnings());
            return Err(Error::NothingToWrite {
                why: why.join("; "),
                hint: match tokenized.dropped().is_empty() {
                    true => "check that the inputs hold text, and --text-field and --text-form",
                    false => {
                        "look at the options of cleaning; --report FILE says what each of them dropped"
                    }
                },
            });
        }
        let tokens = folder.place.digest()?;
        let amounts = Amounts::counted(&tokenized);
        let recipes = self.needed(&amounts).recipes;
        let Made {
            planned,
            splits,
            table,
            tokenizer,
        } = match self.memory.maps(files.bytes() + recipes) {
            true => self.mapped(&files, tokens)?,
            false => {
                progress.say(&format!(
                    "memory   tokens and recipes are {}, more than half of the {} that are kept to: they are sorted on the disk",
                    megabytes(files.bytes() + recipes),
                    megabytes(self.memory.bytes()),
                ));
                self.sorted(&files, tokens)?
            }
        };
        let mut paired = planned[0].counts;
        paired += planned[1].counts;

        self.postponed.end()?;
        let manifest = Manifest {
            format: Manifest::format_name(),
            format_version: Manifest::version_of(
                config.objective_record(),
                &config.masking_record(),
                &config.meta_field,
            ),
            created_by: crate::CREATED_BY.into(),
            objective: config.objective_record(),
            max_seq_length: config.seq_len,
            masking: config.masking_record(),
            seed: config.seed,
            tokenizer,
            config: serde_json::to_value(config).map_err(|e| Error::Threads(e.to_string()))?,
            counts: counts(&tokenized, &paired),
            sources: tokenized.sources.clone(),
            metadata: config.meta_field.clone(),
            documents: table,
            splits,
        };
        manifest.write(self.out)?;
        let mut warnings = warnings(&manifest, &tokenized, &paired, config);
        warnings.extend(fields::warning(&files, &self.sources, config)?);
        let cleaning = self.cleaning(&tokenized);
        Ok(Report {
            manifest,
            cleaning: Some(cleaning),
            warnings,
        })
    }

    /// What cleaning did to the text of these tokens.
    fn cleaning(&self, tokenized: &TokenizeReport) -> CleanReport {
        tokenized.cleaning(|ids| self.vocabulary.decode(ids.iter().copied()))
    }

    fn recipes(&self, split: usize) -> Vec<PathBuf> {
        let name = |bin| self.at(&format!("{}-{bin}.recipes", SPLITS[split]));
        (0..self.config.bins().len()).map(name).collect()
    }

    fn sorting(&self) -> Sorting<'_> {
        Sorting {
            memory: self.memory,
            folder: &self.folder,
        }
    }
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
    warnings.extend(config.without_effect());
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
    let rows = |name: &str| manifest.splits.get(name).map_or(0, |split| split.rows);
    let (train, held_out) = (rows(SPLITS[0]), rows(SPLITS[1]));
    let (share, asked) = (
        held_out as f64 / (train + held_out).max(1) as f64,
        config.validation_fraction,
    );
    if train > 0 && share > 2.0 * asked && share > asked + FAR {
        warnings.push(format!(
            "split {} has {:.0} % of the rows, where {} % of the documents were asked for: whole documents are held out, and these are few, or some of them are long; \
             give more and shorter ones (form feeds end documents of plain text), or another --seed",
            SPLITS[1],
            100.0 * share,
            (asked * 1e5).round() / 1e3,
        ));
    }
    for (name, split) in &manifest.splits {
        if split.rows == 0 && !(name == "validation" && config.validation_fraction == 0.0) {
            warnings.push(format!(
                "split {name} is empty: the corpus has too few documents (a file of plain text is one, unless form feeds end them, or --text-form says otherwise)"
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

#[cfg(test)]
mod tests {
    use std::fs;

    use cloze_text::Settings;

    use super::*;

    #[test]
    fn the_vocabulary_is_that_of_the_file() {
        let tokens = [
            "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##a\r", "\u{e9}", "\"",
        ];
        for lowercase in [true, false] {
            let settings = Settings {
                lowercase,
                ..Settings::default()
            };
            let made = Tokenizer::from_tokens(&tokens, settings).unwrap();
            let folder = tempfile::tempdir().unwrap();
            made.write(folder.path()).unwrap();
            let of = |path: &Path| {
                let opened = Tokenizer::open(path).unwrap();
                let all_said = opened.entries().is_some();
                let vocabulary = vocabulary(&opened, path).unwrap();
                assert_eq!(vocabulary.lowercase(), Some(lowercase));
                let read = Vocabulary::read(path).unwrap();
                assert_eq!(vocabulary, read.or_lowercase(Some(lowercase)));
                (all_said, vocabulary.token(6).map(str::to_owned))
            };
            let json = folder.path().join("tokenizer.json");
            for path in [folder.path(), &json] {
                assert_eq!(of(path), (true, Some("##a\r".to_owned())));
            }
            // What such a file says of case may not be what the tokenizer goes by.
            fs::remove_file(&json).unwrap();
            assert_eq!(of(folder.path()), (false, Some("##a".to_owned())));
            // The same, whether the file is named or its folder, and where nothing beside it says what a tokenizer does.
            let file = folder.path().join("vocab.txt");
            assert_eq!(of(&file), of(folder.path()));
            if lowercase {
                fs::remove_file(folder.path().join("tokenizer_config.json")).unwrap();
                assert_eq!(of(&file), (false, Some("##a".to_owned())));
            }
        }
    }
}
