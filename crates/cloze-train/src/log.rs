//! The log of a run: lines of JSON, and the same as TensorBoard's event files.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use cloze_shard::atomic;

use crate::events::{self, EventLog};
use crate::record::Record;
use crate::{Error, Result};

/// Its name in the run folder.
pub const LOG: &str = "train.jsonl";

/// `train.jsonl` and `tensorboard/`.
pub struct Log {
    path: PathBuf,
    file: File,
    events: EventLog,
}

/// Seconds since 1970.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |t| t.as_secs_f64())
}

impl Log {
    /// Opens the log; lines about steps after `step`, which a resumed run makes again, are dropped. So is the evaluation after `step`, where it is
    /// still `due`. At step 0 nothing was made.
    pub fn open(run: &Path, step: u64, due: bool) -> Result<Self> {
        let path = run.join(LOG);
        let io = |e| Error::from(cloze_shard::Error::io(&path)(e));
        if path.exists() {
            let text = fs::read_to_string(&path).map_err(io)?;
            let again = |r: &Record| due && matches!(r, Record::Validation(v) if v.step == step);
            let keep = |line: &&str| {
                let record = serde_json::from_str::<Record>(line);
                step > 0 && record.is_ok_and(|r| r.step() <= step && !again(&r))
            };
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
        let events = EventLog::create(run, &events::host_name(), now(), step)?;
        Ok(Self { path, file, events })
    }

    /// Appends a line, and a point to the curve of each of its numbers.
    pub fn write(&mut self, record: &Record) -> Result<()> {
        let fail = |e: serde_json::Error| Error::Checkpoint {
            path: self.path.clone(),
            why: e.to_string(),
        };
        let line = serde_json::to_string(record).map_err(fail)?;
        let value = serde_json::to_value(record).map_err(fail)?;
        writeln!(self.file, "{line}").map_err(cloze_shard::Error::io(&self.path))?;
        let kind = value["kind"].as_str().unwrap_or_default();
        let fields = value.as_object().into_iter().flatten();
        let points: Vec<(String, f64)> = fields
            .filter(|(name, _)| *name != "step")
            .filter_map(|(name, value)| Some((format!("{kind}/{name}"), value.as_f64()?)))
            .collect();
        let points: Vec<(&str, f64)> = points.iter().map(|(t, v)| (t.as_str(), *v)).collect();
        self.events.scalars(record.step(), now(), &points)
    }

    /// Puts what was written on disk.
    pub fn sync(&self) -> Result<()> {
        self.file
            .sync_data()
            .map_err(cloze_shard::Error::io(&self.path))?;
        self.events.flush()
    }
}
