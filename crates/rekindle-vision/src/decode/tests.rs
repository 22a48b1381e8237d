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

/// A JPEG's headers alone, for an image of this size and these sampling factors.
fn headers(width: u16, height: u16, marker: u8, factors: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xFF, 0xD8, 0xFF, 0xDB, 0, 67, 0];
    bytes.extend([1; 64]);
    let components = factors.len() as u8;
    bytes.extend([0xFF, marker, 0, 8 + 3 * components, 8]);
    bytes.extend(height.to_be_bytes());
    bytes.extend(width.to_be_bytes());
    bytes.push(components);
    for (id, &factor) in (1..).zip(factors) {
        bytes.extend([id, factor, 0]);
    }
    bytes.extend([0xFF, 0xDA, 0, 6 + 2 * components, components]);
    for id in 1..=components {
        bytes.extend([id, 0]);
    }
    bytes.extend([0, if marker == 0xC2 { 0 } else { 63 }, 0, 0xFF, 0xD9]);
    bytes
}

#[test]
fn hostile_jpegs_are_errors_soon() {
    let start = std::time::Instant::now();
    for (width, height, marker, factors) in [
        (65_500, 65_500, 0xC0, &[0x22, 0x11, 0x11][..]),
        (65_535, 65_535, 0xC2, &[0x11]),
        (65_500, 65_500, 0xC0, &[0x11; 4]),
        (30_000, 11_000, 0xC2, &[0x44, 0x11, 0x11]),
        (0, 10, 0xC0, &[0x11]),
        (10, 0, 0xC0, &[0x11]),
        // Factors that do not divide, are nothing, or are too many.
        (40, 40, 0xC0, &[0x31, 0x21, 0x11]),
        (40, 40, 0xC0, &[0x23, 0x12, 0x11, 0x23]),
        (40, 40, 0xC0, &[0x00, 0x11, 0x11]),
        (40, 40, 0xC0, &[0x51]),
        (40, 40, 0xC0, &[0x11; 2]),
        (40, 40, 0xC0, &[0x11; 5]),
        // Lossless, and of markers that no frame has.
        (40, 40, 0xC3, &[0x11]),
        (40, 40, 0xC5, &[0x11]),
    ] {
        for jpeg in JpegDecoder::ALL {
            let decoding = Decoding::default().with_jpeg(*jpeg);
            let bytes = headers(width, height, marker, factors);
            let error = decoding.decode(&bytes, "x.jpg".as_ref());
            assert!(error.is_err(), "{width} x {height} {marker:x} {factors:?}");
        }
    }
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn every_cut_of_a_jpeg_is_an_error() {
    let image = RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8 * 6, y as u8 * 8, 90]));
    let whole = encode(image, ImageFormat::Jpeg);
    assert!(decode(&whole, "whole".as_ref()).is_ok());
    for length in 0..whole.len() - 1 {
        assert!(decode(&whole[..length], "cut".as_ref()).is_err(), "{length} of {}", whole.len());
    }
}

#[test]
fn transparency_is_as_asked_for() {
    let pixel = RgbaImage::from_pixel(1, 1, Rgba([10, 20, 30, 128]));
    let bytes = encode(pixel, ImageFormat::Png);
    let of = |transparency, channels| {
        let decoding = Decoding::default().with_transparency(transparency).with_channels(channels);
        decoding.decode(&bytes, "x".as_ref()).expect("decodes").into_bytes()
    };
    assert_eq!(of(Transparency::White, Channels::Rgb), [132, 137, 142]);
    assert_eq!(of(Transparency::Black, Channels::Rgb), [5, 10, 15]);
    assert_eq!(of(Transparency::Drop, Channels::Rgb), [10, 20, 30]);
    assert_eq!(of(Transparency::Black, Channels::Rgba), [10, 20, 30, 128]);
    assert_eq!(of(Transparency::Drop, Channels::Grey), [18]);
}

#[test]
fn settings_have_names_and_defaults() {
    let decoding: Decoding = serde_json::from_str("{}").expect("all defaults");
    assert_eq!(decoding, Decoding::default());
    let decoding = Decoding::of(Resize::TfArea).with_fast(Some([9, 8]));
    let text = serde_json::to_string(&decoding).expect("writes");
    assert_eq!(serde_json::from_str::<Decoding>(&text).expect("reads"), decoding);
    assert!(text.contains(r#""jpeg":"tensorflow""#) && text.contains(r#""fast":[9,8]"#), "{text}");
    for resize in Resize::ALL {
        assert_eq!(resize.name().parse(), Ok(*resize));
        assert_eq!(serde_json::to_string(resize).expect("writes"), format!("{:?}", resize.name()));
    }
    let error = "gray".parse::<Channels>().expect_err("another spelling");
    assert_eq!(error.to_string(), "unknown channels `gray`, expected one of grey, rgb, rgba");
}
