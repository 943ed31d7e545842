//! Kernels for x86-64: AVX2, AVX-512, `VDPBF16PS`, AMX. All `unsafe` here has one contract, that of [`Micro`].
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "the contract of the trait, for the whole file"
)]

use std::arch::asm;
use std::arch::x86_64::*;

use super::micro::{Micro, Place, Tile, pack_plain, store_tile};
use super::pack_x86::{first, pack_amx_a, pack_amx_b, pack_lanes, pack_pairs};

/// `6 × 16`: twelve sums, two of B, one of A.
#[derive(Clone, Copy)]
pub struct Avx2;

impl Micro for Avx2 {
    type Packed = f32;
    const MR: usize = 6;
    const NR: usize = 16;
    const KU: usize = 1;
    const DEPTH_FACTOR: usize = 1;

    unsafe fn pack_a(
        self,
        from: *const f32,
        row: usize,
        col: usize,
        rows: usize,
        depth: usize,
        to: *mut f32,
    ) {
        unsafe { pack_plain(from, row, col, rows, Self::MR, depth, to) };
    }

    unsafe fn pack_b(
        self,
        from: *const f32,
        row: usize,
        col: usize,
        depth: usize,
        cols: usize,
        to: *mut f32,
    ) {
        unsafe { pack_plain(from, col, row, cols, Self::NR, depth, to) };
    }

    unsafe fn run(self, depth: usize, a: *const f32, b: *const f32, tile: &mut Tile) {
        unsafe { avx2(depth, a, b, tile) };
    }

    unsafe fn store(self, tile: &Tile, place: Place<'_>) {
        unsafe { store_avx2(tile, place) };
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(depth: usize, mut a: *const f32, mut b: *const f32, tile: &mut Tile) {
    unsafe {
        let mut sums = [[_mm256_setzero_ps(); 2]; 6];
        for _ in 0..depth {
            let (b0, b1) = (_mm256_load_ps(b), _mm256_load_ps(b.add(8)));
            for (i, sums) in sums.iter_mut().enumerate() {
                let a = _mm256_broadcast_ss(&*a.add(i));
                sums[0] = _mm256_fmadd_ps(a, b0, sums[0]);
                sums[1] = _mm256_fmadd_ps(a, b1, sums[1]);
            }
            a = a.add(6);
            b = b.add(16);
        }
        for (i, sums) in sums.iter().enumerate() {
            let to = tile.0.as_mut_ptr().add(i * 16);
            _mm256_store_ps(to, sums[0]);
            _mm256_store_ps(to.add(8), sums[1]);
        }
    }
}

/// `14 × 32`: 28 sums, two of B; A is broadcast from memory.
#[derive(Clone, Copy)]
pub struct Avx512;

impl Micro for Avx512 {
    type Packed = f32;
    const MR: usize = 14;
    const NR: usize = 32;
    const KU: usize = 1;
    const DEPTH_FACTOR: usize = 1;

    unsafe fn pack_a(
        self,
        from: *const f32,
        row: usize,
        col: usize,
        rows: usize,
        depth: usize,
        to: *mut f32,
    ) {
        unsafe { pack_lanes::<14>(from, row, col, rows, depth, to) };
    }

    unsafe fn pack_b(
        self,
        from: *const f32,
        row: usize,
        col: usize,
        depth: usize,
        cols: usize,
        to: *mut f32,
    ) {
        unsafe { pack_lanes::<32>(from, col, row, cols, depth, to) };
    }

    unsafe fn run(self, depth: usize, a: *const f32, b: *const f32, tile: &mut Tile) {
        unsafe { avx512(depth, a, b, tile) };
    }

    unsafe fn store(self, tile: &Tile, place: Place<'_>) {
        unsafe { store_avx512(tile, place) };
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn avx512(depth: usize, mut a: *const f32, mut b: *const f32, tile: &mut Tile) {
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); 2]; 14];
        for _ in 0..depth {
            let (b0, b1) = (_mm512_load_ps(b), _mm512_load_ps(b.add(16)));
            for (i, sums) in sums.iter_mut().enumerate() {
                let a = _mm512_set1_ps(*a.add(i));
                sums[0] = _mm512_fmadd_ps(a, b0, sums[0]);
                sums[1] = _mm512_fmadd_ps(a, b1, sums[1]);
            }
            a = a.add(14);
            b = b.add(32);
        }
        for (i, sums) in sums.iter().enumerate() {
            let to = tile.0.as_mut_ptr().add(i * 32);
            _mm512_store_ps(to, sums[0]);
            _mm512_store_ps(to.add(16), sums[1]);
        }
    }
}

/// `14 × 32` by pairs: `VDPBF16PS` adds two products at a time.
#[derive(Clone, Copy)]
pub struct Avx512Bf16;

impl Micro for Avx512Bf16 {
    type Packed = u16;
    const MR: usize = 14;
    const NR: usize = 32;
    const KU: usize = 2;
    const DEPTH_FACTOR: usize = 2;

    unsafe fn pack_a(
        self,
        from: *const f32,
        row: usize,
        col: usize,
        rows: usize,
        depth: usize,
        to: *mut u16,
    ) {
        unsafe { pack_pairs::<14>(from, row, col, rows, depth, to) };
    }

    unsafe fn pack_b(
        self,
        from: *const f32,
        row: usize,
        col: usize,
        depth: usize,
        cols: usize,
        to: *mut u16,
    ) {
        unsafe { pack_pairs::<32>(from, col, row, cols, depth, to) };
    }

    unsafe fn run(self, depth: usize, a: *const u16, b: *const u16, tile: &mut Tile) {
        unsafe { avx512_bf16(depth / 2, a.cast(), b.cast(), tile) };
    }

    unsafe fn store(self, tile: &Tile, place: Place<'_>) {
        unsafe { store_avx512(tile, place) };
    }
}

#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn avx512_bf16(pairs: usize, mut a: *const u32, mut b: *const u32, tile: &mut Tile) {
    unsafe {
        let pair = |v: __m512i| -> __m512bh { std::mem::transmute(v) };
        let mut sums = [[_mm512_setzero_ps(); 2]; 14];
        for _ in 0..pairs {
            let b0 = pair(_mm512_loadu_si512(b.cast()));
            let b1 = pair(_mm512_loadu_si512(b.add(16).cast()));
            for (i, sums) in sums.iter_mut().enumerate() {
                let a = pair(_mm512_set1_epi32(*a.add(i) as i32));
                sums[0] = _mm512_dpbf16_ps(sums[0], a, b0);
                sums[1] = _mm512_dpbf16_ps(sums[1], a, b1);
            }
            a = a.add(14);
            b = b.add(32);
        }
        for (i, sums) in sums.iter().enumerate() {
            let to = tile.0.as_mut_ptr().add(i * 32);
            _mm512_store_ps(to, sums[0]);
            _mm512_store_ps(to.add(16), sums[1]);
        }
    }
}

/// `32 × 32`: four tiles of sums, two of A, two of B, each `16 × 16` of 32 bits.
#[derive(Clone, Copy)]
pub struct Amx;

/// Palette 1; 16 rows of 64 bytes in each of the eight tiles (Intel SDM, LDTILECFG).
#[repr(C, align(64))]
struct TileConfig([u8; 64]);

static TILES: TileConfig = {
    let mut bytes = [0; 64];
    bytes[0] = 1;
    let mut i = 0;
    while i < 8 {
        bytes[16 + 2 * i] = 64;
        bytes[48 + i] = 16;
        i += 1;
    }
    TileConfig(bytes)
};

impl Micro for Amx {
    type Packed = u16;
    const MR: usize = 32;
    const NR: usize = 32;
    const KU: usize = 32;
    const DEPTH_FACTOR: usize = 4;

    fn begin(self) {
        // SAFETY: this kernel is chosen only where the system lets us use tiles.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const TILES, options(nostack, readonly)) };
    }

    fn end(self) {
        // SAFETY: as above; without it every later change of threads saves 8 KB.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }

    unsafe fn pack_a(
        self,
        from: *const f32,
        row: usize,
        col: usize,
        rows: usize,
        depth: usize,
        to: *mut u16,
    ) {
        unsafe { pack_amx_a(from, row, col, rows, depth, to) };
    }

    unsafe fn pack_b(
        self,
        from: *const f32,
        row: usize,
        col: usize,
        depth: usize,
        cols: usize,
        to: *mut u16,
    ) {
        unsafe { pack_amx_b(from, row, col, depth, cols, to) };
    }

    unsafe fn run(self, depth: usize, a: *const u16, b: *const u16, tile: &mut Tile) {
        let blocks = depth / 32;
        if blocks == 0 {
            tile.0.fill(0.0);
            return;
        }
        // A block of depth 32 is 2 KB of each panel: two tiles of 16 rows of A, two of 16 columns of B.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm4, [{a} + {s}*1]",
                "tileloadd tmm6, [{b} + {s}*1]",
                "tileloadd tmm5, [{a} + {s}*1 + 1024]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{b} + {s}*1 + 1024]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a}, 2048",
                "add {b}, 2048",
                "dec {n}",
                "jnz 2b",
                "tilestored [{c} + {t}*1], tmm0",
                "tilestored [{c} + {t}*1 + 64], tmm1",
                "tilestored [{c} + {t}*1 + 2048], tmm2",
                "tilestored [{c} + {t}*1 + 2112], tmm3",
                a = inout(reg) a => _, b = inout(reg) b => _, n = inout(reg) blocks => _,
                s = in(reg) 64usize, t = in(reg) 128usize, c = in(reg) tile.0.as_mut_ptr(),
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack)
            );
        }
    }

    unsafe fn store(self, tile: &Tile, place: Place<'_>) {
        unsafe { store_avx512(tile, place) };
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn store_avx2(tile: &Tile, place: Place<'_>) {
    unsafe { store_tile::<16>(tile, place) };
}

/// As `store_tile::<32>`, by two masked vectors a row.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn store_avx512(tile: &Tile, place: Place<'_>) {
    unsafe {
        let masks = [
            first(place.cols.min(16)),
            first(place.cols.saturating_sub(16)),
        ];
        let scale = _mm512_set1_ps(place.scale);
        let mut bias = [_mm512_setzero_ps(); 2];
        if let Some(b) = place.bias {
            for (half, bias) in bias.iter_mut().enumerate() {
                *bias = _mm512_maskz_loadu_ps(masks[half], b.as_ptr().wrapping_add(16 * half));
            }
        }
        for row in 0..place.rows {
            for half in 0..2 {
                let to = place.to.wrapping_add(row * place.ldc + 16 * half);
                let from = _mm512_load_ps(tile.0.as_ptr().add(row * 32 + 16 * half));
                let mut value = _mm512_fmadd_ps(from, scale, bias[half]);
                if place.add {
                    value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(masks[half], to));
                }
                _mm512_mask_storeu_ps(to, masks[half], value);
            }
        }
    }
}
