//! What timm and torchvision call the layers of Keras's families, and what these have otherwise.

mod convnext;
mod efficientnet;
mod inception;
mod mobilenet;
mod plain;
mod transformers;

use std::fmt;

use super::adapt::Otherwise;
use super::names::{List, Rule};

/// Whose networks they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    /// timm.
    Timm,
    /// torchvision.
    Torchvision,
    /// Both have the same.
    TimmAndTorchvision,
    /// Hugging Face's transformers.
    Transformers,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timm => "timm",
            Self::Torchvision => "torchvision",
            Self::TimmAndTorchvision => "timm and torchvision",
            Self::Transformers => "transformers",
        })
    }
}

/// How a program has some of the families.
pub(super) struct Dialect {
    /// The program.
    pub program: Program,
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
    /// What Keras's numbered convolutions are called, in order, `{i#}` in rules: the beginnings of names, and their ends.
    pub list: &'static List,
    /// Modules that only training needs begin so.
    pub aside: &'static [&'static str],
    /// What the program has to be told to make such a network, in its own words.
    pub arguments: &'static [(&'static str, &'static str)],
    /// What torchvision alone has to be told.
    pub torchvision: &'static [(&'static str, &'static str)],
    /// The maps that a dense layer behind them is for, whatever the images' size.
    pub maps: Option<[usize; 2]>,
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
    program: Program::Timm,
    models: &[],
    rules: &[],
    units: None,
    otherwise: Otherwise::TORCH,
    preprocessing: "torch",
    bicubic: true,
    list: &[],
    aside: &[],
    arguments: &[],
    torchvision: &[],
    maps: None,
};

const TORCHVISION: Dialect = Dialect { program: Program::Torchvision, bicubic: false, ..TIMM };

/// TensorFlow's weights in timm: its padding and epsilon.
const TIMM_TF: Dialect = Dialect { otherwise: Otherwise::NOTHING, ..TIMM };

/// All of them. Sources: timm 1.0's `resnet.py`, `efficientnet.py`, `mobilenetv3.py`, `inception_v4.py`, ...; torchvision
/// 0.29's `models/`.
pub(super) static DIALECTS: &[Dialect] = &[
    plain::RESNET,
    plain::DENSENET,
    plain::VGG_16,
    plain::VGG_19,
    plain::XCEPTION,
    mobilenet::V2,
    mobilenet::V2_TF,
    mobilenet::V2_TV,
    mobilenet::V3_LARGE,
    mobilenet::V3_LARGE_TF,
    mobilenet::V3_SMALL,
    mobilenet::V3_SMALL_TF,
    mobilenet::V3_TV,
    efficientnet::B,
    efficientnet::B_TF,
    efficientnet::B_TV,
    efficientnet::B_TV_LARGE,
    efficientnet::V2_B_TF,
    efficientnet::V2_TF,
    efficientnet::V2,
    efficientnet::V2_TV,
    efficientnet::V2_TV_LARGE,
    inception::V3,
    inception::V4,
    convnext::CONVNEXT,
    convnext::XLARGE,
    transformers::RESNET,
    transformers::CONVNEXT,
    transformers::MOBILENET_V2,
    transformers::EFFICIENTNET,
];
