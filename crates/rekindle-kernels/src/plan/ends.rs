//! The ends of a plan: an image comes in as it was given, and the output goes out as the caller wants it. Threads share both,
//! since for a small network they take as long as a layer.

use std::ops::Range;

use rekindle_nn::Shape;

use super::Plan;

/// One image.
#[derive(Clone, Copy)]
pub(super) enum Image<'a> {
    /// `[3, height, width]`, preprocessed.
    Values(&'a [f32]),
    /// `[height, width, 3]`, as decoded.
    Bytes(&'a [u8], &'a ByteScale),
}

/// What bytes of a photo become before the first layer: its preprocessing.
#[derive(Debug, Clone, PartialEq)]
pub struct ByteScale {
    /// The values that bytes have in each of the network's channels.
    pub values: [[f32; 256]; 3],
    /// Which of red, green and blue each of the network's channels takes.
    pub source: [usize; 3],
}

/// Channels that go out together: a cache line of each pixel.
const TOGETHER: usize = 16;

impl Plan {
    /// Writes some rows of an image, counted with the first layer's padding, to `to`, which begins with the first of them.
    pub(super) fn place_rows(&self, image: Image<'_>, rows: Range<usize>, to: &mut [f32]) {
        let (height, width, channels) = match self.input_shape {
            Shape::Map { height, width, channels } => (height, width, channels),
            Shape::Flat(count) => (1, 1, count),
        };
        let [above, left] = self.input_at;
        let stride = self.input.stride;
        let lines = to.chunks_exact_mut(self.input.width * stride);
        for (row, line) in rows.zip(lines) {
            let Some(y) = row.checked_sub(above).filter(|&y| y < height) else {
                line.fill(0.0);
                continue;
            };
            let (before, rest) = line.split_at_mut(left * stride);
            let (pixels, after) = rest.split_at_mut(width * stride);
            before.fill(0.0);
            after.fill(0.0);
            match image {
                Image::Values(image) if channels == 3 && stride == 3 => {
                    let plane = |channel| image[(channel * height + y) * width..][..width].iter();
                    let colors = plane(0).zip(plane(1)).zip(plane(2));
                    let pixels = pixels.as_chunks_mut::<3>().0.iter_mut();
                    for (pixel, ((&a, &b), &c)) in pixels.zip(colors) {
                        *pixel = [a, b, c];
                    }
                }
                Image::Values(image) => {
                    for channel in 0..channels {
                        let plane = &image[(channel * height + y) * width..][..width];
                        for (pixel, &value) in pixels.chunks_exact_mut(stride).zip(plane) {
                            pixel[channel] = value;
                        }
                    }
                }
                Image::Bytes(photo, scale) => {
                    let length = width * channels;
                    let bytes = photo[y * length..][..length].chunks_exact(3);
                    for (pixel, bytes) in pixels.chunks_exact_mut(stride).zip(bytes) {
                        for (channel, value) in pixel[..channels].iter_mut().enumerate() {
                            let byte = bytes[scale.source[channel]];
                            *value = scale.values[channel][usize::from(byte)];
                        }
                    }
                }
            }
            if let Some(scales) = &self.input_scale {
                for pixel in pixels.chunks_exact_mut(stride) {
                    for (value, [scale, shift]) in pixel.iter_mut().zip(scales) {
                        *value = *value * scale + shift;
                    }
                }
            }
        }
    }

    /// Writes some channels of the output, `[channels][pixels]`, to `to`, which begins with the first of them.
    pub(super) fn take_channels(&self, result: &[f32], channels: Range<usize>, to: &mut [f32]) {
        let (pixels, stride) = (self.output.pixels(), self.output.stride);
        let mut start = channels.start;
        for planes in to.chunks_mut(TOGETHER * pixels) {
            let count = planes.len() / pixels;
            for pixel in 0..pixels {
                let values = &result[pixel * stride + start..][..count];
                for (value, plane) in values.iter().zip(planes.chunks_exact_mut(pixels)) {
                    plane[pixel] = *value;
                }
            }
            start += count;
        }
    }
}
