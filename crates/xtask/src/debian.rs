//! `cargo xtask debian-corpus OUT`: a real domain corpus with a labelled task, from Debian's package index.
//!
//! One document a package: its description. The task is to tell a package's section from its description. Splits are cut
//! by source package, so that `foo`, `foo-data` and `foo-doc` stay on one side, and no text of the task's dev and test sets
//! is in the corpus: what a model is scored on, further pre-training never sees. Deterministic for a state of the index.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use sha2::{Digest, Sha256};

/// Shorter descriptions say too little.
const SHORTEST: usize = 120;
/// Sections with fewer documents are no label.
const FEWEST: usize = 300;

type Stanza = HashMap<String, String>;

pub fn run(out: &Path) -> Result<(), String> {
    let lists = std::env::temp_dir().join(format!("cloze-debian-{}", std::process::id()));
    let result = fetch(&lists).and_then(|()| write(&lists, out));
    // What is left in the temporary folder harms nobody.
    let _ = fs::remove_dir_all(&lists);
    result
}

/// What makes apt look into an index of our own, and leave that of the system alone.
pub fn apt_options(lists: &Path) -> Vec<String> {
    let options = [
        "Acquire::Languages=en".to_owned(),
        "Acquire::GzipIndexes=false".to_owned(),
        "Dir::Cache::pkgcache=".to_owned(),
        "Dir::Cache::srcpkgcache=".to_owned(),
        format!("Dir::State::Lists={}", lists.display()),
    ];
    let options = options.into_iter();
    options.flat_map(|value| ["-o".to_owned(), value]).collect()
}

/// Fetches the index into the folder `lists`.
pub fn fetch(lists: &Path) -> Result<(), String> {
    fs::create_dir_all(lists.join("partial")).map_err(|e| format!("{}: {e}", lists.display()))?;
    let status = Command::new("apt-get")
        .args(apt_options(lists))
        .args(["-qq", "update"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|e| {
            format!("apt-get: {e}; this command needs Debian or a system derived from it")
        })?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("apt-get update: {status}"))
    }
}

fn index_files(lists: &Path, suffix: &str) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(lists).map_err(|e| format!("{}: {e}", lists.display()))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.to_string_lossy().ends_with(suffix))
        .collect();
    files.sort();
    Ok(files)
}

/// Whether an index is of a release itself, not of its updates, backports or security fixes.
fn is_release(path: &Path) -> bool {
    let name = path.to_string_lossy();
    let suite = name
        .rsplit_once("_dists_")
        .and_then(|(_, rest)| rest.split('_').next());
    suite.is_some_and(|s| !s.contains('-'))
}

/// The stanzas of a control file, each a table of raw values.
fn stanzas(path: &Path) -> Result<Vec<Stanza>, String> {
    let bytes = fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    let (mut all, mut now, mut last) = (Vec::new(), Stanza::new(), String::new());
    for line in text.split_inclusive('\n') {
        if line == "\n" {
            if !now.is_empty() {
                all.push(std::mem::take(&mut now));
            }
            last.clear();
        } else if line.starts_with([' ', '\t']) {
            now.entry(last.clone()).or_default().push_str(line);
        } else {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            last = name.to_owned();
            now.insert(last.clone(), format!("{}\n", value.trim()));
        }
    }
    if !now.is_empty() {
        all.push(now);
    }
    Ok(all)
}

/// The description as paragraphs with a blank line between them; list items are paragraphs.
fn prose(description: &str) -> String {
    let mut lines = description.lines();
    let head = lines
        .next()
        .unwrap_or_default()
        .trim()
        .trim_end_matches('.')
        .to_owned();
    let mut paragraphs: Vec<Vec<String>> = vec![Vec::new()];
    for line in lines {
        let bare = line.trim();
        let current = paragraphs.len() - 1;
        if bare == "." {
            paragraphs.push(Vec::new());
        } else if is_item(line) {
            paragraphs.push(vec![
                bare.trim_start_matches(['*', '+', '-', ' ']).to_owned(),
            ]);
        } else {
            paragraphs[current].push(bare.to_owned());
        }
    }
    let body: Vec<String> = paragraphs
        .iter()
        .filter(|p| !p.is_empty())
        .map(|p| p.join(" "))
        .collect();
    let body = body.join("\n\n");
    if body.is_empty() {
        body
    } else {
        format!("{head}.\n\n{body}")
    }
}

/// Two blanks or more, a bullet, a blank.
fn is_item(line: &str) -> bool {
    let rest = line.trim_start();
    let blanks = line.len() - rest.len();
    let mut characters = rest.chars();
    blanks >= 2
        && characters.next().is_some_and(|c| "*+-".contains(c))
        && characters.next().is_some_and(char::is_whitespace)
}

/// 0 to 99, from the source package's name.
fn bucket(name: &str) -> u32 {
    let digest = Sha256::digest(name.as_bytes());
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) % 100
}

fn write(lists: &Path, out: &Path) -> Result<(), String> {
    let (mut sections, mut sources) = (HashMap::new(), HashMap::new());
    for file in index_files(lists, "_Packages")? {
        for stanza in stanzas(&file)? {
            let (Some(section), Some(package)) = (stanza.get("Section"), stanza.get("Package"))
            else {
                continue;
            };
            let package = package.trim().to_owned();
            let section = section
                .trim()
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .to_owned();
            let source = stanza
                .get("Source")
                .map_or(package.as_str(), String::as_str);
            let source = source
                .split('(')
                .next()
                .unwrap_or_default()
                .trim()
                .to_owned();
            sections.insert(package.clone(), section);
            sources.insert(package, source);
        }
    }
    let (mut documents, mut seen) = (Vec::new(), HashSet::new());
    for file in index_files(lists, "_main_i18n_Translation-en")?
        .iter()
        .filter(|f| is_release(f))
    {
        for stanza in stanzas(file)? {
            let Some(name) = stanza.get("Package").map(|p| p.trim().to_owned()) else {
                continue;
            };
            let text = prose(stanza.get("Description-en").map_or("", String::as_str));
            if text.chars().count() < SHORTEST || !seen.insert(Sha256::digest(text.as_bytes())) {
                continue;
            }
            let section = sections
                .get(&name)
                .cloned()
                .unwrap_or_else(|| "unknown".to_owned());
            documents.push((name, section, text));
        }
    }
    if documents.is_empty() {
        return Err("the package index holds no descriptions".into());
    }
    documents.sort();
    write_documents(&documents, &sources, out).map_err(|e| format!("{}: {e}", out.display()))
}

fn write_documents(
    documents: &[(String, String, String)],
    sources: &HashMap<String, String>,
    out: &Path,
) -> std::io::Result<()> {
    fs::create_dir_all(out.join("corpus"))?;
    fs::create_dir_all(out.join("task"))?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, section, _) in documents {
        *counts.entry(section).or_default() += 1;
    }
    let labels: Vec<&str> = counts
        .iter()
        .filter(|&(s, &n)| n >= FEWEST && *s != "unknown")
        .map(|(s, _)| *s)
        .collect();
    let mut tasks: BTreeMap<&str, Vec<u8>> =
        BTreeMap::from([("train", vec![]), ("dev", vec![]), ("test", vec![])]);
    let mut files: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let (mut corpus, mut rows) = (Vec::new(), BTreeMap::<&str, usize>::new());
    for (name, section, text) in documents {
        let split = match bucket(sources.get(name).unwrap_or(name)) {
            0..10 => Some("test"),
            10..15 => Some("dev"),
            15..45 => Some("train"),
            _ => None,
        };
        if let Some(split) = split.filter(|_| labels.contains(&section.as_str())) {
            *rows.entry(split).or_default() += 1;
            let lines = tasks.entry(split).or_default();
            writeln!(
                lines,
                r#"{{"text": {}, "label": {}}}"#,
                json!(text),
                json!(section)
            )?;
        }
        if split == Some("test") || split == Some("dev") {
            continue;
        }
        writeln!(
            corpus,
            r#"{{"id": {}, "text": {}}}"#,
            json!(name),
            json!(text)
        )?;
        files.entry(section).or_default().push(text);
    }
    fs::write(out.join("corpus.jsonl"), &corpus)?;
    for (section, texts) in files {
        fs::write(
            out.join("corpus").join(format!("{section}.txt")),
            texts.join("\n\u{c}\n") + "\n",
        )?;
    }
    for (split, lines) in &tasks {
        fs::write(out.join("task").join(format!("{split}.jsonl")), lines)?;
    }
    fs::write(
        out.join("task/labels.json"),
        format!("{:#}\n", json!(labels)),
    )?;
    println!(
        "{}: {} documents; corpus {:.1} MB; task {rows:?}; {} labels",
        out.display(),
        documents.len(),
        corpus.len() as f64 / 1e6,
        labels.len()
    );
    Ok(())
}
