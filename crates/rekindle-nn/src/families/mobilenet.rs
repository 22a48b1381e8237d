//! MobileNet (Howard et al. 2017), as in Keras's `keras/src/applications/mobilenet.py`, with its layer names.

use super::typed::typed_network;
use super::{Accuracy, Family, Published, Settings};
use crate::ops::{BatchNorm, Conv2d, DepthwiseConv2d, Dropout, GlobalPool, Reshape};
use crate::{Activation, Graph, GraphBuilder, NetworkError, Value};

/// MobileNet.
pub static FAMILY: Family = Family {
    name: "mobilenet",
    title: "MobileNet",
    paper: "https://arxiv.org/abs/1704.04861",
    source: "keras/src/applications/mobilenet.py",
    default_size: 224,
    least_size: 32,
    alphas: &[1.0, 0.25, 0.5, 0.75],
    minimalistic: false,
    preprocessing: "tf",
    depth: Some(55),
    accuracy: Accuracy::new(70.4, 89.5),
    published,
    build,
};

typed_network!(
    /// MobileNet (Howard et al. 2017), a Burn module.
    MobileNet, MobileNetConfig, FAMILY, alpha
);

/// `[filters, stride]` of each block (table 1 of the paper).
const BLOCKS: [[usize; 2]; 13] = [
    [64, 1],
    [128, 2],
    [128, 1],
    [256, 2],
    [256, 1],
    [512, 2],
    [512, 1],
    [512, 1],
    [512, 1],
    [512, 1],
    [512, 1],
    [1024, 2],
    [1024, 1],
];

fn build(settings: &Settings) -> Result<Graph, NetworkError> {
    let alpha = settings.alpha.unwrap_or(1.0);
    let scaled = |filters: usize| (filters as f64 * alpha) as usize;
    let (mut net, images) = GraphBuilder::new(settings.input());

    let x = net.conv2d("conv1", images, Conv2d::new(scaled(32), [3, 3]).strides(2))?;
    let mut x = norm_relu6(&mut net, "conv1", x)?;
    for (index, [filters, stride]) in BLOCKS.into_iter().enumerate() {
        let id = index + 1;
        let mut depthwise = DepthwiseConv2d::new([3, 3]).strides(stride);
        if stride == 2 {
            // Whatever the size of the maps, even or odd.
            x = net.zero_padding2d(format!("conv_pad_{id}"), x, [[0, 1], [0, 1]])?;
            depthwise = depthwise.valid();
        }
        let name = format!("conv_dw_{id}");
        x = net.depthwise_conv2d(&name, x, depthwise)?;
        x = norm_relu6(&mut net, &name, x)?;
        let name = format!("conv_pw_{id}");
        x = net.conv2d(&name, x, Conv2d::new(scaled(filters), [1, 1]))?;
        x = norm_relu6(&mut net, &name, x)?;
    }

    net.mark_base(x, None);
    if let Some(classes) = settings.classes {
        x = net.layer("global_average_pooling2d", GlobalPool::average().keep_dims(), &[x])?;
        x = net.layer("dropout", Dropout { rate: 1e-3 }, &[x])?;
        x = net.conv2d("conv_preds", x, Conv2d::new(classes, [1, 1]).with_bias())?;
        x = net.layer("reshape_2", Reshape { target: vec![classes as i64] }, &[x])?;
        x = net.activation("predictions", x, Activation::Softmax)?;
    }
    net.finish(x)
}

/// The normalization and the ReLU(6) behind a convolution.
fn norm_relu6(net: &mut GraphBuilder, name: &str, x: Value) -> Result<Value, NetworkError> {
    let x = net.batch_norm(format!("{name}_bn"), x, BatchNorm::new())?;
    net.relu6(format!("{name}_relu"), x)
}

fn published(settings: &Settings) -> Option<Published> {
    let width = match settings.alpha {
        Some(0.75) => "7_5",
        Some(0.5) => "5_0",
        Some(0.25) => "2_5",
        _ => "1_0",
    };
    // Sizes between have none of their own.
    let rows = match settings.size.pixels() {
        [rows @ (128 | 160 | 192), columns] if rows == columns => rows,
        _ => 224,
    };
    let ending = settings.by_top(["", "_no_top"]);
    let file = format!("mobilenet_{width}_{rows}_tf{ending}.h5");
    Some(Published::new("mobilenet/", file, None))
}
