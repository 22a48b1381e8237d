//! Inception V2, BN-Inception (Ioffe and Szegedy 2015), as TF-Slim has it, in `research/slim/nets/inception_v2.py` of the
//! repository `tensorflow/models`. Keras has none.

use super::slim::{AVG, MAX, Step, branch, convolutional_top, mixed};
use super::typed::typed_network;
use super::{Accuracy, Family, Settings};
use crate::ops::{Padding, PoolKind, SeparableConv2d};
use crate::{Activation, Graph, GraphBuilder, NetworkError};

/// Inception V2.
pub static FAMILY: Family = Family {
    name: "inception-v2",
    title: "InceptionV2",
    paper: "https://arxiv.org/abs/1502.03167",
    source: "tensorflow/models/research/slim/nets/inception_v2.py",
    default_size: 224,
    least_size: 32,
    alphas: &[],
    minimalistic: false,
    preprocessing: "tf",
    depth: None,
    accuracy: Accuracy::new(73.9, 91.8),
    published: |_| None,
    build,
};

typed_network!(
    /// Inception V2 (Ioffe and Szegedy 2015), a Burn module.
    InceptionV2, InceptionV2Config, FAMILY
);

const STEM: &[Step] = &[
    Step::Pool("2a", PoolKind::Max, 3, 2, Padding::Same),
    Step::Conv("2b", 64, [1, 1]),
    Step::Conv("2c", 192, [3, 3]),
    Step::Pool("3a", PoolKind::Max, 3, 2, Padding::Same),
];

/// A block that keeps the maps' size or halves it.
enum Block {
    /// The filters: 1x1; 1x1 and 3x3; 1x1 and two 3x3; 1x1 behind the pool, which is the step.
    Keeps([usize; 6], Step),
    /// The filters: 1x1 and 3x3; 1x1 and two 3x3. The third branch is a pool.
    Halves([usize; 4]),
}
use Block::{Halves, Keeps};

const BLOCKS: [(&str, Block); 10] = [
    ("Mixed_3b", Keeps([64, 64, 64, 64, 96, 32], AVG)),
    ("Mixed_3c", Keeps([64, 64, 96, 64, 96, 64], AVG)),
    ("Mixed_4a", Halves([128, 160, 64, 96])),
    ("Mixed_4b", Keeps([224, 64, 96, 96, 128, 128], AVG)),
    ("Mixed_4c", Keeps([192, 96, 128, 96, 128, 128], AVG)),
    ("Mixed_4d", Keeps([160, 128, 160, 128, 160, 96], AVG)),
    ("Mixed_4e", Keeps([96, 128, 192, 160, 192, 96], AVG)),
    ("Mixed_5a", Halves([128, 192, 192, 256])),
    ("Mixed_5b", Keeps([352, 192, 320, 160, 224, 128], AVG)),
    ("Mixed_5c", Keeps([352, 192, 320, 192, 224, 128], MAX)),
];

fn build(settings: &Settings) -> Result<Graph, NetworkError> {
    let (mut net, images) = GraphBuilder::new(settings.input());
    // `inception_arg_scope` says nothing of separable convolutions: this one has a bias and no normalization.
    let stem = SeparableConv2d {
        depth_multiplier: 8,
        activation: Activation::Relu,
        ..SeparableConv2d::new(64, [7, 7]).strides(2).with_bias()
    };
    let x = net.layer("Conv2d_1a_7x7", stem, &[images])?;
    let mut x = branch(&mut net, "", x, STEM)?;
    for (name, block) in BLOCKS {
        x = match block {
            Keeps([a, b, c, d, e, f], pool) => {
                let branches: [&[Step]; 4] = [
                    &[Step::Conv("0a", a, [1, 1])],
                    &[Step::Conv("0a", b, [1, 1]), Step::Conv("0b", c, [3, 3])],
                    &[
                        Step::Conv("0a", d, [1, 1]),
                        Step::Conv("0b", e, [3, 3]),
                        Step::Conv("0c", e, [3, 3]),
                    ],
                    &[pool, Step::Conv("0b", f, [1, 1])],
                ];
                mixed(&mut net, name, x, &branches)?
            }
            Halves([a, b, c, d]) => {
                let branches: [&[Step]; 3] = [
                    &[
                        Step::Conv("0a", a, [1, 1]),
                        Step::Strided("1a", b, [3, 3], 2, Padding::Same),
                    ],
                    &[
                        Step::Conv("0a", c, [1, 1]),
                        Step::Conv("0b", d, [3, 3]),
                        Step::Strided("1a", d, [3, 3], 2, Padding::Same),
                    ],
                    &[Step::Pool("1a", PoolKind::Max, 3, 2, Padding::Same)],
                ];
                mixed(&mut net, name, x, &branches)?
            }
        };
    }
    net.mark_base(x, None);
    let x = convolutional_top(&mut net, settings, "1c", x)?;
    net.finish(x)
}
