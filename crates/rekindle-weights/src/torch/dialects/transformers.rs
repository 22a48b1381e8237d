//! Hugging Face's transformers. Only a config.json names these: their names begin so.

use super::super::adapt::Otherwise;
use super::{Dialect, Program, TIMM, model};

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
