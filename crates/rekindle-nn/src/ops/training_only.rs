use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Operation, first, one};
use crate::keras::LayerConfig;
use crate::onnx::OnnxLayer;
use crate::run::Run;
use crate::tflite::{TensorId, TfliteLayer};
use crate::{Features, NetworkError, Shape};

/// Keras's layers that change nothing but while Keras trains: those that augment images, and a loss on activations.
///
/// Nothing of it is done here, in training neither: whoever trains says so
/// ([`Op::trains_as_keras`](crate::Op::trains_as_keras)). The settings are kept as they are, so that Keras gets them back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingOnly {
    /// Keras's class, one of [`Operation::CLASSES`].
    pub class: String,
    /// Keras's settings of it.
    pub settings: Map<String, Value>,
}

impl Operation for TrainingOnly {
    const CLASSES: &'static [&'static str] = &[
        "RandomFlip",
        "RandomRotation",
        "RandomZoom",
        "RandomTranslation",
        "RandomShear",
        "RandomPerspective",
        "RandomElasticTransform",
        "RandomHeight",
        "RandomWidth",
        "RandomContrast",
        "RandomBrightness",
        "RandomHue",
        "RandomSaturation",
        "RandomSharpness",
        "RandomColorDegeneration",
        "RandomColorJitter",
        "RandomErasing",
        "RandomGaussianBlur",
        "RandomGrayscale",
        "RandomInvert",
        "RandomPosterization",
        "Solarization",
        "RandAugment",
        "AugMix",
        "CutMix",
        "MixUp",
        "ActivityRegularization",
    ];

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        Ok(Self { class: config.class.clone(), settings: config.rest() })
    }

    fn class(&self) -> &'static str {
        let known = Self::CLASSES.iter().find(|class| **class == self.class);
        known.copied().unwrap_or(Self::CLASSES[0])
    }

    fn to_keras(&self) -> Map<String, Value> {
        self.settings.clone()
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        if !Self::CLASSES.contains(&self.class.as_str()) {
            let known = Self::CLASSES.join(", ");
            return Err(format!("one of Keras's classes {known}, not {}", self.class));
        }
        one(inputs)
    }

    fn trains_as_keras(&self) -> bool {
        false
    }

    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
        Ok(layer.input())
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        layer.input()
    }

    fn forward<B: Backend>(&self, _run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        first(inputs)
    }
}
