//! What made a dataset, how much there is, and a few rows.

use std::io::Write;

use cloze_cli::{format, histogram, visible};
use cloze_shard::manifest::{Manifest, Masking};
use cloze_shard::masking::{MaskUnit, MaskingRule};
use serde_json::json;

use super::{InspectArgs, Opened, print_json, sample};
use crate::prepare::split_table;

pub fn run(args: &InspectArgs, opened: &Opened) -> anyhow::Result<()> {
    let manifest = opened.dataset.manifest();
    let split = opened.split(&args.split)?;
    let rows: Vec<sample::Decoded> = sample::draw(split, args.rows, args.seed)
        .into_iter()
        .map(|row| sample::decode(opened, split, row, None))
        .collect();
    if args.json {
        let rows: Vec<_> = rows.iter().map(|row| row.json(opened)).collect();
        return print_json(&json!({"manifest": manifest, "split": args.split, "rows": rows}));
    }
    let mut out = std::io::stdout().lock();
    let dataset = args.dataset.display().to_string();
    writeln!(out, "{}\n", visible(&dataset))?;
    write!(out, "{}", header(manifest))?;
    writeln!(out, "\n{}", split_table("split", manifest))?;
    let lengths = manifest
        .splits
        .get(&args.split)
        .map(|s| s.lengths())
        .unwrap_or_default();
    let name = visible(&args.split);
    writeln!(out, "row lengths, split {name} (tokens, rows)")?;
    writeln!(out, "{}", histogram(&lengths, 16))?;
    for row in rows {
        writeln!(out, "{}", row.text(opened))?;
    }
    Ok(())
}

/// What masks are like; of what is as in BERT, nothing is said.
pub fn masks(rule: &MaskingRule) -> String {
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

/// What a dataset was made with.
pub fn facts(manifest: &Manifest) -> Vec<(&'static str, String)> {
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
    let skipped: u64 = manifest
        .sources
        .iter()
        .flat_map(|s| s.skipped.values())
        .sum();
    let dropped = manifest.counts.iter();
    let dropped = dropped.filter(|(name, _)| name.starts_with("dropped_"));
    let dropped: u64 = dropped.map(|(_, count)| count).sum();
    let mut facts = vec![
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
    if skipped + dropped > 0 {
        let (skipped, dropped) = (format::count(skipped), format::count(dropped));
        facts.push((
            "left out",
            format!("{skipped} documents and lines that could not be read, {dropped} documents by cleaning"),
        ));
    }
    facts
}

fn header(manifest: &Manifest) -> String {
    facts(manifest)
        .iter()
        .map(|(name, value)| format!("  {name:<10} {}\n", visible(value)))
        .collect()
}
