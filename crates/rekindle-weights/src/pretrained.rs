use std::path::PathBuf;

use burn::tensor::backend::Backend;
use rekindle_nn::{
    Architecture, Backbone, InceptionV3, InceptionV3Config, MobileNetV2, MobileNetV2Config,
};

use crate::{Checkpoint, WeightsError, bundled, load};

/// Where the weights of a pre-trained network come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Weights {
    /// The small set inside the library (feature `bundled`): MobileNetV2 1.0, whose last 30 layers were
    /// tuned on 19 dog breeds and whose other layers are Keras's ImageNet weights.
    Demo,
    /// Keras's published weights, from the user's disk or downloaded to it (feature `download`); see
    /// [`Downloader`](crate::Downloader). Networks of another size than those they were trained at take the
    /// weights that Keras would.
    ImageNet,
    /// None: as Keras starts a network, to train all of it.
    Random,
    /// A file that [`Checkpoint::open`] reads.
    File(PathBuf),
}

impl Weights {
    /// Opens the file or the bundled weights for `architecture`.
    ///
    /// # Errors
    /// When they cannot be had or read.
    pub fn open(&self, architecture: &Architecture) -> Result<Checkpoint, WeightsError> {
        match self {
            Self::File(path) => Checkpoint::open(path),
            Self::Random => Err(WeightsError::Unavailable {
                architecture: architecture.to_string(),
                reason: "random weights are in no file".into(),
            }),
            #[cfg(feature = "download")]
            Self::ImageNet => {
                Checkpoint::open(crate::Downloader::default().imagenet(architecture)?)
            }
            #[cfg(not(feature = "download"))]
            Self::ImageNet => Err(WeightsError::Unavailable {
                architecture: architecture.to_string(),
                reason: "this program was built without the feature `download`".into(),
            }),
            Self::Demo => {
                let unavailable = |reason: &str| WeightsError::Unavailable {
                    architecture: architecture.to_string(),
                    reason: reason.into(),
                };
                let bytes = bundled::MOBILENET_V2.ok_or_else(|| {
                    unavailable("this program was built without the feature `bundled`")
                })?;
                match architecture {
                    Architecture::MobileNetV2(MobileNetV2Config {
                        alpha: 1.0,
                        classes: None,
                        ..
                    }) => Checkpoint::from_bytes(bytes, "the bundled MobileNetV2 weights"),
                    _ => Err(unavailable(
                        "the bundled weights are for mobilenet-v2 1.0 without top; give a file of Keras's weights",
                    )),
                }
            }
        }
    }

    /// The network, without top, with these weights; images of `size` pixels, or as the weights' own
    /// card says, or the architecture's default. A file may hold another width of the architecture.
    ///
    /// # Errors
    /// When the weights cannot be had, or are of another network.
    pub fn backbone<B: Backend>(
        &self,
        architecture: Architecture,
        size: Option<usize>,
        device: &B::Device,
    ) -> Result<Backbone<B>, WeightsError> {
        let wanted = size.map_or(architecture, |size| architecture.with_size(size));
        if *self == Self::Random {
            return Ok(wanted.with_top(None).init(device)?);
        }
        let mut checkpoint = self.open(&wanted)?.resolve::<B>(device)?;
        if let (None, Some(problem)) = (checkpoint.card(), checkpoint.problem()) {
            let reason = format!("holds no network that Rekindle knows: {problem}");
            return Err(WeightsError::format(checkpoint.path(), reason));
        }
        let found = checkpoint.card().map_or(architecture, |card| card.architecture);
        if found.name() != architecture.name() {
            let reason = format!("holds {found}, expected {}", architecture.name());
            return Err(WeightsError::format(checkpoint.path(), reason));
        }
        let found = found.with_top(None);
        let found = size.map_or(found, |size| found.with_size(size));
        let loaded = load(found.init(device)?, &found.to_string(), &mut checkpoint)?;
        Ok(loaded.network)
    }
}

/// Networks that come with weights: `MobileNetV2::<B>::pretrained(Weights::Demo, &device)`.
pub trait Pretrained<B: Backend>: Sized {
    /// The network without its top, ready to carry a new head.
    ///
    /// # Errors
    /// When the weights cannot be had, or are of another network.
    fn pretrained(weights: Weights, device: &B::Device) -> Result<Self, WeightsError>;
}

impl<B: Backend> Pretrained<B> for MobileNetV2<B> {
    fn pretrained(weights: Weights, device: &B::Device) -> Result<Self, WeightsError> {
        let architecture = Architecture::MobileNetV2(MobileNetV2Config::new());
        match weights.backbone(architecture, None, device)? {
            Backbone::MobileNetV2(network) => Ok(network),
            Backbone::InceptionV3(_) => unreachable!("`backbone` checks the architecture's name"),
        }
    }
}

impl<B: Backend> Pretrained<B> for InceptionV3<B> {
    fn pretrained(weights: Weights, device: &B::Device) -> Result<Self, WeightsError> {
        let architecture = Architecture::InceptionV3(InceptionV3Config::new());
        match weights.backbone(architecture, None, device)? {
            Backbone::InceptionV3(network) => Ok(network),
            Backbone::MobileNetV2(_) => unreachable!("`backbone` checks the architecture's name"),
        }
    }
}
