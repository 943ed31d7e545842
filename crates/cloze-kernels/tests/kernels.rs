//! The CUDA kernels, run on the host, against the definition of every operation.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use cloze_kernels::cuda::Cuda;
use cloze_kernels::cuda::host::{Host, Order};
use cloze_kernels::cuda::machine::Format;
use cloze_kernels::oracle::{Bench, Finding};
use cloze_kernels::{Attention, Kind, Ops};

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
    let mut bench = Bench::new(ops.poisoned(), 8);
    test(&mut bench);
    let found = bench.take();
    assert!(!found.is_empty());
    let wrong: Vec<&Finding> = found.iter().filter(|f| !f.holds()).collect();
    assert!(wrong.is_empty(), "{what}: {wrong:#?}");
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

/// Scores so low that the exponential of a softmax's denominator is nothing, with keys missing from a tile: its inverse must stay out.
#[test]
fn low_scores() {
    let (heads, size, tokens) = (1, 32, 5);
    let run = |plain: bool| {
        let mut ops = Cuda::new(Host::new(Format::Bf16, Order::Forward));
        ops.plain_attention(plain);
        let part = |i: usize| match i / size % 3 {
            0 => 8.0,
            1 => -8.0,
            _ => (i % 7) as f32 / 4.0,
        };
        let qkv: Vec<f32> = (0..tokens * 3 * size).map(part).collect();
        let attention = Attention {
            qkv: ops.allocate(Kind::Activation, qkv.len()).unwrap(),
            cu_seqlens: ops.allocate(Kind::Word, 2).unwrap(),
            longest: tokens,
            heads,
            context: ops.allocate(Kind::Activation, tokens * size).unwrap(),
            log_sums: ops.allocate(Kind::Float, tokens).unwrap(),
            dropout: None,
        };
        ops.upload(attention.qkv, &qkv).unwrap();
        let lengths = [0, tokens as u32];
        ops.upload_words(attention.cu_seqlens, &lengths).unwrap();
        ops.attention(&attention).unwrap();
        let dqkv = ops.allocate(Kind::Activation, qkv.len()).unwrap();
        // Any gradient will do: the result is one.
        ops.attention_backward(&attention, attention.context, dqkv)
            .unwrap();
        let mut found = qkv;
        ops.download(dqkv, &mut found).unwrap();
        found
    };
    for (fast, plain) in run(false).iter().zip(run(true)) {
        assert!(
            (fast - plain).abs() <= 0.05 + 0.01 * plain.abs(),
            "{fast} {plain}"
        );
    }
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
