/* The kernels for the host, and a list of them. */

#include "all.cu"
#include "test_prelude.cu"

#include <stdio.h>
#include <stdlib.h>

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

/* Copies that a thread began: as late as may be, when it waits for them, while their place is lost at once, as early as may be. */
typedef struct {
    void *to;
    const void *from;
    uint group;
    uint bytes;
    int valid;
} HostCopy;

#define COPIES 48
#define COPIERS 256

static _Thread_local struct {
    HostCopy copies[COPIES];
    uint count;
    uint group;
} copiers[COPIERS];

void cloze_host_start(void) {
    if (THREAD < COPIERS) {
        copiers[THREAD].count = copiers[THREAD].group = 0;
    }
}

void cloze_host_copy(void *to, const void *from, uint bytes, int valid) {
    HostCopy copy = {to, from, 0, bytes, valid};
    if (THREAD >= COPIERS || copiers[THREAD].count == COPIES || (uintptr_t)to % bytes || (valid && (uintptr_t)from % bytes)) {
        fprintf(stderr, "copy%u: too many threads or copies at once, or not aligned\n", bytes);
        abort();
    }
    copy.group = copiers[THREAD].group;
    copiers[THREAD].copies[copiers[THREAD].count++] = copy;
    memset(to, 0xFD, bytes);
}

void cloze_host_commit(void) {
    if (THREAD < COPIERS) {
        copiers[THREAD].group++;
    }
}

/* Does all but what the last n groups, and what is in no group yet, began. */
void cloze_host_wait(uint n) {
    uint left = 0;
    if (THREAD >= COPIERS) {
        return;
    }
    for (uint i = 0; i < copiers[THREAD].count; i++) {
        HostCopy copy = copiers[THREAD].copies[i];
        if (copy.group + n >= copiers[THREAD].group) {
            copiers[THREAD].copies[left++] = copy;
        } else if (copy.valid) {
            memcpy(copy.to, copy.from, copy.bytes);
        } else {
            memset(copy.to, 0, copy.bytes);
        }
    }
    copiers[THREAD].count = left;
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
