//! Values in memory as kernels take them.

/// An activation in memory, of elements `T`: `[height][width][stride]`, of which `channels` are used. Valid for what it
/// says, and written by one thread only where it is written.
#[derive(Clone, Copy)]
pub(crate) struct View<T = f32> {
    pub base: *mut T,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub stride: usize,
}

impl<T: Copy> View<T> {
    /// Memory as `[height][width][channels]`.
    pub fn of(values: &mut [T], [height, width, channels]: [usize; 3]) -> Self {
        debug_assert!(height * width * channels <= values.len());
        Self { base: values.as_mut_ptr(), height, width, channels, stride: channels }
    }

    /// A pixel, counted row by row.
    pub fn pixel(self, index: usize) -> *mut T {
        debug_assert!(index < self.height * self.width);
        // SAFETY: within the view, which is valid.
        unsafe { self.base.add(index * self.stride) }
    }

    /// A pixel's channels.
    ///
    /// # Safety
    /// Nobody may write them meanwhile.
    pub unsafe fn values<'a>(self, index: usize) -> &'a [T] {
        // SAFETY: within the view, which is valid, and the caller's.
        unsafe { std::slice::from_raw_parts(self.pixel(index), self.channels) }
    }

    /// A pixel's channels, for this thread alone.
    ///
    /// # Safety
    /// Nobody else may have them meanwhile.
    pub unsafe fn values_mut<'a>(self, index: usize) -> &'a mut [T] {
        // SAFETY: within the view, which is valid, and the caller's.
        unsafe { std::slice::from_raw_parts_mut(self.pixel(index), self.channels) }
    }

    /// What begins at a pixel.
    pub fn starting_at(self, index: usize) -> Self {
        self.from(index, 0)
    }

    /// What begins at a pixel's channel.
    pub fn from(self, index: usize, channel: usize) -> Self {
        Self { base: self.pixel(index).wrapping_add(channel), ..self }
    }
}
