//! ResNet (He et al. 2015), as in Keras's `keras/src/applications/resnet.py`, with its layer names.

use super::top::pooled_top;
use super::typed::typed_network;
use super::{Accuracy, Family, Published, Settings};
use crate::ops::{BatchNorm, Conv2d, Padding, Pool2d};
use crate::{Graph, GraphBuilder, NetworkError, Value};

/// ResNet50.
pub static RESNET_50: Family = family(
    ["resnet-50", "ResNet50"],
    (107, Accuracy::new(74.9, 92.1)),
    |settings| {
        let md5s = ["2cb95161c43110f7111970584f804107", "4d473c1dd8becc155b73f8504c6f6626"];
        Published::usual(settings, "resnet/", "resnet50", md5s)
    },
    |settings| build(settings, [3, 4, 6, 3]),
);

/// ResNet101.
pub static RESNET_101: Family = family(
    ["resnet-101", "ResNet101"],
    (209, Accuracy::new(76.4, 92.8)),
    |settings| {
        let md5s = ["f1aeb4b969a6efcfb50fad2f0c20cfc5", "88cf7a10940856eca736dc7b7e228a21"];
        Published::usual(settings, "resnet/", "resnet101", md5s)
    },
    |settings| build(settings, [3, 4, 23, 3]),
);

/// ResNet152.
pub static RESNET_152: Family = family(
    ["resnet-152", "ResNet152"],
    (311, Accuracy::new(76.6, 93.1)),
    |settings| {
        let md5s = ["100835be76be38e30d865e96f2aaae62", "ee4c566cf9a93f14d82f913c2dc6dd0c"];
        Published::usual(settings, "resnet/", "resnet152", md5s)
    },
    |settings| build(settings, [3, 8, 36, 3]),
);

typed_network!(
    /// ResNet50 (He et al. 2015), a Burn module.
    ResNet50, ResNet50Config, RESNET_50
);

typed_network!(
    /// ResNet101 (He et al. 2015), a Burn module.
    ResNet101, ResNet101Config, RESNET_101
);

typed_network!(
    /// ResNet152 (He et al. 2015), a Burn module.
    ResNet152, ResNet152Config, RESNET_152
);

/// What the three depths have in common.
const fn family(
    [name, title]: [&'static str; 2],
    (depth, accuracy): (usize, Option<Accuracy>),
    published: fn(&Settings) -> Option<Published>,
    build: fn(&Settings) -> Result<Graph, NetworkError>,
) -> Family {
    Family {
        name,
        title,
        paper: "https://arxiv.org/abs/1512.03385",
        source: "keras/src/applications/resnet.py",
        default_size: 224,
        least_size: 32,
        alphas: &[],
        minimalistic: false,
        preprocessing: "caffe",
        depth: Some(depth),
        accuracy,
        published,
        build,
    }
}

/// Both versions' normalization.
pub(super) const NORM: BatchNorm = BatchNorm::new().epsilon(1.001e-5);

/// The network of this many blocks in each of the four stages (table 1 of the paper).
fn build(settings: &Settings, stages: [usize; 4]) -> Result<Graph, NetworkError> {
    let (mut net, images) = GraphBuilder::new(settings.input());
    let x = conv1(&mut net, images)?;
    let x = net.batch_norm("conv1_bn", x, NORM)?;
    let x = net.relu("conv1_relu", x)?;
    let mut x = pool1(&mut net, x)?;

    for (stage, blocks) in stages.into_iter().enumerate() {
        let filters = 64 << stage;
        for block in 1..=blocks {
            let stride = if stage > 0 && block == 1 { 2 } else { 1 };
            let prefix = format!("conv{}_block{block}", stage + 2);
            let name = |layer: &str| format!("{prefix}_{layer}");
            let mut shortcut = x;
            if block == 1 {
                let conv = Conv2d::new(4 * filters, [1, 1]).strides(stride);
                shortcut = conv_norm(&mut net, &name("0"), x, conv.valid())?;
            }
            let conv = Conv2d::new(filters, [1, 1]).strides(stride).valid();
            x = conv_norm(&mut net, &name("1"), x, conv)?;
            x = net.relu(name("1_relu"), x)?;
            x = conv_norm(&mut net, &name("2"), x, Conv2d::new(filters, [3, 3]))?;
            x = net.relu(name("2_relu"), x)?;
            x = conv_norm(&mut net, &name("3"), x, Conv2d::new(4 * filters, [1, 1]).valid())?;
            x = net.add(name("add"), &[shortcut, x])?;
            x = net.relu(name("out"), x)?;
        }
    }
    pooled_top(net, x, settings, "avg_pool")
}

/// A convolution with a bias, and its normalization.
fn conv_norm(
    net: &mut GraphBuilder,
    name: &str,
    x: Value,
    conv: Conv2d,
) -> Result<Value, NetworkError> {
    let x = net.conv2d(format!("{name}_conv"), x, conv.with_bias())?;
    net.batch_norm(format!("{name}_bn"), x, NORM)
}

/// Both versions' first convolution.
pub(super) fn conv1(net: &mut GraphBuilder, images: Value) -> Result<Value, NetworkError> {
    let x = net.zero_padding2d("conv1_pad", images, [[3, 3], [3, 3]])?;
    net.conv2d("conv1_conv", x, Conv2d::new(64, [7, 7]).strides(2).valid().with_bias())
}

/// Both versions' first pool.
pub(super) fn pool1(net: &mut GraphBuilder, x: Value) -> Result<Value, NetworkError> {
    let x = net.zero_padding2d("pool1_pad", x, [[1, 1], [1, 1]])?;
    net.pool2d("pool1_pool", x, Pool2d::max(3, 2, Padding::Valid))
}
