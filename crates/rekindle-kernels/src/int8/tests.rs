//! Every kernel of bytes against plain integers and `f32` operations, to the bit.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rekindle_nn::Activation;

use super::depthwise::{MOST_LINES, RowsArgs};
use super::rows::{self, Mean, PoolRow, Sum};
use super::*;
use crate::Isa;
use crate::factor::Factor;
use crate::gemm::{Tile, TileArgs, pack};
use crate::isa::Int8;
use crate::simd::CHANNEL_BLOCK;
use crate::view::View;

/// What ends a product.
#[derive(Clone, Copy)]
struct Ending {
    zero: u8,
    residual: Option<Scale>,
    low: f32,
    high: f32,
}

/// A byte or a number that a sum becomes.
trait Written: Copy + PartialEq + std::fmt::Debug {
    const NONE: Self;
    fn of(value: f32, zero: u8) -> Self;
}

impl Written for u8 {
    const NONE: Self = 77;
    fn of(value: f32, zero: u8) -> Self {
        (value.round_ties_even() as i32 + i32::from(zero)) as Self
    }
}

impl Written for f32 {
    const NONE: Self = -1234.5;
    fn of(value: f32, _: u8) -> Self {
        value
    }
}

/// What a sum becomes, by plain operations.
fn ended<O: Written>(sum: i32, factor: f32, residual: Option<u8>, ending: Ending) -> O {
    let mut value = sum as f32 * factor;
    if let (Some(scale), Some(byte)) = (ending.residual, residual) {
        value += (f32::from(byte) - f32::from(scale.zero)) * scale.step;
    }
    O::of(value.max(ending.low).min(ending.high), ending.zero)
}

/// Bytes of chance, or only the outermost ones.
fn bytes(rng: &mut ChaCha8Rng, count: usize, is_extreme: bool) -> Vec<u8> {
    let extreme = [0, 255, 255, 128];
    let one = |rng: &mut ChaCha8Rng| match is_extreme {
        true => extreme[rng.random_range(0..4)],
        false => rng.random(),
    };
    (0..count).map(|_| one(rng)).collect()
}

fn weights(rng: &mut ChaCha8Rng, count: usize, is_extreme: bool) -> Vec<i8> {
    let one = |rng: &mut ChaCha8Rng| match is_extreme {
        true => [-128, 127][rng.random_range(0..2)],
        false => rng.random(),
    };
    (0..count).map(|_| one(rng)).collect()
}

fn ending(rng: &mut ChaCha8Rng, case: usize) -> Ending {
    let zero = [0, 128, 255, 3][case % 4];
    let residual =
        (case.is_multiple_of(3)).then(|| Scale { step: rng.random_range(0.1..3.0), zero: 119 });
    let (least, most) = (-f32::from(zero), 255.0 - f32::from(zero));
    let low = if case.is_multiple_of(5) { least / 3.0 } else { least };
    Ending { zero, residual, low, high: if case.is_multiple_of(7) { most / 3.0 } else { most } }
}

fn check_tile<O: Written>(
    rng: &mut ChaCha8Rng,
    kernels: &Int8,
    tile: Tile<u8, O>,
    [rows, columns, case]: [usize; 3],
) {
    let is_extreme = case % 2 == 1;
    let taps = rng.random_range(1..5);
    // The longest depth now and then.
    let quads = if case % 23 == 11 { MOST_DEPTH / taps / QUAD } else { rng.random_range(1..40) };
    let channels = quads * QUAD;
    let stride = columns + rng.random_range(0..9);
    let pixels = bytes(rng, taps * rows * channels, is_extreme);
    let by_row = weights(rng, taps * channels * columns, is_extreme);
    let packed =
        pack(&quad_rows(&by_row, channels, columns), taps * quads, columns, columns, columns);
    // As much as there is room for.
    let begin: Vec<i32> = (0..columns).map(|_| rng.random_range(-(1 << 29)..1 << 29)).collect();
    let bias: Vec<i32> = (0..columns)
        .map(|n| {
            let sum: i32 = by_row.iter().skip(n).step_by(columns).map(|&w| i32::from(w)).sum();
            begin[n].wrapping_add(kernels.shift * sum)
        })
        .collect();
    let factors: Vec<f32> = (0..columns).map(|_| rng.random_range(1e-7..1e-4)).collect();
    let residual = bytes(rng, rows * stride, is_extreme);
    let ending = ending(rng, case);
    let pointers: Vec<*const u8> =
        (0..taps * rows).map(|index| pixels[index * channels..].as_ptr()).collect();
    let mut out = vec![O::NONE; rows * stride];
    let args = TileArgs::<u8, O> {
        pixels: pointers.as_ptr(),
        taps,
        channels,
        weights: packed.as_flattened().as_ptr(),
        bias: bias.as_ptr(),
        out: out.as_mut_ptr(),
        stride,
        residual: if ending.residual.is_some() { residual.as_ptr() } else { std::ptr::null() },
        residual_stride: stride,
        scaling: Scaling {
            factors: factors.as_ptr(),
            zero: ending.zero.into(),
            residual_zero: ending.residual.map_or(0.0, |scale| scale.zero.into()),
            residual_step: ending.residual.map_or(0.0, |scale| scale.step),
        },
        low: ending.low,
        high: ending.high,
        rows,
        columns,
    };
    // SAFETY: every buffer has the size that its field says, and the set is available.
    unsafe { tile(&args) };
    for (index, &found) in out.iter().enumerate() {
        let (m, n) = (index / stride, index % stride);
        if n >= columns {
            assert_eq!(found, O::NONE, "{} wrote behind its columns", kernels.name);
            continue;
        }
        let mut sum = i64::from(begin[n]);
        for tap in 0..taps {
            for channel in 0..channels {
                let pixel = pixels[(tap * rows + m) * channels + channel];
                let weight = by_row[(tap * channels + channel) * columns + n];
                sum += i64::from(pixel) * i64::from(weight);
            }
        }
        let sum = i32::try_from(sum).expect("within i32");
        let expected: O = ended(sum, factors[n], Some(residual[index]), ending);
        assert_eq!(found, expected, "{} {rows}x{columns}, depth {taps}x{channels}", kernels.name);
    }
}

#[test]
fn every_tile_of_bytes_is_the_plain_product() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for isa in Isa::available() {
        let own = isa.kernels();
        for kernels in isa.int8() {
            let widths: &[usize] = if own.has_halves { &[32, 16] } else { &[own.columns] };
            for case in 0..if cfg!(miri) { 4 } else { 8 * own.rows } {
                let rows = 1 + case % own.rows;
                for &columns in widths {
                    check_tile(&mut rng, &kernels, kernels.tile, [rows, columns, case]);
                    check_tile(&mut rng, &kernels, kernels.tile_to_f32, [rows, columns, case]);
                }
            }
        }
    }
}

fn check_rows<O: Written>(
    rng: &mut ChaCha8Rng,
    kernels: &Int8,
    kernel_rows: depthwise::Depthwise<O>,
    case: usize,
) {
    let is_extreme = case % 2 == 1;
    let kernel = [[3, 3], [3, 3], [5, 5], [7, 7], [1, 1], [3, 2]][case % 6];
    let (width, step): (usize, usize) = (rng.random_range(1..20), rng.random_range(1..4));
    let spread = if case % 8 == 7 { 2 } else { 1 };
    let left: usize = rng.random_range(0..=kernel[1] / 2);
    let outputs = (width + left).div_ceil(step);
    let rows = match depthwise::can_pair(kernel, [step; 2], [spread; 2]) {
        true => rng.random_range(1..3),
        false => 1,
    };
    let channels: usize = CHANNEL_BLOCK * rng.random_range(1..4);
    let stride = channels + CHANNEL_BLOCK * rng.random_range(0..2);
    let lines = kernel[0] + rows - 1;
    // Lines beside the image.
    let beside: Vec<bool> = (0..lines).map(|_| rng.random_range(0..4) == 0).collect();
    let input = bytes(rng, lines * width * stride, is_extreme);
    let own = weights(rng, kernel[0] * kernel[1] * channels, is_extreme);
    let packed = depthwise::pack(&own, kernel, channels, channels);
    let outside = [rng.random::<u8>(); CHANNEL_BLOCK];
    let begin: Vec<i32> = (0..channels).map(|_| rng.random_range(-(1 << 20)..1 << 20)).collect();
    let bias: Vec<i32> = (0..channels)
        .map(|n| {
            let sum: i32 = own.iter().skip(n).step_by(channels).map(|&w| i32::from(w)).sum();
            begin[n] + kernels.shift * sum
        })
        .collect();
    let factors: Vec<f32> = (0..channels).map(|_| rng.random_range(1e-5..1e-2)).collect();
    let ending = Ending { residual: None, ..ending(rng, case) };
    let mut pointers = [std::ptr::null(); MOST_LINES];
    for (line, pointer) in pointers.iter_mut().enumerate().take(lines) {
        if !beside[line] {
            *pointer = input[line * width * stride..].as_ptr();
        }
    }
    let out_stride = channels + rng.random_range(0..9);
    let out_line = outputs * out_stride + rng.random_range(0..9);
    let mut out = vec![O::NONE; rows * out_line];
    let args = RowsArgs::<O> {
        lines: pointers,
        stride,
        width,
        rows,
        kernel,
        step,
        spread,
        left,
        weights: packed.as_ptr(),
        bias: bias.as_ptr(),
        scaling: Scaling {
            factors: factors.as_ptr(),
            zero: ending.zero.into(),
            residual_zero: 0.0,
            residual_step: 0.0,
        },
        outside: outside.as_ptr(),
        out: out.as_mut_ptr(),
        out_stride,
        out_line,
        outputs,
        channels,
        low: ending.low,
        high: ending.high,
    };
    // SAFETY: lines are whole rows or null, every buffer has the size that its field says, and the set is available.
    unsafe { kernel_rows(&args) };
    for (index, &found) in out.iter().enumerate() {
        let (row, at) = (index / out_line, index % out_line);
        let (output, channel) = (at / out_stride, at % out_stride);
        if output >= outputs || channel >= channels {
            assert_eq!(found, O::NONE, "{} wrote behind its channels", kernels.name);
            continue;
        }
        let mut sum = begin[channel];
        for ky in 0..kernel[0] {
            for kx in 0..kernel[1] {
                let x = (output * step + kx * spread).checked_sub(left).filter(|&x| x < width);
                let pixel = match x.filter(|_| !beside[row + ky]) {
                    Some(x) => input[((row + ky) * width + x) * stride + channel],
                    None => outside[0],
                };
                let weight = own[(ky * kernel[1] + kx) * channels + channel];
                sum += i32::from(pixel) * i32::from(weight);
            }
        }
        let expected: O = ended(sum, factors[channel], None, ending);
        assert_eq!(found, expected, "{}, {rows} rows of {kernel:?}, step {step}", kernels.name);
    }
}

#[test]
fn every_row_of_bytes_is_the_plain_convolution() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for isa in Isa::available() {
        for kernels in isa.int8() {
            for case in 0..if cfg!(miri) { 12 } else { 240 } {
                check_rows(&mut rng, &kernels, kernels.depthwise, case);
                check_rows(&mut rng, &kernels, kernels.depthwise_to_f32, case);
            }
        }
    }
}

#[test]
fn loops_over_bytes_are_plain_numbers() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let out = Scale { step: 0.03, zero: 90 };
    let nearest = |value: f32| {
        let value = value.clamp(-f32::from(out.zero), 255.0 - f32::from(out.zero));
        (value.round_ties_even() as i32 + i32::from(out.zero)) as u8
    };
    // Also halves of a step, and what lies far beside.
    let mut numbers: Vec<f32> = (-500..500).map(|i| i as f32 * 0.5 * out.step).collect();
    numbers.extend([f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1e-30]);
    let mut found = vec![0; numbers.len()];
    rows::quantize(&numbers, None, out, &mut found);
    let expected: Vec<u8> = numbers.iter().map(|x| nearest(x * (1.0 / out.step))).collect();
    assert_eq!(found, expected);
    // A function comes first.
    rows::quantize(&numbers, Some(Activation::HardSilu), out, &mut found);
    for (&x, &found) in numbers.iter().zip(&found) {
        let value = x * ((x + 3.0).clamp(0.0, 6.0) / 6.0);
        assert!(value.is_nan() || found == nearest(value * (1.0 / out.step)), "{x}: {found}");
    }
    let all: Vec<u8> = (0..=255).collect();
    let mut back = vec![0.0; 256];
    rows::dequantize(&all, out, &mut back);
    assert!(all.iter().zip(&back).all(|(&byte, &number)| number == out.number(byte)));
    // Each byte is the nearest one of what it stands for.
    let mut again = vec![0; 256];
    rows::quantize(&back, None, out, &mut again);
    assert_eq!(again, all);
    let table = rows::table(Activation::Relu, out, out);
    assert!(all.iter().all(|&byte| table[usize::from(byte)] == byte.max(out.zero)));
    let (a, b) = (bytes(&mut rng, 300, false), bytes(&mut rng, 300, true));
    let inputs = [Scale { step: 0.05, zero: 7 }, Scale { step: 0.011, zero: 200 }];
    let sum = Sum::new(inputs, out);
    let mut found = vec![0; 300];
    rows::add(sum, &a, &b, &mut found);
    for ((&a, &b), &found) in a.iter().zip(&b).zip(&found) {
        let a = (f32::from(a) - 7.0) * sum.steps[0];
        let b = (f32::from(b) - 200.0) * sum.steps[1];
        assert_eq!(found, nearest(a + b));
    }
}

#[test]
fn pools_of_bytes_are_plain_ones() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let (height, width, stride) = (5, 9, 112);
    for channels in [3, 48, 100] {
        let mut input = bytes(&mut rng, height * width * stride, false);
        let view = View { base: input.as_mut_ptr(), height, width, channels, stride };
        for (kernel, step, left) in [(3, 2, 1), (2, 2, 0), (9, 1, 4), (1, 3, 0)] {
            let outputs = (width + 2 * left - kernel) / step + 1;
            let row = PoolRow { rows: [1, 4], kernel, step, left };
            let mean = Mean { input: 17, step: 0.75, zero: 20, low: -20.0, high: 90.0 };
            for is_max in [true, false] {
                let mut out = vec![77; outputs * stride];
                let base = out.as_mut_ptr();
                let to = View { base, height: 1, width: outputs, channels, stride };
                if is_max {
                    rows::most(&row, view, to);
                } else {
                    rows::means(&row, mean, view, to);
                }
                for (index, &found) in out.iter().enumerate() {
                    let (output, channel) = (index / stride, index % stride);
                    if channel >= channels {
                        assert_eq!(found, 77, "wrote behind its channels");
                        continue;
                    }
                    let columns = (output * step).saturating_sub(left)
                        ..(output * step + kernel - left).min(width);
                    let seen: Vec<u8> = (1..4)
                        .flat_map(|y| columns.clone().map(move |x| (y * width + x) * stride))
                        .map(|at| input[at + channel])
                        .collect();
                    let expected = match is_max {
                        true => seen.iter().copied().max().expect("some"),
                        false => {
                            let sum: i32 = seen.iter().map(|&byte| i32::from(byte) - 17).sum();
                            let value = sum as f32 * (0.75 / seen.len() as f32);
                            u8::of(value.clamp(-20.0, 90.0), 20)
                        }
                    };
                    assert_eq!(found, expected, "{kernel}/{step}, max {is_max}");
                }
            }
        }
        let scale = Scale { step: 0.5, zero: 128 };
        for is_max in [true, false] {
            let mut out = vec![0.0; channels];
            let values = &input[..(height * width - 1) * stride + channels];
            rows::global(values, stride, scale, is_max, &mut out);
            for (channel, &found) in out.iter().enumerate() {
                let seen = input.iter().skip(channel).step_by(stride);
                let expected = match is_max {
                    true => scale.number(seen.copied().max().expect("some")),
                    false => {
                        let sum: i32 = seen.map(|&byte| i32::from(byte) - 128).sum();
                        sum as f32 * (0.5 / (height * width) as f32)
                    }
                };
                assert_eq!(found, expected, "max {is_max}");
            }
        }
    }
}

/// What a product computes of rounded weights is that of the numbers that they stand for, with a bias of any size and a zero
/// point beside the image.
#[test]
fn ends_make_numbers_of_sums() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let (inputs, outputs) = (6, 5);
    let own: Vec<f32> = (0..inputs * outputs).map(|_| rng.random_range(-0.2..0.2)).collect();
    let mut own = own;
    // An output whose weights are nothing beside its bias, and one without weights.
    own.iter_mut().skip(1).step_by(outputs).for_each(|weight| *weight *= 1e-12);
    own.iter_mut().skip(2).step_by(outputs).for_each(|weight| *weight = 0.0);
    let bias = [0.1, 3.0, -0.25, 0.0, -7.0];
    let scales = Scales {
        input: Scale { step: 0.02, zero: 31 },
        residual: None,
        out: Some(Scale { step: 0.05, zero: 100 }),
    };
    let rounded = round_weights(&own, &bias, scales.input);
    for shift in [0, 128] {
        let ends = ends(&rounded, &bias, scales, [16, 8], shift);
        assert_eq!((ends.bias.len(), &ends.outside[..]), (16, &[31; 8][..]));
        let pixel = [0, 31, 200, 255, 4, 90];
        for (output, &own_bias) in bias.iter().enumerate() {
            let (mut sum, mut exact) = (ends.bias[output], f64::from(own_bias));
            for (input, &byte) in pixel.iter().enumerate() {
                let at = input * outputs + output;
                sum += (i32::from(byte) - shift) * i32::from(rounded.weights[at]);
                let number = f64::from(scales.input.number(byte));
                exact += number * f64::from(rounded.weights[at]) * rounded.steps[output];
                let off =
                    f64::from(rounded.weights[at]) * rounded.steps[output] - f64::from(own[at]);
                assert!(off.abs() <= rounded.steps[output] * 0.5001);
            }
            let found = f64::from(sum as f32 * ends.factors[output]) * 0.05;
            assert!((found - exact).abs() < 1e-4, "output {output}: {found} {exact}");
        }
        let scaling = u8::scaling(&ends, 3);
        // SAFETY: a column of the factors.
        assert_eq!(unsafe { *scaling.factors }, ends.factors[3]);
    }
}

/// Weights that lie on their grid stay where they are, whatever is folded into their outputs.
#[test]
fn rounded_weights_stay_as_they_are() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let (rows, outputs) = (400, 7);
    let mut bytes: Vec<i8> = (0..rows * outputs).map(|_| rng.random_range(-127..=127)).collect();
    bytes[..outputs].fill(-127);
    let steps: Vec<f32> = (0..outputs).map(|_| rng.random_range(1e-4..1e-1)).collect();
    let folded: Vec<f64> = (0..outputs).map(|_| rng.random_range(-30.0..30.0)).collect();
    let each = bytes.iter().enumerate().map(|(index, &byte)| {
        let number = f32::from(byte) * steps[index % outputs];
        (f64::from(number) * folded[index % outputs]) as f32
    });
    let numbers: Vec<f32> = each.collect();
    let found = round_weights(&numbers, &vec![0.0; outputs], Scale { step: 0.1, zero: 0 });
    for (index, (&byte, &found)) in bytes.iter().zip(&found.weights).enumerate() {
        let sign = folded[index % outputs].signum() as i8;
        assert_eq!(found, byte * sign);
    }
}
