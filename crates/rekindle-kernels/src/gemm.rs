//! Matrix products for convolutions, without a matrix of patches (XNNPACK's igemm): the rows of the left
//! matrix are pointers to pixels, one for each output pixel and tap of the kernel.

#[cfg(target_arch = "x86_64")]
use crate::simd::Halves;
use crate::simd::bf16::{Cells, Pairs};
use crate::simd::{Portable, Vector};

/// What one tile computes: `out[m][n] = clamp(bias[n] + residual[m][n] + sum over taps and channels)`.
#[derive(Clone, Copy)]
pub(crate) struct TileArgs {
    /// `[taps][rows]` pointers, each to `channels` values.
    pub pixels: *const *const f32,
    pub taps: usize,
    pub channels: usize,
    /// `[taps * channels][columns]`, packed.
    pub weights: *const f32,
    /// `[columns]`.
    pub bias: *const f32,
    /// Rows of `columns` values, or half as many cells of bf16, `stride` apart.
    pub out: *mut f32,
    pub stride: usize,
    /// Rows of `columns` values, `residual_stride` apart, or null.
    pub residual: *const f32,
    pub residual_stride: usize,
    pub low: f32,
    pub high: f32,
    pub rows: usize,
    /// Only AVX-512 has tiles of more than one width.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code))]
    pub columns: usize,
}

/// Computes a tile.
///
/// # Safety
/// The pointers must be valid for what [`TileArgs`] says, `out` for writing and for this thread alone;
/// `rows` from 1 to the kernels' rows, `columns` the kernels' columns or what is left of them in the last panel of
/// [`Kernels::padded`](crate::isa::Kernels::padded), and the instruction set must be there.
pub(crate) type Tile = unsafe fn(&TileArgs);

/// `MR` rows by `NV` registers.
#[inline(always)]
unsafe fn tile<V: Vector, O: Output<V>, const MR: usize, const NV: usize>(args: &TileArgs) {
    // SAFETY: the caller vouches for the pointers, counts and instruction set (see `Tile`).
    unsafe {
        let bias: [V; NV] = std::array::from_fn(|n| V::load(args.bias.add(n * V::LANES)));
        let mut sums = [bias; MR];
        let mut weights = args.weights;
        for tap in 0..args.taps {
            let pixels: [*const f32; MR] = std::array::from_fn(|m| *args.pixels.add(tap * MR + m));
            for channel in 0..args.channels {
                let columns: [V; NV] = std::array::from_fn(|n| V::load(weights.add(n * V::LANES)));
                for m in 0..MR {
                    let pixel = V::splat(*pixels[m].add(channel));
                    for n in 0..NV {
                        sums[m][n] = pixel.mul_add(columns[n], sums[m][n]);
                    }
                }
                weights = weights.add(NV * V::LANES);
            }
        }
        for (m, row) in sums.into_iter().enumerate() {
            for (n, sum) in row.into_iter().enumerate() {
                finish::<V, O>(args, m, n * V::LANES, sum);
            }
        }
    }
}

/// What a tile writes.
trait Output<V> {
    /// Writes a register of a row's values from `column` on; may be called where the tile may.
    unsafe fn store(values: V, row: *mut f32, column: usize);
}

/// The values.
struct Values;

impl<V: Vector> Output<V> for Values {
    #[inline(always)]
    unsafe fn store(values: V, row: *mut f32, column: usize) {
        // SAFETY: the caller vouches for the pointers, counts and instruction set (see `Tile`).
        unsafe { values.store(row.add(column)) }
    }
}

/// Cells of bf16.
struct Rounded;

impl<V: Cells> Output<Pairs<V>> for Rounded {
    #[inline(always)]
    unsafe fn store(values: Pairs<V>, row: *mut f32, column: usize) {
        // SAFETY: the caller vouches for the pointers, counts and instruction set (see `Tile`).
        unsafe { values.0.store_cells(row.add(column / 2)) }
    }
}

/// Adds the residual, clamps and stores one register of sums.
#[inline(always)]
unsafe fn finish<V: Vector, O: Output<V>>(args: &TileArgs, row: usize, column: usize, sum: V) {
    // SAFETY: the caller vouches for the pointers, counts and instruction set (see `Tile`).
    unsafe {
        let sum = match args.residual.is_null() {
            true => sum,
            false => sum.add(V::load(args.residual.add(row * args.residual_stride + column))),
        };
        let sum = sum.at_least(V::splat(args.low)).at_most(V::splat(args.high));
        O::store(sum, args.out.add(row * args.stride), column);
    }
}

/// `MR` rows by `NV` registers and half of one: for 24 columns three quarters of the work of two registers.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn tile_half<V: Halves, O: Output<V> + Output<V::Half>, const MR: usize, const NV: usize>(
    args: &TileArgs,
) {
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
                finish::<V, O>(args, m, n * V::LANES, sum);
            }
            finish::<V::Half, O>(args, m, last, half);
        }
    }
}

/// Picks the tile of the right height.
macro_rules! by_rows {
    ($tile:ident, $vector:ty, $output:ty, $registers:literal, $args:ident, $($rows:literal)*) => {
        match $args.rows {
            $($rows => $tile::<$vector, $output, $rows, $registers>($args),)*
            rows => unreachable!("no tile has {rows} rows"),
        }
    };
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn tile_avx512(args: &TileArgs) {
    use crate::simd::Avx512;
    // SAFETY: the caller's, see `Tile`.
    unsafe {
        match args.columns {
            32 => by_rows!(tile, Avx512, Values, 2, args, 1 2 3 4 5 6 7 8 9 10 11 12),
            24 => by_rows!(tile_half, Avx512, Values, 1, args, 1 2 3 4 5 6 7 8 9 10 11 12),
            16 => by_rows!(tile, Avx512, Values, 1, args, 1 2 3 4 5 6 7 8 9 10 11 12),
            _ => by_rows!(tile_half, Avx512, Values, 0, args, 1 2 3 4 5 6 7 8 9 10 11 12),
        }
    }
}

/// The tiles of AVX-512 BF16.
#[cfg(target_arch = "x86_64")]
macro_rules! tile_avx512_bf16 {
    ($name:ident, $output:ty, $doc:literal) => {
        #[doc = $doc]
        #[target_feature(enable = "avx512f,avx512bf16")]
        pub(crate) unsafe fn $name(args: &TileArgs) {
            type Vectors = Pairs<crate::simd::Avx512>;
            // SAFETY: the caller's, see `Tile`.
            unsafe {
                if args.columns == 32 {
                    by_rows!(tile, Vectors, $output, 2, args, 1 2 3 4 5 6 7 8 9 10 11 12)
                } else {
                    by_rows!(tile, Vectors, $output, 1, args, 1 2 3 4 5 6 7 8 9 10 11 12)
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
tile_avx512_bf16!(tile_avx512_bf16, Values, "As [`tile_avx512`], of cells of bf16.");
#[cfg(target_arch = "x86_64")]
tile_avx512_bf16!(tile_avx512_bf16_to_cells, Rounded, "As [`tile_avx512_bf16`], to cells.");

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn tile_avx2(args: &TileArgs) {
    use crate::simd::Avx2;
    // SAFETY: the caller's, see `Tile`.
    unsafe { by_rows!(tile, Avx2, Values, 2, args, 1 2 3 4 5 6) }
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
pub(crate) unsafe fn tile_neon(args: &TileArgs) {
    use crate::simd::Neon;
    // SAFETY: the caller's, see `Tile`.
    unsafe { by_rows!(tile, Neon, Values, 2, args, 1 2 3 4 5 6 7 8) }
}

pub(crate) unsafe fn tile_portable(args: &TileArgs) {
    // SAFETY: the caller's, see `Tile`.
    unsafe { by_rows!(tile, Portable, Values, 2, args, 1 2 3 4) }
}

/// As [`tile_portable`], of cells of bf16.
pub(crate) unsafe fn tile_portable_bf16(args: &TileArgs) {
    // SAFETY: the caller's, see `Tile`.
    unsafe { by_rows!(tile, Pairs<Portable>, Values, 2, args, 1 2 3 4) }
}

/// As [`tile_portable_bf16`], to cells.
pub(crate) unsafe fn tile_portable_bf16_to_cells(args: &TileArgs) {
    // SAFETY: the caller's, see `Tile`.
    unsafe { by_rows!(tile, Pairs<Portable>, Rounded, 2, args, 1 2 3 4) }
}

/// Weights as tiles read them: panels of `columns` outputs (the last has what is left of `padded`), in each the
/// values of all outputs for one tap and channel after the other. Outputs are padded with zeros.
pub(crate) fn pack(
    weights: &[f32],
    depth: usize,
    outputs: usize,
    padded: usize,
    columns: usize,
) -> Vec<f32> {
    let mut packed = Vec::with_capacity(depth * padded);
    let mut start = 0;
    while start < padded {
        let width = columns.min(padded - start);
        for row in 0..depth {
            let value = |output: usize| {
                if output < outputs { weights[row * outputs + output] } else { 0.0 }
            };
            packed.extend((start..start + width).map(value));
        }
        start += width;
    }
    packed
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::Isa;
    use crate::simd::bf16;

    #[test]
    fn every_tile_is_the_naive_product() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for isa in Isa::available() {
            let kernels = isa.kernels();
            let sets = [Some((kernels.tile, false)), kernels.bf16.map(|bf16| (bf16.tile, true))];
            let mut cases = Vec::new();
            for (tile, is_bf16) in sets.into_iter().flatten() {
                let widths: &[usize] = match isa {
                    Isa::Avx512 if is_bf16 => &[32, 16],
                    Isa::Avx512 => &[32, 24, 16, 8],
                    _ => &[kernels.columns],
                };
                // Every tile with and without a residual and limits.
                let rows = (1..=kernels.rows).flat_map(|rows| (0..4).map(move |ends| (rows, ends)));
                let of = |(rows, ends)| widths.iter().map(move |&width| (rows, ends, width));
                cases.extend(rows.flat_map(of).map(|case| (tile, is_bf16, case)));
            }
            for (tile, is_bf16, (rows, ends, columns)) in cases {
                let (taps, channels) = (rng.random_range(1..5), rng.random_range(1..40));
                let stride = columns + rng.random_range(0..9);
                let mut random = |count: usize| -> Vec<f32> {
                    (0..count).map(|_| rng.random::<f32>() * 2.0 - 1.0).collect()
                };
                let mut factors = |count: usize| -> Vec<f32> {
                    let mut one = || random(count);
                    let pair = |(low, high)| if is_bf16 { bf16::cell(low, high) } else { low };
                    one().into_iter().zip(one()).map(pair).collect()
                };
                let pixels = factors(taps * rows * channels);
                let weights = factors(taps * channels * columns);
                let (bias, residual) = (random(columns), random(rows * stride));
                let pointers: Vec<*const f32> =
                    (0..taps * rows).map(|index| pixels[index * channels..].as_ptr()).collect();
                let mut out = vec![f32::NAN; rows * stride];
                let has_residual = ends % 2 == 0;
                let (low, high) =
                    if ends / 2 == 0 { (0.0, 6.0) } else { (f32::NEG_INFINITY, f32::INFINITY) };
                let args = TileArgs {
                    pixels: pointers.as_ptr(),
                    taps,
                    channels,
                    weights: weights.as_ptr(),
                    bias: bias.as_ptr(),
                    out: out.as_mut_ptr(),
                    stride,
                    residual: if has_residual { residual.as_ptr() } else { std::ptr::null() },
                    residual_stride: stride,
                    low,
                    high,
                    rows,
                    columns,
                };
                // SAFETY: every buffer has the size that its field says, and the set is available.
                unsafe { tile(&args) };
                if let (true, Some(kernels)) = (is_bf16, kernels.bf16) {
                    let mut rounded = vec![f32::NAN; rows * stride];
                    let args = TileArgs { out: rounded.as_mut_ptr(), ..args };
                    // SAFETY: as above; cells take less room.
                    unsafe { (kernels.tile_to_cells)(&args) };
                    for (out, rounded) in out.chunks(stride).zip(rounded.chunks(stride)) {
                        let (cells, behind) = rounded.split_at(columns / 2);
                        let pairs = out[..columns].chunks(2).zip(cells);
                        assert!(pairs.into_iter().all(|(pair, cell)| {
                            cell.to_bits() == bf16::cell(pair[0], pair[1]).to_bits()
                        }));
                        assert!(behind.iter().all(|value| value.is_nan()), "{isa}");
                    }
                }
                for m in 0..rows {
                    for n in 0..stride {
                        let found = out[m * stride + n];
                        if n >= columns {
                            assert!(found.is_nan(), "{isa} wrote behind its columns");
                            continue;
                        }
                        let mut sum = f64::from(bias[n]);
                        if has_residual {
                            sum += f64::from(residual[m * stride + n]);
                        }
                        for tap in 0..taps {
                            for channel in 0..channels {
                                let pixel = pixels[(tap * rows + m) * channels + channel];
                                let weight = weights[(tap * channels + channel) * columns + n];
                                let product = |a: f32, b: f32| f64::from(a) * f64::from(b);
                                sum += match is_bf16 {
                                    true => {
                                        let (a, b) = (bf16::values(pixel), bf16::values(weight));
                                        product(a[0], b[0]) + product(a[1], b[1])
                                    }
                                    false => product(pixel, weight),
                                };
                            }
                        }
                        let expected = sum.clamp(f64::from(low), f64::from(high));
                        assert!(
                            (f64::from(found) - expected).abs() < 2e-5,
                            "{isa} {rows}x{columns}: {found} {expected}"
                        );
                    }
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
