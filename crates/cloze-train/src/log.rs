//! The log of a run.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use cloze_shard::atomic;

use crate::record::Record;
use crate::{Error, Result};

/// Its name in the run folder.
pub const LOG: &str = "train.jsonl";

/// `train.jsonl`.
pub struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens the log; lines about steps after `step`, which a resumed run makes again, are dropped. At step 0 nothing was made.
    pub fn open(run: &Path, step: u64) -> Result<Self> {
        let path = run.join(LOG);
        let io = |e| Error::from(cloze_shard::Error::io(&path)(e));
        if path.exists() {
            let text = fs::read_to_string(&path).map_err(io)?;
            let keep =
                |line: &&str| serde_json::from_str::<Record>(line).is_ok_and(|r| r.step() <= step);
            let keep = |line: &&str| step > 0 && keep(line);
            let kept: String = text
                .lines()
                .filter(keep)
                .flat_map(|line| [line, "\n"])
                .collect();
            atomic::write(&path, kept.as_bytes())?;
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(io)?;
        Ok(Self { path, file })
    }

    /// Appends a line.
    pub fn write(&mut self, record: &Record) -> Result<()> {
        let path = self.path.clone();
        let line = serde_json::to_string(record).map_err(|e| Error::Checkpoint {
            path: path.clone(),
            why: e.to_string(),
        })?;
        Ok(writeln!(self.file, "{line}").map_err(cloze_shard::Error::io(&path))?)
    }

    /// Puts what was written on disk.
    pub fn sync(&self) -> Result<()> {
        Ok(self
            .file
            .sync_data()
            .map_err(cloze_shard::Error::io(&self.path))?)
    }
}
