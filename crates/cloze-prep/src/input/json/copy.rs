//! The text of a string, copied in vectors up to what must be looked at. What it gives is what [`Scan::string`] gives.

use super::scan::Scan;

/// Appends what is left of a string, as [`Scan::string`] does.
pub(super) fn string(scan: &mut Scan<'_>, out: &mut Vec<u8>) -> Option<()> {
    #[cfg(target_arch = "x86_64")]
    {
        if has_avx512() {
            // SAFETY: the processor has these instructions.
            return unsafe { avx512::string(scan, out) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            return unsafe { avx2::string(scan, out) };
        }
    }
    scan.string(out)
}

/// What reads a string.
#[cfg(test)]
type Way = fn(&mut Scan<'_>, &mut Vec<u8>) -> Option<()>;

/// [`string`] with each set of instructions that the processor has.
#[cfg(test)]
pub(super) fn ways() -> Vec<Way> {
    #[allow(unused_mut, reason = "other processors have one way")]
    let mut ways: Vec<Way> = vec![string];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has these instructions.
            ways.push(|scan, out| unsafe { avx2::string(scan, out) });
        }
        if has_avx512() {
            // SAFETY: as above.
            ways.push(|scan, out| unsafe { avx512::string(scan, out) });
        }
    }
    ways
}

/// Bytes that are written behind what a text has, at most.
pub(super) const BEYOND: usize = 64;

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx512vbmi2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("popcnt")
}

/// A block at a time, with all that is escaped in it but numbers of characters.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::{
        _mm512_cmpeq_epi8_mask, _mm512_cmple_epu8_mask, _mm512_loadu_si512, _mm512_mask_mov_epi8,
        _mm512_maskz_compress_epi8, _mm512_maskz_loadu_epi8, _mm512_movepi8_mask,
        _mm512_permutex2var_epi8, _mm512_set1_epi8, _mm512_storeu_si512, _mm512_testn_epi8_mask,
    };

    use super::super::scan::{Out, Scan};
    use super::BEYOND;

    /// Bytes of a vector.
    const BLOCK: usize = BEYOND;

    /// What a byte of ASCII stands for behind a backslash; nothing where it is none of these, nor for `u`.
    static MEANT: [u8; 128] = {
        let mut meant = [0; 128];
        let pairs = *b"n\nt\tr\rb\x08f\x0c\"\"\\\\//";
        let mut i = 0;
        while i < pairs.len() {
            meant[pairs[i] as usize] = pairs[i + 1];
            i += 2;
        }
        meant
    };

    /// The bits below `at`.
    fn below(at: u32) -> u64 {
        u64::MAX.checked_shl(at).map_or(u64::MAX, |above| !above)
    }

    /// # Safety
    /// The processor has AVX-512 F, BW, VBMI and VBMI2, and what came before it.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,bmi1,bmi2,popcnt")]
    pub(super) unsafe fn string(scan: &mut Scan<'_>, out: &mut Vec<u8>) -> Option<()> {
        let all = |byte: u8| _mm512_set1_epi8(byte.cast_signed());
        let (low, high) = MEANT.split_at(BLOCK);
        // SAFETY: each half is 64 bytes.
        let meant = unsafe {
            let load = |half: &[u8]| _mm512_loadu_si512(half.as_ptr().cast());
            [load(low), load(high)]
        };
        loop {
            let rest = &scan.line.as_bytes()[scan.at..];
            let left = rest.len().min(BLOCK) as u32;
            if left == 0 {
                return None;
            }
            let there = below(left);
            // SAFETY: bytes that the mask leaves out, which the slice may not have, are not read.
            let bytes = unsafe { _mm512_maskz_loadu_epi8(there, rest.as_ptr().cast()) };
            let backslashes = _mm512_cmpeq_epi8_mask(bytes, all(b'\\'));
            let escaped = backslashes << 1;
            let quotes = _mm512_cmpeq_epi8_mask(bytes, all(b'"')) & !escaped;
            let controls = _mm512_cmple_epu8_mask(bytes, all(0x1F)) & there;
            // Where the string ends, or what follows is for others to say.
            let end = (quotes | controls).trailing_zeros();
            let mut stop = end.min(left);
            let mut kept = bytes;
            if backslashes & below(stop) != 0 {
                let of_number = _mm512_cmpeq_epi8_mask(bytes, all(b'u')) & escaped;
                // Of two that stand together it is not seen at once which one escapes; what the last byte escapes is in the next block.
                let open =
                    backslashes & (escaped | backslashes >> 1 | 1 << (left - 1) | of_number >> 1);
                stop = stop.min(open.trailing_zeros());
                let escaped = escaped & below(stop);
                let [low, high] = meant;
                let means = _mm512_permutex2var_epi8(low, bytes, high);
                let wrong = _mm512_testn_epi8_mask(means, means) | _mm512_movepi8_mask(bytes);
                if wrong & escaped != 0 {
                    return None;
                }
                kept = _mm512_mask_mov_epi8(bytes, escaped, means);
            }
            let keep = below(stop) & !backslashes;
            out.reserve(BLOCK);
            let len = out.len();
            // SAFETY: there is room for a block behind what there is, of which the first bytes, as many as are kept, are written by then.
            unsafe {
                let kept = _mm512_maskz_compress_epi8(keep, kept);
                _mm512_storeu_si512(out.as_mut_ptr().add(len).cast(), kept);
                out.set_len(len + keep.count_ones() as usize);
            }
            scan.at += stop as usize;
            if stop == BLOCK as u32 {
                continue;
            }
            match rest.get(stop as usize)? {
                b'"' => {
                    scan.at += 1;
                    return Some(());
                }
                b'\\' => {
                    scan.at += 1;
                    out.char(scan.escape()?);
                }
                _ => return None,
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8, _mm256_movemask_epi8,
        _mm256_or_si256, _mm256_set1_epi8, _mm256_storeu_si256,
    };

    use super::super::scan::{Out, Scan};

    /// Bytes of a vector.
    const BLOCK: usize = 32;

    /// # Safety
    /// The processor has AVX2.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn string(scan: &mut Scan<'_>, out: &mut Vec<u8>) -> Option<()> {
        let all = |byte: u8| _mm256_set1_epi8(byte.cast_signed());
        let (quote, backslash, control) = (all(b'"'), all(b'\\'), all(0x1F));
        while let Some(block) = scan.line.as_bytes()[scan.at..].first_chunk::<BLOCK>() {
            // SAFETY: a block is 32 bytes.
            let bytes = unsafe { _mm256_loadu_si256(block.as_ptr().cast()) };
            let ends = _mm256_or_si256(
                _mm256_cmpeq_epi8(bytes, quote),
                _mm256_cmpeq_epi8(bytes, backslash),
            );
            let controls = _mm256_cmpeq_epi8(_mm256_min_epu8(bytes, control), bytes);
            let found = _mm256_movemask_epi8(_mm256_or_si256(ends, controls)).cast_unsigned();
            let count = found.trailing_zeros() as usize;
            out.reserve(BLOCK);
            let len = out.len();
            // SAFETY: there is room for a block behind what there is, of which the first `count` bytes, at most all, are written by then.
            unsafe {
                _mm256_storeu_si256(out.as_mut_ptr().add(len).cast(), bytes);
                out.set_len(len + count);
            }
            scan.at += count;
            if found == 0 {
                continue;
            }
            scan.at += 1;
            match block[count] {
                b'"' => return Some(()),
                b'\\' => out.char(scan.escape()?),
                _ => return None,
            }
        }
        // A block may have ended inside of a character.
        while !scan.line.is_char_boundary(scan.at) {
            scan.at -= 1;
            out.pop();
        }
        scan.string(out)
    }
}
