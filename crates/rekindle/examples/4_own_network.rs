//! Lab 4: a network of your own. It is written down as in Keras's functional API, trained from nothing, saved, loaded and
//! used, with all that the networks of Keras Applications have.
//!
//! ```sh
//! cargo run --release -p rekindle --example 4_own_network [FOLDER]
//! ```

use rekindle::nn::ops::{BatchNorm, Conv2d, Padding, Pool2d};
use rekindle::nn::{NetworkError, Shape};
use rekindle::prelude::*;

type B = Autodiff<Flex>;

/// Four convolutions with a shortcut over the last two, for images of 64 x 64.
fn network() -> Result<Graph, NetworkError> {
    let (mut net, images) = GraphBuilder::new(Shape::image(64));
    let mut x = net.rescaling("scale", images, 1.0 / 255.0, 0.0)?;
    for (block, filters) in [(1, 16), (2, 32)] {
        x = net.conv2d(format!("conv_{block}"), x, Conv2d::new(filters, [3, 3]).strides(2))?;
        x = net.batch_norm(format!("norm_{block}"), x, BatchNorm::new())?;
        x = net.activation(format!("swish_{block}"), x, Activation::Silu)?;
    }
    let shortcut = x;
    x =
        net.conv2d("conv_3", x, Conv2d::new(32, [3, 3]).with_bias().activation(Activation::Relu))?;
    x = net.conv2d("conv_4", x, Conv2d::new(32, [3, 3]).with_bias())?;
    x = net.add("add", &[shortcut, x])?;
    x = net.relu("relu", x)?;
    x = net.pool2d("pool", x, Pool2d::max(2, 2, Padding::Valid))?;
    // A head with one output for each class is put on it when it is trained.
    net.finish(x)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../demo/photos");
    let folder = std::env::args().nth(1).unwrap_or_else(|| demo.into());
    let graph = network()?;
    println!("{}\n", graph.summary());

    let network = Network::<B>::init(graph, 0, &Default::default());
    let trained = TransferLearner::new(network)
        .data(ImageFolder::open(&folder)?)
        .unfreeze_all()
        .batch_norm(BatchNormMode::Train)
        .epochs(10)
        .fit()?;
    println!("{}\n", trained.history());

    let file = std::env::temp_dir().join("own.rekindle");
    trained.save(&file)?;
    let loaded = TrainedModel::<Flex>::load(&file, &Default::default())?;
    let photo = concat!(env!("CARGO_MANIFEST_DIR"), "/../../demo/photos/birds/drake.jpg");
    println!("{}", loaded.predict(photo)?.top(3));
    Ok(())
}
