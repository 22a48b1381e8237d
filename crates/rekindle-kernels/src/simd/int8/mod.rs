//! Registers of sums of products of bytes, and of bytes as numbers. Sums are integers, and what becomes of them is computed
//! without fused operations, so that every instruction set gives the same bytes.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

use super::Vector;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::{Madd256, Vnni256};
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::{Madd512, Vnni512};
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::{Dot128, Wide128};
pub(crate) use portable::Quads;

/// Bytes, of neighbours in the depth or of rows of a kernel, that each lane multiplies at once.
pub(crate) const QUAD: usize = 4;

/// A register of `i32`, to each of which the products of four bytes and four weights are added.
///
/// # Safety
/// Every method may be called only where the instruction set is there; pointers must be valid for what is read.
pub(crate) unsafe trait Sums: Copy {
    /// As many numbers.
    type Values: Bytes;
    /// What is taken off each byte before it is multiplied, where products are of signed bytes only.
    const SHIFT: i32;
    /// Four bytes for each lane.
    type Pixels: Copy;
    /// Four weights for each lane.
    type Weights: Copy;
    /// Reads as many sums as there are lanes.
    unsafe fn load(from: *const i32) -> Self;
    /// Reads four weights for each lane.
    unsafe fn load_weights(from: *const i8) -> Self::Weights;
    /// The same four bytes for all lanes.
    unsafe fn splat(from: *const u8) -> Self::Pixels;
    /// For each lane its byte of each row.
    unsafe fn weave(rows: [*const u8; QUAD]) -> Self::Pixels;
    /// The sums and the products of each lane's bytes, less [`SHIFT`](Self::SHIFT), and weights.
    unsafe fn add_products(self, pixels: Self::Pixels, weights: Self::Weights) -> Self;
    /// The nearest numbers, an even one where two are as near.
    unsafe fn values(self) -> Self::Values;
}

/// A register of numbers that are read from bytes and written as such.
///
/// # Safety
/// As for [`Vector`].
pub(crate) unsafe trait Bytes: Vector {
    /// Reads as many bytes as there are lanes.
    unsafe fn load_bytes(from: *const u8) -> Self;
    /// Writes the nearest whole number, an even one where two are as near, and `zero`: a byte.
    unsafe fn store_bytes(self, zero: i32, to: *mut u8);
}

/// Numbers that end as elements `T`.
pub(crate) trait End<T>: Bytes {
    /// Writes as many elements as there are lanes; only where the instruction set is there.
    unsafe fn end(self, zero: i32, to: *mut T);
}

impl<V: Bytes> End<f32> for V {
    #[inline(always)]
    unsafe fn end(self, _: i32, to: *mut f32) {
        // SAFETY: as the trait asks.
        unsafe { self.store(to) }
    }
}

impl<V: Bytes> End<u8> for V {
    #[inline(always)]
    unsafe fn end(self, zero: i32, to: *mut u8) {
        // SAFETY: as the trait asks.
        unsafe { self.store_bytes(zero, to) }
    }
}
