//! Layers in plain loops, an image at a time: forward by those of plans, and their gradients.

use rayon::prelude::*;
use rekindle_nn::ops::{Lrn, Resizing};

use crate::plain::{Axes, LEAST_SQUARE, Norm, Plain, lrn_span};
use crate::view::View;

/// Height, width and channels.
type Sizes = [usize; 3];

/// What becomes of each image.
pub(super) fn forward(plain: &Plain, x: &[f32], from: Sizes, out: &mut [f32], to: Sizes) {
    let images = x.par_chunks(from.iter().product());
    images.zip(out.par_chunks_mut(to.iter().product())).for_each(|(x, out)| {
        let view = |base: *mut f32, [height, width, channels]: Sizes| View {
            base,
            height,
            width,
            channels,
            stride: channels,
        };
        // SAFETY: views of all of an image, as the shapes of the layer's input and output say; the output is borrowed
        // for writing, and the input, which is only read, is another buffer.
        unsafe {
            let input = view(x.as_ptr().cast_mut(), from);
            plain.run(&[input], view(out.as_mut_ptr(), to), 0..to[0]);
        }
    });
}

/// The gradient before it, from the one behind.
pub(super) fn backward(
    plain: &Plain,
    [x, y, dy]: [&[f32]; 3],
    [from, to]: [Sizes; 2],
    dx: &mut [f32],
) {
    let (size, out) = (from.iter().product(), to.iter().product());
    let images = x.par_chunks(size).zip(y.par_chunks(out)).zip(dy.par_chunks(out));
    images.zip(dx.par_chunks_mut(size)).for_each(|(((x, y), dy), dx)| match plain {
        Plain::Softmax(axes) => softmax(axes, to, y, dy, dx),
        Plain::Norm(norm) => normalize(norm, to, [x, y, dy], dx),
        Plain::Lrn(lrn) => response(lrn, to[2], x, dy, dx),
        Plain::Scale(scale, _) => {
            let [_, width, channels] = to;
            let pixels = dx.chunks_exact_mut(channels).zip(dy.chunks_exact(channels));
            for (pixel, (dx, dy)) in pixels.enumerate() {
                let scale = scale.pixel(pixel / width, pixel % width);
                for (channel, (dx, dy)) in dx.iter_mut().zip(dy).enumerate() {
                    *dx = dy * scale[channel % scale.len()];
                }
            }
        }
        Plain::Crop([top, left]) => {
            dx.fill(0.0);
            let line = to[1] * to[2];
            for (row, dy) in dy.chunks_exact(line).enumerate() {
                let first = ((row + top) * from[1] + left) * from[2];
                dx[first..first + line].copy_from_slice(dy);
            }
        }
        Plain::Permute(axes) => {
            let steps = [from[1] * from[2], from[2], 1];
            let [a, b, c] = axes.map(|axis| steps[axis]);
            let mut values = dy.iter();
            for row in 0..to[0] {
                for column in 0..to[1] {
                    for (channel, dy) in (0..to[2]).zip(&mut values) {
                        dx[row * a + column * b + channel * c] = *dy;
                    }
                }
            }
        }
        Plain::Resize(resizing) => resize(resizing, from, to, dy, dx),
        Plain::Reshape => dx.copy_from_slice(dy),
        Plain::Activate(_) | Plain::Merge(_) | Plain::Prelu(_) | Plain::Pad(_) | Plain::Pool(_) => {
            unreachable!("a trainer has work of its own for these")
        }
    });
}

/// Calls `f` with each value's place, and its statistic among those of its rows.
fn for_each(axes: &Axes, [height, width, channels]: Sizes, mut f: impl FnMut(usize, usize)) {
    let cells = axes.cells(width, channels);
    for row in 0..height {
        let first = if axes.over[0] { 0 } else { row * cells };
        for x in 0..width {
            for channel in 0..channels {
                let at = (row * width + x) * channels + channel;
                f(at, first + axes.cell(x, channel, channels));
            }
        }
    }
}

/// How many statistics an image has.
fn cells(axes: &Axes, [height, width, channels]: Sizes) -> usize {
    axes.cells(width, channels) * if axes.over[0] { 1 } else { height }
}

fn softmax(axes: &Axes, shape: Sizes, y: &[f32], dy: &[f32], dx: &mut [f32]) {
    let mut inner = vec![0.0; cells(axes, shape)];
    for_each(axes, shape, |at, cell| inner[cell] += y[at] * dy[at]);
    for_each(axes, shape, |at, cell| dx[at] = y[at] * (dy[at] - inner[cell]));
}

/// Of a normalization without gamma and beta, so that `y` is what it makes of `x`.
fn normalize(norm: &Norm, shape: Sizes, [x, y, dy]: [&[f32]; 3], dx: &mut [f32]) {
    let axes = &norm.axes;
    let (count, share) = (cells(axes, shape), 1.0 / axes.count(shape) as f64);
    let mut mean = vec![0.0; count];
    let mut square = vec![0.0; count];
    if norm.epsilon.is_some() {
        for_each(axes, shape, |at, cell| mean[cell] += f64::from(x[at]) * share);
    }
    for_each(axes, shape, |at, cell| square[cell] += (f64::from(x[at]) - mean[cell]).powi(2));
    let (mut plain, mut weighted) = (vec![0.0; count], vec![0.0; count]);
    for_each(axes, shape, |at, cell| {
        plain[cell] += f64::from(dy[at]);
        weighted[cell] += f64::from(dy[at]) * f64::from(y[at]);
    });
    for_each(axes, shape, |at, cell| {
        let (dy, y) = (f64::from(dy[at]), f64::from(y[at]));
        let gradient = match norm.epsilon {
            Some(epsilon) => {
                let own = dy - (plain[cell] + y * weighted[cell]) * share;
                own / (square[cell] * share + epsilon).sqrt()
            }
            None if square[cell] > LEAST_SQUARE => (dy - y * weighted[cell]) / square[cell].sqrt(),
            None => dy / LEAST_SQUARE.sqrt(),
        };
        dx[at] = gradient as f32;
    });
}

fn response(lrn: &Lrn, channels: usize, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    let share = lrn.alpha / lrn.size as f64;
    let pixels = x.chunks_exact(channels).zip(dy.chunks_exact(channels));
    let mut sums = vec![0.0; channels];
    for ((x, dy), dx) in pixels.zip(dx.chunks_exact_mut(channels)) {
        for (channel, sum) in sums.iter_mut().enumerate() {
            let around = &x[lrn_span(lrn, channel, channels)];
            let squares: f64 = around.iter().map(|&value| f64::from(value).powi(2)).sum();
            *sum = lrn.bias + share * squares;
        }
        let mut gradients: Vec<f64> =
            (0..channels).map(|c| f64::from(dy[c]) * sums[c].powf(-lrn.beta)).collect();
        for channel in 0..channels {
            let own = f64::from(dy[channel]) * f64::from(x[channel]);
            let gradient = own * sums[channel].powf(-lrn.beta - 1.0) * -2.0 * lrn.beta * share;
            for other in lrn_span(lrn, channel, channels) {
                gradients[other] += gradient * f64::from(x[other]);
            }
        }
        dx.iter_mut().zip(&gradients).for_each(|(dx, gradient)| *dx = *gradient as f32);
    }
}

fn resize(resizing: &Resizing, from: Sizes, to: Sizes, dy: &[f32], dx: &mut [f32]) {
    let channels = to[2];
    let [rows, columns] = resizing.weights([from[0], from[1]]);
    dx.fill(0.0);
    for (y, (top, down)) in rows.iter().enumerate() {
        for (x, (left, right)) in columns.iter().enumerate() {
            let gradient = &dy[(y * to[1] + x) * channels..][..channels];
            for (row, first) in down.iter().zip(*top..) {
                for (column, second) in right.iter().zip(*left..) {
                    let pixel = &mut dx[(first * from[1] + second) * channels..][..channels];
                    let weight = row * column;
                    pixel
                        .iter_mut()
                        .zip(gradient)
                        .for_each(|(to, gradient)| *to += weight * gradient);
                }
            }
        }
    }
}
