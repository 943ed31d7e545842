/* Rows as they are sent, unpacked and masked. */

typedef struct {
    const uint *wire;
    const uint *cu_seqlens;
    const uint *b_start;
    uint *ids;
    uint *types;
    uint *positions;
    uint narrow;
    uint rows;
    uint tokens;
    uint unused;
} Unpack;

KERNEL(unpack, 256, Unpack) {
    uint t = BLOCK_X * THREADS + THREAD;
    if (t >= a.tokens) {
        return;
    }
    uint row = row_of(a.cu_seqlens, a.rows, t);
    uint id = 0, type = 0, position = 0;
    if (row < a.rows) {
        id = a.narrow ? (a.wire[t / 2] >> (16 * (t % 2))) & 0xFFFFu : a.wire[t];
        position = t - a.cu_seqlens[row];
        type = position >= a.b_start[row];
    }
    a.ids[t] = id;
    a.types[t] = type;
    a.positions[t] = position;
}

typedef struct {
    uint *ids;
    const uint *cu_seqlens;
    const uint *numbers;
    const uint *starts;
    const uint *epoch;
    const uint *special;
    uint *positions;
    uint *labels;
    uint64 mask_below;
    uint64 random_below;
    uint key[2];
    uint mask_id;
    uint replacements;
    uint rows;
    uint specials;
    uint places;
    uint longest;
} Masks;

/* A block of a row's stream. The word at a token's position says whether it is predicted, blocks from FATES on what becomes of it. */
#define FATES 65536
FUNCTION void mask_draw(const Masks *a, uint row, uint block, uint out[4]) {
    uint counter[4];
    counter[0] = a->numbers[2 * row];
    counter[1] = a->numbers[2 * row + 1];
    counter[2] = a->epoch[0];
    counter[3] = block;
    philox(counter, a->key, out);
}

/* A block takes a row: the tokens whose draw is smaller than all but `count` - 1 others, of equals the first. One block more takes what no row
   fills. */
KERNEL(mask_rows, 128, Masks) {
    uint row = BLOCK_X;
    if (row == a.rows) {
        for (uint i = a.starts[row] + THREAD; i < a.places; i += THREADS) {
            a.positions[i] = NONE;
            a.labels[i] = NONE;
        }
        return;
    }
    uint first = a.cu_seqlens[row], n = a.cu_seqlens[row + 1] - first;
    uint to = a.starts[row], count = a.starts[row + 1] - to;
    uint *draws = (uint *)SHARED;
    uint *state = draws + a.longest; /* 1: may be predicted, 3: is */
    for (uint i = THREAD; i < n; i += THREADS) {
        uint id = a.ids[first + i], may = 1;
        for (uint s = 0; s < a.specials; s++) {
            may &= a.special[s] != id;
        }
        state[i] = may;
    }
    for (uint block = THREAD; 4 * block < n; block += THREADS) {
        uint words[4];
        mask_draw(&a, row, block, words);
        for (uint w = 0; w < 4 && 4 * block + w < n; w++) {
            draws[4 * block + w] = words[w];
        }
    }
    SYNC();
    for (uint i = THREAD; i < n; i += THREADS) {
        uint before = 0, own = draws[i];
        for (uint j = 0; j < n; j++) {
            before += (state[j] & 1) && (draws[j] < own || (draws[j] == own && j < i));
        }
        if ((state[i] & 1) && before < count) {
            state[i] = 3;
        }
    }
    SYNC();
    for (uint i = THREAD; i < n; i += THREADS) {
        if (state[i] != 3) {
            continue;
        }
        uint place = to;
        for (uint j = 0; j < i; j++) {
            place += state[j] == 3;
        }
        uint words[4], id = a.ids[first + i];
        a.positions[place] = first + i;
        a.labels[place] = id;
        mask_draw(&a, row, FATES + i, words);
        if (words[0] < a.mask_below) {
            id = a.mask_id;
        } else if (words[0] < a.random_below) {
            id = (uint)(((uint64)words[1] * a.replacements) >> 32);
            for (uint s = 0; s < a.specials; s++) {
                id += a.special[s] != NONE && a.special[s] <= id;
            }
        }
        a.ids[first + i] = id;
    }
}
