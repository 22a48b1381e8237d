//! Times the CPU engine for benches/peers/compare.py: `plan NETWORK SIZE BATCH RUNS [bf16]` prints
//! milliseconds, a line a run.

use std::time::Instant;

use burn::backend::Flex;
use rekindle::kernels::{PlanConfig, Precision, lower};
use rekindle::nn::Architecture;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let (name, size, batch, runs, precision) = match args.as_slice() {
        [_, name, size, batch, runs] => (name, size, batch, runs, Precision::F32),
        [_, name, size, batch, runs, precision] => (name, size, batch, runs, precision.parse()?),
        _ => return Err("usage: plan NETWORK SIZE BATCH RUNS [bf16]".into()),
    };
    let (size, batch, runs): (usize, usize, usize) = (size.parse()?, batch.parse()?, runs.parse()?);
    let architecture = Architecture::by_name(name).ok_or("no such network")?.with_size(size);
    let network = architecture.init::<Flex>(&Default::default())?;
    let plan = lower(&network, None, PlanConfig::detect(precision)?)?;
    let images: Vec<f32> =
        (0..batch * 3 * size * size).map(|i| (i % 251) as f32 / 125.5 - 1.0).collect();
    for _ in 0..3 {
        plan.run(&images)?;
    }
    for _ in 0..runs {
        let start = Instant::now();
        plan.run(&images)?;
        println!("{}", start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(())
}
