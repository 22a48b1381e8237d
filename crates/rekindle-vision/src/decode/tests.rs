use image::{DynamicImage, ImageFormat, Luma, LumaA, Rgba, RgbaImage};

use std::io::Cursor;

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
        let decoded = decode(&encode(image.clone(), format), "x.jpg".as_ref()).expect("decodes");
        assert_eq!(decoded, image, "{format:?}");
    }
    for format in [ImageFormat::Jpeg, ImageFormat::Gif] {
        let decoded = decode(&encode(image.clone(), format), "x".as_ref()).expect("decodes");
        assert_eq!(decoded.dimensions(), (9, 7), "{format:?}");
    }
}

#[test]
fn alpha_becomes_white_and_grey_becomes_rgb() {
    let image = RgbaImage::from_fn(2, 1, |x, _| Rgba([10, 20, 30, if x == 0 { 0 } else { 128 }]));
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
    let decoded = decode(&encode(deep, ImageFormat::Png), "deep.png".as_ref()).expect("16 bits");
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
