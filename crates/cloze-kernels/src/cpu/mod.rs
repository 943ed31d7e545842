//! The operations on the CPU.

pub mod gemm;
pub mod isa;
