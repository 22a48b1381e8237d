//! Lab 1: explore a pre-trained model. Its layers, their shapes and parameters, where it can be cut, and what one
//! of its layers sees in a photo.
//!
//! ```sh
//! cargo run --release -p rekindle --example 1_explore [NETWORK]
//! ```
//!
//! MobileNetV2 has its weights with it; those of other networks (`rekindle models`) are downloaded once.

use rekindle::nn::{Eager, Features, Source};
use rekindle::prelude::*;
use rekindle::train::Photos;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Default::default();
    let name = std::env::args().nth(1).unwrap_or_else(|| "mobilenet-v2".into());
    let known = Architecture::by_name(&name).ok_or(format!("no network is called {name}"))?;
    let base = Weights::at_hand(&known).backbone::<Flex>(known, Some(160), &device)?;
    let graph = base.graph();
    println!("{} layers for images of {}", graph.layers().len(), graph.input());

    // The table that Keras's `model.summary()` prints.
    let summary = graph.summary();
    for row in summary.layers.iter().step_by(10) {
        println!("{:20} {:24} {:>9}", row.name, row.output_shape, row.parameters);
    }
    println!("{}\n", summary.parameters);

    // Every variable has Keras's name, shape and layout.
    for variable in base.variables().iter().take(5) {
        println!("{:30} {:?}", variable.path(), variable.spec.shape);
    }

    // What a layer in the middle says of a photo: the channels that it is strongest in.
    let photo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../demo/photos/birds/drake.jpg");
    let preprocessing = known.family.preprocessing.parse()?;
    let photos = Photos::new(graph.input(), Resize::Bilinear, preprocessing)?;
    let images = Features::<Flex>::from_values(photos.open(photo)?, graph.input(), &device);
    // The first layer from two thirds on whose output is maps.
    let layers = graph.layers();
    let is_map = |at: &usize| graph.shape(Source::Layer(*at)).as_map().is_some();
    let middle = (2 * layers.len() / 3..layers.len()).find(is_map).ok_or("no maps")?;
    let layer = &layers[middle].name;
    let seen = base.walk_until(layer, &mut Eager::inference(), images)?;
    let shape = seen.shape();
    let values = seen.into_data().into_vec::<f32>()?;
    let pixels = values.len() / shape.channels();
    let mut channels: Vec<(usize, f32)> = values
        .chunks_exact(pixels)
        .map(|channel| channel.iter().map(|x| x.abs()).sum::<f32>() / pixels as f32)
        .enumerate()
        .collect();
    channels.sort_by(|a, b| b.1.total_cmp(&a.1));
    println!("\n{layer} is {shape}; strongest channels: {:?}", &channels[..5]);
    Ok(())
}
