//! Running a plan: images side by side where there are enough of them, parts of each step side by side
//! where there are not.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use rekindle_nn::Shape;
use rekindle_nn::layers::Activation;

use super::team::Team;
use super::{Gemm, Place, Plan, PlanError, Step, Window, Work, Workspace};
use crate::depthwise::RowArgs;
use crate::gemm::TileArgs;
use crate::pool::{self, Map};
use crate::simd::CHANNEL_BLOCK;

/// Values of the left matrix that a block of rows keeps in the second-level cache.
const BLOCK_VALUES: usize = 48 * 1024;

/// Rows of the tallest tile.
const MOST_ROWS: usize = 16;

thread_local! {
    static POINTERS: RefCell<Vec<*const f32>> = const { RefCell::new(Vec::new()) };
    static SUMS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// An arena that the threads of one step share; each writes places of its own.
#[derive(Clone, Copy)]
struct Arena {
    base: *mut f32,
    length: usize,
}

// SAFETY: threads of one step write disjoint rows or panels, and read values of earlier steps only.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Arena {
    /// A pointer to the value at `offset`.
    fn at(self, offset: usize) -> *mut f32 {
        debug_assert!(offset < self.length);
        // SAFETY: plans give offsets within the arena only, which the tests of `allocate` check.
        unsafe { self.base.add(offset) }
    }

    /// The values of a place that no thread writes now.
    fn read(&self, place: &Place) -> &[f32] {
        debug_assert!(place.offset + place.extent() <= self.length);
        // SAFETY: within the arena; steps never write what they read but through `write`.
        unsafe { std::slice::from_raw_parts(self.at(place.offset), place.extent()) }
    }

    /// `count` values for this thread alone.
    #[expect(clippy::mut_from_ref, reason = "the arena is shared; its parts are not")]
    fn write(&self, offset: usize, count: usize) -> &mut [f32] {
        debug_assert!(offset + count <= self.length);
        // SAFETY: within the arena; the caller is the only one that touches these values.
        unsafe { std::slice::from_raw_parts_mut(self.at(offset), count) }
    }
}

impl Plan {
    /// Runs a batch: `[batch, 3, height, width]`, preprocessed. Gives `[batch, channels, height, width]`
    /// or `[batch, features]`.
    ///
    /// # Errors
    /// When `images` is not a whole number of images.
    pub fn run(&self, images: &[f32]) -> Result<Vec<f32>, PlanError> {
        let count = self.input_shape.count();
        if images.is_empty() || !images.len().is_multiple_of(count) {
            return Err(PlanError::Input { expected: count, found: images.len() });
        }
        let mut outputs = vec![0.0; images.len() / count * self.output_shape.count()];
        let (batch, threads) = (images.len() / count, rayon::current_num_threads());
        if batch >= threads {
            let outputs = outputs.par_chunks_exact_mut(self.output_shape.count());
            let each = images.par_chunks_exact(count).zip(outputs);
            each.for_each(|(image, output)| self.run_image(image, output, 1, None));
        } else {
            let outputs = outputs.chunks_exact_mut(self.output_shape.count());
            let each = images.chunks_exact(count).zip(outputs);
            each.for_each(|(image, output)| self.run_image(image, output, threads, None));
        }
        Ok(outputs)
    }

    /// Runs one image; `clock` takes the time of each step.
    pub(super) fn run_image(
        &self,
        image: &[f32],
        output: &mut [f32],
        threads: usize,
        mut clock: Option<&mut [Duration]>,
    ) {
        // A poisoned lock still guards whole workspaces.
        let free = |plan: &Self| plan.free.lock().unwrap_or_else(|error| error.into_inner()).pop();
        let mut workspace = free(self).unwrap_or_else(|| Workspace {
            values: vec![0.0; self.arena],
            team: Team::new(self.steps.len()),
        });
        workspace.team.reset();
        let arena = Arena { base: workspace.values.as_mut_ptr(), length: workspace.values.len() };
        let team = &workspace.team;
        let pixels = self.input.pixels();
        let input = arena.write(self.input.offset, self.input.extent());
        for (pixel, values) in input.chunks_exact_mut(self.input.channels).enumerate() {
            for (channel, value) in values.iter_mut().enumerate() {
                *value = image[channel * pixels + pixel];
            }
        }
        let parts = |step: usize| self.parts(&self.steps[step], threads);
        let work = |step: usize, part: usize| {
            self.run_step(&self.steps[step], arena, part, threads);
        };
        let mut lead = || {
            let _finish = team.finish_at_end();
            for number in 0..self.steps.len() {
                let start = clock.is_some().then(Instant::now);
                team.lead(number, parts(number), |part| work(number, part));
                if let (Some(clock), Some(start)) = (clock.as_deref_mut(), start) {
                    clock[number] += start.elapsed();
                }
            }
        };
        if threads > 1 {
            rayon::scope(|scope| {
                for _ in 1..threads {
                    scope.spawn(|_| team.help(parts, work));
                }
                lead();
            });
        } else {
            lead();
        }
        let result = arena.read(&self.output);
        let (pixels, place) = (self.output.pixels(), &self.output);
        match self.output_shape {
            Shape::Flat(count) => output.copy_from_slice(&result[..count]),
            Shape::Map { .. } => {
                for (channel, plane) in output.chunks_exact_mut(pixels).enumerate() {
                    for (pixel, value) in plane.iter_mut().enumerate() {
                        *value = result[pixel * place.stride + channel];
                    }
                }
            }
        }
        self.free.lock().unwrap_or_else(|error| error.into_inner()).push(workspace);
    }

    /// Into how many parts a step is cut for so many threads.
    fn parts(&self, step: &Step, threads: usize) -> usize {
        if threads < 2 {
            return 1;
        }
        // More parts than threads, so that one that is held up does not hold up all.
        let most = threads * 4;
        match &step.work {
            Work::Gemm(gemm) if self.by_panels(gemm, step, threads) => {
                step.out.channels.div_ceil(gemm.panel).min(most)
            }
            Work::Gemm(_) => step.out.pixels().div_ceil(self.kernels.rows).min(most),
            Work::Depthwise(_) | Work::Pool { .. } => step.out.height.min(most),
            Work::Global { .. } | Work::Flatten | Work::Copy | Work::Probabilities(_) => 1,
        }
    }

    /// Whether threads share the columns of a product, since it has too few rows.
    fn by_panels(&self, gemm: &Gemm, step: &Step, threads: usize) -> bool {
        let panels = step.out.channels.div_ceil(gemm.panel);
        threads > 1 && step.out.pixels() / self.kernels.rows < 8 * threads && panels >= threads
    }

    /// Runs one of the parts that a step has for so many threads.
    fn run_step(&self, step: &Step, arena: Arena, part: usize, threads: usize) {
        let (input, out, parts) = (&step.inputs[0], &step.out, self.parts(step, threads));
        let share = |count: usize| part * count / parts..(part + 1) * count / parts;
        match &step.work {
            Work::Gemm(gemm) => {
                let (rows, panels) = (out.pixels(), out.channels.div_ceil(gemm.panel));
                if self.by_panels(gemm, step, threads) {
                    self.gemm_part(gemm, step, arena, 0..rows, share(panels));
                } else {
                    // A part has whole tiles, but for the last.
                    let height = self.kernels.rows;
                    let tiles = share(rows.div_ceil(height));
                    let rows = tiles.start * height..(tiles.end * height).min(rows);
                    self.gemm_part(gemm, step, arena, rows, 0..panels);
                }
            }
            Work::Depthwise(window) => {
                self.run_depthwise(window, input, out, arena, share(out.height));
            }
            Work::Pool { pool, is_max } => {
                let map = Map { height: input.height, width: input.width, stride: input.stride };
                SUMS.with_borrow_mut(|sums| {
                    for row in share(out.height) {
                        let write = |column: usize, values: &[f32]| {
                            let offset = out.offset + (row * out.width + column) * out.stride;
                            arena.write(offset, out.channels).copy_from_slice(values);
                        };
                        let (from, channels) = (arena.read(input), input.channels);
                        pool::pool_row(from, map, pool, *is_max, row, channels, write, sums);
                    }
                });
            }
            Work::Global { is_max } => {
                let map = Map { height: input.height, width: input.width, stride: input.stride };
                let to = arena.write(out.offset, out.channels);
                pool::global(arena.read(input), map, *is_max, to);
            }
            Work::Flatten | Work::Copy => {
                let (from, is_flat) = (arena.read(input), matches!(step.work, Work::Flatten));
                let stride = if is_flat { input.channels } else { out.stride };
                for (pixel, values) in from.chunks(input.stride).enumerate() {
                    let to = arena.write(out.offset + pixel * stride, input.channels);
                    to.copy_from_slice(&values[..input.channels]);
                }
            }
            Work::Probabilities(activation) => {
                let values = arena.write(out.offset, out.channels);
                probabilities(*activation, values);
            }
        }
    }

    fn gemm_part(
        &self,
        gemm: &Gemm,
        step: &Step,
        arena: Arena,
        rows: std::ops::Range<usize>,
        panels: std::ops::Range<usize>,
    ) {
        let (window, input, out) = (&gemm.window, &step.inputs[0], &step.out);
        let taps = window.kernel[0] * window.kernel[1];
        let depth = taps * input.channels;
        let padded = out.channels.next_multiple_of(CHANNEL_BLOCK);
        let block = (BLOCK_VALUES / input.channels).next_multiple_of(self.kernels.rows);
        let tile_pointers = taps * self.kernels.rows;
        POINTERS.with_borrow_mut(|pointers| {
            for start in rows.clone().step_by(block) {
                let end = (start + block).min(rows.end);
                // Once for all panels: for small kernels they cost as much as a tenth of the products.
                pointers.clear();
                for row in (start..end).step_by(self.kernels.rows) {
                    let count = self.kernels.rows.min(end - row);
                    self.point(pointers, window, input, out, arena, row, count);
                }
                for panel in panels.clone() {
                    let column = panel * gemm.panel;
                    let columns = gemm.panel.min(padded - column);
                    for (tile, row) in (start..end).step_by(self.kernels.rows).enumerate() {
                        let count = self.kernels.rows.min(end - row);
                        let at = out.offset + row * out.stride + column;
                        let residual = step.inputs.get(1).map_or(std::ptr::null(), |place| {
                            arena.at(place.offset + row * place.stride + column).cast_const()
                        });
                        let args = TileArgs {
                            // Only the last tile has fewer.
                            pixels: pointers[tile * tile_pointers..][..taps * count].as_ptr(),
                            taps,
                            channels: input.channels,
                            weights: window.weights[column * depth..][..columns * depth].as_ptr(),
                            bias: window.bias[column..][..columns].as_ptr(),
                            out: arena.at(at),
                            stride: out.stride,
                            residual,
                            residual_stride: step.inputs.get(1).map_or(0, |place| place.stride),
                            low: window.low,
                            high: window.high,
                            rows: count,
                            columns,
                        };
                        // SAFETY: `point` gave taps x count pointers to pixels of this many channels or
                        // to zeros; weights and bias are sliced to size; the tile's rows and columns lie
                        // in the step's output, whose channels are padded to whole blocks, and belong
                        // to this thread; the plan's kernels were chosen for this machine.
                        unsafe { (self.kernels.tile)(&args) };
                    }
                }
            }
        });
    }

    /// Adds, for each tap, the pixels that `count` outputs from `row` on take.
    #[expect(clippy::too_many_arguments, reason = "one call, in the innermost loop but two")]
    fn point(
        &self,
        pointers: &mut Vec<*const f32>,
        window: &Window,
        input: &Place,
        out: &Place,
        arena: Arena,
        row: usize,
        count: usize,
    ) {
        if window.kernel == [1, 1] && window.stride == [1, 1] {
            let pixel = |m: usize| arena.at(input.offset + (row + m) * input.stride).cast_const();
            pointers.extend((0..count).map(pixel));
            return;
        }
        // The first pixel of each output. Above and left of the image it wraps around, and is too large.
        let mut corners = [[0; 2]; MOST_ROWS];
        let (mut y, mut x) = (row / out.width, row % out.width);
        for corner in &mut corners[..count] {
            *corner = [
                (y * window.stride[0]).wrapping_sub(window.before[0]),
                (x * window.stride[1]).wrapping_sub(window.before[1]),
            ];
            x += 1;
            if x == out.width {
                (y, x) = (y + 1, 0);
            }
        }
        for ky in 0..window.kernel[0] {
            for kx in 0..window.kernel[1] {
                for [y, x] in &corners[..count] {
                    let (y, x) = (y.wrapping_add(ky), x.wrapping_add(kx));
                    pointers.push(if y < input.height && x < input.width {
                        arena.at(input.offset + (y * input.width + x) * input.stride).cast_const()
                    } else {
                        self.zeros.as_ptr()
                    });
                }
            }
        }
    }

    fn run_depthwise(
        &self,
        window: &Window,
        input: &Place,
        out: &Place,
        arena: Arena,
        rows: std::ops::Range<usize>,
    ) {
        let channels = out.channels.next_multiple_of(CHANNEL_BLOCK);
        for row in rows {
            let top = row * window.stride[0];
            let first = window.before[0].saturating_sub(top);
            let last = (input.height + window.before[0]).saturating_sub(top).min(window.kernel[0]);
            let line = (top + first).saturating_sub(window.before[0]);
            let args = RowArgs {
                input: arena.at(input.offset + line * input.width * input.stride),
                stride: input.stride,
                width: input.width,
                kernel_rows: [first, last],
                kernel: window.kernel,
                step: window.stride[1],
                left: window.before[1],
                weights: window.weights.as_ptr(),
                bias: window.bias.as_ptr(),
                out: arena.at(out.offset + row * out.width * out.stride),
                out_stride: out.stride,
                outputs: out.width,
                channels,
                low: window.low,
                high: window.high,
            };
            // SAFETY: the rows `first..last` of the kernel lie on the image; input, output, weights and
            // bias have channels in whole blocks; the row belongs to this thread; the plan's kernels
            // were chosen for this machine.
            unsafe { (self.kernels.depthwise)(&args) };
        }
    }
}

fn probabilities(activation: Activation, values: &mut [f32]) {
    match activation {
        Activation::Softmax => {
            let highest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut total = 0.0;
            for value in values.iter_mut() {
                *value = (*value - highest).exp();
                total += *value;
            }
            for value in values.iter_mut() {
                *value /= total;
            }
        }
        Activation::Sigmoid => {
            for value in values.iter_mut() {
                *value = 1.0 / (1.0 + (-*value).exp());
            }
        }
        _ => {}
    }
}
