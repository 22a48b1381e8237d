use burn::tensor::activation::relu;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::axes::{as_maps, resolve, seen, stretch};
use super::{Operation, first, one};
use crate::keras::{LayerConfig, config};
use crate::onnx::OnnxLayer;
use crate::run::{Run, as_type};
use crate::tflite::{Operator, TensorId, TfliteLayer};
use crate::variable::Initializer;
use crate::{Features, Layout, NetworkError, Shape, VariableSpec};

/// Keras's `PReLU` (He et al. 2015): `x`, below 0 `alpha * x` with an alpha for each place, or for all places along some
/// axes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prelu {
    /// Keras's axes along which all places have one alpha.
    pub shared_axes: Vec<i64>,
}

impl Prelu {
    /// Axes of one sample along which alphas differ, and Keras's shape of them.
    fn own(&self, input: Shape) -> (Vec<usize>, Vec<usize>) {
        let shared = seen(&self.shared_axes, input);
        let mut shape = match input {
            Shape::Map { height, width, channels } => vec![height, width, channels],
            Shape::Flat(count) => vec![count],
        };
        for &axis in &shared {
            shape[axis] = 1;
        }
        let own = (0..shape.len()).filter(|axis| !shared.contains(axis)).collect();
        (own, shape)
    }
}

impl Operation for Prelu {
    const CLASSES: &'static [&'static str] = &["PReLU"];

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        Ok(Self { shared_axes: config.integers("shared_axes")?.unwrap_or_default() })
    }

    fn to_keras(&self) -> Map<String, Value> {
        let shared = (!self.shared_axes.is_empty()).then_some(&self.shared_axes);
        config([("shared_axes", json!(shared))])
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let input = one(inputs)?;
        resolve(&self.shared_axes, input)?;
        Ok(input)
    }

    fn variables(&self, inputs: &[Shape]) -> Vec<VariableSpec> {
        let (_, shape) = self.own(inputs[0]);
        let layout = if shape.len() == 1 { Layout::Same } else { Layout::Flat };
        let initializer = Initializer::Constant(0.0);
        vec![VariableSpec { name: "alpha", shape, layout, trainable: true, initializer }]
    }

    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
        let (x, (own, _)) = (layer.input(), self.own(layer.shape()));
        let alpha = layer.variable_along("alpha", &own).ok_or("it has no variable `alpha`")?;
        Ok(layer.plain("PRelu", &[&x, &alpha]))
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        let (x, (_, shape)) = (layer.input()?, self.own(layer.shape()));
        let alpha = layer.variable("alpha", &shape).ok_or("it has no variable `alpha`")?;
        Ok(layer.over(Operator::Prelu, &[x, alpha]))
    }

    fn forward<B: Backend>(&self, run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        let x = first(inputs);
        let shape = x.shape();
        let (own, _) = self.own(shape);
        let alpha = stretch(run.parameter::<1>("alpha"), &own, shape);
        as_maps(x, |x| {
            let alpha = as_type(alpha, x.dtype());
            relu(x.clone()) + x.clamp_max(0.0) * alpha
        })
    }
}
