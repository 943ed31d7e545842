//! Training by several processes, each on its part of every step's batch.
//!
//! [`World`] says who a process is, [`join`] brings the processes together, [`Share`] is what one of them does of a step, and [`Collective`] sums what
//! they found. All processes hold all parameters and moments, make the same optimizer step from the same bits, and so stay equal. Rank 0 alone
//! writes: log, checkpoints, what a person sees. An evaluation is shared like a step, and its sums are added up ([`reduce_sums`]).
//!
//! A rank that fails makes all stop with an error, by [`leave`] at the end of its work or by [`agree`] where all must take the same way.

mod beside;
mod collective;
#[cfg(any(feature = "cuda", test))]
mod gpus;
mod launch;
#[cfg(feature = "cuda")]
mod nccl;
mod share;
mod tcp;
mod terms;

use std::hash::{DefaultHasher, Hasher};

pub use beside::summed_beside;
pub use collective::{Alone, Collective, DeviceCollective, Health, join};
pub use launch::{Address, World};
#[cfg(feature = "cuda")]
pub use nccl::with_nccl;
pub use share::{Share, Span, share};
pub use tcp::{Tcp, Timeouts};
pub use terms::Terms;

use crate::engine::EvalSums;
use crate::{Error, Result};

/// Bytes of a message about a failure that other ranks are told.
const TOLD: usize = 1_024;

/// Whether all ranks succeeded: `result` where they did, otherwise an error on each. To be called by all.
pub fn agree<T>(collective: &mut dyn Collective, result: Result<T>) -> Result<T> {
    let rank = collective.rank();
    let mut failed = vec![0.0; collective.world_size()];
    failed[rank] = f64::from(u8::from(result.is_err()));
    if let Err(lost) = collective.all_reduce_f64(&mut failed) {
        // One's own error comes first: it may be why.
        return result.and(Err(lost));
    }
    let Some(first) = failed.iter().position(|&f| f > 0.0) else {
        return result;
    };
    let mut told = vec![0; TOLD];
    if let (true, Err(e)) = (rank == first, &result) {
        let text = e.to_string();
        let most = text.floor_char_boundary(TOLD);
        told[..most].copy_from_slice(&text.as_bytes()[..most]);
    }
    if let Err(lost) = collective.broadcast(&mut told, first) {
        return result.and(Err(lost));
    }
    let text = String::from_utf8_lossy(&told);
    let why = format!("failed: {}", text.trim_end_matches('\0'));
    result.and(Err(Error::Rank { rank: first, why }))
}

/// Ends a rank's work: waits for the others where it went well, and makes them stop where it did not.
pub fn leave<T>(mut collective: Box<dyn Collective>, result: Result<T>) -> Result<T> {
    match result {
        Ok(value) => collective.barrier().map(|()| value),
        Err(e) => {
            collective.abort(&e);
            Err(e)
        }
    }
}

/// Whether `what` is the same on every rank, bit for bit. To be called by all.
pub fn same(collective: &mut dyn Collective, what: &str, fingerprint: u64) -> Result<()> {
    let mut bytes = fingerprint.to_le_bytes();
    collective.broadcast(&mut bytes, 0)?;
    let first = u64::from_le_bytes(bytes);
    let own = if first == fingerprint {
        Ok(())
    } else {
        let rank = collective.rank();
        let why = format!("has other {what} than rank 0: {fingerprint:016x}, not {first:016x}");
        Err(Error::Rank { rank, why })
    };
    agree(collective, own)
}

/// Tells values apart by their bits, within one build of the executable.
#[must_use]
pub fn fingerprint(values: &[f32]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for pair in values.chunks(2) {
        let high = pair.get(1).map_or(0, |v| v.to_bits());
        hasher.write_u64(u64::from(pair[0].to_bits()) | u64::from(high) << 32);
    }
    hasher.write_usize(values.len());
    hasher.finish()
}

/// What all ranks have seen of an evaluation. Counts below 2⁵³ are exact.
pub fn reduce_sums(collective: &mut dyn Collective, sums: EvalSums) -> Result<EvalSums> {
    let mut values = [
        sums.mlm_loss,
        sums.mlm_correct as f64,
        sums.masked_tokens as f64,
        sums.nsp_loss,
        sums.nsp_correct as f64,
        sums.labelled_rows as f64,
        sums.rows as f64,
        sums.tokens as f64,
    ];
    collective.all_reduce_f64(&mut values)?;
    let [
        mlm_loss,
        mlm_correct,
        masked_tokens,
        nsp_loss,
        nsp_correct,
        labelled_rows,
        rows,
        tokens,
    ] = values;
    Ok(EvalSums {
        mlm_loss,
        mlm_correct: mlm_correct as u64,
        masked_tokens: masked_tokens as u64,
        nsp_loss,
        nsp_correct: nsp_correct as u64,
        labelled_rows: labelled_rows as u64,
        rows: rows as u64,
        tokens: tokens as u64,
    })
}
