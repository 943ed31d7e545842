//! The search in vectors of 64-bit ARM.

use std::arch::aarch64::{
    uint8x16_t, vaddq_u8, vandq_u8, vbicq_u8, vceqq_u8, vcgeq_u8, vcleq_u8, vdupq_n_u8,
    vgetq_lane_u64, vld1q_u8, vmaxvq_u8, vorrq_u8, vpaddq_u8, vreinterpretq_u64_u8,
};

use super::{BEYOND, BLOCK};

/// The bit of each lane within its byte.
const BITS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];

/// # Safety
/// NEON, and [`BEYOND`] bytes more than there are blocks in `out`.
#[target_feature(enable = "neon")]
pub(super) unsafe fn neon(bytes: &[u8], stop: u8, out: &mut [u64]) {
    debug_assert!(out.is_empty() || bytes.len() >= out.len() * BLOCK + BEYOND);
    // SAFETY: there are 16 bytes.
    let bits = unsafe { vld1q_u8(BITS.as_ptr()) };
    for (block, word) in out.iter_mut().enumerate() {
        let mut quarters = [vdupq_n_u8(0); 4];
        for (quarter, lanes) in quarters.iter_mut().enumerate() {
            // SAFETY: block `block` and the bytes beyond it are there.
            let (v, n, t) = unsafe {
                let at = bytes.as_ptr().add(block * BLOCK + quarter * 16);
                (vld1q_u8(at), vld1q_u8(at.add(1)), vld1q_u8(at.add(2)))
            };
            *lanes = vandq_u8(quarter_block(v, n, t, stop), bits);
        }
        // Adding neighbours three times leaves a byte for eight lanes.
        let [a, b, c, d] = quarters;
        let sums = vpaddq_u8(vpaddq_u8(a, b), vpaddq_u8(c, d));
        *word = vgetq_lane_u64::<0>(vreinterpretq_u64_u8(vpaddq_u8(sums, sums)));
    }
}

#[target_feature(enable = "neon")]
fn quarter_block(v: uint8x16_t, n: uint8x16_t, t: uint8x16_t, stop: u8) -> uint8x16_t {
    let is = |x, byte: u8| vceqq_u8(x, vdupq_n_u8(byte));
    let or = |a, b| vorrq_u8(a, b);
    let and = |a, b| vandq_u8(a, b);
    let within = |x, low: u8, high: u8| {
        vcleq_u8(
            vaddq_u8(x, vdupq_n_u8(low.wrapping_neg())),
            vdupq_n_u8(high - low),
        )
    };
    let stops = |x| or(or(is(x, b'.'), is(x, b'!')), is(x, b'?'));
    let inside = or(or(within(n, b'a', b'z'), within(n, b'0', b'9')), stops(n));
    let mut found = vbicq_u8(stops(v), inside);
    found = or(found, is(v, b'\n'));
    found = or(found, and(within(v, b'0', b'9'), is(n, b')')));
    found = or(found, and(is(v, stop), within(n, 0, b' ')));
    if vmaxvq_u8(v) >= 0x80 {
        let late = vcgeq_u8(t, vdupq_n_u8(0xa2));
        let general = or(
            and(is(n, 0x80), late),
            or(is(n, 0x81), or(is(n, 0x96), is(n, 0x97))),
        );
        let wide = or(or(is(t, 0x81), is(t, 0x8e)), or(is(t, 0x9f), is(t, 0xa1)));
        found = or(found, and(is(v, 0xe2), general));
        found = or(found, and(is(v, 0xe3), and(is(n, 0x80), is(t, 0x82))));
        found = or(
            found,
            and(is(v, 0xef), and(or(is(n, 0xbc), is(n, 0xbd)), wide)),
        );
    }
    found
}
