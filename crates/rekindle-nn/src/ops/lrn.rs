use burn::tensor::{DType, Tensor, backend::Backend};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Operation, first, one};
use crate::keras::{LayerConfig, config};
use crate::onnx::{Attribute, OnnxLayer, ints};
use crate::run::{Run, as_type};
use crate::tflite::{Fused, Operator, TensorId, TfliteLayer, int};
use crate::{Features, NetworkError, Padding, Shape, Window};

/// ONNX's `LRN`, local response normalization (Krizhevsky, Sutskever and Hinton 2012):
/// `x / (bias + alpha / size * sum)^beta`, with the sum of squares of the `size` channels around each.
///
/// Keras has no such layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lrn {
    /// How many channels count, the one in the middle too.
    pub size: usize,
    /// Multiplies their mean square.
    pub alpha: f64,
    /// The exponent.
    pub beta: f64,
    /// Added to the mean square.
    pub bias: f64,
}

impl Operation for Lrn {
    const CLASSES: &'static [&'static str] = &[];

    fn from_keras(config: &mut LayerConfig) -> Result<Self, NetworkError> {
        Err(config.wrong("class_name", &config.class, "a layer of Keras"))
    }

    fn class(&self) -> &'static str {
        "LRN"
    }

    fn to_keras(&self) -> Map<String, Value> {
        config([
            ("size", self.size.into()),
            ("alpha", self.alpha.into()),
            ("beta", self.beta.into()),
            ("bias", self.bias.into()),
        ])
    }

    fn output(&self, inputs: &[Shape]) -> Result<Shape, String> {
        match one(inputs)? {
            map @ Shape::Map { .. } if self.size > 0 => Ok(map),
            Shape::Map { .. } => Err("a size from 1".into()),
            Shape::Flat(_) => Err("(None, height, width, channels)".into()),
        }
    }

    fn to_onnx(&self, layer: &mut OnnxLayer<'_>) -> Result<String, String> {
        let x = layer.input();
        if self.size % 2 == 1 {
            let settings = vec![
                ("size", Attribute::Int(self.size as i64)),
                ("alpha", Attribute::Float(self.alpha as f32)),
                ("beta", Attribute::Float(self.beta as f32)),
                ("bias", Attribute::Float(self.bias as f32)),
            ];
            return Ok(layer.node("LRN", &[&x], settings));
        }
        // ONNX Runtime has it for odd sizes only: a mean over rows of one image whose rows are channels.
        let [height, width, channels] = layer.map()?.map(|size| size as i64);
        layer.in_full(&x, |layer, x| {
            let square = layer.plain("Mul", &[x, x]);
            let rows = layer.reshaped(&square, &[1, channels, height * width]);
            let settings = vec![
                ("kernel_shape", ints(&[self.size, 1])),
                ("pads", ints(&[(self.size - 1) / 2, 0, self.size / 2, 0])),
                ("count_include_pad", Attribute::Int(1)),
            ];
            let mean = layer.node("AveragePool", &[&rows], settings);
            let mean = layer.reshaped(&mean, &[channels, height, width]);
            let scale = layer.with("Mul", &mean, self.alpha);
            let scale = layer.with("Add", &scale, self.bias);
            let scale = layer.with("Pow", &scale, self.beta);
            Ok(layer.plain("Div", &[x, &scale]))
        })
    }

    fn to_tflite(&self, layer: &mut TfliteLayer<'_>) -> Result<TensorId, String> {
        let (x, [height, width, channels]) = (layer.input()?, layer.map()?);
        if self.size % 2 == 1 {
            let operator = Operator::LocalResponseNormalization {
                radius: int((self.size - 1) / 2)?,
                bias: self.bias as f32,
                // TensorFlow's is of the sum, not of the mean.
                alpha: (self.alpha / self.size as f64) as f32,
                beta: self.beta as f32,
            };
            return Ok(layer.over(operator, &[x]));
        }
        // TensorFlow has it for odd sizes only: a mean over columns of one image whose columns are channels.
        let square = layer.two(Operator::Mul(Fused::None), x, x);
        let rows = layer.reshaped(square, &[height * width, channels, 1])?;
        let edges = [(self.size - 1) / 2, self.size / 2];
        let window = Window::new([1, self.size], Padding::Explicit([[0, 0], edges]));
        let (rows, moves, [pixels, columns]) = layer.moves(rows, &window, None)?;
        let mean = layer.node(Operator::AveragePool2d(moves), &[rows], &[pixels, columns, 1]);
        let mean = layer.reshaped(mean, &[height, width, channels])?;
        let scale = layer.with(Operator::Mul(Fused::None), mean, self.alpha);
        let scale = layer.with(Operator::Add(Fused::None), scale, self.bias);
        let scale = layer.with(Operator::Pow, scale, self.beta);
        Ok(layer.two(Operator::Div(Fused::None), x, scale))
    }

    fn forward<B: Backend>(&self, _run: &mut Run<'_, B>, inputs: Vec<Features<B>>) -> Features<B> {
        let x = first(inputs).into_map();
        let dtype = x.dtype();
        let x = as_type(x, DType::F32);
        let dims @ [batch, channels, height, width] = x.dims();
        // Of an even size, the channel more is behind.
        let before = ((self.size - 1) / 2).min(channels);
        let after = (self.size / 2).min(channels);
        let zeros =
            |count: usize| Tensor::<B, 4>::zeros([batch, count, height, width], &x.device());
        let parts = [(before, None), (channels, Some(x.clone().square())), (after, None)];
        let parts = parts.into_iter().filter(|(count, _)| *count > 0);
        let square = Tensor::cat(
            parts.map(|(count, part)| part.unwrap_or_else(|| zeros(count))).collect(),
            1,
        );
        let shifted = (0..=before + after).map(|shift| square.clone().narrow(1, shift, channels));
        let sum = shifted.fold(Tensor::zeros(dims, &x.device()), |sum, next| sum + next);
        let scale = sum.mul_scalar(self.alpha / self.size as f64).add_scalar(self.bias);
        let scale = scale.powf_scalar(self.beta);
        Features::Map(as_type(x / scale, dtype))
    }
}
