//! What else is done with bytes, as plain loops that are compiled for each instruction set: all in integers, or in `f32` without
//! fused operations, so that each set gives the same bytes.

use rekindle_nn::Activation;

use crate::activation::activate_unfused;
use crate::int8::Scale;
use crate::vectorized::vectorized;
use crate::view::View;

/// Adding it rounds to a whole number, an even one where two are as near, which then is in the lowest bits.
const ROUND: f32 = 12_582_912.0;

/// Values that are worked on at once, in the first-level cache.
const CHUNK: usize = 1024;

/// The byte of a number in steps, within those of bytes.
#[inline(always)]
fn byte(value: f32, zero: u8) -> u8 {
    ((value + ROUND).to_bits() as u8).wrapping_add(zero)
}

#[inline(always)]
fn clamp(value: f32, low: f32, high: f32) -> f32 {
    let value = if value < low { low } else { value };
    if value > high { high } else { value }
}

vectorized! {
    /// The nearest bytes of numbers; what is no number becomes zero.
    fn round(values: &[f32], per_step: f32, zero: u8, to: &mut [u8]) {
        let (low, high) = (-f32::from(zero), 255.0 - f32::from(zero));
        for (to, &value) in to.iter_mut().zip(values) {
            *to = byte(clamp(value * per_step, low, high), zero);
        }
    }
}

/// The nearest bytes of what a function makes of numbers.
pub(crate) fn quantize(from: &[f32], activation: Option<Activation>, scale: Scale, to: &mut [u8]) {
    let (per_step, zero) = (1.0 / scale.step, scale.zero);
    let Some(activation) = activation else {
        return round(from, per_step, zero, to);
    };
    let mut values = [0.0; CHUNK];
    for (from, to) in from.chunks(CHUNK).zip(to.chunks_mut(CHUNK)) {
        let values = &mut values[..from.len()];
        values.copy_from_slice(from);
        activate_unfused(activation, values);
        round(values, per_step, zero, to);
    }
}

vectorized! {
    /// The numbers of bytes.
    pub(crate) fn dequantize(from: &[u8], scale: Scale, to: &mut [f32]) {
        let zero = f32::from(scale.zero);
        for (to, &byte) in to.iter_mut().zip(from) {
            *to = (f32::from(byte) - zero) * scale.step;
        }
    }
}

/// What bytes become, one by one.
pub(crate) fn lookup(table: &[u8; 256], from: &[u8], to: &mut [u8]) {
    for (to, &byte) in to.iter_mut().zip(from) {
        *to = table[usize::from(byte)];
    }
}

/// The bytes that a function makes of all bytes.
pub(crate) fn table(activation: Activation, from: Scale, to: Scale) -> Box<[u8; 256]> {
    let numbers: [f32; 256] = std::array::from_fn(|byte| from.number(byte as u8));
    let mut table = Box::new([0; 256]);
    quantize(&numbers, Some(activation), to, &mut table[..]);
    table
}

/// Two values that are added.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sum {
    pub zeros: [u8; 2],
    /// Their steps in steps of what is written.
    pub steps: [f32; 2],
    pub zero: u8,
}

impl Sum {
    pub fn new(inputs: [Scale; 2], out: Scale) -> Self {
        let step = |scale: Scale| (f64::from(scale.step) / f64::from(out.step)) as f32;
        Self { zeros: inputs.map(|scale| scale.zero), steps: inputs.map(step), zero: out.zero }
    }
}

vectorized! {
    /// The nearest bytes of sums.
    pub(crate) fn add(sum: Sum, first: &[u8], second: &[u8], to: &mut [u8]) {
        let Sum { zeros, steps, zero } = sum;
        let zeros = zeros.map(f32::from);
        let (low, high) = (-f32::from(zero), 255.0 - f32::from(zero));
        for ((to, &a), &b) in to.iter_mut().zip(first).zip(second) {
            let a = (f32::from(a) - zeros[0]) * steps[0];
            let b = (f32::from(b) - zeros[1]) * steps[1];
            *to = byte(clamp(a + b, low, high), zero);
        }
    }
}

/// Where the windows of one row of a pool's outputs lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolRow {
    /// The image's rows under the window: `first..last`.
    pub rows: [usize; 2],
    /// The window's columns, how far windows are apart, and columns of the first one left of the image.
    pub kernel: usize,
    pub step: usize,
    pub left: usize,
}

impl PoolRow {
    /// The columns of an output's window that lie on an image of this width.
    #[inline(always)]
    fn columns(&self, output: usize, width: usize) -> std::ops::Range<usize> {
        let start = output * self.step;
        start.saturating_sub(self.left)..(start + self.kernel).saturating_sub(self.left).min(width)
    }
}

vectorized! {
    /// The largest byte of each window and channel, to the first row of `out`, which is this thread's; no thread writes the
    /// input.
    pub(crate) fn most(row: &PoolRow, input: View<u8>, out: View<u8>) {
        for output in 0..out.width {
            // SAFETY: this thread's.
            let to = unsafe { out.values_mut(output) };
            to.fill(0);
            for y in row.rows[0]..row.rows[1] {
                for x in row.columns(output, input.width) {
                    // SAFETY: no thread writes it.
                    let from = unsafe { input.values(y * input.width + x) };
                    to.iter_mut().zip(from).for_each(|(to, &from)| *to = (*to).max(from));
                }
            }
        }
    }
}

/// What means are multiplied by and clamped to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mean {
    /// The input's zero point.
    pub input: u8,
    /// The input's step in steps of what is written.
    pub step: f32,
    pub zero: u8,
    pub low: f32,
    pub high: f32,
}

/// Channels that are added up at once.
const TOGETHER: usize = 64;

vectorized! {
    /// As `most`, the mean of each window and channel.
    pub(crate) fn means(row: &PoolRow, mean: Mean, input: View<u8>, out: View<u8>) {
        for output in 0..out.width {
            let columns = row.columns(output, input.width);
            let count = ((row.rows[1] - row.rows[0]) * columns.len()) as i32;
            let factor = mean.step / count as f32;
            // SAFETY: this thread's.
            let to = unsafe { out.values_mut(output) };
            for (block, to) in to.chunks_mut(TOGETHER).enumerate() {
                let mut sums = [-count * i32::from(mean.input); TOGETHER];
                for y in row.rows[0]..row.rows[1] {
                    for x in columns.clone() {
                        // SAFETY: no thread writes it.
                        let from = unsafe { input.values(y * input.width + x) };
                        let from = &from[block * TOGETHER..][..to.len()];
                        sums.iter_mut().zip(from).for_each(|(sum, &from)| *sum += i32::from(from));
                    }
                }
                for (to, &sum) in to.iter_mut().zip(&sums) {
                    *to = byte(clamp(sum as f32 * factor, mean.low, mean.high), mean.zero);
                }
            }
        }
    }
}

vectorized! {
    /// The mean or the maximum of each channel of all pixels, as numbers.
    pub(crate) fn global(input: &[u8], stride: usize, scale: Scale, is_max: bool, out: &mut [f32]) {
        let count = input.len().div_ceil(stride);
        let (step, zeros) = match is_max {
            true => (scale.step, i64::from(scale.zero)),
            false => (scale.step / count as f32, i64::from(scale.zero) * count as i64),
        };
        for (block, out) in out.chunks_mut(TOGETHER).enumerate() {
            let mut sums = [0_u32; TOGETHER];
            for pixel in input.chunks(stride) {
                let bytes = &pixel[block * TOGETHER..][..out.len()];
                for (sum, &byte) in sums.iter_mut().zip(bytes) {
                    let byte = u32::from(byte);
                    *sum = if is_max { byte.max(*sum) } else { *sum + byte };
                }
            }
            for (to, &sum) in out.iter_mut().zip(&sums) {
                *to = (i64::from(sum) - zeros) as f32 * step;
            }
        }
    }
}
