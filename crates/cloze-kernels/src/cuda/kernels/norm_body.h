/* The kernels of norm.cu, for up to 512 * TIMES features. */

/* The pair that a lane takes at (i, j), or nothing beyond the row. */
#define CHUNK(i) ((uint)(i) * 4 + LANE / 8)
#define PAIR(i, j) (CHUNK(i) * 128 + 16 * (uint)(j) + 2 * (LANE % 8))

KERNEL(NAMED(norm_forward), 128, NormForward) {
    uint row = BLOCK_X * (THREADS / 32) + WARP;
    if (row >= a.rows) {
        return;
    }
    act *x = a.x + (uint64)row * a.h;
    act *y = a.y + (uint64)row * a.h;
    float v[TIMES][8][2];
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < TIMES; i++) {
        float factor[8][2];
        if (a.before.on) {
            drop_chunk(&a.before, row, CHUNK(i), factor);
        }
#pragma unroll
        for (int j = 0; j < 8; j++) {
            uint f = PAIR(i, j);
            v[i][j][0] = v[i][j][1] = 0.0f;
            if (f < a.h) {
                load2(x + f, v[i][j]);
                if (a.before.on) {
                    v[i][j][0] *= factor[j][0];
                    v[i][j][1] *= factor[j][1];
                }
                if (a.residual) {
                    float r[2];
                    load2(a.residual + (uint64)row * a.h + f, r);
                    v[i][j][0] += r[0];
                    v[i][j][1] += r[1];
                }
                if (a.changed) {
                    store2(x + f, v[i][j]);
                }
                v[i][j][0] = rounded(v[i][j][0]);
                v[i][j][1] = rounded(v[i][j][1]);
                sum += v[i][j][0] + v[i][j][1];
            }
        }
    }
    float mean = warp_sum(sum) / (float)a.h;
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < TIMES; i++) {
#pragma unroll
        for (int j = 0; j < 8; j++) {
            if (PAIR(i, j) < a.h) {
                float s = v[i][j][0] - mean, t = v[i][j][1] - mean;
                squares += s * s + t * t;
            }
        }
    }
    float scale = 1.0f / sqrtf_(warp_sum(squares) / (float)a.h + a.eps);
    if (LANE == 0) {
        a.stats[2 * row] = mean;
        a.stats[2 * row + 1] = scale;
    }
#pragma unroll
    for (int i = 0; i < TIMES; i++) {
        float factor[8][2];
        if (a.after.on) {
            drop_chunk(&a.after, row, CHUNK(i), factor);
        }
#pragma unroll
        for (int j = 0; j < 8; j++) {
            uint f = PAIR(i, j);
            if (f < a.h) {
                float out[2];
                out[0] = fmaf_((v[i][j][0] - mean) * scale, a.weight[f], a.bias[f]);
                out[1] = fmaf_((v[i][j][1] - mean) * scale, a.weight[f + 1], a.bias[f + 1]);
                if (a.after.on) {
                    out[0] *= factor[j][0];
                    out[1] *= factor[j][1];
                }
                store2(y + f, out);
            }
        }
    }
}

/* A warp takes `rows_each` rows one after another; sums over rows are added up over the warps of a block, then over blocks by `columns`. */
KERNEL(NAMED(norm_backward), 128, NormBackward) {
    float sums[TIMES][8][6];
#pragma unroll
    for (int i = 0; i < TIMES; i++) {
#pragma unroll
        for (int j = 0; j < 8; j++) {
#pragma unroll
            for (int k = 0; k < 6; k++) {
                sums[i][j][k] = 0.0f;
            }
        }
    }
    uint first = (BLOCK_X * (THREADS / 32) + WARP) * a.rows_each;
    uint end = first + a.rows_each < a.rows ? first + a.rows_each : a.rows;
    for (uint row = first; row < end; row++) {
        const act *x = a.x + (uint64)row * a.h;
        act *dy = a.dy + (uint64)row * a.h;
        float mean = a.stats[2 * row], scale = a.stats[2 * row + 1];
        float hat[TIMES][8][2], d[TIMES][8][2];
        float sum = 0.0f, along = 0.0f;
#pragma unroll
        for (int i = 0; i < TIMES; i++) {
            float factor[8][2];
            if (a.after.on) {
                drop_chunk(&a.after, row, CHUNK(i), factor);
            }
#pragma unroll
            for (int j = 0; j < 8; j++) {
                uint f = PAIR(i, j);
                hat[i][j][0] = hat[i][j][1] = d[i][j][0] = d[i][j][1] = 0.0f;
                if (f < a.h) {
                    load2(x + f, hat[i][j]);
                    load2(dy + f, d[i][j]);
#pragma unroll
                    for (int e = 0; e < 2; e++) {
                        hat[i][j][e] = (hat[i][j][e] - mean) * scale;
                        if (a.after.on) {
                            d[i][j][e] *= factor[j][e];
                        }
                        sums[i][j][e] = fmaf_(d[i][j][e], hat[i][j][e], sums[i][j][e]);
                        sums[i][j][2 + e] += d[i][j][e];
                        d[i][j][e] *= a.weight[f + (uint)e];
                        sum += d[i][j][e];
                        along = fmaf_(d[i][j][e], hat[i][j][e], along);
                    }
                }
            }
        }
        sum = warp_sum(sum) / (float)a.h;
        along = warp_sum(along) / (float)a.h;
#pragma unroll
        for (int i = 0; i < TIMES; i++) {
            float factor[8][2];
            if (a.before.on) {
                drop_chunk(&a.before, row, CHUNK(i), factor);
            }
#pragma unroll
            for (int j = 0; j < 8; j++) {
                uint f = PAIR(i, j);
                if (f < a.h) {
                    float out[2];
#pragma unroll
                    for (int e = 0; e < 2; e++) {
                        out[e] = (d[i][j][e] - sum - hat[i][j][e] * along) * scale;
                    }
                    store2(dy + f, out);
                    if (a.before.on) {
                        out[0] *= factor[j][0];
                        out[1] *= factor[j][1];
                    }
                    if (a.dx) {
                        store2(a.dx + (uint64)row * a.h + f, out);
                    }
                    sums[i][j][4] += out[0];
                    sums[i][j][5] += out[1];
                }
            }
        }
    }
    float *all = (float *)SHARED;
    for (uint w = 0; w < THREADS / 32; w++) {
        if (WARP == w) {
#pragma unroll
            for (int i = 0; i < TIMES; i++) {
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    uint f = PAIR(i, j);
                    if (f < a.h) {
#pragma unroll
                        for (int k = 0; k < 6; k++) {
                            float *at = all + (uint)(k / 2) * a.h + f + (uint)(k % 2);
                            *at = w ? *at + sums[i][j][k] : sums[i][j][k];
                        }
                    }
                }
            }
        }
        SYNC();
    }
    for (uint c = THREAD; c < 3 * a.h; c += THREADS) {
        a.partial[(uint64)BLOCK_X * 3 * a.h + c] = all[c];
    }
}

#undef CHUNK
#undef PAIR
