use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Operation, first, one};
use crate::keras::{LayerConfig, config};
use crate::run::{Run, scaled};
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
