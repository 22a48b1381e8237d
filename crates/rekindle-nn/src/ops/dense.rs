use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Operation, first, one};
use crate::keras::{LayerConfig, activation_config, config};
use crate::onnx::OnnxLayer;
use crate::run::{Run, as_type};
use crate::tflite::{Fused, Operator, TensorId, TfliteLayer};
use crate::variable::Initializer;
use crate::{Activation, Features, Layout, NetworkError, Shape, VariableSpec};

/// Keras's `Dense`: `[in, units]` weights over the last axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dense {
    /// Features out.
    pub units: usize,
    /// Whether a bias is added.
    pub bias: bool,
    /// Applied to the output.
    pub activation: Activation,
    /// While training, `l2` times the sum of the kernel's squares is added to the loss.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub l2: f64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

/// The factor of Keras's `L2`; nothing for other regularizers, which are Keras's training alone.
fn l2(regularizer: &Value) -> Option<f64> {
    let is_l2 = regularizer["class_name"] == "L2";
    let factor = regularizer["config"]["l2"].as_f64().filter(|l2| l2.is_finite() && *l2 >= 0.0);
    factor.filter(|_| is_l2)
}

impl Dense {
    /// With a bias.
    #[must_use]
    pub const fn new(units: usize, activation: Activation) -> Self {
        Self { units, bias: true, activation, l2: 0.0 }
    }
}

impl Operation for Dense {
    const CLASSES: &'static [&'static str] = &["Dense"];

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        let units = config.count("units")?;
        let Some(units) = units.filter(|&units| units > 0) else {
            return Err(config.wrong("units", units.unwrap_or(0), "at least 1"));
        };
        for setting in ["quantization_config", "lora_rank"] {
            if let Some(found) = config.take(setting) {
                return Err(config.wrong(setting, found, "nothing"));
            }
        }
        // Without a rank it scales nothing.
        config.take("lora_alpha");
        let bias = config.flag("use_bias")?.unwrap_or(true);
        let l2 = config.take("kernel_regularizer").and_then(|regularizer| l2(&regularizer));
        let activation = config.activation("activation")?;
        Ok(Self { units, bias, activation, l2: l2.unwrap_or(0.0) })
    }

    fn to_keras(&self) -> Map<String, Value> {
        let mut config = config([
            ("units", self.units.into()),
            ("activation", activation_config(self.activation)),
            ("use_bias", self.bias.into()),
        ]);
        if self.l2 != 0.0 {
            let l2 = json!({
                "module": "keras.regularizers",
                "class_name": "L2",
                "config": { "l2": self.l2 },
                "registered_name": null,
            });
            config.insert("kernel_regularizer".into(), l2);
        }
        config
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        Ok(one(inputs)?.with_channels(self.units))
    }

    fn variables(&self, inputs: &[Shape]) -> Vec<VariableSpec> {
        let input = inputs[0].channels();
        let kernel = VariableSpec {
            name: "kernel",
            shape: vec![input, self.units],
            layout: Layout::Same,
            trainable: true,
            initializer: Initializer::Glorot([input, self.units]),
        };
        let bias = self.bias.then(|| VariableSpec::vector("bias", self.units, 0.0, true));
        [kernel].into_iter().chain(bias).collect()
    }

    fn activation(&self) -> Activation {
        self.activation
    }

    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
        let x = layer.input();
        let kernel = layer.variable("kernel").ok_or("it has no variable `kernel`")?;
        let bias = if self.bias { layer.variable("bias") } else { None };
        let y = match (layer.shape(), bias) {
            (Shape::Flat(_), Some(bias)) => layer.plain("Gemm", &[&x, &kernel, &bias]),
            (Shape::Flat(_), None) => layer.plain("MatMul", &[&x, &kernel]),
            // Over maps it is a product for each pixel.
            (Shape::Map { .. }, bias) => {
                let x = layer.channels_last(&x);
                let mut y = layer.plain("MatMul", &[&x, &kernel]);
                if let Some(bias) = bias {
                    y = layer.plain("Add", &[&y, &bias]);
                }
                layer.transposed(&y, &[0, 3, 1, 2])
            }
        };
        Ok(self.activation.to_onnx(layer, y))
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        let (x, shape) = (layer.input()?, layer.shape());
        let kernel = layer.kernel("kernel", &[1, 0], None)?;
        let bias = if self.bias { layer.variable("bias", &[self.units]) } else { None };
        // Over maps it is a product for each pixel.
        let (keeps_axes, extents) = match shape {
            Shape::Map { height, width, .. } => (true, vec![height, width, self.units]),
            Shape::Flat(_) => (false, vec![self.units]),
        };
        let operator = Operator::FullyConnected { keeps_axes, fused: Fused::None };
        let inputs: Vec<TensorId> = [x, kernel].into_iter().chain(bias).collect();
        let y = layer.node(operator, &inputs, &extents);
        Ok(self.activation.to_tflite(layer, y))
    }

    fn forward<B: Backend>(&self, run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        let x = first(inputs);
        let shape = x.shape();
        // Over maps it is a product for each pixel.
        let (rows, map) = match x {
            Features::Flat(x) => (x, None),
            Features::Map(x) => {
                let [batch, channels, height, width] = x.dims();
                let rows = x.permute([0, 2, 3, 1]).reshape([batch * height * width, channels]);
                (rows, Some([batch, height, width, self.units]))
            }
        };
        let dtype = rows.dtype();
        let mut y = rows.matmul(as_type(run.parameter::<2>("kernel"), dtype));
        if let Some(bias) = run.find::<1>("bias") {
            y = y + as_type(bias, dtype).unsqueeze();
        }
        let y = match map {
            None => Features::Flat(y),
            Some(dims) => Features::Map(y.reshape(dims).permute([0, 3, 1, 2])),
        };
        debug_assert_eq!(y.shape(), shape.with_channels(self.units));
        y.activate(run.activation())
    }
}
