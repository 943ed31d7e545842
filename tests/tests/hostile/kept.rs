//! The fuzz targets' checks, on the cases that were kept and on a few that are drawn.

use std::fs;
use std::path::Path;

use cloze_shard::random::{Key, Stage};

use crate::checks;

/// Runs `check` on every kept case of `target`, then on drawn bytes: `drawn` times, up to `most` of them.
fn hold(target: &str, check: fn(&[u8]), drawn: u64, most: u64) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/kept");
    let cases = fs::read_dir(folder.join(target)).into_iter().flatten();
    for case in cases {
        let path = case.unwrap().path();
        println!("{}", path.display());
        check(&fs::read(path).unwrap());
    }
    for number in 0..drawn {
        println!("drawn {number}");
        let mut draws = Key::new(number, Stage::Sample).stream(0, 0);
        let length = draws.below(most);
        let bytes: Vec<u8> = (0..length).map(|_| draws.next_u32() as u8).collect();
        check(&bytes);
    }
}

#[test]
fn shards() {
    hold("shard", checks::shard::check, 20, 2_000);
}

#[test]
fn manifests() {
    hold("manifest", checks::manifest::check, 60, 60);
}

#[test]
fn inputs() {
    hold("input", checks::input::check, 400, 300);
}

#[test]
fn sentences() {
    hold("sentences", checks::sentences::check, 400, 300);
}

#[test]
fn pairing() {
    hold("pairing", checks::pairing::check, 200, 300);
}

#[test]
fn tokens() {
    hold("tokens", checks::tokens::check, 200, 300);
}
