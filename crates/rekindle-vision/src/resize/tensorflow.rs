//! TensorFlow's resizes, with half-pixel centers and without antialiasing (`core/kernels/image/`).

use rekindle_pixels::{Interpolation, Taps, bounded, taps};

use super::Source;

pub(super) fn resize<const CHANNELS: usize>(
    source: Source<'_>,
    width: usize,
    height: usize,
    interpolation: Interpolation,
) -> Vec<f32> {
    if interpolation == Interpolation::Bilinear {
        return bilinear::<CHANNELS>(source, width, height);
    }
    let columns = taps(interpolation, false, source.width, width);
    let rows = taps(interpolation, false, source.height, height);
    let stride = source.width * CHANNELS;
    let mut values = Vec::with_capacity(width * height * CHANNELS);
    let mut line = vec![0.0; stride];
    for Taps { first, weights } in &rows {
        // One row of the source's width, then its columns: TensorFlow's order.
        line.fill(0.0);
        for (row, &weight) in source.bytes[first * stride..].chunks_exact(stride).zip(weights) {
            for (sum, &value) in line.iter_mut().zip(row) {
                *sum += f32::from(value) * weight;
            }
        }
        let (pixels, _) = line.as_chunks::<CHANNELS>();
        for Taps { first, weights } in &columns {
            let mut sums = [0.0; CHANNELS];
            for (pixel, &weight) in pixels[*first..].iter().zip(weights) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += value * weight;
                }
            }
            values.extend(sums);
        }
    }
    values
}

/// `ResizeBilinear`, in the order of its sums (`resize_bilinear_op.cc`).
fn bilinear<const CHANNELS: usize>(source: Source<'_>, width: usize, height: usize) -> Vec<f32> {
    let positions = |from: usize, to: usize| -> Vec<(usize, usize, f32)> {
        let scale = from as f32 / to as f32;
        let position = |index: usize| {
            let at = (index as f32 + 0.5) * scale - 0.5;
            (bounded(at.floor(), from), bounded(at.ceil(), from), at - at.floor())
        };
        (0..to).map(position).collect()
    };
    let (columns, rows) = (positions(source.width, width), positions(source.height, height));
    let (pixels, _) = source.bytes.as_chunks::<CHANNELS>();
    let mut values = Vec::with_capacity(width * height * CHANNELS);
    for &(top, bottom, down) in &rows {
        let [upper, lower] = [top, bottom].map(|row| &pixels[row * source.width..][..source.width]);
        for &(left, right, across) in &columns {
            let corners = [upper[left], upper[right], lower[left], lower[right]];
            values.extend(std::array::from_fn::<f32, CHANNELS, _>(|channel| {
                let [a, b, c, d] = corners.map(|pixel| f32::from(pixel[channel]));
                let (top, bottom) = (a + (b - a) * across, c + (d - c) * across);
                top + (bottom - top) * down
            }));
        }
    }
    values
}
