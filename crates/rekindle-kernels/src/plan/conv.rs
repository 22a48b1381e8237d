//! Convolutions over activations in memory: products row block by row block, depthwise row by row.

use std::ops::Range;

use super::{Depthwise, Gemm, GemmShape, Plan};
use crate::depthwise::{MOST_KERNEL_ROWS, RowsArgs, can_pair};
use crate::factor::Factor;
use crate::gemm::TileArgs;
use crate::ir::Number;
use crate::view::View;

/// Bytes of the left matrix that a block of rows keeps in the second-level cache.
const BLOCK_BYTES: usize = 192 * 1024;

/// Rows of the tallest tile.
pub(super) const MOST_ROWS: usize = 16;

/// A convolution of one input as a matrix product, its rows the output's pixels.
pub(super) struct Product<'a, I: Factor, O> {
    /// Most rows of a tile.
    tile_rows: usize,
    /// What pixels outside of the image point to.
    outside: *const I,
    gemm: &'a Gemm<I, O>,
    out_width: usize,
}

/// What a product reads and writes of one image, each of it whole.
#[derive(Clone, Copy)]
pub(super) struct Operands<I: Factor, O> {
    pub input: View<I>,
    pub out: View<O>,
    pub residual: Option<View<I::Residual>>,
}

impl Plan {
    /// `gemm`, for an output of `out_width` columns.
    pub(super) fn product<'a, I: Factor, O>(
        &'a self,
        gemm: &'a Gemm<I, O>,
        out_width: usize,
    ) -> Product<'a, I, O> {
        let outside = I::outside(&self.zeros, &gemm.ends);
        Product { tile_rows: self.kernels.rows, outside, gemm, out_width }
    }

    /// Some rows of a depthwise convolution and whole blocks of its channels, with which `input` and `out` begin. `line`
    /// gives the input's rows by their number; the first of `rows` goes to where `out` begins.
    pub(super) fn depthwise_rows(
        &self,
        Depthwise { window, weights, .. }: &Depthwise,
        channels: Range<usize>,
        input: View,
        line: impl Fn(usize) -> *const f32,
        rows: Range<usize>,
        out: View,
    ) {
        let (kernel, [down, step]) = (window.kernel, window.stride);
        let ([above, left], [far, spread]) = (window.before, window.dilation);
        let can_pair = window.dilation == [1, 1]
            && can_pair(kernel, window.stride, left, input.width, out.width);
        // The rows of the kernel that lie on the image.
        let on_image = |row: usize| {
            let top = row * down;
            let last = (input.height + above).saturating_sub(top).div_ceil(far).min(kernel[0]);
            [above.saturating_sub(top).div_ceil(far), last]
        };
        let is_whole = |row: usize| row < rows.end && on_image(row) == [0, kernel[0]];
        let mut row = rows.start;
        while row < rows.end {
            let count = if can_pair && is_whole(row) && is_whole(row + 1) { 2 } else { 1 };
            let [first, last] = on_image(row);
            let mut lines = [std::ptr::null(); MOST_KERNEL_ROWS];
            let behind = last + (count - 1) * down;
            for (ky, pointer) in lines.iter_mut().enumerate().take(behind).skip(first) {
                *pointer = line(row * down + ky * far - above);
            }
            let args = RowsArgs {
                lines,
                stride: input.stride,
                width: input.width,
                rows: count,
                kernel_rows: [first, last],
                kernel,
                step,
                spread,
                left,
                weights: weights[channels.start..].as_ptr(),
                weights_stride: window.bias.len(),
                bias: window.bias[channels.clone()].as_ptr(),
                out: out.base.wrapping_add((row - rows.start) * out.width * out.stride),
                out_stride: out.stride,
                out_line: out.width * out.stride,
                outputs: out.width,
                channels: channels.len(),
                low: window.limits.low,
                high: window.limits.high,
            };
            // SAFETY: the rows `first..last` of the kernel lie on the image, and where there are two rows all of
            // them; input, output, weights and bias have channels in whole blocks; the rows belong to this
            // thread; the plan's kernels were chosen for this machine.
            unsafe { (self.kernels.depthwise)(&args) };
            row += count;
        }
    }
}

impl<I: Factor, O: Number> Product<'_, I, O> {
    /// Some of the rows and panels, of each image. A panel's weights are read once for all of them.
    pub fn run(&self, rows: Range<usize>, panels: Range<usize>, images: &[Operands<I, O>]) {
        let GemmShape { depth, panel: width, .. } = self.gemm.shape;
        // At least a tile: a head on a flat map has more channels than a block has room for.
        let block = BLOCK_BYTES / (depth * size_of::<I>());
        let block = block.max(1).next_multiple_of(self.tile_rows);
        I::with_pointers(|pointers| {
            for start in rows.clone().step_by(block) {
                let rows = start..(start + block).min(rows.end);
                // Once for all panels: for small kernels they cost as much as a tenth of the products.
                pointers.clear();
                for image in images {
                    self.point(pointers, image.input, rows.clone());
                }
                for panel in panels.clone() {
                    let pointers = pointers.chunks(rows.len() * self.gemm.shape.taps());
                    for (&Operands { out, residual, .. }, pointers) in images.iter().zip(pointers) {
                        let column = panel * width;
                        let residual = residual.map(|view| view.from(rows.start, column));
                        self.run_panel(panel, pointers, out.from(rows.start, column), residual);
                    }
                }
            }
        });
    }

    /// One panel of the rows that `pointers` are of, to where `out` begins.
    pub fn run_panel(
        &self,
        panel: usize,
        pointers: &[*const I],
        out: View<O>,
        residual: Option<View<I::Residual>>,
    ) {
        let Gemm { shape, weights, tile, ends } = self.gemm;
        let (window, taps) = (&shape.window, shape.taps());
        let (rows, depth) = (pointers.len() / taps, taps * shape.depth);
        let height = self.tile_height(rows);
        let column = panel * shape.panel;
        let columns = shape.panel.min(window.bias.len() - column);
        let weights = &weights[column * depth..][..columns * depth];
        let bias = &I::begin(&window.bias, ends)[column..][..columns];
        for (index, pixels) in pointers.chunks(taps * height).enumerate() {
            let row = index * height;
            let args = TileArgs {
                pixels: pixels.as_ptr(),
                taps,
                channels: shape.depth,
                weights: weights.as_ptr(),
                bias: bias.as_ptr(),
                out: out.base.wrapping_add(row * out.stride),
                stride: out.stride,
                residual: residual.map_or(std::ptr::null(), |view| {
                    view.base.wrapping_add(row * view.stride).cast_const()
                }),
                residual_stride: residual.map_or(0, |view| view.stride),
                scaling: I::scaling(ends, column),
                low: window.limits.low,
                high: window.limits.high,
                // Only the last tile has fewer.
                rows: height.min(rows - row),
                columns,
            };
            // SAFETY: `point` gave taps x count pointers to pixels of this many values or
            // to zeros; weights and bias are sliced to size; the tile's rows and columns lie
            // in the output, whose channels are padded to whole blocks, and belong
            // to this thread; the plan's kernels were chosen for this machine.
            unsafe { tile(&args) };
        }
    }

    /// Tiles of one height: seven of seven rows take less than six of eight and one of one.
    fn tile_height(&self, rows: usize) -> usize {
        rows.div_ceil(rows.div_ceil(self.tile_rows).max(1)).max(1)
    }

    /// Adds pointers to what these rows take, tile by tile.
    pub fn point(&self, pointers: &mut Vec<*const I>, input: View<I>, rows: Range<usize>) {
        let height = self.tile_height(rows.len());
        for row in rows.clone().step_by(height) {
            self.point_tile(pointers, input, row, height.min(rows.end - row));
        }
    }

    /// Adds, for each tap, the pixels that `count` outputs from `row` on take.
    fn point_tile(&self, pointers: &mut Vec<*const I>, input: View<I>, row: usize, count: usize) {
        let window = &self.gemm.shape.window;
        // An image that is stored with its padding is wider than the output.
        let is_same = input.width == self.out_width;
        if is_same && window.kernel == [1, 1] && window.stride == [1, 1] {
            pointers.extend((row..row + count).map(|pixel| input.pixel(pixel).cast_const()));
            return;
        }
        // The first pixel of each output. Above and left of the image it wraps around, and is too large.
        let mut corners = [[0; 2]; MOST_ROWS];
        let (mut y, mut x) = (row / self.out_width, row % self.out_width);
        for corner in &mut corners[..count] {
            *corner = [
                (y * window.stride[0]).wrapping_sub(window.before[0]),
                (x * window.stride[1]).wrapping_sub(window.before[1]),
            ];
            x += 1;
            if x == self.out_width {
                (y, x) = (y + 1, 0);
            }
        }
        let [down, right] = window.dilation;
        for ky in 0..window.kernel[0] {
            for kx in 0..window.kernel[1] {
                for [y, x] in &corners[..count] {
                    let (y, x) = (y.wrapping_add(ky * down), x.wrapping_add(kx * right));
                    pointers.push(if y < input.height && x < input.width {
                        input.pixel(y * input.width + x).cast_const()
                    } else {
                        self.outside
                    });
                }
            }
        }
    }
}
