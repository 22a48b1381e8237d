use burn::tensor::{DType, backend::Backend};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::axes::{as_maps, stretch};
use super::layer_norm::normalized;
use super::{Operation, axes, first, one};
use crate::keras::{LayerConfig, config};
use crate::onnx::{Attribute, OnnxLayer};
use crate::run::{Run, as_type};
use crate::tflite::{TensorId, TfliteLayer};
use crate::{Features, NetworkError, Shape, VariableSpec};

/// Keras's `GroupNormalization` over channels (Wu and He 2018): mean 0 and variance 1 for each group of channels of each
/// sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupNorm {
    /// How many groups; nothing for one of each channel, Keras's -1.
    pub groups: Option<usize>,
    /// Added to the variance.
    pub epsilon: f64,
    /// Whether there is a beta, which is added.
    pub center: bool,
    /// Whether there is a gamma, which multiplies.
    pub scale: bool,
    /// Keras's axis of channels: -1, or as a file has it 3 of maps and 1 of vectors.
    pub axis: i64,
}

impl GroupNorm {
    /// With Keras's epsilon of 1e-3, beta and gamma.
    #[must_use]
    pub const fn new(groups: usize) -> Self {
        Self { groups: Some(groups), epsilon: 1e-3, center: true, scale: true, axis: -1 }
    }
}

impl Operation for GroupNorm {
    const CLASSES: &'static [&'static str] = &["GroupNormalization"];

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        let groups = match config.integers("groups")?.as_deref() {
            None => Some(32),
            Some([-1]) => None,
            Some(&[groups]) if groups > 0 => usize::try_from(groups).ok(),
            Some(other) => {
                return Err(config.wrong("groups", format!("{other:?}"), "from 1, or -1"));
            }
        };
        let axis = match config.integers("axis")?.as_deref() {
            None => -1,
            Some(&[axis]) => axis,
            Some(other) => return Err(config.wrong("axis", format!("{other:?}"), "one axis")),
        };
        Ok(Self {
            groups,
            epsilon: config.number("epsilon")?.unwrap_or(1e-3),
            center: config.flag("center")?.unwrap_or(true),
            scale: config.flag("scale")?.unwrap_or(true),
            axis,
        })
    }

    fn to_keras(&self) -> Map<String, Value> {
        config([
            ("groups", self.groups.map_or(json!(-1), |groups| json!(groups))),
            ("axis", json!(self.axis)),
            ("epsilon", self.epsilon.into()),
            ("center", self.center.into()),
            ("scale", self.scale.into()),
        ])
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let input = one(inputs)?;
        axes::channels(self.axis, input)?;
        match self.groups {
            Some(groups) if groups == 0 || !input.channels().is_multiple_of(groups) => {
                Err(format!("channels that {groups} groups divide"))
            }
            _ => Ok(input),
        }
    }

    fn settle(&mut self, _inputs: &[Shape]) {
        self.axis = -1;
    }

    fn variables(&self, inputs: &[Shape]) -> Vec<VariableSpec> {
        let channels = inputs[0].channels();
        let gamma = self.scale.then(|| VariableSpec::vector("gamma", channels, 1.0, true));
        let beta = self.center.then(|| VariableSpec::vector("beta", channels, 0.0, true));
        gamma.into_iter().chain(beta).collect()
    }

    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
        let (x, shape) = (layer.input(), layer.shape());
        let groups = self.groups.unwrap_or_else(|| shape.channels());
        // Each group is a channel meanwhile, all of whose values follow each other.
        let rows = layer.reshaped(&x, &[groups as i64, -1]);
        let ones = layer.floats("ones", vec![groups], vec![1.0; groups]);
        let zeros = layer.floats("zeros", vec![groups], vec![0.0; groups]);
        let epsilon = vec![("epsilon", Attribute::Float(self.epsilon as f32))];
        let rows = layer.node("InstanceNormalization", &[&rows, &ones, &zeros], epsilon);
        let extents = match shape {
            Shape::Map { height, width, channels } => vec![channels, height, width],
            Shape::Flat(count) => vec![count],
        };
        let extents: Vec<i64> = extents.into_iter().map(|extent| extent as i64).collect();
        let mut y = layer.reshaped(&rows, &extents);
        if let Some(gamma) = layer.variable_by_channel("gamma") {
            y = layer.plain("Mul", &[&y, &gamma]);
        }
        if let Some(beta) = layer.variable_by_channel("beta") {
            y = layer.plain("Add", &[&y, &beta]);
        }
        Ok(y)
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        let (x, shape) = (layer.input()?, layer.shape());
        let channels = shape.channels();
        let groups = self.groups.unwrap_or(channels);
        let each = channels / groups.max(1);
        // Pixels, groups, and the channels of a group.
        let x = layer.reshaped(x, &[shape.count() / channels.max(1), groups, each])?;
        let own = [groups, each];
        let (gamma, beta) = (layer.variable("gamma", &own), layer.variable("beta", &own));
        let y = normalized(layer, x, &[0, 2], self.epsilon, gamma, beta)?;
        match shape {
            Shape::Map { height, width, channels } => layer.reshaped(y, &[height, width, channels]),
            Shape::Flat(count) => layer.reshaped(y, &[count]),
        }
    }

    fn forward<B: Backend>(&self, run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        let x = first(inputs);
        let shape = x.shape();
        let channels = match shape {
            Shape::Map { .. } => 2,
            Shape::Flat(_) => 0,
        };
        let (gamma, beta) = (run.find::<1>("gamma"), run.find::<1>("beta"));
        as_maps(x, |x| {
            let dims @ [batch, count, height, width] = x.dims();
            let groups = self.groups.unwrap_or(count);
            let dtype = x.dtype();
            // A half has too few bits for sums and squares.
            let rows =
                as_type(x, DType::F32).reshape([batch * groups, count / groups * height * width]);
            let rows = rows.clone() - rows.mean_dim(1);
            let variance = rows.clone().square().mean_dim(1);
            let mut y = (rows / variance.add_scalar(self.epsilon).sqrt()).reshape(dims);
            if let Some(gamma) = gamma {
                y = y * as_type(stretch(gamma, &[channels], shape), DType::F32);
            }
            if let Some(beta) = beta {
                y = y + as_type(stretch(beta, &[channels], shape), DType::F32);
            }
            as_type(y, dtype)
        })
    }
}
