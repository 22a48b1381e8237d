//! Winograd's F(4x4, 3x3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015): a tile of
//! 4 x 4 outputs takes 36 multiplications a channel instead of 144. And F(2x2, 3x3), 16 instead of 36, whose points
//! bear to be rounded to bf16. Here are the transforms of images, outputs and weights; the products between them
//! are those of [`gemm`](crate::gemm).

use half::bf16;
use rayon::prelude::*;

use crate::simd::{Portable, Vector, Write};

/// Points of the larger tile: the pixels that its outputs are made from.
pub(crate) const MOST_POINTS: usize = 36;

/// One tile of the image, to its points, of elements `T`.
#[derive(Clone, Copy)]
pub(crate) struct ImageArgs<T> {
    /// As many pixels as there are points, row by row, each of `channels` values.
    pub pixels: [*const f32; MOST_POINTS],
    /// A multiple of [`CHANNEL_BLOCK`](crate::simd::CHANNEL_BLOCK).
    pub channels: usize,
    /// The first point's values; the next point's are `stride` behind.
    pub out: *mut T,
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

/// The transforms of one instruction set; the image's points are elements `T`.
#[derive(Clone, Copy)]
pub(crate) struct Transforms<T> {
    /// Columns and rows of the outputs that a tile has: 4 or 2.
    pub tile: usize,
    /// # Safety
    /// The pointers must be valid for what [`ImageArgs`] says, `out` for writing and for this thread alone, and the
    /// instruction set must be there.
    pub image: unsafe fn(&ImageArgs<T>),
    /// # Safety
    /// As above, for [`OutputArgs`].
    pub output: unsafe fn(&OutputArgs),
}

/// The larger tile's polynomials are taken at 0, at these on both sides of it, and at infinity. All their products that the
/// transforms have are exact. At 1 and 2, as in the paper, rounding errors are twice as large, and the largest four times
/// (`tests/keras/winograd.py`); why even distances help: Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd
/// Convolution for Deep Neural Networks", 2018.
const NEAR: f64 = 5.0 / 8.0;
const FAR: f64 = 3.0 / 2.0;

/// Pixels, and points, that a tile of these columns and rows has.
pub(crate) fn points(tile: usize) -> usize {
    (tile + 2).pow(2)
}

/// Six values of a line, to the line's six points.
#[inline(always)]
unsafe fn image_line<V: Vector>(d: [V; 6]) -> [V; 6] {
    // SAFETY: the caller's instruction set.
    unsafe {
        let times = |value: f64, a: V, b: V| V::splat(value as f32).mul_add(a, b);
        let (even_near, odd_near) = (times(-FAR * FAR, d[2], d[4]), times(-FAR * FAR, d[1], d[3]));
        let (even_far, odd_far) =
            (times(-NEAR * NEAR, d[2], d[4]), times(-NEAR * NEAR, d[1], d[3]));
        let (product, sum) = (NEAR * NEAR * FAR * FAR, NEAR * NEAR + FAR * FAR);
        [
            times(product, d[0], times(-sum, d[2], d[4])),
            times(NEAR, odd_near, even_near),
            times(-NEAR, odd_near, even_near),
            times(FAR, odd_far, even_far),
            times(-FAR, odd_far, even_far),
            times(product, d[1], times(-sum, d[3], d[5])),
        ]
    }
}

/// Six points of a line, to its four outputs.
#[inline(always)]
unsafe fn output_line<V: Vector>(m: [V; 6]) -> [V; 4] {
    // SAFETY: the caller's instruction set.
    unsafe {
        let times = |value: f64, a: V, b: V| V::splat(value as f32).mul_add(a, b);
        let (sum_near, odd_near) = (m[1].add(m[2]), times(-1.0, m[2], m[1]));
        let (sum_far, odd_far) = (m[3].add(m[4]), times(-1.0, m[4], m[3]));
        let zero = V::splat(0.0);
        let both = |power: i32, near: V, far: V, behind: V| {
            times(FAR.powi(power), far, times(NEAR.powi(power), near, behind))
        };
        [
            m[0].add(sum_near).add(sum_far),
            both(1, odd_near, odd_far, zero),
            both(2, sum_near, sum_far, zero),
            both(3, odd_near, odd_far, m[5]),
        ]
    }
}

/// As [`image_line`], of the tile of 2 x 2.
#[inline(always)]
unsafe fn image_line_2<V: Vector>(d: [V; 4]) -> [V; 4] {
    // SAFETY: the caller's instruction set.
    unsafe {
        let minus = |a: V, b: V| V::splat(-1.0).mul_add(b, a);
        [minus(d[0], d[2]), d[1].add(d[2]), minus(d[2], d[1]), minus(d[1], d[3])]
    }
}

/// As [`output_line`], of the tile of 2 x 2.
#[inline(always)]
unsafe fn output_line_2<V: Vector>(m: [V; 4]) -> [V; 2] {
    // SAFETY: the caller's instruction set.
    unsafe {
        let minus = |a: V, b: V| V::splat(-1.0).mul_add(b, a);
        [m[0].add(m[1]).add(m[2]), minus(minus(m[1], m[2]), m[3])]
    }
}

#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "columns of lines")]
unsafe fn image<V: Write<T>, T, const LINE: usize>(
    args: &ImageArgs<T>,
    transform: impl Fn([V; LINE]) -> [V; LINE],
) {
    for channel in (0..args.channels).step_by(V::LANES) {
        // SAFETY: the caller's, see `Transforms`.
        unsafe {
            let mut lines = [[V::splat(0.0); LINE]; LINE];
            for (y, line) in lines.iter_mut().enumerate() {
                let pixel = |x: usize| V::load(args.pixels[y * LINE + x].add(channel));
                *line = transform(std::array::from_fn(pixel));
            }
            for x in 0..LINE {
                let column = transform(std::array::from_fn(|y| lines[y][x]));
                for (y, value) in column.into_iter().enumerate() {
                    value.write(args.out.add((y * LINE + x) * args.stride + channel));
                }
            }
        }
    }
}

#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "columns of lines")]
unsafe fn output<V: Vector, const LINE: usize, const TILE: usize>(
    args: &OutputArgs,
    transform: impl Fn([V; LINE]) -> [V; TILE],
) {
    for channel in (0..args.channels).step_by(V::LANES) {
        // SAFETY: the caller's, see `Transforms`.
        unsafe {
            let mut lines = [[V::splat(0.0); TILE]; LINE];
            for (y, line) in lines.iter_mut().enumerate() {
                let point =
                    |x: usize| V::load(args.points.add((y * LINE + x) * args.stride + channel));
                *line = transform(std::array::from_fn(point));
            }
            let bias = V::load(args.bias.add(channel));
            let (low, high) = (V::splat(args.low), V::splat(args.high));
            for x in 0..TILE {
                let column = transform(std::array::from_fn(|y| lines[y][x]));
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

/// The transforms of a tile, compiled for one instruction set.
macro_rules! transforms {
    (@ $name:ident, $vector:ty, $tile:literal, $points:ty, $image:ident, $output:ident, $($feature:meta)?) => {
        pub(crate) fn $name() -> Transforms<$points> {
            $(#[$feature])?
            unsafe fn image_for(args: &ImageArgs<$points>) {
                // SAFETY: the caller's, see `Transforms`.
                unsafe { image::<$vector, $points, { $tile + 2 }>(args, |line| $image(line)) }
            }
            $(#[$feature])?
            unsafe fn output_for(args: &OutputArgs) {
                // SAFETY: the caller's, see `Transforms`.
                unsafe { output::<$vector, { $tile + 2 }, $tile>(args, |line| $output(line)) }
            }
            Transforms { tile: $tile, image: image_for, output: output_for }
        }
    };
    ($name:ident, $vector:ty, 4, $($feature:meta)?) => {
        transforms!(@ $name, $vector, 4, f32, image_line, output_line, $($feature)?);
    };
    ($name:ident, $vector:ty, 2, $($feature:meta)?) => {
        transforms!(@ $name, $vector, 2, bf16, image_line_2, output_line_2, $($feature)?);
    };
}

#[cfg(target_arch = "x86_64")]
transforms!(avx512, crate::simd::Avx512, 4, target_feature(enable = "avx512f"));
#[cfg(target_arch = "x86_64")]
transforms!(avx512_bf16, crate::simd::Avx512, 2, target_feature(enable = "avx512f,avx512bf16"));
#[cfg(target_arch = "x86_64")]
transforms!(avx2, crate::simd::Avx2, 4, target_feature(enable = "avx2,fma"));
#[cfg(target_arch = "aarch64")]
transforms!(neon, crate::simd::Neon, 4, target_feature(enable = "neon"));
transforms!(portable, Portable, 4,);
transforms!(portable_bf16, Portable, 2,);

/// The weights' points: from `[3 x 3][pairs]` to `[points][pairs]`, where a pair is an input and an output channel;
/// `tile` is 4 or 2.
pub(crate) fn weights(weights: &[f32], tile: usize) -> Vec<f32> {
    const OF_2: [[f64; 3]; 4] =
        [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];
    let at = |point: f64, other: f64| {
        let scale = 2.0 * point * point * (point * point - other * other);
        [1.0, point, point * point].map(|power| power / scale)
    };
    let of_4 = [
        [1.0 / (NEAR * NEAR * FAR * FAR), 0.0, 0.0],
        at(NEAR, FAR),
        at(-NEAR, FAR),
        at(FAR, NEAR),
        at(-FAR, NEAR),
        [0.0, 0.0, 1.0],
    ];
    let lines: &[[f64; 3]] = if tile == 4 { &of_4 } else { &OF_2 };
    let pairs = weights.len() / 9;
    let mut points = vec![0.0; lines.len().pow(2) * pairs];
    let rows = points.par_chunks_mut((lines.len() * pairs).max(1)).zip(lines);
    rows.for_each(|(row, down)| {
        // Pairs that stay in the first-level cache.
        for start in (0..pairs).step_by(256) {
            let some = start..(start + 256).min(pairs);
            let column = |kx: usize| {
                let tap = |ky: usize| &weights[(ky * 3 + kx) * pairs..][some.clone()];
                let sums = tap(0).iter().zip(tap(1)).zip(tap(2));
                let sum = |((&a, &b), &c)| {
                    down[0] * f64::from(a) + down[1] * f64::from(b) + down[2] * f64::from(c)
                };
                sums.map(sum).collect::<Vec<f64>>()
            };
            let columns = [0, 1, 2].map(column);
            for (x, across) in lines.iter().enumerate() {
                let to = row[x * pairs..][some.clone()].iter_mut().enumerate();
                to.for_each(|(pair, to)| {
                    let terms = columns.iter().zip(across).map(|(column, a)| a * column[pair]);
                    *to = terms.sum::<f64>() as f32;
                });
            }
        }
    });
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
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for isa in Isa::available() {
            let kernels = isa.kernels();
            check(&mut rng, isa, kernels.winograd, f32::NAN, 2e-5);
            if let Some(kernels) = kernels.bf16 {
                // Nine points, each rounded to 8 bits, of up to 4 pixels, by weights below 1.
                check(&mut rng, isa, kernels.winograd, bf16::NAN, 4e-2);
            }
        }
    }

    /// Outputs of a tile are less than `most` from those of the naive convolution.
    fn check<T: Copy + Into<f32>>(
        rng: &mut ChaCha8Rng,
        isa: Isa,
        transforms: Transforms<T>,
        nan: T,
        most: f64,
    ) {
        const CHANNELS: usize = 32;
        let (tile, side) = (transforms.tile, transforms.tile + 2);
        let name = format!("{isa}, {tile} x {tile}");
        for (rows, columns) in [(tile, tile), (1, tile), (tile - 1, 2)] {
            let mut random = |count: usize| -> Vec<f32> {
                (0..count).map(|_| rng.random::<f32>() * 2.0 - 1.0).collect()
            };
            // One weight for each channel: a depthwise convolution needs no product between the transforms.
            let count = points(tile);
            let (pixels, kernel) = (random(count * CHANNELS), random(9 * CHANNELS));
            let bias = random(CHANNELS);
            let mut points = vec![nan; count * (CHANNELS + 3)];
            let args = ImageArgs {
                pixels: std::array::from_fn(|i| pixels[i % count * CHANNELS..].as_ptr()),
                channels: CHANNELS,
                out: points.as_mut_ptr(),
                stride: CHANNELS + 3,
            };
            // SAFETY: every pixel has its channels, every point its place, and the set is available.
            unsafe { (transforms.image)(&args) };
            let weights = super::weights(&kernel, tile);
            let mut products = vec![f32::NAN; count * (CHANNELS + 3)];
            for (point, (from, to)) in
                points.chunks(CHANNELS + 3).zip(products.chunks_mut(CHANNELS + 3)).enumerate()
            {
                let is_nan = |value: &T| (*value).into().is_nan();
                assert!(from[CHANNELS..].iter().all(is_nan), "{name}");
                for channel in 0..CHANNELS {
                    to[channel] = from[channel].into() * weights[point * CHANNELS + channel];
                }
            }
            let mut out = vec![f32::NAN; tile * tile * CHANNELS];
            let args = OutputArgs {
                points: products.as_ptr(),
                stride: CHANNELS + 3,
                bias: bias.as_ptr(),
                out: out.as_mut_ptr(),
                pixel: CHANNELS,
                row: tile * CHANNELS,
                rows,
                columns,
                channels: CHANNELS,
                low: -2.0,
                high: 2.0,
            };
            // SAFETY: as above, and as many outputs as the tile has.
            unsafe { (transforms.output)(&args) };
            for (index, &found) in out.iter().enumerate() {
                let (y, x, channel) =
                    (index / CHANNELS / tile, index / CHANNELS % tile, index % CHANNELS);
                if y >= rows || x >= columns {
                    assert!(found.is_nan(), "{name} wrote outside of the image");
                    continue;
                }
                let mut sum = f64::from(bias[channel]);
                for tap in 0..9 {
                    let pixel = (y + tap / 3) * side + x + tap % 3;
                    let weight = f64::from(kernel[tap * CHANNELS + channel]);
                    sum += f64::from(pixels[pixel * CHANNELS + channel]) * weight;
                }
                let expected = sum.clamp(-2.0, 2.0);
                let difference = (f64::from(found) - expected).abs();
                assert!(difference < most, "{name}: {found} {expected}");
            }
        }
    }
}
