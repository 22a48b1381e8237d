//! ConvNeXt.

use super::super::adapt::Otherwise;
use super::{Dialect, Program, TIMM, model};

pub(super) const CONVNEXT: Dialect = Dialect {
    program: Program::TimmAndTorchvision,
    models: &[
        model(&["convnext_tiny"], "convnext-tiny"),
        model(&["convnext_small"], "convnext-small"),
        model(&["convnext_base"], "convnext-base"),
        model(&["convnext_large"], "convnext-large"),
    ],
    rules: &[
        ("%_stem_conv", "stem.0|features.0.0"),
        ("%_stem_layernorm", "stem.1|features.0.1"),
        ("%_downsampling_layernorm_{n}", "stages.{n+1}.downsample.0|features.{n*2+2}.0"),
        ("%_downsampling_conv_{n}", "stages.{n+1}.downsample.1|features.{n*2+2}.1"),
        (
            "%_stage_{s}_block_{b}_depthwise_conv",
            "stages.{s}.blocks.{b}.conv_dw|features.{s*2+1}.{b}.block.0",
        ),
        (
            "%_stage_{s}_block_{b}_layernorm",
            "stages.{s}.blocks.{b}.norm|features.{s*2+1}.{b}.block.2",
        ),
        (
            "%_stage_{s}_block_{b}_pointwise_conv_1",
            "stages.{s}.blocks.{b}.mlp.fc1|features.{s*2+1}.{b}.block.3",
        ),
        (
            "%_stage_{s}_block_{b}_pointwise_conv_2",
            "stages.{s}.blocks.{b}.mlp.fc2|features.{s*2+1}.{b}.block.5",
        ),
        (
            "%_stage_{s}_block_{b}_layer_scale",
            "stages.{s}.blocks.{b}.gamma|features.{s*2+1}.{b}.layer_scale[3]",
        ),
        ("%_head_layernorm", "head.norm|classifier.0"),
        ("%_head_dense", "head.fc|classifier.2"),
    ],
    otherwise: Otherwise { symmetric: false, ..Otherwise::TORCH },
    ..TIMM
};

/// Of timm alone.
pub(super) const XLARGE: Dialect = Dialect {
    program: Program::Timm,
    models: &[model(&["convnext_xlarge"], "convnext-xlarge")],
    ..CONVNEXT
};
