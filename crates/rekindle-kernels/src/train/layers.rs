//! Layers that move or scale values: padding, concatenation, global pools.

use rayon::prelude::*;

/// Copies `count` values from each pixel of `from` to each of `to`, which lie `from_step` and `to_step` apart.
pub(super) fn copy_channels(
    from: &[f32],
    from_step: usize,
    to: &mut [f32],
    to_step: usize,
    count: usize,
) {
    let pixels = from.par_chunks(from_step).zip(to.par_chunks_mut(to_step)).with_min_len(256);
    pixels.for_each(|(from, to)| to[..count].copy_from_slice(&from[..count]));
}

/// The image's values inside of a padded one.
pub(super) fn inner_rows(
    inner: [usize; 3],
    outer: [usize; 3],
    before: [usize; 2],
) -> impl Iterator<Item = (std::ops::Range<usize>, std::ops::Range<usize>)> {
    let [height, width, channels] = inner;
    (0..height).map(move |y| {
        let here = y * width * channels;
        let there = ((y + before[0]) * outer[1] + before[1]) * channels;
        (here..here + width * channels, there..there + width * channels)
    })
}

/// The mean of each channel over an image's pixels.
pub(super) fn global_average(x: &[f32], channels: usize, pixels: usize, out: &mut [f32]) {
    let images = x.par_chunks(pixels * channels).zip(out.par_chunks_mut(channels));
    images.for_each(|(x, out)| {
        out.fill(0.0);
        for pixel in x.chunks_exact(channels) {
            out.iter_mut().zip(pixel).for_each(|(out, x)| *out += x);
        }
        out.iter_mut().for_each(|out| *out /= pixels as f32);
    });
}

/// The gradient of [`global_average`].
pub(super) fn global_average_backward(dy: &[f32], channels: usize, pixels: usize, dx: &mut [f32]) {
    let images = dy.par_chunks(channels).zip(dx.par_chunks_mut(pixels * channels));
    images.for_each(|(dy, dx)| {
        for pixel in dx.chunks_exact_mut(channels) {
            pixel.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = dy / pixels as f32);
        }
    });
}

/// `[batch][channels][pixels]`, as Burn and the engine's plans give maps, to `[batch][pixels][channels]`.
pub(super) fn channels_last(from: &[f32], channels: usize, pixels: usize, to: &mut [f32]) {
    let images = from.par_chunks(channels * pixels).zip(to.par_chunks_mut(channels * pixels));
    images.for_each(|(from, to)| {
        for (pixel, to) in to.chunks_exact_mut(channels).enumerate() {
            for (channel, to) in to.iter_mut().enumerate() {
                *to = from[channel * pixels + pixel];
            }
        }
    });
}

/// The inverse of [`channels_last`].
pub(super) fn channels_first(from: &[f32], channels: usize, pixels: usize, to: &mut [f32]) {
    // A matrix transposed twice is itself: the same copy, with channels and pixels exchanged.
    channels_last(from, pixels, channels, to);
}
