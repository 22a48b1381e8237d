//! EfficientNetV2 (Tan and Le 2021), as in Keras's `keras/src/applications/efficientnet_v2.py`, with its layer names.

use super::efficientnet::{DROP_CONNECT, add, norm_swish, squeeze_excite, top};
use super::typed::typed_network;
use super::{Accuracy, Family, Published, Settings};
use crate::ops::{BatchNorm, Conv2d, DepthwiseConv2d, Normalization, Statistics};
use crate::{Graph, GraphBuilder, NetworkError};

/// EfficientNetV2B0.
pub static B0: Family = family::<0>("efficientnet-v2-b0", "EfficientNetV2B0", [78.7, 94.3]);
/// EfficientNetV2B1.
pub static B1: Family = family::<1>("efficientnet-v2-b1", "EfficientNetV2B1", [79.8, 95.0]);
/// EfficientNetV2B2.
pub static B2: Family = family::<2>("efficientnet-v2-b2", "EfficientNetV2B2", [80.5, 95.1]);
/// EfficientNetV2B3.
pub static B3: Family = family::<3>("efficientnet-v2-b3", "EfficientNetV2B3", [82.0, 95.8]);
/// EfficientNetV2S.
pub static S: Family = family::<4>("efficientnet-v2-s", "EfficientNetV2S", [83.9, 96.7]);
/// EfficientNetV2M.
pub static M: Family = family::<5>("efficientnet-v2-m", "EfficientNetV2M", [85.3, 97.4]);
/// EfficientNetV2L.
pub static L: Family = family::<6>("efficientnet-v2-l", "EfficientNetV2L", [85.7, 97.5]);

const fn family<const N: usize>(
    name: &'static str,
    title: &'static str,
    [top_1, top_5]: [f64; 2],
) -> Family {
    Family {
        name,
        title,
        paper: "https://arxiv.org/abs/2104.00298",
        source: "keras/src/applications/efficientnet_v2.py",
        default_size: VARIANTS[N].size,
        least_size: 32,
        alphas: &[],
        minimalistic: false,
        preprocessing: "none",
        depth: None,
        accuracy: Accuracy::new(top_1, top_5),
        published: |settings| published(N, settings),
        build: |settings| build(&VARIANTS[N], settings),
    }
}

typed_network!(
    /// EfficientNetV2B0 (Tan and Le 2021), a Burn module.
    EfficientNetV2B0, EfficientNetV2B0Config, B0
);
typed_network!(
    /// EfficientNetV2B1 (Tan and Le 2021), a Burn module.
    EfficientNetV2B1, EfficientNetV2B1Config, B1
);
typed_network!(
    /// EfficientNetV2B2 (Tan and Le 2021), a Burn module.
    EfficientNetV2B2, EfficientNetV2B2Config, B2
);
typed_network!(
    /// EfficientNetV2B3 (Tan and Le 2021), a Burn module.
    EfficientNetV2B3, EfficientNetV2B3Config, B3
);
typed_network!(
    /// EfficientNetV2S (Tan and Le 2021), a Burn module.
    EfficientNetV2S, EfficientNetV2SConfig, S
);
typed_network!(
    /// EfficientNetV2M (Tan and Le 2021), a Burn module.
    EfficientNetV2M, EfficientNetV2MConfig, M
);
typed_network!(
    /// EfficientNetV2L (Tan and Le 2021), a Burn module.
    EfficientNetV2L, EfficientNetV2LConfig, L
);

/// What the blocks of a stage are.
#[derive(Clone, Copy)]
enum Kind {
    /// A 3x3 convolution that expands, and a 1x1 projection.
    Fused,
    /// As in the first EfficientNet: a 1x1 expansion, a 3x3 depthwise convolution, squeeze-and-excite, a 1x1 projection.
    Mobile,
}
use Kind::{Fused, Mobile};

/// The kind of its blocks, and `[repeats, filters, expansion, stride]`.
type Stage = (Kind, [usize; 4]);

/// The stages of B0, which are scaled to B1, B2 and B3.
const BASE: &[Stage] = &[
    (Fused, [1, 16, 1, 1]),
    (Fused, [2, 32, 4, 2]),
    (Fused, [2, 48, 4, 2]),
    (Mobile, [3, 96, 4, 2]),
    (Mobile, [5, 112, 6, 1]),
    (Mobile, [8, 192, 6, 2]),
];

/// The stages of S (table 4 of the paper).
const SMALL: &[Stage] = &[
    (Fused, [2, 24, 1, 1]),
    (Fused, [4, 48, 4, 2]),
    (Fused, [4, 64, 4, 2]),
    (Mobile, [6, 128, 4, 2]),
    (Mobile, [9, 160, 6, 1]),
    (Mobile, [15, 256, 6, 2]),
];

/// The stages of M.
const MEDIUM: &[Stage] = &[
    (Fused, [3, 24, 1, 1]),
    (Fused, [5, 48, 4, 2]),
    (Fused, [5, 80, 4, 2]),
    (Mobile, [7, 160, 4, 2]),
    (Mobile, [14, 176, 6, 1]),
    (Mobile, [18, 304, 6, 2]),
    (Mobile, [5, 512, 6, 1]),
];

/// The stages of L.
const LARGE: &[Stage] = &[
    (Fused, [4, 32, 1, 1]),
    (Fused, [7, 64, 4, 2]),
    (Fused, [7, 96, 4, 2]),
    (Mobile, [10, 192, 4, 2]),
    (Mobile, [19, 224, 6, 1]),
    (Mobile, [25, 384, 6, 2]),
    (Mobile, [7, 640, 6, 1]),
];

struct Variant {
    /// In the file's name.
    name: &'static str,
    /// Height and width of the images.
    size: usize,
    /// What filters are multiplied with.
    width: f64,
    /// What repeats are multiplied with.
    depth: f64,
    /// Filters of the first convolution.
    stem: usize,
    stages: &'static [Stage],
    /// Whether pixels are normalized with ImageNet's statistics, and not to -1 to 1.
    normalizes: bool,
}

const B: Variant = Variant {
    name: "b0",
    size: 224,
    width: 1.0,
    depth: 1.0,
    stem: 32,
    stages: BASE,
    normalizes: true,
};

const VARIANTS: [Variant; 7] = [
    B,
    Variant { name: "b1", size: 240, depth: 1.1, ..B },
    Variant { name: "b2", size: 260, width: 1.1, depth: 1.2, ..B },
    Variant { name: "b3", size: 300, width: 1.2, depth: 1.4, ..B },
    Variant { name: "s", size: 384, stem: 24, stages: SMALL, normalizes: false, ..B },
    Variant { name: "m", size: 480, stem: 24, stages: MEDIUM, normalizes: false, ..B },
    Variant { name: "l", size: 480, stem: 32, stages: LARGE, normalizes: false, ..B },
];

const NORM: BatchNorm = BatchNorm::new().momentum(0.9);

fn build(variant: &Variant, settings: &Settings) -> Result<Graph, NetworkError> {
    // To the nearest multiple of 8, other than in the first EfficientNet also where that is less than 90 %.
    let scaled = |filters: usize| ((filters as f64 * variant.width + 4.0) as usize / 8 * 8).max(8);
    // Keras counts the blocks before it repeats them more often: the last ones skip more than the rate says.
    let blocks: usize = variant.stages.iter().map(|(_, [repeats, ..])| repeats).sum();
    let (mut net, images) = GraphBuilder::new(settings.input());

    let mut x = images;
    if variant.normalizes && settings.channels == 3 {
        x = net.rescaling("rescaling", x, 1.0 / 255.0, 0.0)?;
        let (mean, deviation) = (vec![0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
        let variance = deviation.map(|deviation: f64| deviation.powi(2)).to_vec();
        let given = Some(Statistics { mean, variance });
        x = net.layer("normalization", Normalization { given, ..Normalization::new() }, &[x])?;
    } else {
        x = net.rescaling("rescaling", x, 1.0 / 128.0, -1.0)?;
    }
    x = net.conv2d("stem_conv", x, Conv2d::new(scaled(variant.stem), [3, 3]).strides(2))?;
    x = norm_swish(&mut net, "stem_", x, NORM)?;

    let mut block = 0;
    for (index, &(kind, [repeats, filters, expansion, stride])) in variant.stages.iter().enumerate()
    {
        let repeats = (repeats as f64 * variant.depth).ceil() as usize;
        let filters = scaled(filters);
        for letter in ('a'..).take(repeats) {
            let prefix = format!("block{}{letter}_", index + 1);
            let name = |layer: &str| format!("{prefix}{layer}");
            let stride = if letter == 'a' { stride } else { 1 };
            let input = x;
            let hidden = expansion * input.channels();
            match kind {
                // One convolution does both.
                Fused if expansion == 1 => {
                    let conv = Conv2d::new(filters, [3, 3]).strides(stride);
                    x = net.conv2d(name("project_conv"), x, conv)?;
                    x = norm_swish(&mut net, &name("project_"), x, NORM)?;
                }
                Fused => {
                    let conv = Conv2d::new(hidden, [3, 3]).strides(stride);
                    x = net.conv2d(name("expand_conv"), x, conv)?;
                    x = norm_swish(&mut net, &name("expand_"), x, NORM)?;
                    x = net.conv2d(name("project_conv"), x, Conv2d::new(filters, [1, 1]))?;
                    x = net.batch_norm(name("project_bn"), x, NORM)?;
                }
                Mobile => {
                    x = net.conv2d(name("expand_conv"), x, Conv2d::new(hidden, [1, 1]))?;
                    x = norm_swish(&mut net, &name("expand_"), x, NORM)?;
                    let depthwise = DepthwiseConv2d::new([3, 3]).strides(stride);
                    x = net.depthwise_conv2d(name("dwconv2"), x, depthwise)?;
                    x = norm_swish(&mut net, &prefix, x, NORM)?;
                    x = squeeze_excite(&mut net, &prefix, x, input.channels() / 4)?;
                    x = net.conv2d(name("project_conv"), x, Conv2d::new(filters, [1, 1]))?;
                    x = net.batch_norm(name("project_bn"), x, NORM)?;
                }
            }
            if stride == 1 && input.channels() == filters {
                let rate = DROP_CONNECT * block as f64 / blocks as f64;
                x = add(&mut net, &prefix, input, x, rate)?;
            }
            block += 1;
        }
    }

    x = net.conv2d("top_conv", x, Conv2d::new(scaled(1280), [1, 1]))?;
    x = norm_swish(&mut net, "top_", x, NORM)?;
    top(net, x, settings, 0.2)
}

/// MD5 of the files with top and without.
const HASHES: [[&str; 2]; 7] = [
    ["21ecbf6da12460d5c40bb2f29ceb2188", "893217f2bb855e2983157299931e43ff"],
    ["069f0534ff22adf035c89e2d9547a9dc", "0e80663031ca32d657f9caa404b6ec37"],
    ["424e49f28180edbde1e94797771950a7", "1dfe2e7a5d45b6632553a8961ea609eb"],
    ["1f1fc43bd98a6e4fd8fdfd551e02c7a0", "f6abf7b5849ac99a89b50dd3fd532856"],
    ["e1d88a8495beba45748fedd0cecbe016", "af0682fb74e8c54910f2d4393339c070"],
    ["a3bf6aa3276309f4fc6a34aa114c95cd", "1b8dc055df72dde80d614482840fe342"],
    ["27e6d408b53c7ebc868fefa357689935", "b0b66b5c863aef5b46e8608fe1711615"],
];

fn published(number: usize, settings: &Settings) -> Option<Published> {
    let ending = settings.by_top(["", "_notop"]);
    let file = format!("efficientnetv2-{}{ending}.h5", VARIANTS[number].name);
    Some(Published::new("efficientnet_v2/", file, Some(settings.by_top(HASHES[number]))))
}
