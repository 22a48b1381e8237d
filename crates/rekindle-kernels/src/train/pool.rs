//! Pools and their gradients, image by image.

use rayon::prelude::*;

use super::conv::Geometry;

/// Calls `each` with every output pixel and the input pixels of its window that lie on the image, both by number.
fn for_each_window(geometry: &Geometry, mut each: impl FnMut(usize, &[usize])) {
    let ([height, width, _], window) = (geometry.input, geometry.window);
    let mut pixels = Vec::new();
    for y in 0..geometry.output[0] {
        for x in 0..geometry.output[1] {
            pixels.clear();
            for ky in 0..window.kernel[0] {
                for kx in 0..window.kernel[1] {
                    let row = (y * window.stride[0] + ky * window.dilation[0])
                        .checked_sub(window.before[0]);
                    let column = (x * window.stride[1] + kx * window.dilation[1])
                        .checked_sub(window.before[1]);
                    if let (Some(row), Some(column)) = (row, column)
                        && row < height
                        && column < width
                    {
                        pixels.push(row * width + column);
                    }
                }
            }
            each(y * geometry.output[1] + x, &pixels);
        }
    }
}

/// Pairs of one image's input and output.
fn images<'a>(
    geometry: &Geometry,
    from: &'a [f32],
    to: &'a mut [f32],
    turned: bool,
) -> impl IndexedParallelIterator<Item = (&'a [f32], &'a mut [f32])> {
    let (input, output) = (geometry.input.iter().product(), geometry.output.iter().product());
    let (from_size, to_size) = if turned { (output, input) } else { (input, output) };
    from.par_chunks(from_size).zip(to.par_chunks_mut(to_size))
}

/// The share of each of the values under a window; padding may count as zeros.
fn share(geometry: &Geometry, counts_padding: bool, pixels: usize) -> f32 {
    let [height, width] = geometry.window.kernel;
    1.0 / if counts_padding { height * width } else { pixels.max(1) } as f32
}

/// The mean of each window.
pub(super) fn average(geometry: &Geometry, counts_padding: bool, x: &[f32], out: &mut [f32]) {
    let channels = geometry.input[2];
    images(geometry, x, out, false).for_each(|(x, out)| {
        for_each_window(geometry, |output, pixels| {
            let to = &mut out[output * channels..][..channels];
            to.fill(0.0);
            for pixel in pixels {
                to.iter_mut().zip(&x[pixel * channels..]).for_each(|(to, x)| *to += x);
            }
            let share = share(geometry, counts_padding, pixels.len());
            to.iter_mut().for_each(|to| *to *= share);
        });
    });
}

/// The gradient of [`average`].
pub(super) fn average_backward(
    geometry: &Geometry,
    counts_padding: bool,
    dy: &[f32],
    dx: &mut [f32],
) {
    let channels = geometry.input[2];
    images(geometry, dy, dx, true).for_each(|(dy, dx)| {
        dx.fill(0.0);
        for_each_window(geometry, |output, pixels| {
            let from = &dy[output * channels..][..channels];
            let share = share(geometry, counts_padding, pixels.len());
            for pixel in pixels {
                let to = &mut dx[pixel * channels..][..channels];
                to.iter_mut().zip(from).for_each(|(to, dy)| *to += dy * share);
            }
        });
    });
}

/// The place of a maximum of nothing.
const NOWHERE: u32 = u32::MAX;

/// The maximum of each window, and the pixel that it is of: the first one, as in TensorFlow.
pub(super) fn maximum(geometry: &Geometry, x: &[f32], out: &mut [f32], positions: &mut [u32]) {
    let channels = geometry.input[2];
    let size = geometry.output.iter().product();
    let each = images(geometry, x, out, false).zip(positions.par_chunks_mut(size));
    each.for_each(|((x, out), positions)| {
        for_each_window(geometry, |output, pixels| {
            let to = &mut out[output * channels..][..channels];
            let at = &mut positions[output * channels..][..channels];
            if pixels.is_empty() {
                to.fill(f32::MIN);
                at.fill(NOWHERE);
            }
            for (index, &pixel) in pixels.iter().enumerate() {
                let from = &x[pixel * channels..][..channels];
                for ((to, at), &x) in to.iter_mut().zip(at.iter_mut()).zip(from) {
                    if index == 0 || x > *to {
                        (*to, *at) = (x, pixel as u32);
                    }
                }
            }
        });
    });
}

/// The gradient of [`maximum`].
pub(super) fn maximum_backward(geometry: &Geometry, dy: &[f32], positions: &[u32], dx: &mut [f32]) {
    let channels = geometry.input[2];
    let size = geometry.output.iter().product();
    let each = images(geometry, dy, dx, true).zip(positions.par_chunks(size));
    each.for_each(|((dy, dx), positions)| {
        dx.fill(0.0);
        for (index, (dy, &pixel)) in dy.iter().zip(positions).enumerate() {
            if pixel != NOWHERE {
                dx[pixel as usize * channels + index % channels] += dy;
            }
        }
    });
}
