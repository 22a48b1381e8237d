//! JPEGs whose planes are coarser or finer than the decoder's own way to color allows for: subsampled printers'
//! colors, and colors that are finer than brightness. Planes become full as in libjpeg (`jdsample.c`, `jdcolor.c`).

use libjpeg_turbo_rs::{ColorSpace, Decoder, JpegError};

use super::jpeg::Decoded;

/// A plane of samples, as wide and high as its part of the image.
struct Plane {
    width: usize,
    height: usize,
    samples: Vec<u8>,
}

/// The image's samples; where `wants_brightness`, only that of an image that stores it.
pub(super) fn decode(decoder: Decoder<'_>, wants_brightness: bool) -> Result<Decoded, JpegError> {
    let space = decoder.jpeg_color_space();
    let factors: Vec<[usize; 2]> = (decoder.header().components.iter())
        .map(|part| [part.horizontal_sampling.into(), part.vertical_sampling.into()])
        .collect();
    let most = [0, 1].map(|axis| factors.iter().map(|pair| pair[axis]).max().unwrap_or(1));
    let (raw, warnings) = decoder.decode_raw_with_warnings()?;
    let (width, height) = (raw.width, raw.height);
    let shapes = raw.plane_widths.iter().zip(&factors);
    let mut planes: Vec<Plane> = (raw.planes.iter().zip(shapes))
        .map(|(samples, (&stride, &[across, down]))| {
            // What rounding up to whole blocks has added is no part of the image.
            let columns = (width * across).div_ceil(most[0]);
            let rows = (height * down).div_ceil(most[1]);
            let plane = Plane::cut(samples, stride, columns, rows);
            plane.enlarged(most[0] / across, most[1] / down)
        })
        .collect();
    if wants_brightness && space == ColorSpace::YCbCr {
        planes.truncate(1);
    }
    let mut samples = Vec::with_capacity(width * height * planes.len());
    for y in 0..height {
        let rows: Vec<&[u8]> = planes.iter().map(|plane| plane.row(y)).collect();
        for x in 0..width {
            match (space, rows.as_slice()) {
                (ColorSpace::YCbCr, [y, cb, cr]) => samples.extend(rgb(y[x], cb[x], cr[x])),
                (ColorSpace::Ycck, [y, cb, cr, k]) => {
                    samples.extend(rgb(y[x], cb[x], cr[x]).map(|value| 255 - value));
                    samples.push(k[x]);
                }
                (_, rows) => samples.extend(rows.iter().map(|row| row[x])),
            }
        }
    }
    Ok(Decoded { width, height, components: planes.len(), samples, warnings })
}

/// `jdcolor.c`'s fixed-point conversion.
fn rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let red = y + ((91881 * cr + HALF) >> 16);
    let green = y + ((-22554 * cb - 46802 * cr + HALF) >> 16);
    let blue = y + ((116130 * cb + HALF) >> 16);
    [red, green, blue].map(|value| value.clamp(0, 255) as u8)
}

impl Plane {
    fn cut(samples: &[u8], stride: usize, width: usize, height: usize) -> Self {
        let rows = samples.chunks_exact(stride.max(1)).take(height);
        let samples = rows.flat_map(|row| &row[..width]).copied().collect();
        Self { width, height, samples }
    }

    fn row(&self, y: usize) -> &[u8] {
        &self.samples[y * self.width..][..self.width]
    }

    /// Each row, with that above and below it; the edge's own where there is none.
    fn rows(&self) -> impl Iterator<Item = [&[u8]; 3]> {
        let last = self.height.saturating_sub(1);
        (0..self.height)
            .map(move |y| [y.saturating_sub(1), y, (y + 1).min(last)].map(|near| self.row(near)))
    }

    /// As `jinit_upsampler` chooses: by triangles where it has them, otherwise by repetition.
    fn enlarged(self, across: usize, down: usize) -> Self {
        let mut samples = Vec::with_capacity(self.samples.len() * across * down);
        match (across, down) {
            (1, 1) => return self,
            (2, 1) if self.width > 2 => {
                for [_, row, _] in self.rows() {
                    let row: Vec<u32> = row.iter().map(|&value| value.into()).collect();
                    samples.extend(doubled(&row, [1, 2], 2));
                }
            }
            (1, 2) => {
                for [above, row, below] in self.rows() {
                    for (near, bias) in [(above, 1), (below, 2)] {
                        let mix = |(&here, &near): (&u8, &u8)| {
                            ((u32::from(here) * 3 + u32::from(near) + bias) >> 2) as u8
                        };
                        samples.extend(row.iter().zip(near).map(mix));
                    }
                }
            }
            (2, 2) if self.width > 2 => {
                for [above, row, below] in self.rows() {
                    for near in [above, below] {
                        let mix =
                            |(&here, &near): (&u8, &u8)| u32::from(here) * 3 + u32::from(near);
                        let sums: Vec<u32> = row.iter().zip(near).map(mix).collect();
                        samples.extend(doubled(&sums, [8, 7], 4));
                    }
                }
            }
            _ => {
                for [_, row, _] in self.rows() {
                    let wide: Vec<u8> =
                        row.iter().flat_map(|&value| std::iter::repeat_n(value, across)).collect();
                    for _ in 0..down {
                        samples.extend(&wide);
                    }
                }
            }
        }
        Self { width: self.width * across, height: self.height * down, samples }
    }
}

/// Twice as many samples, each of three parts of its own and one of its neighbour's, or four of its own at the
/// edges; `biases` round the left and the right one.
fn doubled(row: &[u32], biases: [u32; 2], shift: u32) -> Vec<u8> {
    let pair = |x: usize| {
        let nears = [x.checked_sub(1), Some(x + 1)].map(|near| near.and_then(|near| row.get(near)));
        let mix =
            |side: usize| (row[x] * 3 + nears[side].unwrap_or(&row[x]) + biases[side]) >> shift;
        [mix(0) as u8, mix(1) as u8]
    };
    (0..row.len()).flat_map(pair).collect()
}
