//! Values element by element, sizes of 1 stretched.

use rayon::prelude::*;
use rekindle_nn::ops::MergeKind;

/// Height, width and channels of an input, and its values for the whole batch.
pub(super) type Operand<'a> = ([usize; 3], &'a [f32]);

/// Calls `each` with every value's place in an image of `shape`, and in one of `from`, which is stretched to it.
fn for_each(shape: [usize; 3], from: [usize; 3], mut each: impl FnMut(usize, usize)) {
    let [height, width, channels] = shape;
    let step = |axis: usize, size: usize| if from[axis] == 1 { 0 } else { size };
    let steps = [step(0, from[1] * from[2]), step(1, from[2]), step(2, 1)];
    let mut at = 0;
    for y in 0..height {
        for x in 0..width {
            for channel in 0..channels {
                each(at, y * steps[0] + x * steps[1] + channel * steps[2]);
                at += 1;
            }
        }
    }
}

fn two(kind: MergeKind, a: f32, b: f32) -> f32 {
    match kind {
        MergeKind::Add | MergeKind::Average => a + b,
        MergeKind::Subtract => a - b,
        MergeKind::Multiply => a * b,
        // Comparisons that keep a NaN of either.
        MergeKind::Maximum => {
            if a >= b || a.is_nan() {
                a
            } else {
                b
            }
        }
        MergeKind::Minimum => {
            if a <= b || a.is_nan() {
                a
            } else {
                b
            }
        }
    }
}

/// What becomes of the inputs.
pub(super) fn forward(kind: MergeKind, inputs: &[Operand<'_>], shape: [usize; 3], out: &mut [f32]) {
    let count: usize = shape.iter().product();
    let share = 1.0 / inputs.len() as f32;
    out.par_chunks_mut(count).enumerate().for_each(|(image, out)| {
        for (number, &(from, values)) in inputs.iter().enumerate() {
            let size: usize = from.iter().product();
            let values = &values[image * size..][..size];
            match (number, from == shape) {
                (0, true) => out.copy_from_slice(values),
                (0, false) => for_each(shape, from, |at, other| out[at] = values[other]),
                (_, true) => {
                    out.iter_mut().zip(values).for_each(|(to, value)| *to = two(kind, *to, *value));
                }
                (_, false) => {
                    for_each(shape, from, |at, other| out[at] = two(kind, out[at], values[other]));
                }
            }
        }
        if kind == MergeKind::Average {
            out.iter_mut().for_each(|value| *value *= share);
        }
    });
}

/// The gradient of one of the inputs. Where several are the largest, the first one is.
pub(super) fn backward(
    kind: MergeKind,
    inputs: &[Operand<'_>],
    number: usize,
    shape: [usize; 3],
    y: &[f32],
    dy: &[f32],
) -> Vec<f32> {
    let (from, own) = inputs[number];
    let (count, size): (usize, usize) = (shape.iter().product(), from.iter().product());
    let share = 1.0 / inputs.len() as f32;
    let mut dx = vec![0.0; own.len()];
    let images = dx.par_chunks_mut(size).zip(dy.par_chunks(count)).enumerate();
    images.for_each(|(image, (dx, dy))| {
        // A factor of each value.
        let mut gradients = dy.to_vec();
        let of = |other: usize| {
            let (from, values) = inputs[other];
            let size: usize = from.iter().product();
            (from, &values[image * size..][..size])
        };
        match kind {
            MergeKind::Add => {}
            MergeKind::Subtract if number == 0 => {}
            MergeKind::Subtract => gradients.iter_mut().for_each(|gradient| *gradient = -*gradient),
            MergeKind::Average => gradients.iter_mut().for_each(|gradient| *gradient *= share),
            MergeKind::Multiply => {
                for other in (0..inputs.len()).filter(|&other| other != number) {
                    let (from, values) = of(other);
                    for_each(shape, from, |at, other| gradients[at] *= values[other]);
                }
            }
            MergeKind::Maximum | MergeKind::Minimum => {
                let y = &y[image * count..][..count];
                let (from, values) = of(number);
                for_each(shape, from, |at, own| {
                    if values[own] != y[at] {
                        gradients[at] = 0.0;
                    }
                });
                for earlier in 0..number {
                    let (from, values) = of(earlier);
                    for_each(shape, from, |at, other| {
                        if values[other] == y[at] {
                            gradients[at] = 0.0;
                        }
                    });
                }
            }
        }
        if from == shape {
            dx.copy_from_slice(&gradients);
        } else {
            for_each(shape, from, |at, own| dx[own] += gradients[at]);
        }
    });
    dx
}
