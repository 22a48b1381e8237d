//! Pillow's resizes of 8-bit images, to the byte (`src/libImaging/Resample.c` and `Geometry.c`).

use std::f64::consts::PI;

use super::{Resize, Source};

/// Bits behind the point of the fixed-point weights.
const PRECISION: u32 = 32 - 8 - 2;
const HALF: i32 = 1 << (PRECISION - 1);

pub(super) fn resize<const CHANNELS: usize>(
    source: Source<'_>,
    width: usize,
    height: usize,
    method: Resize,
) -> Vec<u8> {
    let Some(filter) = Filter::of(method) else {
        return nearest::<CHANNELS>(source, width, height);
    };
    // Colors below full transparency must not bleed: Pillow resizes them by their opacity.
    let faded = (CHANNELS == 4).then(|| faded(source.bytes));
    let bytes = faded.as_deref().unwrap_or(source.bytes);
    let narrow =
        (source.width != width).then(|| columns::<CHANNELS>(bytes, source.width, width, &filter));
    let bytes = narrow.as_deref().unwrap_or(bytes);
    let low = (source.height != height)
        .then(|| rows(bytes, width * CHANNELS, source.height, height, &filter));
    let resized = low.or(narrow).or(faded).unwrap_or_else(|| source.bytes.to_vec());
    if CHANNELS == 4 { unfaded(resized) } else { resized }
}

/// `ImagingScaleAffine`: positions are summed up, not multiplied.
fn nearest<const CHANNELS: usize>(source: Source<'_>, width: usize, height: usize) -> Vec<u8> {
    let positions = |from: usize, to: usize| -> Vec<usize> {
        let step = from as f64 / to as f64;
        let mut position = step * 0.5;
        let next = |_| {
            let here = position as usize;
            position += step;
            here.min(from - 1)
        };
        (0..to).map(next).collect()
    };
    let (columns, rows) = (positions(source.width, width), positions(source.height, height));
    let stride = source.width * CHANNELS;
    let mut bytes = Vec::with_capacity(width * height * CHANNELS);
    for row in rows {
        for &column in &columns {
            bytes.extend(&source.bytes[row * stride + column * CHANNELS..][..CHANNELS]);
        }
    }
    bytes
}

/// A window, and how far it reaches in pixels where nothing shrinks.
struct Filter {
    window: fn(f64) -> f64,
    reach: f64,
}

impl Filter {
    fn of(method: Resize) -> Option<Self> {
        let (window, reach): (fn(f64) -> f64, f64) = match method {
            Resize::Box => (boxed, 0.5),
            Resize::Bilinear => (triangle, 1.0),
            Resize::Hamming => (hamming, 1.0),
            Resize::Bicubic => (bicubic, 2.0),
            Resize::Lanczos => (lanczos, 3.0),
            _ => return None,
        };
        Some(Self { window, reach })
    }

    /// For each output position, the first input position and the weights from there on.
    fn weights(&self, from: usize, to: usize) -> Vec<(usize, Vec<i32>)> {
        let scale = from as f64 / to as f64;
        // Shrinking widens the window, so that every input counts.
        let stretch = scale.max(1.0);
        let (support, per_stretch) = (self.reach * stretch, 1.0 / stretch);
        let weights = |position: usize| {
            let center = (position as f64 + 0.5) * scale;
            let start = ((center - support + 0.5) as i64).max(0) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            let place = |input: usize| (input as f64 - center + 0.5) * per_stretch;
            let exact: Vec<f64> = (start..end).map(|input| (self.window)(place(input))).collect();
            let total: f64 = exact.iter().sum();
            let fixed = |weight: &f64| {
                let share = if total == 0.0 { *weight } else { weight / total };
                let half = if share < 0.0 { -0.5 } else { 0.5 };
                (half + share * f64::from(1 << PRECISION)) as i32
            };
            (start, exact.iter().map(fixed).collect())
        };
        (0..to).map(weights).collect()
    }
}

fn boxed(x: f64) -> f64 {
    if x > -0.5 && x <= 0.5 { 1.0 } else { 0.0 }
}

fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

fn hamming(x: f64) -> f64 {
    match x.abs() {
        0.0 => 1.0,
        x if x >= 1.0 => 0.0,
        x => {
            let x = x * PI;
            // Pillow's constants are of single precision.
            x.sin() / x * (f64::from(0.54_f32) + f64::from(0.46_f32) * x.cos())
        }
    }
}

fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    match x.abs() {
        x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
        _ => 0.0,
    }
}

fn lanczos(x: f64) -> f64 {
    let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) };
    if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }
}

fn round(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// Brings every row from `from` to `to` pixels. Pillow 12 resizes columns first, rounded to bytes, then rows;
/// 13 turns the order round for images that shrink much more in height, and is then within a level of this.
fn columns<const CHANNELS: usize>(
    bytes: &[u8],
    from: usize,
    to: usize,
    filter: &Filter,
) -> Vec<u8> {
    let columns = filter.weights(from, to);
    let mut resized = Vec::with_capacity(bytes.len() / from * to);
    for row in bytes.chunks_exact(from * CHANNELS) {
        let (pixels, _) = row.as_chunks::<CHANNELS>();
        for (start, weights) in &columns {
            let mut sums = [HALF; CHANNELS];
            for (pixel, weight) in pixels[*start..].iter().zip(weights) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(value) * weight;
                }
            }
            resized.extend(sums.map(round));
        }
    }
    resized
}

/// Brings every column of an image with rows of `stride` bytes from `from` to `to` pixels.
fn rows(bytes: &[u8], stride: usize, from: usize, to: usize, filter: &Filter) -> Vec<u8> {
    let mut resized = Vec::with_capacity(stride * to);
    let mut sums = vec![0; stride];
    for (start, weights) in filter.weights(from, to) {
        sums.fill(HALF);
        for (row, weight) in bytes[start * stride..].chunks_exact(stride).zip(weights) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * weight;
            }
        }
        resized.extend(sums.iter().copied().map(round));
    }
    resized
}

/// Colors times opacity: Pillow's `RGBA` to `RGBa`.
fn faded(bytes: &[u8]) -> Vec<u8> {
    let times = |value: u8, alpha: u8| {
        let product = u32::from(value) * u32::from(alpha) + 128;
        (((product >> 8) + product) >> 8) as u8
    };
    let (pixels, _) = bytes.as_chunks::<4>();
    let fade = |&[r, g, b, a]: &[u8; 4]| [times(r, a), times(g, a), times(b, a), a];
    pixels.iter().flat_map(fade).collect()
}

/// Colors over opacity: Pillow's `RGBa` to `RGBA`.
fn unfaded(bytes: Vec<u8>) -> Vec<u8> {
    let (pixels, _) = bytes.as_chunks::<4>();
    let restore = |&[r, g, b, a]: &[u8; 4]| {
        let over = |value: u8| match a {
            0 | 255 => value,
            _ => (u32::from(value) * 255 / u32::from(a)).min(255) as u8,
        };
        [over(r), over(g), over(b), a]
    };
    pixels.iter().flat_map(restore).collect()
}
