//! One vector type for each instruction set, so that each kernel is written once.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

pub(crate) mod bf16;
pub(crate) mod int8;

use aligned_vec::{AVec, ConstAlign};

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use portable::Portable;

/// Bytes of a line of the cache.
pub(crate) const LINE: usize = 64;

/// Elements that begin where a line of the cache does: a register's load or store that straddles two takes twice as long.
pub(crate) type Buffer<T> = AVec<T, ConstAlign<LINE>>;

/// As a [`Buffer`].
pub(crate) fn aligned<T: Copy>(values: &[T]) -> Buffer<T> {
    AVec::from_slice(0, values)
}

/// So many zeros.
pub(crate) fn zeros<T: Copy + Default>(count: usize) -> Buffer<T> {
    let mut values = AVec::new(0);
    values.resize(count, T::default());
    values
}

/// Has the processor fetch values to its second-level cache, where there is an instruction for it that Rust has.
#[inline(always)]
pub(crate) fn prefetch(values: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in values.chunks(LINE / size_of::<f32>()) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: of SSE, which every x86-64 processor has; it changes no value, and the address is that of one.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
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
    /// Product.
    unsafe fn mul(self, other: Self) -> Self;
    /// The larger of each lane; NaN in `self` stays.
    unsafe fn at_least(self, low: Self) -> Self;
    /// The larger of each lane; NaN in either stays.
    unsafe fn most(self, other: Self) -> Self;
    /// The smaller of each lane; NaN in `self` stays.
    unsafe fn at_most(self, high: Self) -> Self;
}

/// A register of sums of products of elements `T`.
///
/// Every method may be called only where the instruction set is there, with what it has for `T`.
pub(crate) trait Multiply<T>: Vector {
    /// Neighbours of a product's depth that each lane multiplies at once.
    const DEPTH: usize;
    /// `DEPTH` elements for each lane.
    type Factors: Copy;
    /// Reads `LANES * DEPTH` elements, for which `from` must be valid.
    unsafe fn load_factors(from: *const T) -> Self::Factors;
    /// The same `DEPTH` elements, for which `from` must be valid, for all lanes.
    unsafe fn splat_factors(from: *const T) -> Self::Factors;
    /// `sum` and the products of `a` and `b`.
    unsafe fn add_products(a: Self::Factors, b: Self::Factors, sum: Self) -> Self;
}

impl<V: Vector> Multiply<f32> for V {
    const DEPTH: usize = 1;
    type Factors = V;

    #[inline(always)]
    unsafe fn load_factors(from: *const f32) -> V {
        // SAFETY: as the trait asks.
        unsafe { V::load(from) }
    }

    #[inline(always)]
    unsafe fn splat_factors(from: *const f32) -> V {
        // SAFETY: as the trait asks.
        unsafe { V::splat(*from) }
    }

    #[inline(always)]
    unsafe fn add_products(a: V, b: V, sum: V) -> V {
        // SAFETY: as the trait asks.
        unsafe { a.mul_add(b, sum) }
    }
}

/// A register of values that are written as elements `T`.
pub(crate) trait Write<T>: Vector {
    /// Writes `LANES` elements, for which `to` must be valid; only where the instruction set is there, with what it has
    /// for `T`.
    unsafe fn write(self, to: *mut T);
}

impl<V: Vector> Write<f32> for V {
    #[inline(always)]
    unsafe fn write(self, to: *mut f32) {
        // SAFETY: as the trait asks.
        unsafe { self.store(to) }
    }
}

/// A register whose first half is a register too.
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code))]
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
            for values in [aligned(&vec![1.0_f32; count]), zeros(count), grown] {
                assert_eq!(values.as_ptr() as usize % LINE, 0, "{count}");
            }
            assert_eq!(zeros::<u8>(count).as_ptr() as usize % LINE, 0, "{count}");
        }
    }
}
