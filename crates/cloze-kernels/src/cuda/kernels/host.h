/* The names of prelude.h on the host, where the threads of a block are fibres that take turns at barriers. */

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef uint32_t uint;
typedef uint64_t uint64;
typedef uint16_t bf16;

/* What a fibre knows; mirrored in host.rs. */
typedef struct {
    uint thread;
    uint threads;
    uint block[3];
    uint grid[3];
    char *shared;
    uint (*slots)[8]; /* what each thread of the block shows to its warp, twice */
    uint turn;        /* which of the two was written last */
} HostThread;

extern _Thread_local HostThread *cloze_host_thread;
extern void cloze_host_sync(void);
extern void cloze_host_warp(void);
extern void cloze_host_start(void);
extern void cloze_host_copy(void *to, const void *from, uint bytes, int valid);
extern void cloze_host_commit(void);
extern void cloze_host_wait(uint n);
extern void cloze_host_register(int bf16, const char *name, void (*run)(const void *), uint size, uint most);

#define FUNCTION static inline __attribute__((unused))
/* In two steps, so that a name may be a macro. */
#define KERNEL(name, most, Type) HOST_KERNEL(name, most, Type)
#define KERNEL_BLOCKS(name, most, blocks, Type) HOST_KERNEL(name, most, Type)
#define HOST_KERNEL(name, most, Type)                                                                       \
    static void kernel_##name(const Type a);                                                           \
    static void run_##name(const void *p) {                                                            \
        Type a;                                                                                        \
        memcpy(&a, p, sizeof a);                                                                       \
        cloze_host_start();                                                                            \
        kernel_##name(a);                                                                              \
    }                                                                                                  \
    __attribute__((constructor)) static void add_##name(void) {                                        \
        cloze_host_register(ACT_BF16, #name, run_##name, (uint)sizeof(Type), most);                    \
    }                                                                                                  \
    static void kernel_##name(const Type a)

#define THREAD (cloze_host_thread->thread)
#define THREADS (cloze_host_thread->threads)
#define BLOCK_X (cloze_host_thread->block[0])
#define BLOCK_Y (cloze_host_thread->block[1])
#define BLOCK_Z (cloze_host_thread->block[2])
#define GRID_X (cloze_host_thread->grid[0])
#define GRID_Y (cloze_host_thread->grid[1])
#define GRID_Z (cloze_host_thread->grid[2])
#define SHARED (cloze_host_thread->shared)
#define SYNC() cloze_host_sync()
#define WARP_SYNC() cloze_host_warp()

/* Where the warp's threads show something next. They go on when all have written there, and write there again when all have shown something
   else in between: by then everybody has read. */
FUNCTION uint (*host_slots(void))[8] {
    HostThread *thread = cloze_host_thread;
    thread->turn ^= 1;
    return thread->slots + thread->turn * thread->threads + thread->thread / 32 * 32;
}

FUNCTION uint shfl_u(uint v, uint lane) {
    uint(*slots)[8] = host_slots();
    slots[THREAD % 32][0] = v;
    cloze_host_warp();
    return slots[lane % 32][0];
}

FUNCTION uint bits_of(float f) {
    uint u;
    memcpy(&u, &f, 4);
    return u;
}

FUNCTION float float_of_bits(uint u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}

FUNCTION uint shfl_xor_u(uint v, uint mask) {
    return shfl_u(v, (THREAD % 32) ^ mask);
}

FUNCTION float shfl_f(float v, uint lane) {
    return float_of_bits(shfl_u(bits_of(v), lane));
}

FUNCTION float shfl_xor_f(float v, uint mask) {
    return float_of_bits(shfl_xor_u(bits_of(v), mask));
}

FUNCTION uint ballot(uint p) {
    uint(*slots)[8] = host_slots();
    slots[THREAD % 32][0] = p;
    cloze_host_warp();
    uint all = 0;
    for (uint i = 0; i < 32; i++) {
        all |= (uint)(slots[i][0] != 0) << i;
    }
    return all;
}

#define count_ones(u) ((uint)__builtin_popcount(u))

FUNCTION uint add_shared_u(uint *p, uint v) {
    uint old = *p;
    *p += v;
    return old;
}

#define expf_ expf
#define logf_ logf
#define erff_ erff
#define tanhf_ tanhf
#define sqrtf_ sqrtf
#define rsqrtf_(x) (1.0f / sqrtf(x))
#define fmaf_ fmaf
#define fast_exp expf
#define fast_exp2 exp2f

FUNCTION bf16 bf16_of(float f) {
    uint bits = bits_of(f);
    if (f != f) {
        return 0x7FFF;
    }
    return (bf16)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

FUNCTION float float_of_bf16(bf16 b) {
    return float_of_bits((uint)b << 16);
}

FUNCTION uint pack_bf16(float lo, float hi) {
    return (uint)bf16_of(lo) | (uint)bf16_of(hi) << 16;
}

FUNCTION void load4f(const float *p, float *f) {
    memcpy(f, p, 16);
}

FUNCTION void store4f(float *p, const float *f) {
    memcpy(p, f, 16);
}

FUNCTION void move16(void *to, const void *from) {
    memcpy(to, from, 16);
}

#if ACT_BF16
#define HOST_LOAD float_of_bf16
#define HOST_STORE bf16_of
#define HOST_ACT bf16
#else
#define HOST_LOAD
#define HOST_STORE
#define HOST_ACT float
#endif

FUNCTION void load2(const HOST_ACT *p, float *f) {
    for (int i = 0; i < 2; i++) {
        f[i] = HOST_LOAD(p[i]);
    }
}

FUNCTION void store2(HOST_ACT *p, const float *f) {
    for (int i = 0; i < 2; i++) {
        p[i] = HOST_STORE(f[i]);
    }
}

FUNCTION void load8(const HOST_ACT *p, float *f) {
    for (int i = 0; i < 8; i++) {
        f[i] = HOST_LOAD(p[i]);
    }
}

FUNCTION void store8(HOST_ACT *p, const float *f) {
    for (int i = 0; i < 8; i++) {
        p[i] = HOST_STORE(f[i]);
    }
}

/* Fragments as the PTX ISA lays them out for m16n8k16: with g = lane / 4 and q = lane % 4, the words of A hold (row g, columns 2q), (g + 8, 2q),
   (g, 2q + 8), (g + 8, 2q + 8), those of B (rows 2q, column g), (2q + 8, g), and D holds (g, 2q), (g, 2q + 1), (g + 8, 2q), (g + 8, 2q + 1). */
FUNCTION void mma_bf16(float *d, const uint *a, const uint *b) {
    uint(*slots)[8] = host_slots();
    uint lane = THREAD % 32;
    memcpy(slots[lane], a, 16);
    memcpy(slots[lane] + 4, b, 8);
    cloze_host_warp();
    for (uint i = 0; i < 4; i++) {
        uint row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        float sum = 0.0f;
        for (uint k = 0; k < 16; k++) {
            uint left = slots[row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2];
            uint right = slots[column * 4 + k % 8 / 2][4 + k / 8];
            sum += float_of_bf16((bf16)(left >> 16 * (k % 2))) * float_of_bf16((bf16)(right >> 16 * (k % 2)));
        }
        d[i] += sum;
    }
}

/* Lane i gives row i % 8 of matrix i / 8; of each matrix, lane i gets elements 2 (i % 4) and the next of row i / 4, or of column i / 4. */
FUNCTION void host_ldmatrix(uint *r, const void *p, uint count, uint turned) {
    uint(*slots)[8] = host_slots();
    uint lane = THREAD % 32;
    memcpy(slots[lane], &p, 8);
    cloze_host_warp();
    for (uint m = 0; m < count; m++) {
        bf16 two[2];
        for (uint e = 0; e < 2; e++) {
            uint row = turned ? lane % 4 * 2 + e : lane / 4, column = turned ? lane / 4 : lane % 4 * 2 + e;
            const bf16 *from;
            memcpy(&from, slots[m * 8 + row], 8);
            two[e] = from[column];
        }
        r[m] = (uint)two[0] | (uint)two[1] << 16;
    }
}

#define ldmatrix4(r, p) host_ldmatrix(r, p, 4, 0)
#define ldmatrix4_t(r, p) host_ldmatrix(r, p, 4, 1)
#define ldmatrix2(r, p) host_ldmatrix(r, p, 2, 0)
#define ldmatrix2_t(r, p) host_ldmatrix(r, p, 2, 1)

#define copy16(to, from, valid) cloze_host_copy(to, from, 16, valid)
#define copy8(to, from, valid) cloze_host_copy(to, from, 8, valid)
#define copy_commit() cloze_host_commit()
#define copy_wait(n) cloze_host_wait(n)
