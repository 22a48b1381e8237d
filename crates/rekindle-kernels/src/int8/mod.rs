//! Products of bytes. A value is kept as bytes `q` that stand for `step * (q - zero)`; weights are bytes from -127 to 127,
//! with a step of their own for each output. Sums are `i32`, exact, and begin with the bias and with what the zero point
//! of the pixels adds up to. What becomes of a sum is defined so that every instruction set gives the same byte: as `f32`
//! it is multiplied by the output's factor, the shortcut is added, each rounded, then it is clamped, rounded to the nearest whole
//! number, an even one where two are as near, and the output's zero point is added.

pub(crate) mod depthwise;
pub(crate) mod rows;
pub(crate) mod tile;

use crate::Limits;
use crate::simd::int8::QUAD;
use crate::simd::{Buffer, aligned};

/// Depths of products whose sums are within `i32`, whatever the bytes are.
pub(crate) const MOST_DEPTH: usize = 33_000;

/// The largest weight.
const MOST: f64 = 127.0;

/// The largest bias in steps of its sums: half of what an `i32` holds.
const MOST_BIAS: f64 = (1 << 30) as f64;

/// What bytes stand for: `step * (byte - zero)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale {
    pub step: f32,
    pub zero: u8,
}

impl Scale {
    /// For numbers from `low` to `high`, and always for zero, which a byte stands for exactly.
    pub fn of([low, high]: [f32; 2]) -> Self {
        let (low, high) = (f64::from(low.min(0.0)), f64::from(high.max(0.0)));
        let step = ((high - low) / 255.0).max(f64::from(f32::MIN_POSITIVE) * 1e6);
        Self { step: step as f32, zero: (-low / step).round().clamp(0.0, 255.0) as u8 }
    }

    /// The numbers of all bytes.
    pub fn number(self, byte: u8) -> f32 {
        self.step * (f32::from(byte) - f32::from(self.zero))
    }

    /// Limits in steps of this, within what bytes stand for, without the zero point.
    pub fn limits(self, limits: Limits) -> Limits {
        let (least, most) = (-f32::from(self.zero), 255.0 - f32::from(self.zero));
        Limits {
            low: (limits.low / self.step).clamp(least, most),
            high: (limits.high / self.step).clamp(least, most),
        }
    }
}

/// What a tile needs to make numbers of its sums.
#[derive(Clone, Copy)]
pub(crate) struct Scaling {
    /// Of each column.
    pub factors: *const f32,
    /// The zero point of what is written as bytes.
    pub zero: i32,
    /// The shortcut's zero point and its step, in steps of what is written.
    pub residual_zero: f32,
    pub residual_step: f32,
}

/// What a convolution of bytes has beside its weights.
pub(crate) struct Ends {
    /// What sums begin with, of each column.
    pub bias: Buffer<i32>,
    /// What sums are multiplied by, of each column.
    pub factors: Buffer<f32>,
    pub zero: u8,
    pub residual: Option<Scale>,
    /// As many zero points as a pixel has channels.
    pub outside: Buffer<u8>,
}

impl Ends {
    /// For the columns from this one on.
    pub fn scaling(&self, column: usize) -> Scaling {
        let residual = self.residual.unwrap_or(Scale { step: 0.0, zero: 0 });
        Scaling {
            factors: self.factors[column..].as_ptr(),
            zero: self.zero.into(),
            residual_zero: residual.zero.into(),
            residual_step: residual.step,
        }
    }
}

/// What a convolution reads, adds and writes.
#[derive(Clone, Copy)]
pub(crate) struct Scales {
    pub input: Scale,
    pub residual: Option<Scale>,
    /// Of bytes; `None` where numbers are written.
    pub out: Option<Scale>,
}

/// Weights `[row][out]` as bytes, and a step for each output.
pub(crate) struct Rounded {
    pub weights: Vec<i8>,
    pub steps: Vec<f64>,
}

/// Rounds weights, `[row][out]`; no step is so small that the bias in its steps would be no `i32`.
pub(crate) fn round_weights(weights: &[f32], bias: &[f32], input: Scale) -> Rounded {
    let outputs = bias.len();
    let mut steps: Vec<f64> = bias
        .iter()
        .map(|&bias| (f64::from(bias).abs() / (f64::from(input.step) * MOST_BIAS)).max(1e-30))
        .collect();
    for row in weights.chunks(outputs) {
        for (step, &weight) in steps.iter_mut().zip(row) {
            *step = step.max(f64::from(weight).abs() / MOST);
        }
    }
    let rounded = weights.chunks(outputs).flat_map(|row| {
        let each = row.iter().zip(&steps);
        each.map(|(&weight, step)| (f64::from(weight) / step).round_ties_even() as i8)
    });
    Rounded { weights: rounded.collect(), steps }
}

/// The bias of each output in steps of its sums.
pub(crate) fn round_bias(rounded: &Rounded, bias: &[f32], input: Scale) -> Vec<i32> {
    let unit = f64::from(input.step);
    let each = bias.iter().zip(&rounded.steps);
    each.map(|(&bias, step)| (f64::from(bias) / (unit * step)).round_ties_even() as i32).collect()
}

/// What goes with the weights of a convolution, of `padded` columns. `shift` is what the kernels take off each byte,
/// `channels` how many zero points they may read.
pub(crate) fn ends(
    rounded: &Rounded,
    bias: &[f32],
    scales: Scales,
    [padded, channels]: [usize; 2],
    shift: i32,
) -> Ends {
    let Scales { input, residual, out } = scales;
    let outputs = bias.len();
    let mut sums = vec![0_i64; outputs];
    for row in rounded.weights.chunks(outputs) {
        sums.iter_mut().zip(row).for_each(|(sum, &weight)| *sum += i64::from(weight));
    }
    let (unit, own) = (f64::from(input.step), round_bias(rounded, bias, input));
    let out_step = out.map_or(1.0, |out| f64::from(out.step));
    let begin = |output: usize| {
        // Within `i32`: by the steps, and by the depth.
        (i64::from(own[output]) - (i64::from(input.zero) - i64::from(shift)) * sums[output]) as i32
    };
    let factor = |output: usize| (unit * rounded.steps[output] / out_step) as f32;
    let mut starts = aligned(&(0..outputs).map(begin).collect::<Vec<i32>>());
    let mut factors = aligned(&(0..outputs).map(factor).collect::<Vec<f32>>());
    starts.resize(padded, 0);
    factors.resize(padded, 0.0);
    let residual =
        residual.map(|scale| Scale { step: (f64::from(scale.step) / out_step) as f32, ..scale });
    Ends {
        bias: starts,
        factors,
        zero: out.map_or(0, |out| out.zero),
        residual,
        outside: aligned(&vec![input.zero; channels]),
    }
}

/// Weights `[tap][in][out]` as quads `[tap][quad of ins][out]`; behind the last in there are zeros.
pub(crate) fn quad_rows(weights: &[i8], inputs: usize, outputs: usize) -> Vec<[i8; QUAD]> {
    let mut quads = Vec::new();
    for tap in weights.chunks(inputs * outputs) {
        for rows in tap.chunks(QUAD * outputs) {
            let at = |row: usize, output: usize| rows.get(row * outputs + output).copied();
            quads.extend((0..outputs).map(|output| {
                std::array::from_fn::<i8, QUAD, _>(|row| at(row, output).unwrap_or(0))
            }));
        }
    }
    quads
}

#[cfg(test)]
mod tests;
