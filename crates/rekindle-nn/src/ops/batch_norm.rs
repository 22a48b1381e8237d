use burn::tensor::{DType, Tensor, backend::Backend};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Operation, axes, first, one};
use crate::keras::{LayerConfig, config};
use crate::onnx::{Attribute, OnnxLayer};
use crate::run::{Run, as_type, scaled};
use crate::tflite::{Compute, Fused, Operator, TensorId, TfliteLayer};
use crate::{Features, NetworkError, Shape, VariableSpec};

/// Keras's `BatchNormalization` over channels (Ioffe and Szegedy 2015).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchNorm {
    /// Share of the moving statistics that a training step keeps, as Keras counts it.
    pub momentum: f64,
    /// Added to the variance.
    pub epsilon: f64,
    /// Whether there is a beta, which is added.
    pub center: bool,
    /// Whether there is a gamma, which multiplies.
    pub scale: bool,
    /// Keras's axis: -1, or as a file has it 3 of maps and 1 of vectors.
    #[serde(default = "axes::last", skip_serializing_if = "axes::is_last")]
    pub axis: i64,
}

impl BatchNorm {
    /// Keras's settings: momentum 0.99, epsilon 1e-3, with beta and gamma.
    #[must_use]
    pub const fn new() -> Self {
        Self { momentum: 0.99, epsilon: 1e-3, center: true, scale: true, axis: -1 }
    }

    /// Share of the moving statistics that a training step keeps, as Keras counts it.
    #[must_use]
    pub const fn momentum(self, momentum: f64) -> Self {
        Self { momentum, ..self }
    }

    /// What is added to the variance.
    #[must_use]
    pub const fn epsilon(self, epsilon: f64) -> Self {
        Self { epsilon, ..self }
    }

    /// Whether there is a gamma.
    #[must_use]
    pub const fn scale(self, scale: bool) -> Self {
        Self { scale, ..self }
    }
}

impl Default for BatchNorm {
    fn default() -> Self {
        Self::new()
    }
}

impl Operation for BatchNorm {
    // TensorFlow 1's and the one for several devices are the same function at inference.
    const CLASSES: &'static [&'static str] =
        &["BatchNormalization", "BatchNormalizationV1", "SyncBatchNormalization"];

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        let axis = match config.integers("axis")?.as_deref() {
            None => -1,
            Some(&[axis]) => axis,
            Some(other) => return Err(config.wrong("axis", format!("{other:?}"), "one axis")),
        };
        for setting in ["renorm", "virtual_batch_size", "adjustment", "fused"] {
            match config.take(setting) {
                None | Some(Value::Bool(_)) if setting == "fused" => {}
                None | Some(Value::Bool(false)) => {}
                Some(found) => return Err(config.wrong(setting, found, "false")),
            }
        }
        // Without renorm nothing depends on its settings.
        for setting in ["renorm_clipping", "renorm_momentum"] {
            config.take(setting);
        }
        let plain = Self::new();
        Ok(Self {
            momentum: config.number("momentum")?.unwrap_or(plain.momentum),
            epsilon: config.number("epsilon")?.unwrap_or(plain.epsilon),
            center: config.flag("center")?.unwrap_or(true),
            scale: config.flag("scale")?.unwrap_or(true),
            axis,
        })
    }

    fn to_keras(&self) -> Map<String, Value> {
        config([
            ("axis", json!(-1)),
            ("momentum", self.momentum.into()),
            ("epsilon", self.epsilon.into()),
            ("center", self.center.into()),
            ("scale", self.scale.into()),
        ])
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let input = one(inputs)?;
        axes::channels(self.axis, input)?;
        Ok(input)
    }

    fn settle(&mut self, _inputs: &[Shape]) {
        self.axis = -1;
    }

    fn variables(&self, inputs: &[Shape]) -> Vec<VariableSpec> {
        let channels = inputs[0].channels();
        let gamma = self.scale.then(|| VariableSpec::vector("gamma", channels, 1.0, true));
        let beta = self.center.then(|| VariableSpec::vector("beta", channels, 0.0, true));
        let mean = VariableSpec::vector("moving_mean", channels, 0.0, false);
        let variance = VariableSpec::vector("moving_variance", channels, 1.0, false);
        gamma.into_iter().chain(beta).chain([mean, variance]).collect()
    }

    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
        let (x, channels) = (layer.input(), layer.shape().channels());
        let gamma = layer.variable_or("gamma", channels, 1.0);
        let beta = layer.variable_or("beta", channels, 0.0);
        let mean = layer.variable_or("moving_mean", channels, 0.0);
        let variance = layer.variable_or("moving_variance", channels, 1.0);
        let settings = vec![
            ("epsilon", Attribute::Float(self.epsilon as f32)),
            ("momentum", Attribute::Float(self.momentum as f32)),
        ];
        Ok(layer.node("BatchNormalization", &[&x, &gamma, &beta, &mean, &variance], settings))
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        let (x, channels) = (layer.input()?, [layer.shape().channels()]);
        // Variables come in the order of their names below, those that the layer has.
        let (scale_of, shift_of): (Compute, Compute) = match (self.scale, self.center) {
            (true, true) => (scaled_by_gamma, |of, epsilon| match of {
                [gamma, mean, variance, beta] => {
                    shifts(mean, variance, epsilon, Some(gamma), Some(beta))
                }
                _ => Vec::new(),
            }),
            (true, false) => (scaled_by_gamma, |of, epsilon| match of {
                [gamma, mean, variance] => shifts(mean, variance, epsilon, Some(gamma), None),
                _ => Vec::new(),
            }),
            (false, true) => (scaled_alone, |of, epsilon| match of {
                [mean, variance, beta] => shifts(mean, variance, epsilon, None, Some(beta)),
                _ => Vec::new(),
            }),
            (false, false) => (scaled_alone, |of, epsilon| match of {
                [mean, variance] => shifts(mean, variance, epsilon, None, None),
                _ => Vec::new(),
            }),
        };
        let names = ["gamma", "moving_mean", "moving_variance", "beta"];
        let scale = layer.computed("scale", &names, &channels, self.epsilon, scale_of);
        let shift = layer.computed("shift", &names, &channels, self.epsilon, shift_of);
        let x = layer.two(Operator::Mul(Fused::None), x, scale);
        Ok(layer.two(Operator::Add(Fused::None), x, shift))
    }

    fn forward<B: Backend>(&self, run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        let x = first(inputs);
        let (mean, variance) = if run.is_live() {
            let (mean, variance) = statistics(&x);
            for (moving, batch) in [("moving_mean", &mean), ("moving_variance", &variance)] {
                run.follow(moving, batch, self.momentum);
            }
            (mean, variance)
        } else {
            (run.parameter::<1>("moving_mean"), run.parameter::<1>("moving_variance"))
        };
        let scale = variance.add_scalar(self.epsilon).sqrt().recip();
        let scale = match run.find::<1>("gamma") {
            Some(gamma) => scale * gamma,
            None => scale,
        };
        let shift = (mean * scale.clone()).neg();
        let shift = match run.find::<1>("beta") {
            Some(beta) => beta + shift,
            None => shift,
        };
        scaled(x, scale, shift)
    }
}

fn scaled_by_gamma(of: &[&[f32]], epsilon: f64) -> Vec<f32> {
    match of {
        [gamma, _, variance, ..] => scales(variance, epsilon, Some(gamma)),
        _ => Vec::new(),
    }
}

fn scaled_alone(of: &[&[f32]], epsilon: f64) -> Vec<f32> {
    match of {
        [_, variance, ..] => scales(variance, epsilon, None),
        _ => Vec::new(),
    }
}

/// What each channel is multiplied with.
fn scales(variance: &[f32], epsilon: f64, gamma: Option<&[f32]>) -> Vec<f32> {
    exact_scales(variance, epsilon, gamma).map(|scale| scale as f32).collect()
}

/// What is added to each channel then.
fn shifts(
    mean: &[f32],
    variance: &[f32],
    epsilon: f64,
    gamma: Option<&[f32]>,
    beta: Option<&[f32]>,
) -> Vec<f32> {
    let scales = exact_scales(variance, epsilon, gamma).zip(mean).enumerate();
    let shift = |(place, (scale, &mean)): (usize, (f64, &f32))| {
        let beta = beta.and_then(|beta| beta.get(place)).copied().unwrap_or(0.0);
        (f64::from(beta) - f64::from(mean) * scale) as f32
    };
    scales.map(shift).collect()
}

fn exact_scales(
    variance: &[f32],
    epsilon: f64,
    gamma: Option<&[f32]>,
) -> impl Iterator<Item = f64> {
    variance.iter().enumerate().map(move |(place, &variance)| {
        let gamma = gamma.and_then(|gamma| gamma.get(place)).copied().unwrap_or(1.0);
        f64::from(gamma) / (f64::from(variance) + epsilon).sqrt()
    })
}

/// Mean and biased variance of each channel of a batch.
fn statistics<B: Backend>(x: &Features<B>) -> (Tensor<B, 1>, Tensor<B, 1>) {
    // [channels, values]; a half has too few bits for sums and squares.
    let rows: Tensor<B, 2> = match x {
        Features::Map(x) => x.clone().permute([1, 0, 2, 3]).flatten(1, 3),
        Features::Flat(x) => x.clone().transpose(),
    };
    let rows = as_type(rows, DType::F32);
    let channels = rows.dims()[0];
    let mean = rows.clone().mean_dim(1);
    let variance = (rows - mean.clone()).square().mean_dim(1);
    (mean.reshape([channels]), variance.reshape([channels]))
}
