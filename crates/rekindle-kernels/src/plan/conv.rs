//! Convolutions over activations in memory: products row block by row block, depthwise row by row.

use std::cell::RefCell;
use std::ops::Range;

use super::{Gemm, Plan, Window};
use crate::depthwise::{MOST_KERNEL_ROWS, RowArgs};
use crate::gemm::{Tile, TileArgs};
use crate::simd::CHANNEL_BLOCK;

/// Values of the left matrix that a block of rows keeps in the second-level cache.
const BLOCK_VALUES: usize = 48 * 1024;

/// Rows of the tallest tile.
pub(super) const MOST_ROWS: usize = 16;

thread_local! {
    static POINTERS: RefCell<Vec<*const f32>> = const { RefCell::new(Vec::new()) };
}

/// An activation in memory: `[height][width][stride]`, of which `channels` are used. Valid for what it says, and
/// written by one thread only where it is written.
#[derive(Clone, Copy)]
pub(super) struct View {
    pub base: *mut f32,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub stride: usize,
}

impl View {
    /// A pixel, counted row by row.
    pub fn pixel(self, index: usize) -> *mut f32 {
        debug_assert!(index < self.height * self.width);
        // SAFETY: within the view, which is valid.
        unsafe { self.base.add(index * self.stride) }
    }

    /// What begins at a pixel.
    pub fn starting_at(self, index: usize) -> Self {
        Self { base: self.pixel(index), ..self }
    }
}

/// A convolution of one input as a matrix product, its rows the output's pixels.
pub(super) struct Product<'a> {
    tile: Tile,
    /// Most rows of a tile.
    tile_rows: usize,
    /// What pixels outside of the image point to.
    zeros: &'a [f32],
    gemm: &'a Gemm,
    out_width: usize,
}

/// What a product reads and writes of one image, each of it whole.
#[derive(Clone, Copy)]
pub(super) struct Operands {
    pub input: View,
    pub out: View,
    pub residual: Option<View>,
}

impl Plan {
    /// `gemm`, for an output of so many columns.
    pub(super) fn product<'a>(&'a self, gemm: &'a Gemm, out_width: usize) -> Product<'a> {
        let (tile, tile_rows) = (self.tile(gemm.cells), self.kernels.rows);
        Product { tile, tile_rows, zeros: &self.zeros, gemm, out_width }
    }

    /// One row of a depthwise convolution of an input of this shape; `line` gives the input's rows by their number.
    pub(super) fn depthwise_row(
        &self,
        window: &Window,
        input: View,
        line: impl Fn(usize) -> *const f32,
        row: usize,
        to: *mut f32,
        out: View,
    ) {
        let top = row * window.stride[0];
        let first = window.before[0].saturating_sub(top);
        let last = (input.height + window.before[0]).saturating_sub(top).min(window.kernel[0]);
        let mut lines = [std::ptr::null(); MOST_KERNEL_ROWS];
        for (ky, pointer) in lines.iter_mut().enumerate().take(last).skip(first) {
            *pointer = line(top + ky - window.before[0]);
        }
        let args = RowArgs {
            lines,
            stride: input.stride,
            width: input.width,
            kernel_rows: [first, last],
            kernel: window.kernel,
            step: window.stride[1],
            left: window.before[1],
            weights: window.weights.as_ptr(),
            bias: window.bias.as_ptr(),
            out: to,
            out_stride: out.stride,
            outputs: out.width,
            channels: out.channels.next_multiple_of(CHANNEL_BLOCK),
            low: window.limits.low,
            high: window.limits.high,
        };
        // SAFETY: the rows `first..last` of the kernel lie on the image; input, output, weights and
        // bias have channels in whole blocks; the row belongs to this thread; the plan's kernels
        // were chosen for this machine.
        unsafe { (self.kernels.depthwise)(&args) };
    }
}

impl Product<'_> {
    /// Some of the rows and panels, of each image. A panel's weights are read once for all of them.
    pub fn run(&self, rows: Range<usize>, panels: Range<usize>, images: &[Operands]) {
        self.run_at(rows, panels, images, 0);
    }

    /// As [`run`](Self::run), where row `first` of the product is the first pixel of `out`.
    pub fn run_at(
        &self,
        rows: Range<usize>,
        panels: Range<usize>,
        images: &[Operands],
        first: usize,
    ) {
        let (Self { tile, tile_rows, gemm, .. }, window) = (self, &self.gemm.window);
        let taps = window.kernel[0] * window.kernel[1];
        let depth = taps * gemm.depth;
        let block = (BLOCK_VALUES / gemm.depth).next_multiple_of(*tile_rows);
        POINTERS.with_borrow_mut(|pointers| {
            for start in rows.clone().step_by(block) {
                let end = (start + block).min(rows.end);
                // Tiles of one height: seven of seven rows take less than six of eight and one of one.
                let height = (end - start).div_ceil((end - start).div_ceil(*tile_rows));
                let (tile_pointers, image_pointers) = (taps * height, taps * (end - start));
                // Once for all panels: for small kernels they cost as much as a tenth of the products.
                pointers.clear();
                for image in images {
                    for row in (start..end).step_by(height) {
                        self.point(pointers, image.input, row, height.min(end - row));
                    }
                }
                let tiles = || {
                    let of_images = images.iter().zip(pointers.chunks(image_pointers));
                    of_images.flat_map(|(image, pointers)| {
                        let rows = (start..end).step_by(height);
                        rows.zip(pointers.chunks(tile_pointers)).map(move |tile| (image, tile))
                    })
                };
                for panel in panels.clone() {
                    let column = panel * gemm.panel;
                    let columns = gemm.panel.min(window.bias.len() - column);
                    for (Operands { out, residual, .. }, (row, pixels)) in tiles() {
                        let count = height.min(end - row);
                        let added = residual.map_or(std::ptr::null(), |view| {
                            view.pixel(row).cast_const().wrapping_add(column)
                        });
                        let args = TileArgs {
                            // Only an image's last tile has fewer.
                            pixels: pixels[..taps * count].as_ptr(),
                            taps,
                            channels: gemm.depth,
                            weights: window.weights[column * depth..][..columns * depth].as_ptr(),
                            bias: window.bias[column..][..columns].as_ptr(),
                            out: out.pixel(row - first).wrapping_add(column),
                            stride: out.stride,
                            residual: added,
                            residual_stride: residual.map_or(0, |view| view.stride),
                            low: window.limits.low,
                            high: window.limits.high,
                            rows: count,
                            columns,
                        };
                        // SAFETY: `point` gave taps x count pointers to pixels of this many values or
                        // to zeros; weights and bias are sliced to size; the tile's rows and columns lie
                        // in the output, whose channels are padded to whole blocks, and belong
                        // to this thread; the plan's kernels were chosen for this machine.
                        unsafe { tile(&args) };
                    }
                }
            }
        });
    }

    /// Adds, for each tap, the pixels that `count` outputs from `row` on take.
    fn point(&self, pointers: &mut Vec<*const f32>, input: View, row: usize, count: usize) {
        let window = &self.gemm.window;
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
        for ky in 0..window.kernel[0] {
            for kx in 0..window.kernel[1] {
                for [y, x] in &corners[..count] {
                    let (y, x) = (y.wrapping_add(ky), x.wrapping_add(kx));
                    pointers.push(if y < input.height && x < input.width {
                        input.pixel(y * input.width + x).cast_const()
                    } else {
                        self.zeros.as_ptr()
                    });
                }
            }
        }
    }
}
