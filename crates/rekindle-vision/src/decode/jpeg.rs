//! JPEGs, by a port of the library that Pillow and TensorFlow both decode them with.

use std::panic::{AssertUnwindSafe, catch_unwind};

use image::metadata;
use libjpeg_turbo_rs::{
    ColorSpace, DctMethod, DecodeLimits, DecodeWarning, Decoder, FrameHeader, JpegError,
    PixelFormat, ScalingFactor,
};

use super::{MAX_IMAGE_BYTES, MAX_SIDE, colors, markers, photo::Photo, planes};
use crate::{Channels, Decoding, JpegDecoder, Orientation};

/// Real files have at most a few dozen scans; each costs a pass over the image.
const MAX_SCANS: usize = 1000;
/// Pixels that all scans together may pass over, so that a small file cannot take minutes.
const MAX_PASSES: u64 = 1 << 33;

/// What the file's EXIF data says about its orientation.
pub(super) fn orientation(bytes: &[u8]) -> metadata::Orientation {
    markers::exif(bytes)
        .and_then(metadata::Orientation::from_exif_chunk)
        .unwrap_or(metadata::Orientation::NoTransforms)
}

pub(super) fn decode(bytes: &[u8], decoding: &Decoding) -> Result<Photo, String> {
    if !markers::is_ended(bytes) {
        return Err("the JPEG is truncated: its end is missing".into());
    }
    // The headers are checked for all that is known to make the decoder panic. Should anything else,
    // then that file is damaged, as any other, and the rest of a folder is still read.
    catch_unwind(AssertUnwindSafe(|| attempt(bytes, decoding))).unwrap_or_else(|_| {
        Err("the JPEG is damaged in a way that its decoder cannot handle".into())
    })
}

fn attempt(bytes: &[u8], decoding: &Decoding) -> Result<Photo, String> {
    let decoder = opened(bytes)?;
    let shape = Shape::of(decoder.header())?;
    let is_tensorflow = decoding.jpeg == JpegDecoder::Tensorflow;
    let wants_brightness = is_tensorflow && decoding.channels == Channels::Grey;
    if wants_brightness && decoder.header().components.len() == 4 {
        return Err("TensorFlow does not read a JPEG of printers' colors (CMYK) as grey".into());
    }
    let decoded = match shape {
        Shape::Usual => usual(decoder, decoding, wants_brightness, bytes)?,
        Shape::Unusual => {
            planes::decode(with_dct(decoder, decoding), wants_brightness).map_err(reason)?
        }
    };
    // Stray bytes between segments harm nothing, and Pillow and TensorFlow pass over them.
    let is_harmless =
        |warning: &&DecodeWarning| matches!(warning, DecodeWarning::ExtraneousData { .. });
    if let Some(warning) = decoded.warnings.iter().find(|warning| !is_harmless(warning)) {
        return Err(format!("the JPEG is damaged: {warning}"));
    }
    let Decoded { width, height, components, samples, .. } = decoded;
    let samples = match components {
        1 => colors::from_grey(samples, decoding.channels),
        3 => colors::opaque(samples, decoding.channels),
        _ => {
            let (pixels, _) = samples.as_chunks::<4>();
            let has_adobe = markers::has_adobe(bytes);
            let rgb = |&pixel: &[u8; 4]| match decoding.jpeg {
                JpegDecoder::Pillow => colors::pillow_cmyk(pixel),
                JpegDecoder::Tensorflow => colors::tensorflow_cmyk(pixel, has_adobe),
            };
            colors::opaque(pixels.iter().flat_map(rgb).collect(), decoding.channels)
        }
    };
    Photo::new(width, height, decoding.channels, samples).map_err(|error| error.to_string())
}

/// What a JPEG holds: `[height, width, components]`; grey, RGB, or CMYK as it is stored.
pub(super) struct Decoded {
    pub width: usize,
    pub height: usize,
    pub components: usize,
    pub samples: Vec<u8>,
    pub warnings: Vec<DecodeWarning>,
}

/// With its headers read, and bounds on all that they say.
fn opened(bytes: &[u8]) -> Result<Decoder<'_>, String> {
    let mut limits = DecodeLimits {
        max_width: MAX_SIDE as usize,
        max_height: MAX_SIDE as usize,
        max_pixels: MAX_IMAGE_BYTES / 3,
        // Beside the photo there are its planes, or coefficients where it is progressive.
        max_memory: Some(2 * MAX_IMAGE_BYTES),
        max_scans: MAX_SCANS,
    };
    let mut decoder = Decoder::new_with_limits(bytes, limits).map_err(reason)?;
    let (width, height) = decoder.header().dimensions();
    let pixels = (width as u64 * height as u64).max(1);
    limits.max_scans = (MAX_PASSES / pixels).clamp(64, MAX_SCANS as u64) as usize;
    decoder.set_limits(limits);
    Ok(decoder)
}

fn with_dct<'a>(decoder: Decoder<'a>, decoding: &Decoding) -> Decoder<'a> {
    decoder.with_dct_method(match decoding.jpeg {
        JpegDecoder::Pillow => DctMethod::IsLow,
        JpegDecoder::Tensorflow => DctMethod::IsFast,
    })
}

fn usual(
    decoder: Decoder<'_>,
    decoding: &Decoding,
    wants_brightness: bool,
    bytes: &[u8],
) -> Result<Decoded, String> {
    // Both keep libjpeg's default, which shows where the last scans of a progressive file are left out.
    let mut decoder = with_dct(decoder, decoding).with_block_smoothing(true);
    match decoder.header().components.len() {
        // TensorFlow takes brightness as it is stored; Pillow computes it from the colors.
        3 if wants_brightness => decoder.set_output_colorspace(ColorSpace::Grayscale),
        1 => decoder.set_output_format(PixelFormat::Grayscale),
        3 => decoder.set_output_format(PixelFormat::Rgb),
        _ => decoder.set_output_format(PixelFormat::Cmyk),
    }
    let (width, height) = decoder.header().dimensions();
    if let Some(scale) = scale(decoding, [width, height], bytes) {
        decoder.set_scale(ScalingFactor::try_new(1, scale).map_err(reason)?);
    }
    let image = decoder.decode_image().map_err(reason)?;
    Ok(Decoded {
        width: image.width,
        height: image.height,
        components: image.pixel_format.bytes_per_pixel(),
        samples: image.data,
        warnings: image.warnings,
    })
}

/// The eighths, quarters or halves that Pillow's `draft` takes for a size that is wanted.
fn scale(decoding: &Decoding, size: [usize; 2], bytes: &[u8]) -> Option<u32> {
    let [mut across, mut down] = decoding.fast?;
    if decoding.orientation == Orientation::Apply && is_on_its_side(orientation(bytes)) {
        (across, down) = (down, across);
    }
    let times = (size[0] / across.max(1)).min(size[1] / down.max(1));
    [8, 4, 2].into_iter().find(|&scale| times >= scale).map(|scale| scale as u32)
}

fn is_on_its_side(orientation: metadata::Orientation) -> bool {
    use metadata::Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

fn reason(error: JpegError) -> String {
    match error {
        JpegError::UnexpectedEof => "the JPEG is truncated".into(),
        other => format!("the JPEG cannot be read: {other}"),
    }
}

/// Which way a JPEG's planes become an image.
enum Shape {
    /// The decoder's own.
    Usual,
    /// Ours, plane by plane; always at full size.
    Unusual,
}

impl Shape {
    /// Refuses what the decoder does not read, some of which makes it panic.
    fn of(frame: &FrameHeader) -> Result<Self, String> {
        if frame.dimensions().0.min(frame.dimensions().1) == 0 {
            return Err("a JPEG without a size".into());
        }
        if frame.is_lossless {
            return Err("a lossless JPEG, which Keras does not read either; make it a PNG".into());
        }
        if frame.precision != 8 {
            let bits = frame.precision;
            return Err(format!(
                "a JPEG of {bits} bits, which Keras does not read either; convert it to 8"
            ));
        }
        let factors: Vec<[u8; 2]> = (frame.components.iter())
            .map(|component| [component.horizontal_sampling, component.vertical_sampling])
            .collect();
        let most = [0, 1].map(|axis| factors.iter().map(|pair| pair[axis]).max().unwrap_or(0));
        let divides = |pair: &[u8; 2]| {
            (0..2).all(|axis| (1..=4).contains(&pair[axis]) && most[axis] % pair[axis] == 0)
        };
        if !factors.iter().all(divides) {
            let factors: Vec<String> = factors.iter().map(|[h, v]| format!("{h}x{v}")).collect();
            let factors = factors.join(", ");
            return Err(format!("a JPEG of the sampling factors {factors}, which is not read"));
        }
        match factors.as_slice() {
            [_] => Ok(Self::Usual),
            [first, _, _] if *first == most => Ok(Self::Usual),
            [_, _, _, _] if factors.iter().all(|pair| *pair == most) => Ok(Self::Usual),
            [_, _, _] | [_, _, _, _] => Ok(Self::Unusual),
            found => Err(format!("a JPEG of {} components; expected 1, 3 or 4", found.len())),
        }
    }
}
