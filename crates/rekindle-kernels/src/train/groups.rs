//! Convolutions in groups, each as a product of its patches: for what has no kernel of its own.

use rayon::prelude::*;

use super::PIECE;
use super::conv::{Geometry, add_all};
use super::matmul::{Matrix, multiply};

/// One group's share.
#[derive(Clone, Copy)]
struct Group {
    /// First channel and count of its inputs.
    inputs: [usize; 2],
    /// First channel and count of its outputs.
    outputs: [usize; 2],
}

fn groups(geometry: &Geometry, count: usize) -> impl Iterator<Item = Group> {
    let (ins, outs) = (geometry.input[2] / count, geometry.output[2] / count);
    (0..count).map(move |group| Group { inputs: [group * ins, ins], outputs: [group * outs, outs] })
}

/// The values of a patch that one group takes.
fn depth(geometry: &Geometry, group: Group) -> usize {
    geometry.window.kernel.iter().product::<usize>() * group.inputs[1]
}

/// The patches of one group: `[pixels][tap][inputs]`.
fn patches(geometry: &Geometry, group: Group, image: &[f32], patches: &mut Vec<f32>) {
    let ([first, count], channels) = (group.inputs, geometry.input[2]);
    patches.resize(geometry.pixels() * depth(geometry, group), 0.0);
    geometry.for_each_run(|at, pixel| {
        let to = &mut patches[at / channels * count..][..count];
        match pixel {
            Some(pixel) => to.copy_from_slice(&image[pixel + first..][..count]),
            None => to.fill(0.0),
        }
    });
}

/// The columns of a kernel `[tap][inputs of a group][outputs]` that are one group's.
fn columns<'a>(geometry: &Geometry, group: Group, kernel: &'a [f32]) -> Matrix<'a> {
    let [first, count] = group.outputs;
    Matrix::strided(&kernel[first..], depth(geometry, group), count, geometry.output[2])
}

/// The gradients or outputs of one group: `[pixels][outputs]`.
fn gather(geometry: &Geometry, group: Group, dy: &[f32], to: &mut Vec<f32>) {
    let [first, count] = group.outputs;
    to.clear();
    for pixel in dy.chunks_exact(geometry.output[2]) {
        to.extend_from_slice(&pixel[first..first + count]);
    }
}

/// `out = x * kernel + bias`.
pub(super) fn forward(
    geometry: &Geometry,
    count: usize,
    x: &[f32],
    kernel: &[f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let (from, to) = geometry.counts();
    let images = x.par_chunks(from).zip(out.par_chunks_mut(to));
    images.for_each_init(<(Vec<f32>, Vec<f32>)>::default, |(rows, sums), (image, out)| {
        for group in groups(geometry, count) {
            let [first, outputs] = group.outputs;
            patches(geometry, group, image, rows);
            sums.resize(geometry.pixels() * outputs, 0.0);
            let rows = Matrix::new(rows, geometry.pixels(), depth(geometry, group));
            multiply(sums, rows, columns(geometry, group, kernel), false, false);
            let pixels = out.chunks_exact_mut(geometry.output[2]).zip(sums.chunks_exact(outputs));
            for (pixel, sums) in pixels {
                pixel[first..first + outputs].copy_from_slice(sums);
            }
        }
        if let Some(bias) = bias {
            for pixel in out.chunks_exact_mut(bias.len()) {
                pixel.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
            }
        }
    });
}

/// The input's gradient.
pub(super) fn backward_input(
    geometry: &Geometry,
    count: usize,
    dy: &[f32],
    kernel: &[f32],
    dx: &mut [f32],
) {
    let (from, to) = geometry.counts();
    let channels = geometry.input[2];
    let images = dy.par_chunks(to).zip(dx.par_chunks_mut(from));
    images.for_each_init(<(Vec<f32>, Vec<f32>)>::default, |(rows, gradients), (dy, dx)| {
        dx.fill(0.0);
        for group in groups(geometry, count) {
            let ([first, inputs], [_, outputs]) = (group.inputs, group.outputs);
            gather(geometry, group, dy, gradients);
            rows.resize(geometry.pixels() * depth(geometry, group), 0.0);
            let gradients = Matrix::new(gradients, geometry.pixels(), outputs);
            multiply(rows, gradients, columns(geometry, group, kernel).transposed(), false, false);
            geometry.for_each_run(|at, pixel| {
                if let Some(pixel) = pixel {
                    let to = &mut dx[pixel + first..][..inputs];
                    let values = &rows[at / channels * inputs..];
                    to.iter_mut().zip(values).for_each(|(to, value)| *to += value);
                }
            });
        }
    });
}

/// Adds the kernel's gradient.
pub(super) fn backward_kernel(
    geometry: &Geometry,
    count: usize,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
) {
    let (from, to) = geometry.counts();
    let pieces = x.par_chunks(from * PIECE).zip(dy.par_chunks(to * PIECE));
    let parts: Vec<Vec<f32>> = pieces
        .map(|(x, dy)| {
            let (mut rows, mut gradients, mut sums) = (Vec::new(), Vec::new(), Vec::new());
            let mut part = vec![0.0; dw.len()];
            for (image, dy) in x.chunks_exact(from).zip(dy.chunks_exact(to)) {
                for group in groups(geometry, count) {
                    let [first, outputs] = group.outputs;
                    patches(geometry, group, image, &mut rows);
                    gather(geometry, group, dy, &mut gradients);
                    let depth = depth(geometry, group);
                    sums.resize(depth * outputs, 0.0);
                    let rows = Matrix::new(&rows, geometry.pixels(), depth).transposed();
                    let gradients = Matrix::new(&gradients, geometry.pixels(), outputs);
                    multiply(&mut sums, rows, gradients, false, false);
                    let own = part.chunks_exact_mut(geometry.output[2]);
                    for (own, sums) in own.zip(sums.chunks_exact(outputs)) {
                        let own = &mut own[first..first + outputs];
                        own.iter_mut().zip(sums).for_each(|(to, value)| *to += value);
                    }
                }
            }
            part
        })
        .collect();
    add_all(dw, &parts);
}
