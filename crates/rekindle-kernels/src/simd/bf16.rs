//! Pairs of bf16 in the place of one f32, a "cell": so products of pairs run in the tiles, pointers and packed weights
//! that products of f32 have, at half their depth.

use half::bf16;

use super::{Portable, Vector};

/// Two values, rounded to the nearest, as the bits of one cell; `low` is the first in memory.
pub(crate) fn cell(low: f32, high: f32) -> f32 {
    let bits = |value: f32| u32::from(bf16::from_f32(value).to_bits());
    f32::from_bits(bits(low) | bits(high) << 16)
}

/// The two values of a cell.
pub(crate) fn values(cell: f32) -> [f32; 2] {
    let bits = cell.to_bits();
    [f32::from_bits(bits << 16), f32::from_bits(bits & 0xffff_0000)]
}

/// Weights `[tap][in][out]` as cells `[tap][pair of ins][out]`; an odd input has zero beside it.
pub(crate) fn pair_rows(weights: &[f32], inputs: usize, outputs: usize) -> Vec<f32> {
    let pairs = |tap: &[f32]| -> Vec<f32> {
        let rows: Vec<&[f32]> = tap.chunks(outputs).collect();
        let pair = |pair: &[&[f32]]| -> Vec<f32> {
            let high = |output: usize| pair.get(1).map_or(0.0, |row| row[output]);
            (0..outputs).map(|output| cell(pair[0][output], high(output))).collect()
        };
        rows.chunks(2).flat_map(pair).collect()
    };
    weights.chunks(inputs * outputs).flat_map(pairs).collect()
}

/// A register of `f32` that may also hold cells.
///
/// Every method may be called only where the instruction set is there, with what it has for bf16.
pub(crate) trait Cells: Vector {
    /// `b` and the products of both pairs of `self` and `a`, which are cells.
    unsafe fn dot(self, a: Self, b: Self) -> Self;
    /// Rounds the values to half as many cells, for which `to` must be valid.
    unsafe fn store_cells(self, to: *mut f32);
}

/// A register of cells, or of sums of their products: as `V`, but for the product.
#[derive(Clone, Copy)]
pub(crate) struct Pairs<V>(pub V);

// SAFETY: every method is that of `V`, with its conditions.
unsafe impl<V: Cells> Vector for Pairs<V> {
    const LANES: usize = V::LANES;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { V::load(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as the trait asks.
        unsafe { self.0.store(to) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { V::splat(value) })
    }

    /// The sum of the products of both pairs of `self` and `a`, and `b`.
    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { self.0.dot(a.0, b.0) })
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { self.0.add(other.0) })
    }

    #[inline(always)]
    unsafe fn at_least(self, low: Self) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { self.0.at_least(low.0) })
    }

    #[inline(always)]
    unsafe fn most(self, other: Self) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { self.0.most(other.0) })
    }

    #[inline(always)]
    unsafe fn at_most(self, high: Self) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { self.0.at_most(high.0) })
    }
}

/// Rounds `count` values, a multiple of [`CHANNEL_BLOCK`](super::CHANNEL_BLOCK), to half as many cells. `to` may begin
/// where `from` does.
///
/// # Safety
/// `from` must be valid for `count` values and `to` for half as many, and the instruction set must be there.
pub(crate) type Narrow = unsafe fn(from: *const f32, to: *mut f32, count: usize);

#[inline(always)]
unsafe fn narrow<V: Cells>(from: *const f32, to: *mut f32, count: usize) {
    for start in (0..count).step_by(V::LANES) {
        // SAFETY: the caller's, see `Narrow`; values are read before their cells, never behind them, are written.
        unsafe { V::load(from.add(start)).store_cells(to.add(start / 2)) }
    }
}

pub(crate) unsafe fn narrow_portable(from: *const f32, to: *mut f32, count: usize) {
    // SAFETY: the caller's, see `Narrow`.
    unsafe { narrow::<Portable>(from, to, count) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(crate) unsafe fn narrow_avx512(from: *const f32, to: *mut f32, count: usize) {
    // SAFETY: the caller's, see `Narrow`.
    unsafe { narrow::<super::Avx512>(from, to, count) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn every_set_rounds_as_half_does_also_in_place() {
        let odd = [
            0.0,
            -0.0,
            1.0,
            f32::MAX,
            f32::MIN,
            f32::INFINITY,
            1.0 + 1.0 / 256.0,
            1.0 + 3.0 / 256.0,
        ];
        let mut from: Vec<f32> =
            (0..96).map(|i| (i as f32 * 0.37).sin() * 10_f32.powi(i % 9 - 4)).collect();
        from[..odd.len()].copy_from_slice(&odd);
        let expected: Vec<u32> =
            from.chunks(2).map(|pair| cell(pair[0], pair[1]).to_bits()).collect();
        assert_eq!(values(cell(1.5, -2.25)), [1.5, -2.25]);
        for isa in Isa::available() {
            let Some(kernels) = isa.kernels().bf16 else { continue };
            let mut to = vec![0.0; from.len()];
            to.copy_from_slice(&from);
            // SAFETY: 96 values, and the set is available.
            unsafe { (kernels.narrow)(to.as_ptr(), to.as_mut_ptr(), 96) };
            let found: Vec<u32> = to[..48].iter().map(|cell| cell.to_bits()).collect();
            assert_eq!(found, expected, "{isa}");
        }
    }

    #[test]
    fn an_odd_row_has_zeros_beside_it() {
        let cells = pair_rows(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3, 2);
        let cells: Vec<[f32; 2]> = cells.into_iter().map(values).collect();
        assert_eq!(cells, [[1.0, 3.0], [2.0, 4.0], [5.0, 0.0], [6.0, 0.0]]);
    }
}
