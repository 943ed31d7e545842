//! Compiles the CUDA kernels for the host, for tests, where the feature `host` asks for it.

fn main() {
    println!("cargo:rerun-if-changed=src/cuda/kernels");
    #[cfg(feature = "host")]
    for (bf16, name) in [("0", "cloze_kernels_f32"), ("1", "cloze_kernels_bf16")] {
        cc::Build::new()
            .file("src/cuda/kernels/host.c")
            .include("src/cuda/kernels")
            .define("CLOZE_HOST", "1")
            .define("ACT_BF16", bf16)
            .std("gnu11")
            .opt_level(2)
            // Rounding as it is written; and a table of fibres is not code that a sanitizer knows.
            .flag("-ffp-contract=off")
            .flag_if_supported("-Wno-unknown-pragmas")
            .extra_warnings(false)
            .compile(name);
    }
}
