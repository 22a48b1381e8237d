//! Networks of plain convolutions: ResNet, DenseNet, VGG, Xception.

use super::super::adapt::Otherwise;
use super::{Dialect, Program, TIMM, model};

pub(super) const RESNET: Dialect = Dialect {
    program: Program::TimmAndTorchvision,
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

/// Pre-activation: the normalization of a convolution is in front of it.
pub(super) const DENSENET: Dialect = Dialect {
    program: Program::TimmAndTorchvision,
    models: &[
        model(&["densenet121"], "densenet-121"),
        model(&["densenet169"], "densenet-169"),
        model(&["densenet201"], "densenet-201"),
    ],
    rules: &[
        ("conv1_conv", "features.conv0"),
        ("conv1_bn", "features.norm0"),
        ("conv{s}_block{b}_0_bn", "features.denseblock{s-1}.denselayer{b}.norm1"),
        ("conv{s}_block{b}_1_conv", "features.denseblock{s-1}.denselayer{b}.conv1"),
        ("conv{s}_block{b}_1_bn", "features.denseblock{s-1}.denselayer{b}.norm2"),
        ("conv{s}_block{b}_2_conv", "features.denseblock{s-1}.denselayer{b}.conv2"),
        ("pool{p}_bn", "features.transition{p-1}.norm"),
        ("pool{p}_conv", "features.transition{p-1}.conv"),
        ("bn", "features.norm5"),
        ("predictions", "classifier"),
    ],
    ..TIMM
};

/// Modules count ReLUs and pools too.
pub(super) const VGG_16: Dialect = Dialect {
    program: Program::TimmAndTorchvision,
    models: &[model(&["vgg16"], "vgg-16")],
    rules: &[
        ("block1_conv{k}", "features.{k*2-2}"),
        ("block2_conv{k}", "features.{k*2+3}"),
        ("block3_conv{k}", "features.{k*2+8}"),
        ("block4_conv{k}", "features.{k*2+15}"),
        ("block5_conv{k}", "features.{k*2+22}"),
        // timm's are convolutions of all of the last maps.
        ("fc1", "pre_logits.fc1[4]|classifier.0"),
        ("fc2", "pre_logits.fc2[4]|classifier.3"),
        ("predictions", "head.fc|classifier.6"),
    ],
    bicubic: false,
    maps: Some([7, 7]),
    ..TIMM
};

pub(super) const VGG_19: Dialect = Dialect {
    models: &[model(&["vgg19"], "vgg-19")],
    rules: &[
        ("block1_conv{k}", "features.{k*2-2}"),
        ("block2_conv{k}", "features.{k*2+3}"),
        ("block3_conv{k}", "features.{k*2+8}"),
        ("block4_conv{k}", "features.{k*2+17}"),
        ("block5_conv{k}", "features.{k*2+26}"),
        ("fc1", "pre_logits.fc1[4]|classifier.0"),
        ("fc2", "pre_logits.fc2[4]|classifier.3"),
        ("predictions", "head.fc|classifier.6"),
    ],
    ..VGG_16
};

/// timm's `xception.py`, which it has from Cadene's; modules of a block count ReLUs too.
pub(super) const XCEPTION: Dialect = Dialect {
    models: &[model(&["legacy_xception", "xception"], "xception")],
    rules: &[
        ("block1_conv{k}", "conv{k}"),
        ("block1_conv{k}_bn", "bn{k}"),
        ("block2_sepconv{k}", "block1.rep.{k*3-3}"),
        ("block2_sepconv{k}_bn", "block1.rep.{k*3-2}"),
        ("block14_sepconv{k}", "conv{k+2}"),
        ("block14_sepconv{k}_bn", "bn{k+2}"),
        ("block{b}_sepconv{k}", "block{b-1}.rep.{k*3-2}"),
        ("block{b}_sepconv{k}_bn", "block{b-1}.rep.{k*3-1}"),
        ("conv2d", "block1.skip"),
        ("conv2d_1", "block2.skip"),
        ("conv2d_2", "block3.skip"),
        ("conv2d_3", "block12.skip"),
        ("batch_normalization", "block1.skipbn"),
        ("batch_normalization_1", "block2.skipbn"),
        ("batch_normalization_2", "block3.skipbn"),
        ("batch_normalization_3", "block12.skipbn"),
        ("predictions", "fc"),
    ],
    otherwise: Otherwise::TORCH,
    preprocessing: "tf",
    ..TIMM
};
