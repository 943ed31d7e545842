//! Where a path leads, and what it lies in.

use std::fs;
use std::path::{Path, PathBuf};

use crate::manifest::{FILE_NAME, read_text};

/// The path without links, as far as it is there.
#[must_use]
pub fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
    let there = path
        .ancestors()
        .find_map(|p| Some((p, fs::canonicalize(p).ok()?)));
    let real = there.and_then(|(there, real)| {
        let rest = path.strip_prefix(there).ok()?;
        // Joined with nothing, a path would end in a slash.
        Some(if rest.as_os_str().is_empty() {
            real
        } else {
            real.join(rest)
        })
    });
    real.unwrap_or(path)
}

/// The dataset that `path` lies in, or would lie in: a dataset holds nothing but its own files.
#[must_use]
pub fn dataset_around(path: &Path) -> Option<PathBuf> {
    let real = real(path);
    let is_dataset = |folder: &&Path| folder.join(FILE_NAME).is_file() && read_text(folder).is_ok();
    real.ancestors()
        .skip(1)
        .find(is_dataset)
        .map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dataset_is_found_around_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("data/train")).unwrap();
        fs::create_dir_all(at("other")).unwrap();
        fs::write(at("other/manifest.json"), "{\"name\": \"of a browser\"}").unwrap();
        let manifest = "{\"format\": \"cloze-dataset\", \"format_version\": 1}";
        fs::write(at("data/manifest.json"), manifest).unwrap();
        assert!(
            read_text(&at("data")).is_ok(),
            "as a dataset says it is one"
        );
        #[cfg(unix)]
        std::os::unix::fs::symlink(at("data"), at("link")).unwrap();
        let data = fs::canonicalize(at("data")).unwrap();
        for inside in ["data/x", "data/train/x", "data/not/yet/x"] {
            assert_eq!(dataset_around(&at(inside)), Some(data.clone()), "{inside}");
        }
        #[cfg(unix)]
        assert_eq!(dataset_around(&at("link/x")), Some(data));
        for outside in ["data", "x", "other/x", "data2/x"] {
            assert_eq!(dataset_around(&at(outside)), None, "{outside}");
        }
    }
}
