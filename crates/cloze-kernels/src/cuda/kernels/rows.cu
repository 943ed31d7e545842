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

/* A block of a row's stream. */
FUNCTION void mask_draw(const Masks *a, uint row, uint block, uint out[4]) {
    uint counter[4];
    counter[0] = a->numbers[2 * row];
    counter[1] = a->numbers[2 * row + 1];
    counter[2] = a->epoch[0];
    counter[3] = block;
    philox(counter, a->key, out);
}

/* A block takes a row: `count` of the tokens that may be predicted, by Floyd's sampling. Draw t picks by its first word one of all but the last
   `count` - t - 1 of them; where that is predicted already, the last of these is. What becomes of the i-th that is predicted, the other words of draw i say. One
   block more takes what no row fills. */
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
    uint *may = state + a.longest; /* those that may be */
    for (uint i = THREAD; i < n; i += THREADS) {
        uint id = a.ids[first + i], plain = 1;
        for (uint s = 0; s < a.specials; s++) {
            plain &= a.special[s] != id;
        }
        state[i] = plain;
    }
    for (uint t = THREAD; t < count && t < n; t += THREADS) {
        uint words[4];
        mask_draw(&a, row, t, words);
        draws[t] = words[0];
    }
    SYNC();
    for (uint i = THREAD; i < n; i += THREADS) {
        uint before = 0;
        for (uint j = 0; j < i; j++) {
            before += state[j];
        }
        if (state[i]) {
            may[before] = i;
        }
    }
    SYNC();
    if (THREAD == 0) {
        uint all = 0;
        for (uint i = 0; i < n; i++) {
            all += state[i];
        }
        for (uint last = count < all ? all - count : 0, t = 0; last < all; last++, t++) {
            uint at = may[(uint)(((uint64)draws[t] * (last + 1)) >> 32)];
            state[state[at] == 3 ? may[last] : at] = 3;
        }
    }
    SYNC();
    for (uint i = THREAD; i < n; i += THREADS) {
        if (state[i] != 3) {
            continue;
        }
        uint number = 0;
        for (uint j = 0; j < i; j++) {
            number += state[j] == 3;
        }
        uint words[4], id = a.ids[first + i];
        a.positions[to + number] = first + i;
        a.labels[to + number] = id;
        mask_draw(&a, row, number, words);
        if (words[1] < a.mask_below) {
            id = a.mask_id;
        } else if (words[1] < a.random_below) {
            id = (uint)(((uint64)words[2] * a.replacements) >> 32);
            for (uint s = 0; s < a.specials; s++) {
                id += a.special[s] != NONE && a.special[s] <= id;
            }
        }
        a.ids[first + i] = id;
    }
}
