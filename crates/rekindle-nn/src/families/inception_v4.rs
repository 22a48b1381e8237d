//! Inception V4 (Szegedy et al. 2016), as TF-Slim has it, in `research/slim/nets/inception_v4.py` of the repository
//! `tensorflow/models`, without its auxiliary logits. Keras has none.

use super::slim::{AVG, Step, branch, mixed};
use super::typed::typed_network;
use super::{Accuracy, Family, Settings};
use crate::ops::{Dense, Padding, PoolKind};
use crate::{Activation, Graph, GraphBuilder, NetworkError};

/// Inception V4.
pub static FAMILY: Family = Family {
    name: "inception-v4",
    title: "InceptionV4",
    paper: "https://arxiv.org/abs/1602.07261",
    source: "tensorflow/models/research/slim/nets/inception_v4.py",
    default_size: 299,
    least_size: 75,
    alphas: &[],
    minimalistic: false,
    preprocessing: "tf",
    depth: None,
    accuracy: Accuracy::new(80.2, 95.2),
    published: |_| None,
    build,
};

typed_network!(
    /// Inception V4 (Szegedy et al. 2016), a Burn module.
    InceptionV4, InceptionV4Config, FAMILY
);

use Step::{Conv, Fork, Strided};

/// 3x3, stride 2, no padding.
const fn down(tag: &'static str, filters: usize) -> Step {
    Strided(tag, filters, [3, 3], 2, Padding::Valid)
}

/// 3x3 maximum, stride 2, no padding.
const fn max(tag: &'static str) -> Step {
    Step::Pool(tag, PoolKind::Max, 3, 2, Padding::Valid)
}

const STEM: &[Step] =
    &[down("1a", 32), Strided("2a", 32, [3, 3], 1, Padding::Valid), Conv("2b", 64, [3, 3])];

/// 35 x 35 maps.
const A: &[&[Step]] = &[
    &[Conv("0a", 96, [1, 1])],
    &[Conv("0a", 64, [1, 1]), Conv("0b", 96, [3, 3])],
    &[Conv("0a", 64, [1, 1]), Conv("0b", 96, [3, 3]), Conv("0c", 96, [3, 3])],
    &[AVG, Conv("0b", 96, [1, 1])],
];

/// 17 x 17 maps.
const B: &[&[Step]] = &[
    &[Conv("0a", 384, [1, 1])],
    &[Conv("0a", 192, [1, 1]), Conv("0b", 224, [1, 7]), Conv("0c", 256, [7, 1])],
    &[
        Conv("0a", 192, [1, 1]),
        Conv("0b", 192, [7, 1]),
        Conv("0c", 224, [1, 7]),
        Conv("0d", 224, [7, 1]),
        Conv("0e", 256, [1, 7]),
    ],
    &[AVG, Conv("0b", 128, [1, 1])],
];

/// 8 x 8 maps.
const C: &[&[Step]] = &[
    &[Conv("0a", 256, [1, 1])],
    &[Conv("0a", 384, [1, 1]), Fork([("0b", 256, [1, 3]), ("0c", 256, [3, 1])])],
    &[
        Conv("0a", 384, [1, 1]),
        Conv("0b", 448, [3, 1]),
        Conv("0c", 512, [1, 3]),
        Fork([("0d", 256, [1, 3]), ("0e", 256, [3, 1])]),
    ],
    &[AVG, Conv("0b", 256, [1, 1])],
];

/// The name of each block and its branches, which are concatenated.
const BLOCKS: [(&str, &[&[Step]]); 19] = [
    ("Mixed_3a", &[&[max("0a")], &[down("0a", 96)]]),
    (
        "Mixed_4a",
        &[
            &[Conv("0a", 64, [1, 1]), Strided("1a", 96, [3, 3], 1, Padding::Valid)],
            &[
                Conv("0a", 64, [1, 1]),
                Conv("0b", 64, [1, 7]),
                Conv("0c", 64, [7, 1]),
                Strided("1a", 96, [3, 3], 1, Padding::Valid),
            ],
        ],
    ),
    ("Mixed_5a", &[&[down("1a", 192)], &[max("1a")]]),
    ("Mixed_5b", A),
    ("Mixed_5c", A),
    ("Mixed_5d", A),
    ("Mixed_5e", A),
    (
        "Mixed_6a",
        &[
            &[down("1a", 384)],
            &[Conv("0a", 192, [1, 1]), Conv("0b", 224, [3, 3]), down("1a", 256)],
            &[max("1a")],
        ],
    ),
    ("Mixed_6b", B),
    ("Mixed_6c", B),
    ("Mixed_6d", B),
    ("Mixed_6e", B),
    ("Mixed_6f", B),
    ("Mixed_6g", B),
    ("Mixed_6h", B),
    (
        "Mixed_7a",
        &[
            &[Conv("0a", 192, [1, 1]), down("1a", 192)],
            &[
                Conv("0a", 256, [1, 1]),
                Conv("0b", 256, [1, 7]),
                Conv("0c", 320, [7, 1]),
                down("1a", 320),
            ],
            &[max("1a")],
        ],
    ),
    ("Mixed_7b", C),
    ("Mixed_7c", C),
    ("Mixed_7d", C),
];

fn build(settings: &Settings) -> Result<Graph, NetworkError> {
    let (mut net, images) = GraphBuilder::new(settings.input());
    let mut x = branch(&mut net, "", images, STEM)?;
    for (name, branches) in BLOCKS {
        x = mixed(&mut net, name, x, branches)?;
    }
    net.mark_base(x, None);
    if let Some(classes) = settings.classes {
        x = net.global_average_pool("Logits/AvgPool_1a", x)?;
        x = net.dropout("Logits/Dropout_1b", x, 0.2)?;
        x = net.dense("Logits/Logits", x, Dense::new(classes, Activation::Softmax))?;
    }
    net.finish(x)
}
