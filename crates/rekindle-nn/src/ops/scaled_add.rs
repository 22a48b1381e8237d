use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Merge, Operation};
use crate::keras::{LayerConfig, config};
use crate::onnx::OnnxLayer;
use crate::run::Run;
use crate::tflite::{Fused, Operator, TensorId, TfliteLayer};
use crate::{Features, NetworkError, Shape};

/// Inception-ResNet's `CustomScaleLayer` (Szegedy et al. 2016): the first value and the second times a number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaledAdd {
    /// Multiplies the second value.
    pub scale: f64,
}

impl Operation for ScaledAdd {
    const CLASSES: &'static [&'static str] = &["CustomScaleLayer"];

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        match config.number("scale")? {
            Some(scale) => Ok(Self { scale }),
            None => Err(config.wrong("scale", "nothing", "a number")),
        }
    }

    fn to_keras(&self) -> Map<String, Value> {
        config([("scale", self.scale.into())])
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        match inputs {
            [_, _] => Merge::ADD.output(inputs),
            _ => Err("two inputs of one shape".into()),
        }
    }

    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
        let inputs = layer.inputs();
        let [x, branch] = &inputs[..] else { return Err("it takes two values".into()) };
        let branch = layer.with("Mul", branch, self.scale);
        Ok(layer.plain("Add", &[x, &branch]))
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        let inputs = layer.inputs();
        let [x, branch] = inputs[..] else { return Err("it takes two values".into()) };
        let branch = layer.with(Operator::Mul(Fused::None), branch, self.scale);
        Ok(layer.two(Operator::Add(Fused::None), x, branch))
    }

    fn forward<B: Backend>(
        &self,
        run: &mut Run<'_, B>,
        mut inputs: Vec<Features<B>>,
    ) -> Features<B> {
        let branch = inputs.pop();
        let scaled =
            branch.map(|x| x.map(|x| x.mul_scalar(self.scale), |x| x.mul_scalar(self.scale)));
        inputs.extend(scaled);
        Merge::ADD.forward(run, inputs)
    }
}
