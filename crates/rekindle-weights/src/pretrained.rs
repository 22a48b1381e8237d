use std::path::PathBuf;

use burn::tensor::backend::Backend;
use rekindle_nn::{Architecture, Network, Shape, TypedNetwork};

use crate::{Checkpoint, ModelCard, WeightsError, bundled, load};

/// Where the weights of a pre-trained network come from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
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
    /// What is at hand for a network where nobody says: the bundled weights if they are its own, else Keras's.
    #[must_use]
    pub fn at_hand(architecture: &Architecture) -> Self {
        if bundled::MOBILENET_V2.is_some() && is_bundled(architecture) {
            Self::Demo
        } else {
            Self::ImageNet
        }
    }

    /// Opens the file or the bundled weights for `architecture`.
    ///
    /// # Errors
    /// When they cannot be had or read.
    pub fn open(&self, architecture: &Architecture) -> Result<Checkpoint, WeightsError> {
        let unavailable = |reason: &str| WeightsError::Unavailable {
            architecture: architecture.to_string(),
            reason: reason.into(),
        };
        match self {
            Self::File(path) => Checkpoint::open(path),
            Self::Random => Err(unavailable("random weights are in no file")),
            #[cfg(feature = "download")]
            Self::ImageNet => {
                Checkpoint::open(crate::Downloader::default().imagenet(architecture)?)
            }
            #[cfg(not(feature = "download"))]
            Self::ImageNet => {
                Err(unavailable("this program was built without the feature `download`"))
            }
            Self::Demo => {
                let bytes = bundled::MOBILENET_V2.ok_or_else(|| {
                    unavailable("this program was built without the feature `bundled`")
                })?;
                if !is_bundled(architecture) {
                    return Err(unavailable(
                        "the bundled weights are for mobilenet-v2 1.0 without top; give a file of Keras's weights",
                    ));
                }
                Checkpoint::from_bytes(bytes, "the bundled MobileNetV2 weights")
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
    ) -> Result<Network<B>, WeightsError> {
        Ok(self.backbone_with_card(architecture, size, device)?.0)
    }

    /// The same, and what the file says of itself: how it takes photos, for one. Random weights have no file.
    ///
    /// # Errors
    /// As [`backbone`](Self::backbone).
    pub fn backbone_with_card<B: Backend>(
        &self,
        architecture: Architecture,
        size: Option<usize>,
        device: &B::Device,
    ) -> Result<(Network<B>, Option<ModelCard>), WeightsError> {
        let wanted = size.map_or(architecture, |size| architecture.with_size(size));
        if *self == Self::Random {
            return Ok((wanted.with_top(None).init(device)?, None));
        }
        let size = size.map(|size| [size, size]);
        let mut checkpoint = self.open(&wanted)?.resolve_as(size, Some(&architecture))?;
        if let (None, Some(problem)) = (checkpoint.card(), checkpoint.problem()) {
            let reason = format!("holds no network that Rekindle knows: {problem}");
            return Err(WeightsError::format(checkpoint.path(), reason));
        }
        if checkpoint.card().is_some_and(|card| card.quantization.is_some()) {
            let reason = "holds a quantized model, whose weights are bytes and cannot be trained further; train from the model that it was made of, and quantize the result with `rekindle quantize`";
            return Err(WeightsError::format(checkpoint.path(), reason));
        }
        let graph = match checkpoint.card() {
            Some(card) => card.graph.without_head(),
            None => architecture.with_top(None).graph()?,
        };
        let found = graph.base().architecture;
        if found.is_none_or(|found| found.name() != architecture.name()) {
            let found = found
                .map_or("a network that Rekindle does not know".into(), |found| found.to_string());
            let reason = format!("holds {found}, expected {}", architecture.name());
            return Err(WeightsError::format(checkpoint.path(), reason));
        }
        let graph = match size {
            Some([height, width]) => {
                graph.with_input(Shape::map(height, width, graph.input().channels()))?
            }
            None => graph,
        };
        let name = graph.base().architecture.map_or_else(String::new, |found| found.to_string());
        let network = load(Network::init(graph, 0, device), &name, &mut checkpoint)?.network;
        Ok((network, checkpoint.card().cloned()))
    }
}

fn is_bundled(architecture: &Architecture) -> bool {
    architecture.name() == "mobilenet-v2"
        && architecture.settings.alpha == Some(1.0)
        && architecture.settings.channels == 3
        && architecture.classes().is_none()
}

/// Networks that come with weights: `MobileNetV2::<B>::pretrained(Weights::Demo, &device)`.
pub trait Pretrained<B: Backend>: Sized {
    /// The network without its top, ready to carry a new head.
    ///
    /// # Errors
    /// When the weights cannot be had, or are of another network.
    fn pretrained(weights: Weights, device: &B::Device) -> Result<Self, WeightsError>;
}

impl<B: Backend, N: TypedNetwork<B>> Pretrained<B> for N {
    fn pretrained(weights: Weights, device: &B::Device) -> Result<Self, WeightsError> {
        let network = weights.backbone::<B>(Architecture::new(N::FAMILY), None, device)?;
        Ok(N::try_from(network)?)
    }
}
