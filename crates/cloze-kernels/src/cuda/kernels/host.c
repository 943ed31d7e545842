/* The kernels for the host, and a list of them. */

#include "all.cu"

#if ACT_BF16
void cloze_host_kernels_bf16(void) {
}
#else
void cloze_host_kernels_f32(void) {
}

_Thread_local HostThread *cloze_host_thread;

void cloze_host_set(HostThread *thread) {
    cloze_host_thread = thread;
}

typedef struct {
    int bf16;
    const char *name;
    void (*run)(const void *);
    uint size;
    uint most;
} HostKernel;

static HostKernel kernels[256];
static uint count;

void cloze_host_register(int bf16, const char *name, void (*run)(const void *), uint size, uint most) {
    HostKernel kernel = {bf16, name, run, size, most};
    if (count < 256) {
        kernels[count++] = kernel;
    }
}

/* The kernel of that name; its size and the most threads of a block that it takes. */
void (*cloze_host_find(int bf16, const char *name, uint length, uint *size, uint *most))(const void *) {
    for (uint i = 0; i < count; i++) {
        if (kernels[i].bf16 == bf16 && strlen(kernels[i].name) == length && memcmp(kernels[i].name, name, length) == 0) {
            *size = kernels[i].size;
            *most = kernels[i].most;
            return kernels[i].run;
        }
    }
    return 0;
}
#endif
