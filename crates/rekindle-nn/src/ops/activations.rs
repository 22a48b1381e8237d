use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::axes::{as_maps, of_burn, resolve, seen, written};
use super::{Operation, axes, first, one};
use crate::keras::{LayerConfig, activation_config, config};
use crate::onnx::{Attribute, OnnxLayer, axes_of, ints};
use crate::run::Run;
use crate::tflite::{Fused, Operator, TensorId, TfliteLayer};
use crate::{Activation, Features, NetworkError, Shape};

/// An activation that is a layer of its own: Keras's `Activation`, `ReLU`, `LeakyReLU`, `ELU`, `Softmax`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivationLayer {
    /// The function.
    pub function: Activation,
    /// Whether Keras's layer is `Activation`, and not the class of that function.
    pub by_name: bool,
}

impl ActivationLayer {
    /// Keras's `Activation` layer.
    #[must_use]
    pub const fn named(function: Activation) -> Self {
        Self { function, by_name: true }
    }

    /// Keras's layer of that class: `ReLU`, `LeakyReLU`, `ELU`, `Softmax`.
    #[must_use]
    pub const fn layer(function: Activation) -> Self {
        Self { function, by_name: false }
    }
}

/// The class that stands for a function which Keras 3 does not have, so that Keras refuses the file and does not compute
/// another.
const OURS: &str = "rekindle>Activation";

/// Reads a layer whose class is that of a function; nothing for other classes.
///
/// # Errors
/// When a setting cannot be honoured.
pub fn activation_layer(config: &mut LayerConfig) -> Result<Option<Activation>, NetworkError> {
    Ok(Some(match config.class.as_str() {
        "ReLU" => {
            let max_value = config.number("max_value")?;
            let slope = config.number("negative_slope")?.unwrap_or(0.0);
            let threshold = config.number("threshold")?.unwrap_or(0.0);
            if max_value.is_some_and(|high| high < 0.0) {
                return Err(config.wrong("max_value", max_value.unwrap_or(0.0), "a number from 0"));
            }
            Activation::relu_of(max_value, slope, threshold)
        }
        "LeakyReLU" => {
            // Keras 2 calls it alpha; both start at 0.3, other than the activation of that name.
            let slope = config.number("negative_slope")?;
            let alpha = config.number("alpha")?;
            Activation::LeakyRelu(slope.or(alpha).unwrap_or(0.3))
        }
        "ELU" => Activation::Elu(config.number("alpha")?.unwrap_or(1.0)),
        "Softmax" => match config.integers("axis")?.as_deref() {
            None | Some([-1]) => Activation::Softmax,
            Some(other) => {
                return Err(config.wrong("axis", format!("{other:?}"), "the last axis, -1"));
            }
        },
        // Keras 2's: 0 up to theta.
        "ThresholdedReLU" => {
            let theta = config.number("theta")?.unwrap_or(1.0);
            if theta < 0.0 {
                return Err(config.wrong("theta", theta, "a number from 0"));
            }
            Activation::relu_of(None, 0.0, theta)
        }
        "Activation" => config.activation("activation")?,
        OURS => {
            let Some(function) = config.take("function") else {
                return Err(config.wrong("function", "nothing", "an activation of Rekindle"));
            };
            serde_json::from_value(function.clone())
                .map_err(|_| config.wrong("function", function, "an activation of Rekindle"))?
        }
        _ => return Ok(None),
    }))
}

/// Keras's layer of a function, and its configuration. Of one that Keras 3 does not have
/// ([`Activation::is_keras`]), it is what only Rekindle reads.
#[must_use]
pub fn activation_as_layer(function: Activation) -> (&'static str, Map<String, Value>) {
    let relu = |max_value: Option<f64>, slope: f64, threshold: f64| {
        let settings = config([
            ("max_value", json!(max_value)),
            ("negative_slope", slope.into()),
            ("threshold", threshold.into()),
        ]);
        ("ReLU", settings)
    };
    match function {
        Activation::Relu => relu(None, 0.0, 0.0),
        Activation::Relu6 => relu(Some(6.0), 0.0, 0.0),
        Activation::ReluOf { max_value, negative_slope, threshold } => {
            relu(max_value, negative_slope, threshold)
        }
        Activation::LeakyRelu(slope) => ("LeakyReLU", config([("negative_slope", slope.into())])),
        Activation::Elu(alpha) => ("ELU", config([("alpha", alpha.into())])),
        Activation::Softmax => ("Softmax", config([("axis", json!(-1))])),
        other => match other.name() {
            Some(name) => ("Activation", config([("activation", name.into())])),
            None => (OURS, config([("function", json!(other))])),
        },
    }
}

/// Keras's `Softmax` over other axes than the last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoftmaxOver {
    /// Keras's axes, over which probabilities have a sum of 1.
    pub axes: Vec<i64>,
}

impl Operation for SoftmaxOver {
    const CLASSES: &'static [&'static str] = &["Softmax"];

    fn is_keras(config: &LayerConfig) -> bool {
        config.class == "Softmax"
            && match config.clone().integers("axis") {
                Ok(None) => false,
                Ok(Some(axes)) => axes != [-1],
                Err(_) => true,
            }
    }

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        Ok(Self { axes: config.integers("axis")?.unwrap_or_else(|| vec![-1]) })
    }

    fn to_keras(&self) -> Map<String, Value> {
        config([("axis", written(&self.axes))])
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let input = one(inputs)?;
        if resolve(&self.axes, input)?.is_empty() {
            return Err("at least one axis".into());
        }
        Ok(input)
    }

    fn settle(&mut self, inputs: &[Shape]) {
        axes::settle(&mut self.axes, inputs);
    }

    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
        let (x, shape) = (layer.input(), layer.shape());
        let over = axes_of(&seen(&self.axes, shape), shape);
        if let [axis] = over[..] {
            return Ok(layer.node("Softmax", &[&x], vec![("axis", Attribute::Int(axis as i64))]));
        }
        layer.in_full(&x, |layer, x| {
            let largest = layer.node("ReduceMax", &[x], vec![("axes", ints(&over))]);
            let x = layer.plain("Sub", &[x, &largest]);
            let powers = layer.plain("Exp", &[&x]);
            let axes: Vec<i64> = over.iter().map(|&axis| axis as i64).collect();
            let axes = layer.integers("axes", &axes);
            let sum = layer.plain("ReduceSum", &[&powers, &axes]);
            Ok(layer.plain("Div", &[&powers, &sum]))
        })
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        let (x, axes) = (layer.input()?, seen(&self.axes, layer.shape()));
        let largest = layer.reduced(Operator::ReduceMax { keeps_axes: true }, x, &axes, true)?;
        let x = layer.two(Operator::Sub(Fused::None), x, largest);
        let powers = layer.over(Operator::Exp, &[x]);
        let sum = layer.reduced(Operator::Sum { keeps_axes: true }, powers, &axes, true)?;
        Ok(layer.two(Operator::Div(Fused::None), powers, sum))
    }

    fn forward<B: Backend>(&self, _run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        let x = first(inputs);
        let shape = x.shape();
        let over = of_burn(&seen(&self.axes, shape), shape);
        as_maps(x, |x| {
            let largest = over.iter().fold(x.clone(), |largest, &axis| largest.max_dim(axis));
            let powers = (x - largest).exp();
            let sum = over.iter().fold(powers.clone(), |sum, &axis| sum.sum_dim(axis));
            powers / sum
        })
    }
}

impl Operation for ActivationLayer {
    const CLASSES: &'static [&'static str] =
        &["Activation", "ReLU", "LeakyReLU", "ELU", "Softmax", "ThresholdedReLU", OURS];

    fn is_keras(config: &LayerConfig) -> bool {
        Self::CLASSES.contains(&config.class.as_str()) && !SoftmaxOver::is_keras(config)
    }

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        let by_name = config.class == "Activation";
        match activation_layer(config)? {
            Some(function) => Ok(Self { function, by_name }),
            None => Err(config.wrong("class_name", &config.class, Self::CLASSES.join(", "))),
        }
    }

    fn class(&self) -> &'static str {
        if self.by_name { "Activation" } else { activation_as_layer(self.function).0 }
    }

    fn to_keras(&self) -> Map<String, Value> {
        if self.by_name {
            return config([("activation", activation_config(self.function))]);
        }
        activation_as_layer(self.function).1
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        one(inputs)
    }

    fn activation(&self) -> Activation {
        self.function
    }

    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
        let x = layer.input();
        Ok(self.function.to_onnx(layer, x))
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        let x = layer.input()?;
        Ok(self.function.to_tflite(layer, x))
    }

    fn forward<B: Backend>(&self, run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        first(inputs).activate(run.activation())
    }
}
