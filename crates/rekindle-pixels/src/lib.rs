//! The arithmetic of pixels that photos and networks share: resize weights in TensorFlow's numbers, and Keras's preprocessing.
//! And the folder in which both keep what can be made again.

mod cache;
mod middle;
mod preprocessing;
mod resample;
mod unknown;

pub use cache::{Kept, cache_folder, variable};
pub use middle::{Cut, Middle};
pub use preprocessing::{Linear, Preprocessing};
pub use resample::{Interpolation, Taps, bounded, taps};
pub use unknown::UnknownName;

/// An image at the network's size, `[height, width, channels]`, from 0 to 255; the windows with negative
/// sides, TensorFlow's bicubic and Lanczos, may pass a little beyond.
#[derive(Debug, Clone, PartialEq)]
pub struct Pixels {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Whole numbers where the resize makes them; otherwise Keras does not round them either.
    pub values: Vec<f32>,
}

impl Pixels {
    /// How many channels a pixel has.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.values.len() / (self.width * self.height).max(1)
    }

    /// Of bytes: `[height, width, channels]`.
    #[must_use]
    pub fn of_bytes(width: usize, height: usize, bytes: &[u8]) -> Self {
        Self { width, height, values: bytes.iter().map(|&value| f32::from(value)).collect() }
    }
}
