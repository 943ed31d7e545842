//! Segments of rows in files by the place of the row: appended in any order, loaded a file at a time.
//!
//! A segment is its key (the row's place and the segment's in the row), the document's hash id, the number of the sentence that it begins in, how many ids it
//! has (8, 8, 4 and 4 bytes), and the ids, all little-endian.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use cloze_shard::Ids;
use cloze_shard::schema::IdType;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::{Error, Result};

/// Bytes of a segment beside its ids.
pub const SEGMENT_BYTES: u64 = 24;
/// What a file's buffer holds at least, and at most.
const BUFFER: (usize, usize) = (4 << 10, 1 << 20);

/// The files, as they are filled.
pub struct BucketWriter {
    buckets: Buckets,
    digests: Vec<Xxh3>,
    buffers: Vec<Vec<u8>>,
    /// Bytes after which a buffer is written.
    limit: usize,
}

/// Files that are whole.
#[derive(Clone, Debug)]
pub struct Buckets {
    folder: PathBuf,
    id_type: IdType,
    /// What each holds.
    pub contents: Vec<Content>,
}

/// What binds a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    bytes: u64,
    /// xxh3-64 of the bytes: they are not waited for until they are on the disk, and so may be lost when the power is.
    digest: u64,
}

/// A segment of a row.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// The place of the row, and that of the segment in the row.
    pub key: u64,
    /// Hash id of its document.
    pub doc: i64,
    /// The sentence of the document that it begins in.
    pub sentence: u32,
    ids: &'a [u8],
    id_type: IdType,
}

impl BucketWriter {
    /// Begins `count` files in `folder`, which is emptied; `memory` bytes are held before they are written.
    pub fn create(folder: &Path, count: usize, id_type: IdType, memory: usize) -> Result<Self> {
        forget(folder)?;
        fs::create_dir_all(folder).map_err(cloze_shard::Error::io(folder))?;
        Ok(Self {
            buckets: Buckets {
                folder: folder.into(),
                id_type,
                contents: vec![Content::default(); count],
            },
            digests: vec![Xxh3::new(); count],
            buffers: vec![Vec::new(); count],
            limit: (memory / count.max(1)).clamp(BUFFER.0, BUFFER.1),
        })
    }

    /// Appends a segment to file `bucket`.
    pub fn push(
        &mut self,
        bucket: usize,
        key: u64,
        doc: i64,
        sentence: u32,
        ids: Ids<'_>,
    ) -> Result<()> {
        if self.buffers[bucket].len() >= self.limit {
            self.flush(bucket)?;
        }
        let buffer = &mut self.buffers[bucket];
        buffer.extend_from_slice(&key.to_le_bytes());
        buffer.extend_from_slice(&doc.to_le_bytes());
        buffer.extend_from_slice(&sentence.to_le_bytes());
        buffer.extend_from_slice(&(ids.len() as u32).to_le_bytes());
        match (self.buckets.id_type, ids) {
            (IdType::UInt16, Ids::U16(ids)) => {
                append(buffer, ids.iter().map(|id| id.to_le_bytes()));
            }
            // The id type was chosen so that every id of the vocabulary fits.
            (IdType::UInt16, ids) => append(buffer, ids.iter().map(|id| (id as u16).to_le_bytes())),
            (IdType::UInt32, ids) => append(buffer, ids.iter().map(u32::to_le_bytes)),
        }
        Ok(())
    }

    fn flush(&mut self, bucket: usize) -> Result<()> {
        let path = self.buckets.path(bucket);
        let buffer = &mut self.buffers[bucket];
        // Opened each time: there may be more of them than files that may be open.
        File::options()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(buffer))
            .map_err(cloze_shard::Error::io(&path))?;
        self.buckets.contents[bucket].bytes += buffer.len() as u64;
        self.digests[bucket].update(buffer);
        buffer.clear();
        Ok(())
    }

    /// Writes what is left in the buffers.
    pub fn finish(mut self) -> Result<Buckets> {
        for bucket in 0..self.buffers.len() {
            self.flush(bucket)?;
            self.buffers[bucket] = Vec::new();
            self.buckets.contents[bucket].digest = self.digests[bucket].digest();
        }
        Ok(self.buckets)
    }
}

fn append<const N: usize>(out: &mut Vec<u8>, ids: impl ExactSizeIterator<Item = [u8; N]>) {
    let begin = out.len();
    out.resize(begin + N * ids.len(), 0);
    let places = out[begin..].as_chunks_mut().0.iter_mut();
    places.zip(ids).for_each(|(place, id)| *place = id);
}

impl Buckets {
    /// Files that were finished in `folder`.
    pub fn of(folder: &Path, id_type: IdType, contents: Vec<Content>) -> Self {
        Self {
            folder: folder.into(),
            id_type,
            contents,
        }
    }

    fn path(&self, bucket: usize) -> PathBuf {
        self.folder.join(format!("{bucket:05}"))
    }

    /// Whether file `bucket` is there, by its size.
    pub fn is_there(&self, bucket: usize) -> bool {
        let length = fs::metadata(self.path(bucket)).map(|m| m.len());
        length.is_ok_and(|length| length == self.contents[bucket].bytes)
    }

    /// Removes file `bucket`.
    pub fn remove(&self, bucket: usize) -> Result<()> {
        let path = self.path(bucket);
        fs::remove_file(&path).map_err(cloze_shard::Error::io(&path))?;
        Ok(())
    }

    /// Reads file `bucket`.
    pub fn load(&self, bucket: usize) -> Result<Loaded> {
        let path = self.path(bucket);
        let bytes = fs::read(&path).map_err(cloze_shard::Error::io(&path))?;
        let damaged = |why: String| Error::Damaged {
            path: path.clone(),
            why,
        };
        if xxh3_64(&bytes) != self.contents[bucket].digest {
            return Err(damaged("it holds other bytes".into()));
        }
        let mut loaded = Loaded {
            id_type: self.id_type,
            bytes,
            order: Vec::new(),
        };
        let mut at = 0;
        while at < loaded.bytes.len() {
            let segment = loaded.segment(at);
            let (segment, end) =
                segment.ok_or_else(|| damaged(format!("a segment at byte {at} is cut short")))?;
            loaded.order.push((segment.key, at));
            at = end;
        }
        loaded.order.sort_unstable();
        Ok(loaded)
    }
}

/// Removes a folder of files, if there is one.
pub fn forget(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(cloze_shard::Error::io(folder)(e).into())
        }
        _ => Ok(()),
    }
}

/// A file in memory.
pub struct Loaded {
    id_type: IdType,
    bytes: Vec<u8>,
    /// Key and place of each segment, by key.
    order: Vec<(u64, usize)>,
}

impl Loaded {
    /// The segment that begins at byte `at`, and where it ends.
    fn segment(&self, at: usize) -> Option<(Segment<'_>, usize)> {
        let head = self
            .bytes
            .get(at..)?
            .first_chunk::<{ SEGMENT_BYTES as usize }>()?;
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| head[at + i]));
        let count = (word(16) >> 32) as usize;
        let begin = at + head.len();
        let end = begin.checked_add(count.checked_mul(self.id_type.bytes())?)?;
        let segment = Segment {
            key: word(0),
            doc: word(8) as i64,
            sentence: word(16) as u32,
            ids: self.bytes.get(begin..end)?,
            id_type: self.id_type,
        };
        Some((segment, end))
    }

    /// The segments, by key.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        let segments = self.order.iter().map(|&(_, at)| self.segment(at));
        segments.flatten().map(|(segment, _)| segment)
    }
}

impl Segment<'_> {
    /// Appends its ids.
    pub fn extend_into(&self, out: &mut Vec<u32>) {
        match self.id_type {
            IdType::UInt16 => {
                let ids = self.ids.as_chunks().0.iter();
                out.extend(ids.map(|&id| u32::from(u16::from_le_bytes(id))));
            }
            IdType::UInt32 => {
                let ids = self.ids.as_chunks().0.iter();
                out.extend(ids.map(|&id| u32::from_le_bytes(id)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// What was appended is loaded, by key, whatever the buffers hold.
        #[test]
        fn segments_come_back_in_order(
            keys in prop::collection::btree_set(0u64..10_000, 0..300), count in 1usize..9, wide: bool, memory in 0usize..200_000,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("buckets");
            let id_type = if wide { IdType::UInt32 } else { IdType::UInt16 };
            let mut writer = BucketWriter::create(&path, count, id_type, memory).unwrap();
            let ids = |key: u64| -> Vec<u32> { (0..key as u32 % 700).map(|i| i * 91 % 60_000).collect() };
            let mut mixed: Vec<u64> = keys.iter().copied().collect();
            mixed.sort_by_key(|key| key.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            for key in mixed {
                let bucket = key as usize % count;
                writer.push(bucket, key, -(key as i64), key as u32 + 7, Ids::U32(&ids(key))).unwrap();
            }
            let buckets = writer.finish().unwrap();
            let buckets = Buckets::of(&path, id_type, buckets.contents);
            for bucket in 0..count {
                prop_assert!(buckets.is_there(bucket));
                let loaded = buckets.load(bucket).unwrap();
                let wanted: Vec<u64> = keys.iter().copied().filter(|k| *k as usize % count == bucket).collect();
                prop_assert!(loaded.segments().map(|s| s.key).eq(wanted));
                for s in loaded.segments() {
                    let mut found = Vec::new();
                    s.extend_into(&mut found);
                    prop_assert_eq!((found, s.doc, s.sentence), (ids(s.key), -(s.key as i64), s.key as u32 + 7));
                }
                buckets.remove(bucket).unwrap();
                prop_assert!(!buckets.is_there(bucket));
            }
        }
    }

    #[test]
    fn a_file_that_is_another_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = BucketWriter::create(folder.path(), 1, IdType::UInt16, 0).unwrap();
        for key in 0..3 {
            writer.push(0, key, 1, 2, Ids::U16(&[1, 2, 3])).unwrap();
        }
        let mut buckets = writer.finish().unwrap();
        let path = folder.path().join("00000");
        let whole = fs::read(&path).unwrap();
        assert_eq!(whole.len(), 3 * 30);
        let refused = |buckets: &Buckets, bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            buckets.load(0).err().unwrap().to_string()
        };
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            assert!(refused(&buckets, &bytes).contains("other bytes"));
        }
        // Even one that is as it was written, and cut short.
        for length in (0..whole.len()).filter(|n| n % 30 > 0) {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(!buckets.is_there(0));
            buckets.contents[0].digest = xxh3_64(&whole[..length]);
            assert!(refused(&buckets, &whole[..length]).contains("cut short"));
        }
    }
}
