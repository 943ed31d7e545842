/* AdamW on all parameters at once; the copy that products read is renewed on the way. */

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
    /* Not a number, or infinite. */
    if (!(norm <= 3.402823466e38f)) {
        if (first == 0) {
            a.skipped[0] += 1.0f;
        }
        return;
    }
    if (first >= a.n) {
        return;
    }
    float scale = 1.0f;
    if (a.clip > 0.0f && a.clip < norm + 1e-6f) {
        scale = a.clip / (norm + 1e-6f);
    }
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
