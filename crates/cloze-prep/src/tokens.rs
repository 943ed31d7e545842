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

use cloze_shard::atomic::Postponed;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::input::{Source, digest as digest_of};
use crate::key::{self, Key};
use crate::mark::{Mark, ReadUpTo};
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
    /// What was read of it for these, where it was not read to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<ReadUpTo>,
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
    /// What of the tokens that were there is made anew, and why, for a person.
    pub said: Vec<String>,
    /// What makes parts and notes durable, where they need not be at once.
    pub postponed: Option<Postponed>,
    _lock: Option<File>,
}

impl TokenFolder {
    /// Opens or makes `path`, which holds the tokens that `key` decides, or nothing yet. Whole ones may lie where nothing can be written.
    ///
    /// What was made of sources that are others now is not used again: it is an error that names them, unless `reuse` says that it may be made anew. Only a source
    /// that was not read to its end may be another, since it may have failed and been mended.
    pub fn open(path: &Path, key: &Key, sources: &[Source], reuse: Reuse) -> Result<Self> {
        if path.is_file() {
            return Err(Error::OutputExists {
                path: path.into(),
                why: "is a file, where tokens have a folder".into(),
                hint: "give a folder that does not exist yet, or one that --tokens made",
            });
        }
        fs::create_dir_all(path).map_err(cloze_shard::Error::io(path))?;
        // Before anything is written there, a lock too.
        if reuse.postponed.is_none() && !path.join(KEY).exists() && is_foreign(path)? {
            return Err(Error::OutputExists {
                path: path.into(),
                why: "holds files that are no tokens".into(),
                hint: "give a folder that does not exist yet, or one that --tokens made",
            });
        }
        let lock = match lock(path) {
            Err(error) if path.join(WHOLE).exists() && is_read_only(&error) => None,
            lock => Some(lock?),
        };
        let mut folder = Self {
            path: path.into(),
            place: Place::default(),
            whole: false,
            said: Vec::new(),
            postponed: reuse.postponed.clone(),
            _lock: lock,
        };
        let key_path = path.join(KEY);
        match folder.read::<Key>(&key_path)? {
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
            None => folder.write(&key_path, key)?,
        }
        let compared = folder.find(sources, &reuse)?;
        folder.check_parts(sources)?;
        // What is not whole begins again where it cannot be gone on with.
        let is_kept = folder.whole || !reuse.in_one_part;
        let kept = folder.place.report.sources.len() * usize::from(is_kept);
        if compared.is_some_and(|number| number >= kept) {
            return Err(Error::OutputExists {
                path: path.into(),
                why: "does not hold all that came from standard input, which was read to see whether it is the same".into(),
                hint: "run the command again with --replace-tokens: it is not compared then, and all is made anew",
            });
        }
        if !folder.whole {
            folder.forget_later_parts()?;
        }
        Ok(folder)
    }

    /// Reads a note, which may have been lost where it need not be durable at once.
    fn read<T: DeserializeOwned>(&mut self, path: &Path) -> Result<Option<T>> {
        match &self.postponed {
            None => key::read(path),
            Some(_) => key::read_or_lost(path, |said| self.said.push(said.to_owned())),
        }
    }

    fn write(&self, path: &Path, note: &impl Serialize) -> Result<()> {
        key::write(path, note, self.postponed.as_ref())
    }

    /// Finds where to go on; and which of the sources was read to compare it, if one was.
    fn find(&mut self, sources: &[Source], reuse: &Reuse) -> Result<Option<usize>> {
        let mut notes = Vec::new();
        while let Some(place) = self.read::<Place>(&self.note(notes.len() as u32))? {
            notes.push(place);
        }
        let whole = self.read::<Place>(&self.path.join(WHOLE))?;
        let Some(then) = whole.as_ref().or(notes.last()) else {
            return Ok(None);
        };
        let kept = Kept::of(then, sources, !reuse.replace);
        let grew = whole.is_some() && sources.len() > then.sources.len();
        if let (true, Some(whole)) = (kept.all && !grew, &whole) {
            self.place = whole.clone();
            self.whole = true;
            // So that bytes that were compared are not compared the next time.
            if self.place.now(sources) && self._lock.is_some() {
                self.write(&self.path.join(WHOLE), &self.place)?;
            }
            return Ok(kept.compared);
        }
        let begins_again = reuse.in_one_part && grew;
        let mut differences = match kept.refuses || begins_again {
            true => crate::sources::differences(then, sources, kept.same, kept.compared),
            false => Vec::new(),
        };
        if begins_again && kept.all {
            differences.push("with deduplication, which documents stay is known only when all are there, so none of the tokens can be used".into());
        }
        if !differences.is_empty() && !reuse.replace && then.parts > 0 {
            return Err(Error::OtherInputs {
                path: self.path.clone(),
                differences,
            });
        }
        if self._lock.is_none() {
            return Err(Error::OutputExists {
                path: self.path.clone(),
                why: "holds the tokens of other sources, and cannot be written".into(),
                hint: "give another folder for --tokens",
            });
        }
        if !kept.all {
            let why = crate::sources::differences(then, sources, kept.same, kept.compared);
            let why = why.join("; ");
            self.said
                .push(format!("what was made of these inputs is made anew: {why}"));
        }
        let holds = |place: &&Place| kept.holds(place, then, sources);
        let there = notes.iter().take_while(holds).enumerate();
        let there = there.take_while(|(part, _)| self.part(*part as u32).exists());
        if let Some((_, place)) = there.last() {
            self.place = place.clone();
        }
        if let Some(missing) = (0..self.place.parts.max(notes.len() as u32))
            .map(|part| self.part(part))
            .find(|part| !part.exists())
        {
            self.said
                .push(format!("{} is missing: it is made anew", missing.display()));
        }
        self.place.now(sources);
        self.forget_whole()?;
        Ok(kept.compared)
    }

    /// The note that says that all is there goes first.
    fn forget_whole(&self) -> Result<()> {
        match fs::remove_file(self.path.join(WHOLE)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(cloze_shard::Error::io(&self.path.join(WHOLE))(e).into())
            }
            _ => Ok(()),
        }
    }

    /// Looks whether the parts hold what was written. Of their rows nobody could tell. Those that may have been lost with what the machine had not brought to the disk
    /// yet are made anew, from the first of them on.
    fn check_parts(&mut self, sources: &[Source]) -> Result<()> {
        for part in 0..self.place.parts {
            let path = self.part(part);
            let why = match path.exists() {
                false => "it is gone".into(),
                true => {
                    let found = cloze_shard::atomic::digest(&path)?.blake3;
                    let written = self.place.blake3.get(part as usize);
                    let written = written.map_or("not known", |b| b);
                    if found == written {
                        continue;
                    }
                    format!("blake3 {found}, was {written}")
                }
            };
            let damaged = Error::Damaged { path, why };
            if self.postponed.is_none() {
                return Err(damaged);
            }
            self.said.push(format!("{damaged}: it is made anew"));
            self.forget_whole()?;
            self.whole = false;
            let before = part.checked_sub(1).map(|before| self.note(before));
            let before = before.map(|note| self.read::<Place>(&note)).transpose()?;
            // One that tells of other parts is of an earlier time.
            let digests = &self.place.blake3;
            let is_before = |place: &Place| digests.starts_with(&place.blake3);
            self.place = before.flatten().filter(is_before).unwrap_or_default();
            self.place.now(sources);
            break;
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
        self.write(&self.note(place.parts - 1), &place)?;
        self.place = place;
        Ok(())
    }

    /// Notes that everything was read.
    pub fn finish(&mut self, place: Place) -> Result<()> {
        self.write(&self.path.join(WHOLE), &place)?;
        self.place = place;
        self.whole = true;
        Ok(())
    }

    /// The documents.
    pub fn files(&self) -> Result<TokenFiles> {
        TokenFiles::open((0..self.place.parts).map(|part| self.part(part)))
    }

    fn forget_later_parts(&self) -> Result<()> {
        let is_there = |part: &u32| self.note(*part).exists() || self.part(*part).exists();
        let later: Vec<u32> = (self.place.parts..).take_while(is_there).collect();
        // From the last on, so that a stop leaves none behind a gap, where nobody looks.
        for part in later.into_iter().rev() {
            let (note, file) = (self.note(part), self.part(part));
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

    /// Notes what is known of its sources now, where these were found to hold what they held; whether anything of it is another.
    fn now(&mut self, sources: &[Source]) -> bool {
        let mut other = false;
        for (i, (mark, source)) in self.sources.iter_mut().zip(sources).enumerate() {
            let now = Mark::of(source);
            if now.path != mark.path {
                self.report.renamed(i, &mark.path, &now.path);
            }
            other |= now != *mark;
            *mark = now;
        }
        other
    }
}

/// What may become of tokens whose sources are others now.
#[derive(Clone, Debug, Default)]
pub struct Reuse {
    /// They may be made anew.
    pub replace: bool,
    /// They cannot be gone on with: all are made at a time.
    pub in_one_part: bool,
    /// What makes their parts and notes durable, where that need not be at once: they may be lost then, and are made anew.
    pub postponed: Option<Postponed>,
}

/// Which sources of a place still hold what they held.
struct Kept {
    /// How many that were read to their end, from the first on.
    same: usize,
    /// Whether the one that was begun after them does, too, where there is one.
    begun: bool,
    /// Whether all do.
    all: bool,
    /// Whether what is another is none that may have been mended.
    refuses: bool,
    /// Which of them is standard input that was read to compare it.
    compared: Option<usize>,
}

impl Kept {
    /// Looks at `sources`; at standard input where it may be read for that.
    fn of(then: &Place, sources: &[Source], may_compare: bool) -> Self {
        let done = then.report.sources.len();
        let mut compared = None;
        let mut is_same = |i: usize| {
            let (Some(mark), Some(source)) = (then.sources.get(i), sources.get(i)) else {
                return false;
            };
            let digest = then.report.sources[i].blake3.as_str();
            if may_compare && mark.is_stdin(source) {
                compared = Some(i);
                return digest_of(source).is_ok_and(|(_, now)| now == digest);
            }
            mark.holds(source, Some(digest))
        };
        let same = (0..done).take_while(|&i| is_same(i)).count();
        let (mark, source) = (then.sources.get(done), sources.get(done));
        let begun = match mark {
            Some(mark) if same == done => {
                source.is_some_and(|source| mark.begins(source, then.read.as_ref()))
            }
            Some(_) => false,
            None => true,
        };
        let is_named = mark
            .zip(source)
            .is_some_and(|(mark, source)| mark.path == source.path.to_string_lossy());
        Self {
            same,
            begun,
            all: same == done && begun,
            refuses: same < done || !(begun || is_named),
            compared,
        }
    }

    /// Whether all that an earlier place than `then` took is as it was.
    fn holds(&self, place: &Place, then: &Place, sources: &[Source]) -> bool {
        let done = &place.report.sources;
        let digests = |place: &Place| -> Vec<String> {
            let sources = place.report.sources.iter();
            sources.map(|s| s.blake3.clone()).take(done.len()).collect()
        };
        let is_before = done.len() <= self.same && digests(place) == digests(then);
        let begun = match (place.sources.get(done.len()), sources.get(done.len())) {
            (None, _) => true,
            // Read to its end later on, or as far as then.
            (Some(mark), source) => {
                let is_theirs = then.sources.get(done.len()) == Some(mark);
                let is_same = match done.len() < then.report.sources.len() {
                    true => done.len() < self.same,
                    false => self.begun,
                };
                (is_theirs && is_same)
                    || source.is_some_and(|source| mark.begins(source, place.read.as_ref()))
            }
        };
        is_before && begun
    }
}

/// What was counted of the tokens in `path`, if they are whole, and those of `key` and `sources`. Nothing is written.
pub fn counted(path: &Path, key: &Key, sources: &[Source]) -> Result<Option<TokenizeReport>> {
    let (Some(then), Some(mut whole)) = (
        key::read::<Key>(&path.join(KEY))?,
        key::read::<Place>(&path.join(WHOLE))?,
    ) else {
        return Ok(None);
    };
    let is_theirs = then.differences(key).is_empty()
        && whole.sources.len() == sources.len()
        && Kept::of(&whole, sources, false).all;
    whole.now(sources);
    Ok(is_theirs.then_some(whole.report))
}

/// Locks the unfinished work in `folder`; the lock ends with the process.
pub fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let mut options = File::options();
    // What stands in it, if it is somebody's, stays.
    let options = options.write(true).create(true).truncate(false);
    let file = options.open(&path).map_err(cloze_shard::Error::io(&path))?;
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
