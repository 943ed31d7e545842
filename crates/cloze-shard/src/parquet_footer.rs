//! What a Parquet file says of itself, looked at before a library takes it at its word.
//!
//! The footer is Thrift in its compact protocol: lists say how long they are, and the schema is a tree. A library that makes room for as many elements as a list claims, or
//! calls itself for each level of a tree, ends the process where a stranger's file lies, and nothing can catch that.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::{Error, Result};

/// Bytes of a footer: one of a thousand columns and a thousand row groups has fewer.
const LONGEST: u64 = 64 << 20;
/// Levels of a schema, and of structures in one another.
const DEEPEST: usize = 60;
/// Elements of a schema.
const MOST_ELEMENTS: usize = 100_000;
/// Row groups: their numbers have 16 bits.
const MOST_GROUPS: usize = 32_767;

/// Refuses a file whose footer claims what it cannot hold. What is no Parquet file at all is left to the library, which says so.
pub fn check(path: &Path) -> Result<()> {
    crate::regular_file(path)?;
    check_open(&File::open(path).map_err(Error::io(path))?, path)
}

/// As [`check`], of a regular file that is open and is called `path`.
pub fn check_open(mut file: &File, path: &Path) -> Result<()> {
    let io = |e| Error::io(path)(e);
    let bad = |why: String| Error::Shard {
        path: path.into(),
        why,
    };
    let length = file.seek(SeekFrom::End(0)).map_err(io)?;
    let mut tail = [0; 8];
    let Some(end) = length.checked_sub(8) else {
        return Ok(());
    };
    file.seek(SeekFrom::Start(end)).map_err(io)?;
    file.read_exact(&mut tail).map_err(io)?;
    let [a, b, c, d, magic @ ..] = tail;
    let claimed = u64::from(u32::from_le_bytes([a, b, c, d]));
    let Some(start) = end.checked_sub(claimed).filter(|_| magic == *b"PAR1") else {
        return Ok(());
    };
    if claimed > LONGEST {
        return Err(bad(format!(
            "its footer has {claimed} bytes, at most {LONGEST} are read"
        )));
    }
    let mut footer = vec![0; claimed as usize];
    file.seek(SeekFrom::Start(start)).map_err(io)?;
    file.read_exact(&mut footer).map_err(io)?;
    let mut walk = Walk(&footer);
    walk.footer()
        .map_err(|why| bad(format!("its footer is broken: {why}")))
}

/// Types of the compact protocol.
mod kind {
    pub const STOP: u8 = 0;
    pub const BOOLS: [u8; 2] = [1, 2];
    pub const BYTE: u8 = 3;
    pub const NUMBERS: [u8; 3] = [4, 5, 6];
    pub const DOUBLE: u8 = 7;
    pub const BINARY: u8 = 8;
    pub const LISTS: [u8; 2] = [9, 10];
    pub const MAP: u8 = 11;
    pub const STRUCT: u8 = 12;
}

type Walked<T> = std::result::Result<T, String>;

/// What is left of a footer.
struct Walk<'a>(&'a [u8]);

impl Walk<'_> {
    fn take(&mut self, count: usize) -> Walked<()> {
        let rest = self.0.get(count..);
        self.0 = rest.ok_or("it is cut short")?;
        Ok(())
    }

    fn byte(&mut self) -> Walked<u8> {
        let first = self.0.first().copied();
        self.take(1)?;
        first.ok_or_else(|| "it is cut short".into())
    }

    fn varint(&mut self) -> Walked<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number is longer than 64 bits".into())
    }

    fn zigzag(&mut self) -> Walked<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A count of things of which each takes `bytes` bytes at least.
    fn count(&self, count: u64, bytes: usize) -> Walked<usize> {
        let most = self.0.len() / bytes;
        let count = usize::try_from(count).ok().filter(|&n| n <= most);
        count.ok_or_else(|| "a list claims more than there is".into())
    }

    /// The header of a list: how many, of what.
    fn list(&mut self) -> Walked<(usize, u8)> {
        let header = self.byte()?;
        let count = match header >> 4 {
            15 => self.varint()?,
            few => few.into(),
        };
        Ok((self.count(count, 1)?, header & 15))
    }

    /// Calls `each` with number and type of every field of a structure; it takes the field.
    fn fields(&mut self, mut each: impl FnMut(&mut Self, i64, u8) -> Walked<()>) -> Walked<()> {
        let mut number = 0;
        loop {
            let header = self.byte()?;
            if header == kind::STOP {
                return Ok(());
            }
            number = match header >> 4 {
                0 => self.zigzag()?,
                more => number + i64::from(more),
            };
            each(self, number, header & 15)?;
        }
    }

    /// Passes over a value. In a list, a boolean has a byte of its own.
    fn skip(&mut self, what: u8, listed: bool, depth: usize) -> Walked<()> {
        if depth > DEEPEST {
            return Err(format!("more than {DEEPEST} levels of structures"));
        }
        match what {
            what if kind::BOOLS.contains(&what) => self.take(usize::from(listed)),
            kind::BYTE => self.take(1),
            what if kind::NUMBERS.contains(&what) => self.varint().map(drop),
            kind::DOUBLE => self.take(8),
            kind::BINARY => {
                let length = self.varint()?;
                let length = self.count(length, 1)?;
                self.take(length)
            }
            what if kind::LISTS.contains(&what) => {
                let (count, of) = self.list()?;
                (0..count).try_for_each(|_| self.skip(of, true, depth + 1))
            }
            kind::MAP => {
                let count = self.varint()?;
                let count = self.count(count, 2)?;
                if count == 0 {
                    return Ok(());
                }
                let of = self.byte()?;
                (0..count).try_for_each(|_| {
                    self.skip(of >> 4, true, depth + 1)?;
                    self.skip(of & 15, true, depth + 1)
                })
            }
            kind::STRUCT => self.fields(|walk, _, what| walk.skip(what, false, depth + 1)),
            other => Err(format!("a value of type {other}, which is none")),
        }
    }

    /// `FileMetaData` (`parquet.thrift`): 2 is the schema, 4 are the row groups.
    fn footer(&mut self) -> Walked<()> {
        self.fields(
            |walk, number, what| match (number, kind::LISTS.contains(&what)) {
                (2, true) => walk.schema(),
                (4, true) => {
                    let (count, of) = walk.list()?;
                    if count > MOST_GROUPS {
                        return Err(format!("{count} row groups"));
                    }
                    (0..count).try_for_each(|_| walk.skip(of, true, 0))
                }
                _ => walk.skip(what, false, 0),
            },
        )
    }

    /// A list of `SchemaElement`s, a tree from its root on: 5 says how many children one has.
    fn schema(&mut self) -> Walked<()> {
        let (count, of) = self.list()?;
        if of != kind::STRUCT || count > MOST_ELEMENTS {
            return Err(format!("a schema of {count} elements"));
        }
        // Of each element that is above, children that are still to come.
        let mut above: Vec<i64> = Vec::new();
        for _ in 0..count {
            let mut children = 0;
            self.fields(
                |walk, number, what| match (number, kind::NUMBERS.contains(&what)) {
                    (5, true) => {
                        children = walk.zigzag()?;
                        Ok(())
                    }
                    _ => walk.skip(what, false, 0),
                },
            )?;
            if children > 0 {
                above.push(children);
                if above.len() > DEEPEST {
                    return Err(format!("a schema of more than {DEEPEST} levels"));
                }
                continue;
            }
            while let Some(left) = above.last_mut() {
                *left -= 1;
                if *left > 0 {
                    break;
                }
                above.pop();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn look(footer: &[u8]) -> std::result::Result<(), String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let length = (footer.len() as u32).to_le_bytes();
        let all = [b"PAR1", footer, &length, b"PAR1"].concat();
        file.write_all(&all).unwrap();
        check(file.path()).map_err(|e| e.to_string())
    }

    /// A number as the protocol has it.
    fn varint(mut n: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while n >= 0x80 {
            bytes.push(n as u8 | 0x80);
            n >>= 7;
        }
        bytes.push(n as u8);
        bytes
    }

    /// The schema, field 2, of elements that have so many children.
    fn schema(children: &[u64]) -> Vec<u8> {
        let mut bytes = [vec![0x29, 0xFC], varint(children.len() as u64)].concat();
        for &n in children {
            // Field 5, in zigzag.
            bytes.extend([vec![0x55], varint(2 * n), vec![0]].concat());
        }
        bytes
    }

    #[test]
    fn what_can_be_is_left_alone() {
        assert_eq!(look(&[0]), Ok(()));
        let flat = schema(&[2, 0, 0]);
        // One row group, whose every field is passed over: numbers, a double, booleans, texts, lists, maps, structures.
        let group = [
            &[0x29, 0x1C, 0x11, 0, 0x16, 0x84, 0x01, 0x17][..],
            &[0; 8],
            &[
                0x18, 2, b'a', b'b', 0x19, 0x21, 1, 0, 0x1B, 1, 0x81, 1, b'k', 1, 0x1C, 0x12, 0, 0,
            ],
        ]
        .concat();
        let whole = [&flat[..], &[0x29, 0x1C], &group, &[0]].concat();
        assert_eq!(look(&whole), Ok(()));
        for cut in 0..whole.len() {
            assert!(look(&whole[..cut]).is_err(), "{cut}");
        }
        let deep: Vec<u64> = [vec![1; DEEPEST], vec![0]].concat();
        assert_eq!(look(&[schema(&deep), vec![0]].concat()), Ok(()));
        // As wide as it is deep, in turns.
        let comb: Vec<u64> = (0..300).flat_map(|_| [1, 0]).collect();
        assert_eq!(
            look(&[schema(&[vec![300], comb].concat()), vec![0]].concat()),
            Ok(())
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let groups = |n: u64| [vec![0x49, 0xFC], varint(n)].concat();
        let deeper: Vec<u64> = vec![1; DEEPEST + 1];
        let wide = [vec![MOST_ELEMENTS as u64], vec![0; MOST_ELEMENTS]].concat();
        let many = [groups(40_000), vec![0; 40_001]].concat();
        let mut structures = vec![0x9C];
        structures.extend([0x1C; 100]);
        let mut lists = vec![0x99];
        lists.extend([0x19; 100]);
        for (footer, says) in [
            (groups(i32::MAX as u64), "claims more than there is"),
            (groups(u64::MAX), "claims more than there is"),
            (many, "40000 row groups"),
            (schema(&deeper), "schema of more than"),
            (schema(&wide), "a schema of 100001 elements"),
            (structures, "levels of structures"),
            (lists, "levels of structures"),
            (
                vec![0x18, 0xFF, 0xFF, 0xFF, 0xFF, 0x07, b'a'],
                "claims more",
            ),
            (vec![0x1B, 0xFF, 0x7F, 0x55], "claims more"),
            ([vec![0x15], vec![0xFF; 11]].concat(), "longer than 64 bits"),
            (vec![0x1D, 0], "a value of type 13"),
            (vec![0x15], "cut short"),
        ] {
            let why = look(&footer).unwrap_err();
            assert!(why.contains(says), "{why}");
        }
    }

    #[test]
    fn what_is_no_such_file_is_left_to_the_library() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let write = |bytes: &[u8]| std::fs::write(&path, bytes).unwrap();
        for bytes in [
            &b""[..],
            b"PAR1",
            b"\xff\xff\xff\xffPAR1",
            b"\0\0\0\0\0PARE",
        ] {
            write(bytes);
            assert!(check(&path).is_ok());
        }
        // A hole takes no room on the disk.
        write(b"");
        let mut file = File::options().write(true).open(&path).unwrap();
        file.seek(SeekFrom::Start(1 << 30)).unwrap();
        file.write_all(&(1u32 << 29).to_le_bytes()).unwrap();
        file.write_all(b"PAR1").unwrap();
        let why = check(&path).unwrap_err().to_string();
        assert!(why.contains("its footer has 536870912 bytes"), "{why}");
    }
}
