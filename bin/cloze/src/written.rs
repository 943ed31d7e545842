//! Files that people name to have reports written: never what they did not mean.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, ensure};
use cloze_shard::place::real;

/// Refuses to write a report to `path` where that would destroy something: a file that does not begin as reports do, or one inside `dataset`.
pub fn may_be(option: &str, path: &Path, dataset: &Path, begins: &str) -> anyhow::Result<()> {
    let parent = path.parent().filter(|f| !f.as_os_str().is_empty());
    let folder = parent.unwrap_or(Path::new("."));
    ensure!(
        !path.is_dir() && folder.is_dir(),
        "{option} {}: is a folder, or in none",
        path.display()
    );
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK)
        .with_context(|| format!("{option} {}: cannot be written", path.display()))?;
    ensure!(
        !real(folder).starts_with(real(dataset)),
        "{option} {}: lies in the dataset's folder, which holds nothing but the dataset: give a place outside it",
        path.display()
    );
    if !path.is_file() {
        return Ok(());
    }
    let mut found = Vec::new();
    File::open(path)
        .and_then(|file| file.take(begins.len() as u64).read_to_end(&mut found))
        .with_context(|| format!("{option} {}", path.display()))?;
    ensure!(
        found.is_empty() || found == begins.as_bytes(),
        "{option} {}: is there already, and is no such report: give the name of a new file, or of an earlier report",
        path.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_reports_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let data = at("data");
        fs::create_dir_all(data.join("train")).unwrap();
        for (name, text, is_free) in [
            ("new.html", None, true),
            ("empty.html", Some(""), true),
            ("old.html", Some("<!DOCTYPE html>\n<p>"), true),
            ("corpus.jsonl", Some("{\"text\": \"a\"}\n"), false),
            ("short", Some("<!"), false),
            ("none/new.html", None, false),
            ("data", None, false),
            ("data/new.html", None, false),
            ("data/train/new.html", None, false),
        ] {
            if let Some(text) = text {
                fs::write(at(name), text).unwrap();
            }
            let found = may_be("--html", &at(name), &data, "<!DOCTYPE html>");
            assert_eq!(found.is_ok(), is_free, "{name}: {found:?}");
        }
        // A dataset that is not there yet.
        assert!(may_be("--report", &at("r.json"), &at("later"), "{").is_ok());
    }
}
