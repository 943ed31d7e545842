/* AdamW and LAMB on all parameters at once; the copy that products read is renewed on the way. */

/* Whether a step can be made: its gradient's norm is a finite number. */
FUNCTION uint is_finite(float norm) {
    return norm <= 3.402823466e38f;
}

FUNCTION float clipping(float norm, float clip) {
    return clip > 0.0f && clip < norm + 1e-6f ? clip / (norm + 1e-6f) : 1.0f;
}

typedef struct {
    float *p;
    float *m;
    float *v;
    const float *g;
    const uint *groups;
    const float *rates;
    const float *root2;
    const float *norm;
    float *skipped;
    act *copy; /* 0 where products read the parameters themselves */
    uint64 n;
    uint shift; /* elements of a group's block: 2^shift */
    float beta1;
    float beta2;
    float eps;
    float clip;
    uint unused;
} AdamW;

/* A thread takes four neighbours. */
KERNEL(adamw, 256, AdamW) {
    uint64 first = ((uint64)BLOCK_X * THREADS + THREAD) * 4;
    float norm = a.norm[0];
    if (!is_finite(norm)) {
        if (first == 0) {
            a.skipped[0] += 1.0f;
        }
        return;
    }
    if (first >= a.n) {
        return;
    }
    float scale = clipping(norm, a.clip);
    float root2 = a.root2[0];
    float p[4], m[4], v[4], g[4];
    load4f(a.p + first, p);
    load4f(a.m + first, m);
    load4f(a.v + first, v);
    load4f(a.g + first, g);
#pragma unroll
    for (int k = 0; k < 4; k++) {
        uint group = a.groups[(first + (uint)k) >> a.shift];
        float keep = a.rates[2 * group], rate = a.rates[2 * group + 1];
        float gradient = g[k] * scale;
        m[k] = fmaf_(gradient - m[k], 1.0f - a.beta1, m[k]);
        v[k] = fmaf_((1.0f - a.beta2) * gradient, gradient, a.beta2 * v[k]);
        p[k] = fmaf_(-rate, m[k] / (sqrtf_(v[k]) / root2 + a.eps), p[k] * keep);
    }
    store4f(a.p + first, p);
    store4f(a.m + first, m);
    store4f(a.v + first, v);
#if ACT_BF16
    if (a.copy) {
        store2(a.copy + first, p);
        store2(a.copy + first + 2, p + 2);
    }
#endif
}

typedef struct {
    float *p;
    float *m;
    float *v;
    float *g; /* becomes what the parameters move along */
    const uint *groups;
    const uint *starts;
    const float *rates;
    const float *corrections;
    const float *norm;
    float *skipped;
    float *partial; /* [blocks, 2]: sums of squares of p and g */
    float *ratios;  /* [groups] */
    act *copy;
    uint64 n;
    uint shift; /* elements of a group's block: 2^shift, from 4 to 128 */
    float beta1;
    float beta2;
    float eps;
    float clip;
    uint unused;
} Lamb;

/* A thread takes four neighbours; the threads of a block of elements add its squares up. */
KERNEL(lamb_update, 256, Lamb) {
    uint64 first = ((uint64)BLOCK_X * THREADS + THREAD) * 4;
    float norm = a.norm[0];
    if (!is_finite(norm)) {
        if (first == 0) {
            a.skipped[0] += 1.0f;
        }
        return;
    }
    float scale = clipping(norm, a.clip);
    float own = 0.0f, along = 0.0f;
    if (first < a.n) {
        float decay = a.rates[3 * a.groups[first >> a.shift] + 1];
        float p[4], m[4], v[4], g[4];
        load4f(a.p + first, p);
        load4f(a.m + first, m);
        load4f(a.v + first, v);
        load4f(a.g + first, g);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            float gradient = g[k] * scale;
            m[k] = fmaf_(gradient - m[k], 1.0f - a.beta1, m[k]);
            v[k] = fmaf_((1.0f - a.beta2) * gradient, gradient, a.beta2 * v[k]);
            float step = (m[k] / a.corrections[0]) / (sqrtf_(v[k] / a.corrections[1]) + a.eps);
            g[k] = fmaf_(decay, p[k], step);
            own += p[k] * p[k];
            along += g[k] * g[k];
        }
        store4f(a.m + first, m);
        store4f(a.v + first, v);
        store4f(a.g + first, g);
    }
    for (uint mask = 1; mask < 1u << (a.shift - 2); mask *= 2) {
        own += shfl_xor_f(own, mask);
        along += shfl_xor_f(along, mask);
    }
    if (first < a.n && (first & ((1u << a.shift) - 1)) == 0) {
        a.partial[2 * (first >> a.shift)] = own;
        a.partial[2 * (first >> a.shift) + 1] = along;
    }
}

/* A block takes a group: how far it moves for its size. */
KERNEL(lamb_ratios, 256, Lamb) {
    if (!is_finite(a.norm[0])) {
        return;
    }
    uint group = BLOCK_X;
    double own = 0.0, along = 0.0;
    for (uint b = a.starts[group] + THREAD; b < a.starts[group + 1]; b += THREADS) {
        own += a.partial[2 * (uint64)b];
        along += a.partial[2 * (uint64)b + 1];
    }
    own = block_total(own);
    SYNC();
    along = block_total(along);
    if (THREAD == 0) {
        uint adapts = a.rates[3 * group + 2] != 0.0f && own > 0.0 && along > 0.0;
        a.ratios[group] = adapts ? (float)(sqrt(own) / sqrt(along)) : 1.0f;
    }
}

KERNEL(lamb_apply, 256, Lamb) {
    uint64 first = ((uint64)BLOCK_X * THREADS + THREAD) * 4;
    if (first >= a.n || !is_finite(a.norm[0])) {
        return;
    }
    uint group = a.groups[first >> a.shift];
    float rate = a.rates[3 * group] * a.ratios[group];
    float p[4], g[4];
    load4f(a.p + first, p);
    load4f(a.g + first, g);
#pragma unroll
    for (int k = 0; k < 4; k++) {
        p[k] = fmaf_(-rate, g[k], p[k]);
    }
    store4f(a.p + first, p);
#if ACT_BF16
    if (a.copy) {
        store2(a.copy + first, p);
        store2(a.copy + first + 2, p + 2);
    }
#endif
}
