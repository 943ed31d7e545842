#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use proptest::prelude::*;

use super::micro::to_bf16;
use super::*;

/// Numbers without pattern, the same for a seed.
fn numbers(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// The definition, in double precision, and how large a rounding error of f32 sums may be.
fn naive(
    (m, n, k): (usize, usize, usize),
    a: Matrix<'_>,
    b: Matrix<'_>,
    precision: Precision,
) -> Vec<(f64, f64)> {
    let factor = |x: f32| match precision {
        Precision::F32 => f64::from(x),
        Precision::Bf16 => f64::from(f32::from_bits(u32::from(to_bf16(x)) << 16)),
    };
    let one = |i: usize, j: usize| {
        let terms = (0..k)
            .map(|p| factor(a.data[i * a.row + p * a.col]) * factor(b.data[p * b.row + j * b.col]));
        let (sum, size) = terms.fold((0.0, 0.0), |(s, z), t| (s + t, z + t.abs()));
        (
            sum,
            size * f64::from(f32::EPSILON) * (2.0 + (k as f64).sqrt()) + 1e-30,
        )
    };
    (0..m * n).map(|i| one(i / n, i % n)).collect()
}

fn usable() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|&isa| isa <= Isa::best())
}

fn check(
    sizes: (usize, usize, usize),
    (a_turned, b_turned): (bool, bool),
    extra: usize,
    seed: u64,
    finish: Finish<'_>,
) {
    let (m, n, k) = sizes;
    let a_data = numbers(
        seed,
        if a_turned {
            k * (m + extra)
        } else {
            m * (k + extra)
        },
    );
    let b_data = numbers(
        seed + 1,
        if b_turned {
            n * (k + extra)
        } else {
            k * (n + extra)
        },
    );
    let a = if a_turned {
        Matrix::rows(&a_data, m + extra).t()
    } else {
        Matrix::rows(&a_data, k + extra)
    };
    let b = if b_turned {
        Matrix::rows(&b_data, k + extra).t()
    } else {
        Matrix::rows(&b_data, n + extra)
    };
    let ldc = n + extra;
    let before = numbers(seed + 2, m * ldc);
    let scratch = Scratch::default();
    for isa in usable() {
        for precision in [Precision::F32, Precision::Bf16] {
            let expected = naive(sizes, a, b, precision);
            let mut c = before.clone();
            product(isa, precision, &scratch, sizes, a, b, &mut c, ldc, finish);
            for i in 0..m {
                for j in 0..ldc {
                    let (got, was) = (f64::from(c[i * ldc + j]), f64::from(before[i * ldc + j]));
                    if j >= n {
                        assert_eq!(got, was, "beyond the columns of C");
                        continue;
                    }
                    let (sum, error) = expected[i * n + j];
                    let scale = if finish.scale == 0.0 {
                        1.0
                    } else {
                        f64::from(finish.scale)
                    };
                    let base = if finish.accumulate { was } else { 0.0 };
                    let wanted = sum * scale + base + finish.bias.map_or(0.0, |b| f64::from(b[j]));
                    let allowed = error * scale.abs() + 4e-7 * (wanted.abs() + base.abs() + 1.0);
                    assert!(
                        (got - wanted).abs() <= allowed,
                        "{isa} {precision} {sizes:?} at ({i}, {j}): {got}, not {wanted}"
                    );
                }
            }
        }
    }
}

#[test]
fn awkward_sizes_agree_with_the_definition() {
    let sizes = [
        (1, 1, 1),
        (3, 5, 2),
        (14, 32, 32),
        (15, 33, 31),
        (32, 32, 64),
        (33, 31, 65),
        (29, 97, 3),
        (7, 2, 700),
        (61, 67, 331),
        (1, 300, 40),
        (300, 1, 40),
        (5, 5, 0),
    ];
    for (i, sizes) in sizes.into_iter().enumerate() {
        for turned in [(false, false), (false, true), (true, false), (true, true)] {
            check(sizes, turned, i % 3, i as u64 + 1, Finish::default());
        }
    }
}

#[test]
fn finishing_touches() {
    let bias = numbers(77, 40);
    for accumulate in [false, true] {
        for bias in [None, Some(&bias[..])] {
            for scale in [0.0, -0.125] {
                check(
                    (17, 40, 1400),
                    (false, true),
                    1,
                    5,
                    Finish {
                        accumulate,
                        scale,
                        bias,
                    },
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn random_sizes_agree(m in 1usize..80, n in 1usize..80, k in 0usize..200, a in any::<bool>(), b in any::<bool>(), extra in 0usize..5, seed in any::<u32>()) {
        check((m, n, k), (a, b), extra, u64::from(seed), Finish { accumulate: seed % 2 == 0, ..Finish::default() });
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let sizes = (301, 515, 777);
    let (a, b) = (numbers(1, 301 * 777), numbers(2, 515 * 777));
    let with = |threads: usize, isa, precision| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let mut c = vec![0.0; 301 * 515];
        let (a, b) = (Matrix::rows(&a, 777), Matrix::rows(&b, 777).t());
        pool.install(|| {
            product(
                isa,
                precision,
                &Scratch::default(),
                sizes,
                a,
                b,
                &mut c,
                515,
                Finish::default(),
            );
        });
        c
    };
    for isa in usable() {
        for precision in [Precision::F32, Precision::Bf16] {
            assert!(
                with(1, isa, precision) == with(7, isa, precision),
                "{isa} {precision}"
            );
        }
    }
}

/// What is not a number stays so, and what is infinite does.
#[test]
fn not_a_number_is_not_lost() {
    for isa in usable() {
        for precision in [Precision::F32, Precision::Bf16] {
            let mut a = vec![1.0; 40 * 40];
            a[3 * 40 + 7] = f32::NAN;
            a[5 * 40 + 39] = f32::INFINITY;
            let (b, mut c) = (vec![1.0; 40 * 40], vec![0.0; 40 * 40]);
            product(
                isa,
                precision,
                &Scratch::default(),
                (40, 40, 40),
                Matrix::rows(&a, 40),
                Matrix::rows(&b, 40),
                &mut c,
                40,
                Finish::default(),
            );
            for (i, row) in c.chunks(40).enumerate() {
                let right = |x: &f32| match i {
                    3 => x.is_nan(),
                    5 => *x == f32::INFINITY,
                    _ => *x == 40.0,
                };
                assert!(row.iter().all(right), "{isa} {precision} row {i}: {row:?}");
            }
        }
    }
}

#[test]
fn rounding_is_to_nearest_even() {
    for (x, bits) in [
        (1.0f32, 0x3F80u16),
        (1.003_906_25, 0x3F80),
        (1.011_718_75, 0x3F82),
        (-0.0, 0x8000),
        (f32::INFINITY, 0x7F80),
    ] {
        assert_eq!(to_bf16(x), bits, "{x}");
    }
    assert!(f32::from_bits(u32::from(to_bf16(f32::NAN)) << 16).is_nan());
}
