//! Full convolutions as matrix products: 1 x 1 ones of the map as it lies, others of patches copied image by image.

use rayon::prelude::*;

use super::matmul::{Matrix, multiply};
use super::{PIECE, Window};

/// A convolution of maps `[height, width, channels]`.
#[derive(Clone, Copy)]
pub(super) struct Geometry {
    pub window: Window,
    pub input: [usize; 3],
    pub output: [usize; 3],
}

impl Geometry {
    fn is_plain(&self) -> bool {
        let Window { kernel, stride, before, .. } = self.window;
        (kernel, stride, before) == ([1, 1], [1, 1], [0, 0]) && self.input[..2] == self.output[..2]
    }

    pub fn counts(&self) -> (usize, usize) {
        (self.input.iter().product(), self.output.iter().product())
    }

    pub fn pixels(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Values of a patch.
    fn depth(&self) -> usize {
        self.window.kernel[0] * self.window.kernel[1] * self.input[2]
    }

    /// Calls `each` with every pair of a patch's run of channels and the pixel that it is of, both by their first
    /// value's number; a pixel outside of the image is nothing.
    pub fn for_each_run(&self, mut each: impl FnMut(usize, Option<usize>)) {
        let [height, width, channels] = self.input;
        let Window { kernel, stride, dilation, before } = self.window;
        let mut at = 0;
        for y in 0..self.output[0] {
            for x in 0..self.output[1] {
                for ky in 0..kernel[0] {
                    let row = (y * stride[0] + ky * dilation[0]).checked_sub(before[0]);
                    let row = row.filter(|&y| y < height);
                    for kx in 0..kernel[1] {
                        let column = (x * stride[1] + kx * dilation[1]).checked_sub(before[1]);
                        let column = column.filter(|&x| x < width);
                        let pixel = row.zip(column).map(|(y, x)| (y * width + x) * channels);
                        each(at, pixel);
                        at += channels;
                    }
                }
            }
        }
    }

    fn patches(&self, image: &[f32], patches: &mut Vec<f32>) {
        let channels = self.input[2];
        patches.resize(self.pixels() * self.depth(), 0.0);
        self.for_each_run(|at, pixel| match pixel {
            Some(pixel) => {
                patches[at..][..channels].copy_from_slice(&image[pixel..][..channels]);
            }
            None => patches[at..][..channels].fill(0.0),
        });
    }
}

/// `out = x * kernel + bias`.
pub(super) fn forward(
    geometry: &Geometry,
    x: &[f32],
    kernel: &[f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let (from, to) = geometry.counts();
    let (depth, outputs) = (geometry.depth(), geometry.output[2]);
    let weights = Matrix::new(kernel, depth, outputs);
    let pieces = x.par_chunks(from * PIECE).zip(out.par_chunks_mut(to * PIECE));
    pieces.for_each_init(Vec::new, |patches, (x, out)| {
        if let Some(bias) = bias {
            out.chunks_exact_mut(outputs).for_each(|pixel| pixel.copy_from_slice(bias));
        }
        if geometry.is_plain() {
            let rows = Matrix::new(x, x.len() / depth, depth);
            return multiply(out, rows, weights, bias.is_some(), false);
        }
        for (image, out) in x.chunks_exact(from).zip(out.chunks_exact_mut(to)) {
            geometry.patches(image, patches);
            let rows = Matrix::new(patches, geometry.pixels(), depth);
            multiply(out, rows, weights, bias.is_some(), false);
        }
    });
}

/// The input's gradient: `dx = dy * kernel'`.
pub(super) fn backward_input(geometry: &Geometry, dy: &[f32], kernel: &[f32], dx: &mut [f32]) {
    let (from, to) = geometry.counts();
    let (depth, outputs) = (geometry.depth(), geometry.output[2]);
    let weights = Matrix::new(kernel, depth, outputs).transposed();
    let pieces = dy.par_chunks(to * PIECE).zip(dx.par_chunks_mut(from * PIECE));
    pieces.for_each_init(Vec::new, |patches, (dy, dx)| {
        if geometry.is_plain() {
            return multiply(
                dx,
                Matrix::new(dy, dy.len() / outputs, outputs),
                weights,
                false,
                false,
            );
        }
        for (dy, dx) in dy.chunks_exact(to).zip(dx.chunks_exact_mut(from)) {
            patches.resize(geometry.pixels() * depth, 0.0);
            let rows = Matrix::new(dy, geometry.pixels(), outputs);
            multiply(patches, rows, weights, false, false);
            dx.fill(0.0);
            let channels = geometry.input[2];
            geometry.for_each_run(|at, pixel| {
                if let Some(pixel) = pixel {
                    let to = &mut dx[pixel..][..channels];
                    to.iter_mut().zip(&patches[at..]).for_each(|(to, value)| *to += value);
                }
            });
        }
    });
}

/// Adds the kernel's gradient: `dw += x' * dy`.
pub(super) fn backward_kernel(geometry: &Geometry, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    let (from, to) = geometry.counts();
    let (depth, outputs) = (geometry.depth(), geometry.output[2]);
    let pieces = x.par_chunks(from * PIECE).zip(dy.par_chunks(to * PIECE));
    let parts: Vec<Vec<f32>> = pieces
        .map_init(Vec::new, |patches, (x, dy)| {
            let mut part = vec![0.0; dw.len()];
            if geometry.is_plain() {
                let rows = Matrix::new(x, x.len() / depth, depth).transposed();
                let dy = Matrix::new(dy, dy.len() / outputs, outputs);
                multiply(&mut part, rows, dy, false, false);
                return part;
            }
            for (index, (image, dy)) in x.chunks_exact(from).zip(dy.chunks_exact(to)).enumerate() {
                geometry.patches(image, patches);
                let rows = Matrix::new(patches, geometry.pixels(), depth).transposed();
                let dy = Matrix::new(dy, geometry.pixels(), outputs);
                multiply(&mut part, rows, dy, index > 0, false);
            }
            part
        })
        .collect();
    add_all(dw, &parts);
}

/// Adds the bias's gradient: the sum over all pixels.
pub(super) fn backward_bias(dy: &[f32], db: &mut [f32]) {
    let channels = db.len();
    let size = (1 << 16) / channels.max(1) * channels;
    let parts: Vec<Vec<f32>> = dy
        .par_chunks(size.max(channels))
        .map(|dy| {
            let mut part = vec![0.0; channels];
            for pixel in dy.chunks_exact(channels) {
                part.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += value);
            }
            part
        })
        .collect();
    add_all(db, &parts);
}

/// Adds vectors, one after the other.
pub(super) fn add_all(to: &mut [f32], parts: &[Vec<f32>]) {
    for part in parts {
        to.iter_mut().zip(part).for_each(|(to, value)| *to += value);
    }
}
