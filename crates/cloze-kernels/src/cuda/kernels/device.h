/* The names of prelude.h on a GPU. NVRTC needs no other header. */

typedef unsigned int uint;
typedef unsigned long long uint64;
typedef unsigned short bf16;

#define FUNCTION static __device__ __forceinline__
#define KERNEL(name, most, Type) extern "C" __global__ void __launch_bounds__(most) name(const Type a)
#define KERNEL_BLOCKS(name, most, blocks, Type) extern "C" __global__ void __launch_bounds__(most, blocks) name(const Type a)

#define THREAD ((uint)threadIdx.x)
#define THREADS ((uint)blockDim.x)
#define BLOCK_X ((uint)blockIdx.x)
#define BLOCK_Y ((uint)blockIdx.y)
#define BLOCK_Z ((uint)blockIdx.z)
#define GRID_X ((uint)gridDim.x)
#define GRID_Y ((uint)gridDim.y)
#define GRID_Z ((uint)gridDim.z)

extern __shared__ __align__(128) char shared_memory[];
#define SHARED shared_memory
#define SYNC() __syncthreads()
#define WARP_SYNC() __syncwarp()

#define shfl_xor_f(v, mask) __shfl_xor_sync(0xFFFFFFFFu, (float)(v), (int)(mask))
#define shfl_f(v, lane) __shfl_sync(0xFFFFFFFFu, (float)(v), (int)(lane))
#define shfl_xor_u(v, mask) __shfl_xor_sync(0xFFFFFFFFu, (uint)(v), (int)(mask))
#define shfl_u(v, lane) __shfl_sync(0xFFFFFFFFu, (uint)(v), (int)(lane))
#define ballot(p) __ballot_sync(0xFFFFFFFFu, (p))
#define count_ones(u) ((uint)__popc(u))
#define add_shared_u(p, v) atomicAdd((p), (uint)(v))

#define expf_ expf
#define logf_ logf
#define erff_ erff
#define tanhf_ tanhf
#define sqrtf_ sqrtf
#define rsqrtf_ rsqrtf
#define fmaf_ fmaf

FUNCTION float fast_exp(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * 1.4426950409f));
    return y;
}

FUNCTION float fast_exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

FUNCTION bf16 bf16_of(float f) {
    bf16 b;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(b) : "f"(f));
    return b;
}

FUNCTION float float_of_bf16(bf16 b) {
    return __uint_as_float((uint)b << 16);
}

FUNCTION uint pack_bf16(float lo, float hi) {
    uint both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(hi), "f"(lo));
    return both;
}

FUNCTION void load4f(const float *p, float *f) {
    float4 v = *(const float4 *)p;
    f[0] = v.x, f[1] = v.y, f[2] = v.z, f[3] = v.w;
}

FUNCTION void store4f(float *p, const float *f) {
    float4 v;
    v.x = f[0], v.y = f[1], v.z = f[2], v.w = f[3];
    *(float4 *)p = v;
}

FUNCTION void move16(void *to, const void *from) {
    *(uint4 *)to = *(const uint4 *)from;
}

#if ACT_BF16

FUNCTION float low_bf16(uint both) {
    return __uint_as_float(both << 16);
}

FUNCTION float high_bf16(uint both) {
    return __uint_as_float(both & 0xFFFF0000u);
}

FUNCTION void load2(const bf16 *p, float *f) {
    uint both = *(const uint *)p;
    f[0] = low_bf16(both), f[1] = high_bf16(both);
}

FUNCTION void store2(bf16 *p, const float *f) {
    *(uint *)p = pack_bf16(f[0], f[1]);
}

FUNCTION void load8(const bf16 *p, float *f) {
    uint4 v = *(const uint4 *)p;
    f[0] = low_bf16(v.x), f[1] = high_bf16(v.x), f[2] = low_bf16(v.y), f[3] = high_bf16(v.y);
    f[4] = low_bf16(v.z), f[5] = high_bf16(v.z), f[6] = low_bf16(v.w), f[7] = high_bf16(v.w);
}

FUNCTION void store8(bf16 *p, const float *f) {
    uint4 v;
    v.x = pack_bf16(f[0], f[1]), v.y = pack_bf16(f[2], f[3]);
    v.z = pack_bf16(f[4], f[5]), v.w = pack_bf16(f[6], f[7]);
    *(uint4 *)p = v;
}

#else

FUNCTION void load2(const float *p, float *f) {
    float2 v = *(const float2 *)p;
    f[0] = v.x, f[1] = v.y;
}

FUNCTION void store2(float *p, const float *f) {
    float2 v;
    v.x = f[0], v.y = f[1];
    *(float2 *)p = v;
}

FUNCTION void load8(const float *p, float *f) {
    load4f(p, f);
    load4f(p + 4, f + 4);
}

FUNCTION void store8(float *p, const float *f) {
    store4f(p, f);
    store4f(p + 4, f + 4);
}

#endif

FUNCTION void mma_bf16(float *d, const uint *a, const uint *b) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

FUNCTION uint shared_address(const void *p) {
    return (uint)__cvta_generic_to_shared(p);
}

FUNCTION void ldmatrix4(uint *r, const void *p) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(p)) : "memory");
}

FUNCTION void ldmatrix4_t(uint *r, const void *p) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(p)) : "memory");
}

FUNCTION void ldmatrix2(uint *r, const void *p) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(p)) : "memory");
}

FUNCTION void ldmatrix2_t(uint *r, const void *p) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(p)) : "memory");
}

FUNCTION void copy16(void *to, const void *from, int valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(valid ? 16 : 0) : "memory");
}

FUNCTION void copy8(void *to, const void *from, int valid) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(shared_address(to)), "l"(from), "r"(valid ? 8 : 0) : "memory");
}

#define copy_commit() asm volatile("cp.async.commit_group;" ::: "memory")
#define copy_wait(n) asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory")
