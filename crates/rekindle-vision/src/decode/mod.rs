//! From a file's bytes to a photo.

mod colors;
mod jpeg;
mod kinds;
mod markers;
mod options;
mod others;
mod photo;
mod planes;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use image::{RgbImage, metadata};
use serde::{Deserialize, Serialize};

pub(crate) use kinds::Kind;
pub use options::{Channels, JpegDecoder, Orientation, Transparency};
pub use photo::Photo;

use crate::{Resize, VisionError};

/// The longest side that is decoded, in pixels.
pub const MAX_SIDE: u32 = 65_500;
/// The memory that one decoded image may take; while a JPEG is decoded, twice as much besides.
pub const MAX_IMAGE_BYTES: u64 = 1 << 30;
/// The longest file that is read.
pub const MAX_FILE_BYTES: u64 = 1 << 29;

/// How files are read. By default as `load_img` reads them, but that transparency becomes white.
///
/// ```
/// use rekindle_vision::{Channels, Decoding, JpegDecoder, Resize, Transparency};
///
/// # fn main() -> Result<(), rekindle_vision::VisionError> {
/// # let mut png = Vec::new();
/// # image::RgbaImage::new(5, 3).write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png).unwrap();
/// // As `image_dataset_from_directory(interpolation="bilinear", color_mode="grayscale")`.
/// let resize = Resize::TfBilinear;
/// let decoding = Decoding::of(resize)
///     .with_transparency(Transparency::Drop)
///     .with_channels(Channels::Grey);
/// assert_eq!(decoding.jpeg, JpegDecoder::Tensorflow);
/// let photo = decoding.decode(&png, "photo.png".as_ref())?;
/// assert_eq!((photo.width(), photo.height(), photo.bytes().len()), (5, 3, 15));
/// let pixels = photo.resize(224, 224, resize)?;
/// # assert_eq!(pixels.channels(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Decoding {
    /// Whose JPEG decoder is followed.
    pub jpeg: JpegDecoder,
    /// What becomes of transparency, but for [`Channels::Rgba`].
    pub transparency: Transparency,
    /// What becomes of EXIF's orientation.
    pub orientation: Orientation,
    /// The channels of the decoded photo.
    pub channels: Channels,
    /// The width and height in pixels that will be wanted, upright where `orientation` is applied.
    /// A JPEG at least twice as large both ways is then decoded at a half, quarter or eighth of its size, as
    /// Pillow's `draft` does: faster, with slightly other pixels than Keras's.
    pub fast: Option<[usize; 2]>,
}

impl Decoding {
    /// With the JPEG decoder that a resize goes with: each of Keras's two ways has its own.
    #[must_use]
    pub fn of(resize: Resize) -> Self {
        Self { jpeg: resize.jpeg_decoder(), ..Self::default() }
    }

    /// Sets whose JPEG decoder is followed; default [`JpegDecoder::Pillow`].
    #[must_use]
    pub fn with_jpeg(self, jpeg: JpegDecoder) -> Self {
        Self { jpeg, ..self }
    }

    /// Sets what becomes of transparency; default [`Transparency::White`].
    #[must_use]
    pub fn with_transparency(self, transparency: Transparency) -> Self {
        Self { transparency, ..self }
    }

    /// Sets what becomes of EXIF's orientation; default [`Orientation::Ignore`].
    #[must_use]
    pub fn with_orientation(self, orientation: Orientation) -> Self {
        Self { orientation, ..self }
    }

    /// Sets the channels; default [`Channels::Rgb`].
    #[must_use]
    pub fn with_channels(self, channels: Channels) -> Self {
        Self { channels, ..self }
    }

    /// Decodes large JPEGs at a part of their size; width and height in pixels; default no.
    #[must_use]
    pub fn with_fast(self, fast: Option<[usize; 2]>) -> Self {
        Self { fast, ..self }
    }

    /// Reads and decodes a JPEG, PNG, WebP, BMP, TIFF (its first page) or GIF (its first frame).
    ///
    /// The content decides what it is, whatever the file's name says.
    ///
    /// # Errors
    /// When the file cannot be read, is of another kind (the error says which, and what to do), is damaged
    /// or truncated, or is over [`MAX_SIDE`], [`MAX_IMAGE_BYTES`] or [`MAX_FILE_BYTES`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Photo, VisionError> {
        let path = path.as_ref();
        self.decode(&read(path)?, path)
    }

    /// Decodes a file in memory; `name` is for errors.
    ///
    /// # Errors
    /// As [`Decoding::open`].
    pub fn decode(&self, bytes: &[u8], name: &Path) -> Result<Photo, VisionError> {
        let wrong = |reason| VisionError::Image { path: name.to_owned(), reason };
        let kind = check(bytes).map_err(wrong)?;
        let (photo, orientation) = match kind {
            Kind::Jpeg => (jpeg::decode(bytes, self).map_err(wrong)?, jpeg::orientation(bytes)),
            _ => others::decode(bytes, kind, self).map_err(wrong)?,
        };
        // Pillow itself turns TIFFs, so that Keras has them upright.
        Ok(match self.orientation == Orientation::Apply || kind == Kind::Tiff {
            true => photo.turned(orientation),
            false => photo.askew(orientation != metadata::Orientation::NoTransforms),
        })
    }
}

/// Which way up a file says that it is, without decoding its pixels.
///
/// # Errors
/// As [`Decoding::open`], but that pixels are not looked at.
pub fn orientation(path: impl AsRef<Path>) -> Result<metadata::Orientation, VisionError> {
    let path = path.as_ref();
    let wrong = |reason| VisionError::Image { path: path.to_owned(), reason };
    let bytes = read(path)?;
    match check(&bytes).map_err(wrong)? {
        Kind::Jpeg => Ok(jpeg::orientation(&bytes)),
        kind => others::orientation(&bytes, kind).map_err(wrong),
    }
}

/// Reads and decodes a photo to RGB as [`Decoding::default`] says.
///
/// # Errors
/// As [`Decoding::open`].
pub fn open_image(path: impl AsRef<Path>) -> Result<RgbImage, VisionError> {
    Ok(Decoding::default().open(path)?.into_rgb())
}

/// Decodes a photo in memory to RGB as [`Decoding::default`] says; `name` is for errors.
///
/// # Errors
/// As [`Decoding::open`].
pub fn decode(bytes: &[u8], name: &Path) -> Result<RgbImage, VisionError> {
    Ok(Decoding::default().decode(bytes, name)?.into_rgb())
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, VisionError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| VisionError::io(path, error))?;
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| VisionError::io(path, error))?;
    Ok(bytes)
}

/// Which of the kinds that are read it is.
fn check(bytes: &[u8]) -> Result<Kind, String> {
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("the file is over {MAX_FILE_BYTES} bytes"));
    }
    let kind = Kind::of(bytes);
    match kind.refusal() {
        None => Ok(kind),
        Some(reason) => Err(reason),
    }
}

#[cfg(test)]
mod tests;
