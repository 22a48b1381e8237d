//! ResNetV2 (He et al. 2016), as in Keras's `keras/src/applications/resnet_v2.py`, with its layer names: ResNet with
//! normalization and ReLU in front of each block.

use super::resnet::{NORM, conv1, pool1};
use super::top::pooled_top;
use super::typed::typed_network;
use super::{Accuracy, Family, Published, Settings};
use crate::ops::{Conv2d, Padding, Pool2d};
use crate::{Graph, GraphBuilder, NetworkError};

/// ResNet50V2.
pub static RESNET_50_V2: Family = family(
    ["resnet-50-v2", "ResNet50V2"],
    (103, Accuracy::new(76.0, 93.0)),
    |settings| {
        let md5s = ["3ef43a0b657b3be2300d5770ece849e0", "fac2f116257151a9d068a22e544a4917"];
        Published::usual(settings, "resnet/", "resnet50v2", md5s)
    },
    |settings| build(settings, [3, 4, 6, 3]),
);

/// ResNet101V2.
pub static RESNET_101_V2: Family = family(
    ["resnet-101-v2", "ResNet101V2"],
    (205, Accuracy::new(77.2, 93.8)),
    |settings| {
        let md5s = ["6343647c601c52e1368623803854d971", "c0ed64b8031c3730f411d2eb4eea35b5"];
        Published::usual(settings, "resnet/", "resnet101v2", md5s)
    },
    |settings| build(settings, [3, 4, 23, 3]),
);

/// ResNet152V2.
pub static RESNET_152_V2: Family = family(
    ["resnet-152-v2", "ResNet152V2"],
    (307, Accuracy::new(78.0, 94.2)),
    |settings| {
        let md5s = ["a49b44d1979771252814e80f8ec446f9", "ed17cf2e0169df9d443503ef94b23b33"];
        Published::usual(settings, "resnet/", "resnet152v2", md5s)
    },
    |settings| build(settings, [3, 8, 36, 3]),
);

typed_network!(
    /// ResNet50V2 (He et al. 2016), a Burn module.
    ResNet50V2, ResNet50V2Config, RESNET_50_V2
);

typed_network!(
    /// ResNet101V2 (He et al. 2016), a Burn module.
    ResNet101V2, ResNet101V2Config, RESNET_101_V2
);

typed_network!(
    /// ResNet152V2 (He et al. 2016), a Burn module.
    ResNet152V2, ResNet152V2Config, RESNET_152_V2
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
        paper: "https://arxiv.org/abs/1603.05027",
        source: "keras/src/applications/resnet_v2.py",
        default_size: 224,
        least_size: 32,
        alphas: &[],
        minimalistic: false,
        preprocessing: "tf",
        depth: Some(depth),
        accuracy,
        published,
        build,
    }
}

/// The network of this many blocks in each of the four stages.
fn build(settings: &Settings, stages: [usize; 4]) -> Result<Graph, NetworkError> {
    let (mut net, images) = GraphBuilder::new(settings.input());
    let x = conv1(&mut net, images)?;
    let mut x = pool1(&mut net, x)?;

    for (stage, blocks) in stages.into_iter().enumerate() {
        let filters = 64 << stage;
        for block in 1..=blocks {
            // Maps shrink at a stage's end, except at the last one's.
            let stride = if stage < 3 && block == blocks { 2 } else { 1 };
            let prefix = format!("conv{}_block{block}", stage + 2);
            let name = |layer: &str| format!("{prefix}_{layer}");
            let mut shortcut = x;
            x = net.batch_norm(name("preact_bn"), x, NORM)?;
            x = net.relu(name("preact_relu"), x)?;
            if block == 1 {
                let conv = Conv2d::new(4 * filters, [1, 1]).strides(stride).valid().with_bias();
                shortcut = net.conv2d(name("0_conv"), x, conv)?;
            } else if stride > 1 {
                let pool = Pool2d::max(1, stride, Padding::Valid);
                let name = net.numbered("max_pooling2d");
                shortcut = net.pool2d(name, shortcut, pool)?;
            }
            x = net.conv2d(name("1_conv"), x, Conv2d::new(filters, [1, 1]).valid())?;
            x = net.batch_norm(name("1_bn"), x, NORM)?;
            x = net.relu(name("1_relu"), x)?;
            x = net.zero_padding2d(name("2_pad"), x, [[1, 1], [1, 1]])?;
            let conv = Conv2d::new(filters, [3, 3]).strides(stride).valid();
            x = net.conv2d(name("2_conv"), x, conv)?;
            x = net.batch_norm(name("2_bn"), x, NORM)?;
            x = net.relu(name("2_relu"), x)?;
            let conv = Conv2d::new(4 * filters, [1, 1]).valid().with_bias();
            x = net.conv2d(name("3_conv"), x, conv)?;
            x = net.add(name("out"), &[shortcut, x])?;
        }
    }

    let x = net.batch_norm("post_bn", x, NORM)?;
    let x = net.relu("post_relu", x)?;
    pooled_top(net, x, settings, "avg_pool")
}
