//! ConvNeXt (Liu et al. 2022), as in Keras's `keras/src/applications/convnext.py`, with its layer names.

use super::typed::typed_network;
use super::{Accuracy, Family, Published, Settings};
use crate::ops::{Conv2d, Dense, LayerNorm, LayerScale, Normalization, Statistics};
use crate::{Activation, Graph, GraphBuilder, NetworkError, Value};

/// Keras's source.
pub(super) const SOURCE: &str = "keras/src/applications/convnext.py";

/// ConvNeXt-T.
pub static TINY: Family = family(
    ["convnext-tiny", "ConvNeXtTiny"],
    81.3,
    |settings| {
        let sha256s = [
            "8ae6e78ce2933352b1ef4008e6dd2f17bc40771563877d156bc6426c7cf503ff",
            "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
        ];
        published(settings, "convnext_tiny", sha256s)
    },
    |settings| build(settings, "convnext_tiny", [[96, 3], [192, 3], [384, 9], [768, 3]]),
);

/// ConvNeXt-S.
pub static SMALL: Family = family(
    ["convnext-small", "ConvNeXtSmall"],
    82.3,
    |settings| {
        let sha256s = [
            "ce1277d8f1ee5a0ef0e171469089c18f5233860ceaf9b168049cb9263fd7483c",
            "6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab",
        ];
        published(settings, "convnext_small", sha256s)
    },
    |settings| build(settings, "convnext_small", [[96, 3], [192, 3], [384, 27], [768, 3]]),
);

/// ConvNeXt-B.
pub static BASE: Family = family(
    ["convnext-base", "ConvNeXtBase"],
    85.3,
    |settings| {
        let sha256s = [
            "52cbb006d3dadd03f6e095a8ca1aca47aecdd75acb4bc74bce1f5c695d0086e6",
            "40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45",
        ];
        published(settings, "convnext_base", sha256s)
    },
    |settings| build(settings, "convnext_base", [[128, 3], [256, 3], [512, 27], [1024, 3]]),
);

/// ConvNeXt-L.
pub static LARGE: Family = family(
    ["convnext-large", "ConvNeXtLarge"],
    86.3,
    |settings| {
        let sha256s = [
            "070c5ed9ed289581e477741d3b34beffa920db8cf590899d6d2c67fba2a198a6",
            "96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd",
        ];
        published(settings, "convnext_large", sha256s)
    },
    |settings| build(settings, "convnext_large", [[192, 3], [384, 3], [768, 27], [1536, 3]]),
);

/// ConvNeXt-XL.
pub static XLARGE: Family = family(
    ["convnext-xlarge", "ConvNeXtXLarge"],
    86.7,
    |settings| {
        let sha256s = [
            "c1f5ccab661354fc3a79a10fa99af82f0fbf10ec65cb894a3ae0815f17a889ee",
            "de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05",
        ];
        published(settings, "convnext_xlarge", sha256s)
    },
    |settings| build(settings, "convnext_xlarge", [[256, 3], [512, 3], [1024, 27], [2048, 3]]),
);

typed_network!(
    /// ConvNeXt-T (Liu et al. 2022), a Burn module.
    ConvNextTiny, ConvNextTinyConfig, TINY
);

typed_network!(
    /// ConvNeXt-S (Liu et al. 2022), a Burn module.
    ConvNextSmall, ConvNextSmallConfig, SMALL
);

typed_network!(
    /// ConvNeXt-B (Liu et al. 2022), a Burn module.
    ConvNextBase, ConvNextBaseConfig, BASE
);

typed_network!(
    /// ConvNeXt-L (Liu et al. 2022), a Burn module.
    ConvNextLarge, ConvNextLargeConfig, LARGE
);

typed_network!(
    /// ConvNeXt-XL (Liu et al. 2022), a Burn module.
    ConvNextXLarge, ConvNextXLargeConfig, XLARGE
);

/// What all have in common.
const fn family(
    [name, title]: [&'static str; 2],
    top_1: f64,
    published: fn(&Settings) -> Option<Published>,
    build: fn(&Settings) -> Result<Graph, NetworkError>,
) -> Family {
    Family {
        name,
        title,
        paper: "https://arxiv.org/abs/2201.03545",
        source: SOURCE,
        default_size: 224,
        least_size: 32,
        alphas: &[],
        minimalistic: false,
        preprocessing: "none",
        depth: None,
        accuracy: Some(Accuracy { top_1, top_5: None }),
        published,
        build,
    }
}

/// Keras's `Sequential` that a layer is in: stem and downsampling are one each.
pub(super) fn model_of(layer: &str) -> Option<String> {
    if let Some((network, "conv" | "layernorm")) = layer.split_once("_stem_") {
        return Some(format!("{network}_stem"));
    }
    let (network, rest) = layer.split_once("_downsampling_")?;
    let (_, number) = rest.rsplit_once('_')?;
    Some(format!("{network}_downsampling_block_{number}"))
}

/// `stages` are `[channels, blocks]` (section 3 of the paper).
fn build(
    settings: &Settings,
    network: &str,
    stages: [[usize; 2]; 4],
) -> Result<Graph, NetworkError> {
    let (mut net, mut x) = GraphBuilder::new(settings.input());
    if settings.channels == 3 {
        x = net.layer(format!("{network}_prestem_normalization"), imagenet(), &[x])?;
    }
    for (stage, [channels, blocks]) in stages.into_iter().enumerate() {
        x = match stage.checked_sub(1) {
            None => {
                let patches = Conv2d::new(channels, [4, 4]).strides(4).valid().with_bias();
                let x = net.conv2d(format!("{network}_stem_conv"), x, patches)?;
                net.layer_norm(format!("{network}_stem_layernorm"), x, norm())?
            }
            Some(number) => {
                let halve = Conv2d::new(channels, [2, 2]).strides(2).valid().with_bias();
                let name = |layer: &str| format!("{network}_downsampling_{layer}_{number}");
                let x = net.layer_norm(name("layernorm"), x, norm())?;
                net.conv2d(name("conv"), x, halve)?
            }
        };
        for number in 0..blocks {
            x = block(&mut net, &format!("{network}_stage_{stage}_block_{number}"), x)?;
        }
    }

    if let Some(classes) = settings.classes {
        net.mark_base(x, None);
        x = net.global_average_pool(format!("{network}_head_gap"), x)?;
        x = net.layer_norm(format!("{network}_head_layernorm"), x, norm())?;
        let classifier = Dense::new(classes, Activation::Softmax);
        x = net.dense(format!("{network}_head_dense"), x, classifier)?;
    } else {
        // Keras normalizes each pixel where there is no top, and the means where there is.
        let last = net.numbered("layer_normalization");
        x = net.layer_norm(last, x, norm())?;
        net.mark_base(x, None);
    }
    net.finish(x)
}

/// Keras's `ConvNeXtBlock`: a depthwise convolution, two layers of single pixels, and a share of them added.
fn block(net: &mut GraphBuilder, block: &str, input: Value) -> Result<Value, NetworkError> {
    let name = |layer: &str| format!("{block}_{layer}");
    let channels = input.channels();
    let mut depthwise = Conv2d::new(channels, [7, 7]).with_bias();
    depthwise.groups = channels;
    let x = net.conv2d(name("depthwise_conv"), input, depthwise)?;
    let x = net.layer_norm(name("layernorm"), x, norm())?;
    let wide = Dense::new(4 * channels, Activation::Linear);
    let x = net.dense(name("pointwise_conv_1"), x, wide)?;
    let x = net.activation(name("gelu"), x, Activation::Gelu)?;
    let x = net.dense(name("pointwise_conv_2"), x, Dense::new(channels, Activation::Linear))?;
    let x = net.layer(name("layer_scale"), LayerScale { initial: 1e-6, channels }, &[x])?;
    let x = net.activation(name("identity"), x, Activation::Linear)?;
    let sum = net.numbered("add");
    net.add(sum, &[input, x])
}

fn norm() -> LayerNorm {
    LayerNorm::new().epsilon(1e-6)
}

/// ImageNet's mean and variance, of bytes.
fn imagenet() -> Normalization {
    let mean = [0.485, 0.456, 0.406].map(|mean| mean * 255.0).to_vec();
    let variance = [0.229, 0.224, 0.225].map(|deviation: f64| (deviation * 255.0).powi(2)).to_vec();
    Normalization { given: Some(Statistics { mean, variance }), ..Normalization::new() }
}

fn published(settings: &Settings, network: &str, sha256s: [&'static str; 2]) -> Option<Published> {
    let file = format!("{network}{}.h5", settings.by_top(["", "_notop"]));
    Some(Published::new("convnext/", file, Some(settings.by_top(sha256s))))
}
