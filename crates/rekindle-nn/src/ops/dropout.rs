use burn::tensor::{Tensor, TensorData, backend::Backend};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Operation, first, one};
use crate::keras::{LayerConfig, config};
use crate::onnx::OnnxLayer;
use crate::run::{Run, as_type};
use crate::tflite::{TensorId, TfliteLayer};
use crate::{Features, NetworkError, Shape};

/// Keras's `Dropout`: while training, zeros at random, and what is left divided by the share that is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// The share of values that is dropped.
    pub rate: f64,
}

/// Reads a rate of noise, from 0 to less than 1.
pub(super) fn rate(config: &mut LayerConfig, setting: &str) -> Result<f64, NetworkError> {
    let rate = config.number(setting)?.unwrap_or(0.0);
    if !(0.0..1.0).contains(&rate) {
        return Err(config.wrong(setting, rate, "from 0 to less than 1"));
    }
    Ok(rate)
}

/// Sees that a rate of noise is from 0 to less than 1, also one that no Keras file says.
pub(super) fn is_rate(rate: f64) -> Result<(), String> {
    if (0.0..1.0).contains(&rate) {
        return Ok(());
    }
    Err(format!("a rate from 0 to less than 1, not {rate}"))
}

impl Operation for Dropout {
    const CLASSES: &'static [&'static str] = &["Dropout"];

    fn is_keras(config: &LayerConfig) -> bool {
        config.class == "Dropout" && !config.has("noise_shape")
    }

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        Ok(Self { rate: rate(config, "rate")? })
    }

    fn to_keras(&self) -> Map<String, Value> {
        config([("rate", self.rate.into())])
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        is_rate(self.rate)?;
        one(inputs)
    }

    fn is_random(&self) -> bool {
        true
    }

    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
        Ok(layer.input())
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        layer.input()
    }

    fn forward<B: Backend>(&self, run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        let x = first(inputs);
        let (samples, count) = (x.batch(), x.shape().count());
        let Some(mask) = run.dropout_mask(self.rate, samples, count) else { return x };
        match x {
            Features::Map(x) => {
                let mask = Tensor::from_data(TensorData::new(mask, x.dims()), &x.device());
                Features::Map(x.clone() * as_type(mask, x.dtype()))
            }
            Features::Flat(x) => {
                let mask = Tensor::from_data(TensorData::new(mask, x.dims()), &x.device());
                Features::Flat(x.clone() * as_type(mask, x.dtype()))
            }
        }
    }
}
