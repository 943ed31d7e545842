/* What several kernels share. */

/* A place where something is dropped: see `dropout.rs`. */
typedef struct {
    const uint *draw; /* the step, and tokens before the first */
    uint key[2];
    uint site; /* its number, times 2^12 */
    uint below;
    float kept;
    uint on;
} Drop;

/* What was kept of `v`, as it is stored. */
FUNCTION float rounded(float v) {
#if ACT_BF16
    return float_of_bf16(bf16_of(v));
#else
    return v;
#endif
}

/* One block of sixteen that draw for 128 features of a token. */
FUNCTION void drop_block(const Drop *drop, uint token, uint block, uint out[4]) {
    uint counter[4];
    uint step = drop->draw[0];
    counter[0] = step << 24 | drop->site;
    counter[1] = step >> 8;
    counter[2] = drop->draw[1] + token;
    counter[3] = block;
    philox(counter, drop->key, out);
}

/* The j-th of eight draws of a block: 0, or what is kept is multiplied by. */
FUNCTION float drop_factor(const Drop *drop, const uint words[4], int j) {
    uint draw = (words[j / 2] >> (16 * (j % 2))) & 0xFFFFu;
    return draw < drop->below ? 0.0f : drop->kept;
}
