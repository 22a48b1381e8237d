//! Inception V3 and V4.

use super::super::adapt::Otherwise;
use super::{Dialect, Program, TIMM, model};

/// The branches of blocks of 35 x 35 maps, in Keras's order.
const A: &[&str] = &[
    "branch1x1",
    "branch5x5_1",
    "branch5x5_2",
    "branch3x3dbl_1",
    "branch3x3dbl_2",
    "branch3x3dbl_3",
    "branch_pool",
];
/// Of the block between.
const A_TO_B: &[&str] = &["branch3x3", "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"];
/// Of 17 x 17 maps.
const B: &[&str] = &[
    "branch1x1",
    "branch7x7_1",
    "branch7x7_2",
    "branch7x7_3",
    "branch7x7dbl_1",
    "branch7x7dbl_2",
    "branch7x7dbl_3",
    "branch7x7dbl_4",
    "branch7x7dbl_5",
    "branch_pool",
];
const B_TO_C: &[&str] = &[
    "branch3x3_1",
    "branch3x3_2",
    "branch7x7x3_1",
    "branch7x7x3_2",
    "branch7x7x3_3",
    "branch7x7x3_4",
];
/// Of 8 x 8 maps.
const C: &[&str] = &[
    "branch1x1",
    "branch3x3_1",
    "branch3x3_2a",
    "branch3x3_2b",
    "branch3x3dbl_1",
    "branch3x3dbl_2",
    "branch3x3dbl_3a",
    "branch3x3dbl_3b",
    "branch_pool",
];

/// What Keras's numbered convolutions are, in order: the module, and its branches.
const BLOCKS: &[(&str, &[&str])] = &[
    ("", &["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"]),
    ("Mixed_5b.", A),
    ("Mixed_5c.", A),
    ("Mixed_5d.", A),
    ("Mixed_6a.", A_TO_B),
    ("Mixed_6b.", B),
    ("Mixed_6c.", B),
    ("Mixed_6d.", B),
    ("Mixed_6e.", B),
    ("Mixed_7a.", B_TO_C),
    ("Mixed_7b.", C),
    ("Mixed_7c.", C),
];

/// Of torchvision, which timm has too.
pub(super) const V3: Dialect = Dialect {
    program: Program::TimmAndTorchvision,
    models: &[model(&["inception_v3"], "inception-v3")],
    rules: &[("conv2d", "Conv2d_1a_3x3"), ("conv2d_{i}", "{i#}"), ("predictions", "fc")],
    units: Some([".conv", ".bn"]),
    otherwise: Otherwise { gamma: true, counts_padding: true, ..Otherwise::NOTHING },
    preprocessing: "tf",
    list: BLOCKS,
    aside: &["AuxLogits."],
    torchvision: &[("aux_logits", "False"), ("init_weights", "False")],
    ..TIMM
};

pub(super) const V4: Dialect = Dialect {
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
