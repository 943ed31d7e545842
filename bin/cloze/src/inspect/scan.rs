//! Going through all rows of a split by all threads.

use cloze_shard::{RowRef, Split};
use rayon::prelude::*;

/// Rows that a thread takes at a time.
const PIECE: u64 = 8_192;

/// Has `row` add every row, with its number, to what `make` makes; what threads have made is merged in the order of the rows.
///
/// So what comes out is the same for any number of threads, if `merge` does not care how the rows are divided.
pub fn scan<T: Send>(
    split: &Split,
    make: impl Fn() -> T + Send + Sync,
    row: impl Fn(&mut T, u64, &RowRef<'_>) + Send + Sync,
    merge: impl Fn(T, T) -> T + Send + Sync,
) -> T {
    let pieces = split.rows().div_ceil(PIECE) as usize;
    (0..pieces)
        .into_par_iter()
        .fold(&make, |mut made, piece| {
            let first = piece as u64 * PIECE;
            for number in first..(first + PIECE).min(split.rows()) {
                row(&mut made, number, &split.row(number));
            }
            made
        })
        .reduce(&make, merge)
}

/// The second appended to the first.
pub fn appended<T>(mut first: Vec<T>, mut second: Vec<T>) -> Vec<T> {
    if first.is_empty() {
        return second;
    }
    first.append(&mut second);
    first
}
