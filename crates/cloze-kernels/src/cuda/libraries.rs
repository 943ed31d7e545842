//! Finding CUDA's libraries, which may lie in a toolkit, in Python packages, or nowhere.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use libloading::Library;

use crate::{Error, Result};

/// Folders that a person names, separated as in PATH.
pub const FOLDERS: &str = "CLOZE_CUDA_PATH";

/// Loads `lib{name}.so`, of any version, for as long as the process runs: from `folder`, from what [`FOLDERS`] names, from where the system
/// looks, from the usual place of the toolkit, or from the packages of the `python3` on the path.
pub fn load(name: &str, folder: Option<&Path>) -> Result<Library> {
    let mut looked = Vec::new();
    let named = std::env::var_os(FOLDERS);
    let named = named.iter().flat_map(std::env::split_paths);
    for place in folder.map(PathBuf::from).into_iter().chain(named) {
        if let Some(library) = within(&place, name) {
            return Ok(library);
        }
        looked.push(place.display().to_string());
    }
    for file in [
        format!("lib{name}.so.13"),
        format!("lib{name}.so.2"),
        format!("lib{name}.so.1"),
        format!("lib{name}.so"),
        format!("lib{name}.so.12"),
    ] {
        // SAFETY: a library of CUDA does nothing when it is loaded but to prepare itself.
        if let Ok(library) = unsafe { Library::new(&file) } {
            return Ok(library);
        }
    }
    looked.push("the loader's own folders".into());
    for place in usual() {
        if let Some(library) = within(place, name) {
            return Ok(library);
        }
        looked.push(place.display().to_string());
    }
    Err(Error::NoLibrary {
        name: format!("lib{name}.so"),
        looked: looked.join(", "),
    })
}

/// The library in a folder. What it will load itself by name is loaded first.
fn within(folder: &Path, name: &str) -> Option<Library> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|e| Some(e.ok()?.path()))
        .collect();
    files.sort();
    let starts = |path: &&PathBuf, with: &str| {
        path.file_name()
            .is_some_and(|f| f.to_string_lossy().starts_with(with))
    };
    let builtins = format!("lib{name}-builtins.so");
    for path in files.iter().filter(|p| starts(p, &builtins)) {
        // SAFETY: as in `load`; it stays for as long as the process runs.
        if let Ok(library) = unsafe { Library::new(path) } {
            std::mem::forget(library);
        }
    }
    let own = format!("lib{name}.so");
    let mut found = files.iter().rev().filter(|p| starts(p, &own));
    // SAFETY: as in `load`.
    found.find_map(|path| unsafe { Library::new(path) }.ok())
}

/// Folders of the toolkit, and of Python's packages, found once.
fn usual() -> &'static [PathBuf] {
    static FOUND: OnceLock<Vec<PathBuf>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let mut folders = vec![
            PathBuf::from("/usr/local/cuda/lib64"),
            PathBuf::from("/usr/local/nvidia/lib64"),
        ];
        let asked = Command::new("python3")
            .args([
                "-c",
                "import sysconfig; print(sysconfig.get_paths()['purelib'])",
            ])
            .output();
        if let Some(packages) = asked.ok().filter(|o| o.status.success()) {
            let packages = String::from_utf8_lossy(&packages.stdout).trim().to_owned();
            let nvidia = Path::new(&packages).join("nvidia");
            let parts = std::fs::read_dir(nvidia).into_iter().flatten().flatten();
            folders.extend(parts.map(|p| p.path().join("lib")).filter(|p| p.is_dir()));
        }
        folders
    })
}
