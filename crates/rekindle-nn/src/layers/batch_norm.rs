use burn::module::{Module, Param};
use burn::tensor::{Tensor, backend::Backend};

use crate::init::constant;
use crate::{Layout, VariableSpec};

/// Batch normalization over the channels (Ioffe and Szegedy 2015), normalizing by the moving
/// statistics. They are parameters without gradients, not Burn's `RunningState`: copies of a module
/// share that one, and a frozen network must not change.
#[derive(Module, Debug)]
pub struct BatchNorm<B: Backend> {
    /// The layer's Keras name.
    #[module(skip)]
    pub name: String,
    /// Scale, `[channels]`; none where Keras has `scale=False`.
    pub gamma: Option<Param<Tensor<B, 1>>>,
    /// Shift, `[channels]`.
    pub beta: Param<Tensor<B, 1>>,
    /// `[channels]`.
    pub moving_mean: Param<Tensor<B, 1>>,
    /// `[channels]`.
    pub moving_variance: Param<Tensor<B, 1>>,
    /// How many channels.
    #[module(skip)]
    pub channels: usize,
    /// Added to the variance.
    #[module(skip)]
    pub epsilon: f64,
    /// Share of the moving statistics that a training step keeps, as Keras counts it.
    #[module(skip)]
    pub momentum: f64,
}

/// The settings of a [`BatchNorm`].
#[derive(Debug, Clone)]
pub struct BatchNormConfig {
    name: String,
    channels: usize,
    scale: bool,
    epsilon: f64,
    momentum: f64,
}

impl BatchNormConfig {
    /// With gamma, and Keras's epsilon of 1e-3 and momentum of 0.99.
    #[must_use]
    pub fn new(name: impl Into<String>, channels: usize) -> Self {
        Self { name: name.into(), channels, scale: true, epsilon: 1e-3, momentum: 0.99 }
    }

    /// Whether there is a gamma.
    #[must_use]
    pub fn with_scale(self, scale: bool) -> Self {
        Self { scale, ..self }
    }

    /// What is added to the variance.
    #[must_use]
    pub fn with_epsilon(self, epsilon: f64) -> Self {
        Self { epsilon, ..self }
    }

    /// Share of the moving statistics that a training step keeps, as Keras counts it.
    #[must_use]
    pub fn with_momentum(self, momentum: f64) -> Self {
        Self { momentum, ..self }
    }

    /// The layer, as Keras starts it: gamma and variance 1, beta and mean 0.
    #[must_use]
    pub fn init<B: Backend>(self, device: &B::Device) -> BatchNorm<B> {
        let channels = self.channels;
        BatchNorm {
            name: self.name,
            gamma: self.scale.then(|| constant(1.0, channels, true, device)),
            beta: constant(0.0, channels, true, device),
            moving_mean: constant(0.0, channels, false, device),
            moving_variance: constant(1.0, channels, false, device),
            channels,
            epsilon: self.epsilon,
            momentum: self.momentum,
        }
    }
}

impl<B: Backend> BatchNorm<B> {
    /// The normalization as one multiplication and one addition per channel, `[channels]` each.
    pub fn scale_and_shift(&self) -> (Tensor<B, 1>, Tensor<B, 1>) {
        let scale = self.moving_variance.val().add_scalar(self.epsilon).sqrt().recip();
        let scale = match &self.gamma {
            Some(gamma) => scale * gamma.val(),
            None => scale,
        };
        let shift = self.beta.val() - self.moving_mean.val() * scale.clone();
        (scale, shift)
    }

    pub(crate) fn variables(&self) -> Vec<VariableSpec> {
        let spec = |name, param: &Param<Tensor<B, 1>>, trainable| {
            let (shape, layout, id) = (vec![self.channels], Layout::Same, param.id);
            VariableSpec { name, shape, layout, id, trainable }
        };
        let mut specs: Vec<_> = self.gamma.iter().map(|gamma| spec("gamma", gamma, true)).collect();
        specs.push(spec("beta", &self.beta, true));
        specs.push(spec("moving_mean", &self.moving_mean, false));
        specs.push(spec("moving_variance", &self.moving_variance, false));
        specs
    }
}
