//! How long each step of a plan takes.

use std::time::Duration;

use rayon::prelude::*;

use super::ends::Image;
use super::{AnyGemm, Bytes, GemmShape, Plan, PlanError, Step, Window, Work};
use crate::ir::Stage;
use crate::passes::Place;

/// The time of one step, for one image.
#[derive(Debug, Clone, PartialEq)]
pub struct StepTime {
    /// The Keras layer that it began as; what was fused into it is part of it.
    pub layer: String,
    /// What it does: `conv 3x3`, `depthwise 3x3`, `dense`, `pool`, ...
    pub work: String,
    /// `[height, width, channels]` of its output.
    pub output: [usize; 3],
    /// Multiplications, each with an addition.
    pub macs: u64,
    /// Seconds of one thread, or of all threads where one image is run by all of them.
    pub seconds: f64,
}

impl StepTime {
    /// Billions of multiplications and additions a second.
    #[must_use]
    pub fn gflops(&self) -> f64 {
        2.0 * self.macs as f64 / self.seconds / 1e9
    }
}

impl Plan {
    /// The mean time of each step over `runs` runs of a batch, as [`Plan::run`] would run it: a batch of at least
    /// as many images as there are threads takes one thread for each image, others all threads for each step.
    ///
    /// # Errors
    /// When `images` is not a whole number of images.
    pub fn profile(&self, images: &[f32], runs: usize) -> Result<Vec<StepTime>, PlanError> {
        // Also checks the input, and warms up.
        self.run(images)?;
        let (count, outputs) = (self.input_shape.count(), self.output_shape.count());
        let (batch, threads) = (images.len() / count, rayon::current_num_threads());
        let none = || vec![Duration::ZERO; self.steps.len() + 2];
        let together = Self::together(batch, threads);
        let some = |images: &[f32]| {
            let (mut clock, mut output) = (none(), vec![0.0; images.len() / count * outputs]);
            let images = images.chunks_exact(count).map(Image::Values);
            self.run_together(images, &mut output, Some(&mut clock));
            clock
        };
        let one = |image: &[f32]| {
            let (mut clock, mut output) = (none(), vec![0.0; outputs]);
            self.run_image(Image::Values(image), &mut output, threads, Some(&mut clock));
            clock
        };
        let add =
            |a: Vec<Duration>, b: Vec<Duration>| a.iter().zip(b).map(|(a, b)| *a + b).collect();
        let mut total = none();
        for _ in 0..runs.max(1) {
            let clock = if batch >= threads {
                images.par_chunks(count * together).map(some).reduce(none, add)
            } else {
                images.chunks_exact(count).map(one).fold(none(), add)
            };
            total = add(total, clock);
        }
        let times = total.into_iter().map(|time| time.as_secs_f64() / (runs.max(1) * batch) as f64);
        let times: Vec<f64> = times.collect();
        let end = |layer: &str, work: &str, place: &Place, seconds| StepTime {
            layer: layer.into(),
            work: work.into(),
            output: [place.height, place.width, place.channels],
            macs: 0,
            seconds,
        };
        let steps = self.steps.iter().zip(&times[1..]).map(|(step, time)| step_time(step, *time));
        let mut all = vec![end("input", "in", &self.input, times[0])];
        all.extend(steps);
        all.push(end("output", "out", &self.output, times[self.steps.len() + 1]));
        Ok(all)
    }
}

fn step_time(step: &Step, seconds: f64) -> StepTime {
    let (input, out) = (step.inputs[0], step.out);
    let outputs = (out.pixels() * out.channels) as u64;
    let (work, macs) = match &step.work {
        Work::Gemm(gemm) => {
            let GemmShape { window: Window { kernel: [rows, columns], .. }, depth, .. } =
                gemm.shape();
            // Of the first layer, a row of pixels is one tap.
            let wide = columns * (depth / input.channels);
            let bytes = matches!(gemm, AnyGemm::U8(_) | AnyGemm::U8ToU8(_));
            let of = if bytes { " int8" } else { "" };
            (format!("conv {rows}x{wide}{of}"), outputs * (rows * columns * depth) as u64)
        }
        // As many as the direct way takes, so that rates can be compared.
        Work::Winograd(conv) => ("winograd 3x3".into(), conv.macs() as u64),
        Work::Points(Stage::Image, _) => ("winograd: to points".into(), 0),
        Work::Points(Stage::Product, conv) => ("winograd 3x3".into(), conv.macs() as u64),
        Work::Points(Stage::Output, _) => ("winograd: to pixels".into(), 0),
        Work::Strip(strip) => {
            let [rows, columns] = strip.depthwise.window.kernel;
            let taps = |gemm: &GemmShape| gemm.taps() * gemm.depth;
            let [height, width, channels] = strip.expanded;
            let macs = height * width * channels * taps(&strip.expand.shape)
                + out.pixels() * channels * (rows * columns + out.channels);
            (format!("block {rows}x{columns}"), macs as u64)
        }
        Work::Depthwise(conv) => {
            let [rows, columns] = conv.window.kernel;
            (format!("depthwise {rows}x{columns}"), outputs * (rows * columns) as u64)
        }
        Work::Pool(pool) => (format!("pool {}x{}", pool.kernel[0], pool.kernel[1]), 0),
        Work::Global { .. } => ("global pool".into(), 0),
        Work::Flatten => ("flatten".into(), 0),
        Work::Narrow => ("to bf16".into(), 0),
        Work::Bytes(bytes) => {
            let taps = match bytes {
                Bytes::Depthwise(conv) => conv.window.kernel.iter().product::<usize>() as u64,
                _ => 0,
            };
            (bytes.name(), outputs * taps)
        }
        Work::Copy => ("copy".into(), 0),
        Work::Plain(plain) => (plain.name().into(), 0),
    };
    let output = [out.height, out.width, out.channels];
    StepTime { layer: step.name.clone(), work, output, macs, seconds }
}
