/* Dropout, residual and LayerNorm, forward and backward. A warp takes a row.

   A lane takes, of every 128 features, those that two neighbouring blocks draw for: 16 j + 2 q and the next, q = LANE % 8, j < 8. So every
   draw is used, and eight lanes touch 32 neighbouring bytes. A warp takes four times 128 features at once, TIMES times. */

typedef struct {
    act *x;
    const act *residual;
    const float *weight;
    const float *bias;
    float *stats;
    act *y;
    Drop before;
    Drop after;
    uint rows;
    uint h;
    float eps;
    uint changed;
} NormForward;

typedef struct {
    const act *x;
    const float *weight;
    const float *stats;
    act *dy;
    act *dx;
    float *partial;
    Drop before;
    Drop after;
    uint rows;
    uint h;
    uint rows_each;
    uint unused;
} NormBackward;

/* The factors of a lane's sixteen features of a chunk. */
FUNCTION void drop_chunk(const Drop *drop, uint row, uint chunk, float factor[8][2]) {
    uint q = LANE % 8;
    uint words[2][4];
    drop_block(drop, row, chunk * 16 + 2 * q, words[0]);
    drop_block(drop, row, chunk * 16 + 2 * q + 1, words[1]);
#pragma unroll
    for (int j = 0; j < 8; j++) {
        factor[j][0] = drop_factor(drop, words[0], j);
        factor[j][1] = drop_factor(drop, words[1], j);
    }
}

#define TIMES 1
#define NAMED(name) name##_512
#include "norm_body.h"
#undef TIMES
#undef NAMED
#define TIMES 2
#define NAMED(name) name##_1024
#include "norm_body.h"
#undef TIMES
#undef NAMED
#define TIMES 4
#define NAMED(name) name##_2048
#include "norm_body.h"
#undef TIMES
#undef NAMED
