//! What each pixel of a resized line is made of, in TensorFlow's numbers (`tensorflow/core/kernels/image/`).
//!
//! Weights are f32 and are computed in TensorFlow's order: where it rounds, an answer in better numbers is another one.

use serde::{Deserialize, Serialize};

/// How pixels between pixels are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// The pixel next to it.
    Nearest,
    /// A straight line between two pixels.
    Bilinear,
    /// Keys's cubic convolution of four pixels.
    Bicubic,
    /// The mean of what the new pixel covers.
    Area,
    /// A windowed sinc over three pixels on each side.
    Lanczos3,
    /// A windowed sinc over five pixels on each side.
    Lanczos5,
    /// A bell over one and a half pixels on each side; Keras 2 only.
    Gaussian,
    /// Mitchell and Netravali's cubic; Keras 2 only.
    MitchellCubic,
}

impl Interpolation {
    /// Keras's names.
    pub const NAMES: [(&'static str, Self); 8] = [
        ("nearest", Self::Nearest),
        ("bilinear", Self::Bilinear),
        ("bicubic", Self::Bicubic),
        ("area", Self::Area),
        ("lanczos3", Self::Lanczos3),
        ("lanczos5", Self::Lanczos5),
        ("gaussian", Self::Gaussian),
        ("mitchellcubic", Self::MitchellCubic),
    ];

    /// Keras's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        let known = Self::NAMES.iter().find(|(_, known)| *known == self);
        known.map_or("bilinear", |(name, _)| name)
    }

    /// The interpolation of this name in Keras.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, found)| *found)
    }
}

/// The pixels that one pixel of a resized line is the weighted sum of.
#[derive(Debug, Clone, PartialEq)]
pub struct Taps {
    /// The first of them.
    pub first: usize,
    /// Their weights.
    pub weights: Vec<f32>,
}

/// The taps of each pixel of a line that is resized from `input` to `output` pixels; both are at least 1. `antialias` has
/// all pixels count where a line shrinks.
#[must_use]
pub fn taps(
    interpolation: Interpolation,
    antialias: bool,
    input: usize,
    output: usize,
) -> Vec<Taps> {
    let scale = input as f32 / output as f32;
    let each = |f: &dyn Fn(usize) -> Taps| (0..output).map(f).collect();
    match (interpolation, antialias) {
        (Interpolation::Nearest, _) => each(&|x| nearest(x, scale, input)),
        (Interpolation::Area, _) => each(&|x| area(x, scale, input)),
        (Interpolation::Bilinear, false) => each(&|x| bilinear(x, scale, input)),
        (Interpolation::Bicubic, false) => each(&|x| bicubic(x, scale, input)),
        (Interpolation::Bilinear, true) => spans(input, output, antialias, 1.0, &triangle),
        (Interpolation::Bicubic, true) => spans(input, output, antialias, 2.0, &keys_cubic),
        (Interpolation::Lanczos3, _) => spans(input, output, antialias, 3.0, &|x| lanczos(x, 3.0)),
        (Interpolation::Lanczos5, _) => spans(input, output, antialias, 5.0, &|x| lanczos(x, 5.0)),
        (Interpolation::Gaussian, _) => spans(input, output, antialias, 1.5, &gaussian),
        (Interpolation::MitchellCubic, _) => spans(input, output, antialias, 2.0, &mitchell_cubic),
    }
}

/// This pixel of a line of `input`, or the nearest that there is.
#[must_use]
pub fn bounded(pixel: f32, input: usize) -> usize {
    (pixel.max(0.0) as usize).min(input - 1)
}

/// `ResizeNearestNeighbor` with half-pixel centers.
fn nearest(x: usize, scale: f32, input: usize) -> Taps {
    Taps { first: bounded(((x as f32 + 0.5) * scale).floor(), input), weights: vec![1.0] }
}

/// `ResizeBilinear` with half-pixel centers.
fn bilinear(x: usize, scale: f32, input: usize) -> Taps {
    let place = (x as f32 + 0.5) * scale - 0.5;
    let (lower, upper) = (bounded(place.floor(), input), bounded(place.ceil(), input));
    let share = place - place.floor();
    let weights = if lower == upper { vec![1.0] } else { vec![1.0 - share, share] };
    Taps { first: lower, weights }
}

/// `ResizeBicubic` with half-pixel centers: Keys's kernel, from a table of 1024 steps.
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

/// `ScaleAndTranslate`: a kernel around each resized pixel, stretched where antialiasing shrinks a line.
fn spans(
    input: usize,
    output: usize,
    antialias: bool,
    radius: f32,
    kernel: &dyn Fn(f32) -> f32,
) -> Vec<Taps> {
    let inverse = 1.0 / (output as f32 / input as f32);
    let stretch = if antialias { inverse.max(1.0) } else { 1.0 };
    let per_stretch = 1.0 / stretch;
    let span = |x: usize| {
        let place = (x as f32 + 0.5) * inverse;
        if place < 0.0 || place > input as f32 {
            return Taps { first: 0, weights: Vec::new() };
        }
        let first = bounded((place - radius * stretch - 0.5).ceil(), input);
        let last = bounded((place + radius * stretch - 0.5).floor(), input);
        let weight = |pixel: usize| kernel((pixel as f32 + 0.5 - place) * per_stretch);
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

fn triangle(x: f32) -> f32 {
    (1.0 - x.abs()).max(0.0)
}

/// Keys's cubic convolution with a of -0.5.
fn keys_cubic(x: f32) -> f32 {
    match x.abs() {
        x if x >= 2.0 => 0.0,
        x if x >= 1.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
        x => ((1.5 * x - 2.5) * x) * x + 1.0,
    }
}

fn mitchell_cubic(x: f32) -> f32 {
    match x.abs() {
        x if x >= 2.0 => 0.0,
        x if x >= 1.0 => (((-7.0 / 18.0) * x + 2.0) * x - 10.0 / 3.0) * x + 16.0 / 9.0,
        x => (((7.0 / 6.0) * x - 2.0) * x) * x + 8.0 / 9.0,
    }
}

fn lanczos(x: f32, radius: f32) -> f32 {
    const PI: f32 = std::f32::consts::PI;
    match x.abs() {
        x if x > radius => 0.0,
        x if x <= 1e-3 => 1.0,
        x => radius * (PI * x).sin() * (PI * x / radius).sin() / (PI * PI * x * x),
    }
}

/// Radius 1.5, a third of which is the deviation.
fn gaussian(x: f32) -> f32 {
    const DEVIATION: f32 = 0.5;
    match x.abs() {
        x if x >= 1.5 => 0.0,
        x => (-x * x / (2.0 * DEVIATION * DEVIATION)).exp(),
    }
}
