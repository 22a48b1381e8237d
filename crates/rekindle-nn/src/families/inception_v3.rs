//! InceptionV3 (Szegedy et al. 2015), as in Keras's `keras/src/applications/inception_v3.py`.
//!
//! Keras numbers most of its layers (`conv2d`, `conv2d_1`, ...); the names here are those of the first network that a
//! Keras session makes.

use super::top::pooled_top;
use super::typed::typed_network;
use super::{Accuracy, Family, Published, Settings};
use crate::ops::{BatchNorm, Conv2d, Padding, Pool2d};
use crate::{Graph, GraphBuilder, NetworkError, Value};

/// InceptionV3.
pub static FAMILY: Family = Family {
    name: "inception-v3",
    title: "InceptionV3",
    paper: "https://arxiv.org/abs/1512.00567",
    source: "keras/src/applications/inception_v3.py",
    default_size: 299,
    least_size: 75,
    alphas: &[],
    minimalistic: false,
    preprocessing: "tf",
    depth: Some(189),
    accuracy: Accuracy::new(77.9, 93.7),
    published,
    build,
};

typed_network!(
    /// InceptionV3 (Szegedy et al. 2015), a Burn module.
    InceptionV3, InceptionV3Config, FAMILY
);

/// One step of a branch. Convolutions are followed by BatchNorm and ReLU.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// Filters, kernel height, kernel width; stride 1, padding `same`.
    Conv(usize, usize, usize),
    /// The same without padding.
    Valid(usize, usize, usize),
    /// The same with stride 2 and no padding.
    Down(usize, usize, usize),
    /// 3x3 average, stride 1, padding `same`.
    Avg,
    /// 3x3 maximum, stride 2, no padding.
    Max,
    /// A 1x3 and a 3x1 convolution side by side, concatenated; the name, or Keras's next number.
    Fork(usize, Option<&'static str>),
}
use Step::{Avg, Conv, Down, Fork, Max, Valid};

const STEM: &[Step] =
    &[Down(32, 3, 3), Valid(32, 3, 3), Conv(64, 3, 3), Max, Valid(80, 1, 1), Valid(192, 3, 3), Max];

/// The name of each block and its branches, which are concatenated.
const BLOCKS: [(&str, &[&[Step]]); 11] = [
    ("mixed0", &inception_a::<32>()),
    ("mixed1", &inception_a::<64>()),
    ("mixed2", &inception_a::<64>()),
    ("mixed3", &[&[Down(384, 3, 3)], &[Conv(64, 1, 1), Conv(96, 3, 3), Down(96, 3, 3)], &[Max]]),
    ("mixed4", &inception_b::<128>()),
    ("mixed5", &inception_b::<160>()),
    ("mixed6", &inception_b::<160>()),
    ("mixed7", &inception_b::<192>()),
    (
        "mixed8",
        &[
            &[Conv(192, 1, 1), Down(320, 3, 3)],
            &[Conv(192, 1, 1), Conv(192, 1, 7), Conv(192, 7, 1), Down(192, 3, 3)],
            &[Max],
        ],
    ),
    ("mixed9", &inception_c(&[Conv(384, 1, 1), Fork(384, Some("mixed9_0"))])),
    ("mixed10", &inception_c(&[Conv(384, 1, 1), Fork(384, Some("mixed9_1"))])),
];

/// 35 x 35 maps; the filters of the pooling branch differ.
const fn inception_a<const POOL: usize>() -> [&'static [Step]; 4] {
    [
        &[Conv(64, 1, 1)],
        &[Conv(48, 1, 1), Conv(64, 5, 5)],
        &[Conv(64, 1, 1), Conv(96, 3, 3), Conv(96, 3, 3)],
        const { &[Avg, Conv(POOL, 1, 1)] },
    ]
}

/// 17 x 17 maps; the filters inside the 7x7 branches differ.
const fn inception_b<const N: usize>() -> [&'static [Step]; 4] {
    [
        &[Conv(192, 1, 1)],
        const { &[Conv(N, 1, 1), Conv(N, 1, 7), Conv(192, 7, 1)] },
        const { &[Conv(N, 1, 1), Conv(N, 7, 1), Conv(N, 1, 7), Conv(N, 7, 1), Conv(192, 1, 7)] },
        &[Avg, Conv(192, 1, 1)],
    ]
}

/// 8 x 8 maps; the second branch has a name in it.
const fn inception_c(second: &'static [Step]) -> [&'static [Step]; 4] {
    [
        &[Conv(320, 1, 1)],
        second,
        &[Conv(448, 1, 1), Conv(384, 3, 3), Fork(384, None)],
        &[Avg, Conv(192, 1, 1)],
    ]
}

fn build(settings: &Settings) -> Result<Graph, NetworkError> {
    let (mut net, images) = GraphBuilder::new(settings.input());
    let mut x = branch(&mut net, images, STEM)?;
    for (name, branches) in BLOCKS {
        x = self::branches(&mut net, name, x, branches)?;
    }
    pooled_top(net, x, settings, "avg_pool")
}

/// Branches side by side, concatenated.
pub(super) fn branches(
    net: &mut GraphBuilder,
    name: impl Into<String>,
    x: Value,
    branches: &[&[Step]],
) -> Result<Value, NetworkError> {
    let ends = branches.iter().map(|steps| branch(net, x, steps));
    let ends = ends.collect::<Result<Vec<Value>, _>>()?;
    net.concatenate(name, &ends)
}

/// One step after another.
pub(super) fn branch(
    net: &mut GraphBuilder,
    mut x: Value,
    steps: &[Step],
) -> Result<Value, NetworkError> {
    for step in steps {
        x = match *step {
            Conv(filters, rows, columns) => unit(net, x, Conv2d::new(filters, [rows, columns]))?,
            Valid(filters, rows, columns) => {
                unit(net, x, Conv2d::new(filters, [rows, columns]).valid())?
            }
            Down(filters, rows, columns) => {
                unit(net, x, Conv2d::new(filters, [rows, columns]).valid().strides(2))?
            }
            Avg => {
                let name = net.numbered("average_pooling2d");
                net.pool2d(name, x, Pool2d::average(3, 1, Padding::Same))?
            }
            Max => {
                let name = net.numbered("max_pooling2d");
                net.pool2d(name, x, Pool2d::max(3, 2, Padding::Valid))?
            }
            Fork(filters, name) => {
                let wide = unit(net, x, Conv2d::new(filters, [1, 3]))?;
                let tall = unit(net, x, Conv2d::new(filters, [3, 1]))?;
                let name = name.map_or_else(|| net.numbered("concatenate"), str::to_owned);
                net.concatenate(name, &[wide, tall])?
            }
        };
    }
    Ok(x)
}

/// Keras's `conv2d_bn`: convolution, BatchNorm without gamma, ReLU.
fn unit(net: &mut GraphBuilder, x: Value, conv: Conv2d) -> Result<Value, NetworkError> {
    let [name, norm, relu] =
        ["conv2d", "batch_normalization", "activation"].map(|class| net.numbered(class));
    let x = net.conv2d(name, x, conv)?;
    let x = net.batch_norm(norm, x, BatchNorm::new().scale(false))?;
    net.relu(relu, x)
}

fn published(settings: &Settings) -> Option<Published> {
    let md5s = ["9a0d58056eeedaa3f26cb7ebd46da564", "bcbd6486424b2319ff4ef7d526e38f63"];
    Published::usual(settings, "inception_v3/", "inception_v3", md5s)
}
