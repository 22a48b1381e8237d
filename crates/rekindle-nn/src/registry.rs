//! The one place that knows every architecture: a new model adds a variant here and a file in `models`.

use std::fmt;

use burn::module::Module;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

use crate::models::mobilenet_v2::ALPHAS;
use crate::{
    InceptionV3, InceptionV3Config, Interpreter, MobileNetV2, MobileNetV2Config, Network,
    NetworkError, Shape,
};

/// An architecture and its settings: what a checkpoint has to say to be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name")]
pub enum Architecture {
    /// MobileNetV2.
    #[serde(rename = "mobilenet-v2")]
    MobileNetV2(MobileNetV2Config),
    /// InceptionV3.
    #[serde(rename = "inception-v3")]
    InceptionV3(InceptionV3Config),
}

impl Architecture {
    /// The names that [`Architecture::by_name`] takes.
    pub const NAMES: [&str; 2] = ["mobilenet-v2", "inception-v3"];

    /// Every architecture and width, with default sizes and no top.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mobile =
            ALPHAS.map(|alpha| Self::MobileNetV2(MobileNetV2Config::new().with_alpha(alpha)));
        let inception = Self::InceptionV3(InceptionV3Config::new());
        mobile.into_iter().chain([inception]).collect()
    }

    /// An architecture by its name, with its default settings and no top.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "mobilenet-v2" => Some(Self::MobileNetV2(MobileNetV2Config::default())),
            "inception-v3" => Some(Self::InceptionV3(InceptionV3Config::default())),
            _ => None,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::MobileNetV2(_) => "mobilenet-v2",
            Self::InceptionV3(_) => "inception-v3",
        }
    }

    /// Height and width of the images in pixels.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::MobileNetV2(config) => config.size,
            Self::InceptionV3(config) => config.size,
        }
    }

    /// Classes of the top, if there is one.
    #[must_use]
    pub fn classes(&self) -> Option<usize> {
        match self {
            Self::MobileNetV2(config) => config.classes,
            Self::InceptionV3(config) => config.classes,
        }
    }

    /// The same for other images: no weight depends on their size.
    #[must_use]
    pub fn with_size(self, size: usize) -> Self {
        match self {
            Self::MobileNetV2(config) => Self::MobileNetV2(config.with_size(size)),
            Self::InceptionV3(config) => Self::InceptionV3(config.with_size(size)),
        }
    }

    /// The same with a top of this many classes, or without one.
    #[must_use]
    pub fn with_top(self, classes: Option<usize>) -> Self {
        match self {
            Self::MobileNetV2(config) => Self::MobileNetV2(MobileNetV2Config { classes, ..config }),
            Self::InceptionV3(config) => Self::InceptionV3(InceptionV3Config { classes, ..config }),
        }
    }

    /// The shape of one image.
    #[must_use]
    pub fn input(&self) -> Shape {
        Shape::image(self.size())
    }

    /// The network, with random weights until others are loaded.
    ///
    /// # Errors
    /// When a setting is outside of what Keras allows.
    pub fn init<B: Backend>(self, device: &B::Device) -> Result<Backbone<B>, NetworkError> {
        Ok(match self {
            Self::MobileNetV2(config) => Backbone::MobileNetV2(config.init(device)?),
            Self::InceptionV3(config) => Backbone::InceptionV3(config.init(device)?),
        })
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MobileNetV2(config) => write!(f, "mobilenet-v2 {:?}", config.alpha)?,
            Self::InceptionV3(_) => write!(f, "inception-v3")?,
        }
        write!(f, ", {0} x {0}", self.size())?;
        match self.classes() {
            Some(classes) => write!(f, ", {classes} classes"),
            None => write!(f, ", no top"),
        }
    }
}

/// Any of the networks.
#[derive(Module, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "Burn's derive takes no Box, and a program holds few networks"
)]
pub enum Backbone<B: Backend> {
    /// MobileNetV2.
    MobileNetV2(MobileNetV2<B>),
    /// InceptionV3.
    InceptionV3(InceptionV3<B>),
}

impl<B: Backend> Backbone<B> {
    /// Its architecture and settings.
    #[must_use]
    pub fn architecture(&self) -> Architecture {
        match self {
            Self::MobileNetV2(network) => Architecture::MobileNetV2(network.config()),
            Self::InceptionV3(network) => Architecture::InceptionV3(network.config()),
        }
    }

    /// The same for other images: no weight depends on their size.
    #[must_use]
    pub fn with_size(self, size: usize) -> Self {
        match self {
            Self::MobileNetV2(network) => Self::MobileNetV2(network.with_size(size)),
            Self::InceptionV3(network) => Self::InceptionV3(network.with_size(size)),
        }
    }
}

impl<B: Backend> Network<B> for Backbone<B> {
    fn walk<I: Interpreter<B>>(&self, it: &mut I, x: I::Value) -> Result<I::Value, NetworkError> {
        match self {
            Self::MobileNetV2(network) => network.walk(it, x),
            Self::InceptionV3(network) => network.walk(it, x),
        }
    }
}

impl<B: Backend> From<MobileNetV2<B>> for Backbone<B> {
    fn from(network: MobileNetV2<B>) -> Self {
        Self::MobileNetV2(network)
    }
}

impl<B: Backend> From<InceptionV3<B>> for Backbone<B> {
    fn from(network: InceptionV3<B>) -> Self {
        Self::InceptionV3(network)
    }
}
