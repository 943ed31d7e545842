/* What kernels are written in: a subset of C, with these names for what differs between a GPU and the host.

   A kernel takes one structure by value:

       KERNEL(name, 256, Arguments) { ... a.x ... }     // at most 256 threads a block; its argument is called `a`
       KERNEL_BLOCKS(name, 256, 2, Arguments) { ... }   // in registers for two blocks at once

   Pointers in it are 8 bytes; the structure is mirrored in Rust with #[repr(C)], and its size is compared when the host runs it.
   No templates, references, overloads, default arguments, `auto`, C++ casts, static shared arrays, or atomics on global memory.
   Every warp operation takes all 32 lanes: no lane may have left. Sums that cross threads are made in a fixed order.

   THREAD, THREADS                 threadIdx.x, blockDim.x
   BLOCK_X BLOCK_Y BLOCK_Z         blockIdx;   GRID_X GRID_Y GRID_Z   gridDim
   LANE, WARP                      THREAD % 32, THREAD / 32
   SHARED                          char *: the block's dynamic shared memory, aligned to 128 bytes
   SYNC(), WARP_SYNC()             barriers of the block and of the warp
   uint, uint64                    32 and 64 bits
   shfl_xor_f(v, mask), shfl_f(v, lane), shfl_xor_u, shfl_u      float and uint, 32 lanes
   ballot(p)                       uint: the lanes where p is not 0
   count_ones(u)                   bits of a uint that are 1
   warp_sum(v), warp_max(v)        float, the same in every lane, by xor of 16, 8, 4, 2, 1
   bf16                            16 bits;  bf16_of(f): nearest, ties to even;  float_of_bf16(b)
   pack_bf16(lo, hi)               uint of two
   act                             what activations are kept in: float, or bf16 where ACT_BF16 is 1
   load(p), store(p, f)            act at p, as float
   load2(p, f), store2(p, f)       two neighbours, p aligned to both, f a float[2]
   load8(p, f), store8(p, f)       eight neighbours, p aligned to 16 bytes, f a float[8]
   load4f(p, f), store4f(p, f)     four floats, p aligned to 16 bytes
   move16(to, from)                16 bytes, both aligned
   expf_, logf_, erff_, tanhf_, sqrtf_, rsqrtf_     accurate to a few units in the last place; never the fast-math forms
   fast_exp(x)                     exp(x) for x <= 0, as attention and cross-entropy need it: relative error under 2^-20
   fast_exp2(x)                    likewise 2 to the x
   fmaf_                           fused
   mma_bf16(d, a, b)               mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32: float d[4] += a (uint[4]) b (uint[2])
   ldmatrix4(r, p), ldmatrix4_t(r, p), ldmatrix2(r, p), ldmatrix2_t(r, p)     r: uint[4] or uint[2]; p: this lane's row in shared memory
   copy16(shared, global, valid)   cp.async of 16 bytes, zeros where valid is 0;  copy8: of 8;  copy_commit(), copy_wait(n)
   add_shared_u(p, v)              atomic add on a uint in shared memory; returns the old value
   philox(counter, key, out)       Philox4x32-10: uint counter[4], key[2], out[4]
*/

#if ACT_BF16
typedef bf16 act;
#define load(p) float_of_bf16(*(p))
#define store(p, f) (*(p) = bf16_of(f))
#else
typedef float act;
#define load(p) (*(p))
#define store(p, f) (*(p) = (f))
#endif

#define LANE (THREAD % 32)
#define WARP (THREAD / 32)

FUNCTION float warp_sum(float v) {
    for (int mask = 16; mask > 0; mask /= 2) {
        v += shfl_xor_f(v, mask);
    }
    return v;
}

FUNCTION float warp_max(float v) {
    for (int mask = 16; mask > 0; mask /= 2) {
        float other = shfl_xor_f(v, mask);
        v = other > v ? other : v;
    }
    return v;
}

/* Salmon et al., SC 2011. */
FUNCTION void philox(const uint *counter, const uint *key, uint *out) {
    uint c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint k0 = key[0], k1 = key[1];
#pragma unroll
    for (int round = 0; round < 10; round++) {
        uint64 p0 = (uint64)0xD2511F53u * c0;
        uint64 p1 = (uint64)0xCD9E8D57u * c2;
        c0 = (uint)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint)p1;
        c2 = (uint)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}
