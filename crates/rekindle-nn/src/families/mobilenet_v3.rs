//! MobileNetV3 (Howard et al. 2019), as in Keras's `keras/src/applications/mobilenet_v3.py`, with its layer names.

use super::mobilenet_v2::make_divisible;
use super::typed::typed_network;
use super::{Accuracy, Family, Published, Settings};
use crate::ops::{ActivationLayer, BatchNorm, Conv2d, DepthwiseConv2d, GlobalPool};
use crate::{Activation, Graph, GraphBuilder, NetworkError, Value};

/// MobileNetV3Small.
pub static SMALL: Family = family(
    ["mobilenet-v3-small", "MobileNetV3Small"],
    68.1,
    |settings| published("small", settings),
    |settings| build(&SMALL_BLOCKS, 1024, settings),
);

/// MobileNetV3Large.
pub static LARGE: Family = family(
    ["mobilenet-v3-large", "MobileNetV3Large"],
    75.6,
    |settings| published("large", settings),
    |settings| build(&LARGE_BLOCKS, 1280, settings),
);

const fn family(
    [name, title]: [&'static str; 2],
    top_1: f64,
    published: fn(&Settings) -> Option<Published>,
    build: fn(&Settings) -> Result<Graph, NetworkError>,
) -> Family {
    Family {
        name,
        title,
        paper: "https://arxiv.org/abs/1905.02244",
        source: "keras/src/applications/mobilenet_v3.py",
        default_size: 224,
        least_size: 32,
        alphas: &[1.0, 0.75],
        minimalistic: true,
        preprocessing: "none",
        depth: None,
        accuracy: Some(Accuracy { top_1, top_5: None }),
        published,
        build,
    }
}

typed_network!(
    /// MobileNetV3Small (Howard et al. 2019), a Burn module.
    MobileNetV3Small, MobileNetV3SmallConfig, SMALL, alpha, minimalistic
);

typed_network!(
    /// MobileNetV3Large (Howard et al. 2019), a Burn module.
    MobileNetV3Large, MobileNetV3LargeConfig, LARGE, alpha, minimalistic
);

const RE: Activation = Activation::Relu;
const HS: Activation = Activation::HardSilu;

/// Kernel, expansion, filters, whether it squeezes and excites, activation, stride.
type Block = (usize, f64, usize, bool, Activation, usize);

/// Table 2 of the paper.
const SMALL_BLOCKS: [Block; 11] = [
    (3, 1.0, 16, true, RE, 2),
    (3, 72.0 / 16.0, 24, false, RE, 2),
    (3, 88.0 / 24.0, 24, false, RE, 1),
    (5, 4.0, 40, true, HS, 2),
    (5, 6.0, 40, true, HS, 1),
    (5, 6.0, 40, true, HS, 1),
    (5, 3.0, 48, true, HS, 1),
    (5, 3.0, 48, true, HS, 1),
    (5, 6.0, 96, true, HS, 2),
    (5, 6.0, 96, true, HS, 1),
    (5, 6.0, 96, true, HS, 1),
];

/// Table 1 of the paper.
const LARGE_BLOCKS: [Block; 15] = [
    (3, 1.0, 16, false, RE, 1),
    (3, 4.0, 24, false, RE, 2),
    (3, 3.0, 24, false, RE, 1),
    (5, 3.0, 40, true, RE, 2),
    (5, 3.0, 40, true, RE, 1),
    (5, 3.0, 40, true, RE, 1),
    (3, 6.0, 80, false, HS, 2),
    (3, 2.5, 80, false, HS, 1),
    (3, 2.3, 80, false, HS, 1),
    (3, 2.3, 80, false, HS, 1),
    (3, 6.0, 112, true, HS, 1),
    (3, 6.0, 112, true, HS, 1),
    (5, 6.0, 160, true, HS, 2),
    (5, 6.0, 160, true, HS, 1),
    (5, 6.0, 160, true, HS, 1),
];

const NORM: BatchNorm = BatchNorm::new().momentum(0.999);

fn build(blocks: &[Block], last: usize, settings: &Settings) -> Result<Graph, NetworkError> {
    let alpha = settings.alpha.unwrap_or(1.0);
    let minimalistic = settings.minimalistic;
    let outer = if minimalistic { RE } else { HS };
    let (mut net, images) = GraphBuilder::new(settings.input());

    let x = net.rescaling("rescaling", images, 1.0 / 127.5, -1.0)?;
    let x = net.conv2d("conv", x, Conv2d::new(16, [3, 3]).strides(2))?;
    let x = net.batch_norm("conv_bn", x, NORM)?;
    let mut x = activation(&mut net, x, outer)?;

    for (index, &(mut kernel, expansion, filters, mut squeezes, mut function, stride)) in
        blocks.iter().enumerate()
    {
        if minimalistic {
            (kernel, squeezes, function) = (3, false, RE);
        }
        let prefix =
            if index == 0 { "expanded_conv".into() } else { format!("expanded_conv_{index}") };
        let name = |layer: &str| format!("{prefix}_{layer}");
        let input = x;
        if index > 0 {
            let hidden = make_divisible(input.channels() as f64 * expansion);
            x = net.conv2d(name("expand"), x, Conv2d::new(hidden, [1, 1]))?;
            x = net.batch_norm(name("expand_bn"), x, NORM)?;
            x = activation(&mut net, x, function)?;
        }
        let mut depthwise = DepthwiseConv2d::new([kernel, kernel]).strides(stride);
        if stride == 2 {
            x = net.correct_pad(name("depthwise_pad"), x, kernel)?;
            depthwise = depthwise.valid();
        }
        x = net.depthwise_conv2d(name("depthwise"), x, depthwise)?;
        x = net.batch_norm(name("depthwise_bn"), x, NORM)?;
        x = activation(&mut net, x, function)?;
        if squeezes {
            x = squeeze_excite(&mut net, &name("squeeze_excite"), x)?;
        }
        let filters = make_divisible(filters as f64 * alpha);
        x = net.conv2d(name("project"), x, Conv2d::new(filters, [1, 1]))?;
        x = net.batch_norm(name("project_bn"), x, NORM)?;
        if stride == 1 && input.channels() == filters {
            x = net.add(name("add"), &[input, x])?;
        }
    }

    let x =
        net.conv2d("conv_1", x, Conv2d::new(make_divisible(x.channels() as f64 * 6.0), [1, 1]))?;
    let x = net.batch_norm("conv_1_bn", x, NORM)?;
    let mut x = activation(&mut net, x, outer)?;
    net.mark_base(x, None);
    if let Some(classes) = settings.classes {
        x = net.layer("global_average_pooling2d", GlobalPool::average().keep_dims(), &[x])?;
        x = net.conv2d("conv_2", x, Conv2d::new(last, [1, 1]).with_bias())?;
        x = activation(&mut net, x, outer)?;
        x = net.dropout("dropout", x, 0.2)?;
        x = net.conv2d("logits", x, Conv2d::new(classes, [1, 1]).with_bias())?;
        x = net.flatten("flatten", x)?;
        x = net.activation("predictions", x, Activation::Softmax)?;
    }
    net.finish(x)
}

/// Keras has a `ReLU` layer for one and an `Activation` for the other, which it numbers.
fn activation(
    net: &mut GraphBuilder,
    x: Value,
    function: Activation,
) -> Result<Value, NetworkError> {
    let (class, layer) = match function {
        Activation::Relu => ("re_lu", ActivationLayer::layer(function)),
        _ => ("activation", ActivationLayer::named(function)),
    };
    let name = net.numbered(class);
    net.layer(name, layer, &[x])
}

/// Weighs channels by what all of the maps say: pool, two 1x1 convolutions, and a hard sigmoid in Keras's three steps.
fn squeeze_excite(net: &mut GraphBuilder, prefix: &str, x: Value) -> Result<Value, NetworkError> {
    let name = |layer: &str| format!("{prefix}_{layer}");
    let channels = x.channels();
    let squeezed = make_divisible(channels as f64 * 0.25);
    let y = net.layer(name("avg_pool"), GlobalPool::average().keep_dims(), &[x])?;
    let y = net.conv2d(name("conv"), y, Conv2d::new(squeezed, [1, 1]).with_bias())?;
    let y = net.layer(name("relu"), ActivationLayer::layer(Activation::Relu), &[y])?;
    let y = net.conv2d(name("conv_1"), y, Conv2d::new(channels, [1, 1]).with_bias())?;
    let [add, relu, multiply] = ["add", "re_lu", "multiply"].map(|class| net.numbered(class));
    let y = net.rescaling(add, y, 1.0, 3.0)?;
    let y = net.relu6(relu, y)?;
    let y = net.rescaling(multiply, y, 1.0 / 6.0, 0.0)?;
    net.multiply(name("mul"), &[x, y])
}

fn published(size: &str, settings: &Settings) -> Option<Published> {
    let alpha = settings.alpha.unwrap_or(1.0);
    let md5s = match (size, settings.minimalistic, alpha) {
        ("large", false, 0.75) => {
            ["765b44a33ad4005b3ac83185abf1d0eb", "40af19a13ebea4e2ee0c676887f69a2e"]
        }
        ("large", false, 1.0) => {
            ["59e551e166be033d707958cf9e29a6a7", "07fb09a5933dd0c8eaafa16978110389"]
        }
        ("large", true, 1.0) => {
            ["675e7b876c45c57e9e63e6d90a36599c", "ec5221f64a2f6d1ef965a614bdae7973"]
        }
        ("small", false, 0.75) => {
            ["cb65d4e5be93758266aa0a7f2c6708b7", "ebdb5cc8e0b497cd13a7c275d475c819"]
        }
        ("small", false, 1.0) => {
            ["8768d4c2e7dee89b9d02b2d03d65d862", "d3e8ec802a04aa4fc771ee12a9a9b836"]
        }
        ("small", true, 1.0) => {
            ["99cd97fb2fcdad2bf028eb838de69e37", "cde8136e733e811080d9fcd8a252f7e4"]
        }
        _ => return None,
    };
    let form = if settings.minimalistic { "_minimalistic" } else { "" };
    let ending = settings.by_top(["", "_no_top_v2"]);
    let file = format!("weights_mobilenet_v3_{size}{form}_224_{alpha:?}_float{ending}.h5");
    Some(Published::new("mobilenet_v3/", file, Some(settings.by_top(md5s))))
}
