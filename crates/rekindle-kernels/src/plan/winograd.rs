//! 3 x 3 convolutions at stride 1 by Winograd's method: some tiles to their points, a product for each point, and
//! back.

use std::cell::RefCell;
use std::ops::Range;

use super::conv::View;
use super::{Plan, Window};
use crate::gemm::{TileArgs, pack};
use crate::simd::CHANNEL_BLOCK;
use crate::winograd::{ImageArgs, OutputArgs, POINTS, TILE, weights};

/// Values that the points of the tiles at work may take: 640 KiB, so that they stay in the second-level cache.
const POINT_VALUES: usize = 160 * 1024;

/// Values of weights' points from which on reading them takes longer than the products: 8 MiB.
const MOST_WEIGHTS: usize = 2 * 1024 * 1024;

thread_local! {
    static VALUES: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// A convolution's settings; its weights are the points', each packed for products.
pub(crate) struct Winograd {
    pub window: Window,
    /// Panels of this many columns, as `gemm::pack` makes them.
    pub panel: usize,
}

impl Winograd {
    /// Whether it is faster than the direct way for `channels` in and out of an output of this size.
    pub fn pays(
        kernel: [usize; 2],
        stride: [usize; 2],
        channels: [usize; 2],
        size: [usize; 2],
    ) -> bool {
        let [inputs, outputs] = channels;
        let tiles = tiles(size);
        let pairs = inputs * outputs;
        // In vector operations: products, and the transforms beside them.
        let direct = size[0] * size[1] * 9 * pairs;
        let here = tiles * (POINTS * pairs + 220 * inputs + 150 * outputs);
        kernel == [3, 3]
            && stride == [1, 1]
            && channels.iter().all(|count| count.is_multiple_of(CHANNEL_BLOCK))
            && tiles >= 8
            && POINTS * pairs <= MOST_WEIGHTS
            && here * 4 < direct * 3
    }

    /// Moves a direct convolution's weights, `[tap][in][out]`, to their points; `window` has its other settings.
    pub fn new(window: Window, direct: &[f32], outputs: usize, panel: usize) -> Self {
        let points = weights(direct);
        let (padded, depth) = (outputs.next_multiple_of(CHANNEL_BLOCK), direct.len() / 9 / outputs);
        let packed = points.chunks(depth * outputs);
        let weights = packed.flat_map(|point| pack(point, depth, outputs, padded, panel)).collect();
        Self { window: Window { weights, ..window }, panel }
    }
}

/// How many tiles an output of this height and width has.
pub(super) fn tiles([height, width]: [usize; 2]) -> usize {
    height.div_ceil(TILE) * width.div_ceil(TILE)
}

impl Plan {
    /// Some of the tiles, counted row by row.
    pub(super) fn run_winograd(
        &self,
        conv: &Winograd,
        input: View,
        out: View,
        tiles: Range<usize>,
    ) {
        let (inputs, outputs) = (input.channels, out.channels);
        let per_tile = POINTS * (inputs + outputs);
        let rows = self.kernels.rows;
        let at_once = (POINT_VALUES / per_tile / rows * rows).max(rows).min(tiles.len());
        VALUES.with_borrow_mut(|values| {
            if values.len() < at_once * per_tile {
                values.resize(at_once * per_tile, 0.0);
            }
            let (image, product) = values.split_at_mut(at_once * POINTS * inputs);
            let mut start = tiles.start;
            while start < tiles.end {
                let count = at_once.min(tiles.end - start);
                for tile in 0..count {
                    let to = &mut image[tile * inputs..];
                    self.tile_to_points(conv, input, out, start + tile, to, count * inputs);
                }
                for point in 0..POINTS {
                    let from = &image[point * count * inputs..][..count * inputs];
                    let to = &mut product[point * count * outputs..][..count * outputs];
                    self.multiply_point(conv, point, from, to, [inputs, outputs]);
                }
                for tile in 0..count {
                    let from = &product[tile * outputs..];
                    self.points_to_tile(conv, from, count * outputs, out, start + tile);
                }
                start += count;
            }
        });
    }

    fn tile_to_points(
        &self,
        conv: &Winograd,
        input: View,
        out: View,
        tile: usize,
        to: &mut [f32],
        stride: usize,
    ) {
        let across = out.width.div_ceil(TILE);
        let [above, left] = conv.window.before;
        let pixel = |index: usize| {
            // Above and left of the image it wraps around, and is too large.
            let y = (tile / across * TILE + index / 6).wrapping_sub(above);
            let x = (tile % across * TILE + index % 6).wrapping_sub(left);
            if y < input.height && x < input.width {
                input.pixel(y * input.width + x).cast_const()
            } else {
                self.zeros.as_ptr()
            }
        };
        let args = ImageArgs {
            pixels: std::array::from_fn(pixel),
            channels: input.channels,
            out: to.as_mut_ptr(),
            stride,
        };
        debug_assert!((POINTS - 1) * stride + input.channels <= to.len());
        // SAFETY: pixels are the image's or zeros, with all their channels, whole blocks; `to` has a place for
        // each point; the plan's kernels were chosen for this machine.
        unsafe { (self.kernels.winograd.image)(&args) };
    }

    fn multiply_point(
        &self,
        conv: &Winograd,
        point: usize,
        from: &[f32],
        to: &mut [f32],
        [inputs, outputs]: [usize; 2],
    ) {
        let weights = &conv.window.weights[point * inputs * outputs..][..inputs * outputs];
        let count = from.len() / inputs;
        let height = count.div_ceil(count.div_ceil(self.kernels.rows));
        let mut pixels = [std::ptr::null(); super::conv::MOST_ROWS];
        for column in (0..outputs).step_by(conv.panel) {
            let columns = conv.panel.min(outputs - column);
            for row in (0..count).step_by(height) {
                let rows = height.min(count - row);
                for (pixel, row) in pixels.iter_mut().zip(row..row + rows) {
                    *pixel = from[row * inputs..].as_ptr();
                }
                let args = TileArgs {
                    pixels: pixels.as_ptr(),
                    taps: 1,
                    channels: inputs,
                    weights: weights[column * inputs..][..columns * inputs].as_ptr(),
                    bias: self.zeros[..columns].as_ptr(),
                    out: to[row * outputs + column..].as_mut_ptr(),
                    stride: outputs,
                    residual: std::ptr::null(),
                    residual_stride: 0,
                    low: f32::NEG_INFINITY,
                    high: f32::INFINITY,
                    rows,
                    columns,
                };
                // SAFETY: rows of `inputs` values, weights and zeros sliced to size, and the tile's rows and
                // columns lie in `to`, since outputs are whole blocks; the kernels were chosen for this machine.
                unsafe { (self.kernels.tile)(&args) };
            }
        }
    }

    fn points_to_tile(&self, conv: &Winograd, from: &[f32], stride: usize, out: View, tile: usize) {
        let across = out.width.div_ceil(TILE);
        let (y, x) = (tile / across * TILE, tile % across * TILE);
        let window = &conv.window;
        let args = OutputArgs {
            points: from.as_ptr(),
            stride,
            bias: window.bias[..out.channels].as_ptr(),
            out: out.pixel(y * out.width + x),
            pixel: out.stride,
            row: out.width * out.stride,
            rows: TILE.min(out.height - y),
            columns: TILE.min(out.width - x),
            channels: out.channels,
            low: window.low,
            high: window.high,
        };
        debug_assert!((POINTS - 1) * stride + out.channels <= from.len());
        // SAFETY: `from` has every point of this tile; rows and columns are those on the output, whose channels
        // are whole blocks and belong to this thread; the plan's kernels were chosen for this machine.
        unsafe { (self.kernels.winograd.output)(&args) };
    }
}
