//! Running a plan: images side by side where there are enough of them, parts of each step side by side
//! where there are not.

use std::ops::Range;
use std::time::{Duration, Instant};

use half::bf16;
use rayon::prelude::*;
use rekindle_nn::Shape;

use super::arena::Arena;
use super::conv::Operands;
use super::ends::{ByteScale, Image};
use super::team::Team;
use super::{AnyGemm, Gemm, GemmShape, Plan, PlanError, Step, Work, Workspace};
use crate::factor::Factor;
use crate::ir::{Element, Number, Stage};
use crate::passes::Place;
use crate::pool::{self, Map, PoolArgs};
use crate::simd::{CHANNEL_BLOCK, zeros};
use crate::view::View;
use crate::winograd::MOST_POINTS;

/// Images that a thread runs together, at most.
pub(super) const MOST_TOGETHER: usize = 4;

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

    /// How many images these values are.
    pub(super) fn batch(&self, values: usize) -> Result<usize, PlanError> {
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
            let together = Self::together(batch, threads);
            let groups = images.par_chunks(count * together);
            let groups = groups.zip(outputs.par_chunks_mut(length * together));
            groups.for_each(|(images, outputs)| {
                self.run_together(images.chunks_exact(count).map(&image), outputs, None);
            });
        } else {
            let each = images.chunks_exact(count).zip(outputs.chunks_exact_mut(length));
            each.for_each(|(values, output)| self.run_image(image(values), output, threads, None));
        }
        Ok(())
    }

    /// How many of a batch's images a thread takes together. Each gets two such groups or more, so that one that is
    /// held up does not hold up all.
    pub(super) fn together(batch: usize, threads: usize) -> usize {
        (batch / (threads * 2)).clamp(1, MOST_TOGETHER)
    }

    pub(super) fn workspace(&self) -> Workspace {
        self.free.pop().unwrap_or_else(|| Workspace {
            bytes: zeros(self.arena),
            team: Team::new(self.steps.len() + 2),
        })
    }

    /// Runs up to [`MOST_TOGETHER`] images on this thread: each by itself while its maps are large, so that they stay in
    /// the cache, then all of them, so that each weight comes from memory once. `clock` takes the time of each step.
    pub(super) fn run_together<'a>(
        &self,
        images: impl ExactSizeIterator<Item = Image<'a>>,
        outputs: &mut [f32],
        mut clock: Option<&mut [Duration]>,
    ) {
        let count = images.len();
        let mut workspaces: [Option<Workspace>; MOST_TOGETHER] =
            std::array::from_fn(|index| (index < count).then(|| self.workspace()));
        let mut arenas = [Arena::NONE; MOST_TOGETHER];
        for (arena, workspace) in arenas.iter_mut().zip(workspaces.iter_mut().flatten()) {
            *arena = workspace.arena();
        }
        let arenas = &arenas[..count];
        let mut timed = |number: usize, work: &dyn Fn()| {
            let start = clock.is_some().then(Instant::now);
            work();
            if let (Some(clock), Some(start)) = (clock.as_deref_mut(), start) {
                clock[number] += start.elapsed();
            }
        };
        let (alone, all) = self.steps.split_at(self.alone);
        for (image, arena) in images.zip(arenas) {
            timed(0, &|| self.bring_in(image, *arena, 0..self.input.height));
            for (number, step) in alone.iter().enumerate() {
                timed(number + 1, &|| self.run_step(step, std::slice::from_ref(arena), 0, 1));
            }
        }
        for (number, step) in all.iter().enumerate() {
            timed(self.alone + number + 1, &|| self.run_step(step, arenas, 0, 1));
        }
        let length = self.output_shape.count();
        for (arena, output) in arenas.iter().zip(outputs.chunks_exact_mut(length)) {
            let to = Arena::of(output);
            let all = 0..self.output.channels;
            timed(self.steps.len() + 1, &|| self.bring_out(*arena, all.clone(), to));
        }
        for workspace in workspaces.into_iter().flatten() {
            // One more than are kept is dropped.
            drop(self.free.push(workspace));
        }
    }

    /// Runs one image on all threads; `clock` takes the time of each step.
    pub(super) fn run_image(
        &self,
        image: Image<'_>,
        output: &mut [f32],
        threads: usize,
        mut clock: Option<&mut [Duration]>,
    ) {
        let mut workspace = self.workspace();
        let (arena, to) = (workspace.arena(), Arena::of(output));
        let last = self.steps.len() + 1;
        // The image comes in before all steps, and the output goes out behind them.
        let parts = |number: usize| match number {
            0 => Self::split(self.input.height, threads),
            number if number == last => Self::split(self.output.channels, threads),
            number => self.parts(&self.steps[number - 1], threads),
        };
        workspace.team.reset(threads, parts);
        let team = &workspace.team;
        let work = |number: usize, part: usize| {
            let share = |count: usize| {
                let parts = parts(number);
                part * count / parts..(part + 1) * count / parts
            };
            if number == 0 {
                self.bring_in(image, arena, share(self.input.height));
            } else if number == last {
                self.bring_out(arena, share(self.output.channels), to);
            } else {
                self.run_step(&self.steps[number - 1], &[arena], part, threads);
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
        drop(self.free.push(workspace));
    }

    /// Some rows of an image, to where the plan begins.
    pub(super) fn bring_in(&self, image: Image<'_>, arena: Arena, rows: Range<usize>) {
        let length = self.input.width * self.input.stride;
        let offset = self.input.offset + rows.start * length * size_of::<f32>();
        self.place_rows(image, rows.clone(), arena.write(offset, rows.len() * length));
    }

    /// Some channels of the output, to where the caller wants them.
    pub(super) fn bring_out(&self, arena: Arena, channels: Range<usize>, to: Arena) {
        let pixels = self.output.pixels();
        let first = channels.start * pixels * size_of::<f32>();
        let part = to.write(first, channels.len() * pixels);
        self.take_channels(arena.read(&self.output), channels, part);
    }

    /// Into how many parts so much work is cut that threads share as they come.
    fn split(work: usize, threads: usize) -> usize {
        if threads > 1 { work.min(threads * 4) } else { 1 }
    }

    /// Into how many parts a step is cut for this number of threads.
    fn parts(&self, step: &Step, threads: usize) -> usize {
        if threads < 2 {
            return 1;
        }
        // More parts than threads, so that one that is held up does not hold up all.
        let most = threads * 4;
        match &step.work {
            Work::Gemm(gemm) => self.grid(gemm.shape(), step, threads).iter().product(),
            // As many for each thread: of 3 parts, two threads would take 2 and 1.
            Work::Winograd(conv) => {
                let parts = conv.tiles().div_ceil(self.kernels.rows);
                parts.next_multiple_of(threads).min(most)
            }
            Work::Points(Stage::Product, conv) => {
                conv.panels().min(most.next_multiple_of(MOST_POINTS))
            }
            Work::Points(_, conv) => conv.tiles().min(most),
            Work::Depthwise(_) | Work::Pool(_) | Work::Narrow => step.out.height.min(most),
            Work::Bytes(bytes) if bytes.is_by_rows() => step.out.height.min(most),
            Work::Plain(plain) if plain.is_by_rows() => step.out.height.min(most),
            // Each part begins with rows that another has computed too.
            Work::Strip(_) => step.out.height.min(threads),
            Work::Global { .. } | Work::Flatten | Work::Copy | Work::Bytes(_) | Work::Plain(_) => 1,
        }
    }

    /// Into how many parts the rows and the panels of a product are cut for this number of threads.
    fn grid(&self, gemm: &GemmShape, step: &Step, threads: usize) -> [usize; 2] {
        let (rows, panels) = (step.out.pixels(), gemm.panels().len());
        let tiles = rows.div_ceil(self.kernels.rows);
        if threads < 2 {
            return [1, 1];
        }
        // Threads share the panels where there are too few rows.
        if rows / self.kernels.rows >= 8 * threads || panels < threads {
            return [tiles.min(threads * 4), 1];
        }
        // All of one size: of 10 panels in 8 parts, two threads would take 6 and 4.
        let across = panels.div_ceil(panels.div_ceil(threads * 16));
        let is_uneven = across < threads * 4 && !across.is_multiple_of(threads);
        [if is_uneven { tiles.min(2) } else { 1 }, across]
    }

    /// Runs one of the parts that a step has for this number of threads, of each image.
    pub(super) fn run_step(&self, step: &Step, arenas: &[Arena], part: usize, threads: usize) {
        match &step.work {
            Work::Gemm(AnyGemm::F32(gemm)) => self.run_gemm(gemm, step, arenas, part, threads),
            Work::Gemm(AnyGemm::Bf16(gemm)) => self.run_gemm(gemm, step, arenas, part, threads),
            Work::Gemm(AnyGemm::Bf16ToBf16(gemm)) => {
                self.run_gemm(gemm, step, arenas, part, threads);
            }
            Work::Gemm(AnyGemm::U8(gemm)) => self.run_gemm(gemm, step, arenas, part, threads),
            Work::Gemm(AnyGemm::U8ToU8(gemm)) => self.run_gemm(gemm, step, arenas, part, threads),
            _ => arenas.iter().for_each(|arena| self.run_alone(step, *arena, part, threads)),
        }
    }

    /// As [`run_step`](Self::run_step), of a product.
    fn run_gemm<I: Factor, O: Number>(
        &self,
        gemm: &Gemm<I, O>,
        step: &Step,
        arenas: &[Arena],
        part: usize,
        threads: usize,
    ) {
        let out = &step.out;
        let (rows, panels) = (out.pixels(), gemm.shape.panels().len());
        let product = self.product(gemm, out.width);
        let operands = |arena: Arena| Operands {
            input: arena.view(&step.inputs[0]),
            out: arena.view(out),
            residual: step.inputs.get(1).map(|place| arena.view(place)),
        };
        let mut images = [operands(arenas[0]); MOST_TOGETHER];
        for (image, arena) in images.iter_mut().zip(arenas) {
            *image = operands(*arena);
        }
        let images = &images[..arenas.len()];
        let [down, across] = self.grid(&gemm.shape, step, threads);
        let share = |part: usize, parts: usize, count: usize| {
            part * count / parts..(part + 1) * count / parts
        };
        // A part has whole tiles, but for the last.
        let height = self.kernels.rows;
        let tiles = share(part % down, down, rows.div_ceil(height));
        let rows = tiles.start * height..(tiles.end * height).min(rows);
        product.run(rows, share(part / down, across, panels), images);
    }

    /// As [`run_step`](Self::run_step), of one image and for all steps but products.
    fn run_alone(&self, step: &Step, arena: Arena, part: usize, threads: usize) {
        let (input, out, parts) = (&step.inputs[0], &step.out, self.parts(step, threads));
        let share = |count: usize| part * count / parts..(part + 1) * count / parts;
        match &step.work {
            Work::Gemm(_) => unreachable!("`run_step` runs products"),
            Work::Winograd(conv) => {
                let tiles = share(conv.tiles());
                self.run_winograd(conv, arena.view(input), arena.view(out), tiles);
            }
            Work::Points(stage, conv) => {
                let is_product = *stage == Stage::Product;
                let some = share(if is_product { conv.panels() } else { conv.tiles() });
                self.run_points(*stage, conv, arena, [input, out], some);
            }
            Work::Depthwise(conv) => {
                let (input, out): (View, View) = (arena.view(input), arena.view(out));
                let line = |y: usize| input.pixel(y * input.width).cast_const();
                let rows = share(out.height);
                let to = out.starting_at(rows.start * out.width);
                let all = 0..conv.window.bias.len();
                self.depthwise_rows(conv, all, input, line, rows, to);
            }
            Work::Narrow => {
                let (from, to) = (arena.view(input), arena.view(out));
                for row in share(out.height) {
                    self.narrow_row(from, to, row);
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
            Work::Pool(pool) => {
                let (from, to): (View, View) = (arena.view(input), arena.view(out));
                let [top, left] = pool.before;
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
                        is_max: pool.is_max,
                        low: pool.limits.low,
                        high: pool.limits.high,
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
                let is_flat = matches!(step.work, Work::Flatten);
                let stride = if is_flat { input.channels } else { out.stride };
                match out.element {
                    Element::F32 => copy::<f32>(arena, input, out, stride),
                    Element::Bf16 => copy::<bf16>(arena, input, out, stride),
                    Element::U8 => copy::<u8>(arena, input, out, stride),
                }
            }
            Work::Bytes(bytes) => self.run_bytes_step(bytes, step, arena, share(out.height)),
            Work::Plain(plain) => {
                let views = step.inputs.iter().map(|place| arena.view(place));
                let out: View = arena.view(out);
                let rows = share(out.height);
                // SAFETY: places lie in the arena, and what is read is written by no thread now; the rows are this
                // thread's, or all are where there is one part.
                with_views(views, |views| unsafe { plain.run(views, out, rows) });
            }
        }
    }

    /// Rounds a row of pixels, this thread's.
    fn narrow_row(&self, from: View, to: View<bf16>, row: usize) {
        let Some(kernels) = self.kernels.bf16 else { return };
        let channels = from.channels.next_multiple_of(CHANNEL_BLOCK);
        for pixel in row * from.width..(row + 1) * from.width {
            let to_pixel = to.pixel(pixel);
            // SAFETY: pixels have their channels in whole blocks; the row is this thread's; the plan's kernels were
            // chosen for this machine.
            unsafe {
                (kernels.narrow)(from.pixel(pixel), to_pixel, channels);
                if from.channels % 2 == 1 {
                    // What lies behind the last channel is no zero, and may be no number.
                    *to_pixel.add(from.channels) = bf16::ZERO;
                }
            }
        }
    }
}

/// Copies all pixels of a place to pixels that are `stride` apart.
fn copy<T: Number>(arena: Arena, from: &Place, out: &Place, stride: usize) {
    let (channels, apart) = (from.channels, stride * size_of::<T>());
    for (pixel, values) in arena.read::<T>(from).chunks(from.stride).enumerate() {
        let to = arena.write(out.offset + pixel * apart, channels);
        to.copy_from_slice(&values[..channels]);
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

/// Views in a row, without memory of their own where they are few.
fn with_views(views: impl ExactSizeIterator<Item = View>, run: impl FnOnce(&[View])) {
    const FEW: usize = 8;
    let mut few =
        [View { base: std::ptr::null_mut(), height: 0, width: 0, channels: 0, stride: 0 }; FEW];
    let count = views.len();
    if count > FEW {
        return run(&views.collect::<Vec<_>>());
    }
    few.iter_mut().zip(views).for_each(|(few, view)| *few = view);
    run(&few[..count]);
}
