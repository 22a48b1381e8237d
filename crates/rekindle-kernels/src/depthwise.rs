//! Depthwise convolutions: registers run over channels, a row of outputs at a time.

use crate::simd::{Portable, Vector};

/// The tallest kernel that plans have pointers for.
pub(crate) const MOST_KERNEL_ROWS: usize = 16;

/// One row of outputs.
#[derive(Clone, Copy)]
pub(crate) struct RowArgs {
    /// For each row of the kernel, the image's row below it, from column 0 on: `[width][stride]`. Those outside
    /// of `kernel_rows` are never read.
    pub lines: [*const f32; MOST_KERNEL_ROWS],
    /// Values from pixel to pixel of the input.
    pub stride: usize,
    /// The image's columns.
    pub width: usize,
    /// The rows of the kernel that lie on the image: `first..last`.
    pub kernel_rows: [usize; 2],
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Columns from output to output.
    pub step: usize,
    /// Zeros left of the image.
    pub left: usize,
    /// `[kernel height][kernel width][channels]`.
    pub weights: *const f32,
    /// `[channels]`.
    pub bias: *const f32,
    /// `[outputs][out_stride]`.
    pub out: *mut f32,
    pub out_stride: usize,
    pub outputs: usize,
    /// A multiple of [`CHANNEL_BLOCK`](crate::simd::CHANNEL_BLOCK).
    pub channels: usize,
    pub low: f32,
    pub high: f32,
}

/// Computes a row.
///
/// # Safety
/// The pointers must be valid for what [`RowArgs`] says, `out` for writing and for this thread alone,
/// and the instruction set must be there.
pub(crate) type Depthwise = unsafe fn(&RowArgs);

#[inline(always)]
unsafe fn row<V: Vector>(args: &RowArgs) {
    // SAFETY: the caller's, see `Depthwise`; each call below is for the kernel and step that it is made for.
    unsafe {
        match (args.kernel, args.kernel_rows, args.step) {
            ([3, 3], [0, 3], 1) => row_3x3::<V, 1, 0, 3>(args),
            ([3, 3], [1, 3], 1) => row_3x3::<V, 1, 1, 3>(args),
            ([3, 3], [0, 2], 1) => row_3x3::<V, 1, 0, 2>(args),
            ([3, 3], [0, 3], 2) => row_3x3::<V, 2, 0, 3>(args),
            ([3, 3], [1, 3], 2) => row_3x3::<V, 2, 1, 3>(args),
            ([3, 3], [0, 2], 2) => row_3x3::<V, 2, 0, 2>(args),
            _ => (0..args.channels)
                .step_by(V::LANES)
                .for_each(|channel| any::<V>(args, channel, 0..args.outputs)),
        }
    }
}

/// Any kernel, outputs one by one.
#[inline(always)]
unsafe fn any<V: Vector>(args: &RowArgs, channel: usize, outputs: std::ops::Range<usize>) {
    let [_, kernel_width] = args.kernel;
    let [first, last] = args.kernel_rows;
    // SAFETY: the caller vouches for the pointers and the instruction set (see `Depthwise`);
    // columns are checked against the image before each load.
    unsafe {
        let (low, high) = (V::splat(args.low), V::splat(args.high));
        let bias = V::load(args.bias.add(channel));
        for output in outputs {
            let start = output * args.step;
            let mut sum = bias;
            for ky in first..last {
                let line = args.lines[ky].add(channel);
                for kx in 0..kernel_width {
                    let column = start + kx;
                    if column >= args.left && column - args.left < args.width {
                        let tap = (ky * kernel_width + kx) * args.channels + channel;
                        let pixel = V::load(line.add((column - args.left) * args.stride));
                        sum = pixel.mul_add(V::load(args.weights.add(tap)), sum);
                    }
                }
            }
            let sum = sum.at_least(low).at_most(high);
            sum.store(args.out.add(output * args.out_stride + channel));
        }
    }
}

/// Kernels of 3x3, of which rows `FIRST..LAST` lie on the image, at a step of `STEP` columns.
#[inline(always)]
unsafe fn row_3x3<V: Vector, const STEP: usize, const FIRST: usize, const LAST: usize>(
    args: &RowArgs,
) {
    // The outputs whose windows lie on the image.
    let inner = args.left.div_ceil(STEP).min(args.outputs);
    let end = match (args.width + args.left).checked_sub(3) {
        Some(last) => (last / STEP + 1).clamp(inner, args.outputs),
        None => inner,
    };
    for channel in (0..args.channels).step_by(V::LANES) {
        // SAFETY: the caller's, see `Depthwise`; `inner..end` need no check of columns.
        unsafe {
            let w: [V; 9] =
                std::array::from_fn(|tap| V::load(args.weights.add(tap * args.channels + channel)));
            any::<V>(args, channel, 0..inner);
            let mut output = inner;
            while output + 4 <= end {
                block_3x3::<V, STEP, FIRST, LAST, 4>(args, &w, channel, output);
                output += 4;
            }
            while output < end {
                block_3x3::<V, STEP, FIRST, LAST, 1>(args, &w, channel, output);
                output += 1;
            }
            any::<V>(args, channel, end..args.outputs);
        }
    }
}

/// `N` neighbours: each pixel is read once for all the windows that it is in.
#[inline(always)]
unsafe fn block_3x3<
    V: Vector,
    const STEP: usize,
    const FIRST: usize,
    const LAST: usize,
    const N: usize,
>(
    args: &RowArgs,
    w: &[V; 9],
    channel: usize,
    output: usize,
) {
    // SAFETY: as `row_3x3`.
    unsafe {
        let start = (output * STEP - args.left) * args.stride + channel;
        let mut sums = [V::load(args.bias.add(channel)); N];
        for ky in FIRST..LAST {
            let line = args.lines[ky].add(start);
            for column in 0..(N - 1) * STEP + 3 {
                let pixel = V::load(line.add(column * args.stride));
                for (n, sum) in sums.iter_mut().enumerate() {
                    if column >= n * STEP && column < n * STEP + 3 {
                        *sum = pixel.mul_add(w[ky * 3 + column - n * STEP], *sum);
                    }
                }
            }
        }
        let (low, high) = (V::splat(args.low), V::splat(args.high));
        for (n, sum) in sums.into_iter().enumerate() {
            let sum = sum.at_least(low).at_most(high);
            sum.store(args.out.add((output + n) * args.out_stride + channel));
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn row_avx512(args: &RowArgs) {
    // SAFETY: the caller's, see `Depthwise`.
    unsafe { row::<crate::simd::Avx512>(args) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn row_avx2(args: &RowArgs) {
    // SAFETY: the caller's, see `Depthwise`.
    unsafe { row::<crate::simd::Avx2>(args) }
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
pub(crate) unsafe fn row_neon(args: &RowArgs) {
    // SAFETY: the caller's, see `Depthwise`.
    unsafe { row::<crate::simd::Neon>(args) }
}

pub(crate) unsafe fn row_portable(args: &RowArgs) {
    // SAFETY: the caller's, see `Depthwise`.
    unsafe { row::<Portable>(args) }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::Isa;

    #[test]
    fn every_row_is_the_naive_convolution() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for case in 0..if cfg!(miri) { 8 } else { 200 } {
            let kernel = [[3, 3], [3, 3], [5, 5], [1, 3]][case % 4];
            let (height, width): (usize, usize) = (rng.random_range(1..9), rng.random_range(1..20));
            let (step, left): (usize, usize) =
                (rng.random_range(1..3), rng.random_range(0..=kernel[1] / 2));
            let channels: usize = 16 * rng.random_range(1..4);
            let stride = channels + 16 * rng.random_range(0..2);
            let first = rng.random_range(0..kernel[0]);
            let last = (first + height).min(kernel[0]);
            let outputs = (width + left).saturating_sub(1) / step + 1;
            let mut random = |count: usize| -> Vec<f32> {
                (0..count).map(|_| rng.random::<f32>() * 2.0 - 1.0).collect()
            };
            let input = random(height * width * stride);
            let (weights, bias) = (random(kernel[0] * kernel[1] * channels), random(channels));
            for isa in Isa::available() {
                let mut out = vec![f32::NAN; outputs * stride];
                let mut lines = [std::ptr::null(); MOST_KERNEL_ROWS];
                for (line, row) in lines[first..last].iter_mut().zip(input.chunks(width * stride)) {
                    *line = row.as_ptr();
                }
                let args = RowArgs {
                    lines,
                    stride,
                    width,
                    kernel_rows: [first, last],
                    kernel,
                    step,
                    left,
                    weights: weights.as_ptr(),
                    bias: bias.as_ptr(),
                    out: out.as_mut_ptr(),
                    out_stride: stride,
                    outputs,
                    channels,
                    low: -1.5,
                    high: 1.5,
                };
                // SAFETY: `last - first` is at most the image's height, every buffer has the size that
                // its field says, and the set is available.
                unsafe { (isa.kernels().depthwise)(&args) };
                for (index, &found) in out.iter().enumerate() {
                    let (output, channel) = (index / stride, index % stride);
                    if channel >= channels {
                        assert!(found.is_nan(), "{isa} wrote behind its channels");
                        continue;
                    }
                    let mut sum = f64::from(bias[channel]);
                    for ky in first..last {
                        for kx in 0..kernel[1] {
                            let Some(column) = (output * step + kx).checked_sub(left) else {
                                continue;
                            };
                            if column < width {
                                let pixel =
                                    input[((ky - first) * width + column) * stride + channel];
                                let weight = weights[(ky * kernel[1] + kx) * channels + channel];
                                sum += f64::from(pixel) * f64::from(weight);
                            }
                        }
                    }
                    let expected = sum.clamp(-1.5, 1.5);
                    assert!(
                        (f64::from(found) - expected).abs() < 1e-5,
                        "{isa}: {found} {expected}"
                    );
                }
            }
        }
    }
}
