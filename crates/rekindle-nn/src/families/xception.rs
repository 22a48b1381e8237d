//! Xception (Chollet 2016), as in Keras's `keras/src/applications/xception.py`.
//!
//! Keras numbers the layers of its shortcuts (`conv2d`, `conv2d_1`, ...); the names here are those of the first network
//! that a Keras session makes.

use super::top::pooled_top;
use super::typed::typed_network;
use super::{Accuracy, Family, Published, Settings};
use crate::ops::{BatchNorm, Conv2d, Padding, Pool2d, SeparableConv2d};
use crate::{Graph, GraphBuilder, NetworkError, Value};

/// Xception.
pub static FAMILY: Family = Family {
    name: "xception",
    title: "Xception",
    paper: "https://arxiv.org/abs/1610.02357",
    source: "keras/src/applications/xception.py",
    default_size: 299,
    least_size: 71,
    alphas: &[],
    minimalistic: false,
    preprocessing: "tf",
    depth: Some(81),
    accuracy: Accuracy::new(79.0, 94.5),
    published,
    build,
};

typed_network!(
    /// Xception (Chollet 2016), a Burn module.
    Xception, XceptionConfig, FAMILY
);

/// The filters of the separable convolutions of each block with a shortcut, from block 2 on (figure 5 of the paper);
/// those of two shrink the maps.
const BLOCKS: [&[usize]; 12] = [
    &[128, 128],
    &[256, 256],
    &[728, 728],
    &[728, 728, 728],
    &[728, 728, 728],
    &[728, 728, 728],
    &[728, 728, 728],
    &[728, 728, 728],
    &[728, 728, 728],
    &[728, 728, 728],
    &[728, 728, 728],
    &[728, 1024],
];

fn build(settings: &Settings) -> Result<Graph, NetworkError> {
    let (mut net, images) = GraphBuilder::new(settings.input());

    let x = net.conv2d("block1_conv1", images, Conv2d::new(32, [3, 3]).strides(2).valid())?;
    let x = net.batch_norm("block1_conv1_bn", x, BatchNorm::new())?;
    let x = net.relu("block1_conv1_act", x)?;
    let x = net.conv2d("block1_conv2", x, Conv2d::new(64, [3, 3]).valid())?;
    let x = net.batch_norm("block1_conv2_bn", x, BatchNorm::new())?;
    let mut x = net.relu("block1_conv2_act", x)?;

    for (index, convs) in BLOCKS.into_iter().enumerate() {
        let block = format!("block{}", index + 2);
        let (input, shrinks) = (x, convs.len() == 2);
        for (conv, &filters) in convs.iter().enumerate() {
            let name = format!("{block}_sepconv{}", conv + 1);
            // The maps in front of block 2 come from a ReLU.
            if index + conv > 0 {
                x = net.relu(format!("{name}_act"), x)?;
            }
            x = separable(&mut net, &name, x, filters)?;
        }
        let mut shortcut = input;
        if shrinks {
            x = net.pool2d(format!("{block}_pool"), x, Pool2d::max(3, 2, Padding::Same))?;
            let [name, norm] = ["conv2d", "batch_normalization"].map(|class| net.numbered(class));
            let conv = Conv2d::new(x.channels(), [1, 1]).strides(2);
            shortcut = net.conv2d(name, input, conv)?;
            shortcut = net.batch_norm(norm, shortcut, BatchNorm::new())?;
        }
        let name = net.numbered("add");
        x = net.add(name, &[x, shortcut])?;
    }

    let x = separable(&mut net, "block14_sepconv1", x, 1536)?;
    let x = net.relu("block14_sepconv1_act", x)?;
    let x = separable(&mut net, "block14_sepconv2", x, 2048)?;
    let x = net.relu("block14_sepconv2_act", x)?;
    pooled_top(net, x, settings, "avg_pool")
}

/// A 3x3 separable convolution and its normalization.
fn separable(
    net: &mut GraphBuilder,
    name: &str,
    x: Value,
    filters: usize,
) -> Result<Value, NetworkError> {
    let x = net.separable_conv2d(name, x, SeparableConv2d::new(filters, [3, 3]))?;
    net.batch_norm(format!("{name}_bn"), x, BatchNorm::new())
}

fn published(settings: &Settings) -> Option<Published> {
    let md5s = ["0a58e3b7378bc2990ea3b43d5981f1f6", "b0042744bf5b25fce3cb969f33bebb97"];
    Published::usual(settings, "xception/", "xception", md5s)
}
