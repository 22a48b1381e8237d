use rekindle_nn::{Architecture, HeadConfig};
use serde::{Deserialize, Serialize};

/// What a file of ours says about its weights, as JSON in the safetensors metadata under `rekindle`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// The version of this layout; this is 1.
    pub format: u32,
    /// The network and its settings.
    pub architecture: Architecture,
    /// What stands on the network, if it was re-trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<HeadConfig>,
    /// The names of the classes, in the order of the outputs; empty for a network without top.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// Keras's mode of `preprocess_input`: `tf`, `caffe`, `torch` or `none`.
    pub preprocessing: String,
    /// How photos are resized: `nearest`, `bilinear` or `tf-bilinear`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<String>,
    /// Whether the normalizations are folded into the convolutions, as ONNX's exporters do: for inference, and
    /// as a frozen network, all is the same, but the statistics of the training are gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub folded: bool,
    /// What the weights are.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Where they come from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Their licence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub licence: String,
}

impl ModelCard {
    /// The version that this library writes.
    pub const FORMAT: u32 = 1;

    /// A card that names the architecture only, with the preprocessing of Keras's network.
    #[must_use]
    pub fn new(architecture: Architecture) -> Self {
        let preprocessing = match architecture {
            Architecture::MobileNetV2(_) | Architecture::InceptionV3(_) => "tf",
        };
        Self {
            format: Self::FORMAT,
            architecture,
            head: None,
            classes: Vec::new(),
            preprocessing: preprocessing.into(),
            resize: None,
            folded: false,
            description: String::new(),
            source: String::new(),
            licence: String::new(),
        }
    }
}
