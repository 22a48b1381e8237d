//! Every activation of Keras that works on single values, and softmax over channels.

use std::fmt;

use burn::tensor::activation::{gelu, log_softmax, relu, sigmoid, softmax, tanh};
use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

use crate::onnx::{Attribute, OnnxLayer};
use crate::tflite::{Fused, Operator, TensorId, TfliteLayer};

/// What Keras multiplies SELU's output with, and its negative part.
pub const SELU: (f64, f64) = (1.050_700_987_355_480_5, 1.673_263_242_354_377_2);

/// A function of single values, or of the channels of one position, as Keras defines it
/// (`keras/src/activations/activations.py`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// None.
    Linear,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `ReLU` with settings of its own; see [`Activation::relu_of`].
    ReluOf {
        /// The largest output, if there is one.
        max_value: Option<f64>,
        /// The gradient below the threshold.
        negative_slope: f64,
        /// Below it the output is `negative_slope * (x - threshold)`.
        threshold: f64,
    },
    /// `x`, below 0 times this.
    LeakyRelu(f64),
    /// `x`, below 0 `alpha * (exp(x) - 1)`.
    Elu(f64),
    /// ELU with [`SELU`]'s constants.
    Selu,
    /// `max(x, 0) + min(0, alpha * (exp(x / alpha) - 1))`.
    Celu(f64),
    /// `x * (1 + erf(x / sqrt(2))) / 2`.
    Gelu,
    /// GELU by a hyperbolic tangent.
    GeluApproximate,
    /// `x * sigmoid(x)`, also called swish.
    Silu,
    /// `x * relu6(x + 3) / 6`, also called hard swish.
    HardSilu,
    /// Keras 3's: `relu6(x + 3) / 6`.
    HardSigmoid,
    /// Keras 2's: `0.2 * x + 0.5` between 0 and 1; also ONNX's, with settings of its own.
    HardSigmoidOf {
        /// 0.2 in Keras 2.
        slope: f64,
        /// 0.5 in Keras 2.
        offset: f64,
    },
    /// Probabilities of independent classes.
    Sigmoid,
    /// The logarithm of a sigmoid.
    LogSigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `log(1 + exp(x))`.
    Softplus,
    /// `x / (1 + |x|)`.
    Softsign,
    /// `exp(x)`.
    Exponential,
    /// `x * tanh(softplus(x))`.
    Mish,
    /// `x` between these two.
    Clip {
        /// The least output.
        low: f64,
        /// The largest output.
        high: f64,
    },
    /// `x - tanh(x)`.
    TanhShrink,
    /// `x` less this much of its size, at most all of it.
    SoftShrink(f64),
    /// `x` where its size is above this, else 0.
    HardShrink(f64),
    /// `(x + sqrt(x^2 + b)) / 2`.
    Squareplus(f64),
    /// `(x + 1)^2 / 4` between -1 and 1, below it 0, above it `x`.
    SparsePlus,
    /// `x` above a threshold, else a value.
    Threshold {
        /// The threshold.
        threshold: f64,
        /// What stands for all that is not above it.
        value: f64,
    },
    /// Probabilities of exclusive classes, over channels.
    Softmax,
    /// The logarithms of a softmax.
    LogSoftmax,
}

impl fmt::Display for Activation {
    /// Keras's name; where there is none, what it computes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.name() {
            return f.write_str(name);
        }
        match *self {
            Self::ReluOf { max_value, negative_slope, threshold } => {
                write!(f, "relu with negative_slope {negative_slope}, threshold {threshold}")?;
                max_value.map_or(Ok(()), |most| write!(f, ", max_value {most}"))
            }
            Self::LeakyRelu(slope) => write!(f, "leaky_relu with negative_slope {slope}"),
            Self::Elu(alpha) => write!(f, "elu with alpha {alpha}"),
            Self::Celu(alpha) => write!(f, "celu with alpha {alpha}"),
            Self::HardSigmoidOf { slope, offset } => {
                write!(f, "hard_sigmoid as {slope} * x + {offset}")
            }
            Self::Clip { low, high } => write!(f, "x between {low} and {high}"),
            Self::SoftShrink(threshold) => write!(f, "soft_shrink with threshold {threshold}"),
            Self::HardShrink(threshold) => write!(f, "hard_shrink with threshold {threshold}"),
            Self::Squareplus(b) => write!(f, "squareplus with b {b}"),
            Self::Threshold { threshold, value } => {
                write!(f, "x above {threshold}, else {value}")
            }
            // These have names.
            Self::Linear
            | Self::Relu
            | Self::Relu6
            | Self::Selu
            | Self::Gelu
            | Self::GeluApproximate
            | Self::Silu
            | Self::HardSilu
            | Self::HardSigmoid
            | Self::Sigmoid
            | Self::LogSigmoid
            | Self::Tanh
            | Self::Softplus
            | Self::Softsign
            | Self::Exponential
            | Self::Mish
            | Self::TanhShrink
            | Self::SparsePlus
            | Self::Softmax
            | Self::LogSoftmax => f.write_str("a function without a name"),
        }
    }
}

impl Activation {
    /// Keras's names of activations without settings, in Keras 3 (`hard_sigmoid` is another function in Keras 2).
    pub const NAMES: &[(&str, Self)] = &[
        ("linear", Self::Linear),
        ("relu", Self::Relu),
        ("relu6", Self::Relu6),
        ("leaky_relu", Self::LeakyRelu(0.2)),
        ("elu", Self::Elu(1.0)),
        ("selu", Self::Selu),
        ("celu", Self::Celu(1.0)),
        ("gelu", Self::Gelu),
        ("silu", Self::Silu),
        ("swish", Self::Silu),
        ("hard_silu", Self::HardSilu),
        ("hard_swish", Self::HardSilu),
        ("hard_sigmoid", Self::HardSigmoid),
        ("sigmoid", Self::Sigmoid),
        ("log_sigmoid", Self::LogSigmoid),
        ("tanh", Self::Tanh),
        ("softplus", Self::Softplus),
        ("softsign", Self::Softsign),
        ("exponential", Self::Exponential),
        ("mish", Self::Mish),
        ("hard_tanh", Self::Clip { low: -1.0, high: 1.0 }),
        ("sparse_sigmoid", Self::HardSigmoidOf { slope: 0.5, offset: 0.5 }),
        ("tanh_shrink", Self::TanhShrink),
        ("soft_shrink", Self::SoftShrink(0.5)),
        ("hard_shrink", Self::HardShrink(0.5)),
        ("squareplus", Self::Squareplus(4.0)),
        ("sparse_plus", Self::SparsePlus),
        ("softmax", Self::Softmax),
        ("log_softmax", Self::LogSoftmax),
    ];

    /// Keras 2's `hard_sigmoid`.
    pub const HARD_SIGMOID_2: Self = Self::HardSigmoidOf { slope: 0.2, offset: 0.5 };

    /// The activation of this name in Keras 3.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, activation)| *activation)
    }

    /// Keras's name, where it has one without settings.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        Self::NAMES.iter().find(|(_, known)| *known == self).map(|(name, _)| *name)
    }

    /// Whether Keras 3 has it, by a name or as a layer with these settings.
    #[must_use]
    pub fn is_keras(self) -> bool {
        match self {
            Self::Relu | Self::Relu6 | Self::ReluOf { .. } | Self::LeakyRelu(_) | Self::Elu(_) => {
                true
            }
            Self::Linear
            | Self::Selu
            | Self::Celu(_)
            | Self::Gelu
            | Self::GeluApproximate
            | Self::Silu
            | Self::HardSilu
            | Self::HardSigmoid
            | Self::HardSigmoidOf { .. }
            | Self::Sigmoid
            | Self::LogSigmoid
            | Self::Tanh
            | Self::Softplus
            | Self::Softsign
            | Self::Exponential
            | Self::Mish
            | Self::Clip { .. }
            | Self::TanhShrink
            | Self::SoftShrink(_)
            | Self::HardShrink(_)
            | Self::Squareplus(_)
            | Self::SparsePlus
            | Self::Threshold { .. }
            | Self::Softmax
            | Self::LogSoftmax => self.name().is_some(),
        }
    }

    /// Keras's `ReLU` with its three settings, as the simplest activation that is the same function.
    #[must_use]
    pub fn relu_of(max_value: Option<f64>, negative_slope: f64, threshold: f64) -> Self {
        match (max_value, negative_slope, threshold) {
            (None, 0.0, 0.0) => Self::Relu,
            (Some(6.0), 0.0, 0.0) => Self::Relu6,
            (None, slope, 0.0) => Self::LeakyRelu(slope),
            _ => Self::ReluOf { max_value, negative_slope, threshold },
        }
    }

    /// The least and the largest output, where the function is a clamp and nothing else.
    #[must_use]
    pub fn limits(self) -> Option<[f32; 2]> {
        match self {
            Self::Linear => Some([f32::NEG_INFINITY, f32::INFINITY]),
            Self::Relu => Some([0.0, f32::INFINITY]),
            Self::Relu6 => Some([0.0, 6.0]),
            Self::ReluOf { max_value: Some(high), negative_slope: 0.0, threshold: 0.0 } => {
                Some([0.0, high as f32])
            }
            Self::Clip { low, high } => Some([low as f32, high as f32]),
            Self::ReluOf { .. }
            | Self::LeakyRelu(_)
            | Self::Elu(_)
            | Self::Selu
            | Self::Celu(_)
            | Self::Gelu
            | Self::GeluApproximate
            | Self::Silu
            | Self::HardSilu
            | Self::HardSigmoid
            | Self::HardSigmoidOf { .. }
            | Self::Sigmoid
            | Self::LogSigmoid
            | Self::Tanh
            | Self::Softplus
            | Self::Softsign
            | Self::Exponential
            | Self::Mish
            | Self::TanhShrink
            | Self::SoftShrink(_)
            | Self::HardShrink(_)
            | Self::Squareplus(_)
            | Self::SparsePlus
            | Self::Threshold { .. }
            | Self::Softmax
            | Self::LogSoftmax => None,
        }
    }

    /// Whether it makes probabilities, which a loss wants as logits.
    #[must_use]
    pub fn is_probability(self) -> bool {
        matches!(self, Self::Softmax | Self::Sigmoid)
    }

    /// Applies it to `[batch, channels, ...]`.
    #[must_use]
    pub fn forward<B: Backend, const D: usize>(self, x: Tensor<B, D>) -> Tensor<B, D> {
        // max(x, 0) + min(x, 0) apart, so that neither overflows where the other is meant.
        let exp_minus_one = |x: Tensor<B, D>| x.clamp_max(0.0).exp().sub_scalar(1.0);
        match self {
            Self::Linear => x,
            Self::Relu => relu(x),
            // Two passes; Flex runs `clamp(0, 6)` at half the speed.
            Self::Relu6 => relu(x).clamp_max(6.0),
            Self::ReluOf { max_value, negative_slope, threshold } => {
                let mut y = if threshold == 0.0 {
                    relu(x.clone())
                } else {
                    let is_below = x.clone().lower_equal_elem(threshold);
                    x.clone().mask_fill(is_below, 0.0)
                };
                if let Some(high) = max_value {
                    y = y.clamp(0.0, high);
                }
                if negative_slope == 0.0 {
                    return y;
                }
                y - relu(x.neg().add_scalar(threshold)).mul_scalar(negative_slope)
            }
            Self::LeakyRelu(slope) => relu(x.clone()) + x.clamp_max(0.0).mul_scalar(slope),
            Self::Elu(alpha) => relu(x.clone()) + exp_minus_one(x).mul_scalar(alpha),
            Self::Selu => {
                let (scale, alpha) = SELU;
                (relu(x.clone()) + exp_minus_one(x).mul_scalar(alpha)).mul_scalar(scale)
            }
            Self::Celu(alpha) => {
                let negative = exp_minus_one(x.clone().div_scalar(alpha));
                relu(x) + negative.mul_scalar(alpha)
            }
            Self::Gelu => gelu(x),
            Self::GeluApproximate => {
                let root = (2.0 / std::f64::consts::PI).sqrt();
                let cube = x.clone().square() * x.clone();
                let inner = (x.clone() + cube.mul_scalar(0.044_715)).mul_scalar(root);
                x * tanh(inner).add_scalar(1.0).mul_scalar(0.5)
            }
            Self::Silu => x.clone() * sigmoid(x),
            Self::HardSilu => x.clone() * Self::HardSigmoid.forward(x),
            Self::HardSigmoid => relu(x.add_scalar(3.0)).clamp_max(6.0).div_scalar(6.0),
            Self::HardSigmoidOf { slope, offset } => {
                x.mul_scalar(slope).add_scalar(offset).clamp(0.0, 1.0)
            }
            Self::Sigmoid => sigmoid(x),
            Self::LogSigmoid => Self::Softplus.forward(x.neg()).neg(),
            Self::Tanh => tanh(x),
            // exp is of negative numbers only, so that it cannot overflow.
            Self::Softplus => relu(x.clone()) + x.abs().neg().exp().log1p(),
            Self::Softsign => x.clone() / x.abs().add_scalar(1.0),
            Self::Exponential => x.exp(),
            Self::Mish => x.clone() * tanh(Self::Softplus.forward(x)),
            Self::Clip { low, high } => x.clamp(low, high),
            Self::TanhShrink => x.clone() - tanh(x),
            Self::SoftShrink(size) => x.clone() - x.clamp(-size, size),
            Self::HardShrink(size) => {
                let is_small = x.clone().abs().lower_equal_elem(size);
                x.mask_fill(is_small, 0.0)
            }
            Self::Squareplus(b) => (x.clone() + x.square().add_scalar(b).sqrt()).mul_scalar(0.5),
            Self::SparsePlus => {
                let middle = x.clone().clamp(-1.0, 1.0).add_scalar(1.0).square().mul_scalar(0.25);
                middle + x.sub_scalar(1.0).clamp_min(0.0)
            }
            Self::Threshold { threshold, value } => {
                let is_below = x.clone().lower_equal_elem(threshold);
                x.mask_fill(is_below, value)
            }
            Self::Softmax => softmax(x, 1),
            Self::LogSoftmax => log_softmax(x, 1),
        }
    }

    /// Writes its ONNX form behind a value, and gives the name of what it makes.
    pub(crate) fn to_onnx(self, layer: &mut OnnxLayer<'_>, x: String) -> String {
        let float = |value: f64| Attribute::Float(value as f32);
        match self {
            Self::Linear => x,
            Self::Relu => layer.plain("Relu", &[&x]),
            Self::Relu6 => clip(layer, &x, 0.0, 6.0),
            Self::ReluOf { max_value, negative_slope, threshold } => {
                let mut y = match (threshold == 0.0, max_value) {
                    (true, None) => layer.plain("Relu", &[&x]),
                    (true, Some(_)) => x.clone(),
                    (false, _) => {
                        let alpha = vec![("alpha", float(threshold))];
                        layer.node("ThresholdedRelu", &[&x], alpha)
                    }
                };
                if let Some(high) = max_value {
                    y = clip(layer, &y, 0.0, high);
                }
                if negative_slope == 0.0 {
                    return y;
                }
                let threshold = layer.number(threshold);
                let below = layer.plain("Sub", &[&threshold, &x]);
                let below = layer.plain("Relu", &[&below]);
                let below = layer.with("Mul", &below, negative_slope);
                layer.plain("Sub", &[&y, &below])
            }
            Self::LeakyRelu(slope) => layer.node("LeakyRelu", &[&x], vec![("alpha", float(slope))]),
            Self::Elu(alpha) => layer.node("Elu", &[&x], vec![("alpha", float(alpha))]),
            Self::Selu => layer.plain("Selu", &[&x]),
            // ONNX has none of halves.
            Self::Celu(alpha) if alpha > 0.0 && !layer.is_half() => {
                layer.node("Celu", &[&x], vec![("alpha", float(alpha))])
            }
            Self::Celu(alpha) => {
                let share = layer.with("Div", &x, alpha);
                let negative = layer.with("Min", &share, 0.0);
                let powers = layer.plain("Exp", &[&negative]);
                let negative = layer.with("Sub", &powers, 1.0);
                let negative = layer.with("Mul", &negative, alpha);
                let positive = layer.plain("Relu", &[&x]);
                layer.plain("Add", &[&positive, &negative])
            }
            Self::Gelu => {
                let y = layer.with("Mul", &x, std::f64::consts::FRAC_1_SQRT_2);
                let y = layer.plain("Erf", &[&y]);
                let y = layer.with("Add", &y, 1.0);
                let y = layer.plain("Mul", &[&x, &y]);
                layer.with("Mul", &y, 0.5)
            }
            Self::GeluApproximate => {
                let square = layer.plain("Mul", &[&x, &x]);
                let cube = layer.plain("Mul", &[&square, &x]);
                let cube = layer.with("Mul", &cube, 0.044_715);
                let inner = layer.plain("Add", &[&x, &cube]);
                let inner = layer.with("Mul", &inner, (2.0 / std::f64::consts::PI).sqrt());
                let y = layer.plain("Tanh", &[&inner]);
                let y = layer.with("Add", &y, 1.0);
                let y = layer.with("Mul", &y, 0.5);
                layer.plain("Mul", &[&x, &y])
            }
            Self::Silu => {
                let gate = layer.plain("Sigmoid", &[&x]);
                layer.plain("Mul", &[&x, &gate])
            }
            Self::HardSilu => layer.plain("HardSwish", &[&x]),
            Self::HardSigmoid => Self::hard_sigmoid(layer, &x, 1.0 / 6.0, 0.5),
            Self::HardSigmoidOf { slope, offset } => Self::hard_sigmoid(layer, &x, slope, offset),
            Self::Sigmoid => layer.plain("Sigmoid", &[&x]),
            Self::LogSigmoid => {
                let y = layer.plain("Neg", &[&x]);
                let y = layer.plain("Softplus", &[&y]);
                layer.plain("Neg", &[&y])
            }
            Self::Tanh => layer.plain("Tanh", &[&x]),
            Self::Softplus => layer.plain("Softplus", &[&x]),
            Self::Softsign => layer.plain("Softsign", &[&x]),
            Self::Exponential => layer.plain("Exp", &[&x]),
            Self::Mish => {
                let y = layer.plain("Softplus", &[&x]);
                let y = layer.plain("Tanh", &[&y]);
                layer.plain("Mul", &[&x, &y])
            }
            Self::Clip { low, high } => clip(layer, &x, low, high),
            Self::TanhShrink => {
                let y = layer.plain("Tanh", &[&x]);
                layer.plain("Sub", &[&x, &y])
            }
            Self::SoftShrink(size) => {
                let y = clip(layer, &x, -size, size);
                layer.plain("Sub", &[&x, &y])
            }
            Self::HardShrink(size) => {
                layer.node("Shrink", &[&x], vec![("lambd", float(size)), ("bias", float(0.0))])
            }
            Self::Squareplus(b) => {
                let y = layer.plain("Mul", &[&x, &x]);
                let y = layer.with("Add", &y, b);
                let y = layer.plain("Sqrt", &[&y]);
                let y = layer.plain("Add", &[&x, &y]);
                layer.with("Mul", &y, 0.5)
            }
            Self::SparsePlus => {
                let y = clip(layer, &x, -1.0, 1.0);
                let y = layer.with("Add", &y, 1.0);
                let y = layer.plain("Mul", &[&y, &y]);
                let middle = layer.with("Mul", &y, 0.25);
                let y = layer.with("Sub", &x, 1.0);
                let y = layer.plain("Relu", &[&y]);
                layer.plain("Add", &[&middle, &y])
            }
            Self::Threshold { threshold, value } => {
                let is_above = layer.with("Greater", &x, threshold);
                let value = layer.number(value);
                layer.plain("Where", &[&is_above, &x, &value])
            }
            Self::Softmax => layer.node("Softmax", &[&x], vec![("axis", Attribute::Int(1))]),
            Self::LogSoftmax => layer.node("LogSoftmax", &[&x], vec![("axis", Attribute::Int(1))]),
        }
    }

    /// Writes its TensorFlow Lite form behind a value, and gives what it makes.
    pub(crate) fn to_tflite(self, layer: &mut TfliteLayer<'_>, x: TensorId) -> TensorId {
        const ADD: Operator = Operator::Add(Fused::None);
        const SUB: Operator = Operator::Sub(Fused::None);
        const MUL: Operator = Operator::Mul(Fused::None);
        const DIV: Operator = Operator::Div(Fused::None);
        match self {
            Self::Linear => x,
            Self::Relu => layer.ended(x, Fused::Relu, Operator::Relu),
            Self::Relu6 => layer.ended(x, Fused::Relu6, Operator::Relu6),
            Self::ReluOf { max_value, negative_slope, threshold } => {
                let mut y = if threshold == 0.0 {
                    layer.over(Operator::Relu, &[x])
                } else {
                    above(layer, x, x, threshold, 0.0)
                };
                if let Some(high) = max_value {
                    y = between(layer, y, 0.0, high);
                }
                if negative_slope == 0.0 {
                    return y;
                }
                let threshold = layer.number(threshold);
                let below = layer.two(SUB, threshold, x);
                let below = layer.over(Operator::Relu, &[below]);
                let below = layer.with(MUL, below, negative_slope);
                layer.two(SUB, y, below)
            }
            Self::LeakyRelu(slope) => layer.over(Operator::LeakyRelu(slope as f32), &[x]),
            Self::Elu(1.0) => layer.over(Operator::Elu, &[x]),
            Self::Elu(alpha) => elu(layer, x, 1.0, alpha, 1.0),
            Self::Selu => elu(layer, x, 1.0, SELU.1, SELU.0),
            Self::Celu(alpha) => elu(layer, x, alpha, alpha, 1.0),
            Self::Gelu => layer.over(Operator::Gelu { approximate: false }, &[x]),
            Self::GeluApproximate => layer.over(Operator::Gelu { approximate: true }, &[x]),
            Self::Silu => {
                let gate = layer.over(Operator::Logistic, &[x]);
                layer.two(MUL, x, gate)
            }
            Self::HardSilu => layer.over(Operator::HardSwish, &[x]),
            Self::HardSigmoid => {
                let y = layer.with(ADD, x, 3.0);
                let y = layer.ended(y, Fused::Relu6, Operator::Relu6);
                layer.with(MUL, y, 1.0 / 6.0)
            }
            Self::HardSigmoidOf { slope, offset } => {
                let y = layer.with(MUL, x, slope);
                let y = layer.with(ADD, y, offset);
                between(layer, y, 0.0, 1.0)
            }
            Self::Sigmoid => layer.over(Operator::Logistic, &[x]),
            Self::LogSigmoid => {
                let y = layer.over(Operator::Neg, &[x]);
                let y = Self::Softplus.to_tflite(layer, y);
                layer.over(Operator::Neg, &[y])
            }
            Self::Tanh => layer.over(Operator::Tanh, &[x]),
            // exp is of negative numbers only, so that it cannot overflow.
            Self::Softplus => {
                let y = layer.over(Operator::Abs, &[x]);
                let y = layer.over(Operator::Neg, &[y]);
                let y = layer.over(Operator::Exp, &[y]);
                let y = layer.with(ADD, y, 1.0);
                let y = layer.over(Operator::Log, &[y]);
                let positive = layer.over(Operator::Relu, &[x]);
                layer.two(ADD, positive, y)
            }
            Self::Softsign => {
                let y = layer.over(Operator::Abs, &[x]);
                let y = layer.with(ADD, y, 1.0);
                layer.two(DIV, x, y)
            }
            Self::Exponential => layer.over(Operator::Exp, &[x]),
            Self::Mish => {
                let y = Self::Softplus.to_tflite(layer, x);
                let y = layer.over(Operator::Tanh, &[y]);
                layer.two(MUL, x, y)
            }
            Self::Clip { low, high } => between(layer, x, low, high),
            Self::TanhShrink => {
                let y = layer.over(Operator::Tanh, &[x]);
                layer.two(SUB, x, y)
            }
            Self::SoftShrink(size) => {
                let y = between(layer, x, -size, size);
                layer.two(SUB, x, y)
            }
            Self::HardShrink(size) => {
                let of = layer.over(Operator::Abs, &[x]);
                above(layer, of, x, size, 0.0)
            }
            Self::Squareplus(b) => {
                let y = layer.two(MUL, x, x);
                let y = layer.with(ADD, y, b);
                let y = layer.over(Operator::Sqrt, &[y]);
                let y = layer.two(ADD, x, y);
                layer.with(MUL, y, 0.5)
            }
            Self::SparsePlus => {
                let y = between(layer, x, -1.0, 1.0);
                let y = layer.with(ADD, y, 1.0);
                let y = layer.two(MUL, y, y);
                let middle = layer.with(MUL, y, 0.25);
                let y = layer.with(SUB, x, 1.0);
                let y = layer.over(Operator::Relu, &[y]);
                layer.two(ADD, middle, y)
            }
            Self::Threshold { threshold, value } => above(layer, x, x, threshold, value),
            Self::Softmax => layer.over(Operator::Softmax, &[x]),
            Self::LogSoftmax => layer.over(Operator::LogSoftmax, &[x]),
        }
    }

    fn hard_sigmoid(layer: &mut OnnxLayer<'_>, x: &str, slope: f64, offset: f64) -> String {
        let [alpha, beta] = [slope, offset].map(|value| Attribute::Float(value as f32));
        layer.node("HardSigmoid", &[x], vec![("alpha", alpha), ("beta", beta)])
    }
}

/// ONNX's `Clip`; a limit beyond what the network computes with is none.
fn clip(layer: &mut OnnxLayer<'_>, x: &str, low: f64, high: f64) -> String {
    let most = if layer.is_half() { 65504.0 } else { f64::from(f32::MAX) };
    let mut limit =
        |value: f64| if value.abs() < most { layer.number(value) } else { String::new() };
    let (low, high) = (limit(low), limit(high));
    match (low.is_empty(), high.is_empty()) {
        (true, true) => x.to_owned(),
        (false, true) => layer.plain("Clip", &[x, &low]),
        (_, false) => layer.plain("Clip", &[x, &low, &high]),
    }
}

/// `x` between two numbers in TensorFlow Lite; a limit that no float32 is beyond is none.
fn between(layer: &mut TfliteLayer<'_>, x: TensorId, low: f64, high: f64) -> TensorId {
    let most = f64::from(f32::MAX);
    let x = if low > -most { layer.with(Operator::Maximum, x, low) } else { x };
    if high < most { layer.with(Operator::Minimum, x, high) } else { x }
}

/// `x` where `of` is above a threshold, else a value.
fn above(
    layer: &mut TfliteLayer<'_>,
    of: TensorId,
    x: TensorId,
    threshold: f64,
    value: f64,
) -> TensorId {
    let is_above = layer.with(Operator::Greater, of, threshold);
    let value = layer.number(value);
    layer.over(Operator::SelectV2, &[is_above, x, value])
}

/// `scale * (max(x, 0) + alpha * (exp(min(x / by, 0)) - 1))`.
fn elu(layer: &mut TfliteLayer<'_>, x: TensorId, by: f64, alpha: f64, scale: f64) -> TensorId {
    let share = if by == 1.0 { x } else { layer.with(Operator::Div(Fused::None), x, by) };
    let negative = layer.with(Operator::Minimum, share, 0.0);
    let negative = layer.over(Operator::Elu, &[negative]);
    let negative = layer.with(Operator::Mul(Fused::None), negative, alpha);
    let positive = layer.over(Operator::Relu, &[x]);
    let y = layer.two(Operator::Add(Fused::None), positive, negative);
    if scale == 1.0 { y } else { layer.with(Operator::Mul(Fused::None), y, scale) }
}
