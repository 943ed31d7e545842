//! TensorBoard event files.
//!
//! A file is a chain of TFRecord frames (the length as a little-endian u64, its checksum, the data, their checksum), each of
//! which holds one `tensorflow.Event` as a protocol buffer: first the version of the format, then the start of the session,
//! then scalars. TensorBoard reads all files of a folder as one curve, in the order of their names.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use cloze_shard::Error as ShardError;

use crate::Result;

/// The folder in the run folder.
pub const FOLDER: &str = "tensorboard";

/// What all names begin with; TensorBoard reads no others.
const PREFIX: &str = "events.out.tfevents.";

/// An event file that is being written.
#[derive(Debug)]
pub struct EventLog {
    path: PathBuf,
    file: File,
}

impl EventLog {
    /// Makes `RUN/tensorboard/events.out.tfevents.{seconds}.{host}.{step}` for a run that has made `step` steps: 0, or those of
    /// the checkpoint that it goes on from. Points of earlier files about steps after `step`, which a resumed run makes
    /// again, are dropped by TensorBoard; where `step` is 0 all of them are.
    ///
    /// `wall_time` is in seconds since 1970.
    pub fn create(run: &Path, host: &str, wall_time: f64, step: u64) -> Result<Self> {
        let folder = run.join(FOLDER);
        fs::create_dir_all(&folder).map_err(ShardError::io(&folder))?;
        // After the names that are there, whatever became of the clock: a file read too early would drop nothing.
        let seconds = match latest(&folder)? {
            Some(latest) => (wall_time as u64).max(latest.saturating_add(1)),
            None => wall_time as u64,
        };
        let path = folder.join(format!("{PREFIX}{seconds:010}.{}.{step}", plain(host)));
        let file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .open(&path)
            .map_err(ShardError::io(&path))?;
        let mut log = Self { path, file };
        log.write(&event(wall_time, 0, FILE_VERSION, b"brain.Event:2"))?;
        // Step 0 is evaluated by a run that begins, not by one that goes on.
        let dropped_from = if step == 0 { 0 } else { step + 1 };
        let mut session = Vec::new();
        put_varint(&mut session, key(1, VARINT));
        put_varint(&mut session, SESSION_START);
        log.write(&event(wall_time, dropped_from, SESSION_LOG, &session))?;
        Ok(log)
    }

    /// Writes a point of each curve of `values`, by tag. They are stored in single precision.
    pub fn scalars(&mut self, step: u64, wall_time: f64, values: &[(&str, f64)]) -> Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in values {
            let mut point = Vec::new();
            put_bytes(&mut point, 1, tag.as_bytes());
            put_varint(&mut point, key(2, FIXED32));
            point.extend((*value as f32).to_le_bytes());
            put_bytes(&mut summary, 1, &point);
        }
        self.write(&event(wall_time, step, SUMMARY, &summary))
    }

    /// Puts what was written on disk.
    pub fn flush(&self) -> Result<()> {
        Ok(self.file.sync_data().map_err(ShardError::io(&self.path))?)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a frame, in one write: a reader sees it at once.
    fn write(&mut self, data: &[u8]) -> Result<()> {
        Ok(self
            .file
            .write_all(&frame(data))
            .map_err(ShardError::io(&self.path))?)
    }
}

/// The name of this computer, or `localhost`.
#[must_use]
pub fn host_name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .or_else(|| std::env::var("COMPUTERNAME").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".into())
}

/// `host` without what a file name cannot hold, or what would part it anew.
fn plain(host: &str) -> String {
    let keep = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    host.chars()
        .take(64)
        .map(|c| if keep(c) { c } else { '-' })
        .collect()
}

/// The seconds in the last name of the folder.
fn latest(folder: &Path) -> Result<Option<u64>> {
    let mut latest = None;
    for entry in fs::read_dir(folder).map_err(ShardError::io(folder))? {
        let name = entry.map_err(ShardError::io(folder))?.file_name();
        let seconds = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split('.').next()?.parse().ok());
        latest = latest.max(seconds);
    }
    Ok(latest)
}

// Fields of `tensorflow.Event` and what they hold.
const WALL_TIME: u64 = 1;
const STEP: u64 = 2;
const FILE_VERSION: u64 = 3;
const SUMMARY: u64 = 5;
const SESSION_LOG: u64 = 7;
/// `SessionLog.START`.
const SESSION_START: u64 = 1;

// Wire types of protocol buffers.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// An `Event` with `what` in `field`.
fn event(wall_time: f64, step: u64, field: u64, what: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(what.len() + 32);
    put_varint(&mut out, key(WALL_TIME, FIXED64));
    out.extend(wall_time.to_le_bytes());
    put_varint(&mut out, key(STEP, VARINT));
    put_varint(&mut out, step);
    put_bytes(&mut out, field, what);
    out
}

/// What goes before a field.
const fn key(field: u64, wire_type: u64) -> u64 {
    field << 3 | wire_type
}

/// A string, or a message, in a field.
fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, key(field, BYTES));
    put_varint(out, bytes.len() as u64);
    out.extend(bytes);
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A TFRecord.
fn frame(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(data.len() + 16);
    out.extend(length);
    out.extend(masked(crc32c(&length)).to_le_bytes());
    out.extend(data);
    out.extend(masked(crc32c(data)).to_le_bytes());
    out
}

/// A checksum as TFRecord stores it.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// CRC-32C (Castagnoli).
fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, &byte| {
        CRC32C[usize::from(crc as u8 ^ byte)] ^ (crc >> 8)
    })
}

/// What each value of a byte does to the checksum.
const CRC32C: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests;
