//! Packing with vector instructions. The contract is that of [`super::micro::Micro`]; the plain forms beside them are the definition.
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "the contract of Micro, for the whole file"
)]

use std::arch::x86_64::*;

use super::micro::{pack_plain, to_bf16};

/// Single precision, `W` lanes: `to[k · W + i] = from[i · lane + k · deep]`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub unsafe fn pack_lanes<const W: usize>(
    from: *const f32,
    lane: usize,
    deep: usize,
    lanes: usize,
    depth: usize,
    to: *mut f32,
) {
    unsafe {
        if deep == 1 {
            transpose_lanes::<W>(from, lane, lanes, depth, to);
        } else if lane == 1 {
            for k in 0..depth {
                for i in (0..W).step_by(16) {
                    let count = lanes.saturating_sub(i).min(16);
                    let v = load16(from.wrapping_add(k * deep + i), 1, count);
                    _mm512_mask_storeu_ps(to.add(k * W + i), first((W - i).min(16)), v);
                }
            }
        } else {
            pack_plain(from, lane, deep, lanes, W, depth, to);
        }
    }
}

/// `to[k · W + j] = from[j · lane + k]` for `lanes ≤ W`, the others zero, by blocks of 16 × 16.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn transpose_lanes<const W: usize>(
    from: *const f32,
    lane: usize,
    lanes: usize,
    depth: usize,
    to: *mut f32,
) {
    for j in (0..W).step_by(16) {
        let (wide, count) = ((W - j).min(16), lanes.saturating_sub(j).min(16));
        for k in (0..depth).step_by(16) {
            let (here, mut block) = ((depth - k).min(16), [_mm512_setzero_si512(); 16]);
            for (i, v) in block.iter_mut().enumerate().take(count) {
                *v = _mm512_castps_si512(unsafe { load16(from.add((j + i) * lane + k), 1, here) });
            }
            for (i, v) in transpose16(block).into_iter().enumerate().take(here) {
                unsafe { _mm512_mask_storeu_epi32(to.add((k + i) * W + j).cast(), first(wide), v) };
            }
        }
    }
}

/// A mask of the first `count` of 16 lanes.
#[inline(always)]
pub fn first(count: usize) -> u16 {
    if count >= 16 {
        0xFFFF
    } else {
        (1u16 << count) - 1
    }
}

/// Transposes 16 rows of 16 elements of 32 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn transpose16(r: [__m512i; 16]) -> [__m512i; 16] {
    // Pairs of rows, then fours within 128 bits, then the 128-bit lanes themselves.
    let mut t = r;
    for i in 0..8 {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    let mut u = t;
    for i in 0..4 {
        let [a, b, c, d] = [t[4 * i], t[4 * i + 1], t[4 * i + 2], t[4 * i + 3]];
        u[4 * i] = _mm512_unpacklo_epi64(a, c);
        u[4 * i + 1] = _mm512_unpackhi_epi64(a, c);
        u[4 * i + 2] = _mm512_unpacklo_epi64(b, d);
        u[4 * i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    // u[4 i + c] holds, in its lane l, column 4 l + c of rows 4 i .. 4 i + 4.
    let mut out = u;
    for c in 0..4 {
        let low = _mm512_shuffle_i32x4::<0x88>(u[c], u[4 + c]);
        let high = _mm512_shuffle_i32x4::<0x88>(u[8 + c], u[12 + c]);
        let low_odd = _mm512_shuffle_i32x4::<0xDD>(u[c], u[4 + c]);
        let high_odd = _mm512_shuffle_i32x4::<0xDD>(u[8 + c], u[12 + c]);
        // Lanes of `low`: rows 0–3 lane 0, lane 2; rows 4–7 lane 0, lane 2.
        out[c] = _mm512_shuffle_i32x4::<0x88>(low, high);
        out[8 + c] = _mm512_shuffle_i32x4::<0xDD>(low, high);
        out[4 + c] = _mm512_shuffle_i32x4::<0x88>(low_odd, high_odd);
        out[12 + c] = _mm512_shuffle_i32x4::<0xDD>(low_odd, high_odd);
    }
    out
}

/// 16 elements from `from`, `step` apart, of which the first `count` exist.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn load16(from: *const f32, step: usize, count: usize) -> __m512 {
    unsafe {
        if step == 1 {
            return _mm512_maskz_loadu_ps(first(count), from);
        }
        let mut lanes = [0f32; 16];
        for (i, lane) in lanes.iter_mut().enumerate().take(count) {
            *lane = *from.add(i * step);
        }
        _mm512_loadu_ps(lanes.as_ptr())
    }
}

/// Rounds two vectors to bf16 and interleaves them: element `2 i` from `low`, `2 i + 1` from `high`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn interleave(low: __m512, high: __m512) -> __m512i {
    let bits = |x: __m512| -> __m512i {
        let half: __m256bh = _mm512_cvtneps_pbh(x);
        // SAFETY: both are 256 plain bits.
        _mm512_cvtepu16_epi32(unsafe { std::mem::transmute::<__m256bh, __m256i>(half) })
    };
    _mm512_or_si512(bits(low), _mm512_slli_epi32::<16>(bits(high)))
}

/// Pairs of depth, `W` lanes: `to[(k / 2 · W + i) · 2 + k % 2]`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub unsafe fn pack_pairs<const W: usize>(
    from: *const f32,
    lane: usize,
    deep: usize,
    lanes: usize,
    depth: usize,
    to: *mut u16,
) {
    unsafe {
        if lane == 1 {
            // Lanes lie side by side: two depths make one row of pairs.
            for k in (0..depth).step_by(2) {
                for i in (0..W).step_by(16) {
                    let wide = (W - i).min(16);
                    let count = lanes.saturating_sub(i).min(wide);
                    let low = load16(from.wrapping_add(k * deep + i), 1, count);
                    let high = if k + 1 < depth {
                        load16(from.wrapping_add((k + 1) * deep + i), 1, count)
                    } else {
                        _mm512_setzero_ps()
                    };
                    let mask = first(wide);
                    _mm512_mask_storeu_epi32(
                        to.add((k / 2 * W + i) * 2).cast(),
                        mask,
                        interleave(low, high),
                    );
                }
            }
            return;
        }
        if deep == 1 {
            // Depth lies side by side: 16 lanes of 32 depths are 16 rows of 16 pairs, to be transposed.
            for i in (0..W).step_by(16) {
                let wide = (W - i).min(16);
                let mask = first(wide);
                for k in (0..depth).step_by(32) {
                    let block = transpose16(rows_of_pairs(
                        from.wrapping_add(i * lane + k),
                        lane,
                        lanes.saturating_sub(i).min(wide),
                        depth - k,
                    ));
                    let pairs = (depth - k).div_ceil(2).min(16);
                    for (p, v) in block.into_iter().enumerate().take(pairs) {
                        _mm512_mask_storeu_epi32(to.add(((k / 2 + p) * W + i) * 2).cast(), mask, v);
                    }
                }
            }
            return;
        }
        for k in 0..depth.next_multiple_of(2) {
            for i in 0..W {
                let value = if i < lanes && k < depth {
                    *from.add(i * lane + k * deep)
                } else {
                    0.0
                };
                *to.add((k / 2 * W + i) * 2 + k % 2) = to_bf16(value);
            }
        }
    }
}

/// Up to 16 rows, `row` apart, of 32 elements (of which `depth` exist), rounded to bf16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn rows_of_pairs(from: *const f32, row: usize, rows: usize, depth: usize) -> [__m512i; 16] {
    let mut block = [_mm512_setzero_si512(); 16];
    for (i, v) in block.iter_mut().enumerate().take(rows) {
        unsafe {
            let at = from.add(i * row);
            let low = load16(at, 1, depth.min(16));
            let high = if depth > 16 {
                load16(at.add(16), 1, (depth - 16).min(16))
            } else {
                _mm512_setzero_ps()
            };
            *v = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
        }
    }
    block
}

/// Tiles of A: `to[k / 32][i / 16][i % 16][k % 32]`, 32 rows.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub unsafe fn pack_amx_a(
    from: *const f32,
    row: usize,
    col: usize,
    rows: usize,
    depth: usize,
    to: *mut u16,
) {
    unsafe {
        for k in (0..depth).step_by(32) {
            for half in 0..2 {
                let to = to.add((k / 32 * 2 + half) * 512);
                let count = rows.saturating_sub(half * 16).min(16);
                let at = from.wrapping_add(half * 16 * row + k * col);
                let block = if col == 1 {
                    rows_of_pairs(at, row, count, depth - k)
                } else {
                    // Pairs of depth for 16 rows at a time, then turned.
                    transpose16(pairs_of_lanes(at, row, col, count, depth - k))
                };
                for (i, v) in block.into_iter().enumerate() {
                    _mm512_storeu_si512(to.add(i * 32).cast(), v);
                }
            }
        }
    }
}

/// Tiles of B: `to[k / 32][j / 16][k % 32 / 2][j % 16][k % 2]`, 32 columns.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub unsafe fn pack_amx_b(
    from: *const f32,
    row: usize,
    col: usize,
    depth: usize,
    cols: usize,
    to: *mut u16,
) {
    unsafe {
        for k in (0..depth).step_by(32) {
            for half in 0..2 {
                let to = to.add((k / 32 * 2 + half) * 512);
                let count = cols.saturating_sub(half * 16).min(16);
                let at = from.wrapping_add(half * 16 * col + k * row);
                let block = if row == 1 {
                    transpose16(rows_of_pairs(at, col, count, depth - k))
                } else {
                    pairs_of_lanes(at, col, row, count, depth - k)
                };
                for (i, v) in block.into_iter().enumerate() {
                    _mm512_storeu_si512(to.add(i * 32).cast(), v);
                }
            }
        }
    }
}

/// Sixteen rows, one a pair of depths, each of up to 16 lanes `lane` apart.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn pairs_of_lanes(
    from: *const f32,
    lane: usize,
    deep: usize,
    lanes: usize,
    depth: usize,
) -> [__m512i; 16] {
    let mut block = [_mm512_setzero_si512(); 16];
    for (p, v) in block.iter_mut().enumerate() {
        if lanes == 0 || 2 * p >= depth {
            break;
        }
        unsafe {
            let low = load16(from.add(2 * p * deep), lane, lanes);
            let high = if 2 * p + 1 < depth {
                load16(from.add((2 * p + 1) * deep), lane, lanes)
            } else {
                _mm512_setzero_ps()
            };
            *v = interleave(low, high);
        }
    }
    block
}
