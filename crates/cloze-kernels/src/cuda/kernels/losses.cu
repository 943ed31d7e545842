/* Cross-entropy, sums, norms. */

typedef struct {
    act *logits;
    const uint *labels;
    float *losses;
    float *hits;
    const float *scale;
    uint width;
    uint classes;
} CrossEntropy;

/* The larger of two maxima, and of equals the first; `sum` is of exp(x - most). */
typedef struct {
    float most;
    float sum;
    uint first;
} Softmax;

FUNCTION Softmax softmax_join(Softmax p, Softmax q) {
    if (q.most > p.most || (q.most == p.most && q.first < p.first)) {
        Softmax t = p;
        p = q;
        q = t;
    }
    if (q.sum > 0.0f) {
        p.sum += q.sum * expf_(q.most - p.most);
    }
    return p;
}

#define LOWEST (-3.402823466e38f)

/* A block takes a row. */
KERNEL(cross_entropy, 512, CrossEntropy) {
    uint row = BLOCK_X;
    uint label = a.labels[row];
    act *x = a.logits + (uint64)row * a.width;
    if (label == NONE) {
        float nothing[8] = {0};
        if (a.scale) {
            for (uint f = THREAD * 8; f < a.width; f += THREADS * 8) {
                store8(x + f, nothing);
            }
        }
        if (THREAD == 0) {
            a.losses[row] = 0.0f;
            a.hits[row] = 0.0f;
        }
        return;
    }
    float right = load(x + label);
    Softmax own = {LOWEST, 0.0f, NONE};
    for (uint f = THREAD * 8; f < a.classes; f += THREADS * 8) {
        float v[8];
        load8(x + f, v);
        Softmax eight = {LOWEST, 0.0f, NONE};
#pragma unroll
        for (int k = 0; k < 8; k++) {
            if (f + (uint)k < a.classes && !(v[k] <= eight.most)) {
                eight.most = v[k];
                eight.first = f + (uint)k;
            }
        }
#pragma unroll
        for (int k = 0; k < 8; k++) {
            if (f + (uint)k < a.classes) {
                eight.sum += expf_(v[k] - eight.most);
            }
        }
        own = softmax_join(own, eight);
    }
    Softmax *all = (Softmax *)SHARED;
    all[THREAD] = own;
    SYNC();
    for (uint half = THREADS / 2; half > 0; half /= 2) {
        if (THREAD < half) {
            all[THREAD] = softmax_join(all[THREAD], all[THREAD + half]);
        }
        SYNC();
    }
    Softmax total = all[0];
    float loss = logf_(total.sum) + total.most - right;
    if (THREAD == 0) {
        a.losses[row] = loss;
        a.hits[row] = total.first == label ? 1.0f : 0.0f;
    }
    if (a.scale) {
        float scale = a.scale[0];
        float share = scale / total.sum;
        for (uint f = THREAD * 8; f < a.width; f += THREADS * 8) {
            float v[8];
            load8(x + f, v);
#pragma unroll
            for (int k = 0; k < 8; k++) {
                uint c = f + (uint)k;
                v[k] = c < a.classes ? expf_(v[k] - total.most) * share : 0.0f;
                if (c == label) {
                    v[k] -= scale - 0.0f * loss;
                }
            }
            store8(x + f, v);
        }
    }
}

typedef struct {
    const float *x;
    double *partial;
    uint64 n;
    uint64 each;
    uint squares;
    uint unused;
} Total;

/* The sum of a block's threads, in a fixed order; thread 0 has it. */
FUNCTION double block_total(double own) {
    double *all = (double *)SHARED;
    all[THREAD] = own;
    SYNC();
    for (uint half = THREADS / 2; half > 0; half /= 2) {
        if (THREAD < half) {
            all[THREAD] += all[THREAD + half];
        }
        SYNC();
    }
    return all[0];
}

/* A block takes `each` elements; which are summed by whom does not depend on how many blocks there are at a time. */
KERNEL(total, 256, Total) {
    uint64 first = (uint64)BLOCK_X * a.each;
    uint64 end = first + a.each < a.n ? first + a.each : a.n;
    double sum = 0.0;
    for (uint64 i = first + THREAD; i < end; i += THREADS) {
        double v = a.x[i];
        sum += a.squares ? v * v : v;
    }
    sum = block_total(sum);
    if (THREAD == 0) {
        a.partial[BLOCK_X] = sum;
    }
}

typedef struct {
    const double *partial;
    const float *scale;
    float *to;
    uint n;
    uint root;
} Finish;

/* The sum of all blocks' sums: its root, or added to what is there. */
KERNEL(total_finish, 256, Finish) {
    double sum = 0.0;
    for (uint i = THREAD; i < a.n; i += THREADS) {
        sum += a.partial[i];
    }
    sum = block_total(sum);
    if (THREAD == 0) {
        if (a.root) {
            a.to[0] = (float)sqrt(sum);
        } else {
            a.to[0] += (float)(a.scale ? sum * (double)a.scale[0] : sum);
        }
    }
}
