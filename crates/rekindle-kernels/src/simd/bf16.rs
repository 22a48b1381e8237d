//! Products of bf16: pairs of the depth side by side, as `vdpbf16ps` takes them.

use half::bf16;

use super::{Portable, Write};

/// Weights `[tap][in][out]`, rounded to the nearest, as pairs `[tap][pair of ins][out]`; an odd input has zero beside it.
pub(crate) fn pair_rows(weights: &[f32], inputs: usize, outputs: usize) -> Vec<[bf16; 2]> {
    let pairs = |tap: &[f32]| -> Vec<[bf16; 2]> {
        let rows: Vec<&[f32]> = tap.chunks(outputs).collect();
        let pair = |pair: &[&[f32]]| -> Vec<[bf16; 2]> {
            let second = |output: usize| pair.get(1).map_or(0.0, |row| row[output]);
            (0..outputs)
                .map(|output| [pair[0][output], second(output)].map(bf16::from_f32))
                .collect()
        };
        rows.chunks(2).flat_map(pair).collect()
    };
    weights.chunks(inputs * outputs).flat_map(pairs).collect()
}

/// Rounds `count` values, a multiple of [`CHANNEL_BLOCK`](super::CHANNEL_BLOCK), to bf16. `to` may begin where `from`
/// does.
///
/// # Safety
/// `from` and `to` must be valid for `count` elements, and the instruction set must be there.
pub(crate) type Narrow = unsafe fn(from: *const f32, to: *mut bf16, count: usize);

#[inline(always)]
unsafe fn narrow<V: Write<bf16>>(from: *const f32, to: *mut bf16, count: usize) {
    for start in (0..count).step_by(V::LANES) {
        // SAFETY: the caller's, see `Narrow`; what is written lies never behind what has been read.
        unsafe { V::load(from.add(start)).write(to.add(start)) }
    }
}

pub(crate) unsafe fn narrow_portable(from: *const f32, to: *mut bf16, count: usize) {
    // SAFETY: the caller's, see `Narrow`.
    unsafe { narrow::<Portable>(from, to, count) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(crate) unsafe fn narrow_avx512(from: *const f32, to: *mut bf16, count: usize) {
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
        let bits = |values: &[bf16]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        let expected: Vec<bf16> = from.iter().copied().map(bf16::from_f32).collect();
        for isa in Isa::available() {
            let Some(kernels) = isa.kernels().bf16 else { continue };
            let mut to = from.clone();
            let start = to.as_mut_ptr();
            // SAFETY: 96 values in and out, where 96 f32 are, and the set is available.
            let found = unsafe {
                (kernels.narrow)(start, start.cast(), 96);
                std::slice::from_raw_parts(start.cast::<bf16>(), 96)
            };
            assert_eq!(bits(found), bits(&expected), "{isa}");
        }
    }

    #[test]
    fn an_odd_row_has_zeros_beside_it() {
        let pairs = pair_rows(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3, 2);
        let pairs: Vec<[f32; 2]> = pairs.into_iter().map(|pair| pair.map(bf16::to_f32)).collect();
        assert_eq!(pairs, [[1.0, 3.0], [2.0, 4.0], [5.0, 0.0], [6.0, 0.0]]);
    }
}
