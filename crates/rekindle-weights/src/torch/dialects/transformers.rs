//! Hugging Face's transformers. Only a config.json names these: their names begin so.

use super::super::adapt::Otherwise;
use super::{Dialect, Program, TIMM, TIMM_TF, model, wide};

pub(super) const RESNET: Dialect = Dialect {
    program: Program::Transformers,
    models: &[
        model(&["transformers:resnet"], "resnet-50"),
        model(&["transformers:resnet"], "resnet-101"),
        model(&["transformers:resnet"], "resnet-152"),
    ],
    rules: &[
        ("conv1_conv", "resnet.embedder.embedder.convolution"),
        ("conv1_bn", "resnet.embedder.embedder.normalization"),
        (
            "conv{s}_block{b}_0_conv",
            "resnet.encoder.stages.{s-2}.layers.{b-1}.shortcut.convolution",
        ),
        (
            "conv{s}_block{b}_0_bn",
            "resnet.encoder.stages.{s-2}.layers.{b-1}.shortcut.normalization",
        ),
        (
            "conv{s}_block{b}_{k}_conv",
            "resnet.encoder.stages.{s-2}.layers.{b-1}.layer.{k-1}.convolution",
        ),
        (
            "conv{s}_block{b}_{k}_bn",
            "resnet.encoder.stages.{s-2}.layers.{b-1}.layer.{k-1}.normalization",
        ),
        ("predictions", "classifier.1"),
    ],
    otherwise: Otherwise { unbiased: true, late_strides: true, ..Otherwise::TORCH },
    ..TIMM
};

/// TensorFlow's weights, with its padding where the configuration does not say otherwise.
pub(super) const MOBILENET_V2: Dialect = Dialect {
    program: Program::Transformers,
    models: &[
        wide(&["transformers:mobilenet_v2"], "mobilenet-v2", 0.35),
        wide(&["transformers:mobilenet_v2"], "mobilenet-v2", 0.5),
        wide(&["transformers:mobilenet_v2"], "mobilenet-v2", 0.75),
        wide(&["transformers:mobilenet_v2"], "mobilenet-v2", 1.0),
        wide(&["transformers:mobilenet_v2"], "mobilenet-v2", 1.3),
        wide(&["transformers:mobilenet_v2"], "mobilenet-v2", 1.4),
    ],
    rules: &[
        ("Conv1", "mobilenet_v2.conv_stem.first_conv.convolution"),
        ("bn_Conv1", "mobilenet_v2.conv_stem.first_conv.normalization"),
        ("expanded_conv_depthwise", "mobilenet_v2.conv_stem.conv_3x3.convolution"),
        ("expanded_conv_depthwise_BN", "mobilenet_v2.conv_stem.conv_3x3.normalization"),
        ("expanded_conv_project", "mobilenet_v2.conv_stem.reduce_1x1.convolution"),
        ("expanded_conv_project_BN", "mobilenet_v2.conv_stem.reduce_1x1.normalization"),
        ("block_{n}_expand", "mobilenet_v2.layer.{n-1}.expand_1x1.convolution"),
        ("block_{n}_expand_BN", "mobilenet_v2.layer.{n-1}.expand_1x1.normalization"),
        ("block_{n}_depthwise", "mobilenet_v2.layer.{n-1}.conv_3x3.convolution"),
        ("block_{n}_depthwise_BN", "mobilenet_v2.layer.{n-1}.conv_3x3.normalization"),
        ("block_{n}_project", "mobilenet_v2.layer.{n-1}.reduce_1x1.convolution"),
        ("block_{n}_project_BN", "mobilenet_v2.layer.{n-1}.reduce_1x1.normalization"),
        ("Conv_1", "mobilenet_v2.conv_1x1.convolution"),
        ("Conv_1_bn", "mobilenet_v2.conv_1x1.normalization"),
        ("predictions", "classifier"),
    ],
    preprocessing: "tf",
    bicubic: false,
    ..TIMM_TF
};

/// Its blocks are counted through all stages.
pub(super) const EFFICIENTNET: Dialect = Dialect {
    program: Program::Transformers,
    models: &[
        model(&["transformers:efficientnet"], "efficientnet-b0"),
        model(&["transformers:efficientnet"], "efficientnet-b1"),
        model(&["transformers:efficientnet"], "efficientnet-b2"),
        model(&["transformers:efficientnet"], "efficientnet-b3"),
        model(&["transformers:efficientnet"], "efficientnet-b4"),
        model(&["transformers:efficientnet"], "efficientnet-b5"),
        model(&["transformers:efficientnet"], "efficientnet-b6"),
        model(&["transformers:efficientnet"], "efficientnet-b7"),
    ],
    rules: &[
        ("stem_conv", "efficientnet.embeddings.convolution"),
        ("stem_bn", "efficientnet.embeddings.batchnorm"),
        (
            "block{s}{L}_expand_conv",
            "efficientnet.encoder.blocks.{s@_dwconv}.expansion.expand_conv",
        ),
        ("block{s}{L}_expand_bn", "efficientnet.encoder.blocks.{s@_dwconv}.expansion.expand_bn"),
        (
            "block{s}{L}_dwconv",
            "efficientnet.encoder.blocks.{s@_dwconv}.depthwise_conv.depthwise_conv",
        ),
        (
            "block{s}{L}_bn",
            "efficientnet.encoder.blocks.{s@_dwconv-1}.depthwise_conv.depthwise_norm",
        ),
        (
            "block{s}{L}_se_reduce",
            "efficientnet.encoder.blocks.{s@_dwconv-1}.squeeze_excite.reduce",
        ),
        (
            "block{s}{L}_se_expand",
            "efficientnet.encoder.blocks.{s@_dwconv-1}.squeeze_excite.expand",
        ),
        (
            "block{s}{L}_project_conv",
            "efficientnet.encoder.blocks.{s@_dwconv-1}.projection.project_conv",
        ),
        (
            "block{s}{L}_project_bn",
            "efficientnet.encoder.blocks.{s@_dwconv-1}.projection.project_bn",
        ),
        ("top_conv", "efficientnet.encoder.top_conv"),
        ("top_bn", "efficientnet.encoder.top_bn"),
        ("predictions", "classifier"),
    ],
    preprocessing: "torch",
    ..TIMM_TF
};

pub(super) const CONVNEXT: Dialect = Dialect {
    program: Program::Transformers,
    models: &[
        model(&["transformers:convnext"], "convnext-tiny"),
        model(&["transformers:convnext"], "convnext-small"),
        model(&["transformers:convnext"], "convnext-base"),
        model(&["transformers:convnext"], "convnext-large"),
        model(&["transformers:convnext"], "convnext-xlarge"),
    ],
    rules: &[
        ("%_stem_conv", "convnext.embeddings.patch_embeddings"),
        ("%_stem_layernorm", "convnext.embeddings.layernorm"),
        ("%_downsampling_layernorm_{n}", "convnext.encoder.stages.{n+1}.downsampling_layer.0"),
        ("%_downsampling_conv_{n}", "convnext.encoder.stages.{n+1}.downsampling_layer.1"),
        ("%_stage_{s}_block_{b}_depthwise_conv", "convnext.encoder.stages.{s}.layers.{b}.dwconv"),
        ("%_stage_{s}_block_{b}_layernorm", "convnext.encoder.stages.{s}.layers.{b}.layernorm"),
        (
            "%_stage_{s}_block_{b}_pointwise_conv_1",
            "convnext.encoder.stages.{s}.layers.{b}.pwconv1",
        ),
        (
            "%_stage_{s}_block_{b}_pointwise_conv_2",
            "convnext.encoder.stages.{s}.layers.{b}.pwconv2",
        ),
        (
            "%_stage_{s}_block_{b}_layer_scale",
            "convnext.encoder.stages.{s}.layers.{b}.layer_scale_parameter",
        ),
        ("%_head_layernorm", "convnext.layernorm"),
        ("%_head_dense", "classifier"),
    ],
    otherwise: Otherwise { symmetric: false, ..Otherwise::TORCH },
    ..TIMM
};
