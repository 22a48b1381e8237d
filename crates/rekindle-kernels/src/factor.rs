//! What goes with each type of numbers that products multiply.

use std::cell::RefCell;

use half::bf16;

use crate::int8::{Ends, Scaling};
use crate::ir::Number;

/// A number that products have as left factors.
pub(crate) trait Factor: Number {
    /// The right factors.
    type Weight: Copy + Send + Sync + 'static;
    /// What products are added up in.
    type Sum: Copy;
    /// The numbers of shortcuts.
    type Residual: Number;
    /// What a tile needs to make numbers of its sums.
    type Scaling: Copy;
    /// What a product keeps for that, of all its columns.
    type Ends: Send + Sync;
    /// What the sums of all columns begin with.
    fn begin<'a>(bias: &'a [f32], ends: &'a Self::Ends) -> &'a [Self::Sum];
    /// For the columns from this one on.
    fn scaling(ends: &Self::Ends, column: usize) -> Self::Scaling;
    /// What a pixel outside of the image is, in a product without zeros of its own.
    fn outside(zeros: &[f32], ends: &Self::Ends) -> *const Self;
    /// Runs with pointers that the thread keeps the memory of.
    fn with_pointers(run: impl FnOnce(&mut Vec<*const Self>));
}

/// One whose products are numbers as they are.
pub(crate) trait Float:
    Factor<Weight = Self, Sum = f32, Residual = f32, Scaling = (), Ends = ()>
{
}

impl<T: Factor<Weight = T, Sum = f32, Residual = f32, Scaling = (), Ends = ()>> Float for T {}

/// Memory for pointers to a type.
macro_rules! with_pointers {
    ($number:ty) => {
        fn with_pointers(run: impl FnOnce(&mut Vec<*const Self>)) {
            thread_local! {
                static POINTERS: RefCell<Vec<*const $number>> = const { RefCell::new(Vec::new()) };
            }
            POINTERS.with_borrow_mut(run);
        }
    };
}

/// Sums of these are `f32`, and what is written.
macro_rules! floats {
    ($($number:ty)+) => {$(
        impl Factor for $number {
            type Weight = Self;
            type Sum = f32;
            type Residual = f32;
            type Scaling = ();
            type Ends = ();

            fn begin<'a>(bias: &'a [f32], (): &'a ()) -> &'a [f32] {
                bias
            }

            fn scaling((): &(), _: usize) {}

            fn outside(zeros: &[f32], (): &()) -> *const Self {
                // No element has other bits for zero, or more bytes.
                zeros.as_ptr().cast()
            }

            with_pointers!($number);
        }
    )+};
}

floats!(f32 bf16);

impl Factor for u8 {
    type Weight = i8;
    type Sum = i32;
    type Residual = Self;
    type Scaling = Scaling;
    type Ends = Ends;

    fn begin<'a>(_: &'a [f32], ends: &'a Ends) -> &'a [i32] {
        &ends.bias
    }

    fn scaling(ends: &Ends, column: usize) -> Scaling {
        ends.scaling(column)
    }

    fn outside(_: &[f32], ends: &Ends) -> *const Self {
        ends.outside.as_ptr()
    }

    with_pointers!(u8);
}
