use burn::module::{Module, Param};
use burn::tensor::activation::{relu, sigmoid, softmax};
use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

use crate::init::{constant, glorot_uniform};
use crate::{Layout, VariableSpec};

/// The activation of a [`Dense`] layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// None.
    Linear,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// Probabilities of exclusive classes.
    Softmax,
    /// Probabilities of independent classes.
    Sigmoid,
}

impl Activation {
    /// Applies it to `[batch, features]`.
    pub fn forward<B: Backend>(self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        match self {
            Self::Linear => x,
            Self::Relu => relu(x),
            Self::Relu6 => relu(x).clamp_max(6.0),
            Self::Softmax => softmax(x, 1),
            Self::Sigmoid => sigmoid(x),
        }
    }

    /// Whether it makes probabilities, which a loss wants as logits.
    #[must_use]
    pub fn is_probability(self) -> bool {
        matches!(self, Self::Softmax | Self::Sigmoid)
    }
}

/// A fully connected layer with its activation.
#[derive(Module, Debug)]
pub struct Dense<B: Backend> {
    /// The layer's Keras name.
    #[module(skip)]
    pub name: String,
    /// `[in, out]`.
    pub weight: Param<Tensor<B, 2>>,
    /// `[out]`.
    pub bias: Param<Tensor<B, 1>>,
    /// Features in.
    #[module(skip)]
    pub inputs: usize,
    /// Features out.
    #[module(skip)]
    pub outputs: usize,
    /// Applied to the output.
    #[module(skip)]
    pub activation: Activation,
    /// Whether its output is the network's, which a loss wants without softmax or sigmoid.
    #[module(skip)]
    pub classifier: bool,
}

/// The settings of a [`Dense`].
#[derive(Debug, Clone)]
pub struct DenseConfig {
    name: String,
    inputs: usize,
    outputs: usize,
    activation: Activation,
    classifier: bool,
    seed: u64,
}

impl DenseConfig {
    /// Without activation, seed 0.
    #[must_use]
    pub fn new(name: impl Into<String>, inputs: usize, outputs: usize) -> Self {
        let (name, activation) = (name.into(), Activation::Linear);
        Self { name, inputs, outputs, activation, classifier: false, seed: 0 }
    }

    /// What is applied to the output.
    #[must_use]
    pub fn with_activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// The network's last layer, with softmax or sigmoid.
    #[must_use]
    pub fn classifier(self, activation: Activation) -> Self {
        Self { activation, classifier: true, ..self }
    }

    /// The seed of the initial weights.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// The layer, as Keras starts it: Glorot-uniform weights, bias 0.
    #[must_use]
    pub fn init<B: Backend>(self, device: &B::Device) -> Dense<B> {
        let Self { name, inputs, outputs, activation, classifier, seed } = self;
        Dense {
            weight: glorot_uniform([inputs, outputs], [inputs, outputs], seed, &name, device),
            bias: constant(0.0, outputs, true, device),
            name,
            inputs,
            outputs,
            activation,
            classifier,
        }
    }
}

impl<B: Backend> Dense<B> {
    pub(crate) fn variables(&self) -> Vec<VariableSpec> {
        let (layout, trainable) = (Layout::Same, true);
        vec![
            VariableSpec {
                name: "kernel",
                shape: vec![self.inputs, self.outputs],
                layout,
                id: self.weight.id,
                trainable,
            },
            VariableSpec {
                name: "bias",
                shape: vec![self.outputs],
                layout,
                id: self.bias.id,
                trainable,
            },
        ]
    }
}
