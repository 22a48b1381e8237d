use std::arch::x86_64::*;

use half::bf16;

use super::{Avx2, Halves, Multiply, Vector, Write};

/// 16 values: AVX-512F.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(pub(super) __m512);

// SAFETY: plain wrappers; the caller of each method vouches for the instruction set and the pointers.
unsafe impl Vector for Avx512 {
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as the trait asks.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { _mm512_fmadd_ps(self.0, a.0, b.0) })
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn at_least(self, low: Self) -> Self {
        // SAFETY: as the trait asks. The second operand is what the instruction returns for NaN.
        Self(unsafe { _mm512_max_ps(low.0, self.0) })
    }

    #[inline(always)]
    unsafe fn most(self, other: Self) -> Self {
        // SAFETY: as the trait asks. For NaN the instruction returns the second operand: one in the first is put back.
        unsafe {
            let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
            Self(_mm512_mask_mov_ps(_mm512_max_ps(self.0, other.0), is_nan, self.0))
        }
    }

    #[inline(always)]
    unsafe fn at_most(self, high: Self) -> Self {
        // SAFETY: as the trait asks. The second operand is what the instruction returns for NaN.
        Self(unsafe { _mm512_min_ps(high.0, self.0) })
    }
}

/// 32 bf16, of each lane a pair; with AVX-512 BF16.
impl Multiply<bf16> for Avx512 {
    const DEPTH: usize = 2;
    type Factors = __m512;

    #[inline(always)]
    unsafe fn load_factors(from: *const bf16) -> __m512 {
        // SAFETY: as the trait asks; bits are loaded, of which a pair has those of an f32.
        unsafe { _mm512_loadu_ps(from.cast()) }
    }

    #[inline(always)]
    unsafe fn splat_factors(from: *const bf16) -> __m512 {
        // SAFETY: as the trait asks, of two elements; an f32 may have any bits.
        unsafe { _mm512_set1_ps(from.cast::<f32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn add_products(a: __m512, b: __m512, sum: Self) -> Self {
        // SAFETY: as the trait asks; the register types are the same bits.
        unsafe {
            let pairs = |x: __m512| std::mem::transmute::<__m512, __m512bh>(x);
            Self(_mm512_dpbf16_ps(sum.0, pairs(a), pairs(b)))
        }
    }
}

/// Rounds; with AVX-512 BF16.
impl Write<bf16> for Avx512 {
    #[inline(always)]
    unsafe fn write(self, to: *mut bf16) {
        // SAFETY: as the trait asks; the register types are the same bits.
        unsafe {
            let rounded = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(self.0));
            _mm256_storeu_si256(to.cast(), rounded);
        }
    }
}

impl Halves for Avx512 {
    type Half = Avx2;

    #[inline(always)]
    unsafe fn half(self) -> Avx2 {
        // SAFETY: as the trait asks.
        Avx2(unsafe { _mm512_castps512_ps256(self.0) })
    }
}
