//! 3 x 3 convolutions at stride 1 by Winograd's method: some tiles to their points, a product for each point, and
//! back.

use std::cell::RefCell;
use std::ops::Range;

use half::bf16;
use rayon::prelude::*;
use rekindle_nn::Shape;

use super::arena::{Arena, numbers};
use super::{Plan, Window};
use crate::Precision;
use crate::factor::Float;
use crate::gemm::{Tile, TileArgs, pack_into};
use crate::ir::{Conv, Element, Number, Stage};
use crate::isa::Kernels;
use crate::passes::{self, Place};
use crate::simd::bf16::pair_rows;
use crate::simd::{Buffer, CHANNEL_BLOCK, aligned, zeros};
use crate::view::View;
use crate::winograd::{ImageArgs, MOST_POINTS, OutputArgs, Transforms, points, weights};

/// Bytes that the points of the tiles at work may take, so that they stay in the second-level cache.
const POINT_BYTES: usize = 320 * 1024;

/// Values of weights' points from which on reading them again for some tiles takes longer than the products: 8 MiB.
const MOST_WEIGHTS: usize = 2 * 1024 * 1024;

/// Products that take as long as reading a weight from memory: 20 GB/s and 59 billion products a second, of one core.
const READING: usize = 12;

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
    /// Height and width of the output.
    size: [usize; 2],
    /// Values that a tile has at each point of its image.
    depth: usize,
    outputs: usize,
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
            && tiles(size, kernels.winograd.tile) >= 8;
        let read = if is_large(conv) { READING } else { 0 };
        let of_4 = (tiles(size, 4) + read) * MOST_POINTS * pairs
            + tiles(size, 4) * (220 * inputs + 150 * outputs);
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

    /// The points and tiles of a convolution whose weights are too large to be read again for every few tiles.
    pub fn in_stages(
        conv: &Conv,
        out: Shape,
        element: Element,
        kernels: &Kernels,
    ) -> Option<passes::Points> {
        let side = match kernels.bf16.filter(|_| element == Element::Bf16) {
            Some(bf16) => bf16.winograd.tile,
            None => kernels.winograd.tile,
        };
        let tiles = tiles(map(out), side);
        is_large(conv).then_some(passes::Points { element, points: points(side), tiles })
    }

    /// Moves a direct convolution's weights, `[tap][in][out]`, to points of an element; `out` is the output's shape.
    pub fn new(conv: &Conv, out: Shape, element: Element, kernels: &Kernels) -> Self {
        let ([depth, outputs], panel) = (conv.channels, kernels.columns);
        let (side, points) = match kernels.bf16.filter(|_| element == Element::Bf16) {
            Some(bf16) => {
                let transforms = bf16.winograd;
                let pairs = pair_rows(&weights(&conv.weights, transforms.tile), depth, outputs);
                let weights = pack_points(&pairs, depth / 2, outputs, panel);
                let weights = aligned(weights.as_flattened());
                let points = Points { transforms, weights, tile: bf16.tile };
                (transforms.tile, AnyPoints::Bf16(points))
            }
            None => {
                let transforms = kernels.winograd;
                let points = weights(&conv.weights, transforms.tile);
                let weights = pack_points(&points, depth, outputs, panel);
                let points = Points { transforms, weights, tile: kernels.tile };
                (transforms.tile, AnyPoints::F32(points))
            }
        };
        let window = Window::of(conv, outputs);
        Self { window, panel, side, size: map(out), depth, outputs, points }
    }

    /// How many tiles an output has.
    pub fn tiles(&self) -> usize {
        tiles(self.size, self.side)
    }

    /// Panels of a point's weights, of all points.
    pub fn panels(&self) -> usize {
        points(self.side) * self.outputs.div_ceil(self.panel)
    }

    /// Multiplications of the direct way.
    pub fn macs(&self) -> usize {
        self.size[0] * self.size[1] * 9 * self.depth * self.outputs
    }

    /// The first row and column of a tile's outputs.
    fn corner(&self, tile: usize) -> [usize; 2] {
        let across = self.size[1].div_ceil(self.side);
        [tile / across * self.side, tile % across * self.side]
    }
}

/// Whether the weights' points do not stay in the cache while a convolution runs.
pub(super) fn is_large(conv: &Conv) -> bool {
    MOST_POINTS * conv.channels[0] * conv.channels[1] > MOST_WEIGHTS
}

fn tiles([height, width]: [usize; 2], tile: usize) -> usize {
    height.div_ceil(tile) * width.div_ceil(tile)
}

/// The height and width of an output.
fn map(out: Shape) -> [usize; 2] {
    match out {
        Shape::Map { height, width, .. } => [height, width],
        Shape::Flat(_) => [1, 1],
    }
}

/// Each point's weights, packed for a product.
fn pack_points<T: Copy + Default + Send + Sync>(
    points: &[T],
    depth: usize,
    outputs: usize,
    panel: usize,
) -> Buffer<T> {
    let mut packed = zeros(points.len());
    let each = packed.par_chunks_mut(depth * outputs).zip(points.par_chunks(depth * outputs));
    each.for_each_init(Vec::new, |room, (packed, point)| {
        pack_into(room, point, depth, outputs, outputs, panel);
        packed.copy_from_slice(room);
    });
    packed
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
            AnyPoints::F32(points) => self.run_tiles(conv, points, input, out, tiles),
            AnyPoints::Bf16(points) => self.run_tiles(conv, points, input, out, tiles),
        }
    }

    /// One of the three steps, of some tiles, or of some panels of all points.
    pub(super) fn run_points(
        &self,
        stage: Stage,
        conv: &Winograd,
        arena: Arena,
        places: [&Place; 2],
        some: Range<usize>,
    ) {
        match &conv.points {
            AnyPoints::F32(points) => self.run_stage(stage, conv, points, arena, places, some),
            AnyPoints::Bf16(points) => self.run_stage(stage, conv, points, arena, places, some),
        }
    }

    fn run_stage<T: Float + Number>(
        &self,
        stage: Stage,
        conv: &Winograd,
        of: &Points<T>,
        arena: Arena,
        [input, out]: [&Place; 2],
        some: Range<usize>,
    ) {
        match stage {
            Stage::Image => {
                let (from, to) = (arena.view(input), arena.view(out));
                some.for_each(|tile| self.tile_to_points(conv, of, from, tile, to, tile));
            }
            Stage::Product => {
                self.multiply(conv, of, arena.view(input), arena.view(out), some);
            }
            Stage::Output => {
                let (from, to) = (arena.view(input), arena.view(out));
                some.for_each(|tile| points_to_tile(conv, of, from, tile, to, tile));
            }
        }
    }

    /// Some panels of the points' weights, counted point by point.
    fn multiply<T: Float>(
        &self,
        conv: &Winograd,
        of: &Points<T>,
        from: View<T>,
        to: View,
        some: Range<usize>,
    ) {
        let across = conv.outputs.div_ceil(conv.panel);
        for panel in some {
            let (point, panel) = (panel / across, panel % across);
            self.multiply_panel(conv, of, [point, panel], (from, to), conv.tiles());
        }
    }

    fn run_tiles<T: Float>(
        &self,
        conv: &Winograd,
        of: &Points<T>,
        input: View,
        out: View,
        tiles: Range<usize>,
    ) {
        let (depth, outputs, points) = (conv.depth, conv.outputs, points(conv.side));
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
                let image = View::of(image, [points, count, depth]);
                let product = View::of(product, [points, count, outputs]);
                for tile in 0..count {
                    self.tile_to_points(conv, of, input, start + tile, image, tile);
                }
                for point in 0..points {
                    for panel in 0..outputs.div_ceil(conv.panel) {
                        self.multiply_panel(conv, of, [point, panel], (image, product), count);
                    }
                }
                for tile in 0..count {
                    points_to_tile(conv, of, product, tile, out, start + tile);
                }
                start += count;
            }
        });
    }

    /// A tile of the image, to the points of tile `number` of `to`.
    fn tile_to_points<T: Float>(
        &self,
        conv: &Winograd,
        of: &Points<T>,
        input: View,
        tile: usize,
        to: View<T>,
        number: usize,
    ) {
        let (side, [above, left]) = (conv.side, conv.window.before);
        // Above and left of the image it wraps around, and is too large.
        let [top, first] = conv.corner(tile);
        let (top, first) = (top.wrapping_sub(above), first.wrapping_sub(left));
        let mut pixels = [self.zeros.as_ptr(); MOST_POINTS];
        for (row, pixels) in pixels.chunks_exact_mut(side + 2).take(side + 2).enumerate() {
            let y = top.wrapping_add(row);
            if y < input.height {
                for (column, pixel) in pixels.iter_mut().enumerate() {
                    let x = first.wrapping_add(column);
                    if x < input.width {
                        *pixel = input.pixel(y * input.width + x).cast_const();
                    }
                }
            }
        }
        let stride = to.width * to.stride;
        let args = ImageArgs { pixels, channels: input.channels, out: to.pixel(number), stride };
        debug_assert!(to.height == points(side) && input.channels <= to.channels);
        // SAFETY: pixels are the image's or zeros, with all their channels, whole blocks; `to` has a place for
        // each point of this tile, which is this thread's; the plan's kernels were chosen for this machine.
        unsafe { (of.transforms.image)(&args) };
    }

    /// A point's product with a panel of its weights, of the first `count` tiles.
    fn multiply_panel<T: Float>(
        &self,
        conv: &Winograd,
        of: &Points<T>,
        [point, panel]: [usize; 2],
        (from, to): (View<T>, View),
        count: usize,
    ) {
        let (depth, outputs, column) = (conv.depth, conv.outputs, panel * conv.panel);
        let columns = conv.panel.min(outputs - column);
        let weights = &of.weights[point * depth * outputs..][..depth * outputs];
        let weights = &weights[column * depth..][..columns * depth];
        let height = count.div_ceil(count.div_ceil(self.kernels.rows));
        let mut pixels = [std::ptr::null(); super::conv::MOST_ROWS];
        for row in (0..count).step_by(height) {
            let rows = height.min(count - row);
            for (pixel, row) in pixels.iter_mut().zip(row..row + rows) {
                *pixel = from.pixel(point * from.width + row).cast_const();
            }
            let args = TileArgs {
                pixels: pixels.as_ptr(),
                channels: depth,
                weights: weights.as_ptr(),
                bias: self.zeros[..columns].as_ptr(),
                out: to.from(point * to.width + row, column).base,
                stride: to.stride,
                rows,
                columns,
                ..TileArgs::PLAIN
            };
            debug_assert!(depth <= from.channels && column + columns <= to.channels);
            // SAFETY: rows of `depth` values, weights and zeros sliced to size, and the tile's rows and
            // columns lie in `to`, since outputs are whole blocks, and are this thread's; the kernels were chosen for
            // this machine.
            unsafe { (of.tile)(&args) };
        }
    }
}

/// The points of tile `number` of `from`, to a tile of the output.
fn points_to_tile<T: Float>(
    conv: &Winograd,
    of: &Points<T>,
    from: View,
    number: usize,
    out: View,
    tile: usize,
) {
    let (side, window, [y, x]) = (conv.side, &conv.window, conv.corner(tile));
    let args = OutputArgs {
        points: from.pixel(number).cast_const(),
        stride: from.width * from.stride,
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
    debug_assert!(from.height == points(side) && out.channels <= from.channels);
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
