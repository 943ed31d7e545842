/* Looking rows of tables up, and adding gradients to them in the order of tokens: sorted by row, then summed in segments. */

typedef struct {
    const uint *ids;
    const uint *kinds;
    const uint *positions;
    const float *words;
    const float *position_table;
    const float *type_table;
    act *sum;
    uint tokens;
    uint h;
} Embed;

KERNEL(embed, 256, Embed) {
    uint64 i = (uint64)BLOCK_X * THREADS + THREAD;
    uint each = a.h / 8;
    if (i >= (uint64)a.tokens * each) {
        return;
    }
    uint t = (uint)(i / each);
    uint f = (uint)(i % each) * 8;
    const float *w = a.words + (uint64)a.ids[t] * a.h + f;
    const float *p = a.position_table + (uint64)a.positions[t] * a.h + f;
    const float *k = a.type_table + (uint64)a.kinds[t] * a.h + f;
    float v[8];
#pragma unroll
    for (int j = 0; j < 8; j++) {
        v[j] = w[j] + p[j] + k[j];
    }
    store8(a.sum + i * 8, v);
}

/* A pass of a stable radix sort by eight bits: keys, and what comes with them; `values` 0 for 0, 1, 2... */
typedef struct {
    const uint *keys;
    const uint *values;
    uint *sorted_keys;
    uint *sorted_values;
    uint *counts; /* [256, tiles] */
    uint n;
    uint shift;
} Sort;

/* Keys that a block takes. */
#define TILE 1024

/* How many keys of each tile have each digit. */
KERNEL(sort_count, 256, Sort) {
    uint *counts = (uint *)SHARED;
    counts[THREAD] = 0;
    SYNC();
    for (uint k = 0; k < TILE / 256; k++) {
        uint i = BLOCK_X * TILE + k * 256 + THREAD;
        if (i < a.n) {
            add_shared_u(counts + ((a.keys[i] >> a.shift) & 255), 1);
        }
    }
    SYNC();
    a.counts[THREAD * GRID_X + BLOCK_X] = counts[THREAD];
}

typedef struct {
    uint *counts;
    uint n;
    uint unused;
} Scan;

/* Sums of all that come before, in place, by one block. */
KERNEL(sort_scan, 1024, Scan) {
    uint *sums = (uint *)SHARED;
    uint each = (a.n + THREADS - 1) / THREADS;
    uint first = THREAD * each;
    uint end = first + each < a.n ? first + each : a.n;
    uint sum = 0;
    for (uint i = first; i < end; i++) {
        sum += a.counts[i];
    }
    sums[THREAD] = sum;
    SYNC();
    for (uint step = 1; step < THREADS; step *= 2) {
        uint before = THREAD >= step ? sums[THREAD - step] : 0;
        SYNC();
        sums[THREAD] += before;
        SYNC();
    }
    uint total = sums[THREAD] - sum;
    for (uint i = first; i < end; i++) {
        uint count = a.counts[i];
        a.counts[i] = total;
        total += count;
    }
}

/* Every key goes where it belongs: after all smaller digits, all equal ones of earlier tiles, and all equal ones before it in its tile. */
KERNEL(sort_move, 1024, Sort) {
    uint *digits = (uint *)SHARED;
    uint i = BLOCK_X * TILE + THREAD;
    uint key = i < a.n ? a.keys[i] : 0;
    uint digit = i < a.n ? (key >> a.shift) & 255 : 256;
    digits[THREAD] = digit;
    SYNC();
    if (i < a.n) {
        uint rank = 0;
        for (uint j = 0; j < THREAD; j++) {
            rank += digits[j] == digit;
        }
        uint to = a.counts[digit * GRID_X + BLOCK_X] + rank;
        a.sorted_keys[to] = key;
        a.sorted_values[to] = a.values ? a.values[i] : i;
    }
}

/* table[keys[i]] += d[tokens[i]], keys sorted. */
typedef struct {
    const uint *keys;
    const uint *tokens;
    const act *d;
    float *table;
    float *partial; /* [chunks, h] */
    uint n;
    uint h;
} Segments;

/* Keys that a block takes. */
#define SEGMENT 64

/* A run of equal keys is added to the table by the block where it begins; what a block holds of a run that began before goes to `partial`. */
KERNEL(segment_sum, 128, Segments) {
    uint *keys = (uint *)SHARED;
    uint *tokens = keys + SEGMENT;
    uint first = BLOCK_X * SEGMENT;
    uint count = a.n - first < SEGMENT ? a.n - first : SEGMENT;
    if (THREAD < count) {
        keys[THREAD] = a.keys[first + THREAD];
        tokens[THREAD] = a.tokens[first + THREAD];
    }
    SYNC();
    uint begun = first > 0 && a.keys[first - 1] == keys[0];
    for (uint f = THREAD * 8; f < a.h; f += THREADS * 8) {
        float sum[8] = {0};
        uint head = begun;
        for (uint i = 0; i < count; i++) {
            float d[8];
            load8(a.d + (uint64)tokens[i] * a.h + f, d);
#pragma unroll
            for (int k = 0; k < 8; k++) {
                sum[k] += d[k];
            }
            if (i + 1 == count || keys[i + 1] != keys[i]) {
                float *to = head ? a.partial + (uint64)BLOCK_X * a.h + f
                                 : a.table + (uint64)keys[i] * a.h + f;
#pragma unroll
                for (int k = 0; k < 8; k++) {
                    to[k] = head ? sum[k] : to[k] + sum[k];
                    sum[k] = 0.0f;
                }
                head = 0;
            }
        }
    }
}

/* What lies in `partial` of a run that began in the block before, added up in order, by the block that follows it. */
KERNEL(segment_join, 128, Segments) {
    uint first = (BLOCK_X + 1) * SEGMENT;
    uint key = a.keys[first];
    /* Not begun before, or begun before the block before this one. */
    if (a.keys[first - 1] != key || (BLOCK_X > 0 && a.keys[first - SEGMENT - 1] == key)) {
        return;
    }
    uint chunks = (a.n + SEGMENT - 1) / SEGMENT;
    uint end = BLOCK_X + 1;
    while (end < chunks && a.keys[end * SEGMENT] == key) {
        end++;
    }
    for (uint f = THREAD * 8; f < a.h; f += THREADS * 8) {
        float sum[8] = {0};
        for (uint c = BLOCK_X + 1; c < end; c++) {
            const float *from = a.partial + (uint64)c * a.h + f;
#pragma unroll
            for (int k = 0; k < 8; k++) {
                sum[k] += from[k];
            }
        }
        float *to = a.table + (uint64)key * a.h + f;
#pragma unroll
        for (int k = 0; k < 8; k++) {
            to[k] += sum[k];
        }
    }
}
