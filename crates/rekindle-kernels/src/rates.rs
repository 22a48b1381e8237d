//! How fast this processor multiplies, measured: products of bf16 take half as long as those of f32 on one that has
//! instructions for them, and twice as long on another.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use half::bf16;

use crate::Isa;
use crate::factor::Float;
use crate::gemm::{Tile, TileArgs};
use crate::ir::Element;
use crate::isa::Kernels;
use crate::simd::zeros;

/// Values that each factor of a product has: those of a tile stay in the first-level cache.
const DEPTH: usize = 128;
/// Tiles that are timed together.
const TILES: usize = 100;
/// Times that both are measured, in turns; the least is taken, which no other program's work is part of.
const ROUNDS: usize = 7;

/// The share of f32's time that products of bf16 take on one core of this machine; nothing where the set has none.
/// Measured once for a process, which takes some milliseconds.
pub(crate) fn bf16_share(isa: Isa) -> Option<f64> {
    static SHARES: OnceLock<Vec<(Isa, f64)>> = OnceLock::new();
    let all = SHARES.get_or_init(|| {
        let share = |isa: Isa| {
            let kernels = isa.kernels();
            let bf16 = kernels.bf16?;
            let both = (0..ROUNDS)
                .map(|_| (time(kernels.tile, &kernels), time(bf16.tile, &kernels)))
                .reduce(|least, now| (least.0.min(now.0), least.1.min(now.1)))?;
            Some((isa, both.1.as_secs_f64() / both.0.as_secs_f64().max(1e-9)))
        };
        Isa::available().into_iter().filter_map(share).collect()
    });
    all.iter().find(|(other, _)| *other == isa).map(|&(_, share)| share)
}

/// The time of some whole tiles of zeros.
fn time<T: Float>(tile: Tile<T, f32>, kernels: &Kernels) -> Duration {
    let Kernels { rows, columns, .. } = *kernels;
    debug_assert_eq!(kernels.padded(columns, Element::F32), columns);
    // Zeros of f32 are at least as many zeros of another type.
    let (pixels, weights) = (zeros::<f32>(rows * DEPTH), zeros::<f32>(columns * DEPTH));
    let (bias, mut out) = (zeros::<f32>(columns), zeros::<f32>(rows * columns));
    let pointers: Vec<*const T> =
        pixels.chunks_exact(DEPTH).map(|row| row.as_ptr().cast()).collect();
    let args = TileArgs {
        pixels: pointers.as_ptr(),
        channels: DEPTH,
        weights: weights.as_ptr().cast(),
        bias: bias.as_ptr(),
        out: out.as_mut_ptr(),
        stride: columns,
        rows,
        columns,
        ..TileArgs::PLAIN
    };
    let start = Instant::now();
    for _ in 0..TILES {
        // SAFETY: rows of `DEPTH` values, weights, bias and outputs of all columns lie in buffers of at least as many bytes,
        // aligned to lines of the cache; the kernels are of a set that this machine has.
        unsafe { tile(std::hint::black_box(&args)) };
    }
    std::hint::black_box(out);
    start.elapsed()
}

/// Whether products of bf16 are worth their rounding: they take less than nine tenths of f32's time.
pub(crate) fn bf16_gains(isa: Isa) -> bool {
    bf16_share(isa).is_some_and(|share| share < 0.9)
}

const _: () = assert!(size_of::<bf16>() <= size_of::<f32>());

#[cfg(test)]
mod tests {
    use super::*;

    /// And again the same, so that all plans of a process agree.
    #[test]
    #[cfg_attr(miri, ignore = "a clock")]
    fn shares_are_measured_once() {
        for isa in Isa::available() {
            let share = bf16_share(isa);
            assert_eq!(share.is_some(), isa.kernels().bf16.is_some(), "{isa}");
            assert!(share.is_none_or(|share| share > 0.05 && share < 100.0), "{isa}: {share:?}");
            assert_eq!(share, bf16_share(isa));
        }
    }
}
