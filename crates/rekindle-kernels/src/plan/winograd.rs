//! 3 x 3 convolutions at stride 1 by Winograd's method: some tiles to their points, a product for each point, and
//! back.

use std::cell::RefCell;
use std::ops::Range;

use half::bf16;

use super::arena::numbers;
use super::{Plan, Window};
use crate::Precision;
use crate::factor::Float;
use crate::gemm::{Tile, TileArgs, pack};
use crate::ir::{Conv, Element};
use crate::isa::Kernels;
use crate::passes::Place;
use crate::simd::bf16::pair_rows;
use crate::simd::{Buffer, CHANNEL_BLOCK, aligned, zeros};
use crate::view::View;
use crate::winograd::{ImageArgs, MOST_POINTS, OutputArgs, Transforms, points, weights};

/// Bytes that the points of the tiles at work may take, so that they stay in the second-level cache.
const POINT_BYTES: usize = 320 * 1024;

/// Values of weights' points from which on reading them takes longer than the products: 8 MiB.
const MOST_WEIGHTS: usize = 2 * 1024 * 1024;

/// Points of the tiles at work.
struct Space {
    /// Of the image, as bytes of their element.
    image: Buffer<u8>,
    product: Buffer<f32>,
}

thread_local! {
    static SPACE: RefCell<Space> = RefCell::new(Space { image: zeros(0), product: zeros(0) });
}

/// A convolution's settings and its weights at the points.
pub(crate) struct Winograd {
    window: Window,
    /// Columns of a panel.
    panel: usize,
    /// Columns and rows of outputs that a tile has.
    side: usize,
    /// Values that a tile has at each point of its image.
    depth: usize,
    points: AnyPoints,
}

/// What is done with points of one element.
enum AnyPoints {
    F32(Points<f32>),
    Bf16(Points<bf16>),
}

struct Points<T: Float> {
    transforms: Transforms<T>,
    /// Each point's, as `gemm::pack` makes them.
    weights: Buffer<T>,
    tile: Tile<T, f32>,
}

impl Winograd {
    /// The element of the points that is the fastest for a convolution with an output of this height and width, where it
    /// is faster than the direct way. All costs are in vector operations: products, and the transforms beside them.
    pub fn choose(
        conv: &Conv,
        size: [usize; 2],
        kernels: &Kernels,
        precision: Precision,
    ) -> Option<Element> {
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
            Some(_) if tiles(size, 2) * (8 * pairs + 80 * inputs + 60 * outputs) < of_4 => {
                Some(Element::Bf16)
            }
            _ => Some(Element::F32),
        }
    }

    /// Moves a direct convolution's weights, `[tap][in][out]`, to points of an element; `window` has its settings.
    pub fn new(
        window: Window,
        direct: &[f32],
        [depth, outputs]: [usize; 2],
        element: Element,
        kernels: &Kernels,
    ) -> Self {
        let panel = kernels.columns;
        let (side, points) = match kernels.bf16.filter(|_| element == Element::Bf16) {
            Some(bf16) => {
                let transforms = bf16.winograd;
                let pairs = pair_rows(&weights(direct, transforms.tile), depth, outputs);
                let weights = pack_points(&pairs, depth / 2, outputs, panel);
                let weights = aligned(weights.as_flattened());
                let points = Points { transforms, weights, tile: bf16.tile };
                (transforms.tile, AnyPoints::Bf16(points))
            }
            None => {
                let transforms = kernels.winograd;
                let points = weights(direct, transforms.tile);
                let weights = aligned(&pack_points(&points, depth, outputs, panel));
                let points = Points { transforms, weights, tile: kernels.tile };
                (transforms.tile, AnyPoints::F32(points))
            }
        };
        Self { window, panel, side, depth, points }
    }

    /// How many tiles an output has.
    pub fn tiles(&self, out: &Place) -> usize {
        tiles([out.height, out.width], self.side)
    }
}

fn tiles([height, width]: [usize; 2], tile: usize) -> usize {
    height.div_ceil(tile) * width.div_ceil(tile)
}

/// Each point's weights, packed for a product.
fn pack_points<T: Copy + Default>(
    points: &[T],
    depth: usize,
    outputs: usize,
    panel: usize,
) -> Vec<T> {
    let points = points.chunks(depth * outputs);
    points.flat_map(|point| pack(point, depth, outputs, outputs, panel)).collect()
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
        match &conv.points {
            AnyPoints::F32(points) => self.run_points(conv, points, input, out, tiles),
            AnyPoints::Bf16(points) => self.run_points(conv, points, input, out, tiles),
        }
    }

    fn run_points<T: Float>(
        &self,
        conv: &Winograd,
        of: &Points<T>,
        input: View,
        out: View,
        tiles: Range<usize>,
    ) {
        let (depth, outputs, points) = (conv.depth, out.channels, points(conv.side));
        let per_tile = points * (depth * size_of::<T>() + outputs * size_of::<f32>());
        let rows = self.kernels.rows;
        let at_once = (POINT_BYTES / per_tile / rows * rows).max(rows).min(tiles.len());
        SPACE.with_borrow_mut(|Space { image, product }| {
            grow(image, at_once * points * depth * size_of::<T>());
            grow(product, at_once * points * outputs);
            let image = numbers::<T>(image);
            let mut start = tiles.start;
            while start < tiles.end {
                let count = at_once.min(tiles.end - start);
                for tile in 0..count {
                    let to = &mut image[tile * depth..];
                    self.tile_to_points(conv, of, [input, out], start + tile, to, count * depth);
                }
                for point in 0..points {
                    let from = &image[point * count * depth..][..count * depth];
                    let to = &mut product[point * count * outputs..][..count * outputs];
                    self.multiply_point(conv, of, point, from, to);
                }
                for tile in 0..count {
                    let from = &product[tile * outputs..];
                    points_to_tile(conv, of, from, count * outputs, out, start + tile);
                }
                start += count;
            }
        });
    }

    fn tile_to_points<T: Float>(
        &self,
        conv: &Winograd,
        of: &Points<T>,
        [input, out]: [View; 2],
        tile: usize,
        to: &mut [T],
        stride: usize,
    ) {
        let side = conv.side;
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
        debug_assert!((points(side) - 1) * stride + conv.depth <= to.len());
        // SAFETY: pixels are the image's or zeros, with all their channels, whole blocks; `to` has a place for
        // each point; the plan's kernels were chosen for this machine.
        unsafe { (of.transforms.image)(&args) };
    }

    fn multiply_point<T: Float>(
        &self,
        conv: &Winograd,
        of: &Points<T>,
        point: usize,
        from: &[T],
        to: &mut [f32],
    ) {
        let (depth, outputs) = (conv.depth, conv.window.bias.len());
        let weights = &of.weights[point * depth * outputs..][..depth * outputs];
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
                    scaling: (),
                    low: f32::NEG_INFINITY,
                    high: f32::INFINITY,
                    rows,
                    columns,
                };
                // SAFETY: rows of `depth` values, weights and zeros sliced to size, and the tile's rows and
                // columns lie in `to`, since outputs are whole blocks; the kernels were chosen for this machine.
                unsafe { (of.tile)(&args) };
            }
        }
    }
}

fn points_to_tile<T: Float>(
    conv: &Winograd,
    of: &Points<T>,
    from: &[f32],
    stride: usize,
    out: View,
    tile: usize,
) {
    let side = conv.side;
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
    debug_assert!((points(side) - 1) * stride + out.channels <= from.len());
    // SAFETY: `from` has every point of this tile; rows and columns are those on the output, whose channels
    // are whole blocks and belong to this thread; the plan's kernels were chosen for this machine.
    unsafe { (of.transforms.output)(&args) };
}

/// Makes room for `count` values.
fn grow<T: Copy + Default>(values: &mut Buffer<T>, count: usize) {
    if values.len() < count {
        values.resize(count, T::default());
    }
}
