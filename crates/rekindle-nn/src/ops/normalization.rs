use burn::tensor::{DType, Tensor, backend::Backend};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::axes::{as_maps, resolve, seen, stretch, variable};
use super::{Operation, axes, first, one};
use crate::keras::{LayerConfig, config};
use crate::onnx::OnnxLayer;
use crate::run::{Run, as_type};
use crate::tflite::{Fused, Operator, TensorId, TfliteLayer};
use crate::variable::Initializer;
use crate::{Features, Layout, NetworkError, Shape, VariableSpec};

/// The least deviation that Keras divides by.
const EPSILON: f64 = 1e-7;

/// Keras's `Normalization`: `(x - mean) / sqrt(variance)`, with statistics of a data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalization {
    /// Keras's axes along which statistics lie; without any, they are one mean and one variance.
    pub axes: Vec<i64>,
    /// Mean and variance, where the layer has them as settings; else they are variables.
    pub given: Option<Statistics>,
    /// Whether it does the contrary: `x * sqrt(variance) + mean`.
    pub invert: bool,
}

/// Statistics of a data set: one number, or one for each place along the layer's axes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statistics {
    /// Is subtracted.
    pub mean: Vec<f64>,
    /// Its root divides.
    pub variance: Vec<f64>,
}

impl Normalization {
    /// By channel, with statistics that are variables.
    #[must_use]
    pub fn new() -> Self {
        Self { axes: vec![-1], given: None, invert: false }
    }
}

impl Default for Normalization {
    fn default() -> Self {
        Self::new()
    }
}

impl Operation for Normalization {
    const CLASSES: &'static [&'static str] = &["Normalization"];

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        let is_one = config.is_null("axis");
        let axes = config.integers("axis")?;
        let axes = axes.unwrap_or_else(|| if is_one { Vec::new() } else { vec![-1] });
        let given = match (config.numbers("mean")?, config.numbers("variance")?) {
            (None, None) => None,
            (Some(mean), Some(variance)) => Some(Statistics { mean, variance }),
            (None, _) => {
                return Err(config.wrong("mean", "nothing", "as many numbers as `variance`"));
            }
            (_, None) => {
                return Err(config.wrong("variance", "nothing", "as many numbers as `mean`"));
            }
        };
        let negative = given.iter().flat_map(|given| &given.variance).find(|value| **value < 0.0);
        if let Some(negative) = negative {
            return Err(config.wrong("variance", negative, "numbers from 0"));
        }
        Ok(Self { axes, given, invert: config.flag("invert")?.unwrap_or(false) })
    }

    fn to_keras(&self) -> Map<String, Value> {
        // Keras takes a number for all places, but no list of one.
        let written = |values: &[f64]| match values {
            [one] => json!(one),
            more => json!(more),
        };
        let (mean, variance) = match &self.given {
            Some(given) => (written(&given.mean), written(&given.variance)),
            None => (Value::Null, Value::Null),
        };
        config([
            ("axis", json!(self.axes)),
            ("invert", self.invert.into()),
            ("mean", mean),
            ("variance", variance),
        ])
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let input = one(inputs)?;
        resolve(&self.axes, input)?;
        let Some(given) = &self.given else { return Ok(input) };
        let count = variable("mean", &self.axes, input, 0.0, false).map_or(1, |spec| spec.count());
        for values in [&given.mean, &given.variance] {
            if values.len() != 1 && values.len() != count {
                return Err(format!(
                    "{} values along axes {axes:?}",
                    values.len(),
                    axes = self.axes
                ));
            }
        }
        Ok(input)
    }

    fn variables(&self, inputs: &[Shape]) -> Vec<VariableSpec> {
        if self.given.is_some() {
            return Vec::new();
        }
        let statistics = [("mean", 0.0), ("variance", 1.0)];
        let statistics = statistics
            .into_iter()
            .filter_map(|(name, value)| variable(name, &self.axes, inputs[0], value, false));
        // How many values Keras has seen: nothing depends on it, but files have it.
        let count = VariableSpec {
            name: "count",
            shape: Vec::new(),
            layout: Layout::Flat,
            trainable: false,
            initializer: Initializer::Constant(0.0),
        };
        statistics.chain([count]).collect()
    }

    fn settle(&mut self, inputs: &[Shape]) {
        axes::settle(&mut self.axes, inputs);
    }

    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
        let x = layer.input();
        let axes = seen(&self.axes, layer.shape());
        layer.in_full(&x, |layer, x| {
            let (mean, deviation) = match &self.given {
                None => {
                    let mean = layer.variable_along("mean", &axes);
                    let variance = layer.variable_along("variance", &axes);
                    let (mean, variance) = mean.zip(variance).ok_or("it has no statistics")?;
                    let deviation = layer.plain("Sqrt", &[&variance]);
                    (mean, layer.with("Max", &deviation, EPSILON))
                }
                Some(given) => {
                    let mean = given.mean.iter().map(|&mean| mean as f32).collect();
                    let deviation = given.variance.iter();
                    let deviation =
                        deviation.map(|&variance| (variance as f32).sqrt().max(EPSILON as f32));
                    let deviation = deviation.collect();
                    (
                        layer.floats_along("mean", &axes, mean),
                        layer.floats_along("deviation", &axes, deviation),
                    )
                }
            };
            Ok(if self.invert {
                let y = layer.plain("Mul", &[x, &deviation]);
                layer.plain("Add", &[&y, &mean])
            } else {
                let y = layer.plain("Sub", &[x, &mean]);
                layer.plain("Div", &[&y, &deviation])
            })
        })
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        let (x, axes) = (layer.input()?, seen(&self.axes, layer.shape()));
        let (mean, deviation) = match &self.given {
            None => {
                let along = layer.along(&axes);
                let mean = layer.variable("mean", &along).ok_or("it has no statistics")?;
                let deviation =
                    layer.computed("deviation", &["variance"], &along, EPSILON, |v, least| {
                        v.concat()
                            .iter()
                            .map(|variance| variance.sqrt().max(least as f32))
                            .collect()
                    });
                (mean, deviation)
            }
            Some(given) => {
                let mean = given.mean.iter().map(|&mean| mean as f32).collect();
                let deviation = given.variance.iter();
                let deviation =
                    deviation.map(|&variance| (variance as f32).sqrt().max(EPSILON as f32));
                let deviation = deviation.collect();
                let mean = layer.floats_along("mean", &axes, mean);
                (mean, layer.floats_along("deviation", &axes, deviation))
            }
        };
        Ok(if self.invert {
            let y = layer.two(Operator::Mul(Fused::None), x, deviation);
            layer.two(Operator::Add(Fused::None), y, mean)
        } else {
            let y = layer.two(Operator::Sub(Fused::None), x, mean);
            layer.two(Operator::Div(Fused::None), y, deviation)
        })
    }

    fn forward<B: Backend>(&self, run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        let x = first(inputs);
        let (shape, device) = (x.shape(), x.device());
        let axes = seen(&self.axes, shape);
        let (mean, variance) = match &self.given {
            None => (run.parameter::<1>("mean"), run.parameter::<1>("variance")),
            Some(given) => {
                let vector = |values: &[f64]| Tensor::<B, 1>::from_floats(values, &device);
                (vector(&given.mean), vector(&given.variance))
            }
        };
        let stretched = |values: Tensor<B, 1>| match values.dims() {
            [1] => stretch(values, &[], shape),
            _ => stretch(values, &axes, shape),
        };
        let deviation = stretched(variance).sqrt().clamp_min(EPSILON);
        let mean = stretched(mean);
        as_maps(x, |x| {
            let dtype = x.dtype();
            let x = as_type(x, DType::F32);
            let (mean, deviation) = (as_type(mean, DType::F32), as_type(deviation, DType::F32));
            let y = if self.invert { x * deviation + mean } else { (x - mean) / deviation };
            as_type(y, dtype)
        })
    }
}
