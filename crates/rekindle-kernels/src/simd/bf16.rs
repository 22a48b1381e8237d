//! Pairs of bf16 in the place of one f32, a "cell": so products of pairs run in the tiles, pointers and packed weights
//! that products of f32 have, at half their depth.

use half::bf16;

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

/// Rounds `count` values, a multiple of 16, to half as many cells. `to` may begin where `from` does.
///
/// # Safety
/// `from` must be valid for `count` values and `to` for half as many, and the instruction set must be there.
pub(crate) type Narrow = unsafe fn(from: *const f32, to: *mut f32, count: usize);

pub(crate) unsafe fn narrow_portable(from: *const f32, to: *mut f32, count: usize) {
    for pair in 0..count / 2 {
        // SAFETY: the caller's, see `Narrow`; a pair is read before its cell, never behind it, is written.
        unsafe { to.add(pair).write(cell(*from.add(2 * pair), *from.add(2 * pair + 1))) }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(crate) unsafe fn narrow_avx512(from: *const f32, to: *mut f32, count: usize) {
    use std::arch::x86_64::{
        __m256bh, __m256i, _mm256_storeu_si256, _mm512_cvtneps_pbh, _mm512_loadu_ps,
    };
    for start in (0..count).step_by(16) {
        // SAFETY: the caller's, see `Narrow`: 16 values are read before their 8 cells, never behind them, are
        // written; the two register types are the same bits.
        unsafe {
            let cells = _mm512_cvtneps_pbh(_mm512_loadu_ps(from.add(start)));
            let cells = std::mem::transmute::<__m256bh, __m256i>(cells);
            _mm256_storeu_si256(to.add(start / 2).cast(), cells);
        }
    }
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
