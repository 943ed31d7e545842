//! The text of a string, copied in vectors up to what must be looked at. What it gives is what [`Scan::string`] gives.

use super::scan::Scan;

/// Appends what is left of a string, as [`Scan::string`] does.
pub(super) fn string(scan: &mut Scan<'_>, out: &mut Vec<u8>) -> Option<()> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has these instructions.
        return unsafe { x86::string(scan, out) };
    }
    scan.string(out)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
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
