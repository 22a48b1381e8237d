//! From what a file stores to the channels that are wanted.

use image::{DynamicImage, GrayAlphaImage, GrayImage, ImageBuffer, Luma, LumaA};

use super::kinds::Kind;
use super::photo::Photo;
use crate::{Channels, Decoding, JpegDecoder, Transparency};

/// Pillow's `convert("L")` (`src/libImaging/Convert.c`, `L24`).
fn pillow_grey([red, green, blue]: [u8; 3]) -> u8 {
    let sum = u32::from(red) * 19595 + u32::from(green) * 38470 + u32::from(blue) * 7471;
    ((sum + 0x8000) >> 16) as u8
}

/// Pillow's product of two shares of 255 (`MULDIV255`), rounded.
fn share(a: u8, b: u8) -> u8 {
    let product = u32::from(a) * u32::from(b) + 128;
    (((product >> 8) + product) >> 8) as u8
}

/// Printers' colors as JPEGs of Adobe's programs have them, inverted, to RGB as Pillow does.
pub(super) fn pillow_cmyk([cyan, magenta, yellow, black]: [u8; 4]) -> [u8; 3] {
    [cyan, magenta, yellow].map(|ink| black - share(255 - ink, black))
}

/// The same as TensorFlow does (`core/lib/jpeg/jpeg_mem.cc`), which takes only files of Adobe's programs for inverted.
pub(super) fn tensorflow_cmyk([cyan, magenta, yellow, black]: [u8; 4], adobe: bool) -> [u8; 3] {
    let side = |value: u8| u32::from(if adobe { value } else { 255 - value });
    [cyan, magenta, yellow].map(|ink| (side(black) * side(ink) / 255) as u8)
}

/// Photos that have no opacity, with the channels that are wanted.
pub(super) fn opaque(rgb: Vec<u8>, channels: Channels) -> Vec<u8> {
    let (pixels, _) = rgb.as_chunks::<3>();
    match channels {
        Channels::Grey => pixels.iter().copied().map(pillow_grey).collect(),
        Channels::Rgb => rgb,
        Channels::Rgba => pixels.iter().flat_map(|&[r, g, b]| [r, g, b, 255]).collect(),
    }
}

/// Grey photos with the channels that are wanted.
pub(super) fn from_grey(grey: Vec<u8>, channels: Channels) -> Vec<u8> {
    match channels {
        Channels::Grey => grey,
        Channels::Rgb => grey.into_iter().flat_map(|value| [value; 3]).collect(),
        Channels::Rgba => grey.into_iter().flat_map(|value| [value, value, value, 255]).collect(),
    }
}

/// What the crate `image` decoded, with the channels that are wanted.
pub(super) fn convert(image: DynamicImage, kind: Kind, decoding: &Decoding) -> Photo {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let channels = decoding.channels;
    let is_tensorflow = decoding.jpeg == JpegDecoder::Tensorflow;
    let image = match (kind, channels, is_tensorflow) {
        (Kind::Png, Channels::Grey, true) => tensorflow_grey(image),
        _ => image,
    };
    let bytes = match eight_bits(image) {
        Stored::Grey(grey) => from_grey(grey, channels),
        Stored::Rgb(rgb) => opaque(rgb, channels),
        Stored::GreyAlpha(pixels) => {
            let (pixels, _) = pixels.as_chunks::<2>();
            if channels == Channels::Rgba {
                pixels.iter().flat_map(|&[value, alpha]| [value, value, value, alpha]).collect()
            } else {
                let over = |&[value, alpha]: &[u8; 2]| over(value, alpha, decoding.transparency);
                from_grey(pixels.iter().map(over).collect(), channels)
            }
        }
        Stored::Rgba(pixels) => {
            if channels == Channels::Rgba {
                pixels
            } else {
                let (pixels, _) = pixels.as_chunks::<4>();
                let over = |&[red, green, blue, alpha]: &[u8; 4]| {
                    [red, green, blue].map(|value| over(value, alpha, decoding.transparency))
                };
                opaque(pixels.iter().flat_map(over).collect(), channels)
            }
        }
    };
    // Each branch gives one pixel for each of the image's.
    Photo::new(width, height, channels, bytes).unwrap_or_else(|_| unreachable!("counted pixels"))
}

/// libpng's `png_do_rgb_to_gray` with the weights that TensorFlow gives it; of 8 bits it does not round.
fn tensorflow_grey(image: DynamicImage) -> DynamicImage {
    let sum = |red: u32, green: u32, blue: u32| red * 9797 + green * 19234 + blue * 3737;
    let narrow = |[r, g, b]: [u8; 3]| (sum(r.into(), g.into(), b.into()) >> 15) as u8;
    let wide = |[r, g, b]: [u16; 3]| ((sum(r.into(), g.into(), b.into()) + 16384) >> 15) as u16;
    let (width, height) = (image.width(), image.height());
    match image {
        DynamicImage::ImageRgb8(image) => {
            GrayImage::from_fn(width, height, |x, y| Luma([narrow(image.get_pixel(x, y).0)])).into()
        }
        DynamicImage::ImageRgba8(image) => GrayAlphaImage::from_fn(width, height, |x, y| {
            let [red, green, blue, alpha] = image.get_pixel(x, y).0;
            LumaA([narrow([red, green, blue]), alpha])
        })
        .into(),
        DynamicImage::ImageRgb16(image) => {
            ImageBuffer::from_fn(width, height, |x, y| Luma([wide(image.get_pixel(x, y).0)])).into()
        }
        DynamicImage::ImageRgba16(image) => ImageBuffer::from_fn(width, height, |x, y| {
            let [red, green, blue, alpha] = image.get_pixel(x, y).0;
            LumaA([wide([red, green, blue]), alpha])
        })
        .into(),
        other => other,
    }
}

fn over(value: u8, alpha: u8, transparency: Transparency) -> u8 {
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    let below = match transparency {
        Transparency::Drop => return value as u8,
        Transparency::White => 255,
        Transparency::Black => 0,
    };
    ((value * alpha + below * (255 - alpha) + 127) / 255) as u8
}

enum Stored {
    Grey(Vec<u8>),
    GreyAlpha(Vec<u8>),
    Rgb(Vec<u8>),
    Rgba(Vec<u8>),
}

/// Of 16 bits Pillow and TensorFlow keep the upper 8, without rounding.
fn eight_bits(image: DynamicImage) -> Stored {
    let upper = |values: Vec<u16>| values.into_iter().map(|value| (value >> 8) as u8).collect();
    match image {
        DynamicImage::ImageLuma8(image) => Stored::Grey(image.into_raw()),
        DynamicImage::ImageLumaA8(image) => Stored::GreyAlpha(image.into_raw()),
        DynamicImage::ImageRgba8(image) => Stored::Rgba(image.into_raw()),
        DynamicImage::ImageLuma16(image) => Stored::Grey(upper(image.into_raw())),
        DynamicImage::ImageLumaA16(image) => Stored::GreyAlpha(upper(image.into_raw())),
        DynamicImage::ImageRgb16(image) => Stored::Rgb(upper(image.into_raw())),
        DynamicImage::ImageRgba16(image) => Stored::Rgba(upper(image.into_raw())),
        image if image.color().has_alpha() => Stored::Rgba(image.into_rgba8().into_raw()),
        image => Stored::Rgb(image.into_rgb8().into_raw()),
    }
}
