use std::fmt::Write;
use std::time::Instant;

use burn::tensor::backend::Backend;
use rekindle::devices::{Device, Job};
use rekindle::kernels::gpu::{device_failure, watch_devices};
use rekindle::kernels::{Calibration, Folded, PlanConfig, StepTime, lower, lower_quantized};
use rekindle::nn::Features;
use rekindle::prelude::*;
use rekindle::train::float_type;
use serde::Serialize;

use crate::args::BenchArgs;
use crate::{Outcome, print};

#[derive(Serialize)]
struct Report {
    network: String,
    /// The device, and what it computes with.
    device: String,
    batch: usize,
    /// The median, for one image.
    milliseconds: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    layers: Vec<Layer>,
}

#[derive(Serialize)]
struct Layer {
    layer: String,
    work: String,
    output: [usize; 3],
    milliseconds: f64,
    gflops: f64,
}

impl From<StepTime> for Layer {
    fn from(step: StepTime) -> Self {
        let (milliseconds, gflops) = (step.seconds * 1e3, step.gflops());
        Self { layer: step.layer, work: step.work, output: step.output, milliseconds, gflops }
    }
}

pub fn run(args: &BenchArgs) -> Outcome {
    if args.batch == 0 || args.runs == 0 {
        return Err("--batch and --runs have to be at least 1".into());
    }
    let architecture = args.base.architecture(args.settings, args.size);
    // Times do not depend on the weights, as long as values stay in range.
    let images = pixels(args.batch * architecture.input().count());
    let report = match args.device.device {
        Device::Cpu => on_cpu(args, architecture, &images)?,
        _ if args.profile => return Err("--profile: only the CPU engine times its layers".into()),
        device => device.run(Gpu { args, architecture, images })??,
    };
    print(&if args.json { serde_json::to_string_pretty(&report)? } else { table(&report)? })
}

fn on_cpu(
    args: &BenchArgs,
    architecture: Architecture,
    images: &[f32],
) -> Result<Report, Box<dyn std::error::Error>> {
    let network = architecture.init::<Flex>(&Default::default())?;
    let config = PlanConfig::detect(args.device.precision.unwrap_or_default())?;
    let plan = if config.precision == Precision::Int8 {
        // What bytes stand for does not change the time.
        let mut calibration = Calibration::new(&network)?;
        calibration.observe(&images[..architecture.input().count()])?;
        lower_quantized(&network, None, config.isa, &calibration.quantization())?
    } else {
        lower(&network, None, config)?
    };
    for (layer, why) in plan.kept() {
        eprintln!("note: `{layer}` is computed in f32: {why}");
    }
    let threads = rekindle::kernels::threads();
    let milliseconds = median(args.runs, args.batch, || plan.run(images).map(drop))?;
    let layers = match args.profile {
        true => plan.profile(images, args.runs)?.into_iter().map(Layer::from).collect(),
        false => Vec::new(),
    };
    let int8 = plan.int8_kernels().map_or(String::new(), |kernels| format!(" by {kernels}"));
    let device = format!("{threads} threads, {}, {}{int8}", plan.isa(), plan.precision());
    Ok(Report {
        network: architecture.to_string(),
        device,
        batch: args.batch,
        milliseconds,
        layers,
    })
}

struct Gpu<'a> {
    args: &'a BenchArgs,
    architecture: Architecture,
    images: Vec<f32>,
}

impl Job for Gpu<'_> {
    type Output = Result<Report, Box<dyn std::error::Error>>;

    /// With the images on the device; a run ends when the device has computed the outputs.
    fn run<B: Backend>(self, device: &B::Device) -> Self::Output {
        let Self { args, architecture, images } = self;
        watch_devices();
        let network = architecture.init::<B>(device)?;
        let input = architecture.input();
        let dtype = float_type::<B>(args.device.precision.unwrap_or_default(), device)?;
        let folded = Folded::new(&network, None, dtype, device)?;
        let Features::Map(images) = Features::<B>::from_values(images, input, device) else {
            return Err("images are maps".into());
        };
        let milliseconds = median(args.runs, args.batch, || {
            let outputs = folded.run(images.clone());
            B::sync(device).map_err(|error| error.to_string())?;
            drop(outputs);
            // Without memory for something, a device computes something else.
            device_failure::<B>(device).map_or(Ok(()), Err)
        })?;
        let device = format!("{}, {}", B::name(device), args.device.precision.unwrap_or_default());
        let (network, layers) = (architecture.to_string(), Vec::new());
        Ok(Report { network, device, batch: args.batch, milliseconds, layers })
    }
}

/// Values as preprocessed photos have them.
pub(super) fn pixels(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i % 251) as f32 / 125.5 - 1.0).collect()
}

/// Milliseconds for one image: the median of `runs` runs, each of `batch` images.
pub(super) fn median<E>(
    runs: usize,
    batch: usize,
    mut run: impl FnMut() -> Result<(), E>,
) -> Result<f64, E> {
    // The first ones compile, tune and allocate.
    for _ in 0..3 {
        run()?;
    }
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed().as_secs_f64() * 1e3 / batch as f64);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

fn table(report: &Report) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let total: f64 = report.layers.iter().map(|layer| layer.milliseconds).sum();
    for Layer { layer, work, output: [height, width, channels], milliseconds, gflops } in
        &report.layers
    {
        let (output, share) =
            (format!("{height} x {width} x {channels}"), 100.0 * milliseconds / total);
        let rate = if *gflops > 0.0 { format!("{gflops:6.1} GFLOP/s") } else { String::new() };
        writeln!(
            text,
            "{layer:32} {work:15} {output:>16} {milliseconds:8.3} ms {share:5.1} % {rate}"
        )?;
    }
    let Report { network, device, batch, milliseconds, .. } = report;
    write!(text, "{network}: {milliseconds:.2} ms an image, batch {batch}, {device}")?;
    Ok(text)
}
