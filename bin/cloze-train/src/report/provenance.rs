//! What a dataset was made of, from its manifest.

use std::path::Path;

use cloze_cli::format;
use cloze_page::Page;
use cloze_shard::Manifest;
use cloze_shard::manifest::Masking;

/// Sources that are listed.
const LISTED: usize = 200;

/// Adds what is known of where `dataset` comes from.
pub fn fill(page: &mut Page, dataset: &Path) -> anyhow::Result<()> {
    let manifest = Manifest::read(dataset)?;
    page.heading(&dataset.display().to_string());
    let masking = match manifest.masking {
        Masking::Dynamic => "by the trainer".to_owned(),
        Masking::Static { rule } => format!("static, {} of the tokens", format::percent(rule.rate)),
    };
    let tokenizer = &manifest.tokenizer;
    page.pairs([
        ("made by", manifest.created_by.clone()),
        ("objective", manifest.objective.name().into()),
        ("most tokens in a row", manifest.max_seq_length.to_string()),
        ("masks", masking),
        ("seed", manifest.seed.to_string()),
        (
            "tokenizer",
            format!(
                "{} entries, {}",
                format::count(tokenizer.vocab_size as u64),
                tokenizer.vocab_digest
            ),
        ),
        ("manifest", manifest.digest()),
    ]);
    let splits: Vec<Vec<String>> = (manifest.splits.iter())
        .map(|(name, split)| {
            let labels = split.labels;
            let counts = [
                split.documents,
                split.rows,
                split.tokens,
                labels.is_next,
                labels.not_next,
                labels.none,
            ];
            std::iter::once(name.clone())
                .chain(counts.map(format::count))
                .collect()
        })
        .collect();
    page.table(
        &[
            "split",
            "documents",
            "rows",
            "tokens",
            "label 0",
            "label 1",
            "no label",
        ],
        &splits,
    );
    let counts = manifest
        .counts
        .iter()
        .map(|(name, n)| (name.replace('_', " "), format::count(*n)));
    page.details("What preparation counted", |page| page.pairs(counts));
    let count = manifest.sources.len();
    let sources: Vec<Vec<String>> = (manifest.sources.iter().take(LISTED))
        .map(|source| {
            let skipped: u64 = source.skipped.values().sum();
            let documents = format::count(source.documents);
            vec![
                source.path.clone(),
                format::bytes(source.bytes),
                documents,
                format::count(skipped),
                source.blake3.clone(),
            ]
        })
        .collect();
    let s = if count == 1 { "" } else { "s" };
    page.details(
        &format!("{} source{s}", format::count(count as u64)),
        |page| {
            page.table(
                &["file", "size", "documents", "passed over", "blake3"],
                &sources,
            );
            if count > LISTED {
                page.remark(&format!(
                    "The manifest lists the other {}.",
                    format::count((count - LISTED) as u64)
                ));
            }
        },
    );
    Ok(())
}
