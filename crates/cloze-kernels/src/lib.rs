//! The operations of one BERT training step.

pub mod cpu;
