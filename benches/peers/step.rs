//! Times training steps on the CPU for benches/peers/train.py: `step NETWORK SIZE BATCH LAST STEPS` trains the last LAST
//! layers of the network (`all` for the whole) and pooling, Dropout(0.2), Dense(2) with Adam, prints the milliseconds of
//! each step, a line each, and then the most memory that the process had, in MB. With `flatten-512` for LAST, only a head
//! trains: Flatten, Dense(512, relu), Dropout(0.5), Dense(2).

use std::time::Instant;

use burn::backend::Flex;
use rekindle::kernels::train::{Pass, Rule, Trainer, TrainerConfig};
use rekindle::nn::{Activation, Architecture, HeadConfig, Source};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, name, size, batch, last, steps] = args.as_slice() else {
        return Err("usage: step NETWORK SIZE BATCH LAST STEPS".into());
    };
    let (size, batch, steps): (usize, usize, u64) = (size.parse()?, batch.parse()?, steps.parse()?);
    let device = Default::default();
    let architecture = Architecture::by_name(name).ok_or("no such network")?.with_size(size);
    let base = architecture.init::<Flex>(&device)?;
    let order = base.graph().keras_order();
    let (frozen, head) = match last.as_str() {
        "all" => (0, HeadConfig::default()),
        "flatten-512" => {
            (order.len(), HeadConfig::flatten().dense(512, Activation::Relu).dropout(0.5))
        }
        last => (order.len().saturating_sub(last.parse()?), HeadConfig::default()),
    };
    let frozen: Vec<String> =
        order[..frozen].iter().map(|&i| base.graph().layers()[i].name.clone()).collect();
    let trains = |layer: &str| !frozen.iter().any(|name| name == layer);
    let model = head.on(base, 2, 0, &device)?;
    let graph = model.graph();
    let cut = graph.cut(&trains);
    let input = match &cut {
        Some(cut) => graph.shape(Source::Layer(graph.position(cut)?)),
        None => graph.input(),
    };
    let config = TrainerConfig {
        after: cut.as_deref(),
        input,
        trains: &trains,
        live: &|_| false,
        input_gradient: false,
    };
    let mut trainer = Trainer::new(&model, &config)?;
    let values: Vec<f32> =
        (0..batch * input.count()).map(|i| (i % 251) as f32 / 125.5 - 1.0).collect();
    let rule = Rule::adam();
    let mut slots: Vec<Vec<Vec<f32>>> = trainer
        .parameters()
        .iter()
        .map(|parameter| vec![vec![0.0; parameter.values.len()]; rule.slots()])
        .collect();
    let gradient: Vec<f32> =
        (0..batch * 2).map(|i| if i % 2 == 0 { 0.01 } else { -0.01 }).collect();
    for step in 0..steps + 2 {
        let start = Instant::now();
        trainer.forward(&values, Pass::Training { seed: 0, step, part: None })?;
        trainer.backward(&gradient)?;
        for (number, slots) in slots.iter_mut().enumerate() {
            if trainer.parameters()[number].trains() {
                trainer.update(number, &rule, step + 1, 1e-5, 1.0, slots);
            }
        }
        trainer.clear();
        if step > 1 {
            println!("{}", start.elapsed().as_secs_f64() * 1e3);
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    println!("peak {}", peak.unwrap_or_default() / 1024.0);
    Ok(())
}
