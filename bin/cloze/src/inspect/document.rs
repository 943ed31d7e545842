//! A document's way into the rows: which rows, as what, with which of its sentences.

use std::collections::BTreeSet;
use std::io::Write;

use cloze_cli::{format, table, visible};
use cloze_shard::documents::DocumentRecord;
use cloze_shard::manifest::Objective;
use serde_json::{Value, json};

use super::source::{self, SourceDocument};
use super::uses::{Use, pairing, uses};
use super::{InspectArgs, Opened, Refused, print_json};

/// A document of the table, with its place there.
pub struct Named {
    pub ordinal: u64,
    pub record: DocumentRecord,
}

/// The documents that `id` names: what the corpus calls them, else a hash, else a place in the table.
pub fn resolve(opened: &Opened, id: &str) -> Result<Vec<Named>, Refused> {
    let table = &opened.documents;
    let named = |ordinals: Vec<u64>| -> Vec<Named> {
        let each = ordinals.into_iter();
        each.filter_map(|ordinal| Some((ordinal, table.get(ordinal)?)))
            .map(|(ordinal, record)| Named { ordinal, record })
            .collect()
    };
    let with_hash = |doc: i64| {
        let all = table.hashes().zip(0u64..);
        named(all.filter(|&(d, _)| d == doc).map(|(_, i)| i).collect())
    };
    let mut found = named(table.find_id(id));
    if found.is_empty() && id.len() == 16 {
        found = u64::from_str_radix(id, 16).map_or_else(|_| Vec::new(), |h| with_hash(h as i64));
    }
    if found.is_empty()
        && let Some(place) = id.strip_prefix('#').and_then(|n| n.parse().ok())
    {
        found = table
            .get(place)
            .map_or_else(Vec::new, |record| with_hash(record.doc));
    }
    if found.is_empty() {
        let last = (table.len() as u64).saturating_sub(1);
        return Err(Refused::new(
            format!("{}: no document {id:?}", opened.dataset.path().display()),
            format!(
                "give an id as the corpus has it (where --id-field was given), a hash of 16 digits as `cloze inspect` shows it, or '#0' to '#{last}'"
            ),
        ));
    }
    Ok(found)
}

/// What of a document is in rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coverage {
    pub sentences: u32,
    /// With all their tokens; without the source: those that are known to be in a row, in part at least.
    pub covered: u32,
    /// With some of their tokens; known from the source only.
    pub in_part: Option<u32>,
}

/// What the rows alone prove.
fn proven(record: &DocumentRecord, uses: &[Use]) -> Coverage {
    let own = uses.iter().filter(|u| u.doc == record.doc);
    let known: BTreeSet<u32> = own
        .flat_map(|u| u.sentences.clone().take(record.sentences as usize))
        .filter(|&s| s < record.sentences)
        .collect();
    Coverage {
        sentences: record.sentences,
        covered: known.len() as u32,
        in_part: None,
    }
}

pub fn run(args: &InspectArgs, opened: &Opened, id: &str) -> anyhow::Result<()> {
    let named = resolve(opened, id)?;
    let mut docs: Vec<i64> = named.iter().map(|n| n.record.doc).collect();
    docs.sort_unstable();
    docs.dedup();
    let inputs = args.sources.all()?;
    let sources = match inputs.is_empty() {
        true => Vec::new(),
        false => source::find(opened, &inputs, &docs, named.len())?,
    };
    let mut uses = uses(opened, &docs, &sources);
    if !sources.is_empty() {
        source::settle(&sources, &mut uses)?;
    }
    let coverage: Vec<Coverage> = match sources.is_empty() {
        true => named.iter().map(|n| proven(&n.record, &uses)).collect(),
        false => sources.iter().map(|s| s.coverage(&uses)).collect(),
    };
    if args.json {
        return print_json(&as_json(opened, &named, &uses, &sources, &coverage));
    }
    let mut out = std::io::stdout().lock();
    for (number, document) in named.iter().enumerate() {
        write!(out, "{}", heading(opened, document))?;
        // Documents of one hash have one text, unless they have one id.
        if let Some(coverage) = coverage.get(number) {
            write!(out, "{}", told(opened, coverage))?;
        }
        if let Some(source) = sources.get(number) {
            write!(out, "{}", missing(source, &uses))?;
        }
        writeln!(out)?;
    }
    write!(out, "{}", listed(opened, &uses))?;
    Ok(())
}

fn heading(opened: &Opened, document: &Named) -> String {
    let record = &document.record;
    let source = opened
        .dataset
        .manifest()
        .sources
        .get(record.source as usize);
    let path = source.map_or("a source that the manifest does not name", |s| &s.path);
    let id = record
        .id
        .as_ref()
        .map_or_else(String::new, |id| format!(" · id {id:?}"));
    let meta = record.meta.as_ref();
    let meta = meta.map_or_else(String::new, |m| format!("  {}\n", visible(m)));
    format!(
        "#{} · doc {:016x}{} · {} document {}\n{meta}  {} sentences, {} tokens\n",
        document.ordinal,
        record.doc,
        id,
        visible(path),
        record.index,
        format::count(record.sentences.into()),
        format::count(record.tokens.into()),
    )
}

fn told(opened: &Opened, coverage: &Coverage) -> String {
    let share = f64::from(coverage.covered) / f64::from(coverage.sentences.max(1));
    let of = format!(
        "{} of {} sentences",
        format::count(coverage.covered.into()),
        format::count(coverage.sentences.into()),
    );
    match coverage.in_part {
        Some(part) => {
            let none = coverage.sentences - coverage.covered - part;
            format!(
                "  in rows: {of} whole ({}), {part} in part, {none} not\n",
                format::percent(share)
            )
        }
        None if coverage.covered == coverage.sentences => format!("  in rows: {of}\n"),
        None => {
            let objective = opened.dataset.manifest().objective;
            let pairs = matches!(objective, Objective::Nsp | Objective::Sop);
            let promise = match (objective, pairing(opened)) {
                (Objective::FullSentences, _) => {
                    "; rows that hold it between two others do not name it"
                }
                (_, Some("cloze")) if pairs => "; --pairing cloze puts every sentence into a row",
                _ => "",
            };
            format!(
                "  in rows: at least {of} ({}); rows do not say where a segment ends, --source finds it{promise}\n",
                format::percent(share)
            )
        }
    }
}

/// Sentences that are not wholly in rows.
fn missing(source: &SourceDocument, uses: &[Use]) -> String {
    const SHOWN: usize = 20;
    let mut rows = Vec::new();
    let states = source.states(uses);
    for (number, state) in states.iter().enumerate().filter(|(_, s)| !s.is_whole()) {
        let tokens = format!("{} of {}", state.covered, state.tokens);
        let text = source.texts.get(number).map_or("", String::as_str);
        rows.push(vec![number.to_string(), tokens, beginning(text)]);
    }
    let more = rows.len().saturating_sub(SHOWN);
    rows.truncate(SHOWN);
    if rows.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "\n{}",
        table(&["sentence", "tokens in rows", "begins"], &rows)
    );
    if more > 0 {
        text.push_str(&format!(" and {} more\n", format::count(more as u64)));
    }
    text
}

/// The first words of a text.
fn beginning(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut begin: String = text.chars().take(LONGEST).collect();
    if begin.len() < text.len() {
        begin.push('…');
    }
    begin
}

fn listed(opened: &Opened, uses: &[Use]) -> String {
    let rows: BTreeSet<(&str, u64)> = uses.iter().map(|u| (u.split.as_str(), u.row)).collect();
    let mut text = format!(
        "{} rows, {} segments of the document\n",
        format::count(rows.len() as u64),
        format::count(uses.len() as u64)
    );
    let cells: Vec<Vec<String>> = uses
        .iter()
        .map(|u| {
            vec![
                u.split.clone(),
                u.row.to_string(),
                u.segment.to_string(),
                u.reach(),
                u.ids.len().to_string(),
                u.role(opened.dataset.manifest().objective).into(),
                beginning(&opened.vocabulary.decode(u.ids.iter().copied())),
            ]
        })
        .collect();
    if !cells.is_empty() {
        let header = [
            "split",
            "row",
            "as",
            "sentences",
            "tokens",
            "label",
            "begins",
        ];
        text.push('\n');
        text.push_str(&table(&header, &cells));
    }
    text
}

fn as_json(
    opened: &Opened,
    named: &[Named],
    uses: &[Use],
    sources: &[SourceDocument],
    coverage: &[Coverage],
) -> Value {
    let documents: Vec<Value> = named
        .iter()
        .enumerate()
        .map(|(i, n)| {
            let manifest = opened.dataset.manifest();
            let path = manifest.sources.get(n.record.source as usize).map(|s| &s.path);
            let coverage = coverage.get(i).map(|c| {
                json!({"exact": c.in_part.is_some(), "sentences": c.sentences, "covered": c.covered, "in_part": c.in_part})
            });
            let meta = n.record.meta.as_deref();
            let meta: Option<Value> = meta.and_then(|m| serde_json::from_str(m).ok());
            let sentences = sources.get(i).map(|s| {
                let states = s.states(uses);
                let each = states.iter().zip(&s.texts);
                each.map(|(state, text)| json!({"tokens": state.tokens, "covered_tokens": state.covered, "text": text}))
                    .collect::<Vec<_>>()
            });
            json!({
                "ordinal": n.ordinal, "doc": format!("{:016x}", n.record.doc), "id": n.record.id, "source": path, "meta": meta,
                "index": n.record.index, "sentences": n.record.sentences, "tokens": n.record.tokens,
                "coverage": coverage, "text": sentences,
            })
        })
        .collect();
    let segments: Vec<Value> = uses
        .iter()
        .map(|u| {
            json!({
                "split": u.split, "row": u.row, "segment": u.segment, "doc": format!("{:016x}", u.doc),
                "first_sentence": u.sentences.start(), "last_sentence": u.sentences.end(), "may_reach_further": u.open,
                "tokens": u.ids.len(), "next_sentence_label": u.label.map(|l| l as i8),
                "text": opened.vocabulary.decode(u.ids.iter().copied()),
            })
        })
        .collect();
    json!({"documents": documents, "segments": segments})
}
