//! Where a path leads, and what it lies in.

use std::fs;
use std::path::{Path, PathBuf};

use crate::manifest::{FILE_NAME, read_text};
use crate::{Error, Result};

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

/// Refuses a folder into which nothing can be written, or that cannot be made where it would be.
pub fn writable(folder: &Path) -> Result<()> {
    let path = std::path::absolute(folder).map_err(Error::io(folder))?;
    let there = path.ancestors().find(|p| p.symlink_metadata().is_ok());
    let there = there.unwrap_or(&path);
    // As it was named, where that is it.
    let shown = if there == path { folder } else { there };
    if !there.is_dir() {
        return Err(Error::io(shown)(std::io::ErrorKind::NotADirectory.into()));
    }
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::access(there, access).map_err(|e| {
        let e = std::io::Error::from(e);
        let why = format!("nothing can be written into it: {e}");
        Error::io(shown)(std::io::Error::new(e.kind(), why))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_looked_at_before_it_is_written_into() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "a").unwrap();
        assert!(writable(folder.path()).is_ok());
        assert!(writable(&at("not/yet/there")).is_ok());
        let error = writable(&at("file/below")).unwrap_err().to_string();
        assert!(
            error.starts_with(&at("file").display().to_string()),
            "{error}"
        );
        // Root may write anywhere.
        #[cfg(unix)]
        if !rustix::process::geteuid().is_root() {
            use std::os::unix::fs::PermissionsExt;
            fs::create_dir(at("closed")).unwrap();
            fs::set_permissions(at("closed"), fs::Permissions::from_mode(0o555)).unwrap();
            let error = writable(&at("closed/below")).unwrap_err().to_string();
            assert!(error.contains("closed: nothing can be written"), "{error}");
        }
    }

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
