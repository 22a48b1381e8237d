use std::arch::x86_64::*;

use super::{Bytes, QUAD, Sums};
use crate::simd::Avx512;

/// Of 16 bytes of each of four rows: for each lane its byte of each row.
#[inline(always)]
unsafe fn weave(rows: [*const u8; QUAD]) -> __m512i {
    // SAFETY: the caller's, see `Sums`; AVX-512 BW is there with what multiplies bytes.
    unsafe {
        let [a, b, c, d] = rows.map(|row| _mm_loadu_si128(row.cast()));
        let all = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(a), b);
        let all = _mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(all, c), d);
        // Four lanes' bytes of all rows side by side, then by lane.
        let turn = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        let by_lane = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        let all = _mm512_permutexvar_epi32(turn, all);
        _mm512_shuffle_epi8(all, _mm512_broadcast_i32x4(by_lane))
    }
}

/// 16 sums: AVX-512 VNNI.
#[derive(Clone, Copy)]
pub(crate) struct Vnni512(__m512i);

// SAFETY: plain wrappers; the caller of each method vouches for the instruction set and the pointers.
unsafe impl Sums for Vnni512 {
    type Values = Avx512;
    const SHIFT: i32 = 0;
    type Pixels = __m512i;
    type Weights = __m512i;

    #[inline(always)]
    unsafe fn load(from: *const i32) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { _mm512_loadu_si512(from.cast()) })
    }

    #[inline(always)]
    unsafe fn load_weights(from: *const i8) -> __m512i {
        // SAFETY: as the trait asks.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn splat(from: *const u8) -> __m512i {
        // SAFETY: as the trait asks.
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn weave(rows: [*const u8; QUAD]) -> __m512i {
        // SAFETY: as the trait asks.
        unsafe { weave(rows) }
    }

    #[inline(always)]
    unsafe fn add_products(self, pixels: __m512i, weights: __m512i) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { _mm512_dpbusd_epi32(self.0, pixels, weights) })
    }

    #[inline(always)]
    unsafe fn values(self) -> Avx512 {
        // SAFETY: as the trait asks.
        Avx512(unsafe { _mm512_cvtepi32_ps(self.0) })
    }
}

/// 16 sums: AVX-512 BW, whose products are of pairs of 16 bits. Of bytes' pairs the second ones are in the upper halves.
#[derive(Clone, Copy)]
pub(crate) struct Madd512(__m512i);

// SAFETY: plain wrappers; the caller of each method vouches for the instruction set and the pointers.
unsafe impl Sums for Madd512 {
    type Values = Avx512;
    const SHIFT: i32 = 0;
    type Pixels = [__m512i; 2];
    type Weights = [__m512i; 2];

    #[inline(always)]
    unsafe fn load(from: *const i32) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { _mm512_loadu_si512(from.cast()) })
    }

    #[inline(always)]
    unsafe fn load_weights(from: *const i8) -> [__m512i; 2] {
        // SAFETY: as the trait asks.
        unsafe {
            let quads = _mm512_loadu_si512(from.cast());
            let first = _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(quads));
            [first, _mm512_srai_epi16::<8>(quads)]
        }
    }

    #[inline(always)]
    unsafe fn splat(from: *const u8) -> [__m512i; 2] {
        // SAFETY: as the trait asks.
        unsafe { halves(_mm512_set1_epi32(from.cast::<i32>().read_unaligned())) }
    }

    #[inline(always)]
    unsafe fn weave(rows: [*const u8; QUAD]) -> [__m512i; 2] {
        // SAFETY: as the trait asks.
        unsafe { halves(weave(rows)) }
    }

    #[inline(always)]
    unsafe fn add_products(self, pixels: [__m512i; 2], weights: [__m512i; 2]) -> Self {
        // SAFETY: as the trait asks.
        unsafe {
            let first = _mm512_madd_epi16(pixels[0], weights[0]);
            let second = _mm512_madd_epi16(pixels[1], weights[1]);
            Self(_mm512_add_epi32(self.0, _mm512_add_epi32(first, second)))
        }
    }

    #[inline(always)]
    unsafe fn values(self) -> Avx512 {
        // SAFETY: as the trait asks.
        Avx512(unsafe { _mm512_cvtepi32_ps(self.0) })
    }
}

/// The bytes with an even number and those with an odd one, in 16 bits each.
#[inline(always)]
unsafe fn halves(quads: __m512i) -> [__m512i; 2] {
    // SAFETY: the caller's, see `Sums`.
    unsafe { [_mm512_and_si512(quads, _mm512_set1_epi16(0xff)), _mm512_srli_epi16::<8>(quads)] }
}

// SAFETY: plain wrappers; the caller of each method vouches for the instruction set and the pointers.
unsafe impl Bytes for Avx512 {
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()))) })
    }

    #[inline(always)]
    unsafe fn store_bytes(self, zero: i32, to: *mut u8) {
        // SAFETY: as the trait asks.
        unsafe {
            let whole = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(zero));
            _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(whole));
        }
    }
}
