use std::arch::aarch64::*;

use super::Vector;

/// 4 values: NEON.
#[derive(Clone, Copy)]
pub(crate) struct Neon(pub(super) float32x4_t);

// SAFETY: plain wrappers; the caller of each method vouches for the instruction set and the pointers.
unsafe impl Vector for Neon {
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { vld1q_f32(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as the trait asks.
        unsafe { vst1q_f32(to, self.0) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { vdupq_n_f32(value) })
    }

    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { vfmaq_f32(b.0, self.0, a.0) })
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { vaddq_f32(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { vmulq_f32(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn at_least(self, low: Self) -> Self {
        // SAFETY: as the trait asks. NEON's maximum of NaN is NaN.
        Self(unsafe { vmaxq_f32(self.0, low.0) })
    }

    #[inline(always)]
    unsafe fn most(self, other: Self) -> Self {
        // SAFETY: as the trait asks. NEON's maximum of NaN is NaN.
        Self(unsafe { vmaxq_f32(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn at_most(self, high: Self) -> Self {
        // SAFETY: as the trait asks. NEON's minimum of NaN is NaN.
        Self(unsafe { vminq_f32(self.0, high.0) })
    }
}
