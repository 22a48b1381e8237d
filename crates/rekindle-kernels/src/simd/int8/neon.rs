use std::arch::aarch64::*;
use std::arch::asm;

use super::{Bytes, QUAD, Sums};
use crate::simd::Neon;

/// Four bytes, less 128, for each of four lanes.
#[inline(always)]
unsafe fn splat(from: *const u8) -> int8x16_t {
    // SAFETY: the caller's, see `Sums`.
    unsafe { signed(vreinterpretq_u8_u32(vdupq_n_u32(from.cast::<u32>().read_unaligned()))) }
}

/// Of 4 bytes of each of four rows, less 128: for each lane its byte of each row.
#[inline(always)]
unsafe fn weave(rows: [*const u8; QUAD]) -> int8x16_t {
    const BY_LANE: [u8; 16] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];
    // SAFETY: the caller's, see `Sums`.
    unsafe {
        let words = rows.map(|row| row.cast::<u32>().read_unaligned());
        let all = vreinterpretq_u8_u32(vld1q_u32(words.as_ptr()));
        signed(vqtbl1q_u8(all, vld1q_u8(BY_LANE.as_ptr())))
    }
}

#[inline(always)]
unsafe fn signed(bytes: uint8x16_t) -> int8x16_t {
    // SAFETY: the caller's, see `Sums`.
    unsafe { vreinterpretq_s8_u8(veorq_u8(bytes, vdupq_n_u8(128))) }
}

/// Sums of 4 lanes, with what adds their products.
macro_rules! sums {
    ($name:ident, $doc:literal, $add:expr) => {
        #[doc = $doc]
        #[derive(Clone, Copy)]
        pub(crate) struct $name(int32x4_t);

        // SAFETY: plain wrappers; the caller of each method vouches for the instruction set and the pointers.
        unsafe impl Sums for $name {
            type Values = Neon;
            const SHIFT: i32 = 128;
            type Pixels = int8x16_t;
            type Weights = int8x16_t;

            #[inline(always)]
            unsafe fn load(from: *const i32) -> Self {
                // SAFETY: as the trait asks.
                Self(unsafe { vld1q_s32(from) })
            }

            #[inline(always)]
            unsafe fn load_weights(from: *const i8) -> int8x16_t {
                // SAFETY: as the trait asks.
                unsafe { vld1q_s8(from) }
            }

            #[inline(always)]
            unsafe fn splat(from: *const u8) -> int8x16_t {
                // SAFETY: as the trait asks.
                unsafe { splat(from) }
            }

            #[inline(always)]
            unsafe fn weave(rows: [*const u8; QUAD]) -> int8x16_t {
                // SAFETY: as the trait asks.
                unsafe { weave(rows) }
            }

            #[inline(always)]
            unsafe fn add_products(self, pixels: int8x16_t, weights: int8x16_t) -> Self {
                let add: unsafe fn(int32x4_t, int8x16_t, int8x16_t) -> int32x4_t = $add;
                // SAFETY: as the trait asks.
                Self(unsafe { add(self.0, pixels, weights) })
            }

            #[inline(always)]
            unsafe fn values(self) -> Neon {
                // SAFETY: as the trait asks.
                Neon(unsafe { vcvtq_f32_s32(self.0) })
            }
        }
    };
}

sums!(Dot128, "4 sums: NEON with dot products.", dot);
sums!(Wide128, "4 sums: NEON, whose products of bytes have 16 bits.", wide);

/// `sdot`, for which stable Rust has no function yet.
#[inline(always)]
unsafe fn dot(mut sums: int32x4_t, pixels: int8x16_t, weights: int8x16_t) -> int32x4_t {
    // SAFETY: only registers are read and written; the caller vouches for the instruction set.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {sums:v}.4s, {pixels:v}.16b, {weights:v}.16b",
            sums = inout(vreg) sums,
            pixels = in(vreg) pixels,
            weights = in(vreg) weights,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

#[inline(always)]
unsafe fn wide(sums: int32x4_t, pixels: int8x16_t, weights: int8x16_t) -> int32x4_t {
    // SAFETY: the caller's, see `Sums`.
    unsafe {
        let low = vmull_s8(vget_low_s8(pixels), vget_low_s8(weights));
        let high = vmull_s8(vget_high_s8(pixels), vget_high_s8(weights));
        vaddq_s32(sums, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)))
    }
}

// SAFETY: plain wrappers; the caller of each method vouches for the instruction set and the pointers.
unsafe impl Bytes for Neon {
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        // SAFETY: as the trait asks.
        unsafe {
            let bytes = vreinterpret_u8_u32(vdup_n_u32(from.cast::<u32>().read_unaligned()));
            Self(vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes)))))
        }
    }

    #[inline(always)]
    unsafe fn store_bytes(self, zero: i32, to: *mut u8) {
        // SAFETY: as the trait asks.
        unsafe {
            let whole = vaddq_s32(vcvtnq_s32_f32(self.0), vdupq_n_s32(zero));
            let pairs = vmovn_s32(whole);
            let bytes = vmovn_s16(vcombine_s16(pairs, pairs));
            let word = vget_lane_u32::<0>(vreinterpret_u32_s8(bytes));
            to.cast::<u32>().write_unaligned(word);
        }
    }
}
