/* GELU and tanh, sums of columns, rows that move. Widths are multiples of 8: a thread takes eight neighbours. */

typedef struct {
    const act *x;
    act *y;
    uint64 eights;
    uint tanh_form;
    uint unused;
} GeluForward;

/* The constants of the tanh form: sqrt(2 / pi), and the cubic term. */
#define TANH_RATE 0.7978845608f
#define TANH_CUBE 0.044715f

FUNCTION float gelu_of(float x, uint tanh_form) {
    if (tanh_form) {
        return 0.5f * x * (1.0f + tanhf_(TANH_RATE * x * fmaf_(TANH_CUBE, x * x, 1.0f)));
    }
    return 0.5f * x * (1.0f + erff_(x * 0.7071067812f));
}

FUNCTION float gelu_slope(float x, uint tanh_form) {
    if (tanh_form) {
        float t = tanhf_(TANH_RATE * x * fmaf_(TANH_CUBE, x * x, 1.0f));
        float inner = TANH_RATE * fmaf_(3.0f * TANH_CUBE, x * x, 1.0f);
        return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * inner;
    }
    /* Phi(x) + x phi(x). */
    return 0.5f * (1.0f + erff_(x * 0.7071067812f)) + x * 0.3989422804f * expf_(-0.5f * x * x);
}

KERNEL(gelu_forward, 256, GeluForward) {
    uint64 i = (uint64)BLOCK_X * THREADS + THREAD;
    if (i >= a.eights) {
        return;
    }
    float v[8];
    load8(a.x + i * 8, v);
#pragma unroll
    for (int k = 0; k < 8; k++) {
        v[k] = gelu_of(v[k], a.tanh_form);
    }
    store8(a.y + i * 8, v);
}

/* `rows` rows of `n`; without `x` a sum of columns alone. */
typedef struct {
    const act *x;
    act *dy;
    float *partial;
    uint rows;
    uint n;
    uint tanh_form;
    uint unused;
} GeluBackward;

/* A block takes 256 columns of 64 rows; each of its 8 warps 8 rows, one after another. */
KERNEL(gelu_backward, 256, GeluBackward) {
    uint column = BLOCK_X * 256 + LANE * 8;
    float sums[8] = {0};
    for (uint r = 0; r < 8; r++) {
        uint row = BLOCK_Y * 64 + WARP * 8 + r;
        if (row < a.rows && column < a.n) {
            uint64 at = (uint64)row * a.n + column;
            float d[8];
            load8(a.dy + at, d);
            if (a.x) {
                float x[8];
                load8(a.x + at, x);
#pragma unroll
                for (int k = 0; k < 8; k++) {
                    d[k] *= gelu_slope(x[k], a.tanh_form);
                }
                store8(a.dy + at, d);
            }
#pragma unroll
            for (int k = 0; k < 8; k++) {
                sums[k] += d[k];
            }
        }
    }
    float *all = (float *)SHARED;
#pragma unroll
    for (int k = 0; k < 8; k++) {
        all[WARP * 256 + LANE * 8 + (uint)k] = sums[k];
    }
    SYNC();
    uint c = BLOCK_X * 256 + THREAD;
    if (c < a.n) {
        float sum = 0.0f;
#pragma unroll
        for (uint w = 0; w < 8; w++) {
            sum += all[w * 256 + THREAD];
        }
        a.partial[(uint64)BLOCK_Y * a.n + c] = sum;
    }
}

/* Adds `count` rows of `width` up, and adds their sums to up to three vectors of `n`, one after another. */
typedef struct {
    const float *partial;
    float *to[3];
    uint count;
    uint width;
    uint n;
    uint unused;
} Columns;

/* A block takes 32 columns; each of its 16 warps every sixteenth row. */
KERNEL(columns, 512, Columns) {
    uint c = BLOCK_X * 32 + LANE;
    float sum = 0.0f;
    if (c < a.width) {
#pragma unroll 4
        for (uint r = WARP; r < a.count; r += 16) {
            sum += a.partial[(uint64)r * a.width + c];
        }
    }
    float *all = (float *)SHARED;
    all[THREAD] = sum;
    SYNC();
    if (WARP == 0 && c < a.width) {
        for (uint w = 1; w < 16; w++) {
            sum += all[w * 32 + LANE];
        }
        float *to = a.to[c / a.n];
        if (to) {
            to[c % a.n] += sum;
        }
    }
}

typedef struct {
    const act *y;
    act *x;
    uint64 eights;
} Tanh;

/* x = tanh(x), or without change of y, x *= 1 - y^2. */
KERNEL(tanh_forward, 256, Tanh) {
    uint64 i = (uint64)BLOCK_X * THREADS + THREAD;
    if (i >= a.eights) {
        return;
    }
    float v[8];
    load8(a.x + i * 8, v);
#pragma unroll
    for (int k = 0; k < 8; k++) {
        v[k] = tanhf_(v[k]);
    }
    store8(a.x + i * 8, v);
}

KERNEL(tanh_backward, 256, Tanh) {
    uint64 i = (uint64)BLOCK_X * THREADS + THREAD;
    if (i >= a.eights) {
        return;
    }
    float v[8], y[8];
    load8(a.x + i * 8, v);
    load8(a.y + i * 8, y);
#pragma unroll
    for (int k = 0; k < 8; k++) {
        v[k] *= 1.0f - y[k] * y[k];
    }
    store8(a.x + i * 8, v);
}

#define NONE 0xFFFFFFFFu

typedef struct {
    const act *x;
    const uint *rows;
    act *y;
    uint count;
    uint width;
} Rows;

/* y[i] = x[rows[i]], or zeros. */
KERNEL(gather, 256, Rows) {
    uint64 i = (uint64)BLOCK_X * THREADS + THREAD;
    uint each = a.width / 8;
    if (i >= (uint64)a.count * each) {
        return;
    }
    uint row = a.rows[i / each];
    uint f = (uint)(i % each) * 8;
    float v[8] = {0};
    if (row != NONE) {
        load8(a.x + (uint64)row * a.width + f, v);
    }
    store8(a.y + i * 8, v);
}

/* y[rows[i]] += x[i]. */
KERNEL(scatter_add, 256, Rows) {
    uint64 i = (uint64)BLOCK_X * THREADS + THREAD;
    uint each = a.width / 8;
    if (i >= (uint64)a.count * each) {
        return;
    }
    uint row = a.rows[i / each];
    uint f = (uint)(i % each) * 8;
    if (row != NONE) {
        float v[8], w[8];
        act *to = a.y + (uint64)row * a.width + f;
        load8(a.x + i * 8, v);
        load8(to, w);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            w[k] += v[k];
        }
        store8(to, w);
    }
}

typedef struct {
    const float *from;
    act *to;
    uint64 eights;
} Round;

/* Single precision to what products read. */
KERNEL(round_weights, 256, Round) {
    uint64 i = (uint64)BLOCK_X * THREADS + THREAD;
    if (i >= a.eights) {
        return;
    }
    float v[8];
#pragma unroll
    for (int k = 0; k < 8; k++) {
        v[k] = a.from[i * 8 + (uint)k];
    }
    store8(a.to + i * 8, v);
}
