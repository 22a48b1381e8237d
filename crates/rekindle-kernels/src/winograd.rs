//! Winograd's F(4x4, 3x3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015): a tile of
//! 4 x 4 outputs takes 36 multiplications a channel instead of 144. Here are the transforms of images, outputs and
//! weights; the products between them are those of [`gemm`](crate::gemm).

use crate::simd::{Portable, Vector};

/// Columns and rows of the outputs that a tile has.
pub(crate) const TILE: usize = 4;

/// Points at which a tile is multiplied: `(TILE + 2)` squared.
pub(crate) const POINTS: usize = 36;

/// One tile of the image, to its points.
#[derive(Clone, Copy)]
pub(crate) struct ImageArgs {
    /// The 6 x 6 pixels, row by row, each of `channels` values.
    pub pixels: [*const f32; POINTS],
    /// A multiple of [`CHANNEL_BLOCK`](crate::simd::CHANNEL_BLOCK).
    pub channels: usize,
    /// The first point's values; the next point's are `stride` behind.
    pub out: *mut f32,
    pub stride: usize,
}

/// The points of one tile, to outputs: `clamp(bias + ...)`.
#[derive(Clone, Copy)]
pub(crate) struct OutputArgs {
    /// The first point's values; the next point's are `stride` behind.
    pub points: *const f32,
    pub stride: usize,
    /// `[channels]`.
    pub bias: *const f32,
    /// The first output; the next is `pixel` behind, the next row's `row`.
    pub out: *mut f32,
    pub pixel: usize,
    pub row: usize,
    /// Outputs that the image has of this tile.
    pub rows: usize,
    pub columns: usize,
    /// A multiple of [`CHANNEL_BLOCK`](crate::simd::CHANNEL_BLOCK).
    pub channels: usize,
    pub low: f32,
    pub high: f32,
}

/// The transforms of one instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Transforms {
    /// # Safety
    /// The pointers must be valid for what [`ImageArgs`] says, `out` for writing and for this thread alone, and the
    /// instruction set must be there.
    pub image: unsafe fn(&ImageArgs),
    /// # Safety
    /// As above, for [`OutputArgs`].
    pub output: unsafe fn(&OutputArgs),
}

/// Six values of a line, to the line's six points.
#[inline(always)]
unsafe fn image_line<V: Vector>(d: [V; 6]) -> [V; 6] {
    // SAFETY: the caller's instruction set.
    unsafe {
        let times = |value: f32, a: V, b: V| V::splat(value).mul_add(a, b);
        let (a, b) = (times(-4.0, d[2], d[4]), times(-4.0, d[1], d[3]));
        let (c, e) = (times(-1.0, d[2], d[4]), times(-1.0, d[1], d[3]));
        [
            times(4.0, d[0], times(-5.0, d[2], d[4])),
            a.add(b),
            times(-1.0, b, a),
            times(2.0, e, c),
            times(-2.0, e, c),
            times(4.0, d[1], times(-5.0, d[3], d[5])),
        ]
    }
}

/// Six points of a line, to its four outputs.
#[inline(always)]
unsafe fn output_line<V: Vector>(m: [V; 6]) -> [V; TILE] {
    // SAFETY: the caller's instruction set.
    unsafe {
        let times = |value: f32, a: V, b: V| V::splat(value).mul_add(a, b);
        let (sum_1, difference_1) = (m[1].add(m[2]), times(-1.0, m[2], m[1]));
        let (sum_2, difference_2) = (m[3].add(m[4]), times(-1.0, m[4], m[3]));
        [
            m[0].add(sum_1).add(sum_2),
            times(2.0, difference_2, difference_1),
            times(4.0, sum_2, sum_1),
            times(8.0, difference_2, difference_1).add(m[5]),
        ]
    }
}

#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "columns of lines")]
unsafe fn image<V: Vector>(args: &ImageArgs) {
    for channel in (0..args.channels).step_by(V::LANES) {
        // SAFETY: the caller's, see `Transforms`.
        unsafe {
            let mut lines = [[V::splat(0.0); 6]; 6];
            for (y, line) in lines.iter_mut().enumerate() {
                let pixel = |x: usize| V::load(args.pixels[y * 6 + x].add(channel));
                *line = image_line(std::array::from_fn(pixel));
            }
            for x in 0..6 {
                let column = image_line(std::array::from_fn(|y| lines[y][x]));
                for (y, value) in column.into_iter().enumerate() {
                    value.store(args.out.add((y * 6 + x) * args.stride + channel));
                }
            }
        }
    }
}

#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "columns of lines")]
unsafe fn output<V: Vector>(args: &OutputArgs) {
    for channel in (0..args.channels).step_by(V::LANES) {
        // SAFETY: the caller's, see `Transforms`.
        unsafe {
            let mut lines = [[V::splat(0.0); TILE]; 6];
            for (y, line) in lines.iter_mut().enumerate() {
                let point =
                    |x: usize| V::load(args.points.add((y * 6 + x) * args.stride + channel));
                *line = output_line(std::array::from_fn(point));
            }
            let bias = V::load(args.bias.add(channel));
            let (low, high) = (V::splat(args.low), V::splat(args.high));
            for x in 0..TILE {
                let column = output_line(std::array::from_fn(|y| lines[y][x]));
                for (y, value) in column.into_iter().enumerate() {
                    if x < args.columns && y < args.rows {
                        let value = value.add(bias).at_least(low).at_most(high);
                        value.store(args.out.add(y * args.row + x * args.pixel + channel));
                    }
                }
            }
        }
    }
}

/// The transforms, compiled for one instruction set.
macro_rules! transforms {
    ($name:ident, $vector:ty, $($feature:meta)?) => {
        pub(crate) fn $name() -> Transforms {
            $(#[$feature])?
            unsafe fn image_for(args: &ImageArgs) {
                // SAFETY: the caller's, see `Transforms`.
                unsafe { image::<$vector>(args) }
            }
            $(#[$feature])?
            unsafe fn output_for(args: &OutputArgs) {
                // SAFETY: the caller's, see `Transforms`.
                unsafe { output::<$vector>(args) }
            }
            Transforms { image: image_for, output: output_for }
        }
    };
}

#[cfg(target_arch = "x86_64")]
transforms!(avx512, crate::simd::Avx512, target_feature(enable = "avx512f"));
#[cfg(target_arch = "x86_64")]
transforms!(avx2, crate::simd::Avx2, target_feature(enable = "avx2,fma"));
#[cfg(target_arch = "aarch64")]
transforms!(neon, crate::simd::Neon, target_feature(enable = "neon"));
transforms!(portable, Portable,);

/// The weights' points: from `[3 x 3][pairs]` to `[36][pairs]`, where a pair is an input and an output channel.
pub(crate) fn weights(weights: &[f32]) -> Vec<f32> {
    const G: [[f64; 3]; 6] = [
        [1.0 / 4.0, 0.0, 0.0],
        [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
        [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
        [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
        [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
        [0.0, 0.0, 1.0],
    ];
    let pairs = weights.len() / 9;
    let mut points = vec![0.0; POINTS * pairs];
    for (y, down) in G.iter().enumerate() {
        for (x, across) in G.iter().enumerate() {
            let point = &mut points[(y * 6 + x) * pairs..][..pairs];
            for (pair, value) in point.iter_mut().enumerate() {
                let mut sum = 0.0;
                for (ky, down) in down.iter().enumerate() {
                    for (kx, across) in across.iter().enumerate() {
                        sum += down * across * f64::from(weights[(ky * 3 + kx) * pairs + pair]);
                    }
                }
                *value = sum as f32;
            }
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::Isa;

    #[test]
    fn a_tile_is_the_naive_convolution() {
        const CHANNELS: usize = 32;
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for isa in Isa::available() {
            for (rows, columns) in [(4, 4), (1, 4), (3, 2)] {
                let mut random = |count: usize| -> Vec<f32> {
                    (0..count).map(|_| rng.random::<f32>() * 2.0 - 1.0).collect()
                };
                // One weight for each channel: a depthwise convolution needs no product between the transforms.
                let (pixels, kernel) = (random(36 * CHANNELS), random(9 * CHANNELS));
                let bias = random(CHANNELS);
                let mut points = vec![f32::NAN; POINTS * (CHANNELS + 3)];
                let transforms = isa.kernels().winograd;
                let args = ImageArgs {
                    pixels: std::array::from_fn(|i| pixels[i * CHANNELS..].as_ptr()),
                    channels: CHANNELS,
                    out: points.as_mut_ptr(),
                    stride: CHANNELS + 3,
                };
                // SAFETY: every pixel has its channels, every point its place, and the set is available.
                unsafe { (transforms.image)(&args) };
                let weights = weights(&kernel);
                for (point, weights) in
                    points.chunks_exact_mut(CHANNELS + 3).zip(weights.chunks(CHANNELS))
                {
                    assert!(point[CHANNELS..].iter().all(|value| value.is_nan()), "{isa}");
                    point.iter_mut().zip(weights).for_each(|(value, weight)| *value *= weight);
                }
                let mut out = vec![f32::NAN; 16 * CHANNELS];
                let args = OutputArgs {
                    points: points.as_ptr(),
                    stride: CHANNELS + 3,
                    bias: bias.as_ptr(),
                    out: out.as_mut_ptr(),
                    pixel: CHANNELS,
                    row: 4 * CHANNELS,
                    rows,
                    columns,
                    channels: CHANNELS,
                    low: -2.0,
                    high: 2.0,
                };
                // SAFETY: as above, and 4 x 4 outputs.
                unsafe { (transforms.output)(&args) };
                for (index, &found) in out.iter().enumerate() {
                    let (y, x, channel) =
                        (index / CHANNELS / 4, index / CHANNELS % 4, index % CHANNELS);
                    if y >= rows || x >= columns {
                        assert!(found.is_nan(), "{isa} wrote outside of the image");
                        continue;
                    }
                    let mut sum = f64::from(bias[channel]);
                    for tap in 0..9 {
                        let pixel = (y + tap / 3) * 6 + x + tap % 3;
                        let weight = f64::from(kernel[tap * CHANNELS + channel]);
                        sum += f64::from(pixels[pixel * CHANNELS + channel]) * weight;
                    }
                    let expected = sum.clamp(-2.0, 2.0);
                    let difference = (f64::from(found) - expected).abs();
                    assert!(difference < 2e-5, "{isa}: {found} {expected}");
                }
            }
        }
    }
}
