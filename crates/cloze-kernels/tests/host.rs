//! What kernels are written in (`prelude.h`), as the host runs it, against plain Rust; and what the host finds wrong with a kernel.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use cloze_kernels::cuda::Machine;
use cloze_kernels::cuda::host::{Host, Order};
use cloze_kernels::cuda::machine::{Address, Format, Grid};

const FORMATS: [Format; 2] = [Format::F32, Format::Bf16];

const ORDERS: [Order; 2] = [Order::Forward, Order::Backward];

fn grid(blocks: u32, threads: u32, shared: u32) -> Grid {
    Grid {
        blocks: [blocks, 1, 1],
        threads,
        shared,
    }
}

/// The structure's words, as they lie in memory.
fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_ne_bytes()).collect()
}

fn put<const N: usize>(host: &mut Host, values: impl IntoIterator<Item = [u8; N]>) -> Address {
    let bytes: Vec<u8> = values.into_iter().flatten().collect();
    let at = host.allocate(bytes.len()).unwrap();
    host.write(at, &bytes).unwrap();
    at
}

fn floats(host: &mut Host, values: &[f32]) -> Address {
    put(host, values.iter().map(|v| v.to_ne_bytes()))
}

fn get(host: &mut Host, at: Address, len: usize) -> Vec<u32> {
    let mut bytes = vec![0; 4 * len];
    host.read(at, &mut bytes).unwrap();
    let chunks = bytes.as_chunks::<4>().0.iter();
    chunks.map(|&b| u32::from_ne_bytes(b)).collect()
}

fn get_floats(host: &mut Host, at: Address, len: usize) -> Vec<f32> {
    get(host, at, len).into_iter().map(f32::from_bits).collect()
}

/// What a panic says.
fn panic_of(work: impl FnOnce()) -> String {
    let caught = catch_unwind(AssertUnwindSafe(work)).expect_err("nothing was found wrong");
    let literal = caught.downcast_ref::<&str>().map(|&text| text.to_owned());
    literal
        .or_else(|| caught.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}

fn float(b: u16) -> f32 {
    f32::from_bits(u32::from(b) << 16)
}

/// The nearest, ties to even, by comparing distances.
fn bf16_of(x: f32) -> u16 {
    let low = (x.to_bits() >> 16) as u16;
    if x.is_nan() {
        return 0x7FFF;
    }
    if x.is_infinite() {
        return low;
    }
    let far = |b: u16| {
        // Beyond the largest, infinity stands for 2^128.
        let y = float(b);
        let y = if y.is_infinite() {
            2f64.powi(128)
        } else {
            f64::from(y).abs()
        };
        (y - f64::from(x).abs()).abs()
    };
    let up = far(low + 1) < far(low) || (far(low + 1) == far(low) && low % 2 == 1);
    low + u16::from(up)
}

#[test]
fn warps() {
    let (blocks, threads) = (3, 96);
    let n = (blocks * threads) as usize;
    for (order, mask) in ORDERS.into_iter().cycle().zip([1, 2, 4, 8, 16, 31]) {
        let mut host = Host::new(Format::F32, order);
        let [out, ints] = [0, 1].map(|_| host.allocate(16 * n).unwrap());
        let arguments = words(&[out, ints, mask as u64]);
        host.launch("test_warp", grid(blocks, threads, 0), &arguments)
            .unwrap();
        let (out, ints) = (
            get_floats(&mut host, out, 4 * n),
            get(&mut host, ints, 4 * n),
        );
        let value = |t: usize| 1.0 / (1 + t) as f32;
        for t in 0..n {
            let (lane, first) = (t % 32, t / 32 * 32);
            let mut sums: Vec<f32> = (first..first + 32).map(value).collect();
            for mask in [16, 8, 4, 2, 1] {
                sums = (0..32).map(|i| sums[i] + sums[i ^ mask]).collect();
            }
            let largest = (0..32).map(|i| value(first + i) * (i ^ 5) as f32);
            let expected = [
                value(first + (lane ^ mask)),
                value(first + (lane + 3) % 32),
                sums[lane],
                largest.fold(0.0, f32::max),
            ];
            assert_eq!(out[4 * t..][..4], expected, "thread {t}");
            let warp = t % threads as usize / 32;
            let votes = (0..32).filter(|lane| lane * warp % 3 == 1);
            let double: usize = (first..first + 32).sum::<usize>() * 2;
            let expected = [
                7 * (first + (lane ^ mask)) as u32,
                7 * (first + 31 - lane) as u32,
                votes.fold(0, |v, lane| v | 1 << lane),
                double as u32 + (t as u32).count_ones(),
            ];
            assert_eq!(ints[4 * t..][..4], expected, "thread {t}");
        }
    }
}

fn block_input(b: usize) -> Vec<f32> {
    let places = b * 128..(b + 1) * 128;
    places
        .map(|i| ((i * 37 % 101) as f32 - 40.0) / 7.0)
        .collect()
}

/// Runs `test_block` with a fault; sums and counts.
fn block(order: Order, shared: u32, fault: u64) -> (Vec<f32>, Vec<u32>) {
    let x: Vec<f32> = (0..5).flat_map(block_input).collect();
    let mut host = Host::new(Format::Bf16, order);
    let at = floats(&mut host, &x);
    let [sums, counts] = [0, 1].map(|_| host.allocate(20).unwrap());
    let arguments = words(&[at, sums, counts, fault]);
    host.launch("test_block", grid(5, 128, shared), &arguments)
        .unwrap();
    (get_floats(&mut host, sums, 5), get(&mut host, counts, 5))
}

const SHARED: u32 = 4 * 128 + 4;
#[test]
fn barriers() {
    for order in ORDERS {
        let (sums, counts) = block(order, SHARED, 0);
        for b in 0..5 {
            let mut parts = block_input(b);
            assert_eq!(
                counts[b] as usize,
                parts.iter().filter(|&&x| x > 0.0).count()
            );
            for half in [64, 32, 16, 8, 4, 2, 1] {
                parts = (0..half).map(|i| parts[i] + parts[i + half]).collect();
            }
            assert_eq!(sums[b], parts[0]);
        }
    }
}

#[test]
fn a_missing_barrier_shows_when_threads_run_the_other_way() {
    let (forward, reverse) = (
        block(Order::Forward, SHARED, 1),
        block(Order::Backward, SHARED, 1),
    );
    assert_ne!(forward.0, reverse.0);
}

#[test]
fn a_barrier_that_a_thread_skips() {
    for order in ORDERS {
        let why = panic_of(|| drop(block(order, SHARED, 2)));
        assert!(
            why.contains("test_block, block [")
                && why.contains("waits for threads that do not come"),
            "{why}"
        );
    }
}

#[test]
fn a_thread_that_left_before_a_shuffle() {
    for order in ORDERS {
        let why = panic_of(|| drop(block(order, SHARED, 3)));
        assert!(why.contains("waits for threads that do not come"), "{why}");
    }
}

#[test]
fn writing_beyond_memory() {
    let why = panic_of(|| drop(block(Order::Forward, SHARED, 4)));
    assert!(why.contains("of a buffer of 20 was written"), "{why}");
    for (shared, fault) in [(SHARED, 5), (4 * 128, 0)] {
        let why = panic_of(|| drop(block(Order::Backward, shared, fault)));
        assert!(
            why.contains("shared memory was written past its end"),
            "{why}"
        );
    }
}

#[test]
fn shared_memory_holds_no_number_before_a_block() {
    let (sums, _) = block(Order::Forward, SHARED, 6);
    assert!(sums.iter().all(|x| x.is_nan()), "{sums:?}");
}

#[test]
fn numbers() {
    // All upper halves, each exactly, and just below, at and just above the middle to the next.
    let lows = [0, 0x7FFF, 0x8000, 0x8001];
    let mut x: Vec<f32> = (0..1u32 << 16)
        .flat_map(|high| lows.map(|low| f32::from_bits(high << 16 | low)))
        .collect();
    x.extend((-40_000..40_000).map(|i| i as f32 * 0.0025));
    let n = x.len();
    for format in FORMATS {
        let mut host = Host::new(format, Order::Forward);
        let (at, out) = (floats(&mut host, &x), host.allocate(48 * n).unwrap());
        let arguments = words(&[at, out, n as u64]);
        let blocks = n.div_ceil(128) as u32;
        host.launch("test_numbers", grid(blocks, 128, 0), &arguments)
            .unwrap();
        let out = get_floats(&mut host, out, 12 * n);
        for (&x, out) in x.iter().zip(out.chunks(12)) {
            let rounded = float(bf16_of(x));
            let own = match format {
                Format::F32 => x,
                Format::Bf16 => rounded,
            };
            let negative = float(bf16_of(-x));
            for (found, expected) in out.iter().zip([own, rounded, rounded, negative]) {
                let nan = found.is_nan() && expected.is_nan();
                assert!(
                    nan || found.to_bits() == expected.to_bits(),
                    "{x:e}: {found:e}"
                );
            }
            let wide = f64::from(x);
            let close = |i: usize, expected: f64, tolerance: f64| {
                let off = (f64::from(out[i]) - expected).abs();
                let fits = off <= tolerance * expected.abs();
                assert!(fits, "result {i} of {x:e}: {:e}, not {expected:e}", out[i]);
            };
            if (1e-30..80.0).contains(&wide.abs()) {
                close(4, (-wide.abs()).exp(), 2f64.powi(-20));
                close(5, (-wide.abs()).exp2(), 2f64.powi(-21));
                close(6, wide.exp(), 3e-7);
                close(7, wide.abs().ln(), 3e-7);
                close(9, wide.tanh(), 4e-7);
                close(10, 1.0, 4e-7);
            }
            if (0.5..2.0).contains(&x) {
                // One rounding: the fused product is exact.
                assert_eq!(out[11], (wide * wide - wide) as f32);
            }
        }
        // The error function where it is known.
        for (at, expected) in [
            (1.0f32, 0.842_700_8f32),
            (-0.5, -0.520_499_9),
            (0.25, 0.276_326_4),
        ] {
            let i = x.iter().position(|&x| x == at).unwrap();
            assert!((out[12 * i + 8] - expected).abs() < 2e-7);
        }
    }
}

#[test]
fn neighbours() {
    for format in FORMATS {
        let mut host = Host::new(format, Order::Forward);
        let x: Vec<f32> = (0..800).map(|i| i as f32 / 3.0 - 50.0).collect();
        let at = match format {
            Format::F32 => floats(&mut host, &x),
            Format::Bf16 => put(&mut host, x.iter().map(|&x| bf16_of(x).to_ne_bytes())),
        };
        let bytes = 800 * format.bytes();
        let out = host.allocate(bytes).unwrap();
        host.launch("test_wide", grid(1, 64, 0), &words(&[at, out, 50]))
            .unwrap();
        let mut found = vec![0; bytes];
        host.read(out, &mut found).unwrap();
        for (i, found) in found.chunks(format.bytes()).enumerate() {
            let (found, x) = match *found {
                [a, b] => (float(u16::from_ne_bytes([a, b])), float(bf16_of(x[i]))),
                _ => (f32::from_ne_bytes(found.try_into().unwrap()), x[i]),
            };
            assert_eq!(found, if i % 16 < 10 { 2.0 * x } else { 0.0 });
        }
    }
}

/// The vectors that Random123 publishes.
#[test]
fn philox() {
    let pi = [
        0x243F_6A88u32,
        0x85A3_08D3,
        0x1319_8A2E,
        0x0370_7344,
        0xA409_3822,
        0x299F_31D0,
    ];
    let cases = [
        ([0; 6], [0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8]),
        (pi, [0xD16C_FE09, 0x94FD_CCEB, 0x5001_E420, 0x2412_6EA1]),
    ];
    for (given, expected) in cases {
        let mut host = Host::new(Format::F32, Order::Forward);
        let out = host.allocate(16).unwrap();
        let mut arguments: Vec<u8> = given.iter().flat_map(|w| w.to_ne_bytes()).collect();
        arguments.extend(out.to_ne_bytes());
        host.launch("test_philox", grid(1, 32, 0), &arguments)
            .unwrap();
        assert_eq!(get(&mut host, out, 4), expected);
    }
}

#[test]
fn matrices() {
    let number = |i: usize| float(bf16_of(((i * 7919 % 1009) as f32 - 500.0) / 37.0));
    let a: Vec<f32> = (0..256).map(number).collect();
    let b: Vec<f32> = (300..428).map(number).collect();
    let turned: Vec<f32> = (0..128).map(|i| b[i % 16 * 8 + i / 16]).collect();
    for (way, order) in (0..4).flat_map(|way| ORDERS.map(move |order| (way, order))) {
        let mut host = Host::new(Format::Bf16, order);
        let given = if way == 2 { &turned } else { &b };
        let [at_a, at_b] = [&a, given].map(|x| {
            let bits = x.iter().map(|&x| bf16_of(x).to_ne_bytes());
            put(&mut host, bits)
        });
        let c = host.allocate(4 * 128).unwrap();
        host.launch("test_mma", grid(1, 32, 768), &words(&[at_a, at_b, c, way]))
            .unwrap();
        for (i, found) in get_floats(&mut host, c, 128).into_iter().enumerate() {
            let (row, column) = (i / 8, i % 8);
            let terms = (0..16).map(|k| f64::from(a[16 * row + k]) * f64::from(b[8 * k + column]));
            let expected: f64 = terms.sum();
            let off = (f64::from(found) - expected).abs();
            assert!(
                off <= 1e-6 * (10.0 + expected.abs()),
                "way {way}, [{i}]: {found}, not {expected}"
            );
        }
    }
}

#[test]
fn copies() {
    let from: Vec<u32> = (0..512).map(|i| 3 * i + 1).collect();
    let run = |order, early| {
        let mut host = Host::new(Format::F32, order);
        let at = put(&mut host, from.iter().map(|v| v.to_ne_bytes()));
        let to = host.allocate(2048).unwrap();
        host.launch("test_copy", grid(1, 64, 2048), &words(&[at, to, early]))
            .unwrap();
        get(&mut host, to, 512)
    };
    let kept = |i: usize| i % 8 < 4 || i / 8 % 2 != 1;
    let expected: Vec<u32> = (0..512)
        .map(|i| if kept(i) { from[i] } else { 0 })
        .collect();
    for order in ORDERS {
        assert_eq!(run(order, 0), expected);
        // What is read too early is there only where copies arrive at once.
        assert_ne!(run(order, 1), expected, "read too early");
    }
}
