//! MobileNetV2 and V3.

use super::super::adapt::Otherwise;
use super::{Dialect, TIMM, TIMM_TF, TORCHVISION, minimal, wide};

pub(super) const V2: Dialect = Dialect {
    models: &[
        wide(&["mobilenetv2_035"], "mobilenet-v2", 0.35),
        wide(&["mobilenetv2_050"], "mobilenet-v2", 0.5),
        wide(&["mobilenetv2_075"], "mobilenet-v2", 0.75),
        wide(&["mobilenetv2_100"], "mobilenet-v2", 1.0),
        wide(&["mobilenetv2_140"], "mobilenet-v2", 1.4),
    ],
    rules: &[
        ("Conv1", "conv_stem"),
        ("bn_Conv1", "bn1"),
        ("expanded_conv_depthwise", "blocks.0.0.conv_dw"),
        ("expanded_conv_depthwise_BN", "blocks.0.0.bn1"),
        ("expanded_conv_project", "blocks.0.0.conv_pw"),
        ("expanded_conv_project_BN", "blocks.0.0.bn2"),
        ("block_{n}_expand", "blocks.{n/1,2,3,4,3,3,1}.conv_pw"),
        ("block_{n}_expand_BN", "blocks.{n/1,2,3,4,3,3,1}.bn1"),
        ("block_{n}_depthwise", "blocks.{n/1,2,3,4,3,3,1}.conv_dw"),
        ("block_{n}_depthwise_BN", "blocks.{n/1,2,3,4,3,3,1}.bn2"),
        ("block_{n}_project", "blocks.{n/1,2,3,4,3,3,1}.conv_pwl"),
        ("block_{n}_project_BN", "blocks.{n/1,2,3,4,3,3,1}.bn3"),
        ("Conv_1", "conv_head"),
        ("Conv_1_bn", "bn2"),
        ("predictions", "classifier"),
    ],
    ..TIMM
};

/// Keras's own arithmetic, which timm's network has when it is told so.
pub(super) const V2_TF: Dialect = Dialect {
    models: V2.models,
    rules: V2.rules,
    arguments: &[("pad_type", "same"), ("bn_eps", "0.001")],
    ..TIMM_TF
};

pub(super) const V2_TV: Dialect = Dialect {
    models: &[
        wide(&["mobilenet_v2"], "mobilenet-v2", 1.0),
        // By its argument `width_mult`.
        wide(&["mobilenet_v2"], "mobilenet-v2", 0.35),
        wide(&["mobilenet_v2"], "mobilenet-v2", 0.5),
        wide(&["mobilenet_v2"], "mobilenet-v2", 0.75),
        wide(&["mobilenet_v2"], "mobilenet-v2", 1.3),
        wide(&["mobilenet_v2"], "mobilenet-v2", 1.4),
    ],
    rules: &[
        ("Conv1", "features.0.0"),
        ("bn_Conv1", "features.0.1"),
        ("expanded_conv_depthwise", "features.1.conv.0.0"),
        ("expanded_conv_depthwise_BN", "features.1.conv.0.1"),
        ("expanded_conv_project", "features.1.conv.1"),
        ("expanded_conv_project_BN", "features.1.conv.2"),
        ("block_{n}_expand", "features.{n+1}.conv.0.0"),
        ("block_{n}_expand_BN", "features.{n+1}.conv.0.1"),
        ("block_{n}_depthwise", "features.{n+1}.conv.1.0"),
        ("block_{n}_depthwise_BN", "features.{n+1}.conv.1.1"),
        ("block_{n}_project", "features.{n+1}.conv.2"),
        ("block_{n}_project_BN", "features.{n+1}.conv.3"),
        ("Conv_1", "features.18.0"),
        ("Conv_1_bn", "features.18.1"),
        ("predictions", "classifier.1"),
    ],
    ..TORCHVISION
};

/// timm's rules: how many blocks each stage has, and the number of the last.
macro_rules! v3 {
    ($stages:literal, $last:literal) => {
        &[
            ("conv", "conv_stem"),
            ("conv_bn", "bn1"),
            ("expanded_conv_depthwise", "blocks.0.0.conv_dw"),
            ("expanded_conv_depthwise_bn", "blocks.0.0.bn1"),
            ("expanded_conv_squeeze_excite_conv", "blocks.0.0.se.conv_reduce"),
            ("expanded_conv_squeeze_excite_conv_1", "blocks.0.0.se.conv_expand"),
            ("expanded_conv_project", "blocks.0.0.conv_pw"),
            ("expanded_conv_project_bn", "blocks.0.0.bn2"),
            ("expanded_conv_{n}_expand", concat!("blocks.{n/", $stages, "}.conv_pw")),
            ("expanded_conv_{n}_expand_bn", concat!("blocks.{n/", $stages, "}.bn1")),
            ("expanded_conv_{n}_depthwise", concat!("blocks.{n/", $stages, "}.conv_dw")),
            ("expanded_conv_{n}_depthwise_bn", concat!("blocks.{n/", $stages, "}.bn2")),
            (
                "expanded_conv_{n}_squeeze_excite_conv",
                concat!("blocks.{n/", $stages, "}.se.conv_reduce"),
            ),
            (
                "expanded_conv_{n}_squeeze_excite_conv_1",
                concat!("blocks.{n/", $stages, "}.se.conv_expand"),
            ),
            ("expanded_conv_{n}_project", concat!("blocks.{n/", $stages, "}.conv_pwl")),
            ("expanded_conv_{n}_project_bn", concat!("blocks.{n/", $stages, "}.bn3")),
            ("conv_1", concat!("blocks.", $last, ".0.conv")),
            ("conv_1_bn", concat!("blocks.", $last, ".0.bn1")),
            ("conv_2", "conv_head"),
            ("logits", "classifier[2]"),
        ]
    };
}

pub(super) const V3_LARGE: Dialect = Dialect {
    models: &[
        wide(&["mobilenetv3_large_100"], "mobilenet-v3-large", 1.0),
        wide(&["mobilenetv3_large_075"], "mobilenet-v3-large", 0.75),
    ],
    rules: v3!("1,2,3,4,2,3", "6"),
    ..TIMM
};

pub(super) const V3_LARGE_TF: Dialect = Dialect {
    models: &[
        wide(&["tf_mobilenetv3_large_100"], "mobilenet-v3-large", 1.0),
        wide(&["tf_mobilenetv3_large_075"], "mobilenet-v3-large", 0.75),
        minimal(&["tf_mobilenetv3_large_minimal_100"], "mobilenet-v3-large"),
    ],
    rules: V3_LARGE.rules,
    preprocessing: "tf",
    bicubic: false,
    ..TIMM_TF
};

pub(super) const V3_SMALL: Dialect = Dialect {
    models: &[
        wide(&["mobilenetv3_small_100"], "mobilenet-v3-small", 1.0),
        wide(&["mobilenetv3_small_075"], "mobilenet-v3-small", 0.75),
    ],
    rules: v3!("1,2,3,2,3", "5"),
    ..TIMM
};

pub(super) const V3_SMALL_TF: Dialect = Dialect {
    models: &[
        wide(&["tf_mobilenetv3_small_100"], "mobilenet-v3-small", 1.0),
        wide(&["tf_mobilenetv3_small_075"], "mobilenet-v3-small", 0.75),
        minimal(&["tf_mobilenetv3_small_minimal_100"], "mobilenet-v3-small"),
    ],
    rules: V3_SMALL.rules,
    ..V3_LARGE_TF
};

/// A block's modules are counted: those without squeeze-and-excite have one less.
pub(super) const V3_TV: Dialect = Dialect {
    models: &[
        wide(&["mobilenet_v3_large"], "mobilenet-v3-large", 1.0),
        wide(&["mobilenet_v3_small"], "mobilenet-v3-small", 1.0),
    ],
    rules: &[
        ("conv", "features.0.0"),
        ("conv_bn", "features.0.1"),
        ("expanded_conv_depthwise", "features.1.block.0.0"),
        ("expanded_conv_depthwise_bn", "features.1.block.0.1"),
        ("expanded_conv_squeeze_excite_conv", "features.1.block.1.fc1"),
        ("expanded_conv_squeeze_excite_conv_1", "features.1.block.1.fc2"),
        (
            "expanded_conv_project",
            "expanded_conv_squeeze_excite_conv?features.1.block.2.0:features.1.block.1.0",
        ),
        (
            "expanded_conv_project_bn",
            "expanded_conv_squeeze_excite_conv?features.1.block.2.1:features.1.block.1.1",
        ),
        ("expanded_conv_{n}_expand", "features.{n+1}.block.0.0"),
        ("expanded_conv_{n}_expand_bn", "features.{n+1}.block.0.1"),
        ("expanded_conv_{n}_depthwise", "features.{n+1}.block.1.0"),
        ("expanded_conv_{n}_depthwise_bn", "features.{n+1}.block.1.1"),
        ("expanded_conv_{n}_squeeze_excite_conv", "features.{n+1}.block.2.fc1"),
        ("expanded_conv_{n}_squeeze_excite_conv_1", "features.{n+1}.block.2.fc2"),
        (
            "expanded_conv_{n}_project",
            "expanded_conv_{n}_squeeze_excite_conv?features.{n+1}.block.3.0:features.{n+1}.block.2.0",
        ),
        (
            "expanded_conv_{n}_project_bn",
            "expanded_conv_{n}_squeeze_excite_conv?features.{n+1}.block.3.1:features.{n+1}.block.2.1",
        ),
        // The large network has more blocks.
        ("conv_1", "expanded_conv_14_project?features.16.0:features.12.0"),
        ("conv_1_bn", "expanded_conv_14_project?features.16.1:features.12.1"),
        ("conv_2", "classifier.0[2]"),
        ("logits", "classifier.3[2]"),
    ],
    otherwise: Otherwise { epsilon: Some(1e-3), ..Otherwise::TORCH },
    ..TORCHVISION
};
