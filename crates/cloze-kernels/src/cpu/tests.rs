//! Every operation against its definition, with every set of instructions that this processor has.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use super::*;
use crate::oracle::{Bench, Finding};

fn each(test: impl Fn(&mut Bench<Cpu>)) {
    for isa in Isa::ALL.into_iter().filter(|&isa| isa <= Isa::best()) {
        let mut bench = Bench::new(Cpu::with(isa, Precision::F32).unwrap(), 1);
        test(&mut bench);
        let found = bench.take();
        assert!(!found.is_empty());
        let wrong: Vec<&Finding> = found.iter().filter(|f| !f.holds()).collect();
        assert!(wrong.is_empty(), "{isa}: {wrong:#?}");
    }
}

#[test]
fn rows() {
    each(Bench::rows);
}

#[test]
fn embeddings() {
    each(Bench::embeddings);
}

#[test]
fn norms() {
    each(Bench::norms);
}

#[test]
fn linear_layers() {
    each(Bench::linear_layers);
}

#[test]
fn activations() {
    each(Bench::activations);
}

#[test]
fn attention_by_definition() {
    each(Bench::attention);
}

#[test]
fn cross_entropies() {
    each(Bench::cross_entropies);
}

#[test]
fn sums_and_moves() {
    each(Bench::sums_and_moves);
}

#[test]
fn adamw_by_definition() {
    each(Bench::adamw);
}

#[test]
fn lamb_by_definition() {
    each(Bench::lamb);
}

/// Boundaries that do not fit the tokens never reach memory.
#[test]
fn attention_refuses_rows_that_do_not_fit() {
    for cu in [&[0u32, 50, 10, 20][..], &[1, 20], &[0, 10, 10, 21], &[]] {
        let run = || {
            let mut cpu = Cpu::new(Precision::F32);
            let words = cpu.allocate(Kind::Word, cu.len()).unwrap();
            cpu.upload_words(words, cu).unwrap();
            let attention = Attention {
                qkv: cpu.allocate(Kind::Activation, 20 * 6).unwrap(),
                cu_seqlens: words,
                longest: 20,
                heads: 1,
                context: cpu.allocate(Kind::Activation, 40).unwrap(),
                log_sums: cpu.allocate(Kind::Float, 20).unwrap(),
                dropout: None,
            };
            cpu.attention(&attention).unwrap();
        };
        assert!(std::panic::catch_unwind(run).is_err(), "{cu:?}");
    }
}

#[test]
fn instructions_that_are_not_there_are_refused() {
    if Isa::best() < Isa::Amx {
        let error = Cpu::with(Isa::Amx, Precision::F32).unwrap_err();
        assert!(error.to_string().contains("AMX"), "{error}");
    }
    assert!(Cpu::with(Isa::Scalar, Precision::Bf16).is_ok());
}
