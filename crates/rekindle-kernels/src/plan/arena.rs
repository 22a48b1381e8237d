//! The memory of one image's activations while it runs.

use super::Workspace;
use crate::ir::Number;
use crate::passes::Place;
use crate::simd::Buffer;
use crate::view::View;

/// An arena that the threads of one step share; each writes places of its own.
#[derive(Clone, Copy)]
pub(super) struct Arena {
    base: *mut u8,
    /// Bytes.
    length: usize,
}

// SAFETY: threads of one step write disjoint rows or panels, and read values of earlier steps only.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Workspace {
    pub fn arena(&mut self) -> Arena {
        Arena::of(&mut self.bytes)
    }
}

impl Arena {
    /// One without memory, in which nothing lies.
    pub const NONE: Self = Self { base: std::ptr::null_mut(), length: 0 };

    /// The memory of these values.
    pub fn of<T: Copy>(values: &mut [T]) -> Self {
        Self { length: size_of_val(values), base: values.as_mut_ptr().cast() }
    }

    /// A pointer to `count` elements from the byte `offset` on.
    fn at<T: Number>(self, offset: usize, count: usize) -> *mut T {
        debug_assert!(offset + count * size_of::<T>() <= self.length);
        // SAFETY: plans give offsets within the arena only, which the tests of `allocate` check.
        let at = unsafe { self.base.add(offset) }.cast::<T>();
        debug_assert!(at.is_aligned());
        at
    }

    /// A pointer to a place, whose element is `T`.
    fn place<T: Number>(self, place: &Place) -> *mut T {
        debug_assert_eq!(place.element, T::ELEMENT);
        self.at(place.offset, place.extent())
    }

    /// The values of a place that no thread writes now.
    pub fn read<T: Number>(&self, place: &Place) -> &[T] {
        // SAFETY: within the arena, where lines of the cache begin with buffers, so that they are aligned, and any bits are
        // a number; steps never write what they read but through `write`.
        unsafe { std::slice::from_raw_parts(self.place(place), place.extent()) }
    }

    /// A place as the kernels take it.
    pub fn view<T: Number>(self, place: &Place) -> View<T> {
        let Place { height, width, channels, stride, .. } = *place;
        View { base: self.place(place), height, width, channels, stride }
    }

    /// `count` values from the byte `offset` on, for this thread alone.
    #[expect(clippy::mut_from_ref, reason = "the arena is shared; its parts are not")]
    pub fn write<T: Number>(&self, offset: usize, count: usize) -> &mut [T] {
        // SAFETY: within the arena, aligned as for `read`; the caller is the only one that touches these values.
        unsafe { std::slice::from_raw_parts_mut(self.at(offset, count), count) }
    }
}

/// Bytes as numbers.
pub(super) fn numbers<T: Number>(bytes: &mut Buffer<u8>) -> &mut [T] {
    let count = bytes.len() / size_of::<T>();
    // SAFETY: within the buffer, which begins with a line of the cache, and any bits are a number.
    unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), count) }
}
