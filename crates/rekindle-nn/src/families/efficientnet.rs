//! EfficientNet (Tan and Le 2019), as in Keras's `keras/src/applications/efficientnet.py`, with its layer names and, as
//! with ImageNet's weights, its second `Rescaling`.

use super::mobilenet_v2::make_divisible;
use super::typed::typed_network;
use super::{Accuracy, Family, Published, Settings};
use crate::ops::{
    BatchNorm, Conv2d, Dense, DepthwiseConv2d, GlobalPool, Normalization, Rescaling, Reshape,
    SharedDropout,
};
use crate::{Activation, Graph, GraphBuilder, NetworkError, Value};

/// EfficientNetB0.
pub static B0: Family = family::<0>("efficientnet-b0", "EfficientNetB0", 132, [77.1, 93.3]);
/// EfficientNetB1.
pub static B1: Family = family::<1>("efficientnet-b1", "EfficientNetB1", 186, [79.1, 94.4]);
/// EfficientNetB2.
pub static B2: Family = family::<2>("efficientnet-b2", "EfficientNetB2", 186, [80.1, 94.9]);
/// EfficientNetB3.
pub static B3: Family = family::<3>("efficientnet-b3", "EfficientNetB3", 210, [81.6, 95.7]);
/// EfficientNetB4.
pub static B4: Family = family::<4>("efficientnet-b4", "EfficientNetB4", 258, [82.9, 96.4]);
/// EfficientNetB5.
pub static B5: Family = family::<5>("efficientnet-b5", "EfficientNetB5", 312, [83.6, 96.7]);
/// EfficientNetB6.
pub static B6: Family = family::<6>("efficientnet-b6", "EfficientNetB6", 360, [84.0, 96.8]);
/// EfficientNetB7.
pub static B7: Family = family::<7>("efficientnet-b7", "EfficientNetB7", 438, [84.3, 97.0]);

const fn family<const N: usize>(
    name: &'static str,
    title: &'static str,
    depth: usize,
    [top_1, top_5]: [f64; 2],
) -> Family {
    Family {
        name,
        title,
        paper: "https://arxiv.org/abs/1905.11946",
        source: "keras/src/applications/efficientnet.py",
        default_size: SCALES[N].size,
        least_size: 32,
        alphas: &[],
        minimalistic: false,
        preprocessing: "none",
        depth: Some(depth),
        accuracy: Accuracy::new(top_1, top_5),
        published: |settings| published(N, settings),
        build: |settings| build(&SCALES[N], settings),
    }
}

typed_network!(
    /// EfficientNetB0 (Tan and Le 2019), a Burn module.
    EfficientNetB0, EfficientNetB0Config, B0
);
typed_network!(
    /// EfficientNetB1 (Tan and Le 2019), a Burn module.
    EfficientNetB1, EfficientNetB1Config, B1
);
typed_network!(
    /// EfficientNetB2 (Tan and Le 2019), a Burn module.
    EfficientNetB2, EfficientNetB2Config, B2
);
typed_network!(
    /// EfficientNetB3 (Tan and Le 2019), a Burn module.
    EfficientNetB3, EfficientNetB3Config, B3
);
typed_network!(
    /// EfficientNetB4 (Tan and Le 2019), a Burn module.
    EfficientNetB4, EfficientNetB4Config, B4
);
typed_network!(
    /// EfficientNetB5 (Tan and Le 2019), a Burn module.
    EfficientNetB5, EfficientNetB5Config, B5
);
typed_network!(
    /// EfficientNetB6 (Tan and Le 2019), a Burn module.
    EfficientNetB6, EfficientNetB6Config, B6
);
typed_network!(
    /// EfficientNetB7 (Tan and Le 2019), a Burn module.
    EfficientNetB7, EfficientNetB7Config, B7
);

/// What filters and repeats are multiplied with, the images' size, and the dropout of the top.
struct Scale {
    width: f64,
    depth: f64,
    size: usize,
    dropout: f64,
}

const SCALES: [Scale; 8] = [
    Scale { width: 1.0, depth: 1.0, size: 224, dropout: 0.2 },
    Scale { width: 1.0, depth: 1.1, size: 240, dropout: 0.2 },
    Scale { width: 1.1, depth: 1.2, size: 260, dropout: 0.3 },
    Scale { width: 1.2, depth: 1.4, size: 300, dropout: 0.3 },
    Scale { width: 1.4, depth: 1.8, size: 380, dropout: 0.4 },
    Scale { width: 1.6, depth: 2.2, size: 456, dropout: 0.4 },
    Scale { width: 1.8, depth: 2.6, size: 528, dropout: 0.5 },
    Scale { width: 2.0, depth: 3.1, size: 600, dropout: 0.5 },
];

/// `[kernel, repeats, filters, expansion, stride]` of each stage of B0 (table 1 of the paper).
const STAGES: [[usize; 5]; 7] = [
    [3, 1, 16, 1, 1],
    [3, 2, 24, 6, 2],
    [5, 2, 40, 6, 2],
    [3, 3, 80, 6, 2],
    [5, 3, 112, 6, 1],
    [5, 4, 192, 6, 2],
    [3, 1, 320, 6, 1],
];

/// The share of samples that skip the last block while training; blocks before it have less of it.
pub(super) const DROP_CONNECT: f64 = 0.2;

const NORM: BatchNorm = BatchNorm::new();

fn build(scale: &Scale, settings: &Settings) -> Result<Graph, NetworkError> {
    let scaled = |filters: usize| make_divisible(filters as f64 * scale.width);
    let stages = STAGES.map(|[kernel, repeats, filters, expansion, stride]| {
        let repeats = (repeats as f64 * scale.depth).ceil() as usize;
        [kernel, repeats, scaled(filters), expansion, stride]
    });
    let blocks: usize = stages.iter().map(|[_, repeats, ..]| repeats).sum();
    let (mut net, images) = GraphBuilder::new(settings.input());

    let mut x = net.rescaling("rescaling", images, 1.0 / 255.0, 0.0)?;
    x = net.layer("normalization", Normalization::new(), &[x])?;
    if settings.channels == 3 {
        // The weights are of images that were divided by ImageNet's variances, not by their roots.
        let scale = [0.229_f64, 0.224, 0.225].map(|deviation| 1.0 / deviation.sqrt()).to_vec();
        x = net.layer("rescaling_1", Rescaling { scale, offset: vec![0.0] }, &[x])?;
    }
    x = net.correct_pad("stem_conv_pad", x, 3)?;
    x = net.conv2d("stem_conv", x, Conv2d::new(scaled(32), [3, 3]).strides(2).valid())?;
    x = norm_swish(&mut net, "stem_", x, NORM)?;

    let mut block = 0;
    for (stage, [kernel, repeats, filters, expansion, stride]) in stages.into_iter().enumerate() {
        for letter in ('a'..).take(repeats) {
            let prefix = format!("block{}{letter}_", stage + 1);
            let name = |layer: &str| format!("{prefix}{layer}");
            let stride = if letter == 'a' { stride } else { 1 };
            let input = x;
            if expansion > 1 {
                let hidden = expansion * input.channels();
                x = net.conv2d(name("expand_conv"), x, Conv2d::new(hidden, [1, 1]))?;
                x = norm_swish(&mut net, &name("expand_"), x, NORM)?;
            }
            let mut depthwise = DepthwiseConv2d::new([kernel, kernel]).strides(stride);
            if stride == 2 {
                x = net.correct_pad(name("dwconv_pad"), x, kernel)?;
                depthwise = depthwise.valid();
            }
            x = net.depthwise_conv2d(name("dwconv"), x, depthwise)?;
            x = norm_swish(&mut net, &prefix, x, NORM)?;
            x = squeeze_excite(&mut net, &prefix, x, input.channels() / 4)?;
            x = net.conv2d(name("project_conv"), x, Conv2d::new(filters, [1, 1]))?;
            x = net.batch_norm(name("project_bn"), x, NORM)?;
            if stride == 1 && input.channels() == filters {
                let rate = DROP_CONNECT * block as f64 / blocks as f64;
                x = add(&mut net, &prefix, input, x, rate)?;
            }
            block += 1;
        }
    }

    x = net.conv2d("top_conv", x, Conv2d::new(scaled(1280), [1, 1]))?;
    x = norm_swish(&mut net, "top_", x, NORM)?;
    top(net, x, settings, scale.dropout)
}

/// The normalization and the swish behind a convolution.
pub(super) fn norm_swish(
    net: &mut GraphBuilder,
    prefix: &str,
    x: Value,
    norm: BatchNorm,
) -> Result<Value, NetworkError> {
    let x = net.batch_norm(format!("{prefix}bn"), x, norm)?;
    net.activation(format!("{prefix}activation"), x, Activation::Silu)
}

/// Weighs channels by what all of the maps say: pool, a 1x1 convolution to fewer channels, and one back.
pub(super) fn squeeze_excite(
    net: &mut GraphBuilder,
    prefix: &str,
    x: Value,
    squeezed: usize,
) -> Result<Value, NetworkError> {
    let name = |layer: &str| format!("{prefix}se_{layer}");
    let channels = x.channels();
    let reduce = Conv2d::new(squeezed, [1, 1]).with_bias().activation(Activation::Silu);
    let expand = Conv2d::new(channels, [1, 1]).with_bias().activation(Activation::Sigmoid);
    let y = net.layer(name("squeeze"), GlobalPool::average(), &[x])?;
    let y = net.layer(name("reshape"), Reshape { target: vec![1, 1, channels as i64] }, &[y])?;
    let y = net.conv2d(name("reduce"), y, reduce)?;
    let y = net.conv2d(name("expand"), y, expand)?;
    net.multiply(name("excite"), &[x, y])
}

/// A block's answer, of some samples at random while training, and its input.
pub(super) fn add(
    net: &mut GraphBuilder,
    prefix: &str,
    input: Value,
    mut x: Value,
    rate: f64,
) -> Result<Value, NetworkError> {
    if rate > 0.0 {
        x = net.layer(format!("{prefix}drop"), SharedDropout::of_samples(rate), &[x])?;
    }
    net.add(format!("{prefix}add"), &[x, input])
}

/// The end of the base and, where there is one, the top.
pub(super) fn top(
    mut net: GraphBuilder,
    mut x: Value,
    settings: &Settings,
    dropout: f64,
) -> Result<Graph, NetworkError> {
    net.mark_base(x, None);
    if let Some(classes) = settings.classes {
        x = net.global_average_pool("avg_pool", x)?;
        x = net.dropout("top_dropout", x, dropout)?;
        x = net.dense("predictions", x, Dense::new(classes, Activation::Softmax))?;
    }
    net.finish(x)
}

/// MD5 of the files with top and without.
const HASHES: [[&str; 2]; 8] = [
    ["902e53a9f72be733fc0bcb005b3ebbac", "50bc09e76180e00e4465e1a485ddc09d"],
    ["1d254153d4ab51201f1646940f018540", "74c4e6b3e1f6a1eea24c589628592432"],
    ["b15cce36ff4dcbd00b6dd88e7857a6ad", "111f8e2ac8aa800a7a99e3239f7bfb39"],
    ["ffd1fdc53d0ce67064dc6a9c7960ede0", "af6d107764bb5b1abb91932881670226"],
    ["18c95ad55216b8f92d7e70b3a046e2fc", "ebc24e6d6c33eaebbd558eafbeedf1ba"],
    ["ace28f2a6363774853a83a0b21b9421a", "38879255a25d3c92d5e44e04ae6cec6f"],
    ["165f6e37dce68623721b423839de8be5", "9ecce42647a20130c1f39a5d4cb75743"],
    ["8c03f828fec3ef71311cd463b6759d99", "cbcfe4450ddf6f3ad90b1b398090fe4a"],
];

fn published(number: usize, settings: &Settings) -> Option<Published> {
    let file = format!("efficientnetb{number}{}.h5", settings.by_top(["", "_notop"]));
    Some(Published::new("", file, Some(settings.by_top(HASHES[number]))))
}
