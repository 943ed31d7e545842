//! The kernels' sources, which a GPU's compiler is given by name.

/// The file that includes the others.
pub const UNIT: &str = include_str!("kernels/all.cu");

/// What it includes: name and text.
pub const INCLUDED: &[(&str, &str)] = &[
    ("attention.cu", include_str!("kernels/attention.cu")),
    ("attention_mma.cu", include_str!("kernels/attention_mma.cu")),
    (
        "attention_mma_back.h",
        include_str!("kernels/attention_mma_back.h"),
    ),
    (
        "attention_mma_body.h",
        include_str!("kernels/attention_mma_body.h"),
    ),
    ("common.h", include_str!("kernels/common.h")),
    ("device.h", include_str!("kernels/device.h")),
    ("embedding.cu", include_str!("kernels/embedding.cu")),
    ("losses.cu", include_str!("kernels/losses.cu")),
    ("norm.cu", include_str!("kernels/norm.cu")),
    ("norm_body.h", include_str!("kernels/norm_body.h")),
    ("optimizer.cu", include_str!("kernels/optimizer.cu")),
    ("pointwise.cu", include_str!("kernels/pointwise.cu")),
    ("prelude.h", include_str!("kernels/prelude.h")),
    ("rows.cu", include_str!("kernels/rows.cu")),
];
