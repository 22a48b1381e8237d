use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Operation, first, one};
use crate::keras::LayerConfig;
use crate::onnx::OnnxLayer;
use crate::run::Run;
use crate::tflite::{TensorId, TfliteLayer};
use crate::{Features, NetworkError, Shape};

/// Keras's `Identity`, and layers that do nothing but in Keras's own training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {}

impl Operation for Identity {
    const CLASSES: &'static [&'static str] = &["Identity"];

    fn from_keras(_config: &mut LayerConfig) -> Result<Self, NetworkError> {
        Ok(Self {})
    }

    fn to_keras(&self) -> Map<String, Value> {
        Map::new()
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        one(inputs)
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
