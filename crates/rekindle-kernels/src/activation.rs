//! Activations and their derivatives on plain values, in loops that the compiler turns into vectors.

#![allow(clippy::excessive_precision, reason = "coefficients as they are published")]

use rayon::prelude::*;
use rekindle_nn::{Activation, SELU};

use crate::vectorized::{fma, vectorized};

/// `exp(x)` within 2 ulp: a power of two times a polynomial (Cephes' `expf`).
#[inline(always)]
fn exp<const FUSED: bool>(x: f32) -> f32 {
    // Adding it rounds to a whole number, which then is in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let inner = x.clamp(-86.0, 88.722_83);
    let shifted = fma::<FUSED>(inner, std::f32::consts::LOG2_E, ROUND);
    let power = shifted - ROUND;
    let rest = fma::<FUSED>(power, -0.693_359_4, inner);
    let rest = fma::<FUSED>(power, 2.121_944_4e-4, rest);
    let mut sum = 1.987_569_1e-4;
    for factor in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 0.5] {
        sum = fma::<FUSED>(sum, rest, factor);
    }
    let value = fma::<FUSED>(sum * rest, rest, rest) + 1.0;
    // Halved and doubled, so that 2^128 needs no exponent of its own.
    let bits = (value * 0.5).to_bits().wrapping_add(shifted.to_bits() << 23);
    let value = f32::from_bits(bits) * 2.0;
    let value = if x > 88.722_83 { f32::INFINITY } else { value };
    let value = if x < -86.0 { 0.0 } else { value };
    if x.is_nan() { x } else { value }
}

#[inline(always)]
fn sigmoid<const FUSED: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FUSED>(-x))
}

/// `(exp(2x) - 1) / (exp(2x) + 1)`, and near 0, where that cancels, a series.
#[inline(always)]
fn tanh<const FUSED: bool>(x: f32) -> f32 {
    let power = exp::<FUSED>(2.0 * x.abs());
    let far = 1.0 - 2.0 / (power + 1.0);
    let square = x * x;
    let mut series = -5.704_988_7e-3_f32;
    for factor in [2.063_908_9e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1] {
        series = fma::<FUSED>(series, square, factor);
    }
    let near = fma::<FUSED>(series * square, x, x);
    if x.abs() < 0.625 { near } else { far.copysign(x) }
}

/// The error function within 2e-7.
#[inline(always)]
fn erf<const FUSED: bool>(x: f32) -> f32 {
    let size = x.abs().min(4.0);
    let square = x * x;
    // Below 1 its series; from there Numerical Recipes' erfc.
    let mut series = 1.480719282e-8_f32;
    for factor in [
        -1.636584469e-7,
        1.646211437e-6,
        -1.492565036e-5,
        1.205533298e-4,
        -8.548327023e-4,
        5.223977625e-3,
        -2.686617065e-2,
        1.128379167e-1,
        -3.76126389e-1,
        std::f32::consts::FRAC_2_SQRT_PI,
    ] {
        series = fma::<FUSED>(series, square, factor);
    }
    let near = series * x;
    let t = 1.0 / fma::<FUSED>(0.5, size, 1.0);
    let mut sum = 0.170_872_77_f32;
    for factor in [
        -0.822_152_23,
        1.488_515_9,
        -1.135_203_98,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_7,
        -1.265_512_2,
    ] {
        sum = fma::<FUSED>(sum, t, factor);
    }
    let far = 1.0 - t * exp::<FUSED>(fma::<FUSED>(-size, size, sum));
    let value = if size < 1.0 { near } else { far.copysign(x) };
    if x.is_nan() { x } else { value }
}

/// `log(1 + exp(x))`; exp is of negative numbers only, so that it cannot overflow.
#[inline(always)]
fn softplus<const FUSED: bool>(x: f32) -> f32 {
    x.max(0.0) + exp::<FUSED>(-x.abs()).ln_1p()
}

/// The smaller of 0 and `exp(x) - 1`.
#[inline(always)]
fn negative<const FUSED: bool>(x: f32) -> f32 {
    exp::<FUSED>(if x > 0.0 { 0.0 } else { x }) - 1.0
}

/// A function with its `f64` settings as f32.
#[inline(always)]
fn each(values: &mut [f32], function: impl Fn(f32) -> f32) {
    values.iter_mut().for_each(|value| *value = function(*value));
}

#[inline(always)]
fn apply<const FUSED: bool>(activation: Activation, values: &mut [f32]) {
    match activation {
        Activation::Linear => {}
        // Comparisons that leave a NaN as it is.
        Activation::Relu => each(values, |x| if x < 0.0 { 0.0 } else { x }),
        Activation::Relu6 => each(values, |x| {
            let x = if x < 0.0 { 0.0 } else { x };
            if x > 6.0 { 6.0 } else { x }
        }),
        Activation::Clip { low, high } => {
            let (low, high) = (low as f32, high as f32);
            each(values, |x| {
                let x = if x < low { low } else { x };
                if x > high { high } else { x }
            });
        }
        Activation::ReluOf { max_value, negative_slope, threshold } => {
            let [low, high] =
                max_value.map_or([f32::NEG_INFINITY, f32::INFINITY], |high| [0.0, high as f32]);
            let (slope, threshold) = (negative_slope as f32, threshold as f32);
            each(values, |x| {
                // As Keras: what is at the threshold passes only where that is 0.
                let is_below = if threshold == 0.0 { x < 0.0 } else { x <= threshold };
                if is_below { (x - threshold) * slope } else { x.clamp(low, high) }
            });
        }
        Activation::LeakyRelu(slope) => {
            let slope = slope as f32;
            each(values, |x| if x < 0.0 { x * slope } else { x });
        }
        Activation::Elu(alpha) => {
            let alpha = alpha as f32;
            each(values, |x| if x > 0.0 { x } else { alpha * negative::<FUSED>(x) });
        }
        Activation::Selu => {
            let (scale, alpha) = (SELU.0 as f32, (SELU.0 * SELU.1) as f32);
            each(values, |x| if x > 0.0 { scale * x } else { alpha * negative::<FUSED>(x) });
        }
        Activation::Celu(alpha) => {
            let alpha = alpha as f32;
            each(values, |x| if x > 0.0 { x } else { alpha * negative::<FUSED>(x / alpha) });
        }
        Activation::Gelu => {
            each(values, |x| x * 0.5 * (1.0 + erf::<FUSED>(x * std::f32::consts::FRAC_1_SQRT_2)));
        }
        Activation::GeluApproximate => {
            const ROOT: f32 = 0.797_884_6;
            each(values, |x| {
                let inner = ROOT * fma::<FUSED>(0.044_715 * x * x, x, x);
                x * 0.5 * (1.0 + tanh::<FUSED>(inner))
            });
        }
        Activation::Silu => each(values, |x| x * sigmoid::<FUSED>(x)),
        Activation::HardSilu => each(values, |x| x * ((x + 3.0).clamp(0.0, 6.0) / 6.0)),
        Activation::HardSigmoid => each(values, |x| (x + 3.0).clamp(0.0, 6.0) / 6.0),
        Activation::HardSigmoidOf { slope, offset } => {
            let (slope, offset) = (slope as f32, offset as f32);
            each(values, |x| fma::<FUSED>(x, slope, offset).clamp(0.0, 1.0));
        }
        Activation::Sigmoid => each(values, sigmoid::<FUSED>),
        Activation::LogSigmoid => each(values, |x| -softplus::<FUSED>(-x)),
        Activation::Tanh => each(values, tanh::<FUSED>),
        Activation::Softplus => each(values, softplus::<FUSED>),
        Activation::Softsign => each(values, |x| x / (1.0 + x.abs())),
        Activation::Exponential => each(values, exp::<FUSED>),
        Activation::Mish => each(values, |x| x * tanh::<FUSED>(softplus::<FUSED>(x))),
        Activation::TanhShrink => each(values, |x| x - tanh::<FUSED>(x)),
        Activation::SoftShrink(size) => {
            let size = size as f32;
            each(values, |x| x - x.clamp(-size, size));
        }
        Activation::HardShrink(size) => {
            let size = size as f32;
            each(values, |x| if x.abs() <= size { 0.0 } else { x });
        }
        Activation::Squareplus(b) => {
            let b = b as f32;
            each(values, |x| {
                let root = fma::<FUSED>(x, x, b).sqrt();
                // Below 0 the sum would cancel.
                if x < 0.0 { 0.5 * b / (root - x) } else { 0.5 * (x + root) }
            });
        }
        Activation::SparsePlus => each(values, |x| {
            if x <= -1.0 {
                0.0
            } else if x < 1.0 {
                0.25 * (x + 1.0) * (x + 1.0)
            } else {
                x
            }
        }),
        Activation::Threshold { threshold, value } => {
            let (threshold, value) = (threshold as f32, value as f32);
            each(values, |x| if x <= threshold { value } else { x });
        }
        Activation::Softmax => {
            let highest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut total = 0.0;
            for value in values.iter_mut() {
                *value = (*value - highest).exp();
                total += *value;
            }
            values.iter_mut().for_each(|value| *value /= total);
        }
        Activation::LogSoftmax => {
            let highest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let total: f32 = values.iter().map(|value| (value - highest).exp()).sum();
            let shift = highest + total.ln();
            values.iter_mut().for_each(|value| *value -= shift);
        }
    }
}

vectorized! {
    /// Applies a function to values; softmax takes them to be the channels of one pixel.
    pub(crate) fn activate(activation: Activation, values: &mut [f32]) {
        apply::<FUSED>(activation, values);
    }
}

vectorized! {
    /// The same to the bit on every instruction set.
    pub(crate) fn activate_unfused(activation: Activation, values: &mut [f32]) {
        apply::<false>(activation, values);
    }
}

/// Whether a function takes all of a pixel's channels at once.
pub(crate) fn is_by_pixel(activation: Activation) -> bool {
    matches!(activation, Activation::Softmax | Activation::LogSoftmax)
}

/// Applies a function to pixels of `channels` values each.
pub(crate) fn activate_all(activation: Activation, channels: usize, values: &mut [f32]) {
    let size = (PIECE / channels).max(1) * channels;
    values.par_chunks_mut(size).for_each(|piece| {
        if is_by_pixel(activation) {
            piece.chunks_exact_mut(channels).for_each(|pixel| activate(activation, pixel));
        } else {
            activate(activation, piece);
        }
    });
}

/// The gradient before a function, in place of the one behind it: from its input `x` and its output `y`, pixels of
/// `channels` values each.
pub(crate) fn gradient_all(
    activation: Activation,
    channels: usize,
    x: &[f32],
    y: &[f32],
    dy: &mut [f32],
) {
    let size = (PIECE / channels).max(1) * channels;
    let pieces = x.par_chunks(size).zip(y.par_chunks(size)).zip(dy.par_chunks_mut(size));
    pieces.for_each(|((x, y), dy)| {
        if is_by_pixel(activation) {
            let pixels = y.chunks_exact(channels).zip(dy.chunks_exact_mut(channels));
            pixels.for_each(|(y, dy)| gradient_of_pixel(activation, y, dy));
        } else {
            gradient(activation, x, y, dy);
        }
    });
}

/// Values that a thread takes at once.
const PIECE: usize = 1 << 14;

fn gradient_of_pixel(activation: Activation, y: &[f32], dy: &mut [f32]) {
    if activation == Activation::LogSoftmax {
        let total: f32 = dy.iter().sum();
        dy.iter_mut().zip(y).for_each(|(dy, y)| *dy -= y.exp() * total);
    } else {
        let inner: f32 = y.iter().zip(dy.iter()).map(|(y, dy)| y * dy).sum();
        dy.iter_mut().zip(y).for_each(|(dy, y)| *dy = y * (*dy - inner));
    }
}

/// Multiplies each gradient with the function's derivative.
#[inline(always)]
fn times(x: &[f32], y: &[f32], dy: &mut [f32], derivative: impl Fn(f32, f32) -> f32) {
    let values = x.iter().zip(y);
    dy.iter_mut().zip(values).for_each(|(dy, (&x, &y))| *dy *= derivative(x, y));
}

/// 1 where a value is inside of a range, or else 0.
#[inline(always)]
fn inside(value: f32, low: f32, high: f32) -> f32 {
    if value > low && value < high { 1.0 } else { 0.0 }
}

vectorized! {
    fn gradient(activation: Activation, x: &[f32], y: &[f32], dy: &mut [f32]) {
        match activation {
            Activation::Linear => {}
            Activation::Relu => times(x, y, dy, |_, y| inside(y, 0.0, f32::INFINITY)),
            Activation::Relu6 => times(x, y, dy, |_, y| inside(y, 0.0, 6.0)),
            Activation::Clip { low, high } => {
                let (low, high) = (low as f32, high as f32);
                times(x, y, dy, |x, _| inside(x, low, high));
            }
            Activation::ReluOf { max_value, negative_slope, threshold } => {
                let [low, high] =
                    max_value.map_or([f32::NEG_INFINITY, f32::INFINITY], |high| [0.0, high as f32]);
                let (slope, threshold) = (negative_slope as f32, threshold as f32);
                times(x, y, dy, |x, _| if x <= threshold { slope } else { inside(x, low, high) });
            }
            Activation::LeakyRelu(slope) => {
                let slope = slope as f32;
                times(x, y, dy, |x, _| if x > 0.0 { 1.0 } else { slope });
            }
            // alpha * exp(x) is what comes out, and alpha.
            Activation::Elu(alpha) => {
                let alpha = alpha as f32;
                times(x, y, dy, |x, y| if x > 0.0 { 1.0 } else { y + alpha });
            }
            Activation::Selu => {
                let (scale, alpha) = (SELU.0 as f32, (SELU.0 * SELU.1) as f32);
                times(x, y, dy, |x, y| if x > 0.0 { scale } else { y + alpha });
            }
            Activation::Celu(alpha) => {
                let alpha = alpha as f32;
                times(x, y, dy, |x, y| if x > 0.0 { 1.0 } else { y / alpha + 1.0 });
            }
            Activation::Gelu => {
                const DENSITY: f32 = 0.398_942_3;
                times(x, y, dy, |x, _| {
                    let share = 0.5 * (1.0 + erf::<FUSED>(x * std::f32::consts::FRAC_1_SQRT_2));
                    share + x * DENSITY * exp::<FUSED>(-0.5 * x * x)
                });
            }
            Activation::GeluApproximate => {
                const ROOT: f32 = 0.797_884_6;
                times(x, y, dy, |x, _| {
                    let inner = tanh::<FUSED>(ROOT * fma::<FUSED>(0.044_715 * x * x, x, x));
                    let inner_derivative = ROOT * (1.0 + 3.0 * 0.044_715 * x * x);
                    0.5 * (1.0 + inner) + 0.5 * x * (1.0 - inner * inner) * inner_derivative
                });
            }
            Activation::Silu => times(x, y, dy, |x, y| {
                let share = sigmoid::<FUSED>(x);
                y + share * (1.0 - y)
            }),
            Activation::HardSilu => times(x, y, dy, |x, _| {
                if x > 3.0 { 1.0 } else if x < -3.0 { 0.0 } else { x / 3.0 + 0.5 }
            }),
            Activation::HardSigmoid => times(x, y, dy, |x, _| inside(x, -3.0, 3.0) / 6.0),
            Activation::HardSigmoidOf { slope, .. } => {
                let slope = slope as f32;
                times(x, y, dy, |_, y| slope * inside(y, 0.0, 1.0));
            }
            Activation::Sigmoid => times(x, y, dy, |_, y| y * (1.0 - y)),
            Activation::LogSigmoid => times(x, y, dy, |x, _| sigmoid::<FUSED>(-x)),
            Activation::Tanh => times(x, y, dy, |_, y| 1.0 - y * y),
            Activation::Softplus => times(x, y, dy, |x, _| sigmoid::<FUSED>(x)),
            Activation::Softsign => times(x, y, dy, |x, _| {
                let share = 1.0 / (1.0 + x.abs());
                share * share
            }),
            Activation::Exponential => times(x, y, dy, |_, y| y),
            Activation::Mish => times(x, y, dy, |x, _| {
                let inner = tanh::<FUSED>(softplus::<FUSED>(x));
                inner + x * (1.0 - inner * inner) * sigmoid::<FUSED>(x)
            }),
            Activation::TanhShrink => times(x, y, dy, |x, y| (x - y) * (x - y)),
            Activation::SoftShrink(size) => {
                let size = size as f32;
                times(x, y, dy, |x, _| if x.abs() > size { 1.0 } else { 0.0 });
            }
            Activation::HardShrink(size) => {
                let size = size as f32;
                times(x, y, dy, |x, _| if x.abs() > size { 1.0 } else { 0.0 });
            }
            Activation::Squareplus(b) => {
                let b = b as f32;
                times(x, y, dy, |x, _| 0.5 * (1.0 + x / fma::<FUSED>(x, x, b).sqrt()));
            }
            Activation::SparsePlus => times(x, y, dy, |x, _| (0.5 * (x + 1.0)).clamp(0.0, 1.0)),
            Activation::Threshold { threshold, .. } => {
                let threshold = threshold as f32;
                times(x, y, dy, |x, _| if x > threshold { 1.0 } else { 0.0 });
            }
            // Not of single values; see `gradient_of_pixel`.
            Activation::Softmax | Activation::LogSoftmax => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::properties::reference::function;

    /// Every function, with settings.
    fn all() -> Vec<Activation> {
        let named = Activation::NAMES.iter().map(|(_, activation)| *activation);
        let others = [
            Activation::relu_of(Some(2.0), 0.1, 0.5),
            Activation::relu_of(None, 0.2, -1.0),
            Activation::relu_of(Some(3.0), 0.0, -1.0),
            Activation::GeluApproximate,
            Activation::Clip { low: -0.5, high: 0.75 },
            Activation::Celu(0.5),
            Activation::Elu(0.3),
            Activation::Threshold { threshold: 0.25, value: -0.5 },
        ];
        named.chain(others).filter(|activation| !is_by_pixel(*activation)).collect()
    }

    #[test]
    fn functions_are_those_of_f64() {
        let mut values: Vec<f32> = (-4000..=4000).map(|i| i as f32 / 400.0).collect();
        values.extend([-200.0, -100.0, -88.0, -86.5, 0.0, 60.0, 88.0]);
        for activation in all() {
            let mut found = values.clone();
            activate(activation, &mut found);
            for (&x, &found) in values.iter().zip(&found) {
                let expected = function(activation, f64::from(x));
                let off = (f64::from(found) - expected).abs();
                let most = 1e-6 + 1e-6 * expected.abs();
                assert!(off <= most, "{activation:?} of {x}: {found}, not {expected}");
            }
        }
    }

    #[test]
    fn no_number_stays_none_and_infinity_stays_finite_where_it_should() {
        for activation in all() {
            let mut values = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
            activate(activation, &mut values);
            let hides = matches!(activation, Activation::HardShrink(_) | Activation::SparsePlus);
            assert!(values[0].is_nan() || hides, "{activation:?} of NaN is {}", values[0]);
            if matches!(
                activation,
                Activation::Sigmoid | Activation::Tanh | Activation::HardSigmoid
            ) {
                assert_eq!(values[1], 1.0, "{activation:?}");
            }
        }
    }

    #[test]
    fn derivatives_are_differences() {
        let x: Vec<f32> = (-400..=400).map(|i| i as f32 / 80.0 + 0.003).collect();
        for activation in all() {
            let mut y = x.clone();
            activate(activation, &mut y);
            let mut derivatives = vec![1.0; x.len()];
            gradient_all(activation, 1, &x, &y, &mut derivatives);
            for (&x, &found) in x.iter().zip(&derivatives) {
                const STEP: f64 = 1e-4;
                let x = f64::from(x);
                let at = |x: f64| function(activation, x);
                let [left, right] = [(at(x) - at(x - STEP)) / STEP, (at(x + STEP) - at(x)) / STEP];
                let is_kink = (left - right).abs() > 1e-2;
                let off = (f64::from(found) - (left + right) / 2.0).abs();
                assert!(
                    is_kink || off < 2e-4 * (1.0 + left.abs()),
                    "{activation:?}' of {x}: {found}"
                );
            }
        }
    }
}
