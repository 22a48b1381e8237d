//! MobileNetV2 (Sandler et al. 2018), as in Keras's `keras/src/applications/mobilenet_v2.py`, with its layer names.

use super::top::pooled_top;
use super::typed::typed_network;
use super::{Accuracy, Family, Published, Settings};
use crate::ops::{BatchNorm, Conv2d, DepthwiseConv2d};
use crate::{Graph, GraphBuilder, NetworkError};

/// MobileNetV2.
pub static FAMILY: Family = Family {
    name: "mobilenet-v2",
    title: "MobileNetV2",
    paper: "https://arxiv.org/abs/1801.04381",
    source: "keras/src/applications/mobilenet_v2.py",
    default_size: 224,
    least_size: 32,
    alphas: &[1.0, 0.35, 0.5, 0.75, 1.3, 1.4],
    minimalistic: false,
    preprocessing: "tf",
    depth: Some(105),
    accuracy: Accuracy::new(71.3, 90.1),
    published,
    build,
};

typed_network!(
    /// MobileNetV2 (Sandler et al. 2018), a Burn module.
    MobileNetV2, MobileNetV2Config, FAMILY, alpha
);

/// `[expansion, filters, stride]` of each block (table 2 of the paper).
const BLOCKS: [[usize; 3]; 17] = [
    [1, 16, 1],
    [6, 24, 2],
    [6, 24, 1],
    [6, 32, 2],
    [6, 32, 1],
    [6, 32, 1],
    [6, 64, 2],
    [6, 64, 1],
    [6, 64, 1],
    [6, 64, 1],
    [6, 96, 1],
    [6, 96, 1],
    [6, 96, 1],
    [6, 160, 2],
    [6, 160, 1],
    [6, 160, 1],
    [6, 320, 1],
];

fn build(settings: &Settings) -> Result<Graph, NetworkError> {
    let alpha = settings.alpha.unwrap_or(1.0);
    let norm = BatchNorm::new().momentum(0.999);
    let (mut net, images) = GraphBuilder::new(settings.input());

    let first = make_divisible(32.0 * alpha);
    let x = net.conv2d("Conv1", images, Conv2d::new(first, [3, 3]).strides(2))?;
    let x = net.batch_norm("bn_Conv1", x, norm.clone())?;
    let mut x = net.relu6("Conv1_relu", x)?;

    for (index, [expansion, filters, stride]) in BLOCKS.into_iter().enumerate() {
        // A 1x1 expansion, a 3x3 depthwise convolution and a linear 1x1 projection.
        let prefix = if index == 0 { "expanded_conv".into() } else { format!("block_{index}") };
        let name = |layer: &str| format!("{prefix}_{layer}");
        let input = x;
        if index > 0 {
            let hidden = expansion * input.channels();
            x = net.conv2d(name("expand"), x, Conv2d::new(hidden, [1, 1]))?;
            x = net.batch_norm(name("expand_BN"), x, norm.clone())?;
            x = net.relu6(name("expand_relu"), x)?;
        }
        let mut depthwise = DepthwiseConv2d::new([3, 3]).strides(stride);
        if stride == 2 {
            x = net.correct_pad(name("pad"), x, 3)?;
            depthwise = depthwise.valid();
        }
        x = net.depthwise_conv2d(name("depthwise"), x, depthwise)?;
        x = net.batch_norm(name("depthwise_BN"), x, norm.clone())?;
        x = net.relu6(name("depthwise_relu"), x)?;
        // Keras truncates before it rounds to a multiple of 8.
        let filters = make_divisible((filters as f64 * alpha).floor());
        x = net.conv2d(name("project"), x, Conv2d::new(filters, [1, 1]))?;
        x = net.batch_norm(name("project_BN"), x, norm.clone())?;
        if stride == 1 && input.channels() == filters {
            x = net.add(name("add"), &[input, x])?;
        }
    }

    let last = if alpha > 1.0 { make_divisible(1280.0 * alpha) } else { 1280 };
    let x = net.conv2d("Conv_1", x, Conv2d::new(last, [1, 1]).valid())?;
    let x = net.batch_norm("Conv_1_bn", x, norm)?;
    let x = net.relu6("out_relu", x)?;
    pooled_top(net, x, settings, "global_average_pooling2d")
}

/// Keras's `_make_divisible`: the nearest multiple of 8, never below 90 % of `value`.
pub(super) fn make_divisible(value: f64) -> usize {
    let rounded = ((value + 4.0) as usize / 8 * 8).max(8);
    if (rounded as f64) < 0.9 * value { rounded + 8 } else { rounded }
}

fn published(settings: &Settings) -> Option<Published> {
    let alpha = settings.alpha.unwrap_or(1.0);
    // Sizes between have none of their own; the two widest networks were trained at 224 only.
    let rows = match settings.size.pixels() {
        [rows @ (96 | 128 | 160 | 192), columns] if rows == columns && alpha <= 1.0 => rows,
        _ => 224,
    };
    let ending = settings.by_top(["", "_no_top"]);
    let file =
        format!("mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha:?}_{rows}{ending}.h5");
    Some(Published::new("mobilenet_v2/", file, None))
}
