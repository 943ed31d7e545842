/* Attention within rows: plain, for any head of up to 256 features and rows of any length. It is the fallback, and the measure of the others. */

typedef struct {
    const act *qkv;         /* [T, 3 H] */
    const uint *cu_seqlens; /* [B + 1] */
    act *context;           /* [T, H] */
    float *log_sums;        /* [heads, T] */
    const act *dcontext;
    act *dqkv;
    Drop dropout;
    uint rows;
    uint tokens;
    uint heads;
    uint size;
    float scale;
    uint longest;
    float *told; /* [heads, T, 2]: between the kernels of the way back by matrix instructions */
    uint *kept;  /* [heads, T, chunks of 128 keys, 4]: likewise */
} Attention;

/* Features of a head that a lane takes. */
#define EACH 8

/* The row that a token is of; `rows` for padding. */
FUNCTION uint row_of(const uint *cu_seqlens, uint rows, uint token) {
    if (token >= cu_seqlens[rows]) {
        return rows;
    }
    uint low = 0, high = rows;
    while (high - low > 1) {
        uint middle = (low + high) / 2;
        if (cu_seqlens[middle] <= token) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

FUNCTION float dot(const act *p, const act *q, uint n) {
    float sum = 0.0f;
    for (uint i = 0; i < n; i++) {
        sum = fmaf_(load(p + i), load(q + i), sum);
    }
    return sum;
}

/* What is kept of a key's weight for a query. */
FUNCTION float weight_factor(const Drop *drop, uint head, uint query, uint key) {
    if (!drop->on) {
        return 1.0f;
    }
    uint words[4];
    Drop own = *drop;
    own.site |= head;
    drop_block(&own, query, key / 128 * 16 + key % 16, words);
    return drop_factor(drop, words, (int)(key % 128 / 16));
}

/* Adds `times` of lane `from` times the features at `p` to a lane's own. */
FUNCTION void add_times(float *sum, float times, const act *p, uint n) {
    for (int k = 0; k < EACH; k++) {
        uint f = LANE + 32 * (uint)k;
        if (f < n) {
            sum[k] = fmaf_(times, load(p + f), sum[k]);
        }
    }
}

FUNCTION void put(act *p, const float *sum, uint n) {
    for (int k = 0; k < EACH; k++) {
        uint f = LANE + 32 * (uint)k;
        if (f < n) {
            store(p + f, sum[k]);
        }
    }
}

/* A warp takes a query of a head. */
KERNEL(attention_forward, 128, Attention) {
    uint token = BLOCK_X * (THREADS / 32) + WARP, head = BLOCK_Y;
    if (token >= a.tokens) {
        return;
    }
    uint h = a.heads * a.size, row = row_of(a.cu_seqlens, a.rows, token);
    float sum[EACH] = {0};
    act *context = a.context + (uint64)token * h + head * a.size;
    float *log_sum = a.log_sums + (uint64)head * a.tokens + token;
    if (row == a.rows) {
        put(context, sum, a.size);
        if (LANE == 0) {
            *log_sum = 0.0f;
        }
        return;
    }
    uint first = a.cu_seqlens[row], n = a.cu_seqlens[row + 1] - first;
    const act *q = a.qkv + (uint64)token * 3 * h + head * a.size;
    const act *k = a.qkv + (uint64)first * 3 * h + h + head * a.size;
    const act *v = k + h;
    float most = -3.0e38f, total = 0.0f;
    for (uint j = LANE; j < n; j += 32) {
        float s = a.scale * dot(q, k + (uint64)j * 3 * h, a.size);
        float now = s > most ? s : most;
        total = total * expf_(most - now) + expf_(s - now);
        most = now;
    }
    float all = warp_max(most);
    total = warp_sum(total * expf_(most - all));
    if (LANE == 0) {
        *log_sum = all + logf_(total);
    }
    for (uint base = 0; base < n; base += 32) {
        uint j = base + LANE;
        float p = 0.0f;
        if (j < n) {
            p = expf_(a.scale * dot(q, k + (uint64)j * 3 * h, a.size) - all) / total;
            p *= weight_factor(&a.dropout, head, token, j);
        }
        for (uint i = 0; i < 32 && base + i < n; i++) {
            add_times(sum, shfl_f(p, i), v + (uint64)(base + i) * 3 * h, a.size);
        }
    }
    put(context, sum, a.size);
}

/* From the weight's score: what the weight is multiplied by, the weight, and the gradient of the score. */
FUNCTION void score_back(const Attention *a, uint head, uint query, uint first, uint key, float *dropped, float *ds) {
    uint h = a->heads * a->size;
    const act *q = a->qkv + (uint64)query * 3 * h + head * a->size;
    const act *k = a->qkv + (uint64)(first + key) * 3 * h + h + head * a->size;
    const act *own = a->dcontext + (uint64)query * h + head * a->size;
    const act *context = a->context + (uint64)query * h + head * a->size;
    float p = expf_(a->scale * dot(q, k, a->size) - a->log_sums[(uint64)head * a->tokens + query]);
    float factor = weight_factor(&a->dropout, head, query, key);
    *dropped = p * factor;
    *ds = p * (dot(own, k + h, a->size) * factor - dot(own, context, a->size)) * a->scale;
}

/* A warp takes a token of a head: as a query, then as a key. */
KERNEL(attention_backward, 128, Attention) {
    uint token = BLOCK_X * (THREADS / 32) + WARP, head = BLOCK_Y;
    if (token >= a.tokens) {
        return;
    }
    uint h = a.heads * a.size, row = row_of(a.cu_seqlens, a.rows, token);
    float dq[EACH] = {0}, dk[EACH] = {0}, dv[EACH] = {0};
    act *to = a.dqkv + (uint64)token * 3 * h + head * a.size;
    if (row < a.rows) {
        uint first = a.cu_seqlens[row], n = a.cu_seqlens[row + 1] - first;
        const act *q = a.qkv + (uint64)first * 3 * h + head * a.size;
        const act *own = a.dcontext + (uint64)first * h + head * a.size;
        for (uint base = 0; base < n; base += 32) {
            uint j = base + LANE;
            float as_query[2] = {0}, as_key[2] = {0};
            if (j < n) {
                score_back(&a, head, token, first, j, as_query, as_query + 1);
                score_back(&a, head, first + j, first, token - first, as_key, as_key + 1);
            }
            for (uint i = 0; i < 32 && base + i < n; i++) {
                const act *other = q + (uint64)(base + i) * 3 * h;
                add_times(dq, shfl_f(as_query[1], i), other + h, a.size);
                add_times(dk, shfl_f(as_key[1], i), other, a.size);
                add_times(dv, shfl_f(as_key[0], i), own + (uint64)(base + i) * h, a.size);
            }
        }
    }
    put(to, dq, a.size);
    put(to + h, dk, a.size);
    put(to + 2 * h, dv, a.size);
}
