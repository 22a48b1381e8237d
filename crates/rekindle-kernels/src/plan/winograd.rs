//! 3 x 3 convolutions at stride 1 by Winograd's method: some tiles to their points, a product for each point, and
//! back.

use std::cell::RefCell;
use std::ops::Range;

use super::{Conv, Place, Plan, Window};
use crate::Precision;
use crate::gemm::{TileArgs, pack};
use crate::isa::Kernels;
use crate::simd::bf16::pair_rows;
use crate::simd::{CHANNEL_BLOCK, Values, aligned, zeros};
use crate::view::View;
use crate::winograd::{ImageArgs, MOST_POINTS, OutputArgs, Transforms, weights};

/// Values that the points of the tiles at work may take: 320 KiB, so that they stay in the second-level cache.
const POINT_VALUES: usize = 80 * 1024;

/// Values of weights' points from which on reading them takes longer than the products: 8 MiB.
const MOST_WEIGHTS: usize = 2 * 1024 * 1024;

thread_local! {
    static VALUES: RefCell<Values> = RefCell::new(zeros(0));
}

/// A convolution's settings; its weights are the points', each packed for products.
pub(crate) struct Winograd {
    pub window: Window,
    /// Panels of this many columns, as `gemm::pack` makes them.
    pub panel: usize,
    /// Those of its tile.
    pub transforms: Transforms,
    /// Values that a tile has at each point of its image, or cells.
    depth: usize,
}

impl Winograd {
    /// The fastest way for a convolution with an output of this height and width, where it is faster than the direct
    /// one. All costs are in vector operations: products, and the transforms beside them.
    pub fn choose(
        conv: &Conv,
        size: [usize; 2],
        kernels: &Kernels,
        precision: Precision,
    ) -> Option<Transforms> {
        let [inputs, outputs] = conv.channels;
        let pairs = inputs * outputs;
        let fits = conv.residual.is_none()
            && conv.run == 1
            && !conv.depthwise
            && conv.kernel == [3, 3]
            && conv.stride == [1, 1]
            && conv.dilation == [1, 1]
            && conv.channels.iter().all(|count| count.is_multiple_of(CHANNEL_BLOCK))
            && tiles(size, kernels.winograd.tile) >= 8
            && MOST_POINTS * pairs <= MOST_WEIGHTS;
        let of_4 = tiles(size, 4) * (MOST_POINTS * pairs + 220 * inputs + 150 * outputs);
        let direct = size[0] * size[1] * 9 * pairs;
        match kernels.bf16.filter(|_| precision == Precision::Bf16) {
            _ if !fits || of_4 * 4 >= direct * 3 => None,
            // Products of pairs take half as long.
            Some(bf16) if tiles(size, 2) * (8 * pairs + 80 * inputs + 60 * outputs) < of_4 => {
                Some(bf16.winograd)
            }
            _ => Some(kernels.winograd),
        }
    }

    /// Moves a direct convolution's weights, `[tap][in][out]`, to their points; `window` has its other settings.
    pub fn new(
        window: Window,
        direct: &[f32],
        outputs: usize,
        panel: usize,
        transforms: Transforms,
    ) -> Self {
        let points = weights(direct, transforms.tile);
        let inputs = direct.len() / 9 / outputs;
        let (points, depth) = match transforms.cells {
            true => (pair_rows(&points, inputs, outputs), inputs / 2),
            false => (points, inputs),
        };
        let packed = points.chunks(depth * outputs);
        let weights = packed.flat_map(|point| pack(point, depth, outputs, outputs, panel));
        let weights = aligned(&weights.collect::<Vec<f32>>());
        Self { window: Window { weights, ..window }, panel, transforms, depth }
    }

    /// How many tiles an output has.
    pub fn tiles(&self, out: &Place) -> usize {
        tiles([out.height, out.width], self.transforms.tile)
    }
}

fn tiles([height, width]: [usize; 2], tile: usize) -> usize {
    height.div_ceil(tile) * width.div_ceil(tile)
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
        let (depth, outputs, points) = (conv.depth, out.channels, conv.transforms.points());
        let per_tile = points * (depth + outputs);
        let rows = self.kernels.rows;
        let at_once = (POINT_VALUES / per_tile / rows * rows).max(rows).min(tiles.len());
        VALUES.with_borrow_mut(|values| {
            if values.len() < at_once * per_tile {
                values.resize(at_once * per_tile, 0.0);
            }
            let (image, product) = values.split_at_mut(at_once * points * depth);
            let mut start = tiles.start;
            while start < tiles.end {
                let count = at_once.min(tiles.end - start);
                for tile in 0..count {
                    let to = &mut image[tile * depth..];
                    self.tile_to_points(conv, input, out, start + tile, to, count * depth);
                }
                for point in 0..points {
                    let from = &image[point * count * depth..][..count * depth];
                    let to = &mut product[point * count * outputs..][..count * outputs];
                    self.multiply_point(conv, point, from, to, outputs);
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
        let (transforms, side) = (conv.transforms, conv.transforms.tile);
        let across = out.width.div_ceil(side);
        let [above, left] = conv.window.before;
        // Above and left of the image it wraps around, and is too large.
        let (top, left) =
            ((tile / across * side).wrapping_sub(above), (tile % across * side).wrapping_sub(left));
        let mut pixels = [self.zeros.as_ptr(); MOST_POINTS];
        for (row, pixels) in pixels.chunks_exact_mut(side + 2).take(side + 2).enumerate() {
            let y = top.wrapping_add(row);
            if y < input.height {
                for (column, pixel) in pixels.iter_mut().enumerate() {
                    let x = left.wrapping_add(column);
                    if x < input.width {
                        *pixel = input.pixel(y * input.width + x).cast_const();
                    }
                }
            }
        }
        let args = ImageArgs { pixels, channels: input.channels, out: to.as_mut_ptr(), stride };
        debug_assert!((transforms.points() - 1) * stride + conv.depth <= to.len());
        // SAFETY: pixels are the image's or zeros, with all their channels, whole blocks; `to` has a place for
        // each point; the plan's kernels were chosen for this machine.
        unsafe { (transforms.image)(&args) };
    }

    fn multiply_point(
        &self,
        conv: &Winograd,
        point: usize,
        from: &[f32],
        to: &mut [f32],
        outputs: usize,
    ) {
        let depth = conv.depth;
        let weights = &conv.window.weights[point * depth * outputs..][..depth * outputs];
        let count = from.len() / depth;
        let height = count.div_ceil(count.div_ceil(self.kernels.rows));
        let mut pixels = [std::ptr::null(); super::conv::MOST_ROWS];
        for column in (0..outputs).step_by(conv.panel) {
            let columns = conv.panel.min(outputs - column);
            for row in (0..count).step_by(height) {
                let rows = height.min(count - row);
                for (pixel, row) in pixels.iter_mut().zip(row..row + rows) {
                    *pixel = from[row * depth..].as_ptr();
                }
                let args = TileArgs {
                    pixels: pixels.as_ptr(),
                    taps: 1,
                    channels: depth,
                    weights: weights[column * depth..][..columns * depth].as_ptr(),
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
                // SAFETY: rows of `depth` values, weights and zeros sliced to size, and the tile's rows and
                // columns lie in `to`, since outputs are whole blocks; the kernels were chosen for this machine.
                unsafe { (self.tile(conv.transforms.cells, false))(&args) };
            }
        }
    }

    fn points_to_tile(&self, conv: &Winograd, from: &[f32], stride: usize, out: View, tile: usize) {
        let (transforms, side) = (conv.transforms, conv.transforms.tile);
        let across = out.width.div_ceil(side);
        let (y, x) = (tile / across * side, tile % across * side);
        let window = &conv.window;
        let args = OutputArgs {
            points: from.as_ptr(),
            stride,
            bias: window.bias[..out.channels].as_ptr(),
            out: out.pixel(y * out.width + x),
            pixel: out.stride,
            row: out.width * out.stride,
            rows: side.min(out.height - y),
            columns: side.min(out.width - x),
            channels: out.channels,
            low: window.limits.low,
            high: window.limits.high,
        };
        debug_assert!((transforms.points() - 1) * stride + out.channels <= from.len());
        // SAFETY: `from` has every point of this tile; rows and columns are those on the output, whose channels
        // are whole blocks and belong to this thread; the plan's kernels were chosen for this machine.
        unsafe { (transforms.output)(&args) };
    }
}
