use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use image::{DynamicImage, ImageReader, Limits, RgbImage};

use crate::VisionError;

/// The longest side that is decoded, in pixels.
pub const MAX_SIDE: u32 = 65_500;
/// The memory that one decoded image may take.
pub const MAX_IMAGE_BYTES: u64 = 1 << 30;
/// The longest file that is read.
pub const MAX_FILE_BYTES: u64 = 1 << 29;

/// Reads and decodes a JPEG, PNG, WebP, BMP or GIF (its first frame) to RGB; transparency becomes white.
///
/// The format is taken from the content, whatever the file's name says. Like Keras's `load_img`, it
/// leaves an EXIF orientation alone.
///
/// # Errors
/// When the file cannot be read, is not one of these formats, is damaged, or is over [`MAX_SIDE`],
/// [`MAX_IMAGE_BYTES`] or [`MAX_FILE_BYTES`].
pub fn open_image(path: impl AsRef<Path>) -> Result<RgbImage, VisionError> {
    let path = path.as_ref();
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| VisionError::io(path, error))?;
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| VisionError::io(path, error))?;
    decode(&bytes, path)
}

/// Decodes an image in memory; `name` is for errors.
///
/// # Errors
/// As [`open_image`].
pub fn decode(bytes: &[u8], name: &Path) -> Result<RgbImage, VisionError> {
    let wrong = |reason: String| VisionError::Image { path: name.to_owned(), reason };
    if bytes.is_empty() {
        return Err(wrong("the file is empty".into()));
    }
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(wrong(format!("the file is over {MAX_FILE_BYTES} bytes")));
    }
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| VisionError::io(name, error))?;
    if reader.format().is_none() {
        return Err(wrong("not a JPEG, PNG, WebP, BMP or GIF".into()));
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_IMAGE_BYTES);
    reader.limits(limits);
    let image = reader.decode().map_err(|error| wrong(error.to_string()))?;
    Ok(over_white(image))
}

fn over_white(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let image = image.into_rgba8();
    RgbImage::from_fn(image.width(), image.height(), |x, y| {
        let [r, g, b, alpha] = image.get_pixel(x, y).0;
        let alpha = u32::from(alpha);
        let blend =
            |value: u8| ((u32::from(value) * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        image::Rgb([blend(r), blend(g), blend(b)])
    })
}

#[cfg(test)]
mod tests {
    use image::{ImageFormat, Luma, LumaA, Rgba, RgbaImage};

    use super::*;

    fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Vec::new();
        image.into().write_to(&mut Cursor::new(&mut bytes), format).expect("encodes");
        bytes
    }

    #[test]
    fn every_format_decodes_by_content() {
        let image = RgbImage::from_fn(9, 7, |x, y| image::Rgb([x as u8 * 20, y as u8 * 30, 90]));
        for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP] {
            let decoded =
                decode(&encode(image.clone(), format), "x.jpg".as_ref()).expect("decodes");
            assert_eq!(decoded, image, "{format:?}");
        }
        for format in [ImageFormat::Jpeg, ImageFormat::Gif] {
            let decoded = decode(&encode(image.clone(), format), "x".as_ref()).expect("decodes");
            assert_eq!(decoded.dimensions(), (9, 7), "{format:?}");
        }
    }

    #[test]
    fn alpha_becomes_white_and_grey_becomes_rgb() {
        let image =
            RgbaImage::from_fn(2, 1, |x, _| Rgba([10, 20, 30, if x == 0 { 0 } else { 128 }]));
        let decoded = decode(&encode(image, ImageFormat::Png), "x".as_ref()).expect("decodes");
        assert_eq!(decoded.get_pixel(0, 0).0, [255, 255, 255]);
        assert_eq!(decoded.get_pixel(1, 0).0, [132, 137, 142]);

        let grey = image::ImageBuffer::from_pixel(3, 2, LumaA([65535_u16, 65535]));
        let decoded = decode(&encode(grey, ImageFormat::Png), "x".as_ref()).expect("decodes");
        assert_eq!(decoded.get_pixel(2, 1).0, [255, 255, 255]);
        let grey = image::ImageBuffer::from_pixel(3, 2, Luma([77_u8]));
        let decoded = decode(&encode(grey, ImageFormat::Png), "x".as_ref()).expect("decodes");
        assert_eq!(decoded.get_pixel(0, 0).0, [77, 77, 77]);
    }

    /// The kinds of files that photo folders have among others, down to a network's size, as the guide says.
    #[test]
    fn odd_files_are_photos_too() {
        use crate::{Resize, resize};

        let deep =
            image::ImageBuffer::from_fn(5, 4, |x, _| image::Rgb([257 * (x as u16 * 40), 0, 65535]));
        let decoded =
            decode(&encode(deep, ImageFormat::Png), "deep.png".as_ref()).expect("16 bits");
        assert_eq!(decoded.get_pixel(3, 2).0, [120, 0, 255]);

        let point = RgbImage::from_pixel(1, 1, image::Rgb([9, 8, 7]));
        let banner = RgbImage::from_fn(30_000, 10, |x, _| image::Rgb([(x / 118) as u8, 1, 2]));
        for (image, name) in [(point, "point.png"), (banner, "banner.png")] {
            // Its name lies about its format.
            let decoded =
                decode(&encode(image.clone(), ImageFormat::Png), "x.gif".as_ref()).expect(name);
            assert_eq!(decoded, image);
            for method in [Resize::Nearest, Resize::Bilinear, Resize::TfBilinear] {
                let pixels = resize(&decoded, 32, 32, method).expect(name);
                assert_eq!(pixels.values.len(), 32 * 32 * 3);
                assert!(pixels.values.iter().all(|value| (0.0..=255.0).contains(value)), "{name}");
            }
        }

        let mut bytes = Vec::new();
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut bytes);
        for color in [[255, 0, 0, 255], [0, 0, 255, 255]] {
            let frame = image::Frame::new(RgbaImage::from_pixel(6, 6, Rgba(color)));
            encoder.encode_frame(frame).expect("encodes");
        }
        drop(encoder);
        let first = decode(&bytes, "animated.gif".as_ref()).expect("decodes");
        assert_eq!(first.get_pixel(3, 3).0, [255, 0, 0]);
    }

    #[test]
    fn damaged_files_are_errors_that_name_the_file() {
        let good = encode(RgbImage::new(64, 64), ImageFormat::Png);
        let mut bomb = good.clone();
        // The width in the IHDR chunk; its checksum no longer fits, but the limit is checked first or with it.
        bomb[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
        for (bytes, name) in [
            (&[][..], "empty.png"),
            (&b"hello"[..], "text.jpg"),
            (&good[..good.len() / 2], "cut.png"),
            (&bomb[..], "bomb.png"),
        ] {
            let error = decode(bytes, name.as_ref()).expect_err(name).to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }

    #[test]
    fn a_decompression_bomb_is_refused() {
        // 60,000 x 60,000 pixels in a BMP header: 10.8 GB.
        let mut bytes = encode(RgbImage::new(1, 1), ImageFormat::Bmp);
        bytes[18..22].copy_from_slice(&60_000_i32.to_le_bytes());
        bytes[22..26].copy_from_slice(&60_000_i32.to_le_bytes());
        let error = decode(&bytes, "bomb.bmp".as_ref()).expect_err("refused").to_string();
        assert!(error.contains("bomb.bmp"), "{error}");
    }
}
