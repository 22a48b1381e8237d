use std::str::FromStr;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::VisionError;

/// How an image is brought to the network's size. Each gives the pixels of a Keras function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// PIL's nearest neighbour: `load_img` and `ImageDataGenerator` by default.
    Nearest,
    /// PIL's bilinear, which averages when it shrinks: `load_img(interpolation="bilinear")`.
    #[default]
    Bilinear,
    /// TensorFlow's bilinear, which does not: `image_dataset_from_directory` by default.
    TfBilinear,
}

impl Resize {
    /// The name that files and commands use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nearest => "nearest",
            Self::Bilinear => "bilinear",
            Self::TfBilinear => "tf-bilinear",
        }
    }

    /// Whether pixels stay whole numbers.
    #[must_use]
    pub fn is_whole(self) -> bool {
        self != Self::TfBilinear
    }
}

impl FromStr for Resize {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        [Self::Nearest, Self::Bilinear, Self::TfBilinear]
            .into_iter()
            .find(|method| method.name() == name)
            .ok_or_else(|| {
                format!("unknown resize `{name}`, expected nearest, bilinear or tf-bilinear")
            })
    }
}

/// An RGB image at the network's size, `[height, width, 3]`, from 0 to 255.
#[derive(Debug, Clone, PartialEq)]
pub struct Pixels {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Whole numbers, but for [`Resize::TfBilinear`], which Keras does not round either.
    pub values: Vec<f32>,
}

impl From<&RgbImage> for Pixels {
    fn from(image: &RgbImage) -> Self {
        let values = image.as_raw().iter().map(|&value| f32::from(value)).collect();
        Self { width: image.width() as usize, height: image.height() as usize, values }
    }
}

/// Resizes to `width` x `height`, stretching.
///
/// # Errors
/// When either size is nothing.
pub fn resize(
    image: &RgbImage,
    width: usize,
    height: usize,
    method: Resize,
) -> Result<Pixels, VisionError> {
    let from = (image.width() as usize, image.height() as usize);
    if from.0.min(from.1).min(width).min(height) == 0 {
        return Err(VisionError::Size { from, to: (width, height) });
    }
    Ok(match method {
        _ if from == (width, height) => Pixels::from(image),
        Resize::Nearest => nearest(image, width, height),
        Resize::Bilinear => bilinear(image, width, height),
        Resize::TfBilinear => tf_bilinear(image, width, height),
    })
}

/// Pillow's `ImagingScaleAffine` (`src/libImaging/Geometry.c`): positions are summed up, not multiplied.
fn nearest(image: &RgbImage, width: usize, height: usize) -> Pixels {
    let positions = |from: u32, to: usize| -> Vec<usize> {
        let step = f64::from(from) / to as f64;
        let mut position = step * 0.5;
        let next = |_| {
            let here = position as usize;
            position += step;
            here.min(from as usize - 1)
        };
        (0..to).map(next).collect()
    };
    let (columns, rows) = (positions(image.width(), width), positions(image.height(), height));
    let (source, stride) = (image.as_raw(), image.width() as usize * 3);
    let mut values = Vec::with_capacity(width * height * 3);
    for row in rows {
        for &column in &columns {
            let pixel = &source[row * stride + column * 3..][..3];
            values.extend(pixel.iter().map(|&value| f32::from(value)));
        }
    }
    Pixels { width, height, values }
}

/// Bits behind the point of Pillow's fixed-point weights (`src/libImaging/Resample.c`).
const PRECISION: u32 = 32 - 8 - 2;

/// For each output position, the first input position and the weights from there on.
fn pillow_weights(from: usize, to: usize) -> Vec<(usize, Vec<i32>)> {
    let scale = from as f64 / to as f64;
    // Shrinking widens the triangle, so that every input counts.
    let support = scale.max(1.0);
    let weights = |position: usize| {
        let center = (position as f64 + 0.5) * scale;
        let start = ((center - support + 0.5) as i64).max(0) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let triangle =
            |input: usize| (1.0 - ((input as f64 - center + 0.5) / support).abs()).max(0.0);
        let exact: Vec<f64> = (start..end).map(triangle).collect();
        let total: f64 = exact.iter().sum();
        let fixed = |weight: &f64| (0.5 + weight / total * f64::from(1 << PRECISION)) as i32;
        (start, exact.iter().map(fixed).collect())
    };
    (0..to).map(weights).collect()
}

/// Pillow's 8-bit bilinear: columns first, rounded to bytes, then rows. Pillow 13 turns the order round
/// for images that shrink much more in height, and is then within a level of this.
fn bilinear(image: &RgbImage, width: usize, height: usize) -> Pixels {
    let from = (image.width() as usize, image.height() as usize);
    let narrow = resize_columns(image.as_raw(), from.0, width);
    let bytes = resize_rows(&narrow, width, from.1, height);
    Pixels { width, height, values: bytes.into_iter().map(f32::from).collect() }
}

fn round(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (PRECISION - 1);

/// Brings every row from `from` to `to` pixels.
fn resize_columns(bytes: &[u8], from: usize, to: usize) -> Vec<u8> {
    let columns = pillow_weights(from, to);
    let mut resized = Vec::with_capacity(bytes.len() / from * to);
    for row in bytes.chunks_exact(from * 3) {
        for (start, weights) in &columns {
            let mut sums = [HALF; 3];
            for (pixel, weight) in row[start * 3..].chunks_exact(3).zip(weights) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(value) * weight;
                }
            }
            resized.extend(sums.map(round));
        }
    }
    resized
}

/// Brings every column of an image `width` wide from `from` to `to` pixels.
fn resize_rows(bytes: &[u8], width: usize, from: usize, to: usize) -> Vec<u8> {
    let stride = width * 3;
    let mut resized = Vec::with_capacity(stride * to);
    let mut sums = vec![0; stride];
    for (start, weights) in pillow_weights(from, to) {
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

/// TensorFlow's `ResizeBilinear` with half-pixel centers (`core/kernels/image/resize_bilinear_op.cc`).
fn tf_bilinear(image: &RgbImage, width: usize, height: usize) -> Pixels {
    let positions = |from: u32, to: usize| -> Vec<(usize, usize, f32)> {
        let scale = from as f32 / to as f32;
        let position = |index: usize| {
            let at = (index as f32 + 0.5) * scale - 0.5;
            let floor = at.floor();
            let lower = floor.max(0.0) as usize;
            let upper = (at.ceil().max(0.0) as usize).min(from as usize - 1);
            (lower, upper, at - floor)
        };
        (0..to).map(position).collect()
    };
    let (columns, rows) = (positions(image.width(), width), positions(image.height(), height));
    let (source, stride) = (image.as_raw(), image.width() as usize * 3);
    let at = |row: usize, column: usize, channel: usize| {
        f32::from(source[row * stride + column * 3 + channel])
    };
    let mut values = Vec::with_capacity(width * height * 3);
    for &(top, bottom, down) in &rows {
        for &(left, right, across) in &columns {
            for channel in 0..3 {
                let mix = |row| {
                    let (a, b) = (at(row, left, channel), at(row, right, channel));
                    a + (b - a) * across
                };
                let (upper, lower) = (mix(top), mix(bottom));
                values.push(upper + (lower - upper) * down);
            }
        }
    }
    Pixels { width, height, values }
}
