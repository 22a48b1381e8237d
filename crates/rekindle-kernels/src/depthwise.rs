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
