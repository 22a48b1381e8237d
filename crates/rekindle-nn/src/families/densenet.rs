//! DenseNet (Huang et al. 2016), as in Keras's `keras/src/applications/densenet.py`, with its layer names.

use super::top::pooled_top;
use super::typed::typed_network;
use super::{Accuracy, Family, Published, Settings};
use crate::ops::{BatchNorm, Conv2d, Padding, Pool2d};
use crate::{Graph, GraphBuilder, NetworkError, Value};

/// DenseNet121.
pub static DENSENET_121: Family = family(
    ["densenet-121", "DenseNet121"],
    (242, Accuracy::new(75.0, 92.3)),
    |settings| {
        let md5s = ["9d60b8095a5708f2dcce2bca79d332c7", "30ee3e1110167f948a6b9946edeeb738"];
        Published::usual(settings, "densenet/", "densenet121", md5s)
    },
    |settings| build(settings, [6, 12, 24, 16]),
);

/// DenseNet169.
pub static DENSENET_169: Family = family(
    ["densenet-169", "DenseNet169"],
    (338, Accuracy::new(76.2, 93.2)),
    |settings| {
        let md5s = ["d699b8f76981ab1b30698df4c175e90b", "b8c4d4c20dd625c148057b9ff1c1176b"];
        Published::usual(settings, "densenet/", "densenet169", md5s)
    },
    |settings| build(settings, [6, 12, 32, 32]),
);

/// DenseNet201.
pub static DENSENET_201: Family = family(
    ["densenet-201", "DenseNet201"],
    (402, Accuracy::new(77.3, 93.6)),
    |settings| {
        let md5s = ["1ceb130c1ea1b78c3bf6114dbdfd8807", "c13680b51ded0fb44dff2d8f86ac8bb1"];
        Published::usual(settings, "densenet/", "densenet201", md5s)
    },
    |settings| build(settings, [6, 12, 48, 32]),
);

typed_network!(
    /// DenseNet121 (Huang et al. 2016), a Burn module.
    DenseNet121, DenseNet121Config, DENSENET_121
);

typed_network!(
    /// DenseNet169 (Huang et al. 2016), a Burn module.
    DenseNet169, DenseNet169Config, DENSENET_169
);

typed_network!(
    /// DenseNet201 (Huang et al. 2016), a Burn module.
    DenseNet201, DenseNet201Config, DENSENET_201
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
        paper: "https://arxiv.org/abs/1608.06993",
        source: "keras/src/applications/densenet.py",
        default_size: 224,
        least_size: 32,
        alphas: &[],
        minimalistic: false,
        preprocessing: "torch",
        depth: Some(depth),
        accuracy,
        published,
        build,
    }
}

/// How many channels each layer of a dense block adds.
const GROWTH: usize = 32;

const NORM: BatchNorm = BatchNorm::new().epsilon(1.001e-5);

/// The network of this many layers in each of the four dense blocks (table 1 of the paper).
fn build(settings: &Settings, blocks: [usize; 4]) -> Result<Graph, NetworkError> {
    let (mut net, images) = GraphBuilder::new(settings.input());
    let name = net.numbered("zero_padding2d");
    let x = net.zero_padding2d(name, images, [[3, 3], [3, 3]])?;
    let x = net.conv2d("conv1_conv", x, Conv2d::new(64, [7, 7]).strides(2).valid())?;
    let x = norm_relu(&mut net, "conv1", x)?;
    let name = net.numbered("zero_padding2d");
    let x = net.zero_padding2d(name, x, [[1, 1], [1, 1]])?;
    let mut x = net.pool2d("pool1", x, Pool2d::max(3, 2, Padding::Valid))?;

    for (index, layers) in blocks.into_iter().enumerate() {
        let id = index + 2;
        if index > 0 {
            // A transition: half the channels, half the rows and columns.
            let name = format!("pool{}", index + 1);
            x = norm_relu(&mut net, &name, x)?;
            let half = Conv2d::new(x.channels() / 2, [1, 1]).valid();
            x = net.conv2d(format!("{name}_conv"), x, half)?;
            let pool = Pool2d::average(2, 2, Padding::Valid);
            x = net.pool2d(format!("{name}_pool"), x, pool)?;
        }
        for layer in 1..=layers {
            let name = format!("conv{id}_block{layer}");
            let input = x;
            x = norm_relu(&mut net, &format!("{name}_0"), x)?;
            let narrow = Conv2d::new(4 * GROWTH, [1, 1]).valid();
            x = net.conv2d(format!("{name}_1_conv"), x, narrow)?;
            x = norm_relu(&mut net, &format!("{name}_1"), x)?;
            x = net.conv2d(format!("{name}_2_conv"), x, Conv2d::new(GROWTH, [3, 3]))?;
            x = net.concatenate(format!("{name}_concat"), &[input, x])?;
        }
    }

    let x = net.batch_norm("bn", x, NORM)?;
    let x = net.relu("relu", x)?;
    pooled_top(net, x, settings, "avg_pool")
}

/// The normalization and the ReLU in front of a convolution.
fn norm_relu(net: &mut GraphBuilder, name: &str, x: Value) -> Result<Value, NetworkError> {
    let x = net.batch_norm(format!("{name}_bn"), x, NORM)?;
    net.relu(format!("{name}_relu"), x)
}
