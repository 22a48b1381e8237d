use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Operation, first, one};
use crate::keras::{LayerConfig, config};
use crate::onnx::OnnxLayer;
use crate::run::{Run, scaled};
use crate::tflite::{Fused, Operator, TensorId, TfliteLayer};
use crate::{Features, NetworkError, Shape};

/// Keras's `Rescaling`: `x * scale + offset`, the same for all channels or by channel; and what operators with
/// constants come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rescaling {
    /// Multiplies; one number, or one for each channel.
    pub scale: Vec<f64>,
    /// Is added then; one number, or one for each channel.
    pub offset: Vec<f64>,
}

impl Rescaling {
    /// The same for all channels.
    #[must_use]
    pub fn new(scale: f64, offset: f64) -> Self {
        Self { scale: vec![scale], offset: vec![offset] }
    }

    /// Scale and offset of each of `channels`.
    #[must_use]
    pub fn by_channel(&self, channels: usize) -> Vec<(f64, f64)> {
        let at = |values: &[f64], channel: usize| {
            *values.get(channel).or(values.first()).unwrap_or(&0.0)
        };
        (0..channels).map(|channel| (at(&self.scale, channel), at(&self.offset, channel))).collect()
    }
}

impl Operation for Rescaling {
    const CLASSES: &'static [&'static str] = &["Rescaling"];

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        let scale = config.numbers("scale")?.unwrap_or_else(|| vec![1.0]);
        let offset = config.numbers("offset")?.unwrap_or_else(|| vec![0.0]);
        Ok(Self { scale, offset })
    }

    fn to_keras(&self) -> Map<String, Value> {
        let written = |values: &[f64]| match values {
            [one] => json!(one),
            more => json!(more),
        };
        config([("scale", written(&self.scale)), ("offset", written(&self.offset))])
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let input = one(inputs)?;
        for values in [&self.scale, &self.offset] {
            if values.len() != 1 && values.len() != input.channels() {
                return Err(format!("{} channels", values.len()));
            }
        }
        Ok(input)
    }

    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
        let x = layer.input();
        let write = |layer: &mut OnnxLayer<'_>, x: &str| {
            let mut y = x.to_owned();
            if self.scale.iter().any(|&scale| scale != 1.0) {
                let scale = layer.by_channel("scale", &self.scale);
                y = layer.plain("Mul", &[&y, &scale]);
            }
            if self.offset.iter().any(|&offset| offset != 0.0) {
                let offset = layer.by_channel("offset", &self.offset);
                y = layer.plain("Add", &[&y, &offset]);
            }
            Ok(y)
        };
        // What a half has as a normal number.
        let fits = |&value: &f64| value == 0.0 || (6.2e-5..65504.0).contains(&value.abs());
        if self.scale.iter().chain(&self.offset).all(fits) {
            return write(layer, &x);
        }
        layer.in_full(&x, write)
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        let mut y = layer.input()?;
        if self.scale.iter().any(|&scale| scale != 1.0) {
            let scale = layer.by_channel("scale", &self.scale);
            y = layer.two(Operator::Mul(Fused::None), y, scale);
        }
        if self.offset.iter().any(|&offset| offset != 0.0) {
            let offset = layer.by_channel("offset", &self.offset);
            y = layer.two(Operator::Add(Fused::None), y, offset);
        }
        Ok(y)
    }

    fn forward<B: Backend>(&self, _run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        let x = first(inputs);
        if let ([scale], [offset]) = (self.scale.as_slice(), self.offset.as_slice()) {
            return x.map(
                |x| x.mul_scalar(*scale).add_scalar(*offset),
                |x| x.mul_scalar(*scale).add_scalar(*offset),
            );
        }
        let device = x.device();
        let (scale, offset): (Vec<f64>, Vec<f64>) =
            self.by_channel(x.shape().channels()).into_iter().unzip();
        let vector = |values: Vec<f64>| Tensor::<B, 1>::from_floats(values.as_slice(), &device);
        scaled(x, vector(scale), vector(offset))
    }
}
