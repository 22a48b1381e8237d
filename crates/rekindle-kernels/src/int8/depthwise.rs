//! Depthwise convolutions of bytes: registers run over channels, and each lane has its channel's bytes of four rows of the
//! kernel side by side, which are multiplied and added at once.

use crate::depthwise::MOST_KERNEL_ROWS;
use crate::int8::Scaling;
use crate::int8::tile::end;
use crate::simd::Vector;
use crate::simd::int8::{End, QUAD, Quads, Sums};

/// Rows that there are pointers for: those of the tallest kernel in whole quads, and the one that a second row of outputs has more.
pub(crate) const MOST_LINES: usize = MOST_KERNEL_ROWS + QUAD;

/// One row of outputs, or two.
#[derive(Clone, Copy)]
pub(crate) struct RowsArgs<O> {
    /// For each row of the kernel, the image's row below it, from column 0 on: `[width][stride]`; null beside the image.
    /// For two rows of outputs there is one more.
    pub lines: [*const u8; MOST_LINES],
    /// Values from pixel to pixel of the input.
    pub stride: usize,
    /// The image's columns.
    pub width: usize,
    /// Rows of outputs. Two only where [`can_pair`] is true.
    pub rows: usize,
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Columns from output to output.
    pub step: usize,
    /// Columns from tap to tap of the kernel.
    pub spread: usize,
    /// Columns left of the image.
    pub left: usize,
    /// As [`pack`] makes them.
    pub weights: *const i8,
    /// `[channels]`.
    pub bias: *const i32,
    pub scaling: Scaling,
    /// A block of channels as they are beside the image.
    pub outside: *const u8,
    /// `[outputs][out_stride]`, the second row `out_line` values behind the first.
    pub out: *mut O,
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
/// The pointers must be valid for what [`RowsArgs`] says, `out` for writing and for this thread alone, and the instruction set
/// must be there.
pub(crate) type Depthwise<O> = unsafe fn(&RowsArgs<O>);

/// Whether two rows may be computed together: their four lines are one quad.
pub(crate) fn can_pair(kernel: [usize; 2], step: [usize; 2], spread: [usize; 2]) -> bool {
    kernel == [3, 3] && step == [1, 1] && spread == [1, 1]
}

/// Weights `[kernel height][kernel width][channels]` as kernels read them: for each column of the kernel the quads of its rows,
/// `[channels][4]`. Those of a kernel that [`can_pair`] takes follow once more, one row further down.
pub(crate) fn pack(weights: &[i8], kernel: [usize; 2], channels: usize, padded: usize) -> Vec<i8> {
    let [height, width] = kernel;
    let mut packed = Vec::new();
    for down in 0..if kernel == [3, 3] { 2 } else { 1 } {
        for x in 0..width {
            for quad in (0..height).step_by(QUAD) {
                for channel in 0..padded {
                    for row in quad..quad + QUAD {
                        let y = row.checked_sub(down).filter(|&y| y < height);
                        let own = y.filter(|_| channel < channels);
                        packed
                            .push(own.map_or(0, |y| weights[(y * width + x) * channels + channel]));
                    }
                }
            }
        }
    }
    packed
}

/// A line of the image, or what is read in its place, and how far its pixels are apart.
type Line = (*const u8, usize);

/// The lines of a quad, for one channel on.
#[inline(always)]
unsafe fn quad<O>(args: &RowsArgs<O>, first: usize, channel: usize) -> [Line; QUAD] {
    std::array::from_fn(|row| match args.lines[first + row] {
        line if line.is_null() => (args.outside, 0),
        // SAFETY: the caller's, see `Depthwise`.
        line => (unsafe { line.add(channel) }, args.stride),
    })
}

/// A quad's bytes of one column, which may lie beside the image.
#[inline(always)]
unsafe fn column<S: Sums, O>(args: &RowsArgs<O>, lines: &[Line; QUAD], column: usize) -> S::Pixels {
    // SAFETY: the caller's, see `Depthwise`; what lies beside the image is not read.
    unsafe {
        S::weave(match column < args.width {
            true => lines.map(|(line, stride)| line.add(column * stride)),
            false => [args.outside; QUAD],
        })
    }
}

#[inline(always)]
unsafe fn rows<S: Sums, O>(args: &RowsArgs<O>)
where
    S::Values: End<O>,
{
    let lanes = S::Values::LANES;
    let is_3x3 = args.kernel == [3, 3] && args.spread == 1;
    for channel in (0..args.channels).step_by(lanes) {
        // SAFETY: the caller's, see `Depthwise`.
        unsafe {
            match (is_3x3, args.step, args.rows) {
                (true, 1, 1) => rows_3x3::<S, O, 1, 1>(args, channel),
                (true, 1, _) => rows_3x3::<S, O, 1, 2>(args, channel),
                (true, 2, _) => rows_3x3::<S, O, 2, 1>(args, channel),
                _ => any::<S, O>(args, channel),
            }
        }
    }
}

/// One row of any kernel, outputs one by one.
#[inline(always)]
unsafe fn any<S: Sums, O>(args: &RowsArgs<O>, channel: usize)
where
    S::Values: End<O>,
{
    let [height, width] = args.kernel;
    let quads = height.div_ceil(QUAD);
    // SAFETY: the caller's, see `Depthwise`.
    unsafe {
        let bias = S::load(args.bias.add(channel));
        for output in 0..args.outputs {
            let mut sum = bias;
            for number in 0..quads {
                let lines = quad(args, number * QUAD, channel);
                for x in 0..width {
                    let at = (output * args.step + x * args.spread).wrapping_sub(args.left);
                    let pixels = column::<S, O>(args, &lines, at);
                    let own = ((x * quads + number) * args.channels + channel) * QUAD;
                    sum = sum.add_products(pixels, S::load_weights(args.weights.add(own)));
                }
            }
            let to = args.out.add(output * args.out_stride + channel);
            end::<S, O>(sum, &args.scaling, [args.low, args.high], channel, to);
        }
    }
}

/// `ROWS` rows of a kernel of 3x3 at a step of `STEP`.
#[inline(always)]
unsafe fn rows_3x3<S: Sums, O, const STEP: usize, const ROWS: usize>(
    args: &RowsArgs<O>,
    channel: usize,
) where
    S::Values: End<O>,
{
    // SAFETY: the caller's, see `Depthwise`; blocks end with the outputs.
    unsafe {
        let weights: [[S::Weights; 3]; ROWS] = std::array::from_fn(|row| {
            std::array::from_fn(|x| {
                let own = ((row * 3 + x) * args.channels + channel) * QUAD;
                S::load_weights(args.weights.add(own))
            })
        });
        let lines = quad(args, 0, channel);
        let mut output = 0;
        while output + 4 <= args.outputs {
            block_3x3::<S, O, STEP, ROWS, 4>(args, &weights, &lines, channel, output);
            output += 4;
        }
        while output < args.outputs {
            block_3x3::<S, O, STEP, ROWS, 1>(args, &weights, &lines, channel, output);
            output += 1;
        }
    }
}

/// `N` neighbours in each row: each column is woven once for all the windows that it is in.
#[inline(always)]
unsafe fn block_3x3<S: Sums, O, const STEP: usize, const ROWS: usize, const N: usize>(
    args: &RowsArgs<O>,
    weights: &[[S::Weights; 3]; ROWS],
    lines: &[Line; QUAD],
    channel: usize,
    output: usize,
) where
    S::Values: End<O>,
{
    // SAFETY: the caller's, see `Depthwise`.
    unsafe {
        let mut sums = [[S::load(args.bias.add(channel)); N]; ROWS];
        for x in 0..(N - 1) * STEP + 3 {
            let at = (output * STEP + x).wrapping_sub(args.left);
            let pixels = column::<S, O>(args, lines, at);
            for row in 0..ROWS {
                for n in 0..N {
                    if x >= n * STEP && x < n * STEP + 3 {
                        sums[row][n] =
                            sums[row][n].add_products(pixels, weights[row][x - n * STEP]);
                    }
                }
            }
        }
        for (row, sums) in sums.into_iter().enumerate() {
            let out = args.out.add(row * args.out_line + output * args.out_stride + channel);
            for (n, sum) in sums.into_iter().enumerate() {
                let to = out.add(n * args.out_stride);
                end::<S, O>(sum, &args.scaling, [args.low, args.high], channel, to);
            }
        }
    }
}

/// The kernels of one register of sums, to bytes and to `f32`.
macro_rules! kernels {
    ($to_bytes:ident $to_f32:ident, $(#[$attribute:meta])* $sums:ty) => {
        $(#[$attribute])*
        pub(crate) unsafe fn $to_bytes(args: &RowsArgs<u8>) {
            // SAFETY: the caller's, see `Depthwise`.
            unsafe { rows::<$sums, u8>(args) }
        }

        $(#[$attribute])*
        pub(crate) unsafe fn $to_f32(args: &RowsArgs<f32>) {
            // SAFETY: the caller's, see `Depthwise`.
            unsafe { rows::<$sums, f32>(args) }
        }
    };
}

#[cfg(target_arch = "x86_64")]
kernels!(
    rows_vnni512 rows_vnni512_to_f32,
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    crate::simd::int8::Vnni512
);
#[cfg(target_arch = "x86_64")]
kernels!(
    rows_madd512 rows_madd512_to_f32,
    #[target_feature(enable = "avx512f,avx512bw")]
    crate::simd::int8::Madd512
);
#[cfg(target_arch = "x86_64")]
kernels!(
    rows_vnni256 rows_vnni256_to_f32,
    #[target_feature(enable = "avx2,fma,avxvnni")]
    crate::simd::int8::Vnni256
);
#[cfg(target_arch = "x86_64")]
kernels!(
    rows_madd256 rows_madd256_to_f32,
    #[target_feature(enable = "avx2,fma")]
    crate::simd::int8::Madd256
);
#[cfg(target_arch = "aarch64")]
kernels!(
    rows_dot128 rows_dot128_to_f32,
    #[target_feature(enable = "neon,dotprod")]
    crate::simd::int8::Dot128
);
#[cfg(target_arch = "aarch64")]
kernels!(
    rows_wide128 rows_wide128_to_f32,
    #[target_feature(enable = "neon")]
    crate::simd::int8::Wide128
);
kernels!(rows_portable rows_portable_to_f32, Quads);
