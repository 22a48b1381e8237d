//! EfficientNet and EfficientNetV2.

use super::super::adapt::Otherwise;
use super::{Dialect, TIMM, TIMM_TF, TORCHVISION, model};

pub(super) const B: Dialect = Dialect {
    models: &[
        model(&["efficientnet_b0"], "efficientnet-b0"),
        model(&["efficientnet_b1"], "efficientnet-b1"),
        model(&["efficientnet_b2"], "efficientnet-b2"),
        model(&["efficientnet_b3"], "efficientnet-b3"),
        model(&["efficientnet_b4"], "efficientnet-b4"),
        model(&["efficientnet_b5"], "efficientnet-b5"),
        model(&["efficientnet_b6"], "efficientnet-b6"),
        model(&["efficientnet_b7"], "efficientnet-b7"),
    ],
    rules: &[
        ("stem_conv", "conv_stem"),
        ("stem_bn", "bn1"),
        // Blocks without expansion have two convolutions.
        ("block1{L}_dwconv", "blocks.0.{L}.conv_dw"),
        ("block1{L}_bn", "blocks.0.{L}.bn1"),
        ("block1{L}_project_conv", "blocks.0.{L}.conv_pw"),
        ("block1{L}_project_bn", "blocks.0.{L}.bn2"),
        ("block{s}{L}_expand_conv", "blocks.{s-1}.{L}.conv_pw"),
        ("block{s}{L}_expand_bn", "blocks.{s-1}.{L}.bn1"),
        ("block{s}{L}_dwconv", "blocks.{s-1}.{L}.conv_dw"),
        ("block{s}{L}_bn", "blocks.{s-1}.{L}.bn2"),
        ("block{s}{L}_se_reduce", "blocks.{s-1}.{L}.se.conv_reduce"),
        ("block{s}{L}_se_expand", "blocks.{s-1}.{L}.se.conv_expand"),
        ("block{s}{L}_project_conv", "blocks.{s-1}.{L}.conv_pwl"),
        ("block{s}{L}_project_bn", "blocks.{s-1}.{L}.bn3"),
        ("top_conv", "conv_head"),
        ("top_bn", "bn2"),
        ("predictions", "classifier"),
    ],
    ..TIMM
};

pub(super) const B_TF: Dialect = Dialect {
    models: &[
        model(&["tf_efficientnet_b0"], "efficientnet-b0"),
        model(&["tf_efficientnet_b1"], "efficientnet-b1"),
        model(&["tf_efficientnet_b2"], "efficientnet-b2"),
        model(&["tf_efficientnet_b3"], "efficientnet-b3"),
        model(&["tf_efficientnet_b4"], "efficientnet-b4"),
        model(&["tf_efficientnet_b5"], "efficientnet-b5"),
        model(&["tf_efficientnet_b6"], "efficientnet-b6"),
        model(&["tf_efficientnet_b7"], "efficientnet-b7"),
    ],
    rules: B.rules,
    ..TIMM_TF
};

pub(super) const B_TV: Dialect = Dialect {
    models: &[
        model(&["efficientnet_b0"], "efficientnet-b0"),
        model(&["efficientnet_b1"], "efficientnet-b1"),
        model(&["efficientnet_b2"], "efficientnet-b2"),
        model(&["efficientnet_b3"], "efficientnet-b3"),
        model(&["efficientnet_b4"], "efficientnet-b4"),
    ],
    rules: &[
        ("stem_conv", "features.0.0"),
        ("stem_bn", "features.0.1"),
        ("block1{L}_dwconv", "features.1.{L}.block.0.0"),
        ("block1{L}_bn", "features.1.{L}.block.0.1"),
        ("block1{L}_se_reduce", "features.1.{L}.block.1.fc1"),
        ("block1{L}_se_expand", "features.1.{L}.block.1.fc2"),
        ("block1{L}_project_conv", "features.1.{L}.block.2.0"),
        ("block1{L}_project_bn", "features.1.{L}.block.2.1"),
        ("block{s}{L}_expand_conv", "features.{s}.{L}.block.0.0"),
        ("block{s}{L}_expand_bn", "features.{s}.{L}.block.0.1"),
        ("block{s}{L}_dwconv", "features.{s}.{L}.block.1.0"),
        ("block{s}{L}_bn", "features.{s}.{L}.block.1.1"),
        ("block{s}{L}_se_reduce", "features.{s}.{L}.block.2.fc1"),
        ("block{s}{L}_se_expand", "features.{s}.{L}.block.2.fc2"),
        ("block{s}{L}_project_conv", "features.{s}.{L}.block.3.0"),
        ("block{s}{L}_project_bn", "features.{s}.{L}.block.3.1"),
        ("top_conv", "features.8.0"),
        ("top_bn", "features.8.1"),
        ("predictions", "classifier.1"),
    ],
    ..TORCHVISION
};

/// torchvision has another epsilon from B5 on.
pub(super) const B_TV_LARGE: Dialect = Dialect {
    models: &[
        model(&["efficientnet_b5"], "efficientnet-b5"),
        model(&["efficientnet_b6"], "efficientnet-b6"),
        model(&["efficientnet_b7"], "efficientnet-b7"),
    ],
    rules: B_TV.rules,
    otherwise: Otherwise { epsilon: Some(1e-3), ..Otherwise::TORCH },
    ..TORCHVISION
};

pub(super) const V2_B_TF: Dialect = Dialect {
    models: &[
        model(&["tf_efficientnetv2_b0"], "efficientnet-v2-b0"),
        model(&["tf_efficientnetv2_b1"], "efficientnet-v2-b1"),
        model(&["tf_efficientnetv2_b2"], "efficientnet-v2-b2"),
        model(&["tf_efficientnetv2_b3"], "efficientnet-v2-b3"),
    ],
    rules: &[
        ("stem_conv", "conv_stem"),
        ("stem_bn", "bn1"),
        ("block1{L}_project_conv", "blocks.0.{L}.conv"),
        ("block1{L}_project_bn", "blocks.0.{L}.bn1"),
        // The first stages have one convolution for the expansion and what is depthwise in the others.
        (
            "block{s}{L}_expand_conv",
            "block{s}{L}_dwconv2?blocks.{s-1}.{L}.conv_pw:blocks.{s-1}.{L}.conv_exp",
        ),
        ("block{s}{L}_expand_bn", "blocks.{s-1}.{L}.bn1"),
        ("block{s}{L}_dwconv2", "blocks.{s-1}.{L}.conv_dw"),
        ("block{s}{L}_bn", "blocks.{s-1}.{L}.bn2"),
        ("block{s}{L}_se_reduce", "blocks.{s-1}.{L}.se.conv_reduce"),
        ("block{s}{L}_se_expand", "blocks.{s-1}.{L}.se.conv_expand"),
        ("block{s}{L}_project_conv", "blocks.{s-1}.{L}.conv_pwl"),
        ("block{s}{L}_project_bn", "block{s}{L}_dwconv2?blocks.{s-1}.{L}.bn3:blocks.{s-1}.{L}.bn2"),
        ("top_conv", "conv_head"),
        ("top_bn", "bn2"),
        ("predictions", "classifier"),
    ],
    ..TIMM_TF
};

pub(super) const V2_TF: Dialect = Dialect {
    models: &[
        model(&["tf_efficientnetv2_s"], "efficientnet-v2-s"),
        model(&["tf_efficientnetv2_m"], "efficientnet-v2-m"),
        model(&["tf_efficientnetv2_l"], "efficientnet-v2-l"),
    ],
    preprocessing: "tf",
    ..V2_B_TF
};

pub(super) const V2: Dialect = Dialect {
    models: &[
        model(&["efficientnetv2_s"], "efficientnet-v2-s"),
        model(&["efficientnetv2_m"], "efficientnet-v2-m"),
        model(&["efficientnetv2_l"], "efficientnet-v2-l"),
    ],
    rules: V2_B_TF.rules,
    ..TIMM
};

pub(super) const V2_TV: Dialect = Dialect {
    models: &[
        model(&["efficientnet_v2_s"], "efficientnet-v2-s"),
        model(&["efficientnet_v2_m"], "efficientnet-v2-m"),
    ],
    rules: &[
        ("stem_conv", "features.0.0"),
        ("stem_bn", "features.0.1"),
        ("block1{L}_project_conv", "features.1.{L}.block.0.0"),
        ("block1{L}_project_bn", "features.1.{L}.block.0.1"),
        ("block{s}{L}_expand_conv", "features.{s}.{L}.block.0.0"),
        ("block{s}{L}_expand_bn", "features.{s}.{L}.block.0.1"),
        ("block{s}{L}_dwconv2", "features.{s}.{L}.block.1.0"),
        ("block{s}{L}_bn", "features.{s}.{L}.block.1.1"),
        ("block{s}{L}_se_reduce", "features.{s}.{L}.block.2.fc1"),
        ("block{s}{L}_se_expand", "features.{s}.{L}.block.2.fc2"),
        (
            "block{s}{L}_project_conv",
            "block{s}{L}_dwconv2?features.{s}.{L}.block.3.0:features.{s}.{L}.block.1.0",
        ),
        (
            "block{s}{L}_project_bn",
            "block{s}{L}_dwconv2?features.{s}.{L}.block.3.1:features.{s}.{L}.block.1.1",
        ),
        // The larger ones have one stage more.
        ("top_conv", "block7a_project_conv?features.8.0:features.7.0"),
        ("top_bn", "block7a_project_conv?features.8.1:features.7.1"),
        ("predictions", "classifier.1"),
    ],
    otherwise: Otherwise { epsilon: Some(1e-3), ..Otherwise::TORCH },
    ..TORCHVISION
};

pub(super) const V2_TV_LARGE: Dialect = Dialect {
    models: &[model(&["efficientnet_v2_l"], "efficientnet-v2-l")],
    preprocessing: "tf",
    bicubic: true,
    ..V2_TV
};
