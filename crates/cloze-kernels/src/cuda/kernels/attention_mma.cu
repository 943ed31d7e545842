/* Attention within rows by matrix instructions, for heads of 32 and 64 features in bf16.

   A block of four warps takes 64 queries (or, for the gradients of keys and values, 64 keys) of a head of a row, sixteen a warp, and goes
   through the row's other side in tiles of 64, two of which are in shared memory. Scores stay in registers: with g = LANE / 4 and
   q = LANE % 4, a lane holds rows g and g + 8, columns 2 q and 2 q + 1 of every eight. Blocks of row `rows` take the padding.

   Every sum over keys or queries is made by one lane in order. Operands are rounded to bf16, sums are in single precision. */

#if ACT_BF16

#define SIDE 64u
#define LOG2_E 1.4426950408889634f
#define LN_2 0.6931471805599453f
#define FAR 3.0e38f

/* Where a block works. */
typedef struct {
    uint row;
    uint head;
    uint start; /* its own tokens' first, within the row */
    uint first; /* the row's first token */
    uint n;     /* the row's tokens */
    uint h;
} Work;

/* Row r's blocks begin at cu_seqlens[r] / 64 + r: so every row has enough of them, and all together at most one too many each. The row of a block
   is looked for by 32 lanes at a time. */
FUNCTION Work work_of(const Attention *a) {
    uint low = 0, high = a->rows + 1;
    while (high - low > 1) {
        uint step = (high - low + 31) / 32, row = low + LANE * step;
        uint before = ballot(row < high && a->cu_seqlens[row] / SIDE + row <= BLOCK_X);
        low += (count_ones(before) - 1) * step;
        high = low + step < high ? low + step : high;
    }
    Work w;
    w.row = low;
    w.head = BLOCK_Y;
    w.first = a->cu_seqlens[low];
    w.start = (BLOCK_X - w.first / SIDE - low) * SIDE;
    w.n = (low < a->rows ? a->cu_seqlens[low + 1] : a->tokens) - w.first;
    w.h = a->heads * a->size;
    return w;
}

/* Zeros `size` features of a block's tokens; `to` is the first token's. */
FUNCTION void clear_rows(act *to, uint64 stride, uint left, uint size) {
    float zeros[8] = {0};
    for (uint i = THREAD; i < SIDE * (size / 8); i += THREADS) {
        if (i / (size / 8) < left) {
            store8(to + i / (size / 8) * stride + i % (size / 8) * 8, zeros);
        }
    }
}

/* Begins to copy 64 rows, of which the first `left` are there; the others are zeros. */
FUNCTION void copy_tile(bf16 *to, const act *from, uint64 stride, uint left, uint size) {
#pragma unroll
    for (uint i = 0; i < size / 16; i++) {
        uint at = THREAD + 128 * i;
        uint row = at / (size / 8), f = at % (size / 8) * 8;
        copy16(to + row * (size + 8) + f, from + row * stride + f, row < left);
    }
}

/* Writes a warp's sixteen rows, times `times` each, by way of `tile`, which no other warp uses. */
FUNCTION void put_rows(act *to, uint64 stride, uint left, bf16 *tile, uint size, float d[][4], const float *times) {
    uint own = WARP * 16;
#pragma unroll
    for (uint i = 0; i < size / 8; i++) {
#pragma unroll
        for (uint r = 0; r < 2; r++) {
            uint *two = (uint *)(tile + (own + LANE / 4 + 8 * r) * (size + 8) + 8 * i + LANE % 4 * 2);
            *two = pack_bf16(d[i][2 * r] * times[r], d[i][2 * r + 1] * times[r]);
        }
    }
    WARP_SYNC();
#pragma unroll
    for (uint i = 0; i < size / 16; i++) {
        uint at = LANE + 32 * i;
        uint row = own + at / (size / 8), f = at % (size / 8) * 8;
        if (row < left) {
            move16(to + row * stride + f, tile + row * (size + 8) + f);
        }
    }
    WARP_SYNC();
}

/* The left factor, 16 by 16. */
FUNCTION void load_left(uint *r, const bf16 *tile, uint stride) {
    ldmatrix4(r, tile + LANE % 16 * stride + LANE / 16 * 8);
}

/* The right factor, 16 by twice 8, from rows that are its columns. */
FUNCTION void load_columns(uint *r, const bf16 *tile, uint stride) {
    ldmatrix4(r, tile + (LANE % 8 + LANE / 16 * 8) * stride + LANE / 8 % 2 * 8);
}

/* The right factor, 16 by twice 8, from its rows. */
FUNCTION void load_rows(uint *r, const bf16 *tile, uint stride) {
    ldmatrix4_t(r, tile + LANE % 16 * stride + LANE / 16 * 8);
}

/* Where a head's weights are drawn. */
typedef struct {
    uint place[2];
    uint key[2];
    uint first;
    uint below;
} Draw;

FUNCTION Draw draw_of(const Drop *drop, uint head) {
    Draw d = {{0, 0}, {0, 0}, 0, 0};
    if (drop->on) {
        uint step = drop->draw[0];
        d.place[0] = step << 24 | drop->site | head;
        d.place[1] = step >> 8;
        d.key[0] = drop->key[0], d.key[1] = drop->key[1];
        d.first = drop->draw[1];
        d.below = drop->below;
    }
    return d;
}

/* Which of 128 keys a query keeps, of those in the lane's columns: bit 2 i + e is column 8 i + 2 q + e, so bit 4 j + s is key 16 j + l where
   l = 2 q, 2 q + 1, 8 + 2 q, 9 + 2 q. */
FUNCTION uint kept_bits(const Draw *d, uint query, uint chunk) {
    uint bits = 0;
#pragma unroll
    for (uint s = 0; s < 4; s++) {
        uint counter[4], words[4];
        counter[0] = d->place[0], counter[1] = d->place[1];
        counter[2] = d->first + query;
        counter[3] = chunk * 16 + s / 2 * 8 + LANE % 4 * 2 + s % 2;
        philox(counter, d->key, words);
#pragma unroll
        for (uint j = 0; j < 8; j++) {
            uint draw = j % 2 ? words[j / 2] >> 16 : words[j / 2] & 0xFFFFu;
            bits |= (uint)(draw >= d->below) << (4 * j + s);
        }
    }
    return bits;
}

/* What keys are told about a tile of queries. */
typedef struct {
    uint kept[SIDE][4];  /* as kept_bits has them, of the chunk that the keys are in */
    float told[SIDE][2]; /* the logarithmic sum to the base 2, and delta */
} Query;

FUNCTION uint chunks_of(const Attention *a) {
    return (a->longest + 127) / 128;
}

/* Begins to copy it; zeros, like the queries themselves, beyond the row. */
FUNCTION void copy_queries(Query *to, const Attention *a, uint token, uint chunk, uint left) {
    if (THREAD < SIDE) {
        uint64 at = token + THREAD;
        copy8(to->told[THREAD], a->told + 2 * at, THREAD < left);
        if (a->dropout.on) {
            copy16(to->kept[THREAD], a->kept + (at * chunks_of(a) + chunk) * 4, THREAD < left);
        } else {
            to->kept[THREAD][0] = to->kept[THREAD][1] = to->kept[THREAD][2] = to->kept[THREAD][3] = ~0u;
        }
    }
}

/* The left factor, 16 by 16, of two results of 16 by 8. */
FUNCTION void pack_left(uint *r, const float *d0, const float *d1) {
    r[0] = pack_bf16(d0[0], d0[1]);
    r[1] = pack_bf16(d0[2], d0[3]);
    r[2] = pack_bf16(d1[0], d1[1]);
    r[3] = pack_bf16(d1[2], d1[3]);
}

#define SIZE 32u
#define BLOCKS 4
#define NAMED(name) name##_32
#include "attention_mma_body.h"
#include "attention_mma_back.h"
#undef SIZE
#undef BLOCKS
#undef NAMED
#define SIZE 64u
#define BLOCKS 3
#define NAMED(name) name##_64
#include "attention_mma_body.h"
#include "attention_mma_back.h"
#undef SIZE
#undef BLOCKS
#undef NAMED

#endif
