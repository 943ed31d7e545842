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
mod tests {
    use super::*;

    /// An event, read back.
    #[derive(Debug, Default, PartialEq)]
    struct Event {
        wall_time: f64,
        step: u64,
        version: Option<String>,
        session: Option<u64>,
        values: Vec<(String, f32)>,
    }

    enum Field<'a> {
        Number(u64),
        Bytes(&'a [u8]),
    }

    impl Field<'_> {
        fn number(&self) -> u64 {
            match self {
                Self::Number(number) => *number,
                Self::Bytes(_) => panic!("bytes"),
            }
        }

        fn bytes(&self) -> &[u8] {
            match self {
                Self::Number(_) => panic!("a number"),
                Self::Bytes(bytes) => bytes,
            }
        }

        fn text(&self) -> String {
            String::from_utf8(self.bytes().to_vec()).unwrap()
        }
    }

    fn take<'a>(data: &mut &'a [u8], count: usize) -> &'a [u8] {
        let (head, tail) = data.split_at(count);
        *data = tail;
        head
    }

    fn number(bytes: &[u8]) -> u64 {
        bytes
            .iter()
            .rev()
            .fold(0, |number, &byte| number << 8 | u64::from(byte))
    }

    fn varint(data: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = take(data, 1)[0];
            value |= u64::from(byte & 0x7F) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    }

    fn fields(mut data: &[u8]) -> Vec<(u64, Field<'_>)> {
        let mut fields = Vec::new();
        while !data.is_empty() {
            let key = varint(&mut data);
            let field = match key & 7 {
                0 => Field::Number(varint(&mut data)),
                1 => Field::Number(number(take(&mut data, 8))),
                2 => {
                    let length = varint(&mut data) as usize;
                    Field::Bytes(take(&mut data, length))
                }
                5 => Field::Number(number(take(&mut data, 4))),
                other => panic!("wire type {other}"),
            };
            fields.push((key >> 3, field));
        }
        fields
    }

    fn decode(data: &[u8]) -> Event {
        let mut event = Event::default();
        for (name, field) in fields(data) {
            match name {
                1 => event.wall_time = f64::from_bits(field.number()),
                2 => event.step = field.number(),
                3 => event.version = Some(field.text()),
                5 => {
                    for (name, value) in fields(field.bytes()) {
                        assert_eq!(name, 1);
                        let value = fields(value.bytes());
                        assert_eq!((value[0].0, value[1].0, value.len()), (1, 2, 2));
                        let simple = f32::from_bits(value[1].1.number() as u32);
                        event.values.push((value[0].1.text(), simple));
                    }
                }
                7 => {
                    let session = fields(field.bytes());
                    assert_eq!((session[0].0, session.len()), (1, 1));
                    event.session = Some(session[0].1.number());
                }
                other => panic!("field {other}"),
            }
        }
        event
    }

    /// A bit at a time, undoing the mask: nothing in common with what is tested.
    fn check(data: &[u8], stored: &[u8]) {
        let mut crc = u32::MAX;
        for &byte in data {
            for bit in 0..8 {
                let odd = (crc ^ u32::from(byte >> bit)) & 1;
                crc = (crc >> 1) ^ (odd * 0x82F6_3B78);
            }
        }
        let rotated = (number(stored) as u32).wrapping_sub(0xA282_EAD8);
        assert_eq!(rotated >> 17 | rotated << 15, !crc);
    }

    fn read(path: &Path) -> Vec<Event> {
        let file = fs::read(path).unwrap();
        let (mut rest, mut events) = (&file[..], Vec::new());
        while !rest.is_empty() {
            let length = take(&mut rest, 8);
            check(length, take(&mut rest, 4));
            let data = take(&mut rest, number(length) as usize);
            check(data, take(&mut rest, 4));
            events.push(decode(data));
        }
        events
    }

    fn name(log: &EventLog) -> &str {
        log.path().file_name().unwrap().to_str().unwrap()
    }

    #[test]
    fn crc32c_of_known_vectors() {
        // RFC 3720, B.4, and the usual check value.
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46DD_794E);
        assert_eq!(crc32c(&[]), 0);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let run = tempfile::tempdir().unwrap();
        let mut log = EventLog::create(run.path(), "a.b/c", 1_700_000_000.75, 0).unwrap();
        assert_eq!(name(&log), "events.out.tfevents.1700000000.a-b-c.0");
        assert_eq!(log.path().parent().unwrap(), run.path().join(FOLDER));
        let long = "ä".repeat(100);
        let values = [("train/loss", 0.1), (&long, -1e300), ("", 0.0)];
        log.scalars(1, 1_700_000_001.5, &values).unwrap();
        log.scalars(1 << 40, 1_700_000_002.5, &[]).unwrap();
        log.flush().unwrap();
        let expected = [
            Event {
                wall_time: 1_700_000_000.75,
                version: Some("brain.Event:2".into()),
                ..Event::default()
            },
            Event {
                wall_time: 1_700_000_000.75,
                session: Some(1),
                ..Event::default()
            },
            Event {
                wall_time: 1_700_000_001.5,
                step: 1,
                values: vec![
                    ("train/loss".into(), 0.1),
                    (long, f32::NEG_INFINITY),
                    (String::new(), 0.0),
                ],
                ..Event::default()
            },
            Event {
                wall_time: 1_700_000_002.5,
                step: 1 << 40,
                ..Event::default()
            },
        ];
        assert_eq!(read(log.path()), expected);
    }

    #[test]
    fn a_resumed_run_goes_on_in_a_later_file() {
        let run = tempfile::tempdir().unwrap();
        let first = EventLog::create(run.path(), "h", 5e9, 0).unwrap();
        fs::write(run.path().join(FOLDER).join("notes.9999999999"), "").unwrap();
        // In the same second, and with a clock that went back.
        for (wall_time, seconds) in [(5e9, 5_000_000_001_u64), (7.0, 5_000_000_002)] {
            let resumed = EventLog::create(run.path(), "h", wall_time, 20).unwrap();
            assert_eq!(name(&resumed), format!("{PREFIX}{seconds}.h.20"));
            let events = read(resumed.path());
            // Step 20 stays; 21 is made again.
            assert_eq!((events[1].session, events[1].step), (Some(1), 21));
        }
        assert_eq!(read(first.path())[1].step, 0);
    }

    #[test]
    fn an_early_clock_gives_names_in_order() {
        let run = tempfile::tempdir().unwrap();
        let log = EventLog::create(run.path(), "h", 7.0, 0).unwrap();
        assert_eq!(name(&log), "events.out.tfevents.0000000007.h.0");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let run = tempfile::tempdir().unwrap();
        fs::write(run.path().join(FOLDER), "a file").unwrap();
        let error = EventLog::create(run.path(), "h", 7.0, 0).unwrap_err();
        assert!(error.to_string().contains(FOLDER), "{error}");
    }
}
