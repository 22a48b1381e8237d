use burn::tensor::{DType, backend::Backend};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::axes::{as_maps, mean, of_burn, resolve, seen, stretch, variable, written};
use super::{Operation, axes, first, one};
use crate::keras::{LayerConfig, config};
use crate::onnx::{Attribute, OnnxLayer, axes_of, ints};
use crate::run::{Run, as_type};
use crate::tflite::{Fused, Operator, TensorId, TfliteLayer};
use crate::{Features, NetworkError, Shape, VariableSpec};

/// Keras's `LayerNormalization` (Ba, Kiros and Hinton 2016): mean 0 and variance 1 over some axes of each sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerNorm {
    /// Keras's axes, over which statistics are taken and along which beta and gamma lie.
    pub axes: Vec<i64>,
    /// Added to the variance.
    pub epsilon: f64,
    /// Whether there is a beta, which is added.
    pub center: bool,
    /// Whether there is a gamma, which multiplies.
    pub scale: bool,
}

impl LayerNorm {
    /// Over channels, with Keras's epsilon of 1e-3, beta and gamma.
    #[must_use]
    pub fn new() -> Self {
        Self { axes: vec![-1], epsilon: 1e-3, center: true, scale: true }
    }

    /// What is added to the variance.
    #[must_use]
    pub fn epsilon(self, epsilon: f64) -> Self {
        Self { epsilon, ..self }
    }
}

impl Default for LayerNorm {
    fn default() -> Self {
        Self::new()
    }
}

impl Operation for LayerNorm {
    const CLASSES: &'static [&'static str] = &["LayerNormalization"];

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        if config.flag("rms_scaling")? == Some(true) {
            return Err(config.wrong("rms_scaling", true, "false"));
        }
        let plain = Self::new();
        Ok(Self {
            axes: config.integers("axis")?.unwrap_or(plain.axes),
            epsilon: config.number("epsilon")?.unwrap_or(plain.epsilon),
            center: config.flag("center")?.unwrap_or(true),
            scale: config.flag("scale")?.unwrap_or(true),
        })
    }

    fn to_keras(&self) -> Map<String, Value> {
        config([
            ("axis", written(&self.axes)),
            ("epsilon", self.epsilon.into()),
            ("center", self.center.into()),
            ("scale", self.scale.into()),
        ])
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let input = one(inputs)?;
        if resolve(&self.axes, input)?.is_empty() {
            return Err("at least one axis".into());
        }
        Ok(input)
    }

    fn variables(&self, inputs: &[Shape]) -> Vec<VariableSpec> {
        let one = |name, value| variable(name, &self.axes, inputs[0], value, true);
        let gamma = self.scale.then(|| one("gamma", 1.0));
        let beta = self.center.then(|| one("beta", 0.0));
        [gamma, beta].into_iter().flatten().flatten().collect()
    }

    fn settle(&mut self, inputs: &[Shape]) {
        axes::settle(&mut self.axes, inputs);
    }

    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
        let (x, shape) = (layer.input(), layer.shape());
        let axes = seen(&self.axes, shape);
        // ONNX's is over the last axes: ours come last, in Keras's order, in which beta and gamma are.
        let last = axes_of(&axes, shape);
        let rank = match shape {
            Shape::Map { .. } => 4,
            Shape::Flat(_) => 2,
        };
        let first = (0..rank).filter(|axis| !last.contains(axis));
        let order: Vec<usize> = first.chain(last.iter().copied()).collect();
        let back: Vec<usize> = (0..rank)
            .map(|axis| order.iter().position(|&from| from == axis).unwrap_or(axis))
            .collect();
        let sizes: Vec<usize> = match shape {
            Shape::Map { height, width, channels } => vec![height, width, channels],
            Shape::Flat(count) => vec![count],
        };
        let sizes: Vec<usize> = axes.iter().map(|&axis| sizes[axis]).collect();
        let gamma = match layer.variable_as("gamma", sizes.clone()) {
            Some(gamma) => gamma,
            None => {
                let count = sizes.iter().product();
                layer.floats("ones", sizes.clone(), vec![1.0; count])
            }
        };
        let beta = layer.variable_as("beta", sizes);
        let x = layer.transposed(&x, &order);
        let inputs: Vec<&str> = [x.as_str(), &gamma].into_iter().chain(beta.as_deref()).collect();
        let settings = vec![
            ("axis", Attribute::Int(-(last.len() as i64))),
            ("epsilon", Attribute::Float(self.epsilon as f32)),
        ];
        let y = layer.node("LayerNormalization", &inputs, settings);
        Ok(layer.transposed(&y, &back))
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        let (x, axes) = (layer.input()?, seen(&self.axes, layer.shape()));
        let along = layer.along(&axes);
        let (gamma, beta) = (layer.variable("gamma", &along), layer.variable("beta", &along));
        normalized(layer, x, &axes, self.epsilon, gamma, beta)
    }

    fn forward<B: Backend>(&self, run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        let x = first(inputs);
        let shape = x.shape();
        let axes = seen(&self.axes, shape);
        let (gamma, beta) = (run.find::<1>("gamma"), run.find::<1>("beta"));
        as_maps(x, |x| {
            let dtype = x.dtype();
            // A half has too few bits for sums and squares.
            let x = as_type(x, DType::F32);
            let over = of_burn(&axes, shape);
            let x = x.clone() - mean(x, &over);
            let variance = mean(x.clone().square(), &over);
            let mut y = x / variance.add_scalar(self.epsilon).sqrt();
            if let Some(gamma) = gamma {
                y = y * as_type(stretch(gamma, &axes, shape), DType::F32);
            }
            if let Some(beta) = beta {
                y = y + as_type(stretch(beta, &axes, shape), DType::F32);
            }
            as_type(y, dtype)
        })
    }
}

/// Keras's `UnitNormalization`: each sample divided by its length along some axes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitNorm {
    /// Keras's axes, along which values are squared and summed.
    pub axes: Vec<i64>,
}

impl Operation for UnitNorm {
    const CLASSES: &'static [&'static str] = &["UnitNormalization"];

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
        let axes = ints(&axes_of(&seen(&self.axes, shape), shape));
        layer.in_full(&x, |layer, x| {
            let length = layer.node("ReduceL2", &[x], vec![("axes", axes)]);
            // The root of TensorFlow's epsilon of 1e-12.
            let length = layer.with("Max", &length, 1e-6);
            Ok(layer.plain("Div", &[x, &length]))
        })
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        let (x, axes) = (layer.input()?, seen(&self.axes, layer.shape()));
        let square = layer.two(Operator::Mul(Fused::None), x, x);
        let sum = layer.reduced(Operator::Sum { keeps_axes: true }, square, &axes, true)?;
        // The least square that divides, TensorFlow's epsilon of 1e-12.
        let sum = layer.with(Operator::Maximum, sum, 1e-12);
        let length = layer.over(Operator::Sqrt, &[sum]);
        Ok(layer.two(Operator::Div(Fused::None), x, length))
    }

    fn forward<B: Backend>(&self, _run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        let x = first(inputs);
        let shape = x.shape();
        let axes = of_burn(&seen(&self.axes, shape), shape);
        as_maps(x, |x| {
            let dtype = x.dtype();
            let x = as_type(x, DType::F32);
            let square = axes.iter().fold(x.clone().square(), |sum, &axis| sum.sum_dim(axis));
            // The least square that divides, TensorFlow's epsilon of 1e-12.
            as_type(x / square.clamp_min(1e-12).sqrt(), dtype)
        })
    }
}

/// Mean 0 and variance 1 over axes of one sample, 0 the first, then a scale and a shift: in the order of Keras's formula.
pub(super) fn normalized(
    layer: &mut TfliteLayer<'_>,
    x: TensorId,
    axes: &[usize],
    epsilon: f64,
    gamma: Option<TensorId>,
    beta: Option<TensorId>,
) -> Result<TensorId, String> {
    let mean = layer.reduced(Operator::Mean { keeps_axes: true }, x, axes, true)?;
    let square = layer.two(Operator::SquaredDifference, x, mean);
    let variance = layer.reduced(Operator::Mean { keeps_axes: true }, square, axes, true)?;
    let variance = layer.with(Operator::Add(Fused::None), variance, epsilon);
    let scale = layer.over(Operator::Rsqrt, &[variance]);
    let x = layer.two(Operator::Sub(Fused::None), x, mean);
    let mut y = layer.two(Operator::Mul(Fused::None), x, scale);
    if let Some(gamma) = gamma {
        y = layer.two(Operator::Mul(Fused::None), y, gamma);
    }
    if let Some(beta) = beta {
        y = layer.two(Operator::Add(Fused::None), y, beta);
    }
    Ok(y)
}
