//! Inception-ResNet v2 (Szegedy et al. 2016), as in Keras's `keras/src/applications/inception_resnet_v2.py`.
//!
//! Keras numbers most of its layers (`conv2d`, `conv2d_1`, ...); the names here are those of the first network that a
//! Keras session makes.

use super::inception_v3::Step::{self, Avg, Conv, Down, Max, Valid};
use super::inception_v3::{branch, branches};
use super::top::pooled_top;
use super::typed::typed_network;
use super::{Accuracy, Family, Published, Settings};
use crate::ops::{BatchNorm, Conv2d};
use crate::{Graph, GraphBuilder, NetworkError};

/// Inception-ResNet v2.
pub static FAMILY: Family = Family {
    name: "inception-resnet-v2",
    title: "InceptionResNetV2",
    paper: "https://arxiv.org/abs/1602.07261",
    source: "keras/src/applications/inception_resnet_v2.py",
    default_size: 299,
    least_size: 75,
    alphas: &[],
    minimalistic: false,
    preprocessing: "tf",
    depth: Some(449),
    accuracy: Accuracy::new(80.3, 95.3),
    published,
    build,
};

typed_network!(
    /// Inception-ResNet v2 (Szegedy et al. 2016), a Burn module.
    InceptionResNetV2, InceptionResNetV2Config, FAMILY
);

const STEM: &[Step] =
    &[Down(32, 3, 3), Valid(32, 3, 3), Conv(64, 3, 3), Max, Valid(80, 1, 1), Valid(192, 3, 3), Max];

/// An Inception block, and residual blocks of one kind behind it.
struct Stage {
    name: &'static str,
    /// Branches that are concatenated.
    mixed: &'static [&'static [Step]],
    residual: &'static str,
    count: usize,
    /// What share of a residual block's branches is added to its input.
    scale: f64,
    /// The branches of each residual block.
    branches: &'static [&'static [Step]],
}

const STAGES: [Stage; 3] = [
    // 35 x 35 maps.
    Stage {
        name: "mixed_5b",
        mixed: &[
            &[Conv(96, 1, 1)],
            &[Conv(48, 1, 1), Conv(64, 5, 5)],
            &[Conv(64, 1, 1), Conv(96, 3, 3), Conv(96, 3, 3)],
            &[Avg, Conv(64, 1, 1)],
        ],
        residual: "block35",
        count: 10,
        scale: 0.17,
        branches: &[
            &[Conv(32, 1, 1)],
            &[Conv(32, 1, 1), Conv(32, 3, 3)],
            &[Conv(32, 1, 1), Conv(48, 3, 3), Conv(64, 3, 3)],
        ],
    },
    // 17 x 17 maps.
    Stage {
        name: "mixed_6a",
        mixed: &[&[Down(384, 3, 3)], &[Conv(256, 1, 1), Conv(256, 3, 3), Down(384, 3, 3)], &[Max]],
        residual: "block17",
        count: 20,
        scale: 0.1,
        branches: &[&[Conv(192, 1, 1)], &[Conv(128, 1, 1), Conv(160, 1, 7), Conv(192, 7, 1)]],
    },
    // 8 x 8 maps.
    Stage {
        name: "mixed_7a",
        mixed: &[
            &[Conv(256, 1, 1), Down(384, 3, 3)],
            &[Conv(256, 1, 1), Down(288, 3, 3)],
            &[Conv(256, 1, 1), Conv(288, 3, 3), Down(320, 3, 3)],
            &[Max],
        ],
        residual: "block8",
        count: 10,
        scale: 0.2,
        branches: &[&[Conv(192, 1, 1)], &[Conv(192, 1, 1), Conv(224, 1, 3), Conv(256, 3, 1)]],
    },
];

fn build(settings: &Settings) -> Result<Graph, NetworkError> {
    let (mut net, images) = GraphBuilder::new(settings.input());
    let mut x = branch(&mut net, images, STEM)?;
    for Stage { name, mixed, residual, count, scale, branches: parts } in STAGES {
        x = branches(&mut net, name, x, mixed)?;
        for number in 1..=count {
            let block = format!("{residual}_{number}");
            let y = branches(&mut net, format!("{block}_mixed"), x, parts)?;
            let widen = Conv2d::new(x.channels(), [1, 1]).with_bias();
            let y = net.conv2d(format!("{block}_conv"), y, widen)?;
            let sum = net.numbered("custom_scale_layer");
            // The last block's branches are added whole, and no ReLU follows.
            x = if block == "block8_10" {
                net.scaled_add(sum, [x, y], 1.0)?
            } else {
                let sum = net.scaled_add(sum, [x, y], scale)?;
                net.relu(format!("{block}_ac"), sum)?
            };
        }
    }
    x = net.conv2d("conv_7b", x, Conv2d::new(1536, [1, 1]))?;
    x = net.batch_norm("conv_7b_bn", x, BatchNorm::new().scale(false))?;
    x = net.relu("conv_7b_ac", x)?;
    pooled_top(net, x, settings, "avg_pool")
}

fn published(settings: &Settings) -> Option<Published> {
    let md5s = ["e693bd0210a403b3192acc6073ad2e96", "d19885ff4a710c122648d3b5c3b684e4"];
    Published::usual(settings, "inception_resnet_v2/", "inception_resnet_v2", md5s)
}
