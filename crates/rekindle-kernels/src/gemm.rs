//! Matrix products for convolutions, without a matrix of patches (XNNPACK's igemm): the rows of the left
//! matrix are pointers to pixels, one for each output pixel and tap of the kernel.

use half::bf16;

use crate::factor::{Factor, Float};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Halves, Vector};
use crate::simd::{Multiply, Portable, Write};

/// What one tile computes: `out[m][n] = clamp(bias[n] + residual[m][n] + sum over taps and channels)`, of factors `I` to
/// elements `O`. How sums of bytes end is in `int8`.
#[derive(Clone, Copy)]
pub(crate) struct TileArgs<I: Factor, O> {
    /// `[taps][rows]` pointers, each to `channels` values.
    pub pixels: *const *const I,
    pub taps: usize,
    /// Of bf16 whole pairs, of bytes whole quads.
    pub channels: usize,
    /// `[taps * channels][columns]`, packed; of bf16 `[taps * pairs of channels][columns][2]`, of bytes quads.
    pub weights: *const I::Weight,
    /// `[columns]`.
    pub bias: *const I::Sum,
    /// Rows of `columns` values, `stride` apart.
    pub out: *mut O,
    pub stride: usize,
    /// Rows of `columns` values, `residual_stride` apart, or null.
    pub residual: *const I::Residual,
    pub residual_stride: usize,
    /// How a sum becomes a number.
    pub scaling: I::Scaling,
    pub low: f32,
    pub high: f32,
    pub rows: usize,
    /// Only AVX-512 has tiles of more than one width.
    pub columns: usize,
}

impl<T: Float> TileArgs<T, f32> {
    /// A product of rows of values, with nothing added to it and no limits; what it is of, and its sizes, are left out.
    pub const PLAIN: Self = Self {
        pixels: std::ptr::null(),
        taps: 1,
        channels: 0,
        weights: std::ptr::null(),
        bias: std::ptr::null(),
        out: std::ptr::null_mut(),
        stride: 0,
        residual: std::ptr::null(),
        residual_stride: 0,
        scaling: (),
        low: f32::NEG_INFINITY,
        high: f32::INFINITY,
        rows: 0,
        columns: 0,
    };
}

/// Computes a tile.
///
/// # Safety
/// The pointers must be valid for what [`TileArgs`] says, `out` for writing and for this thread alone;
/// `rows` from 1 to the kernels' rows, `columns` the kernels' columns or what is left of them in the last panel of
/// [`Kernels::padded`](crate::isa::Kernels::padded), and the instruction set must be there.
pub(crate) type Tile<I, O> = unsafe fn(&TileArgs<I, O>);

/// `MR` rows by `NV` registers.
#[inline(always)]
unsafe fn tile<V: Multiply<I> + Write<O>, I: Float, O, const MR: usize, const NV: usize>(
    args: &TileArgs<I, O>,
) {
    // SAFETY: the caller vouches for the pointers, counts and instruction set (see `Tile`).
    unsafe {
        let bias: [V; NV] = std::array::from_fn(|n| V::load(args.bias.add(n * V::LANES)));
        let mut sums = [bias; MR];
        let mut weights = args.weights;
        for tap in 0..args.taps {
            let pixels: [*const I; MR] = std::array::from_fn(|m| *args.pixels.add(tap * MR + m));
            for step in 0..args.channels / V::DEPTH {
                let columns: [V::Factors; NV] =
                    std::array::from_fn(|n| V::load_factors(weights.add(n * V::LANES * V::DEPTH)));
                for m in 0..MR {
                    let pixel = V::splat_factors(pixels[m].add(step * V::DEPTH));
                    for n in 0..NV {
                        sums[m][n] = V::add_products(pixel, columns[n], sums[m][n]);
                    }
                }
                weights = weights.add(NV * V::LANES * V::DEPTH);
            }
        }
        for (m, row) in sums.into_iter().enumerate() {
            for (n, sum) in row.into_iter().enumerate() {
                finish(args, m, n * V::LANES, sum);
            }
        }
    }
}

/// Adds the residual, clamps and writes one register of sums.
#[inline(always)]
unsafe fn finish<V: Write<O>, I: Float, O>(
    args: &TileArgs<I, O>,
    row: usize,
    column: usize,
    sum: V,
) {
    // SAFETY: the caller vouches for the pointers, counts and instruction set (see `Tile`).
    unsafe {
        let sum = match args.residual.is_null() {
            true => sum,
            false => sum.add(V::load(args.residual.add(row * args.residual_stride + column))),
        };
        let sum = sum.at_least(V::splat(args.low)).at_most(V::splat(args.high));
        sum.write(args.out.add(row * args.stride + column));
    }
}

/// `MR` rows by `NV` registers and half of one: for 24 columns three quarters of the work of two registers.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn tile_half<V: Halves, const MR: usize, const NV: usize>(args: &TileArgs<f32, f32>) {
    // SAFETY: the caller vouches for the pointers, counts and instruction set (see `Tile`).
    unsafe {
        let last = NV * V::LANES;
        let bias: [V; NV] = std::array::from_fn(|n| V::load(args.bias.add(n * V::LANES)));
        let (mut sums, mut halves) = ([bias; MR], [V::Half::load(args.bias.add(last)); MR]);
        let mut weights = args.weights;
        for tap in 0..args.taps {
            let pixels: [*const f32; MR] = std::array::from_fn(|m| *args.pixels.add(tap * MR + m));
            for channel in 0..args.channels {
                let columns: [V; NV] = std::array::from_fn(|n| V::load(weights.add(n * V::LANES)));
                let half = V::Half::load(weights.add(last));
                for m in 0..MR {
                    let pixel = V::splat(*pixels[m].add(channel));
                    for n in 0..NV {
                        sums[m][n] = pixel.mul_add(columns[n], sums[m][n]);
                    }
                    halves[m] = pixel.half().mul_add(half, halves[m]);
                }
                weights = weights.add(last + V::Half::LANES);
            }
        }
        for (m, (row, half)) in sums.into_iter().zip(halves).enumerate() {
            for (n, sum) in row.into_iter().enumerate() {
                finish(args, m, n * V::LANES, sum);
            }
            finish(args, m, last, half);
        }
    }
}

/// Picks the tile of the right height: `$tile` for each `ROWS`.
macro_rules! by_rows {
    ($args:ident, $tile:expr, $($rows:literal)*) => {
        match $args.rows {
            $($rows => {
                const ROWS: usize = $rows;
                $tile
            })*
            rows => unreachable!("no tile has {rows} rows"),
        }
    };
}
pub(crate) use by_rows;

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn tile_avx512(args: &TileArgs<f32, f32>) {
    use crate::simd::Avx512;
    // SAFETY: the caller's, see `Tile`.
    unsafe {
        match args.columns {
            32 => by_rows!(args, tile::<Avx512, _, _, ROWS, 2>(args), 1 2 3 4 5 6 7 8 9 10 11 12),
            24 => by_rows!(args, tile_half::<Avx512, ROWS, 1>(args), 1 2 3 4 5 6 7 8 9 10 11 12),
            16 => by_rows!(args, tile::<Avx512, _, _, ROWS, 1>(args), 1 2 3 4 5 6 7 8 9 10 11 12),
            _ => by_rows!(args, tile_half::<Avx512, ROWS, 0>(args), 1 2 3 4 5 6 7 8 9 10 11 12),
        }
    }
}

/// The tiles of AVX-512 BF16.
#[cfg(target_arch = "x86_64")]
macro_rules! tile_avx512_bf16 {
    ($name:ident, $output:ty, $doc:literal) => {
        #[doc = $doc]
        #[target_feature(enable = "avx512f,avx512bf16")]
        pub(crate) unsafe fn $name(args: &TileArgs<bf16, $output>) {
            use crate::simd::Avx512;
            // SAFETY: the caller's, see `Tile`.
            unsafe {
                if args.columns == 32 {
                    by_rows!(args, tile::<Avx512, _, _, ROWS, 2>(args), 1 2 3 4 5 6 7 8 9 10 11 12)
                } else {
                    by_rows!(args, tile::<Avx512, _, _, ROWS, 1>(args), 1 2 3 4 5 6 7 8 9 10 11 12)
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
tile_avx512_bf16!(tile_avx512_bf16, f32, "As [`tile_avx512`], of bf16.");
#[cfg(target_arch = "x86_64")]
tile_avx512_bf16!(tile_avx512_bf16_to_bf16, bf16, "As [`tile_avx512_bf16`], to bf16.");

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn tile_avx2(args: &TileArgs<f32, f32>) {
    use crate::simd::Avx2;
    // SAFETY: the caller's, see `Tile`.
    unsafe { by_rows!(args, tile::<Avx2, _, _, ROWS, 2>(args), 1 2 3 4 5 6) }
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
pub(crate) unsafe fn tile_neon(args: &TileArgs<f32, f32>) {
    use crate::simd::Neon;
    // SAFETY: the caller's, see `Tile`.
    unsafe { by_rows!(args, tile::<Neon, _, _, ROWS, 2>(args), 1 2 3 4 5 6 7 8) }
}

pub(crate) unsafe fn tile_portable(args: &TileArgs<f32, f32>) {
    // SAFETY: the caller's, see `Tile`.
    unsafe { by_rows!(args, tile::<Portable, _, _, ROWS, 2>(args), 1 2 3 4) }
}

/// As [`tile_portable`], of bf16.
pub(crate) unsafe fn tile_portable_bf16(args: &TileArgs<bf16, f32>) {
    // SAFETY: the caller's, see `Tile`.
    unsafe { by_rows!(args, tile::<Portable, _, _, ROWS, 2>(args), 1 2 3 4) }
}

/// As [`tile_portable_bf16`], to bf16.
pub(crate) unsafe fn tile_portable_bf16_to_bf16(args: &TileArgs<bf16, bf16>) {
    // SAFETY: the caller's, see `Tile`.
    unsafe { by_rows!(args, tile::<Portable, _, _, ROWS, 2>(args), 1 2 3 4) }
}

/// Weights as tiles read them: panels of `columns` outputs (the last has what is left of `padded`), in each the
/// values (or pairs) of all outputs for one tap and channel (or pair) after the other. Outputs are padded with zeros.
pub(crate) fn pack<T: Copy + Default>(
    weights: &[T],
    depth: usize,
    outputs: usize,
    padded: usize,
    columns: usize,
) -> Vec<T> {
    let mut packed = Vec::new();
    pack_into(&mut packed, weights, depth, outputs, padded, columns);
    packed
}

/// The same into memory that may be there already.
pub(crate) fn pack_into<T: Copy + Default>(
    packed: &mut Vec<T>,
    weights: &[T],
    depth: usize,
    outputs: usize,
    padded: usize,
    columns: usize,
) {
    packed.resize(depth * padded, T::default());
    // Row by row, as they lie in memory, which a large kernel comes from.
    for row in 0..depth {
        let own = &weights[row * outputs..][..outputs];
        for start in (0..padded).step_by(columns) {
            let width = columns.min(padded - start);
            let own = &own[start.min(outputs)..outputs.min(start + width)];
            let (to, behind) =
                packed[start * depth + row * width..][..width].split_at_mut(own.len());
            to.copy_from_slice(own);
            behind.fill(T::default());
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::Isa;

    fn randoms(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
        (0..count).map(|_| rng.random::<f32>() * 2.0 - 1.0).collect()
    }

    /// One tile's shape and ends.
    #[derive(Clone, Copy)]
    struct Case {
        isa: Isa,
        rows: usize,
        columns: usize,
        has_residual: bool,
        has_limits: bool,
    }

    /// Compares what a tile of chance writes, rounded to `unit`, with the naive product. `of` makes factors, so many of
    /// which lie side by side; what no tile may write to begins as `nan`.
    fn check<I: Float + Into<f32>, O: Copy + Into<f32>>(
        rng: &mut ChaCha8Rng,
        case: Case,
        tile: Tile<I, O>,
        of: (impl Fn(f32) -> I, usize),
        (nan, unit): (O, f64),
    ) -> Vec<O> {
        let Case { isa, rows, columns, .. } = case;
        let (of, depth) = of;
        let (taps, channels) = (rng.random_range(1..5), depth * rng.random_range(1..40));
        let stride = columns + rng.random_range(0..9);
        let mut factors =
            |count: usize| randoms(rng, count).into_iter().map(&of).collect::<Vec<I>>();
        let pixels = factors(taps * rows * channels);
        let weights = factors(taps * channels * columns);
        let (bias, residual) = (randoms(rng, columns), randoms(rng, rows * stride));
        let pointers: Vec<*const I> =
            (0..taps * rows).map(|index| pixels[index * channels..].as_ptr()).collect();
        let mut out = vec![nan; rows * stride];
        let (low, high) =
            if case.has_limits { (0.0, 6.0) } else { (f32::NEG_INFINITY, f32::INFINITY) };
        let args = TileArgs {
            pixels: pointers.as_ptr(),
            taps,
            channels,
            weights: weights.as_ptr(),
            bias: bias.as_ptr(),
            out: out.as_mut_ptr(),
            stride,
            residual: if case.has_residual { residual.as_ptr() } else { std::ptr::null() },
            residual_stride: stride,
            scaling: (),
            low,
            high,
            rows,
            columns,
        };
        // SAFETY: every buffer has the size that its field says, and the set is available.
        unsafe { tile(&args) };
        for (index, found) in out.iter().map(|&found| found.into()).enumerate() {
            let (m, n) = (index / stride, index % stride);
            if n >= columns {
                assert!(found.is_nan(), "{isa} wrote behind its columns");
                continue;
            }
            let mut sum = f64::from(bias[n]);
            if case.has_residual {
                sum += f64::from(residual[index]);
            }
            for tap in 0..taps {
                for channel in 0..channels {
                    let pixel: f32 = pixels[(tap * rows + m) * channels + channel].into();
                    let row = tap * channels / depth + channel / depth;
                    let weight = weights[(row * columns + n) * depth + channel % depth].into();
                    sum += f64::from(pixel) * f64::from(weight);
                }
            }
            let expected = sum.clamp(f64::from(low), f64::from(high));
            let off = (f64::from(found) - expected).abs();
            assert!(
                off < 2e-5 + unit * expected.abs(),
                "{isa} {rows}x{columns}: {found} {expected}"
            );
        }
        out
    }

    #[test]
    fn every_tile_is_the_naive_product() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for isa in Isa::available() {
            let kernels = isa.kernels();
            // Every tile with and without a residual and limits.
            for (rows, ends) in
                (1..=kernels.rows).flat_map(|rows| (0..4).map(move |ends| (rows, ends)))
            {
                let case = |&columns: &usize| Case {
                    isa,
                    rows,
                    columns,
                    has_residual: ends % 2 == 0,
                    has_limits: ends / 2 == 0,
                };
                let own = [kernels.columns];
                let (widths, of_bf16): (&[usize], &[usize]) = match isa {
                    Isa::Avx512 => (&[32, 24, 16, 8], &[32, 16]),
                    _ => (&own, &own),
                };
                for case in widths.iter().map(case) {
                    check(&mut rng, case, kernels.tile, (|value| value, 1), (f32::NAN, 0.0));
                }
                let Some(kernels) = kernels.bf16 else { continue };
                for case in of_bf16.iter().map(case) {
                    let (of, nan) = ((bf16::from_f32, 2), (bf16::NAN, 2f64.powi(-8)));
                    let mut same = rng.clone();
                    let sums = check(&mut rng, case, kernels.tile, of, (f32::NAN, 0.0));
                    let rounded = check(&mut same, case, kernels.tile_to_bf16, of, nan);
                    assert!(sums.into_iter().zip(rounded).all(|(sum, rounded)| {
                        sum.is_nan() || bf16::from_f32(sum).to_bits() == rounded.to_bits()
                    }));
                }
            }
        }
    }

    #[test]
    fn nan_goes_through_a_clamp() {
        for isa in Isa::available() {
            let kernels = isa.kernels();
            let (pixel, weights) = ([f32::NAN], vec![1.0; kernels.columns]);
            let (bias, mut out) = (vec![0.0; kernels.columns], vec![0.0; kernels.columns]);
            let pointers = [pixel.as_ptr()];
            let args = TileArgs {
                pixels: pointers.as_ptr(),
                taps: 1,
                channels: 1,
                weights: weights.as_ptr(),
                bias: bias.as_ptr(),
                out: out.as_mut_ptr(),
                stride: kernels.columns,
                residual: std::ptr::null(),
                residual_stride: 0,
                scaling: (),
                low: 0.0,
                high: 6.0,
                rows: 1,
                columns: kernels.columns,
            };
            // SAFETY: one row of one channel, and buffers of a tile's columns.
            unsafe { (kernels.tile)(&args) };
            assert!(out.iter().all(|value| value.is_nan()), "{isa}");
        }
    }
}
