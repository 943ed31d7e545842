//! Finding CUDA's libraries, which may lie in a toolkit, in Python packages, or nowhere.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use libloading::Library;

use crate::{Error, Result};

/// Folders that a person names, separated as in PATH.
pub const FOLDERS: &str = "CLOZE_CUDA_PATH";
/// Versions of CUDA that the loader is asked for.
const OLDEST: u32 = 12;
const NEWEST: u32 = 13;

/// A library for as long as the process runs: CUDA's keep threads of their own, which run on in what would be unloaded.
pub type Loaded = &'static Library;

/// Loads `lib{name}.so` of the newest version that there is, of CUDA libraries of at most version `newest` where it is given: a driver runs no newer
/// ones than itself. From `folder`, from what [`FOLDERS`] names, from where the system looks, from the usual place of the toolkit, or from the
/// packages of the `python3` on the path.
pub fn load(name: &str, folder: Option<&Path>, newest: Option<u32>) -> Result<Loaded> {
    let mut looked = Vec::new();
    let named = std::env::var_os(FOLDERS);
    let named = named.iter().flat_map(std::env::split_paths);
    // An empty entry names no folder.
    let named = named.filter(|place| !place.as_os_str().is_empty());
    for place in folder.map(PathBuf::from).into_iter().chain(named) {
        if let Some(library) = within(&[&place], name, newest, &mut looked) {
            return Ok(library);
        }
    }
    for file in names(name, newest) {
        if let Some(library) = open(Path::new(&file)) {
            return Ok(library);
        }
    }
    looked.push("the loader's own folders".into());
    let places: Vec<&Path> = usual().iter().map(PathBuf::as_path).collect();
    if let Some(library) = within(&places, name, newest, &mut looked) {
        return Ok(library);
    }
    Err(Error::NoLibrary {
        name: format!("lib{name}.so"),
        looked: looked.join(", "),
    })
}

fn open(path: &Path) -> Option<Loaded> {
    // SAFETY: a library of CUDA does nothing when it is loaded but to prepare itself.
    let library = unsafe { Library::new(path) }.ok()?;
    Some(Box::leak(Box::new(library)))
}

/// What the loader is asked for, in order.
fn names(name: &str, newest: Option<u32>) -> Vec<String> {
    let versions = match name {
        // Their numbers are not CUDA's, and have not changed for ten years.
        "cuda" => 1..=1,
        "nccl" => 2..=2,
        _ => OLDEST..=newest.unwrap_or(NEWEST),
    };
    let versions = versions.rev().map(|v| format!("lib{name}.so.{v}"));
    versions.chain([format!("lib{name}.so")]).collect()
}

/// The version of a file `lib{name}.so.{version}`, or of what it is a link to; the outer is `None` for any other file.
fn version(path: &Path, name: &str) -> Option<Option<u32>> {
    let rest = |path: &Path| {
        let file = path.file_name()?.to_str()?;
        let rest = file.strip_prefix(&format!("lib{name}.so"))?;
        (rest.is_empty() || rest.starts_with('.')).then(|| rest.to_owned())
    };
    let first = |rest: String| rest.split('.').nth(1)?.parse().ok();
    let own = rest(path)?;
    if !own.is_empty() {
        return Some(first(own));
    }
    Some(
        path.canonicalize()
            .ok()
            .and_then(|p| rest(&p))
            .and_then(first),
    )
}

/// The newest library in some folders that may be loaded; where it was looked for is added to `looked`.
fn within(
    folders: &[&Path],
    name: &str,
    newest: Option<u32>,
    looked: &mut Vec<String>,
) -> Option<Loaded> {
    for path in candidates(folders, name, newest, looked) {
        // What NVRTC will load itself by name is loaded first, as it does not look beside itself.
        let beside = path.parent().into_iter().flat_map(files);
        for path in beside.filter(|p| version(p, &format!("{name}-builtins")).is_some()) {
            open(&path);
        }
        if let Some(library) = open(&path) {
            return Some(library);
        }
    }
    None
}

/// The libraries in some folders that may be loaded, the newest first; of one version in order of folders.
fn candidates(
    folders: &[&Path],
    name: &str,
    newest: Option<u32>,
    looked: &mut Vec<String>,
) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in folders {
        let mut said = folder.display().to_string();
        for path in files(folder) {
            match version(&path, name) {
                Some(Some(version)) if newest.is_some_and(|n| version > n) => {
                    said += &format!(" (lib{name}.so.{version} needs a newer driver)");
                }
                Some(version) => found.push((version, path)),
                None => {}
            }
        }
        looked.push(said);
    }
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, path)| path).collect()
}

/// The files of a folder, in order of their names.
fn files(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).into_iter().flatten();
    let mut files: Vec<PathBuf> = files.filter_map(|e| Some(e.ok()?.path())).collect();
    files.sort();
    files
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

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str, files: &[&str]) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("cloze-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for file in files {
            std::fs::write(folder.join(file), "no library").unwrap();
        }
        folder
    }

    #[test]
    fn the_newest_that_the_driver_runs_is_asked_for_first() {
        let names = |newest| names("nvrtc", newest).join(" ");
        let both = "libnvrtc.so.13 libnvrtc.so.12 libnvrtc.so";
        assert_eq!(names(Some(12)), "libnvrtc.so.12 libnvrtc.so");
        assert_eq!(names(Some(13)), both);
        assert_eq!(names(None), both);
        assert_eq!(names(Some(14)), format!("libnvrtc.so.14 {both}"));
        assert_eq!(super::names("cuda", None)[0], "libcuda.so.1");
        assert_eq!(super::names("nccl", None)[0], "libnccl.so.2");
    }

    #[test]
    fn the_newest_file_that_the_driver_runs_comes_first() {
        let old = folder(
            "old",
            &["libx.so.12", "libx-builtins.so.12.4", "libxy.so.13"],
        );
        let new = folder(
            "new",
            &["libx.so.12", "libx.so.13", "libx.so", "libx.alt.so.13"],
        );
        let ask = |newest| {
            let mut looked = Vec::new();
            let found = candidates(&[&old, &new], "x", newest, &mut looked);
            (found, looked.join(", "))
        };
        let (first, second, third) = (
            new.join("libx.so.13"),
            old.join("libx.so.12"),
            new.join("libx.so.12"),
        );
        let last = new.join("libx.so");
        let both = format!("{}, {}", old.display(), new.display());
        let all = vec![first, second.clone(), third.clone(), last.clone()];
        assert_eq!(ask(None), (all.clone(), both.clone()));
        assert_eq!(ask(Some(13)), (all, both.clone()));
        let newer = format!("{both} (libx.so.13 needs a newer driver)");
        assert_eq!(ask(Some(12)), (vec![second, third, last], newer));
        // A link is as old as what it leads to.
        #[cfg(unix)]
        {
            let link = folder("link", &["libx.so.13.0.88"]);
            let _ = std::fs::remove_file(link.join("libx.so"));
            std::os::unix::fs::symlink("libx.so.13.0.88", link.join("libx.so")).unwrap();
            assert_eq!(version(&link.join("libx.so"), "x"), Some(Some(13)));
            assert!(candidates(&[&link], "x", Some(12), &mut Vec::new()).is_empty());
            std::fs::remove_dir_all(link).unwrap();
        }
        for folder in [old, new] {
            std::fs::remove_dir_all(folder).unwrap();
        }
    }
}
