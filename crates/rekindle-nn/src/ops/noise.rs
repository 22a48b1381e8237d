use burn::tensor::{Tensor, TensorData, backend::Backend};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::dropout::{is_rate, rate};
use super::{Operation, first, one};
use crate::activation::SELU;
use crate::keras::{LayerConfig, config};
use crate::onnx::OnnxLayer;
use crate::run::{Run, as_type};
use crate::tflite::{TensorId, TfliteLayer};
use crate::{Features, NetworkError, Shape};

/// Keras's `SpatialDropout2D`, `Dropout` with a `noise_shape`, and ConvNeXt's `StochasticDepth`: as
/// [`Dropout`](super::Dropout), but values along some axes are dropped together or not at all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedDropout {
    /// The share of values that is dropped.
    pub rate: f64,
    /// Keras's `noise_shape` without the batch: 1 along axes whose values are dropped together, their size or nothing
    /// along others.
    pub noise_shape: Vec<Option<usize>>,
}

impl SharedDropout {
    /// Whole channels are dropped: Keras's `SpatialDropout2D`.
    #[must_use]
    pub fn of_channels(rate: f64) -> Self {
        Self { rate, noise_shape: vec![Some(1), Some(1), None] }
    }

    /// Whole samples are dropped: stochastic depth, where a block's answer is added to its input.
    #[must_use]
    pub fn of_samples(rate: f64) -> Self {
        Self { rate, noise_shape: vec![Some(1); 3] }
    }

    /// The shape of what is drawn for one sample.
    fn drawn(&self, input: Shape) -> Result<Shape, String> {
        let sizes = match input {
            Shape::Map { height, width, channels } => vec![height, width, channels],
            Shape::Flat(count) => vec![count],
        };
        let fits = sizes.len() == self.noise_shape.len();
        let sizes: Option<Vec<usize>> = sizes
            .into_iter()
            .zip(&self.noise_shape)
            .map(|(size, drawn)| match *drawn {
                None => Some(size),
                Some(1) => Some(1),
                Some(other) => (other == size).then_some(size),
            })
            .collect();
        match sizes.as_deref() {
            Some(&[height, width, channels]) if fits => Ok(Shape::map(height, width, channels)),
            Some(&[count]) if fits => Ok(Shape::Flat(count)),
            _ => {
                let size = |size: &Option<usize>| size.map_or("None".into(), |n| n.to_string());
                let shape: Vec<String> = self.noise_shape.iter().map(size).collect();
                Err(format!("what a noise of [None, {}] stretches over", shape.join(", ")))
            }
        }
    }
}

impl Operation for SharedDropout {
    const CLASSES: &'static [&'static str] = &["SpatialDropout2D", "StochasticDepth"];

    fn is_keras(config: &LayerConfig) -> bool {
        Self::CLASSES.contains(&config.class.as_str())
            || (config.class == "Dropout" && config.has("noise_shape"))
    }

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        match config.class.as_str() {
            "SpatialDropout2D" => {
                config.channels_last()?;
                // Keras 2 writes the setting of the layer that it is derived from, which it does not look at.
                config.take("noise_shape");
                Ok(Self::of_channels(rate(config, "rate")?))
            }
            "StochasticDepth" => Ok(Self::of_samples(rate(config, "drop_path_rate")?)),
            _ => {
                let expected = "nothing for the batch, then sizes of 1, their own or nothing";
                let found = config.take("noise_shape").unwrap_or_default();
                let size = |value: &Value| match value {
                    Value::Null => Some(None),
                    other => other.as_u64().and_then(|size| usize::try_from(size).ok()).map(Some),
                };
                let noise_shape: Option<Vec<_>> = match found.as_array().map(Vec::as_slice) {
                    Some([Value::Null, rest @ ..]) => rest.iter().map(size).collect(),
                    _ => None,
                };
                let Some(noise_shape) = noise_shape else {
                    return Err(config.wrong("noise_shape", found, expected));
                };
                Ok(Self { rate: rate(config, "rate")?, noise_shape })
            }
        }
    }

    fn class(&self) -> &'static str {
        match self.noise_shape[..] {
            [Some(1), Some(1), None] => "SpatialDropout2D",
            _ => "Dropout",
        }
    }

    fn to_keras(&self) -> Map<String, Value> {
        match self.noise_shape[..] {
            [Some(1), Some(1), None] => {
                config([("rate", self.rate.into()), ("data_format", "channels_last".into())])
            }
            _ => {
                let shape: Vec<_> = [None].into_iter().chain(self.noise_shape.clone()).collect();
                config([("rate", self.rate.into()), ("noise_shape", json!(shape))])
            }
        }
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let input = one(inputs)?;
        is_rate(self.rate)?;
        self.drawn(input)?;
        Ok(input)
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
        let drawn = self
            .drawn(x.shape())
            .unwrap_or_else(|error| unreachable!("output refuses other inputs: {error}"));
        let Some(mask) = run.dropout_mask(self.rate, x.batch(), drawn.count()) else { return x };
        with(x, mask, drawn, |x, mask| x * mask, |x, mask| x * mask)
    }
}

/// What two functions make of values and of random ones that stretch over them.
fn with<B: Backend>(
    x: Features<B>,
    random: Vec<f32>,
    drawn: Shape,
    on_map: impl FnOnce(Tensor<B, 4>, Tensor<B, 4>) -> Tensor<B, 4>,
    on_flat: impl FnOnce(Tensor<B, 2>, Tensor<B, 2>) -> Tensor<B, 2>,
) -> Features<B> {
    let batch = x.batch();
    match (x, drawn) {
        (Features::Map(x), Shape::Map { height, width, channels }) => {
            let random = TensorData::new(random, [batch, channels, height, width]);
            let random = as_type(Tensor::from_data(random, &x.device()), x.dtype());
            Features::Map(on_map(x, random))
        }
        (Features::Flat(x), Shape::Flat(count)) => {
            let random = TensorData::new(random, [batch, count]);
            let random = as_type(Tensor::from_data(random, &x.device()), x.dtype());
            Features::Flat(on_flat(x, random))
        }
        (Features::Map(_), Shape::Flat(_)) | (Features::Flat(_), Shape::Map { .. }) => {
            unreachable!("what is drawn has the axes of the input")
        }
    }
}

/// Which noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoiseKind {
    /// Keras's `AlphaDropout` (Klambauer et al. 2017): some values become SELU's least one, and all are scaled so that
    /// mean and variance stay.
    AlphaDropout,
    /// Keras's `GaussianDropout`: values times normal ones around 1, which deviate as dropout's do.
    GaussianDropout,
    /// Keras's `GaussianNoise`: normal values are added.
    GaussianNoise,
}

/// Keras's noise layers, which do nothing but in training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Noise {
    /// Which noise.
    pub kind: NoiseKind,
    /// The share that is dropped; for `GaussianNoise` the deviation.
    pub amount: f64,
}

impl Operation for Noise {
    const CLASSES: &'static [&'static str] = &["AlphaDropout", "GaussianDropout", "GaussianNoise"];

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        if let Some(shape) = config.take("noise_shape") {
            return Err(config.wrong("noise_shape", shape, "nothing"));
        }
        Ok(match config.class.as_str() {
            "AlphaDropout" => Self { kind: NoiseKind::AlphaDropout, amount: rate(config, "rate")? },
            "GaussianDropout" => {
                Self { kind: NoiseKind::GaussianDropout, amount: rate(config, "rate")? }
            }
            _ => {
                let amount = config.number("stddev")?.unwrap_or(0.0);
                if amount < 0.0 {
                    return Err(config.wrong("stddev", amount, "a number from 0"));
                }
                Self { kind: NoiseKind::GaussianNoise, amount }
            }
        })
    }

    fn class(&self) -> &'static str {
        match self.kind {
            NoiseKind::AlphaDropout => "AlphaDropout",
            NoiseKind::GaussianDropout => "GaussianDropout",
            NoiseKind::GaussianNoise => "GaussianNoise",
        }
    }

    fn to_keras(&self) -> Map<String, Value> {
        match self.kind {
            NoiseKind::AlphaDropout | NoiseKind::GaussianDropout => {
                config([("rate", self.amount.into())])
            }
            NoiseKind::GaussianNoise => config([("stddev", self.amount.into())]),
        }
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        match self.kind {
            NoiseKind::AlphaDropout | NoiseKind::GaussianDropout => is_rate(self.amount)?,
            NoiseKind::GaussianNoise => {}
        }
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
        if self.amount <= 0.0 {
            return x;
        }
        let (rate, shape) = (self.amount, x.shape());
        let (samples, count) = (x.batch(), shape.count());
        match self.kind {
            NoiseKind::AlphaDropout => {
                let Some(mask) = run.dropout_mask(rate, samples, count) else { return x };
                let kept = mask.into_iter().map(|mask| f32::from(u8::from(mask > 0.0))).collect();
                let (scale, alpha) = SELU;
                let least = -alpha * scale;
                let a = ((1.0 - rate) * (1.0 + rate * least * least)).powf(-0.5);
                let b = -a * least * rate;
                // a * (x * kept + least * (1 - kept)) + b, which is a * kept * (x - least) + (a * least + b).
                let end = a * least + b;
                with(
                    x,
                    kept,
                    shape,
                    |x, kept| (x.sub_scalar(least) * kept).mul_scalar(a).add_scalar(end),
                    |x, kept| (x.sub_scalar(least) * kept).mul_scalar(a).add_scalar(end),
                )
            }
            NoiseKind::GaussianDropout => {
                let Some(noise) = run.normal_noise(samples, count) else { return x };
                let deviation = (rate / (1.0 - rate)).sqrt() as f32;
                let noise = noise.into_iter().map(|value| 1.0 + deviation * value).collect();
                with(x, noise, shape, |x, noise| x * noise, |x, noise| x * noise)
            }
            NoiseKind::GaussianNoise => {
                let Some(noise) = run.normal_noise(samples, count) else { return x };
                let noise = noise.into_iter().map(|value| rate as f32 * value).collect();
                with(x, noise, shape, |x, noise| x + noise, |x, noise| x + noise)
            }
        }
    }
}
