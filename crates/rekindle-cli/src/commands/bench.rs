use std::fmt::Write;
use std::time::Instant;

use rekindle::kernels::{Plan, PlanConfig, StepTime, lower};
use rekindle::prelude::*;
use serde::Serialize;

use crate::args::BenchArgs;
use crate::{Outcome, print};

#[derive(Serialize)]
struct Report {
    network: String,
    instruction_set: String,
    threads: usize,
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
    let mut architecture = args.base.architecture();
    if let Some(size) = args.size {
        architecture = architecture.with_size(size);
    }
    // Times do not depend on the weights, as long as values stay in range.
    let network = architecture.init::<Flex>(&Default::default())?;
    let plan =
        lower(&network, None, architecture.input(), PlanConfig::detect(args.device.precision)?)?;
    let count = args.batch * architecture.input().count();
    let images: Vec<f32> = (0..count).map(|i| (i % 251) as f32 / 125.5 - 1.0).collect();
    let report = Report {
        network: architecture.to_string(),
        instruction_set: plan.isa().to_string(),
        threads: rekindle::kernels::threads(),
        batch: args.batch,
        milliseconds: median(&plan, &images, args)?,
        layers: if args.profile {
            plan.profile(&images, args.runs)?.into_iter().map(Layer::from).collect()
        } else {
            Vec::new()
        },
    };
    print(&if args.json { serde_json::to_string_pretty(&report)? } else { table(&report)? })
}

/// Milliseconds for one image.
fn median(
    plan: &Plan,
    images: &[f32],
    args: &BenchArgs,
) -> Result<f64, rekindle::kernels::PlanError> {
    plan.run(images)?;
    let mut times = Vec::with_capacity(args.runs);
    for _ in 0..args.runs {
        let start = Instant::now();
        plan.run(images)?;
        times.push(start.elapsed().as_secs_f64() * 1e3 / args.batch as f64);
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
    let Report { network, instruction_set, threads, batch, milliseconds, .. } = report;
    write!(
        text,
        "{network}: {milliseconds:.2} ms an image, batch {batch}, {threads} threads, {instruction_set}"
    )?;
    Ok(text)
}
