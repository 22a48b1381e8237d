//! The kinds that the crate `image` decodes.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, metadata};

use super::kinds::Kind;
use super::photo::Photo;
use super::{MAX_IMAGE_BYTES, MAX_SIDE, colors};
use crate::Decoding;

pub(super) fn decode(
    bytes: &[u8],
    kind: Kind,
    decoding: &Decoding,
) -> Result<(Photo, metadata::Orientation), String> {
    let mut decoder = decoder(bytes, kind)?;
    // Who cannot say is upright.
    let orientation = decoder.orientation().unwrap_or(metadata::Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())?;
    Ok((colors::convert(image, kind, decoding), orientation))
}

pub(super) fn orientation(bytes: &[u8], kind: Kind) -> Result<metadata::Orientation, String> {
    decoder(bytes, kind)?.orientation().map_err(|error| error.to_string())
}

fn decoder(bytes: &[u8], kind: Kind) -> Result<impl ImageDecoder, String> {
    let format = match kind {
        Kind::Png => ImageFormat::Png,
        Kind::WebP => ImageFormat::WebP,
        Kind::Bmp => ImageFormat::Bmp,
        Kind::Gif => ImageFormat::Gif,
        Kind::Tiff => ImageFormat::Tiff,
        other => return Err(other.refusal().unwrap_or_else(|| "no format of this decoder".into())),
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_IMAGE_BYTES);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|error| error.to_string())?;
    let ((width, height), size) = (decoder.dimensions(), decoder.total_bytes());
    if width.max(height) > MAX_SIDE || size > MAX_IMAGE_BYTES {
        return Err(format!(
            "{width} x {height} pixels are too many: at most {MAX_SIDE} a side and {MAX_IMAGE_BYTES} bytes"
        ));
    }
    Ok(decoder)
}
