//! Times the CPU engine for benches/peers/compare.py: `plan NETWORK SIZE BATCH RUNS [bf16 | int8]` prints
//! milliseconds, a line a run. For int8 it is calibrated on the images that it is timed with. `PROFILE=1` prints the time of
//! each step on stderr.

use std::time::Instant;

use burn::backend::Flex;
use rekindle::kernels::{Calibration, Isa, PlanConfig, Precision, lower, lower_quantized};
use rekindle::nn::Architecture;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let (name, size, batch, runs, precision) = match args.as_slice() {
        [_, name, size, batch, runs] => (name, size, batch, runs, Precision::F32),
        [_, name, size, batch, runs, precision] => (name, size, batch, runs, precision.parse()?),
        _ => return Err("usage: plan NETWORK SIZE BATCH RUNS [bf16 | int8]".into()),
    };
    let (size, batch, runs): (usize, usize, usize) = (size.parse()?, batch.parse()?, runs.parse()?);
    let architecture = Architecture::by_name(name).ok_or("no such network")?.with_size(size);
    let network = architecture.init::<Flex>(&Default::default())?;
    let images: Vec<f32> =
        (0..batch * 3 * size * size).map(|i| (i % 251) as f32 / 125.5 - 1.0).collect();
    let plan = if precision == Precision::Int8 {
        let mut calibration = Calibration::new(&network)?;
        calibration.observe(&images)?;
        lower_quantized(&network, None, Isa::detect()?, &calibration.quantization())?
    } else {
        lower(&network, None, PlanConfig::detect(precision)?)?
    };
    for (layer, why) in plan.kept() {
        eprintln!("{layer} stays f32: {why}");
    }
    for _ in 0..3 {
        plan.run(&images)?;
    }
    if std::env::var_os("PROFILE").is_some() {
        for step in plan.profile(&images, runs)? {
            let (ms, rate) = (step.seconds * 1e3, step.gflops());
            eprintln!(
                "{:30} {:22} {:?} {ms:.3} ms {rate:.0} GFLOP/s",
                step.layer, step.work, step.output
            );
        }
    }
    for _ in 0..runs {
        let start = Instant::now();
        plan.run(&images)?;
        println!("{}", start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(())
}
