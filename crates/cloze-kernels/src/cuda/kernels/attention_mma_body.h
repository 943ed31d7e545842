/* The way forward of attention_mma.cu, for heads of SIZE features. Shared memory: two pairs of tiles. */

#define STRIDE (SIZE + 8)
#define TILE_AT(i) ((bf16 *)SHARED + (uint)(i) * SIDE * STRIDE)

KERNEL_BLOCKS(NAMED(attention_forward_mma), 128, BLOCKS, Attention) {
    Work w = work_of(&a);
    uint64 stride = 3 * (uint64)w.h;
    if (w.start >= w.n) {
        return;
    }
    if (w.row == a.rows) {
        clear_rows(a.context + (uint64)(w.first + w.start) * w.h + w.head * SIZE, w.h, w.n - w.start, SIZE);
        if (THREAD < SIDE && w.start + THREAD < w.n) {
            a.log_sums[(uint64)w.head * a.tokens + w.first + w.start + THREAD] = 0.0f;
        }
        return;
    }
    const act *query = a.qkv + (w.first + w.start) * stride + w.head * SIZE;
    const act *key = a.qkv + w.first * stride + w.h + w.head * SIZE;
    copy_tile(TILE_AT(2), query, stride, w.n - w.start, SIZE);
    copy_commit();
    copy_tile(TILE_AT(0), key, stride, w.n, SIZE);
    copy_tile(TILE_AT(1), key + w.h, stride, w.n, SIZE);
    copy_commit();
    copy_wait(1);
    SYNC();
    uint left[SIZE / 16][4];
#pragma unroll
    for (uint k = 0; k < SIZE / 16; k++) {
        load_left(left[k], TILE_AT(2) + WARP * 16 * STRIDE + 16 * k, STRIDE);
    }
    SYNC();

    Draw draw = draw_of(&a.dropout, w.head);
    float scale = a.scale * LOG2_E;
    float out[SIZE / 8][4] = {{0}}, most[2] = {-FAR, -FAR}, total[2] = {0};
    uint kept[2] = {~0u, ~0u};
    uint tiles = (w.n + SIDE - 1) / SIDE;
#pragma unroll 1
    for (uint t = 0; t < tiles; t++) {
        if (t + 1 < tiles) {
            const act *next = key + (t + 1) * SIDE * stride;
            uint n = w.n - (t + 1) * SIDE, at = (t + 1) % 2 * 2;
            copy_tile(TILE_AT(at), next, stride, n, SIZE);
            copy_tile(TILE_AT(at + 1), next + w.h, stride, n, SIZE);
            copy_commit();
            copy_wait(1);
        } else {
            copy_wait(0);
        }
        SYNC();
        const bf16 *keys = TILE_AT(t % 2 * 2), *values = TILE_AT(t % 2 * 2 + 1);
        float s[8][4] = {{0}};
#pragma unroll
        for (uint k = 0; k < SIZE / 16; k++) {
#pragma unroll
            for (uint i = 0; i < 4; i++) {
                uint right[4];
                load_columns(right, keys + 16 * i * STRIDE + 16 * k, STRIDE);
                mma_bf16(s[2 * i], left[k], right);
                mma_bf16(s[2 * i + 1], left[k], right + 2);
            }
        }
        if (w.n - t * SIDE < SIDE) {
#pragma unroll
            for (uint i = 0; i < 32; i++) {
                if (t * SIDE + i / 4 * 8 + LANE % 4 * 2 + i % 2 >= w.n) {
                    s[i / 4][i % 4] = -FAR;
                }
            }
        }
        if (a.dropout.on) {
#pragma unroll
            for (uint r = 0; r < 2; r++) {
                uint own = w.first + w.start + WARP * 16 + LANE / 4 + 8 * r;
                kept[r] = t % 2 ? kept[r] >> 16 : kept_bits(&draw, own, t / 2);
            }
        }
#pragma unroll
        for (uint r = 0; r < 2; r++) {
            float now = most[r];
#pragma unroll
            for (uint i = 0; i < 8; i++) {
                now = s[i][2 * r] > now ? s[i][2 * r] : now;
                now = s[i][2 * r + 1] > now ? s[i][2 * r + 1] : now;
            }
#pragma unroll
            for (uint mask = 1; mask < 4; mask *= 2) {
                float other = shfl_xor_f(now, mask);
                now = other > now ? other : now;
            }
            float times = fast_exp2((most[r] - now) * scale), base = -now * scale;
            most[r] = now;
            total[r] *= times;
#pragma unroll
            for (uint i = 0; i < SIZE / 8; i++) {
                out[i][2 * r] *= times;
                out[i][2 * r + 1] *= times;
            }
#pragma unroll
            for (uint i = 0; i < 16; i++) {
                float *p = &s[i / 2][2 * r + i % 2];
                *p = fast_exp2(fmaf_(*p, scale, base));
                total[r] += *p;
                *p = kept[r] >> i & 1 ? *p : 0.0f;
            }
        }
#pragma unroll
        for (uint k = 0; k < 4; k++) {
            uint weights[4];
            pack_left(weights, s[2 * k], s[2 * k + 1]);
#pragma unroll
            for (uint i = 0; i < SIZE / 16; i++) {
                uint right[4];
                load_rows(right, values + 16 * k * STRIDE + 16 * i, STRIDE);
                mma_bf16(out[2 * i], weights, right);
                mma_bf16(out[2 * i + 1], weights, right + 2);
            }
        }
        SYNC();
    }
    float times[2];
#pragma unroll
    for (uint r = 0; r < 2; r++) {
        total[r] += shfl_xor_f(total[r], 1);
        total[r] += shfl_xor_f(total[r], 2);
        times[r] = a.dropout.kept / total[r];
        uint own = w.start + WARP * 16 + LANE / 4 + 8 * r;
        if (LANE % 4 == 0 && own < w.n) {
            a.log_sums[(uint64)w.head * a.tokens + w.first + own] = most[r] * a.scale + logf_(total[r]);
        }
    }
    act *context = a.context + (uint64)(w.first + w.start) * w.h + w.head * SIZE;
    put_rows(context, w.h, w.n - w.start, TILE_AT(0), SIZE, out, times);
}

#undef STRIDE
#undef TILE_AT
