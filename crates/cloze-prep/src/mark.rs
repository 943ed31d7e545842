//! What tells a source again: what the system says of it, which is free, and its bytes, where that is another and they are known.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::input::{Source, digest};

/// A source as it was when it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// As manifests have it: a name need not be UTF-8.
    pub path: String,
    pub bytes: u64,
    /// Nanoseconds since 1970; 0 where the file system does not say, or where there is something better.
    modified: u64,
    /// Nanoseconds since 1970 at which its bytes, its name or its owner changed, which no program can set back; and its number in the file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    changed: Option<(u64, u64)>,
    /// What a server calls these bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
}

/// What was read of a source that was not read to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadUpTo {
    pub bytes: u64,
    /// Of these bytes, hexadecimal.
    pub blake3: String,
}

impl Mark {
    pub fn of(source: &Source) -> Self {
        let mut mark = Self {
            path: source.path.to_string_lossy().into_owned(),
            bytes: source.bytes,
            modified: 0,
            changed: None,
            etag: None,
        };
        match &source.object {
            // One answer tells the time to the second, another one more finely.
            Some(object) => match object.etag() {
                Some(etag) => mark.etag = Some(etag.to_owned()),
                None => mark.modified = object.modified(),
            },
            // A file by its name is not standard input.
            None if source.is_stdin() => {}
            None => {
                if let Ok(metadata) = fs::metadata(&source.path) {
                    mark.modified = modified(&metadata);
                    mark.changed = Some((changed(&metadata), metadata.ino()));
                }
            }
        }
        mark
    }

    /// The size of a file whose bytes or size are not what they were; what is elsewhere, or comes through a pipe, is known by other means.
    pub fn was_written_to(&self, source: &Source) -> Option<u64> {
        if source.object.is_some() || source.is_stream() {
            return None;
        }
        let now = fs::metadata(&source.path).ok()?;
        let same = now.len() == self.bytes && modified(&now) == self.modified;
        (now.is_file() && !same).then_some(now.len())
    }

    /// Whether all that is known of `source` without reading it is as it was.
    fn is(&self, source: &Source) -> bool {
        let tells = self.modified > 0 || self.etag.is_some();
        tells && Self::of(source) == *self
    }

    /// Whether `source` still holds what it held, under this name or another. Where something about it is another but its size, its bytes say, if their digest
    /// is known.
    pub fn holds(&self, source: &Source, blake3: Option<&str>) -> bool {
        // What came through a pipe is gone: who opens it again may wait for ever.
        if source.is_stream() {
            return false;
        }
        let is_same = |then| digest(source).is_ok_and(|(_, now)| now == then);
        self.is(source) || (source.bytes == self.bytes && blake3.is_some_and(is_same))
    }

    /// Whether this is standard input, as `source` is, and may be compared by reading it, after which nobody can read it again.
    pub fn is_stdin(&self, source: &Source) -> bool {
        source.is_stdin() && Path::new(&self.path) == source.path
    }

    /// Whether `source`, of which only the beginning was read, still holds that.
    pub fn begins(&self, source: &Source, read: Option<&ReadUpTo>) -> bool {
        if source.is_stream() {
            return false;
        }
        let is_beginning = |read: &ReadUpTo| read.is_beginning_of(&source.path);
        self.is(source) || (source.object.is_none() && read.is_some_and(is_beginning))
    }
}

impl ReadUpTo {
    fn is_beginning_of(&self, path: &Path) -> bool {
        let digest = || -> std::io::Result<String> {
            let mut hasher = blake3::Hasher::new();
            let file = File::open(path)?.take(self.bytes);
            hasher.update_reader(file)?;
            Ok(hasher.finalize().to_hex().to_string())
        };
        digest().is_ok_and(|found| found == self.blake3)
    }
}

/// Nanoseconds since 1970 at which a file's bytes changed, if no program said otherwise; 0 where the file system does not say.
pub fn modified(metadata: &fs::Metadata) -> u64 {
    let modified = metadata.modified().ok();
    let modified = modified.and_then(|m| m.duration_since(UNIX_EPOCH).ok());
    modified.map_or(0, |m| m.as_nanos() as u64)
}

/// Nanoseconds since 1970 at which a file's bytes, name or owner changed; 0 for what is before.
pub fn changed(metadata: &fs::Metadata) -> u64 {
    let (seconds, nanos) = (metadata.ctime(), metadata.ctime_nsec());
    u64::try_from(seconds).map_or(0, |s| {
        s.saturating_mul(1_000_000_000)
            .saturating_add(u64::try_from(nanos).unwrap_or(0))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn source(path: &Path) -> Source {
        Source {
            path: path.into(),
            format: crate::input::Format::Text,
            compression: crate::input::Compression::None,
            bytes: fs::metadata(path).unwrap().len(),
            object: None,
        }
    }

    fn touch(path: &Path, seconds: u64) {
        let time = UNIX_EPOCH + Duration::from_secs(seconds);
        let file = File::options().append(true).open(path).unwrap();
        file.set_modified(time).unwrap();
    }

    #[test]
    fn a_source_is_known_by_what_the_system_says_or_by_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        fs::write(&path, "one").unwrap();
        touch(&path, 5);
        let mark = Mark::of(&source(&path));
        let digest = cloze_shard::atomic::digest(&path).unwrap().blake3;
        assert!(mark.holds(&source(&path), None));
        touch(&path, 6);
        assert!(!mark.holds(&source(&path), None));
        assert!(mark.holds(&source(&path), Some(&digest)));
        // Other words of the same size, and the time set back: it was changed all the same.
        std::thread::sleep(Duration::from_millis(20));
        fs::write(&path, "two").unwrap();
        touch(&path, 5);
        assert!(!mark.holds(&source(&path), None));
        assert!(!mark.holds(&source(&path), Some(&digest)));
        // A copy elsewhere is the same.
        let copy = folder.path().join("b.txt");
        fs::write(&copy, "one").unwrap();
        assert!(mark.holds(&source(&copy), Some(&digest)));
        assert!(!mark.holds(&source(&copy), None));
    }

    #[test]
    fn what_is_written_while_it_is_read_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        fs::write(&path, "one").unwrap();
        touch(&path, 5);
        let source = source(&path);
        let mark = Mark::of(&source);
        assert_eq!(mark.was_written_to(&source), None);
        touch(&path, 6);
        assert_eq!(mark.was_written_to(&source), Some(3));
        fs::write(&path, "on").unwrap();
        touch(&path, 5);
        assert_eq!(mark.was_written_to(&source), Some(2));
    }

    #[test]
    fn a_source_that_was_begun_is_known_by_its_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        fs::write(&path, "one two").unwrap();
        let mark = Mark::of(&source(&path));
        let read = ReadUpTo {
            bytes: 4,
            blake3: blake3::hash(b"one ").to_hex().to_string(),
        };
        assert!(mark.begins(&source(&path), None));
        for (text, same) in [
            ("one three", true),
            ("one ", true),
            ("one", false),
            ("onetwo two", false),
        ] {
            std::thread::sleep(Duration::from_millis(20));
            fs::write(&path, text).unwrap();
            assert_eq!(mark.begins(&source(&path), Some(&read)), same, "{text}");
            assert!(!mark.begins(&source(&path), None));
        }
    }
}
