//! `cargo xtask debian-docs OUT`: some 115 MB of technical English, from the documentation packages of Debian.
//!
//! Packages are downloaded and unpacked, never installed. A document is a page, a manual, or some pages of a dictionary; a paragraph is a
//! line, and one that stood before, anywhere, is left out. The order is that of a hash of the names. Deterministic for the same packages:
//! `MANIFEST` says which they were. Those of another release of Debian, where these are not, give a corpus of the same kind.

mod page;
mod source;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::debian;

const MB: usize = 1 << 20;
const ALL: usize = usize::MAX;

/// What the files of a package are.
#[derive(Clone, Copy)]
enum Kind {
    /// Pages whose path holds a part.
    Pages(&'static str),
    /// reStructuredText, as the kernel's documentation is written in.
    Rst,
    /// Perl's.
    Pod,
    /// GNOME's pages.
    Mallard,
    Dictionary,
    Novels,
}

/// Packages, what is in them, and the bytes of text after which no more is taken of each. `*` is any version, the highest that there is.
const PACKAGES: [(&str, Kind, usize); 22] = [
    ("python3.*-doc", Kind::Pages(""), ALL),
    ("postgresql-doc-*", Kind::Pages(""), ALL),
    ("sqlite3-doc", Kind::Pages(""), 10 * MB),
    ("python-django-doc", Kind::Pages(""), ALL),
    ("libreoffice-help-en-us", Kind::Pages(""), ALL),
    ("openjdk-*-doc", Kind::Pages(""), 24 * MB),
    ("libboost1.*-doc", Kind::Pages(""), ALL),
    ("cppreference-doc-en-html", Kind::Pages(""), ALL),
    ("octave-doc", Kind::Pages(""), ALL),
    ("maxima-doc", Kind::Pages(""), ALL),
    ("python-pandas-doc", Kind::Pages(""), ALL),
    ("debian-policy", Kind::Pages(""), ALL),
    ("developers-reference", Kind::Pages(""), ALL),
    ("debian-handbook", Kind::Pages("html/en-US"), ALL),
    ("installation-guide-amd64", Kind::Pages("/en/"), ALL),
    ("rust-doc", Kind::Pages(""), 8 * MB),
    ("linux-doc-6.*", Kind::Rst, ALL),
    ("gnome-user-docs", Kind::Mallard, ALL),
    ("perl-doc", Kind::Pod, ALL),
    ("dict-gcide", Kind::Dictionary, 14 * MB),
    ("dict-foldoc", Kind::Dictionary, 14 * MB),
    ("r-cran-janeaustenr", Kind::Novels, ALL),
];

/// Documents with less text say too little, and lines with less may stand any number of times.
const SHORTEST: usize = 200;
const UNIQUE: usize = 30;

pub fn run(out: &Path) -> Result<(), String> {
    let work = std::env::temp_dir().join(format!("cloze-debian-docs-{}", std::process::id()));
    let result = make(&work, out);
    // What is left in the temporary folder harms nobody.
    let _ = fs::remove_dir_all(&work);
    result
}

fn make(work: &Path, out: &Path) -> Result<(), String> {
    let lists = work.join("lists");
    println!("asking which packages there are");
    debian::fetch(&lists)?;
    let (mut corpus, mut versions) = (Corpus::default(), Vec::new());
    for (pattern, kind, most) in PACKAGES {
        let Some(package) = resolve(&lists, pattern)? else {
            println!("{pattern}: not in this release of Debian, left out");
            versions.push(format!("{pattern} left out"));
            continue;
        };
        let folder = work.join("unpacked");
        versions.push(format!("{package} {}", unpack(&lists, &package, &folder)?));
        let before = corpus.bytes;
        corpus.add_package(&package, kind, most, &folder)?;
        let megabytes = (corpus.bytes - before) as f64 / 1e6;
        println!("{package}: {megabytes:.1} MB");
        fs::remove_dir_all(&folder).map_err(io(&folder))?;
    }
    corpus.write(out, &versions).map_err(io(out))
}

/// An error with the path that it is about.
fn io(path: &Path) -> impl FnOnce(std::io::Error) -> String + use<> {
    let path = path.display().to_string();
    move |e| format!("{path}: {e}")
}

/// What `program` prints, if it does what it is asked for.
fn output(
    program: &str,
    lists: &Path,
    arguments: &[&str],
    folder: &Path,
) -> Result<String, String> {
    let done = Command::new(program)
        .args(debian::apt_options(lists))
        .args(arguments)
        .current_dir(folder)
        .stderr(Stdio::null())
        .output()
        .map_err(|e| format!("{program}: {e}"))?;
    if done.status.success() {
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    } else {
        Err(format!(
            "{program} {}: {}",
            arguments.join(" "),
            done.status
        ))
    }
}

/// The package of a name, or of the highest version in the place of its `*`.
fn resolve(lists: &Path, pattern: &str) -> Result<Option<String>, String> {
    let (head, tail) = pattern.split_once('*').unwrap_or((pattern, ""));
    let names = output("apt-cache", lists, &["pkgnames", head], lists)?;
    Ok(highest(names.lines(), pattern.contains('*'), head, tail))
}

fn highest<'a>(
    names: impl Iterator<Item = &'a str>,
    any: bool,
    head: &str,
    tail: &str,
) -> Option<String> {
    let version = |name: &str| -> Option<Vec<u32>> {
        let middle = name.strip_prefix(head)?.strip_suffix(tail)?;
        match any {
            true => middle.split('.').map(|n| n.parse().ok()).collect(),
            false => middle.is_empty().then(Vec::new),
        }
    };
    let versions = names.filter_map(|name| Some((version(name)?, name)));
    versions.max().map(|(_, name)| name.to_owned())
}

/// Downloads and unpacks a package, and says which version it is.
fn unpack(lists: &Path, package: &str, folder: &Path) -> Result<String, String> {
    fs::create_dir_all(folder).map_err(io(folder))?;
    output("apt-get", lists, &["-qq", "download", package], folder)?;
    let deb = fs::read_dir(folder)
        .map_err(io(folder))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "deb"))
        .ok_or_else(|| format!("{package}: apt-get downloaded nothing"))?;
    let dpkg = |arguments: &[&str]| -> Result<String, String> {
        let done = Command::new("dpkg-deb").args(arguments).output();
        let done = done.map_err(|e| format!("dpkg-deb: {e}"))?;
        match done.status.success() {
            true => Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned()),
            false => Err(format!("dpkg-deb {}: {}", arguments.join(" "), done.status)),
        }
    };
    let path = deb.to_string_lossy();
    dpkg(&["-x", &path, &folder.to_string_lossy()])?;
    let version = dpkg(&["-f", &path, "Version"])?;
    fs::remove_file(&deb).map_err(io(&deb))?;
    Ok(version)
}

/// All files below a folder, in order. Links lead to files that are found anyway.
fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(io(&folder))?.flatten() {
            let path = entry.path();
            match entry.file_type().map_err(io(&path))? {
                kind if kind.is_dir() => folders.push(path),
                kind if kind.is_file() => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    Ok(found)
}

#[derive(Default)]
struct Corpus {
    documents: Vec<(String, String)>,
    seen: HashSet<[u8; 8]>,
    sizes: BTreeMap<String, usize>,
    bytes: usize,
}

impl Corpus {
    fn add_package(
        &mut self,
        package: &str,
        kind: Kind,
        most: usize,
        folder: &Path,
    ) -> Result<(), String> {
        for path in files(folder)? {
            if self.sizes.get(package).is_some_and(|&size| size > most) {
                break;
            }
            let relative = path.strip_prefix(folder).unwrap_or(&path);
            let name = relative.to_string_lossy().into_owned();
            let ends = |end: &str| name.ends_with(end);
            let read = || source::read(&path).map_err(io(&path));
            match kind {
                Kind::Pages(part) if (ends(".html") || ends(".htm")) && name.contains(part) => {
                    self.add(package, &name, page::paragraphs(&read()?, &page::HTML));
                }
                Kind::Rst
                    if (ends(".rst.txt") || ends(".rst.txt.gz") || ends(".rst.gz"))
                        && !name.contains("/translations/") =>
                {
                    self.add(package, &name, source::rst(&read()?));
                }
                Kind::Pod if ends(".pod") => self.add(package, &name, source::pod(&read()?)),
                Kind::Mallard if ends(".page") && name.contains("/C/") => {
                    self.add(package, &name, page::paragraphs(&read()?, &page::MALLARD));
                }
                Kind::Dictionary if ends(".dict.dz") => {
                    for (number, entries) in source::dictionary(&read()?).into_iter().enumerate() {
                        if self.sizes.get(package).is_some_and(|&size| size > most) {
                            break;
                        }
                        self.add(package, &format!("{number:05}"), entries);
                    }
                }
                Kind::Novels if ends("Rdata.rdb") => {
                    let bytes = fs::read(&path).map_err(io(&path))?;
                    for (name, chapter) in source::novels(&bytes) {
                        self.add(package, &name, chapter);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Adds a document, if enough is left of it and most of that is letters.
    fn add(&mut self, package: &str, name: &str, paragraphs: Vec<String>) {
        let mut kept: Vec<String> = Vec::new();
        for paragraph in paragraphs {
            let words: Vec<&str> = paragraph.split_whitespace().collect();
            let paragraph = words.join(" ").replace('\0', "");
            let unique = paragraph.len() < UNIQUE || self.seen.insert(digest(&paragraph));
            if paragraph.chars().nth(1).is_some() && unique {
                kept.push(paragraph);
            }
        }
        let text = kept.join("\n");
        let letters = text.bytes().filter(u8::is_ascii_alphabetic).count();
        let characters = text.chars().count();
        if characters >= SHORTEST && letters * 10 >= characters * 6 {
            self.bytes += text.len();
            *self.sizes.entry(package.to_owned()).or_default() += text.len();
            self.documents.push((format!("{package}/{name}"), text));
        }
    }

    fn write(mut self, out: &Path, versions: &[String]) -> std::io::Result<()> {
        fs::create_dir_all(out)?;
        self.documents.sort_by_cached_key(|(name, _)| digest(name));
        let mut lines = std::io::BufWriter::new(fs::File::create(out.join("docs.jsonl"))?);
        for (name, text) in &self.documents {
            writeln!(
                lines,
                r#"{{"id": {}, "text": {}}}"#,
                json!(name),
                json!(text)
            )?;
        }
        lines.flush()?;
        fs::write(out.join("MANIFEST"), versions.join("\n") + "\n")?;
        println!(
            "{}: {} documents, {:.1} MB of text",
            out.join("docs.jsonl").display(),
            self.documents.len(),
            self.bytes as f64 / 1e6
        );
        Ok(())
    }
}

fn digest(text: &str) -> [u8; 8] {
    let digest = Sha256::digest(text.as_bytes());
    std::array::from_fn(|i| digest[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_the_highest_version() {
        let names = [
            "python3.9-doc",
            "python3.11-doc",
            "python3.x-doc",
            "python3.12-dev",
        ];
        let found = highest(names.into_iter(), true, "python3.", "-doc");
        assert_eq!(found.as_deref(), Some("python3.11-doc"));
        assert_eq!(highest(names.into_iter(), true, "perl", ""), None);
        let exact = highest(["rust-doc", "rust-docs"].into_iter(), false, "rust-doc", "");
        assert_eq!(exact.as_deref(), Some("rust-doc"));
    }

    #[test]
    fn a_paragraph_that_stood_before_is_left_out() {
        let mut corpus = Corpus::default();
        let long = "Words of a paragraph that is long enough to be looked for elsewhere.";
        let text: Vec<String> = (0..6).map(|i| format!("{i}{i} {long}")).collect();
        corpus.add("a", "1", text.clone());
        corpus.add("a", "2", [text, vec!["Short one".into(); 40]].concat());
        let texts: Vec<&str> = corpus.documents.iter().map(|(_, t)| t.as_str()).collect();
        assert_eq!(texts.len(), 2);
        assert!(texts[0].contains(long));
        assert!(!texts[1].contains(long));
        corpus.add("a", "3", vec!["1 2 3 4 5 6 7 8 9 ".repeat(30)]);
        assert_eq!(corpus.documents.len(), 2);
    }
}
