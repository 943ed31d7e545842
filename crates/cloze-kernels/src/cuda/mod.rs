//! The operations in CUDA's terms: kernels in a subset of C, launched on a [`Machine`].
//!
//! What runs kernels is behind [`Machine`]: a GPU through its driver, or the host, where the threads of a block are fibres. Everything else
//! (which kernel, how many blocks, what it is given, what is recorded) is the same code, so it is tested where there is no GPU.

pub mod machine;

pub use machine::Machine;
