//! One vector type for each instruction set, so that each kernel is written once.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

pub(crate) mod bf16;

use aligned_vec::{AVec, ConstAlign};

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use portable::Portable;

/// Values that begin where a line of the cache does: a register's load or store that straddles two takes twice as long.
pub(crate) type Values = AVec<f32, ConstAlign<64>>;

/// As [`Values`].
pub(crate) fn aligned(values: &[f32]) -> Values {
    AVec::from_slice(0, values)
}

/// So many zeros.
pub(crate) fn zeros(count: usize) -> Values {
    let mut values = AVec::new(0);
    values.resize(count, 0.0);
    values
}

/// Channels of every activation are padded to a multiple of this, so that no kernel has a remainder.
pub(crate) const CHANNEL_BLOCK: usize = 16;

/// A register of `f32`.
///
/// # Safety
/// Every method may be called only where the instruction set is there; pointers must be valid for
/// `LANES` values.
pub(crate) unsafe trait Vector: Copy {
    /// Values in a register; divides [`CHANNEL_BLOCK`].
    const LANES: usize;
    /// Reads `LANES` values.
    unsafe fn load(from: *const f32) -> Self;
    /// Writes `LANES` values.
    unsafe fn store(self, to: *mut f32);
    /// One value in all lanes.
    unsafe fn splat(value: f32) -> Self;
    /// `self * a + b`.
    unsafe fn mul_add(self, a: Self, b: Self) -> Self;
    /// Sum.
    unsafe fn add(self, other: Self) -> Self;
    /// The larger of each lane; NaN in `self` stays.
    unsafe fn at_least(self, low: Self) -> Self;
    /// The larger of each lane; NaN in either stays.
    unsafe fn most(self, other: Self) -> Self;
    /// The smaller of each lane; NaN in `self` stays.
    unsafe fn at_most(self, high: Self) -> Self;
}

/// A register whose first half is a register too.
pub(crate) trait Halves: Vector {
    /// Half as many lanes.
    type Half: Vector;
    /// The first half. May be called only where the instruction set is there.
    unsafe fn half(self) -> Self::Half;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_begin_with_a_line_of_the_cache() {
        for count in [1, 17, 100_000] {
            let mut grown = zeros(0);
            grown.resize(count, 0.0);
            for values in [aligned(&vec![1.0; count]), zeros(count), grown] {
                assert_eq!(values.as_ptr() as usize % 64, 0, "{count}");
            }
        }
    }
}
