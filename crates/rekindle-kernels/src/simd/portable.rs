use super::Vector;
use super::bf16::{self, Cells};

const LANES: usize = 8;

/// 8 values in plain Rust: the reference, and what runs where no other set is there.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; LANES]);

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

impl Cells for Portable {
    #[inline(always)]
    unsafe fn dot(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|lane| {
            let ([low, high], [a_low, a_high]) =
                (bf16::values(self.0[lane]), bf16::values(a.0[lane]));
            b.0[lane] + high * a_high + low * a_low
        }))
    }

    #[inline(always)]
    unsafe fn store_cells(self, to: *mut f32) {
        for (lane, pair) in self.0.chunks_exact(2).enumerate() {
            // SAFETY: as the trait asks.
            unsafe { to.add(lane).write(bf16::cell(pair[0], pair[1])) }
        }
    }
}
