//! What the manifest of a prepared dataset says of its configuration, compared with the rest of the manifest and with what that configuration comes to: the
//! split of each document, the rows of each shard, and the static masks of some rows.

use std::collections::BTreeMap;
use std::path::Path;

use cloze_shard::documents::Documents;
use cloze_shard::manifest::{Manifest, Masking, SplitRecord, TOKENIZER_FOLDER};
use cloze_shard::masking::{MaskKey, Masker, Scratch};
use cloze_shard::random::Stage;
use cloze_shard::verify::{Check, Claims, Report, verify_each};
use cloze_shard::{Shard, Vocabulary, check_file};

use crate::Config;
use crate::shards::{Part, parts};
use crate::split::Assignment;

#[cfg(test)]
mod tests;

const SPLITS: [&str; 2] = ["train", "validation"];
/// Rows of a shard whose static masks are drawn again: what another seed, rate, share or unit gives is seen in a few.
const DRAWN_AGAIN: u64 = 64;

/// Checks the dataset in Arrow files at `path` as [`cloze_shard::verify`] does, and then as [`check`] does; of static masks, some are drawn again on the way.
pub fn verify(path: &Path, progress: &mut dyn FnMut(u64)) -> cloze_shard::Result<Report> {
    let manifest = Manifest::read(path)?;
    let mut masks = Masks::of(path, &manifest);
    let mut look = |split: &str, number: usize, shard: &Shard, report: &mut Report| {
        if let Some(masks) = &mut masks {
            masks.check(split, number, shard, report);
        }
    };
    let mut report = verify_each(path, progress, &mut look)?;
    check(path, &manifest, &mut report);
    Ok(report)
}

/// Compares what `manifest`, of the folder `dataset`, says of its configuration; problems are added under [`Check::Manifest`].
///
/// Configurations of other programs, and of imported datasets, say nothing of this kind. Where the dataset's files are not Arrow, what its table would show is left out.
pub fn check(dataset: &Path, manifest: &Manifest, report: &mut Report) {
    let config = match configuration(manifest) {
        None => return,
        Some(Ok(config)) => config,
        Some(Err(why)) => {
            Claims::of(dataset, report).wrong(format!("config: not understood: {why}"));
            return;
        }
    };
    said_twice(dataset, manifest, &config, report);
    shards(dataset, manifest, &config, report);
    if let Ok(table) = check_file(dataset, &manifest.documents)
        && let Ok(table) = Documents::open(&table, !manifest.metadata.is_empty())
    {
        documents(dataset, manifest, &config, &table, report);
    }
}

/// The configuration of a dataset that was prepared by us; `None` where it is another's.
fn configuration(manifest: &Manifest) -> Option<Result<Config, String>> {
    let ours = manifest.created_by.starts_with("cloze ");
    if !ours || manifest.config.get("imported_from").is_some() {
        return None;
    }
    let config = serde_json::from_value(manifest.config.clone()).map_err(|e| e.to_string());
    let config = config.and_then(|config: Config| match config.check() {
        Ok(()) => Ok(config),
        Err(error) => Err(error.to_string()),
    });
    Some(config)
}

/// What stands in the configuration and beside it.
fn said_twice(dataset: &Path, manifest: &Manifest, config: &Config, report: &mut Report) {
    let mut claims = Claims::of(dataset, report);
    let place = "in config";
    let objective = config.objective_record();
    claims.field("objective", &manifest.objective, &objective, place);
    let length = manifest.max_seq_length;
    claims.field("max_seq_length", &length, &config.seq_len, place);
    let masking = config.masking_record();
    claims.field("masking", &manifest.masking, &masking, place);
    claims.field("seed", &manifest.seed, &config.seed, place);
    let metadata = &manifest.metadata;
    claims.field("metadata", metadata, &config.meta_field, place);
    if manifest.created_by == crate::CREATED_BY {
        let written = serde_json::to_value(config).unwrap_or_default();
        claims.field(
            "config",
            &manifest.config,
            &written,
            "as it is understood, and written",
        );
    }
    let counts_cleaning = manifest.counts.contains_key("read_documents");
    claims.field(
        "whether counts say what cleaning did",
        &counts_cleaning,
        &!config.clean.is_off(),
        "by what config asks of it",
    );
    let digests = config.clean.exclude_blake3.len();
    let place = "digests of them in config.clean.exclude_blake3";
    let sets = config.clean.exclude.len();
    claims.field("number of config.clean.exclude", &sets, &digests, place);
}

/// Rows of each bin, by their lengths.
fn rows_of_bins(split: &SplitRecord, edges: &[u16]) -> Vec<u64> {
    let mut rows = vec![0; edges.len()];
    for (length, count) in split.lengths() {
        // Longer rows than any may be were found before.
        if let Some(bin) = edges.iter().position(|&edge| length <= edge) {
            rows[bin] += count;
        }
    }
    rows
}

/// The shards that preparation makes of so many rows as a split has; how many there should be, where there are others.
fn planned(name: &str, split: &SplitRecord, config: &Config) -> Result<Vec<Part>, u64> {
    let edges = config.bins();
    let rows = rows_of_bins(split, &edges);
    let shards = rows.iter().map(|rows| rows.div_ceil(config.shard_rows));
    let shards = shards.fold(0, u64::saturating_add);
    // A manifest may claim any number of rows.
    if shards != split.shards.len() as u64 {
        return Err(shards);
    }
    let number = u32::from(name == SPLITS[1]);
    Ok(parts(config, number, &rows, |bin, shard| {
        crate::shards::name(name, &edges, bin, shard)
    }))
}

fn shards(dataset: &Path, manifest: &Manifest, config: &Config, report: &mut Report) {
    let mut claims = Claims::of(dataset, report);
    let names: Vec<&str> = manifest.splits.keys().map(String::as_str).collect();
    claims.field(
        "names of `splits`",
        &names,
        &SPLITS.to_vec(),
        "to be what preparation makes",
    );
    for (name, split) in &manifest.splits {
        let place = "by config.shard_rows and config.bins";
        let wanted = match planned(name, split, config) {
            Ok(wanted) => wanted,
            Err(wanted) => {
                let (field, says) = (
                    format!("number of splits.{name}.shards"),
                    split.shards.len(),
                );
                claims.field(&field, &(says as u64), &wanted, place);
                continue;
            }
        };
        let wanted = wanted.iter();
        let wanted = wanted.map(|part| (part.file.as_str(), part.range.end - part.range.start));
        let says = split.shards.iter();
        let says = says.map(|s| (s.file.path.as_str(), s.rows));
        for (i, (says, wanted)) in says.zip(wanted).enumerate() {
            let field = format!("path and rows of splits.{name}.shards.{i}");
            if !claims.field(&field, &says, &wanted, place) {
                break;
            }
        }
    }
}

/// What the configuration comes to for each document: the split that it is in, and its hash id where it has an id.
fn documents(
    dataset: &Path,
    manifest: &Manifest,
    config: &Config,
    table: &Documents,
    report: &mut Report,
) {
    let all = || table.hashes().map(Ok);
    let Ok(assignment) = Assignment::new(all(), config.seed, config.validation_fraction) else {
        return;
    };
    let held_out = table.hashes().filter(|&doc| assignment.is_validation(doc));
    let held_out = held_out.count() as u64;
    let mut claims = Claims::of(dataset, report);
    for (name, found) in SPLITS.iter().zip([table.len() as u64 - held_out, held_out]) {
        if let Some(split) = manifest.splits.get(*name) {
            let field = format!("splits.{name}.documents");
            let place = "in the table of documents, by seed and config.validation_fraction";
            claims.field(&field, &split.documents, &found, place);
        }
    }
    let of_id = |id: &str| xxhash_rust::xxh3::xxh3_64(id.as_bytes()) as i64;
    let other = table.ids().zip(table.hashes()).find(|(id, doc)| match id {
        Some(id) => config.id_field.is_none() || of_id(id) != *doc,
        None => false,
    });
    match (other, &config.id_field) {
        (None, _) => {}
        (Some(_), None) => {
            let why = "config.id_field: the manifest names none, and documents have ids";
            claims.wrong(why.into());
        }
        (Some((id, doc)), Some(_)) => {
            drop(claims);
            let (id, doc) = (id.unwrap_or_default(), doc as u64);
            let why = format!(
                "the document with the id {id:?} has the hash id {doc:016x}, which is not that of its id"
            );
            let path = dataset.join(&manifest.documents.path);
            report.add(Check::Rows, &path, None, why);
        }
    }
}

/// Draws the static masks of the first rows of each shard again.
struct Masks {
    masker: Masker,
    seed: u64,
    /// Of the vocabulary.
    entries: usize,
    /// The shards of each split, as they should be.
    parts: BTreeMap<String, Vec<Part>>,
    scratch: Scratch,
    places: Vec<u32>,
    labels: Vec<u32>,
}

impl Masks {
    /// Of the dataset `path`, where it has static masks that can be drawn again: other versions may have drawn others of the same seed.
    fn of(path: &Path, manifest: &Manifest) -> Option<Self> {
        if manifest.created_by != crate::CREATED_BY {
            return None;
        }
        let Masking::Static { rule } = manifest.masking else {
            return None;
        };
        let config = configuration(manifest)?.ok()?;
        let vocabulary = Vocabulary::read(&path.join(TOKENIZER_FOLDER)).ok()?;
        let splits = manifest.splits.iter();
        let parts = splits.filter_map(|(name, split)| {
            let parts = planned(name, split, &config).ok()?;
            Some((name.clone(), parts))
        });
        Some(Self {
            masker: Masker::of(rule, &vocabulary).ok()?,
            seed: manifest.seed,
            entries: vocabulary.len(),
            parts: parts.collect(),
            scratch: Scratch::default(),
            places: Vec::new(),
            labels: Vec::new(),
        })
    }

    fn check(&mut self, split: &str, number: usize, shard: &Shard, report: &mut Report) {
        let Some(part) = self.parts.get(split).and_then(|parts| parts.get(number)) else {
            return;
        };
        let key = u32::from(split == SPLITS[1]);
        let key = MaskKey::new(self.seed, Stage::StaticMask, key);
        let rows = (part.range.end - part.range.start).min(shard.rows());
        for i in 0..rows.min(DRAWN_AGAIN) {
            let row = shard.row(i);
            let mut ids = row.original_ids();
            // What breaks a rule was found before, and its masks cannot be drawn.
            if ids.len() < 3 || ids.iter().any(|&id| id as usize >= self.entries) {
                return;
            }
            self.places.clear();
            self.labels.clear();
            let number = part.before + part.order.inverse(part.range.start + i);
            let (scratch, places, labels) = (&mut self.scratch, &mut self.places, &mut self.labels);
            self.masker
                .mask_in(scratch, key, number, 0, &mut ids, places, labels);
            let same = row.masks.is_some_and(|masks| {
                let positions = masks.positions.iter().map(|&p| u32::from(p));
                positions.eq(self.places.iter().copied())
                    && row.input_ids.iter().eq(ids.iter().copied())
            });
            if !same {
                let why = "its static masks are not those that the manifest's seed and masking.rule draw for it";
                report.add(Check::Manifest, shard.path(), Some(i), why.into());
                return;
            }
        }
    }
}
