use serde::{Deserialize, Serialize};

use crate::named::named;

/// Whose JPEG decoder is followed, to the byte.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum JpegDecoder {
    /// Pillow's: `load_img`, `ImageDataGenerator`, `flow_from_directory`. The accurate integer DCT.
    #[default]
    Pillow,
    /// TensorFlow's: `image_dataset_from_directory`, `tf.io.decode_image`. The fast DCT.
    Tensorflow,
}

named!(JpegDecoder, "JPEG decoder", [Pillow = "pillow", Tensorflow = "tensorflow"]);

/// What becomes of transparency where no alpha channel is wanted.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Transparency {
    /// White shows through.
    #[default]
    White,
    /// The color that the file has below it, as in Keras: often black, or garbage.
    Drop,
    /// Black shows through.
    Black,
}

named!(Transparency, "transparency", [White = "white", Drop = "drop", Black = "black"]);

/// What becomes of the orientation that a camera wrote into a file's EXIF data.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Orientation {
    /// Pixels stay as they are stored, as in Keras; but for a TIFF, which Pillow itself turns.
    #[default]
    Ignore,
    /// Photos are turned upright.
    Apply,
}

named!(Orientation, "orientation", [Ignore = "ignore", Apply = "apply"]);

/// The channels of a decoded photo: Keras's `color_mode`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Channels {
    /// One.
    Grey,
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Red, green, blue, opacity.
    Rgba,
}

named!(Channels, "channels", [Grey = "grey", Rgb = "rgb", Rgba = "rgba"]);

impl Channels {
    /// How many.
    #[must_use]
    pub fn count(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }
}
