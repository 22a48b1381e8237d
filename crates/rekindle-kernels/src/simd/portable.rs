use half::bf16;

use super::{Multiply, Vector, Write};

const LANES: usize = 8;

/// 8 values in plain Rust: the reference, and what runs where no other set is there.
#[derive(Clone, Copy)]
pub(crate) struct Portable(pub(super) [f32; LANES]);

impl Portable {
    #[inline(always)]
    fn each(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|lane| f(self.0[lane], other.0[lane])))
    }
}

// SAFETY: needs no instruction set; the caller of load and store vouches for the pointers.
unsafe impl Vector for Portable {
    const LANES: usize = LANES;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: as the trait asks; an array of f32 needs no more alignment than one.
        Self(unsafe { from.cast::<[f32; LANES]>().read() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as the trait asks; an array of f32 needs no more alignment than one.
        unsafe { to.cast::<[f32; LANES]>().write(self.0) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    unsafe fn mul_add(self, a: Self, b: Self) -> Self {
        // Not fused: without the instruction that would be a call for each value.
        Self(std::array::from_fn(|lane| self.0[lane] * a.0[lane] + b.0[lane]))
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.each(other, |a, b| a + b)
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.each(other, |a, b| a * b)
    }

    #[inline(always)]
    unsafe fn at_least(self, low: Self) -> Self {
        self.each(low, |x, low| if x < low { low } else { x })
    }

    #[inline(always)]
    unsafe fn most(self, other: Self) -> Self {
        self.each(other, |x, other| if x > other || x.is_nan() { x } else { other })
    }

    #[inline(always)]
    unsafe fn at_most(self, high: Self) -> Self {
        self.each(high, |x, high| if x > high { high } else { x })
    }
}

/// Each lane's factors are the bits of a pair of bf16.
impl Multiply<bf16> for Portable {
    const DEPTH: usize = 2;
    type Factors = [u32; LANES];

    #[inline(always)]
    unsafe fn load_factors(from: *const bf16) -> [u32; LANES] {
        // SAFETY: as the trait asks, of pairs; their bits need no alignment here.
        unsafe { from.cast::<[u32; LANES]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn splat_factors(from: *const bf16) -> [u32; LANES] {
        // SAFETY: as the trait asks, of two elements; their bits need no alignment here.
        [unsafe { from.cast::<u32>().read_unaligned() }; LANES]
    }

    #[inline(always)]
    unsafe fn add_products(a: [u32; LANES], b: [u32; LANES], sum: Self) -> Self {
        let values = |pair: u32| [pair << 16, pair & 0xffff_0000].map(f32::from_bits);
        Self(std::array::from_fn(|lane| {
            let ([a_low, a_high], [b_low, b_high]) = (values(a[lane]), values(b[lane]));
            sum.0[lane] + a_high * b_high + a_low * b_low
        }))
    }
}

/// Rounds.
impl Write<bf16> for Portable {
    #[inline(always)]
    unsafe fn write(self, to: *mut bf16) {
        for (lane, value) in self.0.into_iter().enumerate() {
            // SAFETY: as the trait asks.
            unsafe { to.add(lane).write(bf16::from_f32(value)) }
        }
    }
}
