//! Depthwise convolutions: registers run over channels, a row of outputs at a time.

use crate::simd::{Portable, Vector};

/// One row of outputs.
#[derive(Clone, Copy)]
pub(crate) struct RowArgs {
    /// The image's first row that the kernel covers, at column 0: `[rows][width][stride]`.
    pub input: *const f32,
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
    let [_, kernel_width] = args.kernel;
    let [first, last] = args.kernel_rows;
    let row_stride = args.width * args.stride;
    for channel in (0..args.channels).step_by(V::LANES) {
        // SAFETY: the caller vouches for the pointers and the instruction set (see `Depthwise`);
        // columns are checked against the image before each load.
        unsafe {
            let (low, high) = (V::splat(args.low), V::splat(args.high));
            let bias = V::load(args.bias.add(channel));
            let weight = |ky: usize, kx: usize| {
                V::load(args.weights.add((ky * kernel_width + kx) * args.channels + channel))
            };
            let is_3x3 = args.kernel == [3, 3] && first == 0 && last == 3;
            let w: [V; 9] =
                if is_3x3 { std::array::from_fn(|i| weight(i / 3, i % 3)) } else { [bias; 9] };
            for output in 0..args.outputs {
                let start = output * args.step;
                let mut sum = bias;
                if is_3x3 && start >= args.left && start - args.left + 3 <= args.width {
                    let at = args.input.add((start - args.left) * args.stride + channel);
                    for ky in 0..3 {
                        for kx in 0..3 {
                            let pixel = V::load(at.add(ky * row_stride + kx * args.stride));
                            sum = pixel.mul_add(w[ky * 3 + kx], sum);
                        }
                    }
                } else {
                    for ky in first..last {
                        let line = args.input.add((ky - first) * row_stride + channel);
                        for kx in 0..kernel_width {
                            let column = start + kx;
                            if column >= args.left && column - args.left < args.width {
                                let pixel = V::load(line.add((column - args.left) * args.stride));
                                sum = pixel.mul_add(weight(ky, kx), sum);
                            }
                        }
                    }
                }
                let sum = sum.at_least(low).at_most(high);
                sum.store(args.out.add(output * args.out_stride + channel));
            }
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
        for case in 0..200 {
            let kernel = [[3, 3], [3, 3], [5, 5], [1, 3]][case % 4];
            let (height, width): (usize, usize) = (rng.random_range(1..9), rng.random_range(1..9));
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
                let args = RowArgs {
                    input: input.as_ptr(),
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
