//! A folder of tokens: what reading, segmenting and tokenizing gave, in parts, so that it can be gone on with after a stop and used again.
//!
//! ```text
//! key.json             what decides the tokens
//! part-00000.arrow     documents, in order: see `token_store`
//! part-00000.json      where reading was when the part was full, and what had been counted by then; makes the part count
//! whole.json           the same at the end; makes the folder whole
//! lock                 held by who writes
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::input::Source;
use crate::key::{self, Key, Mark};
use crate::token_store::TokenFiles;
use crate::tokenize::TokenizeReport;
use crate::{Error, Result};

const KEY: &str = "key.json";
const WHOLE: &str = "whole.json";

/// Where reading was.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Place {
    /// The sources up to there, as they were; the last may not have been read to its end.
    pub sources: Vec<Mark>,
    /// Documents that were taken from the last of `sources`.
    pub documents: u64,
    /// Parts that hold what was read up to there.
    pub parts: u32,
    /// Of the bytes of each part, hexadecimal: what is used again is what was written.
    #[serde(default)]
    pub blake3: Vec<String>,
    /// What was counted, and the sources that were read to their end.
    pub report: TokenizeReport,
}

/// A folder of tokens that this process may write.
#[derive(Debug)]
pub struct TokenFolder {
    path: PathBuf,
    /// Where to go on.
    pub place: Place,
    /// Whether all is there.
    pub whole: bool,
    _lock: Option<File>,
}

impl TokenFolder {
    /// Opens or makes `path`, which holds the tokens that `key` decides, or nothing yet. Whole ones may lie where nothing can be written.
    ///
    /// What was made of sources that are another now is not used again.
    pub fn open(path: &Path, key: &Key, sources: &[Source]) -> Result<Self> {
        fs::create_dir_all(path).map_err(cloze_shard::Error::io(path))?;
        let lock = match lock(path) {
            Err(error) if path.join(WHOLE).exists() && is_read_only(&error) => None,
            lock => Some(lock?),
        };
        let key_path = path.join(KEY);
        match key::read::<Key>(&key_path)? {
            Some(then) => {
                let differences = then.differences(key);
                if !differences.is_empty() {
                    return Err(Error::OtherConfig {
                        path: path.into(),
                        differences,
                        hint: "give the same options, or another folder for the tokens",
                    });
                }
            }
            None if is_foreign(path)? => {
                return Err(Error::OutputExists {
                    path: path.into(),
                    why: "holds files that are no tokens".into(),
                    hint: "give a folder that does not exist yet, or one that --tokens made",
                });
            }
            None => key::write(&key_path, key)?,
        }
        let mut folder = Self {
            path: path.into(),
            place: Place::default(),
            whole: false,
            _lock: lock,
        };
        if let Some(whole) = key::read::<Place>(&folder.path.join(WHOLE))? {
            if whole.sources.len() == sources.len() && whole.holds(sources) {
                folder.check_parts(&whole)?;
                (folder.place, folder.whole) = (whole, true);
                return Ok(folder);
            }
            if folder._lock.is_none() {
                return Err(Error::OutputExists {
                    path: path.into(),
                    why: "holds the tokens of other sources, and cannot be written".into(),
                    hint: "give another folder for --tokens",
                });
            }
            fs::remove_file(folder.path.join(WHOLE)).map_err(cloze_shard::Error::io(path))?;
        }
        for part in 0.. {
            let Some(place) = key::read::<Place>(&folder.note(part))? else {
                break;
            };
            if !folder.part(part).exists() || !place.holds(sources) {
                break;
            }
            folder.place = place;
        }
        folder.check_parts(&folder.place)?;
        folder.forget_later_parts()?;
        Ok(folder)
    }

    /// Whether the parts up to there hold what was written. Of their rows nobody could tell.
    fn check_parts(&self, place: &Place) -> Result<()> {
        for part in 0..place.parts {
            let path = self.part(part);
            let found = cloze_shard::atomic::digest(&path)?.blake3;
            let written = place.blake3.get(part as usize).map_or("not known", |b| b);
            if found != written {
                return Err(Error::Damaged {
                    why: format!("blake3 {found}, was {written}"),
                    path,
                });
            }
        }
        Ok(())
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins again, without the parts that there are.
    pub fn forget(&mut self) -> Result<()> {
        self.place = Place::default();
        self.forget_later_parts()
    }

    /// The file of a part.
    pub fn part(&self, number: u32) -> PathBuf {
        self.path.join(format!("part-{number:05}.arrow"))
    }

    fn note(&self, number: u32) -> PathBuf {
        self.path.join(format!("part-{number:05}.json"))
    }

    /// Notes that the next part is full, and where reading is.
    pub fn full(&mut self, place: Place) -> Result<()> {
        key::write(&self.note(place.parts - 1), &place)?;
        self.place = place;
        Ok(())
    }

    /// Notes that everything was read.
    pub fn finish(&mut self, place: Place) -> Result<()> {
        key::write(&self.path.join(WHOLE), &place)?;
        self.place = place;
        self.whole = true;
        Ok(())
    }

    /// The documents.
    pub fn files(&self) -> Result<TokenFiles> {
        TokenFiles::open((0..self.place.parts).map(|part| self.part(part)))
    }

    fn forget_later_parts(&self) -> Result<()> {
        for part in self.place.parts.. {
            let (note, file) = (self.note(part), self.part(part));
            if !note.exists() && !file.exists() {
                break;
            }
            // The note first: without it, the part does not count.
            for path in [note, file] {
                match fs::remove_file(&path) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                        return Err(cloze_shard::Error::io(&path)(e).into());
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

impl Place {
    /// What binds what was made of the tokens to them.
    pub fn digest(&self) -> Result<String> {
        // Times of files are left out: bytes are what counts.
        let text = serde_json::to_vec(&(self.parts, &self.report)).map_err(|e| Error::Damaged {
            path: PathBuf::from(WHOLE),
            why: e.to_string(),
        })?;
        Ok(blake3::hash(&text).to_hex().to_string())
    }

    /// Whether every source up to here is among `sources` where it was, and unchanged.
    fn holds(&self, sources: &[Source]) -> bool {
        let done = &self.report.sources;
        self.sources.len() <= sources.len()
            && self
                .sources
                .iter()
                .zip(sources)
                .enumerate()
                .all(|(i, (mark, source))| {
                    mark.holds(source, done.get(i).map(|s| s.blake3.as_str()))
                })
    }
}

/// Locks the unfinished work in `folder`; the lock ends with the process.
pub fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let file = File::create(&path).map_err(cloze_shard::Error::io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(Error::OutputExists {
            path: folder.into(),
            why: "is being written by another process".into(),
            hint: "wait for it, or stop it",
        }),
        // A file system without locks: nothing is known of other processes.
        Err(fs::TryLockError::Error(_)) => Ok(file),
    }
}

fn is_read_only(error: &Error) -> bool {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    match error {
        Error::Shard(cloze_shard::Error::Io { source, .. }) => {
            matches!(source.kind(), PermissionDenied | ReadOnlyFilesystem)
        }
        _ => false,
    }
}

/// Whether a folder without a key holds something else than what was begun here.
fn is_foreign(folder: &Path) -> Result<bool> {
    let io = || cloze_shard::Error::io(folder);
    for entry in fs::read_dir(folder).map_err(io())? {
        let name = entry.map_err(io())?.file_name();
        if name != "lock" && name != "key.json.partial" {
            return Ok(true);
        }
    }
    Ok(false)
}
