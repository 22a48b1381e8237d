//! Running a plan: images side by side where there are enough of them, parts of each step side by side
//! where there are not.

use std::time::{Duration, Instant};

use rayon::prelude::*;
use rekindle_nn::Shape;
use rekindle_nn::layers::Activation;

use super::bf16::narrow_row;
use super::conv::View;
use super::ends::{ByteScale, Image};
use super::team::Team;
use super::{Gemm, Place, Plan, PlanError, Step, Work, Workspace};
use crate::pool::{self, Map, PoolArgs};
use crate::simd::CHANNEL_BLOCK;

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

    /// A place as the kernels take it.
    fn view(self, place: &Place) -> View {
        let Place { offset, height, width, channels, stride } = *place;
        View { base: self.at(offset), height, width, channels, stride }
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
        let mut outputs = vec![0.0; self.batch(images.len())? * self.output_shape.count()];
        self.run_into(images, &mut outputs)?;
        Ok(outputs)
    }

    /// As [`run`](Self::run), to memory of the caller's. After the first calls nothing is allocated and no lock taken.
    ///
    /// # Errors
    /// When `images` is not a whole number of images, or `outputs` not theirs.
    pub fn run_into(&self, images: &[f32], outputs: &mut [f32]) -> Result<(), PlanError> {
        self.run_all(images, outputs, Image::Values)
    }

    /// As [`run_into`](Self::run_into), for photos as they are decoded: `[batch, height, width, 3]`.
    ///
    /// # Errors
    /// As there.
    pub fn run_bytes(
        &self,
        photos: &[u8],
        scale: &ByteScale,
        outputs: &mut [f32],
    ) -> Result<(), PlanError> {
        if !matches!(self.input_shape, Shape::Map { channels: 3, .. }) {
            let what = format!("photos, which are [height, width, 3], as {}", self.input_shape);
            return Err(PlanError::Unsupported { layer: "input".into(), what });
        }
        self.run_all(photos, outputs, |photo| Image::Bytes(photo, scale))
    }

    /// How many images so many values are.
    fn batch(&self, values: usize) -> Result<usize, PlanError> {
        let count = self.input_shape.count();
        match values > 0 && values.is_multiple_of(count) {
            true => Ok(values / count),
            false => Err(PlanError::Input { expected: count, found: values }),
        }
    }

    fn run_all<'a, T: Sync>(
        &self,
        images: &'a [T],
        outputs: &mut [f32],
        image: impl Fn(&'a [T]) -> Image<'a> + Sync,
    ) -> Result<(), PlanError> {
        let (batch, threads) = (self.batch(images.len())?, rayon::current_num_threads());
        let (count, length) = (self.input_shape.count(), self.output_shape.count());
        if outputs.len() != batch * length {
            return Err(PlanError::Output { expected: batch * length, found: outputs.len() });
        }
        if batch >= threads {
            let each = images.par_chunks_exact(count).zip(outputs.par_chunks_exact_mut(length));
            each.for_each(|(values, output)| self.run_image(image(values), output, 1, None));
        } else {
            let each = images.chunks_exact(count).zip(outputs.chunks_exact_mut(length));
            each.for_each(|(values, output)| self.run_image(image(values), output, threads, None));
        }
        Ok(())
    }

    /// Runs one image; `clock` takes the time of each step.
    pub(super) fn run_image(
        &self,
        image: Image<'_>,
        output: &mut [f32],
        threads: usize,
        mut clock: Option<&mut [Duration]>,
    ) {
        let mut workspace = self.free.pop().unwrap_or_else(|| Workspace {
            values: vec![0.0; self.arena],
            team: Team::new(self.steps.len() + 2),
        });
        workspace.team.reset();
        let arena = Arena { base: workspace.values.as_mut_ptr(), length: workspace.values.len() };
        let to = Arena { base: output.as_mut_ptr(), length: output.len() };
        let (team, last) = (&workspace.team, self.steps.len() + 1);
        // The image comes in before all steps, and the output goes out behind them.
        let parts = |number: usize| match number {
            0 => Self::split(self.input.height, threads),
            number if number == last => Self::split(self.output.channels, threads),
            number => self.parts(&self.steps[number - 1], threads),
        };
        let work = |number: usize, part: usize| {
            let share = |count: usize| {
                let parts = parts(number);
                part * count / parts..(part + 1) * count / parts
            };
            if number == 0 {
                let (rows, length) =
                    (share(self.input.height), self.input.width * self.input.stride);
                let offset = self.input.offset + rows.start * length;
                self.place_rows(image, rows.clone(), arena.write(offset, rows.len() * length));
            } else if number == last {
                let (channels, pixels) = (share(self.output.channels), self.output.pixels());
                let part = to.write(channels.start * pixels, channels.len() * pixels);
                self.take_channels(arena.read(&self.output), channels, part);
            } else {
                self.run_step(&self.steps[number - 1], arena, part, threads);
            }
        };
        let lead = || {
            let _finish = team.finish_at_end();
            for number in 0..=last {
                let start = clock.is_some().then(Instant::now);
                team.lead(number, parts(number), |part| work(number, part));
                if let (Some(clock), Some(start)) = (clock.as_deref_mut(), start) {
                    clock[number] += start.elapsed();
                }
            }
        };
        beside(lead, threads - 1, &|| team.help(parts, work));
        // One more than are kept is dropped.
        drop(self.free.push(workspace));
    }

    /// Into how many parts so much work is cut that threads share as they come.
    fn split(work: usize, threads: usize) -> usize {
        if threads > 1 { work.min(threads * 4) } else { 1 }
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
            Work::Winograd(conv) => conv.tiles(&step.out).div_ceil(self.kernels.rows).min(most),
            Work::Depthwise(_) | Work::Pool { .. } | Work::Narrow => step.out.height.min(most),
            // Each part begins with rows that another has computed too.
            Work::Strip(_) => step.out.height.min(threads),
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
                let product = self.product(gemm, arena.view(input), out.width);
                let residual = step.inputs.get(1).map(|place| arena.view(place));
                if self.by_panels(gemm, step, threads) {
                    product.run(0..rows, share(panels), arena.view(out), residual);
                } else {
                    // A part has whole tiles, but for the last.
                    let height = self.kernels.rows;
                    let tiles = share(rows.div_ceil(height));
                    let rows = tiles.start * height..(tiles.end * height).min(rows);
                    product.run(rows, 0..panels, arena.view(out), residual);
                }
            }
            Work::Winograd(conv) => {
                let tiles = share(conv.tiles(out));
                self.run_winograd(conv, arena.view(input), arena.view(out), tiles);
            }
            Work::Depthwise(window) => {
                let (input, out) = (arena.view(input), arena.view(out));
                let line = |y: usize| input.pixel(y * input.width).cast_const();
                for row in share(out.height) {
                    let to = out.pixel(row * out.width);
                    self.depthwise_row(window, input, line, row, to, out);
                }
            }
            Work::Narrow => {
                let (from, to) = (arena.view(input), arena.view(out));
                for row in share(out.height) {
                    if let Some(bf16) = self.kernels.bf16 {
                        // SAFETY: the row is this thread's; the plan's kernels were chosen for this machine.
                        unsafe { narrow_row(bf16.narrow, from, to, row) };
                    }
                }
            }
            Work::Strip(strip) => {
                let residual = step.inputs.get(1).map(|place| arena.view(place));
                self.run_strip(
                    strip,
                    arena.view(input),
                    residual,
                    arena.view(out),
                    share(out.height),
                );
            }
            Work::Pool { pool, is_max, limits } => {
                let (from, to) = (arena.view(input), arena.view(out));
                let before = |axis: usize, size: usize| {
                    pool.padding.amount(size, pool.kernel[axis], pool.stride[axis])[0]
                };
                let (top, left) = (before(0, input.height), before(1, input.width));
                for row in share(out.height) {
                    let start = row * pool.stride[0];
                    let end = (start + pool.kernel[0]).saturating_sub(top).min(input.height);
                    let args = PoolArgs {
                        input: from.base,
                        width: input.width,
                        stride: input.stride,
                        rows: [start.saturating_sub(top), end],
                        kernel: pool.kernel[1],
                        step: pool.stride[1],
                        left,
                        out: to.pixel(row * out.width),
                        out_stride: out.stride,
                        outputs: out.width,
                        channels: out.channels.next_multiple_of(CHANNEL_BLOCK),
                        is_max: *is_max,
                        low: limits.low,
                        high: limits.high,
                    };
                    // SAFETY: windows lie on the image, but for the padding, which is less than a window; input and
                    // output have channels in whole blocks; the row belongs to this thread; the plan's kernels were
                    // chosen for this machine.
                    unsafe { (self.kernels.pool)(&args) };
                }
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
}

/// Runs `lead` here and `help` on other threads, as long as there are some without work. Unlike with `rayon::scope`,
/// nothing is allocated.
fn beside(lead: impl FnOnce() + Send, helpers: usize, help: &(impl Fn() + Sync)) {
    fn all(helpers: usize, help: &(impl Fn() + Sync)) {
        match helpers {
            0 => {}
            1 => help(),
            _ => drop(rayon::join(help, || all(helpers - 1, help))),
        }
    }
    match helpers {
        0 => lead(),
        _ => drop(rayon::join(lead, || all(helpers, help))),
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
