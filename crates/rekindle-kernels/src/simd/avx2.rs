use std::arch::x86_64::*;

use super::Vector;

/// 8 values: AVX2 and FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(pub(super) __m256);

// SAFETY: plain wrappers; the caller of each method vouches for the instruction set and the pointers.
unsafe impl Vector for Avx2 {
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { _mm256_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as the trait asks.
        unsafe { _mm256_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { _mm256_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { _mm256_fmadd_ps(self.0, a.0, b.0) })
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { _mm256_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { _mm256_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn at_least(self, low: Self) -> Self {
        // SAFETY: as the trait asks. The second operand is what the instruction returns for NaN.
        Self(unsafe { _mm256_max_ps(low.0, self.0) })
    }

    #[inline(always)]
    unsafe fn most(self, other: Self) -> Self {
        // SAFETY: as the trait asks. For NaN the instruction returns the second operand: one in the first is put back.
        unsafe {
            let is_nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, self.0);
            Self(_mm256_blendv_ps(_mm256_max_ps(self.0, other.0), self.0, is_nan))
        }
    }

    #[inline(always)]
    unsafe fn at_most(self, high: Self) -> Self {
        // SAFETY: as the trait asks. The second operand is what the instruction returns for NaN.
        Self(unsafe { _mm256_min_ps(high.0, self.0) })
    }
}
