//! Files that are whole or absent: temporary file, fsync, rename, fsync of the folder. Those of unfinished work may have their names a while before they are on the disk ([`Postponed`]).

mod postponed;

use std::fs::{self, File};
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

pub use self::postponed::Postponed;
use crate::{Error, Result};

/// Bytes that are held before they are digested and written: enough for all lanes of the digest, and little enough to be still near the processor then.
const BUFFER: usize = 256 << 10;
/// Bytes after which the system is told to bring them to the disk: who makes the file durable at its end does not wait for all of it then.
const STEP: u64 = 4 << 20;

/// A file that appears under its name only when [`AtomicFile::commit`] returns.
///
/// Until then its bytes are in `NAME.partial` beside it; dropping it removes them. Everything that
/// is written is counted, and digested on its way if it is [`AtomicFile::create`]d so.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    partial: PathBuf,
    /// `None` once it is committed, or where writing failed: what it holds then is not known.
    file: Option<File>,
    /// What is not in the file yet.
    held: Vec<u8>,
    hasher: Option<blake3::Hasher>,
    /// Bytes in the file.
    bytes: u64,
    /// How many of the first bytes are on their way to the disk.
    begun: u64,
    /// Since when it is there, and what makes it durable where it has its name soon.
    postponed: Option<(Instant, Postponed)>,
    /// Whether it has its name.
    is_named: bool,
}

/// What a written file is bound by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Size in bytes.
    pub bytes: u64,
    /// blake3 of its bytes, in hexadecimal; empty where it was not digested.
    pub blake3: String,
}

impl AtomicFile {
    /// Begins `path`. A `.partial` file left by a killed run is overwritten.
    pub fn create(path: &Path) -> Result<Self> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let partial = path.with_file_name(name);
        let file = File::create(&partial).map_err(Error::io(&partial))?;
        Ok(Self {
            path: path.into(),
            partial,
            file: Some(file),
            held: Vec::with_capacity(BUFFER),
            hasher: Some(blake3::Hasher::new()),
            bytes: 0,
            begun: 0,
            postponed: None,
            is_named: false,
        })
    }

    /// As [`AtomicFile::create`], for a file of unfinished work, which `postponed` makes durable later if it is soon written.
    pub fn unfinished(path: &Path, postponed: &Postponed) -> Result<Self> {
        let mut file = Self::create(path)?;
        file.postponed = Some((Instant::now(), postponed.clone()));
        Ok(file)
    }

    /// The same file, which nothing binds by its digest.
    #[must_use]
    pub fn undigested(mut self) -> Self {
        self.hasher = None;
        self
    }

    /// The name that the file will have.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the file durable and gives it its name; one that is soon written, and of unfinished work, has its name at once.
    pub fn commit(mut self) -> Result<Written> {
        let is_early = self.is_early();
        let early = self.postponed.take().filter(|_| is_early);
        let end = |file: &mut Self| {
            file.flush()?;
            let file = file.file.take().ok_or_else(ended)?;
            if !is_early {
                file.sync_all()?;
            }
            Ok(file)
        };
        let file = end(&mut self).map_err(Error::io(&self.path))?;
        fs::rename(&self.partial, &self.path).map_err(Error::io(&self.path))?;
        self.is_named = true;
        match early {
            Some((_, postponed)) => postponed.add(file, &self.path)?,
            None => self.path.parent().map_or(Ok(()), sync_folder)?,
        }
        let digest = self.hasher.as_ref().map(blake3::Hasher::finalize);
        Ok(Written {
            bytes: self.bytes,
            blake3: digest.map_or_else(String::new, |digest| digest.to_hex().to_string()),
        })
    }
}

impl AtomicFile {
    /// Whether it is of unfinished work, and so new that it may be gone before it has to be on the disk.
    fn is_early(&self) -> bool {
        let postponed = self.postponed.as_ref();
        postponed.is_some_and(|(since, all)| since.elapsed() < all.grace())
    }

    /// Digests `bytes` and writes them, after those that were written before.
    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let mut file = self.file.take().ok_or_else(ended)?;
        for bytes in bytes.chunks(BUFFER) {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(bytes);
            }
            file.write_all(bytes)?;
        }
        self.bytes += bytes.len() as u64;
        if self.bytes >= self.begun + STEP && !self.is_early() {
            begin_writing(&file, self.begun..self.bytes);
            self.begun = self.bytes;
        }
        self.file = Some(file);
        Ok(())
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.held.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        if bytes.len() >= BUFFER {
            self.put(bytes)?;
        } else {
            self.held.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let mut held = std::mem::take(&mut self.held);
        let put = if held.is_empty() {
            Ok(())
        } else {
            self.put(&held)
        };
        held.clear();
        self.held = held;
        put
    }
}

/// Why nothing can be written any more.
fn ended() -> std::io::Error {
    std::io::Error::other("an earlier write to the file failed")
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        drop(self.file.take());
        if !self.is_named {
            // Nothing can be done about a failure here, and a `.partial` file is never read.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// Has the system begin to write some of a file's bytes, and does not wait. Nothing depends on whether it does.
fn begin_writing(file: &File, bytes: Range<u64>) {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;

        let (from, count) = (bytes.start as i64, (bytes.end - bytes.start) as i64);
        // SAFETY: no memory is handed over, and the descriptor is open as long as `file` is there.
        unsafe {
            libc::sync_file_range(file.as_raw_fd(), from, count, libc::SYNC_FILE_RANGE_WRITE);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, bytes);
}

/// Writes `bytes` to `path` atomically.
pub fn write(path: &Path, bytes: &[u8]) -> Result<Written> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes).map_err(Error::io(path))?;
    file.commit()
}

/// Makes the names in `folder` durable.
pub fn sync_folder(folder: &Path) -> Result<()> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(Error::io(folder))
}

/// Size and digest of a file on disk.
pub fn digest(path: &Path) -> Result<Written> {
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path).map_err(Error::io(path))?;
    let bytes = std::io::copy(&mut file, &mut hasher).map_err(Error::io(path))?;
    Ok(Written {
        bytes,
        blake3: hasher.finalize().to_hex().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However much comes at a time.
    #[test]
    fn what_is_written_is_there_and_digested() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let sizes = [
            0,
            1,
            BUFFER - 2,
            1,
            1,
            BUFFER - 1,
            2,
            BUFFER,
            BUFFER + 1,
            7,
            3 * BUFFER + 5,
            9,
        ];
        let all: Vec<u8> = (0..sizes.iter().sum::<usize>())
            .map(|i| (i ^ (i >> 9)) as u8)
            .collect();
        let mut file = AtomicFile::create(&path).unwrap();
        let mut rest = &all[..];
        for size in sizes {
            let (piece, after) = rest.split_at(size);
            file.write_all(piece).unwrap();
            rest = after;
        }
        let written = file.commit().unwrap();
        assert!(fs::read(&path).unwrap() == all);
        let blake3 = blake3::hash(&all).to_hex().to_string();
        let bytes = all.len() as u64;
        assert_eq!(written, Written { bytes, blake3 });
    }

    /// What a file holds after a write that failed is not known: it gets no name, whatever is done with it then.
    #[test]
    fn a_file_that_could_not_be_written_gets_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        for more in [&b""[..], b"more"] {
            let mut file = AtomicFile::create(&path).unwrap();
            file.write_all(b"some").unwrap();
            // A file that can only be read refuses what is written to it.
            file.file = Some(File::open(&file.partial).unwrap());
            assert!(file.flush().is_err());
            file.write_all(more).unwrap();
            assert!(file.commit().is_err());
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_file_is_whole_or_absent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        assert!(!path.exists());
        drop(file);
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            0,
            "nothing is left behind"
        );
        // Nor by one that cannot be given its name: there is a folder.
        let taken = folder.path().join("taken");
        fs::create_dir_all(taken.join("x")).unwrap();
        assert!(write(&taken, b"more").is_err());
        assert!(!folder.path().join("taken.partial").exists());
        fs::remove_dir_all(&taken).unwrap();
        let written = write(&path, b"whole").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(written, digest(&path).unwrap());
        let mut file = AtomicFile::create(&path).unwrap().undigested();
        file.write_all(b"more").unwrap();
        let (bytes, blake3) = (4, String::new());
        assert_eq!(file.commit().unwrap(), Written { bytes, blake3 });
        write(&path, b"whole").unwrap();
        assert_eq!(written.blake3, blake3::hash(b"whole").to_hex().to_string());
        let postponed = Postponed::default();
        let mut file = AtomicFile::unfinished(&path, &postponed).unwrap();
        file.write_all(b"whole").unwrap();
        assert_eq!(file.commit().unwrap(), written);
        postponed.end().unwrap();
        assert_eq!(written, digest(&path).unwrap());
    }
}
