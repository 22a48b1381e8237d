//! Inception V1, GoogLeNet (Szegedy et al. 2014), as TF-Slim has it: with batch normalization, in
//! `research/slim/nets/inception_v1.py` of the repository `tensorflow/models`. Keras has none.

use super::slim::{MAX, Step, branch, convolutional_top, mixed};
use super::typed::typed_network;
use super::{Accuracy, Family, Settings};
use crate::ops::{Padding, PoolKind};
use crate::{Graph, GraphBuilder, NetworkError};

/// Inception V1.
pub static FAMILY: Family = Family {
    name: "inception-v1",
    title: "InceptionV1",
    paper: "https://arxiv.org/abs/1409.4842",
    source: "tensorflow/models/research/slim/nets/inception_v1.py",
    default_size: 224,
    least_size: 32,
    alphas: &[],
    minimalistic: false,
    preprocessing: "tf",
    depth: None,
    accuracy: Accuracy::new(69.8, 89.6),
    published: |_| None,
    build,
};

typed_network!(
    /// Inception V1 (Szegedy et al. 2014), a Burn module.
    InceptionV1, InceptionV1Config, FAMILY
);

const STEM: &[Step] = &[
    Step::Strided("1a", 64, [7, 7], 2, Padding::Same),
    Step::Pool("2a", PoolKind::Max, 3, 2, Padding::Same),
    Step::Conv("2b", 64, [1, 1]),
    Step::Conv("2c", 192, [3, 3]),
    Step::Pool("3a", PoolKind::Max, 3, 2, Padding::Same),
];

/// The filters of each block: 1x1; 1x1 and 3x3; 1x1 and another 3x3 (5x5 in the paper); 1x1 behind the pool. A pool comes
/// before the first block of a number.
const BLOCKS: [(&str, [usize; 6]); 9] = [
    ("3b", [64, 96, 128, 16, 32, 32]),
    ("3c", [128, 128, 192, 32, 96, 64]),
    ("4b", [192, 96, 208, 16, 48, 64]),
    ("4c", [160, 112, 224, 24, 64, 64]),
    ("4d", [128, 128, 256, 24, 64, 64]),
    ("4e", [112, 144, 288, 32, 64, 64]),
    ("4f", [256, 160, 320, 32, 128, 128]),
    ("5b", [256, 160, 320, 32, 128, 128]),
    ("5c", [384, 192, 384, 48, 128, 128]),
];

fn build(settings: &Settings) -> Result<Graph, NetworkError> {
    let (mut net, images) = GraphBuilder::new(settings.input());
    let mut x = branch(&mut net, "", images, STEM)?;
    for (block, [a, b, c, d, e, f]) in BLOCKS {
        x = match block {
            "4b" => {
                branch(&mut net, "", x, &[Step::Pool("4a", PoolKind::Max, 3, 2, Padding::Same)])?
            }
            "5b" => {
                branch(&mut net, "", x, &[Step::Pool("5a", PoolKind::Max, 2, 2, Padding::Same)])?
            }
            _ => x,
        };
        // A slip of TF-Slim's that its checkpoints have.
        let third = if block == "5b" { "0a" } else { "0b" };
        let branches: [&[Step]; 4] = [
            &[Step::Conv("0a", a, [1, 1])],
            &[Step::Conv("0a", b, [1, 1]), Step::Conv("0b", c, [3, 3])],
            &[Step::Conv("0a", d, [1, 1]), Step::Conv(third, e, [3, 3])],
            &[MAX, Step::Conv("0b", f, [1, 1])],
        ];
        x = mixed(&mut net, &format!("Mixed_{block}"), x, &branches)?;
    }
    net.mark_base(x, None);
    let x = convolutional_top(&mut net, settings, "0c", x)?;
    net.finish(x)
}
