//! Two datasets side by side.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::path::Path;

use cloze_cli::{format, table, visible};
use cloze_shard::manifest::{Manifest, SplitRecord};
use serde_json::{Value, json};

use super::hashes::{Common, RowHasher, common, documents, rows};
use super::{InspectArgs, Opened, print_json};

/// Bars of the histograms.
const BARS: usize = 12;
/// Columns of a bar at its longest.
const WIDTH: usize = 24;
/// Entries of a vocabulary that are shown.
const EXAMPLES: usize = 8;

/// What differs.
struct Difference {
    options: Vec<(String, String, String)>,
    same_options: usize,
    vocabulary: VocabularyDifference,
    documents: Common,
    rows: BTreeMap<String, Common>,
}

struct VocabularyDifference {
    same: bool,
    only: [Vec<String>; 2],
    moved: usize,
    both: usize,
}

pub fn run(args: &InspectArgs, a: &Opened, other: &Path) -> anyhow::Result<()> {
    let b = &Opened::open(other)?;
    let manifests = [a.dataset.manifest(), b.dataset.manifest()];
    let difference = Difference::of(a, b);
    if args.json {
        return print_json(&difference.json(manifests, [&args.dataset, other]));
    }
    let mut out = std::io::stdout().lock();
    for (name, path) in [("A", args.dataset.as_path()), ("B", other)] {
        writeln!(out, "{name}  {}", visible(&path.display().to_string()))?;
    }
    write!(out, "{}", difference.text(manifests))?;
    Ok(())
}

impl Difference {
    fn of(a: &Opened, b: &Opened) -> Self {
        let [left, right] = [a, b].map(|o| options(o.dataset.manifest()));
        let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
        let value = |of: &BTreeMap<String, String>, name: &String| {
            of.get(name).cloned().unwrap_or_else(|| "–".into())
        };
        let (mut differing, mut same) = (Vec::new(), 0);
        for name in names {
            let (l, r) = (value(&left, name), value(&right, name));
            if l == r {
                same += 1;
            } else {
                differing.push((name.clone(), l, r));
            }
        }
        let hashers = [a, b].map(|o| RowHasher::new(&o.vocabulary));
        let mut shared = BTreeMap::new();
        for (name, split) in a.dataset.splits() {
            if let Some(other) = b.dataset.split(name) {
                shared.insert(name.to_owned(), rows([split, other], &hashers));
            }
        }
        Self {
            options: differing,
            same_options: same,
            vocabulary: VocabularyDifference::of(a, b),
            documents: common(documents(&a.documents), documents(&b.documents)),
            rows: shared,
        }
    }

    fn text(&self, manifests: [&Manifest; 2]) -> String {
        let mut text = String::new();
        let cells: Vec<Vec<String>> = self
            .options
            .iter()
            .map(|(name, a, b)| vec![name.clone(), a.clone(), b.clone()])
            .collect();
        if !cells.is_empty() {
            text += &format!("\n{}", table(&["option", "A", "B"], &cells));
        }
        text += &format!("\n {} options are the same\n", self.same_options);
        text += &format!("\n{}", self.vocabulary.text(manifests));
        text += &format!("\n{}", counts(manifests));
        for name in split_names(manifests) {
            let of = manifests.map(|m| m.splits.get(&name));
            text += &format!("\nrow lengths, split {}\n", visible(&name));
            text += &lengths(of);
        }
        let mut cells = vec![self.documents.cells("documents")];
        let each = self.rows.iter();
        cells.extend(each.map(|(name, common)| common.cells(&format!("rows, {name}"))));
        let header = ["", "only A", "only B", "both", "of A", "of B"];
        text += &format!("\n{}", table(&header, &cells));
        text += "\n Documents are compared by their hashes, each once. Rows are equal that have the same tokens, as text and without masks, in the same\n segments with the same label.\n";
        text
    }

    fn json(&self, manifests: [&Manifest; 2], paths: [&Path; 2]) -> Value {
        let options: Vec<Value> = self
            .options
            .iter()
            .map(|(name, a, b)| json!({"option": name, "a": a, "b": b}))
            .collect();
        let splits: serde_json::Map<String, Value> = split_names(manifests)
            .into_iter()
            .map(|name| {
                let of = manifests.map(|m| m.splits.get(&name).map(split_json));
                let [a, b] = of;
                (name, json!({"a": a, "b": b}))
            })
            .collect();
        let rows: serde_json::Map<String, Value> = self
            .rows
            .iter()
            .map(|(name, common)| (name.clone(), common.json()))
            .collect();
        json!({
            "a": paths[0], "b": paths[1], "options": options, "same_options": self.same_options, "splits": splits,
            "vocabulary": {
                "same": self.vocabulary.same, "both": self.vocabulary.both, "other_ids": self.vocabulary.moved,
                "only_a": self.vocabulary.only[0], "only_b": self.vocabulary.only[1],
            },
            "documents": self.documents.json(), "rows": rows,
        })
    }
}

/// Everything that was asked for, and what the manifest says of it, by name.
fn options(manifest: &Manifest) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    flatten("", &manifest.config, &mut all);
    let masking = serde_json::to_value(manifest.masking).unwrap_or_default();
    flatten("masks", &masking, &mut all);
    for (name, value) in [
        ("format version", manifest.format_version.to_string()),
        ("created by", manifest.created_by.clone()),
        ("sources", sources(manifest)),
    ] {
        all.insert(name.to_owned(), value);
    }
    all
}

/// How many sources, and a digest of theirs.
fn sources(manifest: &Manifest) -> String {
    let digests: Vec<u8> = manifest
        .sources
        .iter()
        .flat_map(|s| s.blake3.as_bytes())
        .copied()
        .collect();
    format!(
        "{} files, {:016x}",
        format::count(manifest.sources.len() as u64),
        xxhash_rust::xxh3::xxh3_64(&digests)
    )
}

fn flatten(name: &str, value: &Value, out: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let name = match name {
                    "" => field.clone(),
                    name => format!("{name}.{field}"),
                };
                flatten(&name, value, out);
            }
        }
        Value::String(text) => {
            out.insert(name.to_owned(), text.clone());
        }
        other => {
            out.insert(name.to_owned(), other.to_string());
        }
    }
}

impl VocabularyDifference {
    fn of(a: &Opened, b: &Opened) -> Self {
        let [left, right] = [a, b].map(|o| {
            let size = o.vocabulary.len() as u32;
            let all = (0..size).filter_map(|id| Some((o.vocabulary.token(id)?, id)));
            // Numbers that no entry has are empty.
            all.filter(|(token, _)| !token.is_empty())
                .collect::<HashMap<&str, u32>>()
        });
        let only = |of: &Opened, other: &HashMap<&str, u32>| {
            let size = of.vocabulary.len() as u32;
            (0..size)
                .filter_map(|id| of.vocabulary.token(id))
                .filter(|token| !token.is_empty() && !other.contains_key(token))
                .map(str::to_owned)
                .collect()
        };
        let both = left.keys().filter(|t| right.contains_key(*t)).count();
        let moved = left
            .iter()
            .filter(|(token, id)| right.get(*token).is_some_and(|other| other != *id))
            .count();
        let [l, r] = [a, b].map(|o| &o.dataset.manifest().tokenizer);
        Self {
            same: l.vocab_digest == r.vocab_digest && l.lowercase == r.lowercase,
            only: [only(a, &right), only(b, &left)],
            moved,
            both,
        }
    }

    fn text(&self, manifests: [&Manifest; 2]) -> String {
        let [a, b] = manifests.map(|m| &m.tokenizer);
        if self.same {
            let entries = format::count(a.vocab_size as u64);
            return format!(" tokenizer: the same, {entries} entries\n");
        }
        let case = |lowercase: Option<bool>| match lowercase {
            Some(true) => "lowercased",
            Some(false) => "cased",
            None => "not said",
        };
        let short = |digest: &str| digest.chars().take(12).collect::<String>() + "…";
        let row = |name: &str, a: String, b: String| vec![name.to_owned(), a, b];
        let count = |n: usize| format::count(n as u64);
        let mut cells = vec![
            row("entries", count(a.vocab_size), count(b.vocab_size)),
            row("case", case(a.lowercase).into(), case(b.lowercase).into()),
            row("digest", short(&a.vocab_digest), short(&b.vocab_digest)),
            row(
                "only here",
                count(self.only[0].len()),
                count(self.only[1].len()),
            ),
        ];
        if self.only.iter().any(|only| !only.is_empty()) {
            let some = |only: &[String]| {
                let mut some = only
                    .iter()
                    .take(EXAMPLES)
                    .cloned()
                    .collect::<Vec<_>>()
                    .join(" ");
                if only.len() > EXAMPLES {
                    some.push_str(" …");
                }
                some
            };
            cells.push(row("such as", some(&self.only[0]), some(&self.only[1])));
        }
        format!(
            "{} {} entries are in both, {} of them with other ids\n",
            table(&["tokenizer", "A", "B"], &cells),
            count(self.both),
            count(self.moved)
        )
    }
}

fn split_names(manifests: [&Manifest; 2]) -> Vec<String> {
    let mut names: Vec<String> = manifests
        .iter()
        .flat_map(|m| m.splits.keys().cloned())
        .collect();
    names.sort();
    names.dedup();
    names
}

fn mean(split: &SplitRecord) -> f64 {
    split.tokens as f64 / split.rows.max(1) as f64
}

/// How much there is of everything.
fn counts(manifests: [&Manifest; 2]) -> String {
    let mut cells = Vec::new();
    for name in split_names(manifests) {
        let [a, b] = manifests.map(|m| m.splits.get(&name));
        let mut numbers = |what: &str, of: fn(&SplitRecord) -> u64| {
            let [a, b] = [a, b].map(|s| s.map(of));
            let shown = |n: Option<u64>| n.map_or_else(|| "–".into(), format::count);
            let change = match (a, b) {
                (Some(a), Some(b)) => change(a, b),
                _ => String::new(),
            };
            cells.push(vec![format!("{name}: {what}"), shown(a), shown(b), change]);
        };
        numbers("documents", |s| s.documents);
        numbers("rows", |s| s.rows);
        numbers("tokens", |s| s.tokens);
        numbers("is next", |s| s.labels.is_next);
        numbers("random", |s| s.labels.not_next);
        numbers("no label", |s| s.labels.none);
        let mut reals = |what: &str, of: fn(&SplitRecord) -> Option<f64>, unit: &str| {
            let [a, b] = [a, b].map(|s| s.and_then(of));
            let shown = |x: Option<f64>| x.map_or_else(|| "–".into(), |x| format!("{x:.2}{unit}"));
            let change = match (a, b) {
                (Some(a), Some(b)) => format!("{:+.2}", b - a),
                _ => String::new(),
            };
            cells.push(vec![format!("{name}: {what}"), shown(a), shown(b), change]);
        };
        reals("mean length", |s| Some(mean(s)), "");
        let share = |s: &SplitRecord| s.labels.not_next_ratio().map(|r| 100.0 * r);
        reals("random share", share, " %");
    }
    table(&["count", "A", "B", "change"], &cells)
}

/// What B has more than A, in per cent of A.
fn change(a: u64, b: u64) -> String {
    match (a, b) {
        (a, b) if a == b => "=".into(),
        (0, _) => "new".into(),
        (a, b) => format!("{:+.1} %", 100.0 * (b as f64 - a as f64) / a as f64),
    }
}

/// Two histograms of the same bars, side by side; bars are shares of the rows of each.
fn lengths(splits: [Option<&SplitRecord>; 2]) -> String {
    let counts = splits.map(|s| s.map(SplitRecord::lengths).unwrap_or_default());
    let ends = counts.iter().flat_map(|c| c.keys());
    let (Some(&low), Some(&high)) = (ends.clone().min(), ends.max()) else {
        return "  (no rows)\n".into();
    };
    let span = usize::from(high - low) + 1;
    let width = span.div_ceil(BARS);
    let bars = counts.map(|counts| {
        let total: u64 = counts.values().sum();
        let mut bars = vec![0.0; span.div_ceil(width)];
        for (length, n) in counts {
            bars[usize::from(length - low) / width] += n as f64 / total.max(1) as f64;
        }
        bars
    });
    let most = bars.iter().flatten().copied().fold(0.0, f64::max);
    let columns = |share: f64| (share / most * WIDTH as f64).round() as usize;
    let bar = |share: f64| match columns(share) {
        0 if share > 0.0 => "▏".to_owned(),
        n => "█".repeat(n),
    };
    let mut out = String::new();
    for (i, (&a, &b)) in bars[0].iter().zip(&bars[1]).enumerate() {
        let first = usize::from(low) + i * width;
        let last = (first + width - 1).min(usize::from(high));
        let name = match first == last {
            true => first.to_string(),
            false => format!("{first}–{last}"),
        };
        let [pa, pb] = [a, b].map(format::percent);
        let (a, b) = (bar(a), bar(b));
        out += &format!("  {name:>11} {pa:>7} {a:>WIDTH$}│{b:<WIDTH$} {pb:>7}\n");
    }
    out
}

fn split_json(split: &SplitRecord) -> Value {
    json!({
        "documents": split.documents, "rows": split.rows, "tokens": split.tokens, "mean_length": mean(split),
        "labels": split.labels, "random_share": split.labels.not_next_ratio(), "lengths": split.lengths(),
    })
}

impl Common {
    fn cells(&self, name: &str) -> Vec<String> {
        let share = |part: u64, of: u64| match of {
            0 => "–".into(),
            of => format::percent(part as f64 / of as f64),
        };
        let mut cells = vec![name.to_owned()];
        cells.extend([self.only_a(), self.only_b(), self.both].map(format::count));
        cells.extend([share(self.of_a, self.a), share(self.of_b, self.b)]);
        cells
    }

    fn json(&self) -> Value {
        json!({
            "a": self.a, "b": self.b, "distinct_a": self.distinct_a, "distinct_b": self.distinct_b, "both": self.both,
            "a_in_b": self.of_a, "b_in_a": self.of_b,
        })
    }
}
