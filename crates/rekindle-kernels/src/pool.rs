//! Pools: registers run over channels, a row of outputs at a time. Global pools are plain Rust, a small part of any
//! network's time.

use crate::simd::{Portable, Vector};

/// One row of outputs.
#[derive(Clone, Copy)]
pub(crate) struct PoolArgs {
    /// The first pixel of the image: `[height][width][stride]`.
    pub input: *const f32,
    pub width: usize,
    pub stride: usize,
    /// The image's rows under the window: `first..last`, at least one.
    pub rows: [usize; 2],
    /// The window's columns.
    pub kernel: usize,
    /// Columns from output to output.
    pub step: usize,
    /// Columns of the first window left of the image.
    pub left: usize,
    /// `[outputs][out_stride]`.
    pub out: *mut f32,
    pub out_stride: usize,
    pub outputs: usize,
    /// A multiple of [`CHANNEL_BLOCK`](crate::simd::CHANNEL_BLOCK).
    pub channels: usize,
    /// The maximum, or else the mean of what lies on the image.
    pub is_max: bool,
    /// What outputs are clamped to.
    pub low: f32,
    pub high: f32,
}

/// Computes a row.
///
/// # Safety
/// The pointers must be valid for what [`PoolArgs`] says, `out` for writing and for this thread alone, every window
/// must have a column on the image, and the instruction set must be there.
pub(crate) type PoolRow = unsafe fn(&PoolArgs);

#[inline(always)]
unsafe fn row<V: Vector>(args: &PoolArgs) {
    let [first, last] = args.rows;
    for output in 0..args.outputs {
        let start = output * args.step;
        let columns = start.saturating_sub(args.left)
            ..(start + args.kernel).saturating_sub(args.left).min(args.width);
        let share = 1.0 / ((last - first) * columns.len()) as f32;
        for channel in (0..args.channels).step_by(V::LANES) {
            // SAFETY: the caller's, see `PoolRow`.
            unsafe {
                let initial = if args.is_max { f32::NEG_INFINITY } else { 0.0 };
                let mut sum = V::splat(initial);
                for y in first..last {
                    for x in columns.clone() {
                        let pixel = args.input.add((y * args.width + x) * args.stride + channel);
                        let value = V::load(pixel);
                        sum = if args.is_max { sum.most(value) } else { sum.add(value) };
                    }
                }
                if !args.is_max {
                    sum = V::splat(share).mul_add(sum, V::splat(0.0));
                }
                let sum = sum.at_least(V::splat(args.low)).at_most(V::splat(args.high));
                sum.store(args.out.add(output * args.out_stride + channel));
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn row_avx512(args: &PoolArgs) {
    // SAFETY: the caller's, see `PoolRow`.
    unsafe { row::<crate::simd::Avx512>(args) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn row_avx2(args: &PoolArgs) {
    // SAFETY: the caller's, see `PoolRow`.
    unsafe { row::<crate::simd::Avx2>(args) }
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
pub(crate) unsafe fn row_neon(args: &PoolArgs) {
    // SAFETY: the caller's, see `PoolRow`.
    unsafe { row::<crate::simd::Neon>(args) }
}

pub(crate) unsafe fn row_portable(args: &PoolArgs) {
    // SAFETY: the caller's, see `PoolRow`.
    unsafe { row::<Portable>(args) }
}

/// An activation in memory: pixels of `stride` values, of which the first ones are pooled.
#[derive(Clone, Copy)]
pub(crate) struct Map {
    pub height: usize,
    pub width: usize,
    pub stride: usize,
}

/// The mean or the maximum of each channel.
pub(crate) fn global(input: &[f32], map: Map, is_max: bool, out: &mut [f32]) {
    let pixels = map.height * map.width;
    out.fill(if is_max { f32::NEG_INFINITY } else { 0.0 });
    for pixel in 0..pixels {
        let values = &input[pixel * map.stride..];
        for (sum, &value) in out.iter_mut().zip(values) {
            *sum = match is_max {
                false => *sum + value,
                true if *sum > value || sum.is_nan() => *sum,
                true => value,
            };
        }
    }
    if !is_max {
        for sum in out.iter_mut() {
            *sum /= pixels as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn every_row_is_the_plain_pool_and_nan_stays() {
        const CHANNELS: usize = 48;
        let (height, width, stride) = (5, 9, CHANNELS + 16);
        let value = |i: usize| ((i * 7919) % 1009) as f32 / 500.0 - 1.0;
        let mut input: Vec<f32> = (0..height * width * stride).map(value).collect();
        input[(2 * width + 4) * stride + 17] = f32::NAN;
        for isa in Isa::available() {
            for (is_max, kernel, step, left) in [
                (true, 3, 2, 1),
                (false, 3, 1, 1),
                (true, 2, 2, 0),
                (false, 1, 3, 0),
                (true, 9, 1, 4),
            ] {
                let outputs = (width + 2 * left - kernel) / step + 1;
                let mut out = vec![-7.0; outputs * stride];
                let args = PoolArgs {
                    input: input.as_ptr(),
                    width,
                    stride,
                    rows: [1, 4],
                    kernel,
                    step,
                    left,
                    out: out.as_mut_ptr(),
                    out_stride: stride,
                    outputs,
                    channels: CHANNELS,
                    is_max,
                    low: -0.5,
                    high: 0.75,
                };
                // SAFETY: rows and columns lie on the image, `out` has a row, and the set is available.
                unsafe { (isa.kernels().pool)(&args) };
                for (index, &found) in out.iter().enumerate() {
                    let (output, channel) = (index / stride, index % stride);
                    if channel >= CHANNELS {
                        assert_eq!(found, -7.0, "{isa} wrote behind its channels");
                        continue;
                    }
                    let columns = (output * step).saturating_sub(left)
                        ..(output * step + kernel - left).min(width);
                    let seen: Vec<f64> = (1..4)
                        .flat_map(|y| {
                            columns.clone().map(move |x| (y * width + x) * stride + channel)
                        })
                        .map(|at| f64::from(input[at]))
                        .collect();
                    let expected = if seen.iter().any(|value| value.is_nan()) {
                        f64::NAN
                    } else if is_max {
                        seen.iter().copied().fold(f64::NEG_INFINITY, f64::max)
                    } else {
                        seen.iter().sum::<f64>() / seen.len() as f64
                    };
                    let expected = expected.clamp(-0.5, 0.75);
                    let is_same = (f64::from(found) - expected).abs() < 1e-6
                        || (found.is_nan() && expected.is_nan());
                    assert!(is_same, "{isa} {kernel}/{step}: {found} {expected}");
                }
            }
        }
    }
}
