use burn::module::Module;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

use crate::layers::{Activation, BatchNorm, BatchNormConfig, Dense, DenseConfig};
use crate::{Interpreter, Network, NetworkError, Op, Pool, Shape};

/// One layer of a head, as it is written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HeadLayerConfig {
    /// The mean of each channel.
    GlobalAveragePooling2d,
    /// The maximum of each channel.
    GlobalMaxPooling2d,
    /// All values in Keras's order: height, width, channels.
    Flatten,
    /// The mean of windows.
    AveragePooling2d(Pool),
    /// The maximum of windows.
    MaxPooling2d(Pool),
    /// `BatchNormalization`, with Keras's default momentum of 0.99.
    BatchNormalization {
        /// Added to the variance.
        epsilon: f64,
        /// Whether there is a gamma.
        scale: bool,
    },
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x * scale + offset`.
    Rescaling {
        /// Multiplies.
        scale: f64,
        /// Is added then.
        offset: f64,
    },
    /// Drops values with this rate while training.
    Dropout(f64),
    /// A fully connected layer.
    Dense {
        /// Features out.
        units: usize,
        /// Applied to the output.
        activation: Activation,
        /// While training, `l2` times the sum of the kernel's squares is added to the loss (Keras's
        /// `kernel_regularizer=L2(l2)`).
        #[serde(default, skip_serializing_if = "is_zero")]
        l2: f64,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

impl HeadLayerConfig {
    /// The name of the first such layer; those after it are numbered.
    fn layer_name(&self) -> &'static str {
        match self {
            Self::GlobalAveragePooling2d => "head_average_pooling",
            Self::GlobalMaxPooling2d => "head_max_pooling",
            Self::Flatten => "head_flatten",
            Self::Dropout(_) => "head_dropout",
            Self::Dense { .. } => "head_dense",
            Self::AveragePooling2d(_) => "head_average_pooling2d",
            Self::MaxPooling2d(_) => "head_max_pooling2d",
            Self::BatchNormalization { .. } => "head_batch_normalization",
            Self::Relu | Self::Relu6 => "head_relu",
            Self::Rescaling { .. } => "head_rescaling",
        }
    }
}

/// What stands on a backbone: a chain of layers that ends in one probability for each class.
///
/// ```
/// use rekindle_nn::HeadConfig;
/// use rekindle_nn::layers::Activation;
///
/// // Flatten, Dense(512, relu), Dropout(0.5), and the Dense(classes, softmax) that every head ends with.
/// let head = HeadConfig::flatten().dense(512, Activation::Relu).dropout(0.5);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadConfig {
    /// In order, without the classifier.
    pub layers: Vec<HeadLayerConfig>,
    /// Whether each class is there or not, by a sigmoid of its own, instead of one of them by a softmax.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub multi_label: bool,
}

impl Default for HeadConfig {
    /// Global average pooling and Dropout(0.2), as in Keras's guide to transfer learning.
    fn default() -> Self {
        Self::global_average_pooling().dropout(0.2)
    }
}

impl HeadConfig {
    /// These layers.
    #[must_use]
    pub fn of(layers: Vec<HeadLayerConfig>) -> Self {
        Self { layers, multi_label: false }
    }

    /// Starts with global average pooling.
    #[must_use]
    pub fn global_average_pooling() -> Self {
        Self::of(vec![HeadLayerConfig::GlobalAveragePooling2d])
    }

    /// Starts with global max pooling.
    #[must_use]
    pub fn global_max_pooling() -> Self {
        Self::of(vec![HeadLayerConfig::GlobalMaxPooling2d])
    }

    /// Starts with all features of all positions.
    #[must_use]
    pub fn flatten() -> Self {
        Self::of(vec![HeadLayerConfig::Flatten])
    }

    /// Adds a fully connected layer.
    #[must_use]
    pub fn dense(self, units: usize, activation: Activation) -> Self {
        self.with(HeadLayerConfig::Dense { units, activation, l2: 0.0 })
    }

    /// Adds a penalty to the last dense layer: `l2` times the sum of its kernel's squares.
    #[must_use]
    pub fn l2(mut self, factor: f64) -> Self {
        if let Some(HeadLayerConfig::Dense { l2, .. }) = self.layers.last_mut() {
            *l2 = factor;
        }
        self
    }

    /// Adds batch normalization with Keras's settings.
    #[must_use]
    pub fn batch_normalization(self) -> Self {
        self.with(HeadLayerConfig::BatchNormalization { epsilon: 1e-3, scale: true })
    }

    /// Ends in a sigmoid for each class, for photos that may be of several.
    #[must_use]
    pub fn multi_label(self) -> Self {
        Self { multi_label: true, ..self }
    }

    /// Adds dropout.
    #[must_use]
    pub fn dropout(self, rate: f64) -> Self {
        self.with(HeadLayerConfig::Dropout(rate))
    }

    /// Adds a layer.
    #[must_use]
    pub fn with(mut self, layer: HeadLayerConfig) -> Self {
        self.layers.push(layer);
        self
    }

    /// The head for features of shape `input`, ending in `Dense(classes, softmax)`, or in sigmoids.
    ///
    /// # Errors
    /// When a layer's settings are out of range, or it cannot take what the one before it gives.
    pub fn init<B: Backend>(
        &self,
        input: Shape,
        classes: usize,
        seed: u64,
        device: &B::Device,
    ) -> Result<Head<B>, NetworkError> {
        let activation = if self.multi_label { Activation::Sigmoid } else { Activation::Softmax };
        let classifier = HeadLayerConfig::Dense { units: classes, activation, l2: 0.0 };
        let mut numbers = std::collections::HashMap::<&str, usize>::new();
        let mut shape = input;
        let (mut layers, mut penalties) = (Vec::new(), Vec::new());
        for (position, config) in self.layers.iter().chain([&classifier]).enumerate() {
            let class = config.layer_name();
            let number = numbers.entry(class).or_default();
            let name = if *number == 0 { class.to_owned() } else { format!("{class}_{number}") };
            *number += 1;
            let setting = |setting, found: String, expected: &str| {
                let (architecture, expected) = ("head", expected.to_owned());
                Err(NetworkError::Setting { architecture, setting, found, expected })
            };
            let layer = match *config {
                HeadLayerConfig::Dropout(rate) if !(0.0..1.0).contains(&rate) => {
                    return setting("dropout rate", rate.to_string(), "from 0 to less than 1");
                }
                HeadLayerConfig::Dense { units: 0, .. } => {
                    return setting("units of a dense layer", "0".into(), "at least 1");
                }
                HeadLayerConfig::Dense { l2, .. } if !(l2.is_finite() && l2 >= 0.0) => {
                    return setting("L2 penalty", l2.to_string(), "a number from 0");
                }
                HeadLayerConfig::Dense { units, activation, l2 } => {
                    if l2 > 0.0 {
                        penalties.push((name.clone(), l2));
                    }
                    let Shape::Flat(inputs) = shape else {
                        let expected = "flat features: pool or flatten them first";
                        return Err(NetworkError::shape(&name, expected, &[shape]));
                    };
                    let dense = DenseConfig::new(name, inputs, units);
                    let dense = if position == self.layers.len() {
                        dense.classifier(activation)
                    } else {
                        dense.with_activation(activation)
                    };
                    let dense = Some(dense.with_seed(seed).init(device));
                    HeadLayer { dense, norm: None, fixed: None }
                }
                HeadLayerConfig::BatchNormalization { epsilon, scale } => {
                    let (Shape::Map { channels, .. } | Shape::Flat(channels)) = shape;
                    let norm = BatchNormConfig::new(name, channels).with_scale(scale);
                    let norm = Some(norm.with_epsilon(epsilon).init(device));
                    HeadLayer { dense: None, norm, fixed: None }
                }
                HeadLayerConfig::AveragePooling2d(pool) | HeadLayerConfig::MaxPooling2d(pool)
                    if pool.kernel.contains(&0) || pool.stride.contains(&0) =>
                {
                    return setting("pooling window", format!("{pool:?}"), "at least 1");
                }
                _ => HeadLayer { dense: None, norm: None, fixed: Some((name, config.clone())) },
            };
            let (name, op) = layer.op();
            shape = op.output_shape(name, &[shape])?;
            layers.push(layer);
        }
        Ok(Head { layers, config: self.clone(), classes, penalties })
    }
}

/// The layers that stand on a backbone.
#[derive(Module, Debug)]
pub struct Head<B: Backend> {
    layers: Vec<HeadLayer<B>>,
    #[module(skip)]
    config: HeadConfig,
    #[module(skip)]
    classes: usize,
    /// The L2 penalty of each dense layer that has one.
    #[module(skip)]
    penalties: Vec<(String, f64)>,
}

/// One layer of a [`Head`].
#[derive(Module, Debug)]
pub struct HeadLayer<B: Backend> {
    dense: Option<Dense<B>>,
    norm: Option<BatchNorm<B>>,
    /// Name and kind of a layer without parameters.
    #[module(skip)]
    fixed: Option<(String, HeadLayerConfig)>,
}

impl<B: Backend> HeadLayer<B> {
    fn op(&self) -> (&str, Op<'_, B>) {
        if let Some(dense) = &self.dense {
            return (&dense.name, Op::Dense(dense));
        }
        if let Some(norm) = &self.norm {
            return (&norm.name, Op::BatchNorm(norm));
        }
        let Some((name, config)) = &self.fixed else { unreachable!("a layer is one of the three") };
        let op = match *config {
            HeadLayerConfig::GlobalAveragePooling2d => Op::GlobalAvgPool,
            HeadLayerConfig::GlobalMaxPooling2d => Op::GlobalMaxPool,
            HeadLayerConfig::Flatten => Op::Flatten,
            HeadLayerConfig::Dropout(rate) => Op::Dropout(rate),
            HeadLayerConfig::AveragePooling2d(pool) => Op::AvgPool(pool),
            HeadLayerConfig::MaxPooling2d(pool) => Op::MaxPool(pool),
            HeadLayerConfig::Relu => Op::Relu,
            HeadLayerConfig::Relu6 => Op::Relu6,
            HeadLayerConfig::Rescaling { scale, offset } => Op::Rescale { scale, offset },
            HeadLayerConfig::Dense { .. } | HeadLayerConfig::BatchNormalization { .. } => {
                unreachable!("they have parameters")
            }
        };
        (name, op)
    }
}

impl<B: Backend> Head<B> {
    /// The settings that it was made with.
    #[must_use]
    pub fn config(&self) -> &HeadConfig {
        &self.config
    }

    /// The L2 penalties of its kernels, by layer.
    #[must_use]
    pub fn penalties(&self) -> &[(String, f64)] {
        &self.penalties
    }

    /// How many classes it tells apart.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }
}

impl<B: Backend> Network<B> for Head<B> {
    fn walk<I: Interpreter<B>>(
        &self,
        it: &mut I,
        mut x: I::Value,
    ) -> Result<I::Value, NetworkError> {
        for layer in &self.layers {
            let (name, op) = layer.op();
            x = it.layer(name, op, vec![x])?;
        }
        Ok(x)
    }
}
