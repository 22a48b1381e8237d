//! Batch normalization with the clamp behind it, and clamps alone: one pass over the map, forward and backward.

use rayon::prelude::*;

use super::conv::add_all;
use crate::vectorized::{fma, vectorized};

/// Values that a thread takes at once, a whole number of pixels.
fn piece(channels: usize) -> usize {
    ((1 << 15) / channels.max(1)).max(1) * channels
}

/// `out = clamp(x * scale + shift)`, for each channel.
pub(super) fn forward(x: &[f32], scale: &[f32], shift: &[f32], range: [f32; 2], out: &mut [f32]) {
    let size = piece(scale.len());
    let pieces = x.par_chunks(size).zip(out.par_chunks_mut(size));
    pieces.for_each(|(x, out)| affine(x, scale, shift, range, out));
}

vectorized! {
    fn affine(x: &[f32], scale: &[f32], shift: &[f32], range: [f32; 2], out: &mut [f32]) {
        let (channels, [low, high]) = (scale.len(), range);
        for (x, out) in x.chunks_exact(channels).zip(out.chunks_exact_mut(channels)) {
            for channel in 0..channels {
                let value = fma::<FUSED>(x[channel], scale[channel], shift[channel]);
                // Comparisons that leave a NaN as it is.
                let value = if value < low { low } else { value };
                out[channel] = if value > high { high } else { value };
            }
        }
    }
}

/// What the backward pass of a normalization sums up, for each channel.
pub(super) struct Sums {
    /// Of the gradients that pass the clamp: beta's gradient.
    pub plain: Vec<f32>,
    /// Of those, each times the normalized value: gamma's gradient.
    pub weighted: Vec<f32>,
}

/// Takes the clamp's share out of `dy`, and sums up: the normalized value is `(x - mean) * inverse`.
pub(super) fn backward_sums(
    x: &[f32],
    y: &[f32],
    [mean, inverse]: [&[f32]; 2],
    range: [f32; 2],
    dy: &mut [f32],
) -> Sums {
    let channels = mean.len();
    let size = piece(channels);
    let pieces = x.par_chunks(size).zip(y.par_chunks(size)).zip(dy.par_chunks_mut(size));
    let parts: Vec<(Vec<f32>, Vec<f32>)> = pieces
        .map(|((x, y), dy)| {
            let (mut plain, mut weighted) = (vec![0.0; channels], vec![0.0; channels]);
            masked_sums(x, y, mean, inverse, range, dy, &mut plain, &mut weighted);
            (plain, weighted)
        })
        .collect();
    let (plain, weighted): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    let mut sums = Sums { plain: vec![0.0; channels], weighted: vec![0.0; channels] };
    add_all(&mut sums.plain, &plain);
    add_all(&mut sums.weighted, &weighted);
    sums
}

vectorized! {
    fn masked_sums(x: &[f32], y: &[f32], mean: &[f32], inverse: &[f32], range: [f32; 2], dy: &mut [f32], plain: &mut [f32], weighted: &mut [f32]) {
        let (channels, [low, high]) = (mean.len(), range);
        let pixels = x.chunks_exact(channels).zip(y.chunks_exact(channels));
        for ((x, y), dy) in pixels.zip(dy.chunks_exact_mut(channels)) {
            for channel in 0..channels {
                let passes = y[channel] > low && y[channel] < high;
                let gradient = if passes { dy[channel] } else { 0.0 };
                dy[channel] = gradient;
                plain[channel] += gradient;
                let normalized = (x[channel] - mean[channel]) * inverse[channel];
                weighted[channel] = fma::<FUSED>(gradient, normalized, weighted[channel]);
            }
        }
    }
}

/// The input's gradient where the statistics are fixed: `dy * scale`, in place.
pub(super) fn backward_fixed(scale: &[f32], dy: &mut [f32]) {
    dy.par_chunks_mut(piece(scale.len())).for_each(|dy| {
        for pixel in dy.chunks_exact_mut(scale.len()) {
            pixel.iter_mut().zip(scale).for_each(|(value, scale)| *value *= scale);
        }
    });
}

/// The input's gradient where the statistics are the batch's, in place:
/// `scale * (dy - sum(dy) / n - normalized * sum(dy * normalized) / n)`.
pub(super) fn backward_batch(
    x: &[f32],
    [mean, inverse]: [&[f32]; 2],
    scale: &[f32],
    sums: &Sums,
    dy: &mut [f32],
) {
    let channels = scale.len();
    let count = (x.len() / channels) as f32;
    let size = piece(channels);
    let constant: Vec<f32> = sums.plain.iter().map(|sum| sum / count).collect();
    let weighted: Vec<f32> = sums.weighted.iter().map(|sum| sum / count).collect();
    x.par_chunks(size).zip(dy.par_chunks_mut(size)).for_each(|(x, dy)| {
        for (x, dy) in x.chunks_exact(channels).zip(dy.chunks_exact_mut(channels)) {
            for channel in 0..channels {
                let normalized = (x[channel] - mean[channel]) * inverse[channel];
                let own = dy[channel] - constant[channel] - normalized * weighted[channel];
                dy[channel] = own * scale[channel];
            }
        }
    });
}

/// Mean and biased variance of each channel, in f64.
pub(super) fn moments(x: &[f32], channels: usize) -> (Vec<f64>, Vec<f64>) {
    let count = (x.len() / channels) as f64;
    let sum = |value: &(dyn Fn(usize, f32) -> f64 + Sync)| -> Vec<f64> {
        let parts: Vec<Vec<f64>> = x
            .par_chunks(piece(channels))
            .map(|x| {
                let mut part = vec![0.0; channels];
                for pixel in x.chunks_exact(channels) {
                    for (channel, (sum, &x)) in part.iter_mut().zip(pixel).enumerate() {
                        *sum += value(channel, x);
                    }
                }
                part
            })
            .collect();
        let mut total = vec![0.0; channels];
        for part in parts {
            total.iter_mut().zip(part).for_each(|(total, part)| *total += part);
        }
        total.iter().map(|total| total / count).collect()
    };
    let mean = sum(&|_, x| f64::from(x));
    let variance = sum(&|channel, x| (f64::from(x) - mean[channel]).powi(2));
    (mean, variance)
}

/// The gradient of a clamp, in place: what is inside of the range passes.
pub(super) fn backward_clamp(y: &[f32], [low, high]: [f32; 2], dy: &mut [f32]) {
    y.par_chunks(1 << 15).zip(dy.par_chunks_mut(1 << 15)).for_each(|(y, dy)| {
        for (&y, dy) in y.iter().zip(dy) {
            *dy = if y > low && y < high { *dy } else { 0.0 };
        }
    });
}
