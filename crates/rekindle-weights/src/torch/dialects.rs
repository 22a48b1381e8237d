//! What timm and torchvision call the layers of Keras's families, and what these have otherwise.

use super::adapt::Otherwise;
use super::names::Rule;

/// How a program has some of the families.
pub(super) struct Dialect {
    /// The program, for messages.
    pub program: &'static str,
    /// Its names of the networks.
    pub models: &'static [Model],
    /// From layers to modules.
    pub rules: &'static [Rule],
    /// What comes behind a module's name for a convolution, and for its normalization, where the rules have one for both.
    pub units: Option<[&'static str; 2]>,
    /// What is otherwise than in Keras's network.
    pub otherwise: Otherwise,
    /// What photos are scaled by, where no file says it.
    pub preprocessing: &'static str,
    /// The interpolation of photos, where no file says it.
    pub bicubic: bool,
    /// Modules that only training needs begin so.
    pub aside: &'static [&'static str],
}

/// A network of a dialect.
pub(super) struct Model {
    /// What the program calls it; several with the same layers.
    pub names: &'static [&'static str],
    /// The family.
    pub family: &'static str,
    /// The width, for families that have several.
    pub alpha: Option<f64>,
    /// Its form, for families that have two.
    pub minimalistic: bool,
}

const fn model(names: &'static [&'static str], family: &'static str) -> Model {
    Model { names, family, alpha: None, minimalistic: false }
}

const fn wide(names: &'static [&'static str], family: &'static str, alpha: f64) -> Model {
    Model { names, family, alpha: Some(alpha), minimalistic: false }
}

const fn minimal(names: &'static [&'static str], family: &'static str) -> Model {
    Model { names, family, alpha: Some(1.0), minimalistic: true }
}

/// What most have in common.
const TIMM: Dialect = Dialect {
    program: "timm",
    models: &[],
    rules: &[],
    units: None,
    otherwise: Otherwise::TORCH,
    preprocessing: "torch",
    bicubic: true,
    aside: &[],
};

const TORCHVISION: Dialect = Dialect { program: "torchvision", bicubic: false, ..TIMM };

/// TensorFlow's weights in timm: its padding and epsilon.
const TIMM_TF: Dialect = Dialect { otherwise: Otherwise::NOTHING, ..TIMM };

/// All of them. Sources: timm 1.0's `resnet.py`, `efficientnet.py`, `mobilenetv3.py`, `inception_v4.py`, ...; torchvision
/// 0.29's `models/`.
pub(super) static DIALECTS: &[Dialect] = &[
    RESNET,
    MOBILENET_V2,
    MOBILENET_V2_TV,
    EFFICIENTNET,
    EFFICIENTNET_TF,
    EFFICIENTNET_TV,
    EFFICIENTNET_TV_LARGE,
    INCEPTION_V4,
];

const RESNET: Dialect = Dialect {
    program: "timm and torchvision",
    models: &[
        model(&["resnet50", "tv_resnet50"], "resnet-50"),
        model(&["resnet101", "tv_resnet101"], "resnet-101"),
        model(&["resnet152", "tv_resnet152"], "resnet-152"),
    ],
    rules: &[
        ("conv1_conv", "conv1"),
        ("conv1_bn", "bn1"),
        ("conv{s}_block{b}_0_conv", "layer{s-1}.{b-1}.downsample.0"),
        ("conv{s}_block{b}_0_bn", "layer{s-1}.{b-1}.downsample.1"),
        ("conv{s}_block{b}_{k}_conv", "layer{s-1}.{b-1}.conv{k}"),
        ("conv{s}_block{b}_{k}_bn", "layer{s-1}.{b-1}.bn{k}"),
        ("predictions", "fc"),
    ],
    otherwise: Otherwise { unbiased: true, late_strides: true, ..Otherwise::TORCH },
    ..TIMM
};

const MOBILENET_V2: Dialect = Dialect {
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

const MOBILENET_V2_TV: Dialect = Dialect {
    models: &[
        wide(&["mobilenet_v2"], "mobilenet-v2", 1.0),
        wide(&[], "mobilenet-v2", 0.35),
        wide(&[], "mobilenet-v2", 0.5),
        wide(&[], "mobilenet-v2", 0.75),
        wide(&[], "mobilenet-v2", 1.3),
        wide(&[], "mobilenet-v2", 1.4),
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

const EFFICIENTNET: Dialect = Dialect {
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

const EFFICIENTNET_TF: Dialect = Dialect {
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
    rules: EFFICIENTNET.rules,
    ..TIMM_TF
};

const EFFICIENTNET_TV: Dialect = Dialect {
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
const EFFICIENTNET_TV_LARGE: Dialect = Dialect {
    models: &[
        model(&["efficientnet_b5"], "efficientnet-b5"),
        model(&["efficientnet_b6"], "efficientnet-b6"),
        model(&["efficientnet_b7"], "efficientnet-b7"),
    ],
    rules: EFFICIENTNET_TV.rules,
    otherwise: Otherwise { epsilon: Some(1e-3), ..Otherwise::TORCH },
    ..TORCHVISION
};

const INCEPTION_V4: Dialect = Dialect {
    models: &[model(&["inception_v4"], "inception-v4")],
    rules: &[
        ("Conv2d_1a_3x3", "features.0"),
        ("Conv2d_2a_3x3", "features.1"),
        ("Conv2d_2b_3x3", "features.2"),
        ("Mixed_3a/Branch_1/Conv2d_0a_3x3", "features.3.conv"),
        ("Mixed_4a/Branch_0/Conv2d_1a_3x3", "features.4.branch0.1"),
        ("Mixed_4a/Branch_1/Conv2d_1a_3x3", "features.4.branch1.3"),
        ("Mixed_4a/Branch_{i}/Conv2d_0{M}_{h}x{w}", "features.4.branch{i}.{M}"),
        ("Mixed_5a/Branch_0/Conv2d_1a_3x3", "features.5.conv"),
        ("Mixed_6a/Branch_0/Conv2d_1a_3x3", "features.10.branch0"),
        ("Mixed_6a/Branch_1/Conv2d_1a_3x3", "features.10.branch1.2"),
        ("Mixed_6a/Branch_1/Conv2d_0{M}_{h}x{w}", "features.10.branch1.{M}"),
        ("Mixed_7a/Branch_0/Conv2d_1a_3x3", "features.18.branch0.1"),
        ("Mixed_7a/Branch_1/Conv2d_1a_3x3", "features.18.branch1.3"),
        ("Mixed_7a/Branch_{i}/Conv2d_0{M}_{h}x{w}", "features.18.branch{i}.{M}"),
        ("Mixed_5{L}/Branch_0/Conv2d_0a_1x1", "features.{L+5}.branch0"),
        ("Mixed_5{L}/Branch_{i}/Conv2d_0{M}_{h}x{w}", "features.{L+5}.branch{i}.{M}"),
        ("Mixed_6{L}/Branch_0/Conv2d_0a_1x1", "features.{L+10}.branch0"),
        ("Mixed_6{L}/Branch_{i}/Conv2d_0{M}_{h}x{w}", "features.{L+10}.branch{i}.{M}"),
        ("Mixed_7{L}/Branch_0/Conv2d_0a_1x1", "features.{L+18}.branch0"),
        ("Mixed_7{L}/Branch_1/Conv2d_0a_1x1", "features.{L+18}.branch1_0"),
        ("Mixed_7{L}/Branch_1/Conv2d_0b_1x3", "features.{L+18}.branch1_1a"),
        ("Mixed_7{L}/Branch_1/Conv2d_0c_3x1", "features.{L+18}.branch1_1b"),
        ("Mixed_7{L}/Branch_2/Conv2d_0d_1x3", "features.{L+18}.branch2_3a"),
        ("Mixed_7{L}/Branch_2/Conv2d_0e_3x1", "features.{L+18}.branch2_3b"),
        ("Mixed_7{L}/Branch_2/Conv2d_0{M}_{h}x{w}", "features.{L+18}.branch2_{M}"),
        ("Mixed_7{L}/Branch_3/Conv2d_0b_1x1", "features.{L+18}.branch3.1"),
        ("Logits/Logits", "last_linear"),
    ],
    units: Some([".conv", ".bn"]),
    otherwise: Otherwise { gamma: true, ..Otherwise::NOTHING },
    preprocessing: "tf",
    ..TIMM
};
