//! Tiles of products of bytes: as those of `gemm`, with sums of `i32`.

use crate::gemm::{TileArgs, by_rows};
use crate::int8::Scaling;
use crate::simd::Vector;
use crate::simd::int8::{Bytes, End, QUAD, Quads, Sums};

/// `MR` rows by `NV` registers.
#[inline(always)]
unsafe fn tile<S: Sums, O, const MR: usize, const NV: usize>(args: &TileArgs<u8, O>)
where
    S::Values: End<O>,
{
    let lanes = S::Values::LANES;
    // SAFETY: the caller vouches for the pointers, counts and instruction set (see `Tile`).
    unsafe {
        let bias: [S; NV] = std::array::from_fn(|n| S::load(args.bias.add(n * lanes)));
        let mut sums = [bias; MR];
        let mut weights = args.weights;
        for tap in 0..args.taps {
            let pixels: [*const u8; MR] = std::array::from_fn(|m| *args.pixels.add(tap * MR + m));
            for step in 0..args.channels / QUAD {
                let columns: [S::Weights; NV] =
                    std::array::from_fn(|n| S::load_weights(weights.add(n * lanes * QUAD)));
                for m in 0..MR {
                    let pixel = S::splat(pixels[m].add(step * QUAD));
                    for n in 0..NV {
                        sums[m][n] = sums[m][n].add_products(pixel, columns[n]);
                    }
                }
                weights = weights.add(NV * lanes * QUAD);
            }
        }
        for (m, row) in sums.into_iter().enumerate() {
            for (n, sum) in row.into_iter().enumerate() {
                finish(args, m, n * lanes, sum);
            }
        }
    }
}

/// Adds the shortcut to one register of sums, and ends it.
#[inline(always)]
unsafe fn finish<S: Sums, O>(args: &TileArgs<u8, O>, row: usize, column: usize, sum: S)
where
    S::Values: End<O>,
{
    let limits = [args.low, args.high];
    // SAFETY: the caller vouches for the pointers, counts and instruction set (see `Tile`).
    unsafe {
        let to = args.out.add(row * args.stride + column);
        if args.residual.is_null() {
            return end::<S, O>(sum, &args.scaling, limits, column, to);
        }
        let Scaling { factors, zero, residual_zero, residual_step } = args.scaling;
        let shortcut =
            S::Values::load_bytes(args.residual.add(row * args.residual_stride + column));
        // The difference is exact.
        let shortcut = shortcut.add(S::Values::splat(-residual_zero));
        let shortcut = shortcut.mul(S::Values::splat(residual_step));
        let value = sum.values().mul(S::Values::load(factors.add(column))).add(shortcut);
        clamp(value, limits).end(zero, to);
    }
}

/// Makes numbers of one register of sums, clamps and writes them.
#[inline(always)]
pub(super) unsafe fn end<S: Sums, O>(
    sum: S,
    scaling: &Scaling,
    limits: [f32; 2],
    column: usize,
    to: *mut O,
) where
    S::Values: End<O>,
{
    // SAFETY: the caller vouches for the pointers and the instruction set.
    unsafe {
        let value = sum.values().mul(S::Values::load(scaling.factors.add(column)));
        clamp(value, limits).end(scaling.zero, to);
    }
}

#[inline(always)]
unsafe fn clamp<V: Vector>(value: V, [low, high]: [f32; 2]) -> V {
    // SAFETY: the caller vouches for the instruction set.
    unsafe { value.at_least(V::splat(low)).at_most(V::splat(high)) }
}

/// The tiles of one register of sums, to bytes and to `f32`: their names, the instructions that they take, and how many
/// rows they have.
macro_rules! tiles {
    ($to_bytes:ident $to_f32:ident, $(#[$attribute:meta])* $sums:ty, $($columns:literal: $registers:literal)+, $rows:tt) => {
        tiles!(@one $to_bytes, u8, $(#[$attribute])* $sums, $($columns: $registers)+, $rows);
        tiles!(@one $to_f32, f32, $(#[$attribute])* $sums, $($columns: $registers)+, $rows);
    };
    (@one $name:ident, $output:ty, $(#[$attribute:meta])* $sums:ty, $($columns:literal: $registers:literal)+, $rows:tt) => {
        $(#[$attribute])*
        pub(crate) unsafe fn $name(args: &TileArgs<u8, $output>) {
            // SAFETY: the caller's, see `Tile`.
            unsafe {
                match args.columns {
                    $($columns => tiles!(@rows args, $sums, $output, $registers, $rows),)+
                    columns => unreachable!("no tile has {columns} columns"),
                }
            }
        }
    };
    (@rows $args:ident, $sums:ty, $output:ty, $registers:literal, ($($rows:literal)*)) => {
        by_rows!($args, tile::<$sums, $output, ROWS, $registers>($args), $($rows)*)
    };
}

#[cfg(target_arch = "x86_64")]
use crate::simd::int8::{Madd256, Madd512, Vnni256, Vnni512};

#[cfg(target_arch = "x86_64")]
tiles!(
    tile_vnni512 tile_vnni512_to_f32,
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    Vnni512, 32: 2 16: 1, (1 2 3 4 5 6 7 8 9 10 11 12)
);
#[cfg(target_arch = "x86_64")]
tiles!(
    tile_madd512 tile_madd512_to_f32,
    #[target_feature(enable = "avx512f,avx512bw")]
    Madd512, 32: 2 16: 1, (1 2 3 4 5 6 7 8 9 10 11 12)
);
#[cfg(target_arch = "x86_64")]
tiles!(
    tile_vnni256 tile_vnni256_to_f32,
    #[target_feature(enable = "avx2,fma,avxvnni")]
    Vnni256, 16: 2, (1 2 3 4 5 6)
);
#[cfg(target_arch = "x86_64")]
tiles!(
    tile_madd256 tile_madd256_to_f32,
    #[target_feature(enable = "avx2,fma")]
    Madd256, 16: 2, (1 2 3 4 5 6)
);
#[cfg(target_arch = "aarch64")]
tiles!(
    tile_dot128 tile_dot128_to_f32,
    #[target_feature(enable = "neon,dotprod")]
    crate::simd::int8::Dot128, 8: 2, (1 2 3 4 5 6 7 8)
);
#[cfg(target_arch = "aarch64")]
tiles!(
    tile_wide128 tile_wide128_to_f32,
    #[target_feature(enable = "neon")]
    crate::simd::int8::Wide128, 8: 2, (1 2 3 4 5 6 7 8)
);
tiles!(tile_portable tile_portable_to_f32, Quads, 16: 2, (1 2 3 4));
