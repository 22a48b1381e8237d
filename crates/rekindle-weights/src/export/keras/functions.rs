//! Activations in Keras's layers: as they are where Keras has them, else by layers that compute the same.

use rekindle_nn::ops::{ActivationLayer, Merge, MergeKind, Rescaling};
use rekindle_nn::{Activation, Op, Source};

use super::plain::{Dialect, Writer};

impl Writer {
    /// The activation that a layer with weights may have itself: this one, or none, and then it is a layer behind.
    pub(super) fn embedded(&self, function: Activation) -> Activation {
        let is_there = match self.dialect {
            Dialect::Keras3 => function.name().is_some(),
            Dialect::Both => function.name().is_some() && is_old(function),
        };
        if is_there { function } else { Activation::Linear }
    }

    /// What of an activation is not [`embedded`](Self::embedded) in the layer `name`.
    pub(super) fn behind(
        &mut self,
        name: &str,
        function: Activation,
        y: Source,
    ) -> Result<Source, String> {
        if self.embedded(function) == function {
            return Ok(y);
        }
        let name = self.free(name, "activation");
        self.function(&name, function, y)
    }

    /// Layers that compute a function, of which the last one has the name.
    ///
    /// # Errors
    /// When there are none.
    pub(super) fn function(
        &mut self,
        name: &str,
        function: Activation,
        x: Source,
    ) -> Result<Source, String> {
        if self.dialect == Dialect::Keras3 && function.name().is_some() {
            return Ok(self.activation(name, function, x));
        }
        let not_there = || {
            let only_old = self.dialect == Dialect::Both && function.name().is_some();
            let hint = if only_old { ": export it as .keras" } else { "" };
            let who = if only_old { "Keras 2" } else { "Keras" };
            format!("computes {function}, for which {who} has no layer{hint}")
        };
        Ok(match function {
            Activation::Linear
            | Activation::Relu
            | Activation::Relu6
            | Activation::Selu
            | Activation::Gelu
            | Activation::Silu
            | Activation::Sigmoid
            | Activation::Tanh
            | Activation::Softplus
            | Activation::Softsign
            | Activation::Exponential
            | Activation::Mish
            | Activation::Softmax
            | Activation::Elu(_) => self.activation(name, function, x),
            Activation::LeakyRelu(slope) if slope >= 0.0 => self.activation(name, function, x),
            Activation::LeakyRelu(slope) => {
                // max(x, 0) - slope * max(-x, 0).
                let positive = self.beside(name, "positive", layer(Activation::Relu), x);
                let negative = self.times(name, "negative", -1.0, x);
                let negative = self.beside(name, "relu", layer(Activation::Relu), negative);
                let negative = self.times(name, "slope", -slope, negative);
                self.add(name, Merge::ADD, &[positive, negative])
            }
            Activation::ReluOf { max_value, negative_slope, threshold } => {
                let has_negative = max_value.is_some_and(|high| high < 0.0);
                if has_negative || negative_slope < 0.0 || threshold < 0.0 {
                    return Err(not_there());
                }
                self.activation(name, function, x)
            }
            Activation::Celu(alpha) if alpha > 0.0 => {
                let x = self.times(name, "inner", 1.0 / alpha, x);
                let x = self.beside(name, "elu", layer(Activation::Elu(1.0)), x);
                self.add(name, Rescaling::new(alpha, 0.0), &[x])
            }
            Activation::Celu(_) => return Err(not_there()),
            Activation::GeluApproximate => self.gelu(name, x),
            Activation::HardSigmoid => self.hard_sigmoid(name, x),
            Activation::HardSilu => {
                let gate = self.free(name, "gate");
                let gate = self.hard_sigmoid(&gate, x);
                self.add(name, Merge::MULTIPLY, &[x, gate])
            }
            Activation::HardSigmoidOf { slope, offset } => {
                let x = self.beside(name, "inner", Rescaling::new(slope, offset), x);
                self.add(name, layer(Activation::relu_of(Some(1.0), 0.0, 0.0)), &[x])
            }
            Activation::LogSigmoid => {
                let x = self.times(name, "negative", -1.0, x);
                let x = self.beside(name, "softplus", named(Activation::Softplus), x);
                self.add(name, Rescaling::new(-1.0, 0.0), &[x])
            }
            Activation::Clip { low, high } => self.clip(name, [low, high], x),
            Activation::TanhShrink => {
                let tanh = self.beside(name, "tanh", named(Activation::Tanh), x);
                self.add(name, SUBTRACT, &[x, tanh])
            }
            Activation::SoftShrink(size) => {
                let clip = self.free(name, "clip");
                let clip = self.clip(&clip, [-size, size], x);
                self.add(name, SUBTRACT, &[x, clip])
            }
            Activation::HardShrink(size) if size >= 0.0 => {
                let above = layer(Activation::relu_of(None, 0.0, size));
                let positive = self.beside(name, "positive", above.clone(), x);
                let negative = self.times(name, "opposite", -1.0, x);
                let negative = self.beside(name, "negative", above, negative);
                self.add(name, SUBTRACT, &[positive, negative])
            }
            Activation::Squareplus(b) if b > 0.0 && self.dialect == Dialect::Keras3 => {
                // Keras's has b = 4: sqrt(b) / 2 times it, of 2 / sqrt(b) times x.
                let half = b.sqrt() / 2.0;
                let x = self.times(name, "inner", 1.0 / half, x);
                let x = self.beside(name, "plus", named(Activation::Squareplus(4.0)), x);
                self.add(name, Rescaling::new(half, 0.0), &[x])
            }
            Activation::SparsePlus => {
                // (clip(x, -1, 1) + 1)^2 / 4 + max(x - 1, 0).
                let middle = self.free(name, "clip");
                let middle = self.clip(&middle, [-1.0, 1.0], x);
                let middle = self.beside(name, "middle", Rescaling::new(0.5, 0.5), middle);
                let square = self.free(name, "square");
                let square = self.add(&square, Merge::MULTIPLY, &[middle, middle]);
                let above = self.beside(name, "above", Rescaling::new(1.0, -1.0), x);
                let above = self.beside(name, "relu", layer(Activation::Relu), above);
                self.add(name, Merge::ADD, &[square, above])
            }
            Activation::Threshold { threshold, value: 0.0 } if threshold >= 0.0 => {
                self.add(name, layer(Activation::relu_of(None, 0.0, threshold)), &[x])
            }
            Activation::HardShrink(_)
            | Activation::Squareplus(_)
            | Activation::Threshold { .. }
            | Activation::LogSoftmax => return Err(not_there()),
        })
    }

    /// A layer of Keras that is this function.
    fn activation(&mut self, name: &str, function: Activation, x: Source) -> Source {
        self.add(name, layer(function), &[x])
    }

    fn times(&mut self, name: &str, what: &str, factor: f64, x: Source) -> Source {
        self.beside(name, what, Rescaling::new(factor, 0.0), x)
    }

    /// `relu6(x + 3) / 6`: Keras 2's function of that name is another.
    fn hard_sigmoid(&mut self, name: &str, x: Source) -> Source {
        let x = self.beside(name, "plus", Rescaling::new(1.0, 3.0), x);
        let x = self.beside(name, "relu6", layer(Activation::Relu6), x);
        self.add(name, Rescaling::new(1.0 / 6.0, 0.0), &[x])
    }

    /// The larger of `x` and a limit, and the smaller of that and another; a limit is a rescaling by 0.
    fn clip(&mut self, name: &str, [low, high]: [f64; 2], x: Source) -> Source {
        if low == 0.0 && high >= 0.0 && high < f64::from(f32::MAX) {
            return self.add(name, layer(Activation::relu_of(Some(high), 0.0, 0.0)), &[x]);
        }
        let mut limits = Vec::new();
        if low > f64::from(f32::MIN) {
            limits.push((low, "least", MergeKind::Maximum));
        }
        if high < f64::from(f32::MAX) {
            limits.push((high, "most", MergeKind::Minimum));
        }
        let Some((last, first)) = limits.split_last() else {
            return self.activation(name, Activation::Linear, x);
        };
        let mut y = x;
        for (limit, what, kind) in first {
            let limit = self.beside(name, what, Rescaling::new(0.0, *limit), x);
            let merged = self.free(name, "limited");
            y = self.add(&merged, Merge { kind: *kind }, &[y, limit]);
        }
        let (limit, what, kind) = last;
        let limit = self.beside(name, what, Rescaling::new(0.0, *limit), x);
        self.add(name, Merge { kind: *kind }, &[y, limit])
    }

    /// `x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))) / 2`.
    fn gelu(&mut self, name: &str, x: Source) -> Source {
        let cube = self.free(name, "cube");
        let cube = self.add(&cube, Merge::MULTIPLY, &[x, x, x]);
        let cube = self.times(name, "share", 0.044_715, cube);
        let sum = self.free(name, "sum");
        let sum = self.add(&sum, Merge::ADD, &[x, cube]);
        let inner = self.times(name, "inner", (2.0 / std::f64::consts::PI).sqrt(), sum);
        let tanh = self.beside(name, "tanh", named(Activation::Tanh), inner);
        let gate = self.beside(name, "gate", Rescaling::new(0.5, 0.5), tanh);
        self.add(name, Merge::MULTIPLY, &[x, gate])
    }
}

const SUBTRACT: Merge = Merge { kind: MergeKind::Subtract };

fn layer(function: Activation) -> Op {
    ActivationLayer::layer(function).into()
}

fn named(function: Activation) -> Op {
    ActivationLayer::named(function).into()
}

/// Whether Keras 2 has a function by the same name.
fn is_old(function: Activation) -> bool {
    match function {
        Activation::Linear
        | Activation::Relu
        | Activation::Elu(_)
        | Activation::Selu
        | Activation::Gelu
        | Activation::Silu
        | Activation::Sigmoid
        | Activation::Tanh
        | Activation::Softplus
        | Activation::Softsign
        | Activation::Exponential
        | Activation::Mish
        | Activation::Softmax => true,
        Activation::Relu6
        | Activation::ReluOf { .. }
        | Activation::LeakyRelu(_)
        | Activation::Celu(_)
        | Activation::GeluApproximate
        | Activation::HardSilu
        | Activation::HardSigmoid
        | Activation::HardSigmoidOf { .. }
        | Activation::LogSigmoid
        | Activation::Clip { .. }
        | Activation::TanhShrink
        | Activation::SoftShrink(_)
        | Activation::HardShrink(_)
        | Activation::Squareplus(_)
        | Activation::SparsePlus
        | Activation::Threshold { .. }
        | Activation::LogSoftmax => false,
    }
}
