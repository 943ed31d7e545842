//! What makes one tile of C, and the plain forms of it.

use super::scratch::Plain;

/// A tile of C: `MR × NR`, row after row.
#[repr(C, align(64))]
pub struct Tile(pub [f32; 32 * 32]);

impl Tile {
    pub fn zero() -> Self {
        Self([0.0; 32 * 32])
    }
}

/// Packs panels and multiplies them. Depth counts elements of the inner dimension, in whole units of `KU`.
pub trait Micro: Copy + Send + Sync {
    /// What a packed element is.
    type Packed: Plain;
    /// Rows of a tile.
    const MR: usize;
    /// Columns of a tile.
    const NR: usize;
    /// The unit of the inner dimension; packing fills it up with zeros.
    const KU: usize;
    /// How much deeper a block may be than one of f32.
    const DEPTH_FACTOR: usize;

    /// Before a thread's first tile of a task.
    fn begin(self) {}
    /// After its last.
    fn end(self) {}

    /// Packs `rows ≤ MR` rows of `depth` elements; the missing rows become zeros.
    ///
    /// # Safety
    /// The elements `from[i · row + k · col]` must exist; `to` must hold `MR ×` the padded depth; the processor must have the kernel's instructions.
    unsafe fn pack_a(
        self,
        from: *const f32,
        row: usize,
        col: usize,
        rows: usize,
        depth: usize,
        to: *mut Self::Packed,
    );

    /// Packs `cols ≤ NR` columns of `depth` elements; the missing columns become zeros.
    ///
    /// # Safety
    /// As for `pack_a`, with `from[k · row + j · col]`.
    unsafe fn pack_b(
        self,
        from: *const f32,
        row: usize,
        col: usize,
        depth: usize,
        cols: usize,
        to: *mut Self::Packed,
    );

    /// The product of two panels of padded `depth`.
    ///
    /// # Safety
    /// Both panels must be packed so; the processor must have the kernel's instructions.
    unsafe fn run(
        self,
        depth: usize,
        a: *const Self::Packed,
        b: *const Self::Packed,
        tile: &mut Tile,
    );

    /// Moves a tile to C.
    ///
    /// # Safety
    /// The place must hold so many rows and columns, which nobody else looks at.
    unsafe fn store(self, tile: &Tile, place: Place<'_>);
}

/// Where a tile goes in C, and how.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// Its first element there.
    pub to: *mut f32,
    /// Elements from a row to the next.
    pub ldc: usize,
    /// Rows and columns that C has there.
    pub rows: usize,
    pub cols: usize,
    /// Adds to what is there.
    pub add: bool,
    /// Multiplies the tile.
    pub scale: f32,
    /// Added to each row.
    pub bias: Option<&'a [f32]>,
}

/// Moves a tile whose rows are `NR` wide to C.
///
/// # Safety
/// As for [`Micro::store`].
#[inline(always)]
pub unsafe fn store_tile<const NR: usize>(tile: &Tile, place: Place<'_>) {
    let mut bias = [0.0; NR];
    if let Some(b) = place.bias {
        bias[..place.cols].copy_from_slice(&b[..place.cols]);
    }
    for (row, from) in tile
        .0
        .as_chunks::<NR>()
        .0
        .iter()
        .take(place.rows)
        .enumerate()
    {
        // SAFETY: the caller's.
        let to =
            unsafe { std::slice::from_raw_parts_mut(place.to.add(row * place.ldc), place.cols) };
        // By way of an array that nothing else points to, so that whole vectors move.
        let mut value = [0.0; NR];
        if place.add {
            value[..place.cols].copy_from_slice(to);
        }
        for ((v, f), b) in value.iter_mut().zip(from).zip(&bias) {
            *v += f * place.scale + b;
        }
        to.copy_from_slice(&value[..place.cols]);
    }
}

/// Copies elements into a panel of `wide` lanes, one at a time: `to[k · wide + i] = from[i · lane + k · deep]`.
///
/// # Safety
/// As for `Micro::pack_a`.
#[inline(always)]
pub unsafe fn pack_plain(
    from: *const f32,
    lane: usize,
    deep: usize,
    lanes: usize,
    wide: usize,
    depth: usize,
    to: *mut f32,
) {
    for k in 0..depth {
        for i in 0..wide {
            let value = if i < lanes {
                // SAFETY: the caller's.
                unsafe { *from.add(i * lane + k * deep) }
            } else {
                0.0
            };
            // SAFETY: the caller's.
            unsafe { *to.add(k * wide + i) = value };
        }
    }
}

/// Plain loops, for any processor.
#[derive(Clone, Copy)]
pub struct Scalar;

impl Micro for Scalar {
    type Packed = f32;
    const MR: usize = 4;
    const NR: usize = 8;
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
        // SAFETY: the caller's.
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
        // SAFETY: the caller's.
        unsafe { pack_plain(from, col, row, cols, Self::NR, depth, to) };
    }

    unsafe fn run(self, depth: usize, a: *const f32, b: *const f32, tile: &mut Tile) {
        // SAFETY: the caller's: panels are packed to this depth.
        let (a, b) = unsafe {
            (
                std::slice::from_raw_parts(a, depth * 4),
                std::slice::from_raw_parts(b, depth * 8),
            )
        };
        let mut sums = [[0f32; 8]; 4];
        for (a, b) in a.as_chunks::<4>().0.iter().zip(b.as_chunks::<8>().0) {
            for (sums, a) in sums.iter_mut().zip(a) {
                sums.iter_mut().zip(b).for_each(|(s, b)| *s += a * b);
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            tile.0[row * 8..][..8].copy_from_slice(sums);
        }
    }

    unsafe fn store(self, tile: &Tile, place: Place<'_>) {
        // SAFETY: the caller's.
        unsafe { store_tile::<8>(tile, place) };
    }
}

/// Rounds to bfloat16, to nearest, ties to even; NaN stays NaN.
#[inline(always)]
pub fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    (bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) >> 16) as u16
}

/// Plain loops over factors rounded to bf16: what processors without bf16 do, and what the others are compared with.
#[derive(Clone, Copy)]
pub struct ScalarBf16;

#[inline(always)]
fn round(x: f32) -> f32 {
    f32::from_bits(u32::from(to_bf16(x)) << 16)
}

impl Micro for ScalarBf16 {
    type Packed = f32;
    const MR: usize = 4;
    const NR: usize = 8;
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
        // SAFETY: the caller's.
        unsafe {
            Scalar.pack_a(from, row, col, rows, depth, to);
            std::slice::from_raw_parts_mut(to, Self::MR * depth)
                .iter_mut()
                .for_each(|x| *x = round(*x));
        }
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
        // SAFETY: the caller's.
        unsafe {
            Scalar.pack_b(from, row, col, depth, cols, to);
            std::slice::from_raw_parts_mut(to, Self::NR * depth)
                .iter_mut()
                .for_each(|x| *x = round(*x));
        }
    }

    unsafe fn run(self, depth: usize, a: *const f32, b: *const f32, tile: &mut Tile) {
        // SAFETY: the caller's.
        unsafe { Scalar.run(depth, a, b, tile) };
    }

    unsafe fn store(self, tile: &Tile, place: Place<'_>) {
        // SAFETY: the caller's.
        unsafe { store_tile::<8>(tile, place) };
    }
}
