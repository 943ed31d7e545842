/* Every kernel, as one unit: compiled by NVRTC for a GPU, and by the C compiler for the host. ACT_BF16 says what activations are kept in. */

#ifdef CLOZE_HOST
#include "host.h"
#else
#include "device.h"
#endif
#include "prelude.h"
#include "common.h"
#include "norm.cu"
#include "pointwise.cu"
#include "embedding.cu"
#include "losses.cu"
#include "optimizer.cu"
#include "attention.cu"
#include "rows.cu"
#include "attention_mma.cu"
