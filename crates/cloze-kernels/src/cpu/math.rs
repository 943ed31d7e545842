//! Functions of one number, written so that a loop over them becomes vector instructions.

use super::isa::fma;

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 in two parts: the first has few enough bits that its products with small integers are exact (Cody and Waite 1980).
const LN2_HIGH: f32 = 0.693_359_375;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// Adding it rounds to an integer: 1.5 · 2²³.
const ROUND: f32 = 12_582_912.0;

/// eˣ, within 2 units in the last place; 0 below −87.3, where single precision has no normal numbers, infinite above 88.7.
#[inline(always)]
pub fn exp<const FMA: bool>(x: f32) -> f32 {
    let clamped = x.clamp(-87.3, 88.7);
    let n = fma::<FMA>(clamped, LOG2_E, ROUND) - ROUND;
    let r = fma::<FMA>(n, -LN2_LOW, fma::<FMA>(n, -LN2_HIGH, clamped));
    // Taylor's series to the seventh power: |r| ≤ ln 2 / 2, so what is left out is under 1e-8.
    let mut p = 1.0 / 5040.0;
    for c in [
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        p = fma::<FMA>(p, r, c);
    }
    // In two factors, because 2¹²⁸ is not a number.
    let half = (n * 0.5 + ROUND) - ROUND;
    let power = |k: f32| f32::from_bits(((k as i32 + 127) << 23) as u32);
    let value = p * power(half) * power(n - half);
    let value = if x < -87.3 { 0.0 } else { value };
    let value = if x > 88.7 { f32::INFINITY } else { value };
    if x.is_nan() { x } else { value }
}

/// eˣ for x ≤ 0, as [`exp`], with one factor less; what is above 0 counts as 0.
#[inline(always)]
pub fn exp_falling<const FMA: bool>(x: f32) -> f32 {
    let clamped = x.clamp(-87.3, 0.0);
    let shifted = fma::<FMA>(clamped, LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fma::<FMA>(n, -LN2_LOW, fma::<FMA>(n, -LN2_HIGH, clamped));
    // Taylor's series to the sixth power: what is left out is under 1.2e-7.
    let mut p = 1.0 / 720.0;
    for c in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = fma::<FMA>(p, r, c);
    }
    // The integer stands in the last bits of what was shifted; n ≥ −126, so its power of two is a normal number.
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3F80_0000));
    let value = if x < -87.3 { 0.0 } else { p * power };
    if x.is_nan() { x } else { value }
}

/// tanh x = 1 − 2 / (e²ˣ + 1), by its series near 0.
#[inline(always)]
pub fn tanh<const FMA: bool>(x: f32) -> f32 {
    let size = x.abs().min(10.0);
    let far = 1.0 - 2.0 / (exp::<FMA>(2.0 * size) + 1.0);
    let s = x * x;
    let mut p = -1382.0 / 155_925.0;
    for c in [62.0 / 2835.0, -17.0 / 315.0, 2.0 / 15.0, -1.0 / 3.0, 1.0] {
        p = fma::<FMA>(p, s, c);
    }
    let value = if size < 0.35 { x * p } else { far.copysign(x) };
    if x.is_nan() { x } else { value }
}

/// Coefficients of erfc(z) e^(z²) as a polynomial in t = 1 / (1 + z/2), for z ≥ 0; fitted by least squares at Chebyshev nodes.
const ERFCX: [f32; 12] = [
    2.108490889e-06,
    2.820284665e-01,
    2.829969227e-01,
    2.398788035e-01,
    2.096953690e-01,
    -1.871810667e-02,
    1.897133887e-01,
    -2.445800900e-01,
    -7.251549512e-02,
    2.448488474e-01,
    -1.410261095e-01,
    2.767591365e-02,
];

/// Φ(x), the normal distribution function, and φ(x), its density.
///
/// Φ(x) = erfc(−x/√2)/2, from the scaled function erfc(z) e^(z²), which is smooth: relative precision holds in the far tail too.
#[inline(always)]
pub fn normal<const FMA: bool>(x: f32) -> (f32, f32) {
    const ROOT_HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;
    const DENSITY: f32 = 0.398_942_28;
    let z = x.abs() * ROOT_HALF;
    let t = 1.0 / fma::<FMA>(0.5, z, 1.0);
    let mut p = ERFCX[11];
    for i in (0..11).rev() {
        p = fma::<FMA>(p, t, ERFCX[i]);
    }
    let e = exp_falling::<FMA>(-0.5 * x * x);
    let tail = 0.5 * p * e;
    (if x > 0.0 { 1.0 - tail } else { tail }, DENSITY * e)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every so many numbers of single precision between two bounds, of both signs.
    fn between(low: f32, high: f32) -> impl Iterator<Item = f32> {
        (low.to_bits()..high.to_bits())
            .step_by(10_007)
            .map(f32::from_bits)
            .flat_map(|x| [x, -x])
    }

    #[test]
    fn exponential() {
        let error = |x: f32| {
            let right = f64::from(x).exp();
            assert!(
                (exp::<true>(x) - exp::<false>(x)).abs() as f64 <= 4e-7 * right,
                "{x}"
            );
            (f64::from(exp::<true>(x)) - right).abs() / right
        };
        let worst = between(1e-30, 87.0).map(error).fold(0.0, f64::max);
        assert!(worst < 2.4e-7, "{worst:e}");
        assert_eq!(
            (
                exp::<true>(0.0),
                exp::<true>(f32::NEG_INFINITY),
                exp::<true>(f32::MIN)
            ),
            (1.0, 0.0, 0.0)
        );
        assert_eq!(exp::<true>(f32::INFINITY), f32::INFINITY);
        assert!(exp::<true>(f32::NAN).is_nan());
    }

    #[test]
    fn falling_exponential() {
        let error = |x: f32| {
            let right = f64::from(-x.abs()).exp();
            (f64::from(exp_falling::<true>(-x.abs())) - right).abs() / right
        };
        let worst = between(1e-30, 87.0).map(error).fold(0.0, f64::max);
        assert!(worst < 3e-7, "{worst:e}");
        assert_eq!(
            (
                exp_falling::<true>(0.0),
                exp_falling::<true>(f32::NEG_INFINITY)
            ),
            (1.0, 0.0)
        );
        assert!(exp_falling::<true>(f32::NAN).is_nan());
    }

    #[test]
    fn hyperbolic_tangent() {
        let error = |x: f32| {
            let right = f64::from(x).tanh();
            (f64::from(tanh::<true>(x)) - right).abs() / right.abs()
        };
        let worst = between(1e-30, 50.0).map(error).fold(0.0, f64::max);
        assert!(worst < 5e-7, "{worst:e}");
        assert!(tanh::<true>(0.0) == 0.0 && tanh::<true>(f32::NAN).is_nan());
    }

    /// Φ by its continued fraction (Lentz) or series, in double precision.
    fn normal_right(x: f64) -> f64 {
        let z = x.abs();
        let density = (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let tail = if z < 3.0 {
            let (mut term, mut sum, mut k) = (z, z, 1.0);
            while term.abs() > 1e-18 * sum.abs() {
                term *= z * z / (2.0 * k + 1.0);
                sum += term;
                k += 1.0;
            }
            0.5 - density * sum
        } else {
            let fraction = (1..200).rev().fold(0.0, |f, k| f64::from(k) / (z + f));
            density / (z + fraction)
        };
        if x > 0.0 { 1.0 - tail } else { tail }
    }

    #[test]
    fn normal_distribution() {
        let error = |x: f32| {
            let right = normal_right(f64::from(x));
            (f64::from(normal::<true>(x).0) - right).abs() / right
        };
        let worst = between(1e-30, 5.0).map(error).fold(0.0, f64::max);
        assert!(worst < 2e-6, "{worst:e}");
        let absolute = |x: f32| (f64::from(normal::<true>(x).0) - normal_right(f64::from(x))).abs();
        let worst = between(1e-30, 12.0).map(absolute).fold(0.0, f64::max);
        assert!(worst < 2e-7, "{worst:e}");
        assert_eq!(normal::<true>(40.0), (1.0, 0.0));
        assert_eq!(normal::<true>(-40.0), (0.0, 0.0));
        assert!(normal::<true>(f32::NAN).0.is_nan());
    }
}
