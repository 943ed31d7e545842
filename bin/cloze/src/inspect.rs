//! `cloze inspect`

use std::io::Write;

use anyhow::bail;
use cloze_cli::{Status, format, histogram, table};
use cloze_shard::manifest::{Manifest, Masking, TOKENIZER_FOLDER};
use cloze_shard::masking::{MaskUnit, MaskingRule};
use cloze_shard::{Dataset, Vocabulary};
use serde_json::json;

use crate::cli::InspectArgs;
use crate::prepare::split_row;
use crate::sample;

pub fn run(args: &InspectArgs) -> anyhow::Result<Status> {
    let dataset = Dataset::open(&args.dataset)?;
    let manifest = dataset.manifest();
    let Some(split) = dataset.split(&args.split) else {
        let names: Vec<&str> = manifest.splits.keys().map(String::as_str).collect();
        bail!(
            "{}: no split {:?}; it has {}",
            args.dataset.display(),
            args.split,
            names.join(" and ")
        );
    };
    let documents = dataset.documents()?;
    let vocabulary = Vocabulary::read(&dataset.path().join(TOKENIZER_FOLDER))?;
    let rows: Vec<sample::Decoded> = sample::draw(split, args.rows, args.seed)
        .into_iter()
        .map(|row| sample::decode(&dataset, split, &documents, &vocabulary, row))
        .collect();
    let mut out = std::io::stdout().lock();
    if args.json {
        let rows: Vec<_> = rows.iter().map(sample::Decoded::json).collect();
        writeln!(
            out,
            "{:#}",
            json!({"manifest": manifest, "split": args.split, "rows": rows})
        )?;
        return Ok(Status::Done);
    }
    writeln!(out, "{}\n", args.dataset.display())?;
    write!(out, "{}", header(manifest))?;
    let splits: Vec<Vec<String>> = manifest
        .splits
        .iter()
        .map(|(name, s)| split_row(name, s))
        .collect();
    let columns = [
        "split",
        "documents",
        "rows",
        "tokens",
        "mean length",
        "shards",
        "is next",
        "random",
        "no label",
        "random share",
    ];
    writeln!(out, "\n{}", table(&columns, &splits))?;
    let lengths = manifest
        .splits
        .get(&args.split)
        .map(|s| s.lengths())
        .unwrap_or_default();
    writeln!(out, "row lengths, split {} (tokens, rows)", args.split)?;
    writeln!(out, "{}", histogram(&lengths, 16))?;
    for row in rows {
        writeln!(out, "{}", row.text())?;
    }
    Ok(Status::Done)
}

/// What masks are like; of what is as in BERT, nothing is said.
fn masks(rule: &MaskingRule) -> String {
    let mut text = format!("{} of the tokens", format::percent(rule.rate));
    match rule.unit {
        MaskUnit::Token => {}
        MaskUnit::Word => text += ", by words",
        MaskUnit::Span { p, longest } => {
            text += &format!(", by spans of 1 to {longest} words (p {p})");
        }
    }
    let usual = MaskingRule::default();
    if (rule.mask_share, rule.random_share) != (usual.mask_share, usual.random_share) {
        let kept = (1.0 - rule.mask_share - rule.random_share).max(0.0);
        let [mask, random, kept] = [rule.mask_share, rule.random_share, kept].map(format::percent);
        text += &format!("; {mask} [MASK], {random} random, {kept} kept");
    }
    text
}

fn header(manifest: &Manifest) -> String {
    let tokenizer = &manifest.tokenizer;
    let case = match tokenizer.lowercase {
        Some(true) => ", lowercased",
        Some(false) => ", cased",
        None => "",
    };
    let masking = match manifest.masking {
        Masking::Dynamic => "dynamic (drawn by the trainer)".into(),
        Masking::Static { rule } => format!("static, {}", masks(&rule)),
    };
    let option = |name: &str| {
        manifest
            .config
            .get(name)
            .map_or_else(String::new, |v| v.to_string().trim_matches('"').into())
    };
    let bytes: u64 = manifest
        .splits
        .values()
        .flat_map(|s| &s.shards)
        .map(|s| s.file.bytes)
        .sum();
    let rows = [
        (
            "format",
            format!(
                "version {}, by {}",
                manifest.format_version, manifest.created_by
            ),
        ),
        (
            "tokenizer",
            format!(
                "{} entries{case}, {}…",
                format::count(tokenizer.vocab_size as u64),
                tokenizer.vocab_digest.chars().take(12).collect::<String>()
            ),
        ),
        (
            "objective",
            format!("{}, pairing {}", option("objective"), option("pairing")),
        ),
        ("masking", masking),
        (
            "length",
            format!("at most {} tokens", manifest.max_seq_length),
        ),
        ("seed", manifest.seed.to_string()),
        (
            "sources",
            format!(
                "{} files, {}",
                format::count(manifest.sources.len() as u64),
                format::bytes(manifest.sources.iter().map(|s| s.bytes).sum())
            ),
        ),
        ("shards", format::bytes(bytes)),
    ];
    rows.iter()
        .map(|(name, value)| format!("  {name:<10} {value}\n"))
        .collect()
}
