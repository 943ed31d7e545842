//! The CUDA kernels, run on the host, against the definition of every operation.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use cloze_kernels::cuda::Cuda;
use cloze_kernels::cuda::host::{Host, Order};
use cloze_kernels::cuda::machine::Format;
use cloze_kernels::oracle::{Bench, Finding};

fn each(test: impl Fn(&mut Bench<Cuda<Host>>)) {
    for (format, order) in [
        (Format::F32, Order::Forward),
        (Format::F32, Order::Backward),
        (Format::Bf16, Order::Backward),
    ] {
        check(Cuda::new(Host::new(format, order)), &test);
    }
}

fn check(mut ops: Cuda<Host>, test: impl Fn(&mut Bench<Cuda<Host>>)) {
    let what = format!("{:?}", ops.machine());
    let mut bench = Bench::new(ops, 8);
    test(&mut bench);
    let found = bench.take();
    assert!(!found.is_empty());
    let wrong: Vec<&Finding> = found.iter().filter(|f| !f.holds()).collect();
    assert!(wrong.is_empty(), "{what}: {wrong:#?}");
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
fn attention() {
    each(Bench::attention);
    check(
        Cuda::new(Host::new(Format::Bf16, Order::Forward)),
        Bench::attention,
    );
}

#[test]
fn plain_attention() {
    let mut ops = Cuda::new(Host::new(Format::Bf16, Order::Forward));
    ops.plain_attention(true);
    check(ops, Bench::attention);
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
fn optimizers() {
    each(Bench::adamw);
    each(Bench::lamb);
}
