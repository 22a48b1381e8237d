//! One vector type for each instruction set, so that each kernel is written once.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

pub(crate) mod bf16;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use portable::Portable;

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
