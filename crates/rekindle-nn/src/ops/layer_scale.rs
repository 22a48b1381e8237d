use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Operation, first, one};
use crate::keras::{LayerConfig, config};
use crate::onnx::OnnxLayer;
use crate::run::{Run, scaled};
use crate::tflite::{Fused, Operator, TensorId, TfliteLayer};
use crate::variable::Initializer;
use crate::{Features, Layout, NetworkError, Shape, VariableSpec};

/// ConvNeXt's `LayerScale` (Touvron et al. 2021): each channel times a number that trains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerScale {
    /// What the numbers start with.
    pub initial: f64,
    /// How many channels there are.
    pub channels: usize,
}

impl Operation for LayerScale {
    const CLASSES: &'static [&'static str] = &["LayerScale"];

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        let initial = config.number("init_values")?.unwrap_or(1.0);
        match config.count("projection_dim")? {
            Some(channels) => Ok(Self { initial, channels }),
            None => Err(config.wrong("projection_dim", "nothing", "how many channels there are")),
        }
    }

    fn to_keras(&self) -> Map<String, Value> {
        config([("init_values", self.initial.into()), ("projection_dim", self.channels.into())])
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let input = one(inputs)?;
        if input.channels() != self.channels {
            return Err(format!("{} channels", self.channels));
        }
        Ok(input)
    }

    fn variables(&self, _inputs: &[Shape]) -> Vec<VariableSpec> {
        vec![VariableSpec {
            name: "gamma",
            shape: vec![self.channels],
            layout: Layout::Same,
            trainable: true,
            initializer: Initializer::Constant(self.initial as f32),
        }]
    }

    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
        let x = layer.input();
        let gamma = layer.variable_by_channel("gamma").ok_or("it has no variable `gamma`")?;
        Ok(layer.plain("Mul", &[&x, &gamma]))
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        let x = layer.input()?;
        let gamma =
            layer.variable("gamma", &[self.channels]).ok_or("it has no variable `gamma`")?;
        Ok(layer.two(Operator::Mul(Fused::None), x, gamma))
    }

    fn forward<B: Backend>(&self, run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        let gamma = run.parameter::<1>("gamma");
        let zeros = gamma.zeros_like();
        scaled(first(inputs), gamma, zeros)
    }
}
