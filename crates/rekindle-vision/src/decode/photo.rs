use image::{DynamicImage, RgbImage, metadata};

use super::colors::opaque;
use crate::{Channels, VisionError};

/// A decoded photo: `[height, width, channels]` bytes, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Photo {
    width: usize,
    height: usize,
    channels: Channels,
    bytes: Vec<u8>,
    /// Whether its file says that it is to be turned, and it was not.
    is_askew: bool,
}

impl Photo {
    /// From its bytes, `[height, width, channels]`.
    ///
    /// # Errors
    /// When there are more or fewer of them.
    pub fn new(
        width: usize,
        height: usize,
        channels: Channels,
        bytes: Vec<u8>,
    ) -> Result<Self, VisionError> {
        let count = width.checked_mul(height).and_then(|n| n.checked_mul(channels.count()));
        if count != Some(bytes.len()) {
            return Err(VisionError::Bytes { width, height, channels, found: bytes.len() });
        }
        Ok(Self { width, height, channels, bytes, is_askew: false })
    }

    /// Columns.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// What a pixel is made of.
    #[must_use]
    pub fn channels(&self) -> Channels {
        self.channels
    }

    /// Whether its file has an EXIF orientation that was ignored: a person may see it on its side.
    #[must_use]
    pub fn is_askew(&self) -> bool {
        self.is_askew
    }

    pub(crate) fn askew(self, is_askew: bool) -> Self {
        Self { is_askew, ..self }
    }

    /// `[height, width, channels]`.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// `[height, width, channels]`.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// With three channels: grey in all three, opacity left out.
    #[must_use]
    pub fn into_rgb(self) -> RgbImage {
        let (width, height) = (self.width as u32, self.height as u32);
        let bytes = match self.channels {
            Channels::Rgb => self.bytes,
            Channels::Grey => self.bytes.into_iter().flat_map(|value| [value; 3]).collect(),
            Channels::Rgba => {
                let (pixels, _) = self.bytes.as_chunks::<4>();
                pixels.iter().flat_map(|&[red, green, blue, _]| [red, green, blue]).collect()
            }
        };
        // The count was checked when the photo was made.
        RgbImage::from_raw(width, height, bytes).unwrap_or_default()
    }

    /// Of an image in memory, with these channels: grey as Pillow makes it, opacity full.
    #[must_use]
    pub fn of_rgb(image: &RgbImage, channels: Channels) -> Self {
        let (width, height) = (image.width() as usize, image.height() as usize);
        let bytes = opaque(image.as_raw().clone(), channels);
        Self { width, height, channels, bytes, is_askew: false }
    }

    /// Turned as an EXIF orientation says.
    pub(crate) fn turned(self, orientation: metadata::Orientation) -> Self {
        if orientation == metadata::Orientation::NoTransforms {
            return self;
        }
        let Self { width, height, channels, bytes, .. } = self;
        let (across, down) = (width as u32, height as u32);
        let image = match channels {
            Channels::Grey => {
                image::GrayImage::from_raw(across, down, bytes).map(DynamicImage::from)
            }
            Channels::Rgb => RgbImage::from_raw(across, down, bytes).map(DynamicImage::from),
            Channels::Rgba => {
                image::RgbaImage::from_raw(across, down, bytes).map(DynamicImage::from)
            }
        };
        let mut image = image.unwrap_or_default();
        image.apply_orientation(orientation);
        let (width, height) = (image.width() as usize, image.height() as usize);
        Self { width, height, channels, bytes: image.into_bytes(), is_askew: false }
    }
}

impl From<RgbImage> for Photo {
    fn from(image: RgbImage) -> Self {
        let (width, height) = (image.width() as usize, image.height() as usize);
        let (channels, bytes) = (Channels::Rgb, image.into_raw());
        Self { width, height, channels, bytes, is_askew: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_checked_and_channels_convert() {
        assert!(Photo::new(2, 2, Channels::Rgb, vec![0; 11]).is_err());
        assert!(Photo::new(usize::MAX, 2, Channels::Grey, vec![0; 4]).is_err());
        let grey = Photo::new(2, 1, Channels::Grey, vec![7, 9]).expect("two bytes");
        assert_eq!(grey.into_rgb().as_raw(), &[7, 7, 7, 9, 9, 9]);
        let clear = Photo::new(1, 1, Channels::Rgba, vec![1, 2, 3, 4]).expect("four bytes");
        assert_eq!(clear.into_rgb().as_raw(), &[1, 2, 3]);
    }
}
