use burn::tensor::{DType, Tensor, backend::Backend};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Operation, first, one};
use crate::keras::{LayerConfig, config};
use crate::run::{Run, as_type};
use crate::{Features, NetworkError, Shape};

/// ONNX's `LRN`, local response normalization (Krizhevsky, Sutskever and Hinton 2012):
/// `x / (bias + alpha / size * sum)^beta`, with the sum of squares of the `size` channels around each.
///
/// Keras has no such layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lrn {
    /// How many channels count, the one in the middle too.
    pub size: usize,
    /// Multiplies their mean square.
    pub alpha: f64,
    /// The exponent.
    pub beta: f64,
    /// Added to the mean square.
    pub bias: f64,
}

impl Operation for Lrn {
    const CLASSES: &'static [&'static str] = &[];

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        Err(config.wrong("class_name", &config.class, "a layer of Keras"))
    }

    fn class(&self) -> &'static str {
        "LRN"
    }

    fn to_keras(&self) -> Map<String, Value> {
        config([
            ("size", self.size.into()),
            ("alpha", self.alpha.into()),
            ("beta", self.beta.into()),
            ("bias", self.bias.into()),
        ])
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        match one(inputs)? {
            map @ Shape::Map { .. } if self.size > 0 => Ok(map),
            Shape::Map { .. } => Err("a size from 1".into()),
            Shape::Flat(_) => Err("(None, height, width, channels)".into()),
        }
    }

    fn forward<B: Backend>(&self, _run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        let x = first(inputs).into_map();
        let dtype = x.dtype();
        let x = as_type(x, DType::F32);
        let dims @ [batch, channels, height, width] = x.dims();
        // Of an even size, the channel more is behind.
        let before = ((self.size - 1) / 2).min(channels);
        let after = (self.size / 2).min(channels);
        let zeros =
            |count: usize| Tensor::<B, 4>::zeros([batch, count, height, width], &x.device());
        let parts = [(before, None), (channels, Some(x.clone().square())), (after, None)];
        let parts = parts.into_iter().filter(|(count, _)| *count > 0);
        let square = Tensor::cat(
            parts.map(|(count, part)| part.unwrap_or_else(|| zeros(count))).collect(),
            1,
        );
        let shifted = (0..=before + after).map(|shift| square.clone().narrow(1, shift, channels));
        let sum = shifted.fold(Tensor::zeros(dims, &x.device()), |sum, next| sum + next);
        let scale = sum.mul_scalar(self.alpha / self.size as f64).add_scalar(self.bias);
        let scale = scale.powf_scalar(self.beta);
        Features::Map(as_type(x / scale, dtype))
    }
}
