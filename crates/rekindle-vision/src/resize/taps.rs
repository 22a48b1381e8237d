//! What each pixel of a resized line is made of, in TensorFlow's numbers. Weights are f32 and are computed in
//! TensorFlow's order: where it rounds, an answer in better numbers is another one.

use super::Resize;

/// The pixels that one pixel of a resized line is the weighted sum of.
pub(super) struct Taps {
    /// The first of them.
    pub first: usize,
    /// Their weights.
    pub weights: Vec<f32>,
}

/// The taps of each pixel of a line that is resized from `input` to `output` pixels; both are at least 1.
pub(super) fn taps(method: Resize, input: usize, output: usize) -> Vec<Taps> {
    let scale = input as f32 / output as f32;
    let each = |f: &dyn Fn(usize) -> Taps| (0..output).map(f).collect();
    match method {
        Resize::TfBicubic => each(&|x| bicubic(x, scale, input)),
        Resize::TfArea => each(&|x| area(x, scale, input)),
        Resize::TfLanczos3 => spans(input, output, 3.0, &|x| lanczos(x, 3.0)),
        Resize::TfLanczos5 => spans(input, output, 5.0, &|x| lanczos(x, 5.0)),
        Resize::TfGaussian => spans(input, output, 1.5, &gaussian),
        Resize::TfMitchellCubic => spans(input, output, 2.0, &mitchell_cubic),
        // `ResizeNearestNeighbor`; the others are not TensorFlow's, or not made of taps.
        _ => each(&|x| Taps {
            first: bounded(((x as f32 + 0.5) * scale).floor(), input),
            weights: vec![1.0],
        }),
    }
}

/// This pixel, or the nearest there is.
pub(super) fn bounded(pixel: f32, input: usize) -> usize {
    (pixel.max(0.0) as usize).min(input - 1)
}

/// `ResizeBicubic`: Keys's kernel, from a table of 1024 steps.
fn bicubic(x: usize, scale: f32, input: usize) -> Taps {
    const STEPS: f32 = 1024.0;
    let place = (x as f32 + 0.5) * scale - 0.5;
    let before = place.floor();
    let step = ((place - before) * STEPS).round_ties_even();
    // The table is made of f64.
    let near = |step: f32| {
        let x = f64::from(step / STEPS);
        ((1.5 * x - 2.5) * x * x + 1.0) as f32
    };
    let far = |step: f32| {
        let x = f64::from(step / STEPS + 1.0);
        (((-0.5 * x + 2.5) * x - 4.0) * x + 2.0) as f32
    };
    let weights = [far(step), near(step), near(STEPS - step), far(STEPS - step)];
    // What is outside of the line has no weight, and the others share it.
    let mut kept = Taps { first: 0, weights: Vec::new() };
    for (offset, weight) in [-1.0, 0.0, 1.0, 2.0].into_iter().zip(weights) {
        let pixel = before + offset;
        if pixel >= 0.0 && pixel < input as f32 {
            if kept.weights.is_empty() {
                kept.first = pixel as usize;
            }
            kept.weights.push(weight);
        }
    }
    normalized(kept)
}

/// `ResizeArea`: the share of each pixel that lies under the resized one.
fn area(x: usize, scale: f32, input: usize) -> Taps {
    let (start, end) = (x as f32 * scale, (x as f32 + 1.0) * scale);
    let (first, last) = (start.floor(), end.ceil());
    let mut taps = Taps { first: bounded(first, input), weights: Vec::new() };
    let mut pixel = first;
    while pixel < last {
        let share = match (pixel < start, pixel + 1.0 > end) {
            (true, true) => scale,
            (true, false) => pixel + 1.0 - start,
            (false, true) => end - pixel,
            (false, false) => 1.0,
        };
        // What rounding moves behind the line counts as its last pixel.
        let place = bounded(pixel, input) - taps.first;
        match taps.weights.get_mut(place) {
            Some(weight) => *weight += share / scale,
            None => taps.weights.push(share / scale),
        }
        pixel += 1.0;
    }
    taps
}

/// `ScaleAndTranslate` without antialiasing: a kernel around each resized pixel.
fn spans(input: usize, output: usize, radius: f32, kernel: &dyn Fn(f32) -> f32) -> Vec<Taps> {
    let inverse = 1.0 / (output as f32 / input as f32);
    let span = |x: usize| {
        let place = (x as f32 + 0.5) * inverse;
        if place > input as f32 {
            return Taps { first: 0, weights: Vec::new() };
        }
        let first = bounded((place - radius - 0.5).ceil(), input);
        let last = bounded((place + radius - 0.5).floor(), input);
        let weight = |pixel: usize| kernel((pixel as f32 + 0.5 - place).abs());
        normalized(Taps { first, weights: (first..=last).map(weight).collect() })
    };
    (0..output).map(span).collect()
}

/// Weights with a sum of 1, where they have one.
fn normalized(mut taps: Taps) -> Taps {
    let sum: f32 = taps.weights.iter().sum();
    if sum.abs() >= 1000.0 * f32::MIN_POSITIVE {
        let share = 1.0 / sum;
        taps.weights.iter_mut().for_each(|weight| *weight *= share);
    } else {
        taps.weights.fill(0.0);
    }
    taps
}

fn mitchell_cubic(x: f32) -> f32 {
    match x {
        x if x >= 2.0 => 0.0,
        x if x >= 1.0 => (((-7.0 / 18.0) * x + 2.0) * x - 10.0 / 3.0) * x + 16.0 / 9.0,
        x => (((7.0 / 6.0) * x - 2.0) * x) * x + 8.0 / 9.0,
    }
}

fn lanczos(x: f32, radius: f32) -> f32 {
    const PI: f32 = std::f32::consts::PI;
    match x {
        x if x > radius => 0.0,
        x if x <= 1e-3 => 1.0,
        x => radius * (PI * x).sin() * (PI * x / radius).sin() / (PI * PI * x * x),
    }
}

/// Radius 1.5, a third of which is the deviation.
fn gaussian(x: f32) -> f32 {
    const DEVIATION: f32 = 0.5;
    if x >= 1.5 { 0.0 } else { (-x * x / (2.0 * DEVIATION * DEVIATION)).exp() }
}
