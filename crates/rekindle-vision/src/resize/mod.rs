//! Photos at a network's size, in the numbers of Pillow and of TensorFlow.

mod pillow;
mod tensorflow;

use image::RgbImage;
use rekindle_pixels::{Interpolation, Pixels};
use serde::{Deserialize, Serialize};

use crate::named::named;
use crate::{Channels, JpegDecoder, Photo, VisionError};

/// How an image is brought to the network's size. Each gives the pixels of a Keras function.
///
/// The first six are Pillow's, `load_img(interpolation=...)`; they average when they shrink, but for
/// [`Resize::Nearest`]. The others are TensorFlow's, `image_dataset_from_directory(interpolation=...)`; they do
/// not, but for [`Resize::TfArea`]: Keras does not turn antialiasing on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Resize {
    /// Pillow's nearest neighbour: `load_img` and `ImageDataGenerator` by default.
    Nearest,
    /// Pillow's box.
    Box,
    /// Pillow's bilinear.
    #[default]
    Bilinear,
    /// Pillow's Hamming window.
    Hamming,
    /// Pillow's bicubic.
    Bicubic,
    /// Pillow's Lanczos window, of radius 3.
    Lanczos,
    /// TensorFlow's nearest neighbour.
    TfNearest,
    /// TensorFlow's bilinear: `image_dataset_from_directory` by default.
    TfBilinear,
    /// TensorFlow's bicubic.
    TfBicubic,
    /// TensorFlow's mean of the area.
    TfArea,
    /// TensorFlow's Lanczos window, of radius 3.
    TfLanczos3,
    /// TensorFlow's Lanczos window, of radius 5.
    TfLanczos5,
    /// TensorFlow's Gaussian bell; it also softens a photo that has the size already.
    TfGaussian,
    /// TensorFlow's cubic of Mitchell and Netravali; it also softens a photo that has the size already.
    #[serde(rename = "tf-mitchellcubic")]
    TfMitchellCubic,
}

named!(
    Resize,
    "resize",
    [
        Nearest = "nearest",
        Box = "box",
        Bilinear = "bilinear",
        Hamming = "hamming",
        Bicubic = "bicubic",
        Lanczos = "lanczos",
        TfNearest = "tf-nearest",
        TfBilinear = "tf-bilinear",
        TfBicubic = "tf-bicubic",
        TfArea = "tf-area",
        TfLanczos3 = "tf-lanczos3",
        TfLanczos5 = "tf-lanczos5",
        TfGaussian = "tf-gaussian",
        TfMitchellCubic = "tf-mitchellcubic",
    ]
);

impl Resize {
    /// Whether pixels stay whole numbers.
    #[must_use]
    pub fn is_whole(self) -> bool {
        self.jpeg_decoder() == JpegDecoder::Pillow || self == Self::TfNearest
    }

    /// TensorFlow's interpolation, where it is one of its resizes.
    fn interpolation(self) -> Option<Interpolation> {
        match self {
            Self::Nearest
            | Self::Box
            | Self::Bilinear
            | Self::Hamming
            | Self::Bicubic
            | Self::Lanczos => None,
            Self::TfNearest => Some(Interpolation::Nearest),
            Self::TfBilinear => Some(Interpolation::Bilinear),
            Self::TfBicubic => Some(Interpolation::Bicubic),
            Self::TfArea => Some(Interpolation::Area),
            Self::TfLanczos3 => Some(Interpolation::Lanczos3),
            Self::TfLanczos5 => Some(Interpolation::Lanczos5),
            Self::TfGaussian => Some(Interpolation::Gaussian),
            Self::TfMitchellCubic => Some(Interpolation::MitchellCubic),
        }
    }

    /// Whose JPEG decoder Keras uses with it.
    #[must_use]
    pub fn jpeg_decoder(self) -> JpegDecoder {
        match self.interpolation() {
            None => JpegDecoder::Pillow,
            Some(_) => JpegDecoder::Tensorflow,
        }
    }
}

/// What is resized: `[height, width, channels]` bytes.
#[derive(Clone, Copy)]
struct Source<'a> {
    width: usize,
    height: usize,
    bytes: &'a [u8],
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
    let (from_width, from_height) = (image.width() as usize, image.height() as usize);
    let source = Source { width: from_width, height: from_height, bytes: image.as_raw() };
    resized(source, Channels::Rgb, width, height, method)
}

impl Photo {
    /// At `width` x `height` pixels, stretched.
    ///
    /// # Errors
    /// When either size is nothing.
    pub fn resize(
        &self,
        width: usize,
        height: usize,
        method: Resize,
    ) -> Result<Pixels, VisionError> {
        let source = Source { width: self.width(), height: self.height(), bytes: self.bytes() };
        resized(source, self.channels(), width, height, method)
    }
}

fn resized(
    source: Source<'_>,
    channels: Channels,
    width: usize,
    height: usize,
    method: Resize,
) -> Result<Pixels, VisionError> {
    let from = (source.width, source.height);
    if from.0.min(from.1).min(width).min(height) == 0 {
        return Err(VisionError::Size { from, to: (width, height) });
    }
    let values = match channels {
        Channels::Grey => by::<1>(source, width, height, method),
        Channels::Rgb => by::<3>(source, width, height, method),
        Channels::Rgba => by::<4>(source, width, height, method),
    };
    Ok(Pixels { width, height, values })
}

fn by<const CHANNELS: usize>(
    source: Source<'_>,
    width: usize,
    height: usize,
    method: Resize,
) -> Vec<f32> {
    let is_same = (source.width, source.height) == (width, height);
    let floats = |bytes: &[u8]| bytes.iter().map(|&value| f32::from(value)).collect();
    match method.interpolation() {
        None if is_same => floats(source.bytes),
        None => floats(&pillow::resize::<CHANNELS>(source, width, height, method)),
        Some(interpolation) => tensorflow::resize::<CHANNELS>(source, width, height, interpolation),
    }
}
