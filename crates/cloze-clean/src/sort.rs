//! Sorting more records than memory holds: runs are sorted in memory, spilled to files, and merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use rayon::slice::ParallelSliceMut;

use crate::{Error, Result};

/// What is sorted: `N` words, the first counts most.
pub type Record<const N: usize = 3> = [u64; N];

/// Runs that are merged at once: each has a file and a buffer.
const FAN_IN: usize = 64;
const BUFFER: usize = 64 << 10;

/// Takes records in any order.
pub struct Sorter<const N: usize = 3> {
    folder: PathBuf,
    capacity: usize,
    held: Vec<Record<N>>,
    /// Sorted files, each with how often its records were merged.
    runs: Vec<(u32, File)>,
}

/// Gives records in order.
pub struct Sorted<const N: usize = 3> {
    folder: PathBuf,
    held: std::vec::IntoIter<Record<N>>,
    merge: Option<Merge<N>>,
}

impl<const N: usize> Sorter<N> {
    /// Keeps up to `memory` bytes of records; beyond, it makes nameless files in `folder`.
    #[must_use]
    pub fn new(folder: &Path, memory: usize) -> Self {
        Self {
            folder: folder.into(),
            capacity: (memory / size_of::<Record<N>>()).max(2),
            held: Vec::new(),
            runs: Vec::new(),
        }
    }

    /// Takes a record.
    pub fn push(&mut self, record: Record<N>) -> Result<()> {
        if self.held.len() == self.capacity {
            self.spill()?;
        }
        if self.held.len() == self.held.capacity() {
            // Grown by doubling, but never beyond what it may have.
            let more = self
                .held
                .len()
                .clamp(1024.min(self.capacity), self.capacity);
            let more = more.min(self.capacity - self.held.len());
            self.held.reserve_exact(more);
        }
        self.held.push(record);
        Ok(())
    }

    fn spill(&mut self) -> Result<()> {
        self.held.par_sort_unstable();
        let mut out = Run::create(&self.folder)?;
        for record in self.held.drain(..) {
            out.push(record)?;
        }
        self.runs.push((0, out.finish()?));
        // Runs of one age are merged when they are many: every record is rewritten a logarithm of times.
        while let Some(&(age, _)) = self.runs.last() {
            let same = self.runs.iter().rev().take_while(|r| r.0 == age).count();
            if same < FAN_IN {
                break;
            }
            let runs = self.runs.split_off(self.runs.len() - same);
            let mut merge = Merge::<N>::new(runs, &self.folder)?;
            let mut out = Run::create(&self.folder)?;
            while let Some(record) = merge.next(&self.folder)? {
                out.push(record)?;
            }
            self.runs.push((age + 1, out.finish()?));
        }
        Ok(())
    }

    /// How many files were spilled and are to be merged.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    /// All records, in order.
    pub fn finish(mut self) -> Result<Sorted<N>> {
        let merge = if self.runs.is_empty() {
            self.held.par_sort_unstable();
            None
        } else {
            self.spill()?;
            self.held = Vec::new();
            Some(Merge::new(self.runs, &self.folder)?)
        };
        Ok(Sorted {
            folder: self.folder,
            held: self.held.into_iter(),
            merge,
        })
    }
}

impl<const N: usize> Sorted<N> {
    /// The next record.
    // Not an `Iterator`: an error must not be passed over by an adapter.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Record<N>>> {
        match &mut self.merge {
            None => Ok(self.held.next()),
            Some(merge) => merge.next(&self.folder),
        }
    }
}

/// A file of records that is written.
struct Run {
    out: BufWriter<File>,
    folder: PathBuf,
}

impl Run {
    fn create(folder: &Path) -> Result<Self> {
        let file = tempfile::tempfile_in(folder).map_err(Error::io(folder))?;
        Ok(Self {
            out: BufWriter::with_capacity(BUFFER, file),
            folder: folder.into(),
        })
    }

    fn push<const N: usize>(&mut self, record: Record<N>) -> Result<()> {
        let words = record.map(u64::to_le_bytes);
        let bytes = words.as_flattened();
        self.out.write_all(bytes).map_err(Error::io(&self.folder))
    }

    fn finish(self) -> Result<File> {
        let folder = self.folder;
        let mut file = self
            .out
            .into_inner()
            .map_err(|e| Error::io(&folder)(e.into_error()))?;
        file.rewind().map_err(Error::io(&folder))?;
        Ok(file)
    }
}

/// Files of sorted records as one.
struct Merge<const N: usize> {
    files: Vec<(BufReader<File>, u64)>,
    next: BinaryHeap<Reverse<(Record<N>, usize)>>,
}

impl<const N: usize> Merge<N> {
    fn new(runs: Vec<(u32, File)>, folder: &Path) -> Result<Self> {
        let mut merge = Self {
            files: Vec::new(),
            next: BinaryHeap::new(),
        };
        for (number, (_, file)) in runs.into_iter().enumerate() {
            let bytes = file.metadata().map_err(Error::io(folder))?.len();
            let left = bytes / size_of::<Record<N>>() as u64;
            let file = BufReader::with_capacity(BUFFER, file);
            merge.files.push((file, left));
            if let Some(record) = merge.read(number, folder)? {
                merge.next.push(Reverse((record, number)));
            }
        }
        Ok(merge)
    }

    /// The next record of a file.
    fn read(&mut self, number: usize, folder: &Path) -> Result<Option<Record<N>>> {
        let (file, left) = &mut self.files[number];
        if *left == 0 {
            return Ok(None);
        }
        *left -= 1;
        let mut words = [[0; 8]; N];
        let bytes = words.as_flattened_mut();
        file.read_exact(bytes).map_err(Error::io(folder))?;
        Ok(Some(words.map(u64::from_le_bytes)))
    }

    fn next(&mut self, folder: &Path) -> Result<Option<Record<N>>> {
        let Some(&Reverse((record, number))) = self.next.peek() else {
            return Ok(None);
        };
        let after = self.read(number, folder)?;
        // The first place is taken by what comes after it in its file: cheaper than to leave and to join.
        if let Some(mut first) = self.next.peek_mut() {
            match after {
                Some(after) => *first = Reverse((after, number)),
                None => drop(PeekMut::pop(first)),
            }
        }
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RECORD_BYTES: usize = size_of::<Record>();

    fn all(mut sorted: Sorted) -> Vec<Record> {
        let mut out = Vec::new();
        while let Some(record) = sorted.next().unwrap() {
            out.push(record);
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn as_sorted_in_memory(records in proptest::collection::vec(any::<[u8; 3]>(), 0..600), capacity in 2usize..700) {
            let folder = tempfile::tempdir().unwrap();
            let mut sorter = Sorter::new(folder.path(), capacity * RECORD_BYTES);
            let mut expected: Vec<Record> = records.iter().map(|r| r.map(|w| u64::from(w) << 56 | 1)).collect();
            for &record in &expected {
                sorter.push(record).unwrap();
            }
            prop_assert_eq!(sorter.runs() == 0, expected.len() <= capacity);
            // A capacity of 2 makes 300 runs, so those that are merged are merged again.
            prop_assert!(sorter.runs() < 2 * FAN_IN);
            expected.sort_unstable();
            prop_assert_eq!(all(sorter.finish().unwrap()), expected);
        }
    }

    #[test]
    fn memory_is_bounded_and_no_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::new(folder.path(), 1000 * RECORD_BYTES);
        for i in 0..100_000u64 {
            sorter.push([i.wrapping_mul(0x9e37_79b9), i, 0]).unwrap();
            assert!(sorter.held.capacity() <= 1000);
        }
        assert!(sorter.runs() > 30 && sorter.runs() < FAN_IN + 2);
        let sorted = all(sorter.finish().unwrap());
        assert_eq!(sorted.len(), 100_000);
        assert!(sorted.is_sorted());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
