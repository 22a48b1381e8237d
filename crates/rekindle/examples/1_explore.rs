//! Lab 1: explore a pre-trained model. Its layers, their shapes and parameters, where it can be cut, and what one
//! of its layers sees in a photo.
//!
//! ```sh
//! cargo run --release -p rekindle --example 1_explore
//! ```

use rekindle::nn::{Eager, Features};
use rekindle::prelude::*;
use rekindle::train::Photos;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Default::default();
    let base = MobileNetV2::<Flex>::pretrained(Weights::Demo, &device)?.with_size(160)?;
    let graph = base.graph();
    println!("{} layers for images of {}", graph.layers().len(), graph.input());

    // The table that Keras's `model.summary()` prints.
    let summary = graph.summary();
    for row in summary.layers.iter().filter(|row| row.name.ends_with("_add")) {
        println!("{:20} {:24} {:>9}", row.name, row.output_shape, row.parameters);
    }
    println!("{}\n", summary.parameters);

    // Every variable has Keras's name, shape and layout.
    for variable in base.variables().iter().take(5) {
        println!("{:30} {:?}", variable.path(), variable.spec.shape);
    }

    // What a layer in the middle says of a photo: the channels that it is strongest in.
    let photo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../demo/photos/birds/drake.jpg");
    let photos = Photos::new(graph.input(), Resize::Bilinear, Preprocessing::Tf)?;
    let images = Features::<Flex>::from_values(photos.open(photo)?, graph.input(), &device);
    let seen = base.walk_until("block_12_add", &mut Eager::inference(), images)?;
    let shape = seen.shape();
    let values = seen.into_data().into_vec::<f32>()?;
    let pixels = values.len() / 96;
    let mut channels: Vec<(usize, f32)> = values
        .chunks_exact(pixels)
        .map(|channel| channel.iter().map(|x| x.abs()).sum::<f32>() / pixels as f32)
        .enumerate()
        .collect();
    channels.sort_by(|a, b| b.1.total_cmp(&a.1));
    println!("\nblock_12_add is {shape}; strongest channels: {:?}", &channels[..5]);
    Ok(())
}
