//! Depthwise convolutions: registers run over channels, one or two rows of outputs at a time.

use crate::simd::{CHANNEL_BLOCK, Portable, Vector};

/// The tallest kernel that plans have pointers for.
pub(crate) const MOST_KERNEL_ROWS: usize = 16;

/// What is read for a column that lies beside the image.
static ZEROS: [f32; CHANNEL_BLOCK] = [0.0; CHANNEL_BLOCK];

/// One row of outputs, or two.
#[derive(Clone, Copy)]
pub(crate) struct RowsArgs {
    /// For each row of the kernel, the image's row below it, from column 0 on: `[width][stride]`. Those outside
    /// of `kernel_rows` are never read. For two rows there are `step` more.
    pub lines: [*const f32; MOST_KERNEL_ROWS],
    /// Values from pixel to pixel of the input.
    pub stride: usize,
    /// The image's columns.
    pub width: usize,
    /// Rows of outputs. Two only where [`can_pair`] is true and all rows of the kernel lie on the image.
    pub rows: usize,
    /// The rows of the kernel that lie on the image: `first..last`.
    pub kernel_rows: [usize; 2],
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Columns from output to output; for two rows also lines from output to output.
    pub step: usize,
    /// Columns from tap to tap of the kernel; 1 where they are neighbours.
    pub spread: usize,
    /// Zeros left of the image.
    pub left: usize,
    /// `[kernel height][kernel width][weights_stride]`.
    pub weights: *const f32,
    pub weights_stride: usize,
    /// `[channels]`.
    pub bias: *const f32,
    /// `[outputs][out_stride]`, the second row `out_line` values behind the first.
    pub out: *mut f32,
    pub out_stride: usize,
    pub out_line: usize,
    pub outputs: usize,
    /// A multiple of the registers' lanes.
    pub channels: usize,
    pub low: f32,
    pub high: f32,
}

/// Computes one row, or two.
///
/// # Safety
/// The pointers must be valid for what [`RowsArgs`] says, `out` for writing and for this thread alone,
/// and the instruction set must be there.
pub(crate) type Depthwise = unsafe fn(&RowsArgs);

/// Whether two rows may be computed together, which reads most pixels once instead of twice: the kernel's size, its
/// steps, the zeros left of the image, its columns and the outputs'.
pub(crate) fn can_pair(
    kernel: [usize; 2],
    step: [usize; 2],
    left: usize,
    width: usize,
    outputs: usize,
) -> bool {
    let reach = (outputs - 1) * step[1] + 3;
    kernel == [3, 3] && matches!(step, [1, 1] | [2, 2]) && left <= 1 && reach <= left + width + 1
}

#[inline(always)]
unsafe fn rows<V: Vector>(args: &RowsArgs) {
    let &RowsArgs { kernel, kernel_rows, step, left, width, outputs, .. } = args;
    // SAFETY: the caller's, see `Depthwise`; each call below is for the kernel, step and edges that it is made for.
    unsafe {
        if args.spread != 1 || !can_pair(kernel, [step, step], left, width, outputs) {
            return any::<V>(args);
        }
        match (args.rows, kernel_rows, step) {
            (2, _, 1) => rows_3x3::<V, 1, 2, 0, 3>(args),
            (2, _, _) => rows_3x3::<V, 2, 2, 0, 3>(args),
            (_, [0, 3], 1) => rows_3x3::<V, 1, 1, 0, 3>(args),
            (_, [1, 3], 1) => rows_3x3::<V, 1, 1, 1, 3>(args),
            (_, [0, 2], 1) => rows_3x3::<V, 1, 1, 0, 2>(args),
            (_, [0, 3], _) => rows_3x3::<V, 2, 1, 0, 3>(args),
            (_, [1, 3], _) => rows_3x3::<V, 2, 1, 1, 3>(args),
            (_, [0, 2], _) => rows_3x3::<V, 2, 1, 0, 2>(args),
            _ => any::<V>(args),
        }
    }
}

/// One row of any kernel, outputs one by one.
#[inline(always)]
unsafe fn any<V: Vector>(args: &RowsArgs) {
    let [_, kernel_width] = args.kernel;
    let [first, last] = args.kernel_rows;
    // SAFETY: the caller vouches for the pointers and the instruction set (see `Depthwise`);
    // columns are checked against the image before each load.
    unsafe {
        let (low, high) = (V::splat(args.low), V::splat(args.high));
        for channel in (0..args.channels).step_by(V::LANES) {
            let bias = V::load(args.bias.add(channel));
            for output in 0..args.outputs {
                let start = output * args.step;
                let mut sum = bias;
                for ky in first..last {
                    let line = args.lines[ky].add(channel);
                    for kx in 0..kernel_width {
                        let column = start + kx * args.spread;
                        if column >= args.left && column - args.left < args.width {
                            let tap = (ky * kernel_width + kx) * args.weights_stride + channel;
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
}

/// `ROWS` rows of a kernel of 3x3, of which rows `FIRST..LAST` lie on the image, at a step of `STEP`.
#[inline(always)]
unsafe fn rows_3x3<
    V: Vector,
    const STEP: usize,
    const ROWS: usize,
    const FIRST: usize,
    const LAST: usize,
>(
    args: &RowsArgs,
) {
    for channel in (0..args.channels).step_by(V::LANES) {
        // SAFETY: the caller's, see `Depthwise`; blocks end with the outputs.
        unsafe {
            let w: [V; 9] = std::array::from_fn(|tap| {
                V::load(args.weights.add(tap * args.weights_stride + channel))
            });
            let mut output = 0;
            while output + 4 <= args.outputs {
                block_3x3::<V, STEP, ROWS, FIRST, LAST, 4>(args, &w, channel, output);
                output += 4;
            }
            match args.outputs - output {
                3 => block_3x3::<V, STEP, ROWS, FIRST, LAST, 3>(args, &w, channel, output),
                2 => block_3x3::<V, STEP, ROWS, FIRST, LAST, 2>(args, &w, channel, output),
                1 => block_3x3::<V, STEP, ROWS, FIRST, LAST, 1>(args, &w, channel, output),
                _ => {}
            }
        }
    }
}

/// `N` neighbours in each row: each pixel is read once for all the windows that it is in.
#[inline(always)]
unsafe fn block_3x3<
    V: Vector,
    const STEP: usize,
    const ROWS: usize,
    const FIRST: usize,
    const LAST: usize,
    const N: usize,
>(
    args: &RowsArgs,
    w: &[V; 9],
    channel: usize,
    output: usize,
) {
    // SAFETY: the caller's, see `Depthwise`; lines are those of the rows that lie on the image.
    unsafe {
        let mut sums = [[V::load(args.bias.add(channel)); N]; ROWS];
        let behind = (ROWS - 1) * STEP + LAST;
        // No loop: as one it would be too long for the compiler to unroll.
        if FIRST == 0 {
            line_3x3::<V, STEP, ROWS, N, 0>(args, w, channel, output, &mut sums);
        }
        line_3x3::<V, STEP, ROWS, N, 1>(args, w, channel, output, &mut sums);
        if behind > 2 {
            line_3x3::<V, STEP, ROWS, N, 2>(args, w, channel, output, &mut sums);
        }
        if behind > 3 {
            line_3x3::<V, STEP, ROWS, N, 3>(args, w, channel, output, &mut sums);
        }
        if behind > 4 {
            line_3x3::<V, STEP, ROWS, N, 4>(args, w, channel, output, &mut sums);
        }
        let (low, high) = (V::splat(args.low), V::splat(args.high));
        for (row, sums) in sums.into_iter().enumerate() {
            let out = args.out.add(row * args.out_line + output * args.out_stride + channel);
            for (n, sum) in sums.into_iter().enumerate() {
                sum.at_least(low).at_most(high).store(out.add(n * args.out_stride));
            }
        }
    }
}

/// Adds what line `Y` gives to a block's sums.
#[inline(always)]
unsafe fn line_3x3<
    V: Vector,
    const STEP: usize,
    const ROWS: usize,
    const N: usize,
    const Y: usize,
>(
    args: &RowsArgs,
    w: &[V; 9],
    channel: usize,
    output: usize,
    sums: &mut [[V; N]; ROWS],
) {
    let columns = (N - 1) * STEP + 3;
    let start = output * STEP;
    // `can_pair` leaves at most one column on each side of the image.
    let (is_left, is_right) = (start < args.left, start + columns > args.left + args.width);
    let offset = (start * args.stride).wrapping_sub(args.left * args.stride).wrapping_add(channel);
    let line = args.lines[Y].wrapping_add(offset);
    for x in 0..columns {
        let is_beside = x == 0 && is_left || x == columns - 1 && is_right;
        let pixel = line.wrapping_add(x * args.stride);
        // SAFETY: the caller's, see `Depthwise`; what lies beside the image is not read.
        unsafe {
            let pixel = V::load(if is_beside { ZEROS.as_ptr() } else { pixel });
            for (row, sums) in sums.iter_mut().enumerate() {
                for (n, sum) in sums.iter_mut().enumerate() {
                    let (top, left) = (row * STEP, n * STEP);
                    if Y >= top && Y < top + 3 && x >= left && x < left + 3 {
                        *sum = pixel.mul_add(w[(Y - top) * 3 + x - left], *sum);
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn rows_avx512(args: &RowsArgs) {
    // SAFETY: the caller's, see `Depthwise`.
    unsafe { rows::<crate::simd::Avx512>(args) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn rows_avx2(args: &RowsArgs) {
    // SAFETY: the caller's, see `Depthwise`.
    unsafe { rows::<crate::simd::Avx2>(args) }
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
pub(crate) unsafe fn rows_neon(args: &RowsArgs) {
    // SAFETY: the caller's, see `Depthwise`.
    unsafe { rows::<crate::simd::Neon>(args) }
}

pub(crate) unsafe fn rows_portable(args: &RowsArgs) {
    // SAFETY: the caller's, see `Depthwise`.
    unsafe { rows::<Portable>(args) }
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
        let mut paired = 0;
        for case in 0..if cfg!(miri) { 16 } else { 400 } {
            let kernel = [[3, 3], [3, 3], [3, 3], [5, 5], [1, 3]][case % 5];
            let width: usize = rng.random_range(1..20);
            let (step, left): (usize, usize) =
                (rng.random_range(1..3), rng.random_range(0..=kernel[1] / 2));
            let most = (width + left - 1) / step + 1;
            let outputs = if case % 2 == 0 { width.div_ceil(step) } else { most };
            let rows = 1 + usize::from(
                case % 3 == 0 && can_pair(kernel, [step, step], left, width, outputs),
            );
            paired += rows - 1;
            let height = if rows == 2 { 3 + step } else { rng.random_range(1..9) };
            let first = if rows == 2 { 0 } else { rng.random_range(0..kernel[0]) };
            let last = (first + height).min(kernel[0]);
            // A panel of the weights' channels, of pixels and outputs that are wider still.
            let channels: usize = 16 * rng.random_range(1..4);
            let weights_stride = channels + 16 * rng.random_range(0..2);
            let stride = weights_stride + 16 * rng.random_range(0..2);
            let out_line = outputs * stride + rng.random_range(0..9);
            let mut random = |count: usize| -> Vec<f32> {
                (0..count).map(|_| rng.random::<f32>() * 2.0 - 1.0).collect()
            };
            let input = random(height * width * stride);
            let weights = random(kernel[0] * kernel[1] * weights_stride);
            let bias = random(channels);
            let expected = |row: usize, output: usize, channel: usize| {
                let mut sum = f64::from(bias[channel]);
                for ky in first..last {
                    for kx in 0..kernel[1] {
                        let y = ky - first + row * step;
                        let column = (output * step + kx).checked_sub(left);
                        if let Some(x) = column.filter(|&x| x < width) {
                            let pixel = input[(y * width + x) * stride + channel];
                            let tap = (ky * kernel[1] + kx) * weights_stride + channel;
                            sum += f64::from(pixel) * f64::from(weights[tap]);
                        }
                    }
                }
                sum.clamp(-1.5, 1.5)
            };
            for isa in Isa::available() {
                let mut out = vec![f32::NAN; rows * out_line];
                let mut lines = [std::ptr::null(); MOST_KERNEL_ROWS];
                let behind = last + (rows - 1) * step;
                for (line, row) in lines[first..behind].iter_mut().zip(input.chunks(width * stride))
                {
                    *line = row.as_ptr();
                }
                let args = RowsArgs {
                    lines,
                    stride,
                    width,
                    rows,
                    kernel_rows: [first, last],
                    kernel,
                    step,
                    spread: 1,
                    left,
                    weights: weights.as_ptr(),
                    weights_stride,
                    bias: bias.as_ptr(),
                    out: out.as_mut_ptr(),
                    out_stride: stride,
                    out_line,
                    outputs,
                    channels,
                    low: -1.5,
                    high: 1.5,
                };
                // SAFETY: the rows that are read are at most the image's, every buffer has the size that
                // its field says, and the set is available.
                unsafe { (isa.kernels().depthwise)(&args) };
                for (index, &found) in out.iter().enumerate() {
                    let (row, at) = (index / out_line, index % out_line);
                    let (output, channel) = (at / stride, at % stride);
                    if output >= outputs || channel >= channels {
                        assert!(found.is_nan(), "{isa} wrote behind its channels");
                        continue;
                    }
                    let expected = expected(row, output, channel);
                    assert!(
                        (f64::from(found) - expected).abs() < 1e-5,
                        "{isa}, {rows} rows, {width} columns, step {step}, left {left}: {found} {expected}"
                    );
                }
            }
        }
        assert!(paired > 0);
    }
}
