//! The families of networks, one file each: all that the project knows of a family is in its [`Family`].
//!
//! To add one: a file with a `FAMILY`, its line in [`FAMILIES`], and one for its Burn module in [`networks`].

mod architecture;
pub mod convnext;
pub mod densenet;
pub mod efficientnet;
pub mod efficientnet_v2;
pub mod inception_resnet_v2;
pub mod inception_v1;
pub mod inception_v2;
pub mod inception_v3;
pub mod inception_v4;
pub mod mobilenet;
pub mod mobilenet_v2;
pub mod mobilenet_v3;
pub mod nasnet;
pub mod resnet;
pub mod resnet_v2;
mod slim;
mod top;
mod typed;
pub mod vgg;
pub mod xception;

pub use architecture::{Architecture, Settings, Size};
pub use typed::TypedNetwork;

use crate::{Graph, NetworkError};

/// The families' Burn modules, with typed settings.
pub mod networks {
    pub use super::convnext::{
        ConvNextBase, ConvNextBaseConfig, ConvNextLarge, ConvNextLargeConfig, ConvNextSmall,
        ConvNextSmallConfig, ConvNextTiny, ConvNextTinyConfig, ConvNextXLarge,
        ConvNextXLargeConfig,
    };
    pub use super::densenet::{
        DenseNet121, DenseNet121Config, DenseNet169, DenseNet169Config, DenseNet201,
        DenseNet201Config,
    };
    pub use super::efficientnet::{
        EfficientNetB0, EfficientNetB0Config, EfficientNetB1, EfficientNetB1Config, EfficientNetB2,
        EfficientNetB2Config, EfficientNetB3, EfficientNetB3Config, EfficientNetB4,
        EfficientNetB4Config, EfficientNetB5, EfficientNetB5Config, EfficientNetB6,
        EfficientNetB6Config, EfficientNetB7, EfficientNetB7Config,
    };
    pub use super::efficientnet_v2::{
        EfficientNetV2B0, EfficientNetV2B0Config, EfficientNetV2B1, EfficientNetV2B1Config,
        EfficientNetV2B2, EfficientNetV2B2Config, EfficientNetV2B3, EfficientNetV2B3Config,
        EfficientNetV2L, EfficientNetV2LConfig, EfficientNetV2M, EfficientNetV2MConfig,
        EfficientNetV2S, EfficientNetV2SConfig,
    };
    pub use super::inception_resnet_v2::{InceptionResNetV2, InceptionResNetV2Config};
    pub use super::inception_v1::{InceptionV1, InceptionV1Config};
    pub use super::inception_v2::{InceptionV2, InceptionV2Config};
    pub use super::inception_v3::{InceptionV3, InceptionV3Config};
    pub use super::inception_v4::{InceptionV4, InceptionV4Config};
    pub use super::mobilenet::{MobileNet, MobileNetConfig};
    pub use super::mobilenet_v2::{MobileNetV2, MobileNetV2Config};
    pub use super::mobilenet_v3::{
        MobileNetV3Large, MobileNetV3LargeConfig, MobileNetV3Small, MobileNetV3SmallConfig,
    };
    pub use super::nasnet::{NasNetLarge, NasNetLargeConfig, NasNetMobile, NasNetMobileConfig};
    pub use super::resnet::{
        ResNet50, ResNet50Config, ResNet101, ResNet101Config, ResNet152, ResNet152Config,
    };
    pub use super::resnet_v2::{
        ResNet50V2, ResNet50V2Config, ResNet101V2, ResNet101V2Config, ResNet152V2,
        ResNet152V2Config,
    };
    pub use super::vgg::{Vgg16, Vgg16Config, Vgg19, Vgg19Config};
    pub use super::xception::{Xception, XceptionConfig};
}

/// Every family.
pub static FAMILIES: &[&Family] = &[
    &mobilenet::FAMILY,
    &mobilenet_v2::FAMILY,
    &mobilenet_v3::SMALL,
    &mobilenet_v3::LARGE,
    &inception_v1::FAMILY,
    &inception_v2::FAMILY,
    &inception_v3::FAMILY,
    &inception_v4::FAMILY,
    &inception_resnet_v2::FAMILY,
    &xception::FAMILY,
    &vgg::VGG_16,
    &vgg::VGG_19,
    &resnet::RESNET_50,
    &resnet::RESNET_101,
    &resnet::RESNET_152,
    &resnet_v2::RESNET_50_V2,
    &resnet_v2::RESNET_101_V2,
    &resnet_v2::RESNET_152_V2,
    &densenet::DENSENET_121,
    &densenet::DENSENET_169,
    &densenet::DENSENET_201,
    &nasnet::MOBILE,
    &nasnet::LARGE,
    &efficientnet::B0,
    &efficientnet::B1,
    &efficientnet::B2,
    &efficientnet::B3,
    &efficientnet::B4,
    &efficientnet::B5,
    &efficientnet::B6,
    &efficientnet::B7,
    &efficientnet_v2::B0,
    &efficientnet_v2::B1,
    &efficientnet_v2::B2,
    &efficientnet_v2::B3,
    &efficientnet_v2::S,
    &efficientnet_v2::M,
    &efficientnet_v2::L,
    &convnext::TINY,
    &convnext::SMALL,
    &convnext::BASE,
    &convnext::LARGE,
    &convnext::XLARGE,
];

/// A family of networks.
pub struct Family {
    /// The name on the command line, in files and in documentation: `mobilenet-v2`.
    pub name: &'static str,
    /// The name in text: `MobileNetV2`.
    pub title: &'static str,
    /// Where it is described.
    pub paper: &'static str,
    /// Keras's source.
    pub source: &'static str,
    /// Height and width of the images that it was trained on, in pixels.
    pub default_size: usize,
    /// The least height and width that Keras allows.
    pub least_size: usize,
    /// The width multipliers for which Keras has weights, the first of them the one that is meant where nobody says;
    /// empty for a family without.
    pub alphas: &'static [f64],
    /// Whether there is a `minimalistic` form, without squeeze-and-excite blocks, hard swishes and 5x5 kernels.
    pub minimalistic: bool,
    /// Keras's mode of `preprocess_input`: `tf`, `caffe`, `torch`, or `none` where the network does it.
    pub preprocessing: &'static str,
    /// How many layers deep it is, as Keras's table counts.
    pub depth: Option<usize>,
    /// How well the published weights of the default settings do.
    pub accuracy: Option<Accuracy>,
    /// The published ImageNet weights of these settings, with the top or without; nothing where Keras has none.
    pub published: fn(&Settings) -> Option<Published>,
    /// The network, once the settings have been checked.
    pub build: fn(&Settings) -> Result<Graph, NetworkError>,
}

/// A file of ImageNet weights that Keras has published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Between the base address and the name; ends in a slash. Empty for files that are not beside the others, but at the
    /// top of a bucket of their own, `keras-applications`.
    pub folder: &'static str,
    /// The file's name, as Keras keeps it on the disk.
    pub file: String,
    /// Its name on the server, where that is another.
    pub remote: Option<String>,
    /// Its MD5 or, with 64 digits, its SHA-256, where Keras's source has one.
    pub hash: Option<&'static str>,
}

impl Published {
    /// The file under the name that most of Keras's networks use, and the hashes with the top and without.
    pub(crate) fn usual(
        settings: &Settings,
        folder: &'static str,
        network: &str,
        hashes: [&'static str; 2],
    ) -> Option<Self> {
        let ending = settings.by_top(["", "_notop"]);
        let file = format!("{network}_weights_tf_dim_ordering_tf_kernels{ending}.h5");
        Some(Self::new(folder, file, Some(settings.by_top(hashes))))
    }

    /// A file that has one name on the server and on the disk.
    #[must_use]
    pub fn new(folder: &'static str, file: String, hash: Option<&'static str>) -> Self {
        Self { folder, file, remote: None, hash }
    }

    /// What comes behind the base address.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}{}", self.folder, self.remote.as_ref().unwrap_or(&self.file))
    }
}

/// Accuracy on ImageNet's 50,000 validation images, in percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Accuracy {
    /// How often the class is the most probable one.
    pub top_1: f64,
    /// How often the class is one of the five most probable, where that is published.
    pub top_5: Option<f64>,
}

impl Accuracy {
    /// Both, as <https://keras.io/api/applications> has them.
    #[must_use]
    pub const fn new(top_1: f64, top_5: f64) -> Option<Self> {
        Some(Self { top_1, top_5: Some(top_5) })
    }
}

impl std::fmt::Debug for Family {
    /// By its name: the addresses of its functions differ from run to run.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Family").field(&self.name).finish()
    }
}

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Family {
    /// The family of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        FAMILIES.iter().copied().find(|family| family.name == name)
    }

    /// The names of all families.
    #[must_use]
    pub fn names() -> Vec<&'static str> {
        FAMILIES.iter().map(|family| family.name).collect()
    }

    /// Its default settings: no top.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            alpha: self.alphas.first().copied(),
            minimalistic: false,
            size: self.default_size.into(),
            channels: 3,
            classes: None,
        }
    }

    /// The model in the model that Keras has a layer in, which decides on where files of weights alone have it; nothing
    /// for most.
    #[must_use]
    pub fn model_of(&self, layer: &str) -> Option<String> {
        if self.source == convnext::SOURCE { convnext::model_of(layer) } else { None }
    }

    /// The network of these settings.
    ///
    /// # Errors
    /// When a setting is outside of what Keras allows.
    pub fn graph(&'static self, settings: &Settings) -> Result<Graph, NetworkError> {
        let wrong = |setting, found: String, expected: String| {
            Err(NetworkError::Setting { architecture: self.name, setting, found, expected })
        };
        match settings.alpha {
            Some(alpha) if self.alphas.is_empty() => {
                return wrong("alpha", alpha.to_string(), "none: it has one width".into());
            }
            Some(alpha) if !self.alphas.contains(&alpha) => {
                let mut known = self.alphas.to_vec();
                known.sort_by(f64::total_cmp);
                let known: Vec<String> = known.iter().map(|alpha| format!("{alpha:?}")).collect();
                return wrong("alpha", alpha.to_string(), format!("one of {}", known.join(", ")));
            }
            Some(_) | None => {}
        }
        if settings.minimalistic && !self.minimalistic {
            return wrong("minimalistic", "true".into(), "false: it has one form".into());
        }
        let [height, width] = settings.size.pixels();
        if height.min(width) < self.least_size {
            return wrong(
                "size",
                settings.size.to_string(),
                format!("at least {}", self.least_size),
            );
        }
        if settings.classes == Some(0) {
            return wrong("classes", "0".into(), "at least 1".into());
        }
        if settings.channels == 0 {
            return wrong("channels", "0".into(), "at least 1".into());
        }
        (self.build)(settings)
    }
}
