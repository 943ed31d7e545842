//! Datasets of which bytes, or values, are changed by chance.
//!
//! Changes are drawn by number, so a failure is found again: it names its number, and `CLOZE_HOSTILE_FROM=NUMBER` begins there.
//! `CLOZE_HOSTILE_SECONDS` goes on for so long; without it a few hundred changes of each kind are made.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use cloze_shard::atomic;
use cloze_shard::random::{Key, Stage, Stream};
use cloze_tests::Place;
use serde_json::Value;

use crate::checks::place::read;

/// Numbers that offsets and lengths are rarely tried with.
const ODD: [u64; 12] = [
    0,
    1,
    7,
    0x7F,
    0xFFFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    1 << 32,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// Calls `change` with the draws of a number, for as long as asked for.
pub fn changes(few: u64, mut change: impl FnMut(&mut Stream)) {
    let said = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let from = said("CLOZE_HOSTILE_FROM").unwrap_or(0);
    let seconds = said("CLOZE_HOSTILE_SECONDS").map(Duration::from_secs);
    let begun = Instant::now();
    for number in from.. {
        match seconds {
            Some(seconds) if begun.elapsed() > seconds => {
                println!("{} changes", number - from);
                return;
            }
            None if number - from >= few => return,
            _ => {}
        }
        let mut draws = Key::new(number, Stage::Sample).stream(0, 0);
        let done = catch_unwind(AssertUnwindSafe(|| change(&mut draws)));
        assert!(done.is_ok(), "change {number}");
    }
}

/// Changes bytes in one to four places: bits, numbers, what is cut off, what stands twice.
pub fn damage(bytes: &mut Vec<u8>, draws: &mut Stream) {
    for _ in 0..=draws.below(4) {
        let n = bytes.len() as u64;
        if n < 16 {
            return;
        }
        // The beginning and the end hold what says where all else is.
        let at = match draws.below(3) {
            0 => draws.below(n.min(1_200)),
            1 => n - 1 - draws.below(n.min(3_000)),
            _ => draws.below(n),
        } as usize;
        let odd = ODD[draws.below(ODD.len() as u64) as usize];
        match draws.below(7) {
            0 => bytes[at] ^= 1 << draws.below(8),
            1 => bytes[at] = draws.next_u32() as u8,
            2 | 3 => {
                let place = at & !3;
                let value = (odd as u32).to_le_bytes();
                let end = (place + 4).min(bytes.len());
                bytes[place..end].copy_from_slice(&value[..end - place]);
            }
            4 => {
                let place = at & !7;
                let value = odd.to_le_bytes();
                let end = (place + 8).min(bytes.len());
                bytes[place..end].copy_from_slice(&value[..end - place]);
            }
            5 => bytes.truncate(at),
            _ => {
                let from = draws.below(n) as usize;
                let length = (draws.below(256) as usize).min(bytes.len() - from.max(at));
                bytes.copy_within(from..from + length, at);
            }
        }
    }
}

#[test]
fn shards_whose_bytes_lie() {
    let place = Place::new();
    for (name, options) in [
        ("static", "--masking static --seq-len 64"),
        ("dynamic", "--seq-len 32 --id-field id --meta-field id"),
    ] {
        place.prepare("corpus.jsonl", name, options);
        let data = place.path(name);
        let manifest: Value =
            serde_json::from_slice(&fs::read(data.join("manifest.json")).unwrap()).unwrap();
        assert!(read(&data));
        let files = ["train/part-00000.arrow", "documents.arrow"];
        let whole = files.map(|file| fs::read(data.join(file)).unwrap());
        let (mut opened, mut refused) = (0, 0);
        changes(160, |draws| {
            let which = usize::from(draws.below(4) == 0);
            let mut bytes = whole[which].clone();
            damage(&mut bytes, draws);
            fs::write(data.join(files[which]), &bytes).unwrap();
            // A stranger's manifest says what his files are.
            let mut told = manifest.clone();
            let record = match which {
                0 => &mut told["splits"]["train"]["shards"][0],
                _ => &mut told["documents"],
            };
            record["bytes"] = bytes.len().into();
            let digest = atomic::digest(&data.join(files[which])).unwrap();
            record["blake3"] = digest.blake3.into();
            fs::write(data.join("manifest.json"), told.to_string()).unwrap();
            match read(&data) {
                true => opened += 1,
                false => refused += 1,
            }
            fs::write(data.join(files[which]), &whole[which]).unwrap();
        });
        // Else either the changes or the checks are worth nothing.
        assert!(opened > 10 && refused > 10, "{name}: {opened} {refused}");
    }
}
