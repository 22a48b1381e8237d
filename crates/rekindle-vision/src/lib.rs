//! From files to what a Keras network expects: decoding, resizing and preprocessing photos with
//! Keras's numbers, folders of classes, ImageNet's labels.
//!
//! ```
//! use rekindle_vision::{Preprocessing, Resize, decode, resize};
//!
//! # fn main() -> Result<(), rekindle_vision::VisionError> {
//! # let mut png = Vec::new();
//! # image::RgbImage::new(5, 3).write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png).unwrap();
//! let photo = decode(&png, "photo.png".as_ref())?;
//! let pixels = resize(&photo, 224, 224, Resize::Bilinear)?;
//! let values = Preprocessing::Tf.apply(&pixels); // [3, 224, 224], from -1 to 1
//! assert_eq!(values.len(), 3 * 224 * 224);
//! # Ok(())
//! # }
//! ```

mod archives;
mod augment;
mod class_names;
mod decode;
mod error;
mod folder;
mod labels;
mod manifest;
mod named;
mod resize;

#[doc(hidden)]
pub use archives::short_hash;
pub use archives::{find_among, is_archive};
pub use augment::{Augment, Augmentation, Mix, Mixing};
pub use class_names::read_class_names;
pub use decode::{
    Channels, Decoding, JpegDecoder, MAX_FILE_BYTES, MAX_IMAGE_BYTES, MAX_SIDE, Orientation, Photo,
    Transparency, decode, open_image, orientation,
};
pub use error::VisionError;
pub use folder::{
    Elsewhere, ImageFolder, Listed, Parts, Place, Remote, Sample, Shard, Share, Skipped, Split,
    is_part, list_photos, read_elsewhere,
};
pub use labels::{Label, decode_predictions, imagenet_labels, top};
pub use rekindle_pixels::{Middle, Pixels, Preprocessing, UnknownName};
pub use resize::{Resize, resize};
