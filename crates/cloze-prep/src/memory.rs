//! How much memory preparation may take, and who takes which share.

use std::fs;
use std::path::Path;

/// What is taken for the machine's where the system does not say.
const UNKNOWN: u64 = 4 << 30;
/// What a thread that writes has at least, beside the batches that it writes.
const THREAD: u64 = 16 << 20;

/// What is taken in any case, about: blocks of text, the vocabulary, buffers. Where 64 MiB were asked for, 117 were measured (`docs/bench/memory.md`).
const FLOOR: u64 = 110 << 20;

/// A bound of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory(u64);

impl Memory {
    /// So many bytes, or half of what the machine and its control groups have.
    pub fn new(bytes: Option<u64>) -> Self {
        Self(bytes.unwrap_or_else(|| there_is() / 2))
    }

    /// All of it.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// What to say where less was asked for than is taken in any case.
    pub fn warning(asked: Option<u64>) -> Option<String> {
        asked.filter(|&bytes| bytes < FLOOR).map(|bytes| {
            format!(
                "memory   {} MiB were asked for; some {} MiB are taken whatever is asked for",
                bytes >> 20,
                FLOOR >> 20
            )
        })
    }

    /// Whether so many bytes of files may be mapped and read in any order.
    pub fn maps(self, bytes: u64) -> bool {
        bytes <= self.0 / 2
    }

    /// For deduplication, while tokens are made.
    pub fn deduplication(self) -> usize {
        to_usize(self.0 / 2)
    }

    /// For what is sorted; four sorts, at most, go on at a time.
    pub fn sort(self) -> usize {
        to_usize(self.0 / 8)
    }

    /// For what is gathered before it is written.
    pub fn gather(self) -> usize {
        to_usize(self.0 / 8)
    }

    /// In how many portions so many bytes of files are held, one after another.
    pub fn portions(self, bytes: u64) -> u64 {
        bytes.div_ceil((self.0 / 2).max(1)).max(1)
    }

    /// How many of `threads` may write shards, where each holds `batch` bytes of rows that it writes, and the bytes of rows that each may load beside.
    pub fn writers(self, threads: usize, batch: u64) -> (usize, u64) {
        let half = self.0 / 2;
        let most = (half / (THREAD + batch)).clamp(1, threads.max(1) as u64);
        let load = (half / most).saturating_sub(batch);
        (most as usize, load.clamp(half / 8 / most, half / most) / 2)
    }
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// A number of bytes as it is typed: `1GiB`, `512 MiB`, `2GB`, `1.5g`; without a unit, bytes.
pub fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let unit = text.find(|c: char| c.is_ascii_alphabetic());
    let (number, unit) = text.split_at(unit.unwrap_or(text.len()));
    let number: f64 = number.trim().parse().map_err(|_| {
        format!("{text:?} is no size: give a number with a unit, such as 512MiB or 2GiB")
    })?;
    let unit = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1u64,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        other => return Err(format!("{other:?} is no unit: give KiB, MiB, GiB or TiB")),
    };
    let bytes = number * unit as f64;
    if !(LEAST as f64..=(1u64 << 50) as f64).contains(&bytes) {
        return Err(format!("{text} is out of range: give 1MiB to 1024TiB"));
    }
    Ok(bytes as u64)
}

/// The least that can be asked for.
const LEAST: u64 = 1 << 20;

/// What the machine has, or the process's control groups allow.
fn there_is() -> u64 {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = groups
        .lines()
        .flat_map(|line| of_group(Path::new("/sys/fs/cgroup"), line));
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
        let kilobytes = line.trim().strip_suffix("kB")?.trim();
        kilobytes.parse::<u64>().ok()?.checked_mul(1024)
    });
    limits.chain(machine).min().unwrap_or(UNKNOWN)
}

/// The limits of a control group, a line of `/proc/self/cgroup`, and of the groups above it, with `root` as where groups are.
fn of_group(root: &Path, line: &str) -> Vec<u64> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (folder, file) = match parts.next() {
        Some("") => (root.to_path_buf(), "memory.max"),
        Some("memory") => (root.join("memory"), "memory.limit_in_bytes"),
        _ => return Vec::new(),
    };
    let group = parts.next().unwrap_or_default().trim_start_matches('/');
    let own = folder.join(group);
    let above = own.ancestors().take_while(|path| path.starts_with(&folder));
    let limit = |path: &Path| {
        fs::read_to_string(path.join(file))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    above.filter_map(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_typed() {
        for (text, bytes) in [
            ("1GiB", 1 << 30),
            ("512 MiB", 512 << 20),
            ("2GB", 2_000_000_000),
            ("1.5g", 3 << 29),
            ("1048576", 1 << 20),
            ("4096KB", 4_096_000),
            ("2t", 2 << 40),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in [
            "", "GiB", "much", "1 cow", "0", "-1GiB", "1KiB", "NaN GiB", "inf GiB", "9e9TiB",
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.contains("give"), "{text}: {why}");
        }
    }

    /// The lowest limit of a process's group and those above it counts, in either version of control groups.
    #[test]
    fn limits_of_control_groups_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("a/memory.max", "5000000\n");
        write("a/b/memory.max", "max\n");
        write("memory.max", "7000000\n");
        write("memory/c/memory.limit_in_bytes", "300\n");
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        let limits = |line| of_group(folder.path(), line);
        assert_eq!(limits("0::/a/b"), [5_000_000, 7_000_000]);
        assert_eq!(limits("0::/"), [7_000_000]);
        // A container does not see the groups above it.
        assert_eq!(limits("0::/not/there"), [7_000_000]);
        assert_eq!(limits("4:memory:/c"), [300, 9_223_372_036_854_771_712]);
        assert_eq!(limits("3:cpu,cpuacct:/a"), [0; 0]);
        assert_eq!(limits(""), [0; 0]);
        assert!(there_is() > 1 << 20);
    }

    /// What is held at a time is within the bound.
    #[test]
    fn shares_are_within_the_bound() {
        for bytes in [1 << 20, 256 << 20, 1 << 30, 1 << 36] {
            let memory = Memory::new(Some(bytes));
            let held = 4 * memory.sort() + memory.gather();
            assert!(held as u64 <= bytes * 6 / 8);
            for threads in [1, 2, 7, 64] {
                for batch in [1 << 20, 32 << 20] {
                    let (writers, load) = memory.writers(threads, batch);
                    assert!((1..=threads).contains(&writers) && load > 0);
                    // What is loaded is held with an index of it.
                    let each = load * 2;
                    assert!(
                        writers as u64 * each <= bytes / 2,
                        "{bytes} {threads} {batch}"
                    );
                    if bytes >= 1 << 30 {
                        assert!(writers as u64 * (each + batch) <= bytes / 2);
                        assert!(load >= 8 << 20);
                    }
                }
            }
        }
    }
}
