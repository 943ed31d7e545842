/* Kernels for tests of prelude.h and of the host: never part of what runs. */

/* ---- names that take several threads ---- */

typedef struct {
    float *out;
    uint *words;
    uint mask;
} TestWarp;

/* For each thread: 4 floats and 4 words. */
KERNEL(test_warp, 256, TestWarp) {
    uint t = BLOCK_X * THREADS + THREAD;
    float v = 1.0f / (float)(1 + t);
    a.out[4 * t] = shfl_xor_f(v, a.mask);
    a.out[4 * t + 1] = shfl_f(v, (LANE + 3) % 32);
    a.out[4 * t + 2] = warp_sum(v);
    a.out[4 * t + 3] = warp_max(v * (float)(LANE ^ 5));
    a.words[4 * t] = shfl_xor_u(t * 7, a.mask);
    a.words[4 * t + 1] = shfl_u(t * 7, 31 - LANE);
    a.words[4 * t + 2] = ballot((LANE * WARP) % 3 == 1);
    a.words[4 * t + 3] = (uint)(warp_sum((float)t) * 2.0f) + count_ones(t);
}

typedef struct {
    const float *x;
    float *sums;
    uint *counts;
    uint fault;
} TestBlock;

/* Each block adds its THREADS numbers up in shared memory; counts how many are above 0. With `fault` 1 a barrier is missing, with 2 the
   last thread skips one, with 3 it has left before a shuffle, with 4 it writes beyond the sums, with 5 beyond the shared memory,
   with 6 the last thread leaves its place in shared memory as it is. */
KERNEL(test_block, 256, TestBlock) {
    float *part = (float *)SHARED;
    uint *count = (uint *)(SHARED + THREADS * sizeof(float));
    uint t = BLOCK_X * THREADS + THREAD, last = THREAD == THREADS - 1;
    if (!(a.fault == 6 && last)) part[THREAD] = a.x[t];
    if (THREAD == 0) *count = 0;
    SYNC();
    if (a.x[t] > 0.0f) add_shared_u(count, 1);
    if (a.fault == 3 && last) return;
    if (a.fault == 3) (void)shfl_u(1, 0);
    for (uint half = THREADS / 2; half > 0; half /= 2) {
        if (THREAD < half) part[THREAD] += part[THREAD + half];
        if (a.fault != 1 && !(a.fault == 2 && last)) SYNC();
    }
    if (THREAD == 0) {
        a.sums[BLOCK_X] = part[0];
        a.counts[BLOCK_X] = *count;
    }
    if (a.fault == 4 && last) a.sums[GRID_X] = 1.0f;
    if (a.fault == 5 && last) count[1] = 1;
}

/* The sum of what blocks before this one left: what no kernel may do. */
KERNEL(test_blocks_in_order, 256, TestBlock) {
    if (THREAD == 0) a.sums[BLOCK_X] = a.x[BLOCK_X] + (BLOCK_X > 0 ? a.sums[BLOCK_X - 1] : 0.0f);
}

/* ---- numbers ---- */

typedef struct {
    const float *x;
    float *out;
    uint count;
} TestNumbers;

/* For each number 12 results; those of the format first. */
KERNEL(test_numbers, 128, TestNumbers) {
    uint i = BLOCK_X * THREADS + THREAD;
    if (i >= a.count) return;
    float x = a.x[i], *out = a.out + 12 * i;
    act one;
    store(&one, x);
    uint pair = pack_bf16(x, -x);
    out[0] = load(&one);
    out[1] = float_of_bf16(bf16_of(x));
    out[2] = float_of_bf16((bf16)(pair & 0xFFFFu));
    out[3] = float_of_bf16((bf16)(pair >> 16));
    out[4] = fast_exp(x > 0.0f ? -x : x);
    out[5] = fast_exp2(x > 0.0f ? -x : x);
    out[6] = expf_(x);
    out[7] = logf_(x > 0.0f ? x : -x);
    out[8] = erff_(x);
    out[9] = tanhf_(x);
    out[10] = rsqrtf_(x > 0.0f ? x : -x) * sqrtf_(x > 0.0f ? x : -x);
    out[11] = fmaf_(x, x, -x);
}

typedef struct {
    const act *x;
    act *out;
    uint count;
} TestWide;

/* Each thread moves 10 numbers of every 16: eight and two, doubled. */
KERNEL(test_wide, 128, TestWide) {
    uint i = BLOCK_X * THREADS + THREAD;
    if (i >= a.count) return;
    float f[8], g[2];
    load8(a.x + 16 * i, f);
    load2(a.x + 16 * i + 8, g);
    for (uint j = 0; j < 8; j++) f[j] *= 2.0f;
    g[0] *= 2.0f;
    g[1] *= 2.0f;
    store8(a.out + 16 * i, f);
    store2(a.out + 16 * i + 8, g);
}

typedef struct {
    uint counter[4], key[2];
    uint *out;
} TestPhilox;

KERNEL(test_philox, 32, TestPhilox) {
    if (THREAD == 0) philox(a.counter, a.key, a.out);
}

/* ---- matrices ---- */

typedef struct {
    const bf16 *a, *b;
    float *c;
    uint way;
} TestMma;

/* c[16, 8] = a[16, 16] b[16, 8], all row-major. Way 0 takes fragments from memory as the PTX ISA lays them out, way 1 by ldmatrix with b
   transposed on the way (two matrices), way 2 by ldmatrix with four matrices at a time and b given as [8, 16]. */
KERNEL(test_mma, 32, TestMma) {
    bf16 *sa = (bf16 *)SHARED, *sb = sa + 256;
    uint g = LANE / 4, q = LANE % 4, fa[4], fb[4];
    copy16(sa + 8 * LANE, a.a + 8 * LANE, 1);
    copy_commit();
    if (LANE < 16) copy16(sb + 8 * LANE, a.b + 8 * LANE, 1);
    copy_commit();
    copy_wait(0);
    SYNC();
    if (a.way == 0) {
        for (uint i = 0; i < 4; i++) fa[i] = *(const uint *)(sa + 16 * (g + 8 * (i % 2)) + 2 * q + 8 * (i / 2));
        for (uint i = 0; i < 2; i++) {
            uint k = 2 * q + 8 * i;
            fb[i] = sb[8 * k + g] | (uint)sb[8 * (k + 1) + g] << 16;
        }
    } else {
        ldmatrix4(fa, sa + 16 * (LANE % 16) + 8 * (LANE / 16));
        if (a.way == 1) ldmatrix2_t(fb, sb + 8 * (LANE % 16));
        if (a.way == 2) ldmatrix2(fb, sb + 16 * (LANE % 8) + 8 * (LANE / 8 % 2));
        if (a.way == 3) {
            uint four[4];
            ldmatrix4_t(four, sb + 8 * (LANE % 16));
            fb[0] = four[2];
            fb[1] = four[3];
        }
    }
    float d[4] = {1.0f, 2.0f, 3.0f, 4.0f};
    mma_bf16(d, fa, fb);
    for (uint i = 0; i < 4; i++) a.c[8 * (g + 8 * (i / 2)) + 2 * q + i % 2] = d[i] - (float)(1 + i);
}

typedef struct {
    const uint *from;
    uint *to;
    uint early;
} TestCopy;

/* Two groups of 16 bytes a thread, the second zeros for odd threads; with `early` the first is read before it has arrived. */
KERNEL(test_copy, 64, TestCopy) {
    uint *own = (uint *)SHARED + 8 * THREAD;
    copy16(own, a.from + 8 * THREAD, 1);
    copy_commit();
    copy16(own + 4, a.from + 8 * THREAD + 4, THREAD % 2 == 0);
    copy_commit();
    if (!a.early) copy_wait(1);
    for (uint i = 0; i < 4; i++) a.to[8 * THREAD + i] = own[i];
    copy_wait(0);
    for (uint i = 4; i < 8; i++) a.to[8 * THREAD + i] = own[i];
}
