//! Times products of the shapes that BERT has: `cargo run --release -p cloze-kernels --example products`.

use std::time::Instant;

use cloze_kernels::cpu::gemm::{Finish, Matrix, Scratch, product};
use cloze_kernels::cpu::isa::{Isa, Precision};

fn best(mut run: impl FnMut()) -> f64 {
    run();
    let once = || {
        let started = Instant::now();
        run();
        started.elapsed().as_secs_f64()
    };
    std::iter::repeat_with(once)
        .take(7)
        .fold(f64::MAX, f64::min)
}

fn main() {
    let scratch = Scratch::default();
    let only: Option<String> = std::env::args().nth(1);
    println!(
        "GFLOP/s, {} threads; x wT, dy w, dyT x",
        rayon::current_num_threads()
    );
    for (m, n, k) in [
        (2048, 1536, 384),
        (2048, 384, 1536),
        (2048, 1152, 384),
        (2048, 384, 384),
        (2048, 3072, 768),
        (384, 30522, 384),
        (2048, 30522, 768),
    ] {
        let (x, w, dy) = (
            vec![0.5f32; m * k],
            vec![0.25f32; n * k],
            vec![0.125f32; m * n],
        );
        let mut line = format!("{m:>6} x {n:>6} x {k:>5}:");
        for isa in Isa::ALL
            .into_iter()
            .filter(|i| (Isa::Avx2..=Isa::best()).contains(i))
        {
            for precision in [Precision::F32, Precision::Bf16] {
                let name = format!("{isa} {precision}");
                if (precision == Precision::Bf16) != (isa >= Isa::Avx512Bf16)
                    || only.as_ref().is_some_and(|o| *o != name)
                {
                    continue;
                }
                let (mut y, mut dx, mut dw) =
                    (vec![0f32; m * n], vec![0f32; m * k], vec![0f32; n * k]);
                let f = Finish::default();
                let t = [
                    best(|| {
                        product(
                            isa,
                            precision,
                            &scratch,
                            (m, n, k),
                            Matrix::rows(&x, k),
                            Matrix::rows(&w, k).t(),
                            &mut y,
                            n,
                            f,
                        );
                    }),
                    best(|| {
                        product(
                            isa,
                            precision,
                            &scratch,
                            (m, k, n),
                            Matrix::rows(&dy, n),
                            Matrix::rows(&w, k),
                            &mut dx,
                            k,
                            f,
                        );
                    }),
                    best(|| {
                        product(
                            isa,
                            precision,
                            &scratch,
                            (n, k, m),
                            Matrix::rows(&dy, n).t(),
                            Matrix::rows(&x, k),
                            &mut dw,
                            k,
                            f,
                        );
                    }),
                ];
                let rate = t
                    .map(|t| format!("{:.0}", 2e-9 * (m * n * k) as f64 / t))
                    .join(" ");
                line += &format!("  {isa} {precision} {rate}");
            }
        }
        let mut y = vec![0f32; m * n];
        let t = best(|| {
            // SAFETY: the matrices have the sizes that are said.
            unsafe {
                gemm::gemm(
                    m,
                    n,
                    k,
                    y.as_mut_ptr(),
                    1,
                    n as isize,
                    false,
                    x.as_ptr(),
                    1,
                    k as isize,
                    w.as_ptr(),
                    k as isize,
                    1,
                    0f32,
                    1f32,
                    false,
                    false,
                    false,
                    gemm::Parallelism::Rayon(0),
                );
            }
        });
        println!("{line}  gemm crate {:.0}", 2e-9 * (m * n * k) as f64 / t);
    }
}
