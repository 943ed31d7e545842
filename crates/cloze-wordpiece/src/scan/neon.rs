//! With NEON.

use core::arch::aarch64::*;

use super::plain::{ask, find};
use super::{append, engine};

/// A bit for each byte of a mask of ones and zeros.
#[inline]
#[target_feature(enable = "neon")]
fn bits(m: uint8x16_t) -> u64 {
    const BITS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
    // SAFETY: 16 bytes of 16.
    let one = unsafe { vld1q_u8(BITS.as_ptr()) };
    let m = vandq_u8(m, one);
    u64::from(vaddv_u8(vget_low_u8(m))) | u64::from(vaddv_u8(vget_high_u8(m))) << 8
}

#[inline]
#[target_feature(enable = "neon")]
fn masks(bytes: &[u8], copy: &mut [u8; 64], lowercase: bool) -> (u64, u64) {
    let mut padded = [b' '; 64];
    let whole = match bytes.first_chunk::<64>() {
        Some(whole) => whole,
        None => {
            padded[..bytes.len()].copy_from_slice(bytes);
            &padded
        }
    };
    let (mut runs, mut alone) = (0, 0);
    for quarter in 0..4 {
        // SAFETY: a quarter of the block is 16 bytes of it.
        let v = unsafe { vld1q_u8(whole.as_ptr().add(16 * quarter)) };
        let within = |v: uint8x16_t, low: u8, width: u8| {
            vcleq_u8(vsubq_u8(v, vdupq_n_u8(low)), vdupq_n_u8(width))
        };
        let raised = vorrq_u8(v, vdupq_n_u8(0x20));
        let letter = within(raised, b'a', 25);
        let alnum = vorrq_u8(letter, within(v, b'0', 9));
        let own = vbicq_u8(within(v, 0x21, 0x7E - 0x21), alnum);
        let space = vorrq_u8(
            vorrq_u8(
                vceqq_u8(v, vdupq_n_u8(b' ')),
                vceqq_u8(v, vdupq_n_u8(b'\r')),
            ),
            within(v, b'\t', 1),
        );
        let lower = match lowercase {
            true => vbslq_u8(letter, raised, v),
            false => v,
        };
        // SAFETY: as above.
        unsafe { vst1q_u8(copy.as_mut_ptr().add(16 * quarter), lower) };
        runs |= (!bits(vorrq_u8(own, space)) & 0xFFFF) << (16 * quarter);
        alone |= bits(own) << (16 * quarter);
    }
    (runs, alone)
}

engine!(
    /// # Safety
    /// Every AArch64 processor has NEON.
    #[target_feature(enable = "neon")]
    { pub(crate) unsafe fn neon }, masks, append, ask, find
);
