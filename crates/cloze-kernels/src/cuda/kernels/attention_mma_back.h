/* The way back of attention_mma.cu, for heads of SIZE features: first what belongs to queries, then what belongs to keys. Weights are computed
   again in both, from scores and their logarithmic sums; the first leaves the second each query's delta, its logarithmic sum to the base 2 and which keys it keeps.
   Shared memory: two pairs of tiles; for keys, what is known of each tile's queries besides. */

#define STRIDE (SIZE + 8)
#define TILE_AT(i) ((bf16 *)SHARED + (uint)(i) * SIDE * STRIDE)

/* dQ, of a block's queries. */
KERNEL_BLOCKS(NAMED(attention_queries_mma), 128, BLOCKS, Attention) {
    Work w = work_of(&a);
    uint64 stride = 3 * (uint64)w.h;
    if (w.start >= w.n) {
        return;
    }
    if (w.row == a.rows) {
        act *to = a.dqkv + (w.first + w.start) * stride + w.head * SIZE;
        for (uint i = 0; i < 3; i++) {
            clear_rows(to + i * w.h, stride, w.n - w.start, SIZE);
        }
        return;
    }
    const act *query = a.qkv + (w.first + w.start) * stride + w.head * SIZE;
    const act *key = a.qkv + w.first * stride + w.h + w.head * SIZE;
    uint64 own = (uint64)(w.first + w.start) * w.h + w.head * SIZE;
    uint n = w.n - w.start;
    copy_tile(TILE_AT(2), query, stride, n, SIZE);
    copy_tile(TILE_AT(3), a.dcontext + own, w.h, n, SIZE);
    copy_commit();
    copy_tile(TILE_AT(0), key, stride, w.n, SIZE);
    copy_tile(TILE_AT(1), key + w.h, stride, w.n, SIZE);
    copy_commit();

    /* Two lanes take a query's delta; then every lane gets those of its rows. */
    float sum = 0.0f;
    if (THREAD / 2 < n) {
        uint64 at = own + (uint64)(THREAD / 2) * w.h + THREAD % 2 * (SIZE / 2);
#pragma unroll
        for (uint i = 0; i < SIZE / 16; i++) {
            float x[8], y[8];
            load8(a.context + at + 8 * i, x);
            load8(a.dcontext + at + 8 * i, y);
#pragma unroll
            for (uint j = 0; j < 8; j++) {
                sum = fmaf_(x[j], y[j], sum);
            }
        }
    }
    sum += shfl_xor_f(sum, 1);
    uint64 token = (uint64)w.head * a.tokens + w.first + w.start; /* of the block's first query */
    if (THREAD % 2 == 0 && THREAD / 2 < n) {
        float *two = a.told + 2 * (token + THREAD / 2);
        two[0] = a.log_sums[token + THREAD / 2] * LOG2_E;
        two[1] = sum;
    }
    float delta[2], log_sum[2];
#pragma unroll
    for (uint r = 0; r < 2; r++) {
        uint row = WARP * 16 + LANE / 4 + 8 * r;
        delta[r] = shfl_f(sum, 2 * (LANE / 4 + 8 * r));
        log_sum[r] = row < n ? a.log_sums[token + row] * LOG2_E : FAR;
    }

    copy_wait(1);
    SYNC();
    uint left[SIZE / 16][4], back[SIZE / 16][4];
#pragma unroll
    for (uint k = 0; k < SIZE / 16; k++) {
        load_left(left[k], TILE_AT(2) + WARP * 16 * STRIDE + 16 * k, STRIDE);
        load_left(back[k], TILE_AT(3) + WARP * 16 * STRIDE + 16 * k, STRIDE);
    }
    SYNC();

    Draw draw = draw_of(&a.dropout, w.head);
    float scale = a.scale * LOG2_E;
    float dq[SIZE / 8][4] = {{0}};
    uint kept[2] = {~0u, ~0u};
    uint tiles = (w.n + SIDE - 1) / SIDE;
#pragma unroll 1
    for (uint t = 0; t < tiles; t++) {
        if (t + 1 < tiles) {
            const act *next = key + (t + 1) * SIDE * stride;
            uint rest = w.n - (t + 1) * SIDE, at = (t + 1) % 2 * 2;
            copy_tile(TILE_AT(at), next, stride, rest, SIZE);
            copy_tile(TILE_AT(at + 1), next + w.h, stride, rest, SIZE);
            copy_commit();
            copy_wait(1);
        } else {
            copy_wait(0);
        }
        SYNC();
        if (a.dropout.on) {
#pragma unroll
            for (uint r = 0; r < 2; r++) {
                uint row = WARP * 16 + LANE / 4 + 8 * r;
                kept[r] = t % 2 ? kept[r] >> 16 : kept_bits(&draw, w.first + w.start + row, t / 2);
                if (t % 2 == 0 && row < n) {
                    a.kept[((token + row) * chunks_of(&a) + t / 2) * 4 + LANE % 4] = kept[r];
                }
            }
        }
#pragma unroll 1
        for (uint half = 0; half < 2; half++) {
            const bf16 *keys = TILE_AT(t % 2 * 2) + half * 32 * STRIDE, *values = keys + SIDE * STRIDE;
            float s[4][4] = {{0}}, dp[4][4] = {{0}};
#pragma unroll
            for (uint k = 0; k < SIZE / 16; k++) {
#pragma unroll
                for (uint i = 0; i < 2; i++) {
                    uint right[4];
                    load_columns(right, keys + 16 * i * STRIDE + 16 * k, STRIDE);
                    mma_bf16(s[2 * i], left[k], right);
                    mma_bf16(s[2 * i + 1], left[k], right + 2);
                    load_columns(right, values + 16 * i * STRIDE + 16 * k, STRIDE);
                    mma_bf16(dp[2 * i], back[k], right);
                    mma_bf16(dp[2 * i + 1], back[k], right + 2);
                }
            }
            if (w.n - t * SIDE < SIDE) {
#pragma unroll
                for (uint i = 0; i < 16; i++) {
                    if (t * SIDE + half * 32 + i / 4 * 8 + LANE % 4 * 2 + i % 2 >= w.n) {
                        s[i / 4][i % 4] = -FAR;
                    }
                }
            }
#pragma unroll
            for (uint i = 0; i < 16; i++) {
                uint r = i / 2 % 2;
                float p = fast_exp2(fmaf_(s[i / 4][i % 4], scale, -log_sum[r]));
                float times = kept[r] >> (half * 8 + i / 4 * 2 + i % 2) & 1 ? a.dropout.kept : 0.0f;
                s[i / 4][i % 4] = p * fmaf_(dp[i / 4][i % 4], times, -delta[r]);
            }
#pragma unroll
            for (uint k = 0; k < 2; k++) {
                uint ds[4];
                pack_left(ds, s[2 * k], s[2 * k + 1]);
#pragma unroll
                for (uint i = 0; i < SIZE / 16; i++) {
                    uint right[4];
                    load_rows(right, keys + 16 * k * STRIDE + 16 * i, STRIDE);
                    mma_bf16(dq[2 * i], ds, right);
                    mma_bf16(dq[2 * i + 1], ds, right + 2);
                }
            }
        }
        SYNC();
    }
    float times[2] = {a.scale, a.scale};
    put_rows(a.dqkv + (w.first + w.start) * stride + w.head * SIZE, stride, n, TILE_AT(0), SIZE, dq, times);
}

/* dK and dV, of a block's keys: scores are turned, keys as rows and queries as columns. */
KERNEL_BLOCKS(NAMED(attention_keys_mma), 128, BLOCKS, Attention) {
    Work w = work_of(&a);
    uint64 stride = 3 * (uint64)w.h;
    if (w.row == a.rows || w.start >= w.n) {
        return;
    }
    const act *query = a.qkv + w.first * stride + w.head * SIZE;
    const act *key = query + w.start * stride + w.h;
    const act *dcontext = a.dcontext + (uint64)w.first * w.h + w.head * SIZE;
    uint token = w.head * a.tokens + w.first; /* of the row's first query */
    Query *queries = (Query *)TILE_AT(4);
    uint n = w.n - w.start;
    copy_tile(TILE_AT(2), key, stride, n, SIZE);
    copy_tile(TILE_AT(3), key + w.h, stride, n, SIZE);
    copy_commit();
    copy_tile(TILE_AT(0), query, stride, w.n, SIZE);
    copy_tile(TILE_AT(1), dcontext, w.h, w.n, SIZE);
    copy_queries(queries, &a, token, w.start / 128, w.n);
    copy_commit();
    copy_wait(1);
    SYNC();
    uint keys[SIZE / 16][4], values[SIZE / 16][4];
#pragma unroll
    for (uint k = 0; k < SIZE / 16; k++) {
        load_left(keys[k], TILE_AT(2) + WARP * 16 * STRIDE + 16 * k, STRIDE);
        load_left(values[k], TILE_AT(3) + WARP * 16 * STRIDE + 16 * k, STRIDE);
    }
    SYNC();

    /* Where a key's bit lies in its query's words: see kept_bits. */
    uint bit = (w.start / 16 + WARP) % 8 * 4 + LANE / 4 % 2;
    float scale = a.scale * LOG2_E;
    float dk[SIZE / 8][4] = {{0}}, dv[SIZE / 8][4] = {{0}};
    uint tiles = (w.n + SIDE - 1) / SIDE;
#pragma unroll 1
    for (uint t = 0; t < tiles; t++) {
        if (t + 1 < tiles) {
            uint next = (t + 1) * SIDE, at = (t + 1) % 2;
            query += SIDE * stride, dcontext += (uint64)SIDE * w.h;
            copy_tile(TILE_AT(2 * at), query, stride, w.n - next, SIZE);
            copy_tile(TILE_AT(2 * at + 1), dcontext, w.h, w.n - next, SIZE);
            copy_queries(queries + at, &a, token + next, w.start / 128, w.n - next);
            copy_commit();
            copy_wait(1);
        } else {
            copy_wait(0);
        }
        SYNC();
        const Query *own = queries + t % 2;
#pragma unroll 1
        for (uint half = 0; half < 2; half++) {
            const bf16 *tile = TILE_AT(t % 2 * 2) + half * 32 * STRIDE, *back = tile + SIDE * STRIDE;
            float s[4][4] = {{0}}, dp[4][4] = {{0}};
#pragma unroll
            for (uint k = 0; k < SIZE / 16; k++) {
#pragma unroll
                for (uint i = 0; i < 2; i++) {
                    uint right[4];
                    load_columns(right, tile + 16 * i * STRIDE + 16 * k, STRIDE);
                    mma_bf16(s[2 * i], keys[k], right);
                    mma_bf16(s[2 * i + 1], keys[k], right + 2);
                    load_columns(right, back + 16 * i * STRIDE + 16 * k, STRIDE);
                    mma_bf16(dp[2 * i], values[k], right);
                    mma_bf16(dp[2 * i + 1], values[k], right + 2);
                }
            }
#pragma unroll
            for (uint i = 0; i < 8; i++) {
                uint q = half * 32 + i / 2 * 8 + LANE % 4 * 2 + i % 2;
                uint kept = own->kept[q][LANE / 8] >> bit;
#pragma unroll
                for (uint r = 0; r < 2; r++) {
                    float *p = &s[i / 2][2 * r + i % 2], *d = &dp[i / 2][2 * r + i % 2];
                    float weight = fast_exp2(fmaf_(*p, scale, -own->told[q][0]));
                    int stays = kept >> 2 * r & 1;
                    *p = stays ? weight : 0.0f;
                    *d = weight * fmaf_(*d, stays ? a.dropout.kept : 0.0f, -own->told[q][1]);
                }
            }
#pragma unroll
            for (uint k = 0; k < 2; k++) {
                uint p[4], ds[4];
                pack_left(p, s[2 * k], s[2 * k + 1]);
                pack_left(ds, dp[2 * k], dp[2 * k + 1]);
#pragma unroll
                for (uint i = 0; i < SIZE / 16; i++) {
                    uint right[4];
                    load_rows(right, back + 16 * k * STRIDE + 16 * i, STRIDE);
                    mma_bf16(dv[2 * i], p, right);
                    mma_bf16(dv[2 * i + 1], p, right + 2);
                    load_rows(right, tile + 16 * k * STRIDE + 16 * i, STRIDE);
                    mma_bf16(dk[2 * i], ds, right);
                    mma_bf16(dk[2 * i + 1], ds, right + 2);
                }
            }
        }
        SYNC();
    }
    act *to = a.dqkv + (w.first + w.start) * stride + w.h + w.head * SIZE;
    float times[2][2] = {{a.scale, a.scale}, {a.dropout.kept, a.dropout.kept}};
    put_rows(to, stride, n, TILE_AT(0), SIZE, dk, times[0]);
    put_rows(to + w.h, stride, n, TILE_AT(0), SIZE, dv, times[1]);
}

#undef STRIDE
#undef TILE_AT
