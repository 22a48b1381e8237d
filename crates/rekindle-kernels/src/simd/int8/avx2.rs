use std::arch::x86_64::*;

use super::{Bytes, QUAD, Sums};
use crate::simd::Avx2;

/// Of 8 bytes of each of four rows: for each lane its byte of each row.
#[inline(always)]
unsafe fn weave(rows: [*const u8; QUAD]) -> __m256i {
    // SAFETY: the caller's, see `Sums`.
    unsafe {
        let [a, b, c, d] = rows.map(|row| _mm_loadl_epi64(row.cast()));
        let (first, second) = (_mm_unpacklo_epi8(a, b), _mm_unpacklo_epi8(c, d));
        let low = _mm_unpacklo_epi16(first, second);
        let high = _mm_unpackhi_epi16(first, second);
        _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(low), high)
    }
}

/// 8 sums: AVX-VNNI.
#[derive(Clone, Copy)]
pub(crate) struct Vnni256(__m256i);

// SAFETY: plain wrappers; the caller of each method vouches for the instruction set and the pointers.
unsafe impl Sums for Vnni256 {
    type Values = Avx2;
    const SHIFT: i32 = 0;
    type Pixels = __m256i;
    type Weights = __m256i;

    #[inline(always)]
    unsafe fn load(from: *const i32) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { _mm256_loadu_si256(from.cast()) })
    }

    #[inline(always)]
    unsafe fn load_weights(from: *const i8) -> __m256i {
        // SAFETY: as the trait asks.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn splat(from: *const u8) -> __m256i {
        // SAFETY: as the trait asks.
        unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn weave(rows: [*const u8; QUAD]) -> __m256i {
        // SAFETY: as the trait asks.
        unsafe { weave(rows) }
    }

    #[inline(always)]
    unsafe fn add_products(self, pixels: __m256i, weights: __m256i) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { _mm256_dpbusd_avx_epi32(self.0, pixels, weights) })
    }

    #[inline(always)]
    unsafe fn values(self) -> Avx2 {
        // SAFETY: as the trait asks.
        Avx2(unsafe { _mm256_cvtepi32_ps(self.0) })
    }
}

/// 8 sums: AVX2, whose products are of pairs of 16 bits: those of bytes saturate. Of bytes' pairs the second ones are in the
/// upper halves.
#[derive(Clone, Copy)]
pub(crate) struct Madd256(__m256i);

// SAFETY: plain wrappers; the caller of each method vouches for the instruction set and the pointers.
unsafe impl Sums for Madd256 {
    type Values = Avx2;
    const SHIFT: i32 = 0;
    type Pixels = [__m256i; 2];
    type Weights = [__m256i; 2];

    #[inline(always)]
    unsafe fn load(from: *const i32) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { _mm256_loadu_si256(from.cast()) })
    }

    #[inline(always)]
    unsafe fn load_weights(from: *const i8) -> [__m256i; 2] {
        // SAFETY: as the trait asks.
        unsafe {
            let quads = _mm256_loadu_si256(from.cast());
            let first = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(quads));
            [first, _mm256_srai_epi16::<8>(quads)]
        }
    }

    #[inline(always)]
    unsafe fn splat(from: *const u8) -> [__m256i; 2] {
        // SAFETY: as the trait asks.
        unsafe { halves(_mm256_set1_epi32(from.cast::<i32>().read_unaligned())) }
    }

    #[inline(always)]
    unsafe fn weave(rows: [*const u8; QUAD]) -> [__m256i; 2] {
        // SAFETY: as the trait asks.
        unsafe { halves(weave(rows)) }
    }

    #[inline(always)]
    unsafe fn add_products(self, pixels: [__m256i; 2], weights: [__m256i; 2]) -> Self {
        // SAFETY: as the trait asks.
        unsafe {
            let first = _mm256_madd_epi16(pixels[0], weights[0]);
            let second = _mm256_madd_epi16(pixels[1], weights[1]);
            Self(_mm256_add_epi32(self.0, _mm256_add_epi32(first, second)))
        }
    }

    #[inline(always)]
    unsafe fn values(self) -> Avx2 {
        // SAFETY: as the trait asks.
        Avx2(unsafe { _mm256_cvtepi32_ps(self.0) })
    }
}

/// The bytes with an even number and those with an odd one, in 16 bits each.
#[inline(always)]
unsafe fn halves(quads: __m256i) -> [__m256i; 2] {
    // SAFETY: the caller's, see `Sums`.
    unsafe { [_mm256_and_si256(quads, _mm256_set1_epi16(0xff)), _mm256_srli_epi16::<8>(quads)] }
}

// SAFETY: plain wrappers; the caller of each method vouches for the instruction set and the pointers.
unsafe impl Bytes for Avx2 {
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()))) })
    }

    #[inline(always)]
    unsafe fn store_bytes(self, zero: i32, to: *mut u8) {
        // SAFETY: as the trait asks; every number is a byte, so that nothing saturates.
        unsafe {
            let whole = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(zero));
            let (low, high) = (_mm256_castsi256_si128(whole), _mm256_extracti128_si256::<1>(whole));
            let pairs = _mm_packus_epi32(low, high);
            _mm_storel_epi64(to.cast(), _mm_packus_epi16(pairs, pairs));
        }
    }
}
