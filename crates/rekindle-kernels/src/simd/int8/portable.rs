use super::{Bytes, QUAD, Sums};
use crate::simd::{Portable, Vector};

const LANES: usize = Portable::LANES;

/// 8 sums in plain Rust: the reference, and what runs where no other set is there.
#[derive(Clone, Copy)]
pub(crate) struct Quads([i32; LANES]);

// SAFETY: needs no instruction set; the caller of each method vouches for the pointers.
unsafe impl Sums for Quads {
    type Values = Portable;
    const SHIFT: i32 = 0;
    type Pixels = [[u8; QUAD]; LANES];
    type Weights = [[i8; QUAD]; LANES];

    #[inline(always)]
    unsafe fn load(from: *const i32) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { from.cast::<[i32; LANES]>().read() })
    }

    #[inline(always)]
    unsafe fn load_weights(from: *const i8) -> Self::Weights {
        // SAFETY: as the trait asks.
        unsafe { from.cast::<Self::Weights>().read() }
    }

    #[inline(always)]
    unsafe fn splat(from: *const u8) -> Self::Pixels {
        // SAFETY: as the trait asks.
        [unsafe { from.cast::<[u8; QUAD]>().read() }; LANES]
    }

    #[inline(always)]
    unsafe fn weave(rows: [*const u8; QUAD]) -> Self::Pixels {
        // SAFETY: as the trait asks.
        std::array::from_fn(|lane| rows.map(|row| unsafe { row.add(lane).read() }))
    }

    #[inline(always)]
    unsafe fn add_products(self, pixels: Self::Pixels, weights: Self::Weights) -> Self {
        Self(std::array::from_fn(|lane| {
            let both = pixels[lane].into_iter().zip(weights[lane]);
            both.fold(self.0[lane], |sum, (pixel, weight)| {
                sum.wrapping_add(i32::from(pixel) * i32::from(weight))
            })
        }))
    }

    #[inline(always)]
    unsafe fn values(self) -> Portable {
        Portable(self.0.map(|sum| sum as f32))
    }
}

// SAFETY: needs no instruction set; the caller of each method vouches for the pointers.
unsafe impl Bytes for Portable {
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        // SAFETY: as the trait asks.
        Self(unsafe { from.cast::<[u8; LANES]>().read() }.map(f32::from))
    }

    #[inline(always)]
    unsafe fn store_bytes(self, zero: i32, to: *mut u8) {
        let bytes = self.0.map(|value| (value.round_ties_even() as i32 + zero) as u8);
        // SAFETY: as the trait asks.
        unsafe { to.cast::<[u8; LANES]>().write(bytes) }
    }
}
