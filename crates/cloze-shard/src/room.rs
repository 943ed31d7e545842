//! Room on the disk.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Bytes that are free where `path` is, or will be; `None` where the system does not say.
pub fn free(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(&there(path)?).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// The folder that `path` is or will be in, as far as it exists.
fn there(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    Some(path.ancestors().find(|p| p.exists())?.to_path_buf())
}

/// Whether two paths are, or will be, on one file system.
pub fn is_one(a: &Path, b: &Path) -> bool {
    let device = |path| Some(fs::metadata(there(path)?).ok()?.dev());
    device(a) == device(b)
}

/// Bytes of the files in a folder and below it; 0 where it is not there.
pub fn taken(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => taken(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("a/b/c"), [0; 100]).unwrap();
        fs::write(folder.path().join("d"), [0; 11]).unwrap();
        assert_eq!(taken(folder.path()), 111);
        assert_eq!(taken(&folder.path().join("none")), 0);
        assert!(is_one(folder.path(), &folder.path().join("not/yet")));
        #[cfg(target_os = "linux")]
        assert!(!is_one(folder.path(), Path::new("/proc/self")));
    }
}
